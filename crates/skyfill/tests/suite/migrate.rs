//! `skyfill migrate` and `skyfill indexes`.

use appview::migrations::MIGRATIONS;
use std::process::Output;
use testbed::*;

fn migrate(db: &TestDb, args: &[&str]) -> Output {
    skyfill()
        .arg("migrate")
        .args(args)
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap()
}

/// Every object of the schema and its definition, the way `pg_dump` sees them, sorted.
fn schema_of(db: &TestDb) -> Vec<String> {
    let bin = std::process::Command::new("sh")
        .args([
            "-c",
            "command -v pg_dump || ls /usr/lib/postgresql/*/bin/pg_dump | tail -1",
        ])
        .output()
        .unwrap();
    let bin = String::from_utf8(bin.stdout).unwrap();
    let output = std::process::Command::new(bin.trim())
        .args([
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "-n",
            "bsky",
            "-n",
            "public",
            &db.url,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    statements(&String::from_utf8(output.stdout).unwrap())
}

/// Statements of a dump, without what differs between versions of pg_dump, sorted.
fn statements(dump: &str) -> Vec<String> {
    let text: String = dump
        .lines()
        .filter(|line| !line.starts_with("--") && !line.starts_with('\\') && !line.is_empty())
        .filter(|line| {
            !line.starts_with("SET ") && !line.starts_with("SELECT pg_catalog.set_config")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let mut statements: Vec<String> = text
        .split(";\n")
        .map(|statement| statement.trim().to_owned())
        // Of the schemas asked for by name, pg_dump writes no extension, and public is not always
        // there.
        .filter(|s| !s.is_empty() && !s.contains("EXTENSION") && !s.contains("SCHEMA public"))
        .collect();
    statements.sort();
    statements
}

#[test]
fn an_empty_database_comes_to_the_golden_schema_and_twice_is_a_no_op() {
    let db = TestDb::empty();
    let output = migrate(&db, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let before = db.dump();
    assert_eq!(before["kysely_migration"].len(), MIGRATIONS.len());
    assert_eq!(before["view_param"].len(), 2);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/schema.sql");
    let (ours, theirs) = (
        schema_of(&db),
        statements(&std::fs::read_to_string(golden).unwrap()),
    );
    let differ: Vec<_> = ours
        .iter()
        .filter(|s| !theirs.contains(s))
        .chain(theirs.iter().filter(|s| !ours.contains(s)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(ours.len(), theirs.len());
    let output = migrate(&db, &[]);
    let current = format!("is current: {} migrations", MIGRATIONS.len());
    assert!(told(&output).contains(&current), "{}", told(&output));
    assert!(db.dump() == before);
}

#[test]
fn every_official_state_is_carried_on_from() {
    let newest = schema_of(&TestDb::migrated());
    let mut states = 0;
    for step in MIGRATIONS.iter().step_by(6) {
        let db = TestDb::empty();
        let partial =
            appview::migrate::migrate_to(&mut db.client(), "bsky", Some(step.name)).unwrap();
        assert_eq!(partial.ran.last(), Some(&step.name));
        let output = migrate(&db, &[]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "from {}: {}",
            step.name,
            told(&output)
        );
        assert!(schema_of(&db) == newest, "from {}", step.name);
        states += 1;
    }
    assert!(states >= 5);
}

#[test]
fn two_at_once_do_not_hurt_each_other() {
    let db = TestDb::empty();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| migrate(&db, &[]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", told(output));
    }
    let all_ran = format!(" {} ran now", MIGRATIONS.len());
    let is_first = |output: &&Output| told(output).contains(&all_ran);
    assert_eq!(outputs.iter().filter(is_first).count(), 1);
}

#[test]
fn a_database_with_unknown_migrations_is_left_alone() {
    let db = TestDb::empty();
    appview::migrate::migrate_to(&mut db.client(), "bsky", Some(MIGRATIONS[3].name)).unwrap();
    db.client()
        .batch_execute("INSERT INTO bsky.kysely_migration VALUES ('_29990101T000000000Z', 'later')")
        .unwrap();
    let before = db.dump();
    let output = migrate(&db, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        told(&output).contains("_29990101T000000000Z"),
        "{}",
        told(&output)
    );
    assert!(db.dump() == before);
}

#[test]
fn recreating_spares_what_no_repo_can_refill() {
    let db = TestDb::migrated();
    db.client().batch_execute("INSERT INTO bsky.mute VALUES ('did:plc:a', 'did:plc:b', 'now'); INSERT INTO bsky.profile_agg VALUES ('did:plc:a')").unwrap();
    let output = migrate(&db, &["--recreate-schema"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        told(&output).contains("in: mute;") && told(&output).contains("--discard-private-data"),
        "{}",
        told(&output)
    );
    assert_eq!(db.count("mute"), 1);
    let output = migrate(&db, &["--recreate-schema", "--discard-private-data"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let migrations = i64::try_from(MIGRATIONS.len()).unwrap();
    assert_eq!(
        (
            db.count("mute"),
            db.count("profile_agg"),
            db.count("kysely_migration")
        ),
        (0, 0, migrations)
    );
    db.client()
        .batch_execute(
            r#"INSERT INTO bsky.record VALUES ('u', 'c', 'd', '{}', 'now', 'takedown-1')"#,
        )
        .unwrap();
    let output = migrate(&db, &["--recreate-schema"]);
    assert!(
        told(&output).contains("in: record.takedownRef;"),
        "{}",
        told(&output)
    );
    db.client()
        .batch_execute(r#"UPDATE bsky.record SET "takedownRef" = NULL"#)
        .unwrap();
    assert_eq!(
        migrate(&db, &["--recreate-schema", "--yes"]).status.code(),
        Some(0)
    );
    assert_eq!(db.count("record"), 0);
}

#[test]
fn dropped_follow_indexes_come_back_as_they_were() {
    let db = TestDb::migrated();
    let before = schema_of(&db);
    let indexes = |action: &str| {
        skyfill()
            .args(["indexes", action])
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap()
    };
    assert_eq!(indexes("status").status.code(), Some(0));
    for _ in 0..2 {
        let output = migrate(&db, &["--drop-follow-indexes"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    assert_eq!(before.len() - schema_of(&db).len(), 3);
    assert!(
        schema_of(&db).iter().any(|s| s.contains("follow_pkey")),
        "the primary key stays"
    );
    let output = indexes("status");
    assert_eq!(output.status.code(), Some(1));
    for name in [
        "follow_creator_cursor_idx",
        "follow_subject_cursor_idx",
        "follow_unique_subject",
    ] {
        assert!(told(&output).contains(name), "{}", told(&output));
    }
    // Rows that came in meanwhile and break the constraint become duplicates of the first.
    for rkey in ["2", "1"] {
        let uri = format!("at://a/app.bsky.graph.follow/{rkey}");
        let follow = format!(
            "INSERT INTO bsky.follow (uri, cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\") VALUES ('{uri}', 'c', 'a', 'b', 'x', 'x');
             INSERT INTO bsky.notification (did, \"recordUri\", \"recordCid\", author, reason, \"sortAt\") VALUES ('b', '{uri}', 'c', 'a', 'follow', 'x')"
        );
        db.client().batch_execute(&follow).unwrap();
    }
    assert_eq!(indexes("restore").status.code(), Some(0));
    assert!(schema_of(&db) == before);
    let dump = db.dump();
    assert!(
        dump["follow"].len() == 1 && dump["follow"][0].contains("follow/1"),
        "{:?}",
        dump["follow"]
    );
    assert!(
        dump["duplicate_record"][0].contains("follow/2"),
        "{:?}",
        dump["duplicate_record"]
    );
    assert_eq!(dump["notification"].len(), 1);
    assert_eq!(indexes("status").status.code(), Some(0));
}

#[test]
fn column_lists_agree_with_the_schema() {
    let db = TestDb::migrated();
    for table in appview::table::ALL {
        let rows = db
            .client()
            .query(
                "SELECT column_name::text, data_type::text, is_generated::text, is_nullable::text FROM information_schema.columns
                 WHERE table_schema = 'bsky' AND table_name = $1",
                &[&table.name],
            )
            .unwrap();
        for column in table.columns {
            let row = rows.iter().find(|row| row.get::<_, &str>(0) == column.name);
            let row = row
                .unwrap_or_else(|| panic!("{}.{} is not in the schema", table.name, column.name));
            let jsonb = column.kind == appview::table::Kind::Jsonb;
            assert_eq!(
                row.get::<_, &str>(1) == "jsonb",
                jsonb,
                "{}.{}",
                table.name,
                column.name
            );
            assert_eq!(
                row.get::<_, &str>(2),
                "NEVER",
                "{}.{}",
                table.name,
                column.name
            );
        }
        for row in &rows {
            let name: &str = row.get(0);
            let needed =
                row.get::<_, &str>(3) == "NO" && row.get::<_, &str>(2) == "NEVER" && name != "id";
            assert!(
                !needed || table.columns.iter().any(|c| c.name == name),
                "{}.{name} must be written",
                table.name
            );
        }
    }
}

#[test]
fn a_wrong_url_is_told_without_its_password() {
    let output = skyfill()
        .arg("migrate")
        .env(
            "BSKY_DB_POSTGRES_URL",
            "postgresql://user:hunter2@127.0.0.1:1/db",
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        told(&output).contains("127.0.0.1:1") && !told(&output).contains("hunter2"),
        "{}",
        told(&output)
    );
    let output = skyfill()
        .args(["migrate", "--schema", "no-good"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
