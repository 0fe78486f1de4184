//! Databases whose schema is newer than skyfill, or a fork's: filled where their tables are as
//! skyfill knows them, and refused by name where not.

use appview::drift;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use testbed::*;

/// The migrations of a fork, each with what undoes it.
const FORK: [(&str, &str, &str); 8] = [
    (
        "_20270101T000000000Z",
        r#"ALTER TABLE bsky.post ADD COLUMN "forkScore" integer"#,
        r#"ALTER TABLE bsky.post DROP COLUMN "forkScore""#,
    ),
    (
        "_20270102T000000000Z",
        r#"ALTER TABLE bsky.post ADD COLUMN "forkRank" integer NOT NULL DEFAULT 7"#,
        r#"ALTER TABLE bsky.post DROP COLUMN "forkRank""#,
    ),
    (
        "_20270103T000000000Z",
        r#"ALTER TABLE bsky.record ADD COLUMN "forkSize" integer NOT NULL GENERATED ALWAYS AS (length(json)) STORED"#,
        r#"ALTER TABLE bsky.record DROP COLUMN "forkSize""#,
    ),
    (
        "_20270104T000000000Z",
        r#"ALTER TABLE bsky."like" ADD COLUMN "forkId" bigint GENERATED ALWAYS AS IDENTITY"#,
        r#"ALTER TABLE bsky."like" DROP COLUMN "forkId""#,
    ),
    (
        "_20270105T000000000Z",
        r#"CREATE INDEX fork_idx ON bsky.post (lower(creator), "createdAt" DESC) WHERE "replyRoot" IS NULL;
           CREATE UNIQUE INDEX fork_unique_idx ON bsky.post (uri, cid) INCLUDE (creator)"#,
        "DROP INDEX bsky.fork_idx, bsky.fork_unique_idx",
    ),
    (
        "_20270106T000000000Z",
        "CREATE TABLE bsky.fork_thing (uri varchar PRIMARY KEY REFERENCES bsky.repost (uri) ON DELETE CASCADE)",
        "DROP TABLE bsky.fork_thing",
    ),
    (
        "_20270107T000000000Z",
        "CREATE TABLE bsky.fork_log (uri varchar);
         CREATE FUNCTION bsky.fork_note() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO bsky.fork_log VALUES (new.uri); RETURN NULL; END $$;
         CREATE TRIGGER fork_trigger AFTER INSERT ON bsky.follow FOR EACH ROW EXECUTE FUNCTION bsky.fork_note()",
        "DROP TRIGGER fork_trigger ON bsky.follow; DROP FUNCTION bsky.fork_note; DROP TABLE bsky.fork_log",
    ),
    (
        "_20270108T000000000Z",
        r#"ALTER TABLE bsky.actor ADD COLUMN "forkPlan" text NOT NULL DEFAULT 'free';
           ALTER TABLE bsky.follow REPLICA IDENTITY USING INDEX follow_unique_subject"#,
        r#"ALTER TABLE bsky.actor DROP COLUMN "forkPlan""#,
    ),
];

fn forked() -> TestDb {
    let db = TestDb::migrated();
    let mut client = db.client();
    for (name, sql, _) in FORK {
        client.batch_execute(sql).unwrap();
        let noted = "INSERT INTO bsky.kysely_migration VALUES ($1, 'later')";
        client.execute(noted, &[&name]).unwrap();
    }
    db
}

/// Definitions of all indexes, constraints and triggers of the schema.
fn definitions(db: &TestDb) -> BTreeMap<String, String> {
    let sql = "SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'bsky'
        UNION ALL SELECT 'constraint ' || conrelid::regclass || conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = 'bsky'::regnamespace
        UNION ALL SELECT 'trigger ' || tgname, pg_get_triggerdef(t.oid)
          FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
          WHERE NOT tgisinternal AND relnamespace = 'bsky'::regnamespace
        UNION ALL SELECT 'identity ' || indexrelid::regclass, '' FROM pg_index WHERE indisreplident";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn run(db: &TestDb, args: &[&str]) -> Output {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command.output().unwrap()
}

#[test]
fn a_fork_is_loaded_merged_verified_repaired_and_finalized() {
    let tangle = simnet::Tangle::knotted(141, 8, 700);
    let (net, dir) = (Net::of_tangle(&tangle), folder());
    let (fork, plain) = (forked(), TestDb::migrated());
    let before = definitions(&fork);
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let first = run_well(run_load(&fork.url).arg(&file));
    let said = told(&first);
    for named in [
        "_20270101T000000000Z",
        "and 3 more",
        "column post.forkRank",
        "trigger fork_trigger of follow",
        "fork_thing refers to repost",
    ] {
        assert!(said.contains(named), "no {named:?} in: {said}");
    }
    run_well(run_load(&plain.url).arg(&file));
    assert_eq!(definitions(&fork), before);

    // Some time later, in both.
    let mut random = simnet::Random::new(141);
    for did in tangle.dids() {
        let car = later(&tangle.car(did), did, &mut random);
        net.server.set(did, simnet::Answer::Repo(car.into()));
    }
    for db in [&fork, &plain] {
        run_well(run_load(&db.url).arg(&file).args(["--mode", "merge"]));
    }
    assert_eq!(definitions(&fork), before);
    let kept: i64 = fork
        .client()
        .query_one(
            r#"SELECT count(*) FROM bsky.post WHERE "forkRank" = 7 AND "forkScore" IS NULL"#,
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(kept, fork.count("post"));
    assert!(kept > 0 && fork.count("fork_log") >= fork.count("follow"));

    // Damage is named, repaired and finalized.
    let damage = r#"DELETE FROM bsky."like" WHERE uri = (SELECT min(uri) FROM bsky."like")"#;
    assert_eq!(fork.client().execute(damage, &[]).unwrap(), 1);
    let found = run(&fork, &["verify", "--all", "--repair"]);
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    run_well(&mut run_load(&fork.url));
    run_well(&mut finalize(&fork));
    let proved = run(&fork, &["verify", "--all"]);
    assert_eq!(proved.status.code(), Some(0), "{}", told(&proved));

    let migrated = run(&fork, &["migrate"]);
    assert_eq!(migrated.status.code(), Some(0), "{}", told(&migrated));
    assert!(
        told(&migrated).contains("does not know these migrations"),
        "{}",
        told(&migrated)
    );

    let mut client = fork.client();
    for (name, _, undo) in FORK.into_iter().rev() {
        client.batch_execute(undo).unwrap();
        client
            .execute(
                "DELETE FROM bsky.kysely_migration WHERE name = $1",
                &[&name],
            )
            .unwrap();
    }
    assert_eq!(difference(&fork.dump(), &plain.dump()), None);
}

#[test]
fn what_cannot_be_filled_right_is_refused_by_name() {
    for (change, named) in [
        (
            r#"ALTER TABLE bsky.profile ALTER COLUMN "displayName" TYPE varchar(64)"#,
            "column profile.displayName is of type character varying(64); skyfill knows it as character varying",
        ),
        (
            r#"ALTER TABLE bsky.post ADD COLUMN "forkMust" integer NOT NULL"#,
            "column post.forkMust (integer) is NOT NULL without a default",
        ),
        (
            r#"ALTER TABLE bsky.quote RENAME COLUMN subject TO target"#,
            "column quote.subject is missing",
        ),
        (
            r#"ALTER TABLE bsky."like" DROP CONSTRAINT like_unique_subject"#,
            "table like lacks its unique key (creator,subject)",
        ),
        (
            "CREATE UNIQUE INDEX fork_idx ON bsky.post (cid)",
            "index fork_idx of post (cid) could refuse rows",
        ),
        (
            "DROP TABLE bsky.op_thread_reply",
            "table op_thread_reply is missing",
        ),
    ] {
        let db = TestDb::migrated();
        let mut client = db.client();
        client.batch_execute(change).unwrap();
        client
            .batch_execute(
                "INSERT INTO bsky.kysely_migration VALUES ('_20270101T000000000Z', 'later')",
            )
            .unwrap();
        let before = db.dump();
        for args in [
            &["run", "--did", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"][..],
            &["finalize"],
            &["verify"],
        ] {
            let output = run(&db, args);
            assert_eq!(output.status.code(), Some(3), "{args:?}: {}", told(&output));
            if args[0] != "verify" {
                assert!(told(&output).contains(named), "{args:?}: {}", told(&output));
            }
        }
        assert_eq!(difference(&db.dump(), &before), None);
    }
}

/// The file is the catalog of a migrated database; `UPDATE_CATALOG=1` writes it anew.
#[test]
fn the_known_catalog_is_that_of_the_migrations() {
    let db = TestDb::migrated();
    let mut client = db.client();
    let lines = drift::catalog(&mut client, "bsky").unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../appview/src/catalog.tsv");
    let text = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_CATALOG").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(
        text == std::fs::read_to_string(path).unwrap(),
        "UPDATE_CATALOG=1 writes it anew"
    );
    let drift = drift::examine(&mut client, "bsky", &BTreeSet::new())
        .unwrap()
        .unwrap();
    assert!(drift.is_none(), "{drift:?}");
}
