//! Index builds: several at once on one table, kept by the server when skyfill is killed, canceled
//! when it is stopped, and ended by a server that has no more room.

use postgres::Client;
use simnet::Population;
use std::process::Command;
use testbed::*;

fn net() -> Net {
    let population = Population::new(14, 40, 20_000);
    Net::of_cars(
        (0..population.len()).map(|account| (population.did(account), population.car(account))),
    )
}

/// Loads all repos, and ends before indexes are built.
fn load_only(db: &TestDb, net: &Net) {
    let dir = folder();
    let dids = net.dids.iter().map(String::as_str);
    let mut command = run_load(&db.url);
    command.arg(did_file(dir.path(), &net.server.url(), dids));
    command.env("SKYFILL_FAILPOINT", "phase");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
}

/// A run that goes on, with two builds at once.
fn go_on(db: &TestDb) -> Command {
    let mut command = run_load(&db.url);
    command.args(["--max-db-connections", "2"]);
    command
}

/// Keeps builds on a table from beginning, until it is rolled back.
fn hold(db: &TestDb) -> Client {
    let mut client = db.client();
    let lock = "BEGIN; LOCK TABLE bsky.\"like\" IN ROW EXCLUSIVE MODE";
    client.batch_execute(lock).unwrap();
    client
}

/// How many sessions want to build an index on the held table.
fn builds(db: &TestDb) -> i64 {
    // Databases of other tests have tables of the same number.
    let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'bsky.\"like\"'::regclass
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND mode = 'ShareLock' AND NOT granted";
    db.client().query_one(sql, &[]).unwrap().get(0)
}

/// Indexes and constraints of the held table that are not there.
fn missing(db: &TestDb) -> (i64, i64) {
    let sql =
        "SELECT count(*) FILTER (WHERE to_regclass('bsky.' || quote_ident(name)) IS NULL), count(*)
               FROM skyfill.dropped_ddl WHERE table_name = 'like'";
    let row = db.client().query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

/// Definitions of all indexes and constraints.
fn definitions(db: &TestDb) -> Vec<String> {
    let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'bsky'
               UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
                 FROM pg_constraint WHERE connamespace = 'bsky'::regnamespace ORDER BY 1";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_kill_loses_no_build_and_the_next_start_does_not_double_one() {
    let (net, db, reference) = (net(), TestDb::migrated(), TestDb::migrated());
    load_only(&reference, &net);
    run_well(&mut go_on(&reference));
    load_only(&db, &net);
    let all = missing(&db);
    assert!(all.0 >= 4 && all.0 == all.1, "{all:?}");
    // Two builds on one table at once, one of them that of a constraint.
    let mut held = hold(&db);
    let killed = Watched::start(&mut go_on(&db));
    wait_until("two builds on one table", || builds(&db) == 2);
    drop(killed);
    assert_eq!(missing(&db), all);
    held.batch_execute("ROLLBACK").unwrap();
    // Nobody but the server is there to end them and to note that they ended.
    wait_until("the server finishes both", || missing(&db).0 == all.0 - 2);
    wait_until("it notes that an index is there", || {
        missing(&db).1 == all.1 - 1
    });
    // The next start waits for what the server still builds.
    let mut held = hold(&db);
    let killed = Watched::start(&mut go_on(&db));
    wait_until("two other builds", || builds(&db) == 2);
    drop(killed);
    let mut next = Watched::start(&mut go_on(&db));
    next.wait_for("in this database; waiting for it");
    assert_eq!(builds(&db), 2, "{}", next.printed());
    held.batch_execute("ROLLBACK").unwrap();
    let (code, printed) = next.end();
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("skyfill run (server process "),
        "{printed}"
    );
    assert_eq!(missing(&db), (0, 0));
    assert_eq!(definitions(&db), definitions(&reference));
    assert_eq!(difference(&db.dump(), &reference.dump()), None);
}

/// The settings of all tables.
fn settings(db: &TestDb) -> Vec<String> {
    let sql = "SELECT c.relname || ' ' || o FROM pg_class c, unnest(c.reloptions) o
               WHERE c.relnamespace = 'bsky'::regnamespace AND c.relkind = 'r' ORDER BY 1";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Pages of `record`, and those of them that are known to be visible to all.
fn pages(db: &TestDb) -> (i32, i32) {
    let sql = "SELECT relpages, relallvisible FROM pg_class WHERE oid = 'bsky.record'::regclass";
    let row = db.client().query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn tables_are_frozen_before_their_indexes_and_autovacuum_is_as_before_in_the_end() {
    let (net, db) = (net(), TestDb::migrated());
    let own = "ALTER TABLE bsky.\"like\" SET (autovacuum_enabled = true, autovacuum_vacuum_scale_factor = 0.5);
               ALTER TABLE bsky.post SET (autovacuum_enabled = false)";
    db.client().batch_execute(own).unwrap();
    let before = settings(&db);
    assert_eq!(before.len(), 3);
    load_only(&db, &net);
    let off = |settings: &[String]| {
        let off = settings
            .iter()
            .filter(|it| it.ends_with(" autovacuum_enabled=false"));
        off.count()
    };
    let loading = settings(&db);
    assert!(off(&loading) > appview::table::ALL.len(), "{loading:?}");
    assert!(loading.contains(&"like autovacuum_vacuum_scale_factor=0.5".to_owned()));
    // Killed when the first index is there.
    let output = go_on(&db)
        .env("SKYFILL_FAILPOINT", "rebuild")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
    let (all, visible) = pages(&db);
    assert!(all > 100 && visible == all, "{visible} of {all} pages");
    assert_eq!(settings(&db), loading);
    let other = db.copied();
    run_well(&mut go_on(&db));
    assert_eq!(settings(&db), before);
    // So does the command that ends a load by hand.
    let mut restore = skyfill();
    restore.args(["indexes", "restore"]);
    run_well(restore.env("BSKY_DB_POSTGRES_URL", &other.url));
    assert_eq!(settings(&other), before);
    let left = "SELECT count(*) FROM skyfill.table_setting";
    assert_eq!(
        other
            .client()
            .query_one(left, &[])
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}

#[test]
fn a_stop_cancels_what_the_server_builds() {
    let (net, db) = (net(), TestDb::migrated());
    load_only(&db, &net);
    let before = missing(&db);
    let mut held = hold(&db);
    let mut stopped = Watched::start(&mut go_on(&db));
    wait_until("two builds", || builds(&db) == 2);
    signal(&stopped.child, "TERM");
    assert_eq!(stopped.wait_for_end(), Some(4), "{}", stopped.printed());
    wait_until("their end", || builds(&db) == 0);
    held.batch_execute("ROLLBACK").unwrap();
    assert_eq!(missing(&db), before);
    // So does `indexes restore`.
    let mut held = hold(&db);
    let mut restore = skyfill();
    restore.args(["indexes", "restore", "--max-db-connections", "2"]);
    restore.env("BSKY_DB_POSTGRES_URL", &db.url);
    let mut stopped = Watched::start(&mut restore);
    wait_until("two builds", || builds(&db) == 2);
    signal(&stopped.child, "TERM");
    assert_eq!(stopped.wait_for_end(), Some(4), "{}", stopped.printed());
    wait_until("their end", || builds(&db) == 0);
    held.batch_execute("ROLLBACK").unwrap();
    assert_eq!(missing(&db), before);
    run_well(&mut restore);
    assert_eq!(missing(&db), (0, 0));
}

#[test]
fn a_server_without_room_ends_the_phase_with_one_message() {
    let (net, db) = (net(), TestDb::migrated());
    load_only(&db, &net);
    let mut client = db.client();
    let limit = |client: &mut Client, limit: &str| {
        let name: String = client
            .query_one("SELECT quote_ident(current_database())", &[])
            .unwrap()
            .get(0);
        client
            .batch_execute(&format!(
                "ALTER DATABASE {name} SET temp_file_limit = '{limit}'"
            ))
            .unwrap();
    };
    limit(&mut client, "64kB");
    let output = go_on(&db)
        .args(["--server-memory", "1MiB"])
        .output()
        .unwrap();
    let printed = told(&output);
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert_eq!(printed.matches("(53400)").count(), 1, "{printed}");
    for part in [
        "build indexes in schema bsky of ",
        " on record: ",
        "temp_file_limit",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains("waiting for the database"), "{printed}");
    limit(&mut client, "-1");
    run_well(go_on(&db).args(["--server-memory", "1MiB"]));
    assert_eq!(missing(&db), (0, 0));
}

#[test]
fn an_index_comes_back_to_its_tablespace_and_a_constraint_is_as_deferrable_as_before() {
    let db = TestDb::migrated();
    let mut client = db.client();
    let space = format!("skyfill_{}", std::process::id());
    client
        .batch_execute("SET allow_in_place_tablespaces = on")
        .unwrap();
    client
        .batch_execute(&format!("CREATE TABLESPACE {space} LOCATION ''"))
        .unwrap();
    client
        .batch_execute(&format!(
            "ALTER INDEX bsky.follow_creator_cursor_idx SET TABLESPACE {space};
             ALTER TABLE bsky.follow DROP CONSTRAINT follow_unique_subject;
             ALTER TABLE bsky.follow ADD CONSTRAINT follow_unique_subject UNIQUE (\"subjectDid\", creator)
               DEFERRABLE INITIALLY DEFERRED"
        ))
        .unwrap();
    let before = definitions(&db);
    let mut restore = skyfill();
    restore.args(["indexes", "restore"]);
    let mut drop_indexes = skyfill();
    drop_indexes.args(["migrate", "--drop-follow-indexes"]);
    for command in [&mut drop_indexes, &mut restore] {
        run_well(command.env("BSKY_DB_POSTGRES_URL", &db.url));
    }
    assert_eq!(definitions(&db), before);
    let sql =
        "SELECT tablespace::text FROM pg_indexes WHERE indexname = 'follow_creator_cursor_idx'";
    let found: Option<String> = client.query_one(sql, &[]).unwrap().get(0);
    assert_eq!(found.as_deref(), Some(space.as_str()));
    client
        .batch_execute("ALTER INDEX bsky.follow_creator_cursor_idx SET TABLESPACE pg_default")
        .unwrap();
    client
        .batch_execute(&format!("DROP TABLESPACE {space}"))
        .unwrap();
}
