//! No step of a load that belongs to one repo reads a table of all repos. A table that is being
//! filled has no statistics, so that PostgreSQL takes it for small; plans against the statistics of
//! the full network do not show that. Here the server counts what was read.

use simnet::Population;
use testbed::*;

/// How often a table may be read as a whole in all phases, whatever the number of repos.
const ROUNDS: i64 = 24;

/// Tables of which all rows were read more often than that: their rows, and what was read.
fn read_too_often(db: &TestDb) -> Vec<(String, i64, i64)> {
    let mut client = db.client();
    let read = "SELECT schemaname || '.' || relname, seq_tup_read FROM pg_stat_user_tables
         WHERE schemaname IN ('bsky', 'skyfill') AND seq_tup_read > 0";
    let mut found = Vec::new();
    for row in client.query(read, &[]).unwrap() {
        let (table, read): (String, i64) = (row.get(0), row.get(1));
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = client.query_one(&count, &[]).unwrap().get(0);
        // A table of hosts or runs has some rows, and is one page.
        if rows >= 100 && read > rows * ROUNDS {
            found.push((table, rows, read));
        }
    }
    found
}

#[test]
fn what_a_load_reads_grows_with_the_repos_and_not_with_their_square() {
    let repos = Population::new(91, 300, 900);
    let net =
        Net::of_cars((0..repos.len()).map(|account| (repos.did(account), repos.car(account))));
    let (db, dir) = (TestDb::migrated(), folder());
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
