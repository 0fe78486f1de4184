//! No step of a load that belongs to one repo reads a table of all repos. A table that is being
//! filled has no statistics, so that PostgreSQL takes it for small; plans against the statistics of
//! the full network do not show that. Here the server counts what was read.

use crate::follow_network::{Scene, pace};
use crate::network::{FAST, on, settings};
use simnet::{LiveSettings, Population};
use testbed::*;

/// How often a table may be read as a whole in all phases, whatever the number of repos.
const ROUNDS: i64 = 24;
/// The tables with a row per account.
const TABLES: [&str; 4] = [
    "bsky.actor",
    "bsky.actor_sync",
    "skyfill.identity",
    "skyfill.repo",
];

/// The tables of which all rows were read more often than that: their rows,
/// and what was read. What slices read is tested against statistics of the full network.
fn read_too_often(db: &TestDb) -> Vec<(String, i64, i64)> {
    let mut client = db.client();
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = $1::text::regclass";
    let mut found = Vec::new();
    for table in TABLES {
        let read: i64 = client.query_one(read, &[&table]).unwrap().get(0);
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = client.query_one(&count, &[]).unwrap().get(0);
        if read > rows * ROUNDS {
            found.push((table.to_owned(), rows, read));
        }
    }
    found
}

/// A database whose tables of accounts are never analyzed by the server itself. If it did that in
/// the middle of a slow test, it would rightly read 300 rows as a whole.
fn never_analyzed() -> TestDb {
    let db = TestDb::migrated();
    let mut client = db.client();
    ledger::prepare(&mut client, pg::Waits::SILENT).unwrap();
    for table in TABLES {
        let off = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        client.batch_execute(&off).unwrap();
    }
    db
}

#[test]
fn what_a_load_reads_grows_with_the_repos_and_not_with_their_square() {
    let repos = Population::new(91, 300, 900);
    let net =
        Net::of_cars((0..repos.len()).map(|account| (repos.did(account), repos.car(account))));
    let (db, dir) = (never_analyzed(), folder());
    let (first, rest) = net.dids.split_at(250);
    let load = |dids: &[String]| {
        let file = did_file(
            dir.path(),
            &net.server.url(),
            dids.iter().map(String::as_str),
        );
        let mut command = run_load(&db.url);
        command.args(["--max-db-connections", "2"]).arg(file);
        run_well(&mut command);
        assert_eq!(read_too_often(&db), []);
    };
    load(first);
    // These are merged into what is there.
    load(rest);
}

#[test]
fn a_consumer_reads_no_more() {
    let repos = Population::new(92, 300, 900);
    let net =
        Net::of_cars((0..repos.len()).map(|account| (repos.did(account), repos.car(account))));
    let (db, dir) = (never_analyzed(), folder());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    assert_eq!(read_too_often(&db), []);
}

#[test]
fn neither_does_discovery_nor_a_pass_nor_following() {
    let mut network = settings(93, 250, 3);
    network.records = 750;
    let scene = Scene::of(network, never_analyzed());
    assert_eq!(read_too_often(&scene.db), [], "run --discover");
    let live = |seed| {
        let life = LiveSettings {
            seed,
            events: 400,
            ..LiveSettings::default()
        };
        drop(scene.network.live(&life).start(pace(1000.0)).wait());
    };
    live(7);
    let mut catch_up = on(&scene.network, &scene.db, "catch-up");
    let relay = scene.network.relay_url();
    let output = catch_up.args(FAST).args(["--relay", &relay]).output();
    let output = output.unwrap();
    // 1 says that nothing is proved yet.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", told(&output));
    assert_eq!(read_too_often(&scene.db), [], "catch-up");
    live(8);
    scene.follow_until_now();
    assert_eq!(read_too_often(&scene.db), [], "follow");
}
