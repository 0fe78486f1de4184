//! Plans of a comparison at the size of the full network: neither a slice nor a repo reads a table
//! as a whole, with statistics or without.

use crate::compare_slice::{Job, Repos, SliceComparison};
use crate::ordered_rows::{Accounts, Prepared, Statements};
use crate::repos::COMPARING;
use crate::run_settings::Runs;
use crate::slices;
use appview::table;
use ledger::verified::{self, Range};
use postgres::Client;
use testbed::{Planned, TestDb, pretend_rows};

const SCHEMA: &str = "bsky";
/// Rows of the largest tables; the others are taken for smaller ones.
const ROWS: &[(&str, f64)] = &[
    ("record", 20e9),
    ("like", 12e9),
    ("notification", 18e9),
    ("follow", 3e9),
    ("post", 2.4e9),
];

fn pretend(client: &mut Client) {
    for info in table::ALL {
        let known = ROWS.iter().find(|(name, _)| *name == info.name);
        let rows = known.map_or(1e8, |(_, rows)| *rows);
        pretend_rows(client, &format!("{SCHEMA}.\"{}\"", info.name), rows);
    }
    for name in [
        "skyfill.repo",
        "skyfill.skipped",
        "skyfill.skipped_change",
        "bsky.actor_sync",
    ] {
        pretend_rows(client, name, 45e6);
    }
}

/// Rows of 500 accounts, so that statistics say something.
fn sample(client: &mut Client) {
    let mut sql = String::new();
    for info in table::ALL {
        let values: Vec<String> = info
            .columns
            .iter()
            .map(|column| match column.name {
                name if name == info.uri => {
                    "'at://did:plc:' || n % 500 || '/app.bsky.feed.post/' || n".to_owned()
                }
                "did" | "creator" | "author" => "'did:plc:' || n % 500".to_owned(),
                "json" | "langs" | "tags" => "'{}'".to_owned(),
                name => format!("'{name}' || n"),
            })
            .collect();
        let (name, columns, values) = (info.name, info.column_list(), values.join(", "));
        sql += &format!(
            "INSERT INTO \"{name}\" ({columns}) SELECT {values} FROM generate_series(1, 3000) n ON CONFLICT DO NOTHING;
             ANALYZE \"{name}\"; DELETE FROM \"{name}\";"
        );
    }
    client.batch_execute(&sql).unwrap();
}

/// Compares these accounts, of which nothing is stored.
fn compare(session: &mut Planned, statements: &mut Statements, accounts: &Accounts<'_>) {
    let runs = Runs::read(&mut session.client, SCHEMA).unwrap();
    let job = Job {
        schema: SCHEMA,
        runs: &runs,
        signature: None,
        progress: &|_| {},
        stop: &|| false,
    };
    let mut txn = session.client.transaction().unwrap();
    let prepared = Prepared::new(&mut txn, statements, accounts).unwrap();
    let repos = match accounts {
        Accounts::Range(range, _) => {
            Repos::Range(verified::open_range(&mut txn, SCHEMA, range).unwrap())
        }
        Accounts::Some(..) => Repos::Some(Vec::new()),
    };
    let comparison = SliceComparison::new(&job, &mut txn, &prepared, repos).unwrap();
    assert!(comparison.run().unwrap().is_some());
    txn.commit().unwrap();
}

#[test]
fn neither_a_slice_nor_some_repos_read_a_table_as_a_whole() {
    let db = TestDb::migrated();
    let mut client = db.client();
    ledger::prepare(&mut client, pg::Waits::SILENT).unwrap();
    client.batch_execute(&pg::search_path(SCHEMA)).unwrap();
    let is_large = |table: &str| {
        table::ALL.iter().any(|info| info.name == table)
            || ["repo", "skipped", "skipped_change", "actor_sync"].contains(&table)
    };
    let range = |upper: Option<&str>| Range {
        lower: "did:plc:a".to_owned(),
        upper: upper.map(str::to_owned),
    };
    let (bounded, last) = (range(Some("did:plc:b")), range(None));
    let dids: Vec<String> = (0..100).map(|n| format!("did:plc:{n}")).collect();
    for what in ["without statistics", "with statistics"] {
        if what == "with statistics" {
            sample(&mut client);
        }
        pretend(&mut client);
        let mut session = Planned::connect(&db.url);
        let settings = format!("{}; {COMPARING}", pg::search_path(SCHEMA));
        session.client.batch_execute(&settings).unwrap();
        let mut statements = Statements::default();
        for (of, accounts) in [
            ("a slice", Accounts::Range(&bounded, None)),
            ("the last slice", Accounts::Range(&last, None)),
            ("some repos", Accounts::Some(&dids, true)),
            ("a slice elsewhere", Accounts::Range(&bounded, Some(&dids))),
            ("some repos elsewhere", Accounts::Some(&dids, false)),
        ] {
            compare(&mut session, &mut statements, &accounts);
            let whole = session.whole_reads(&is_large);
            assert!(whole.is_empty(), "{of}, {what}: {whole:#?}");
        }
    }
    // Slices end where the statistics say, too, whatever the ledger knows.
    let bounds = slices::of_large_table(&mut client, SCHEMA).unwrap();
    assert!(bounds.len() > 50 && bounds.is_sorted(), "{bounds:?}");
}
