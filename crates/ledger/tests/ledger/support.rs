//! A ledger of a test's own.

use ledger::coverage::Coverage;
use ledger::repos::Wanted;
use pg::Waits;
use postgres::Client;
use testbed::TestDb;

/// The AppView's schema.
pub(crate) const SCHEMA: &str = "bsky";
/// No rev of a test is later.
pub(crate) const NEWEST: &str = "3zzzzzzzzzzzz";

/// An empty ledger beside the AppView's empty tables.
pub(crate) struct Ledger {
    db: TestDb,
    pub(crate) client: Client,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let db = TestDb::migrated();
        let mut client = pg::connect(&db.url).unwrap();
        ledger::prepare(&mut client, Waits::SILENT).unwrap();
        Self { db, client }
    }

    /// Another session.
    pub(crate) fn connect(&self) -> Client {
        pg::connect(&self.db.url).unwrap()
    }

    /// Adds repos on `host`.
    pub(crate) fn add(&mut self, host: &str, dids: &[&str]) {
        let wanted: Vec<Wanted> = dids
            .iter()
            .map(|did| Wanted {
                did: (*did).to_owned(),
                pds: format!("https://{host}"),
                host: host.to_owned(),
            })
            .collect();
        ledger::repos::add(&mut self.client, SCHEMA, &wanted).unwrap();
    }

    /// Changes the row of a repo by hand.
    pub(crate) fn set(&mut self, did: &str, change: &str) {
        let sql = format!("UPDATE skyfill.repo SET {change} WHERE did = $1");
        assert_eq!(self.client.execute(&sql, &[&did]).unwrap(), 1);
    }

    /// Columns of the row of a repo, as text.
    pub(crate) fn get(&mut self, did: &str, columns: &str) -> String {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM skyfill.repo WHERE did = $1");
        let row = self.client.query_opt(&sql, &[&did]).unwrap();
        row.map_or_else(|| "no row".to_owned(), |row| row.get(0))
    }

    /// The rows of a table as JSON, in order.
    pub(crate) fn rows(&mut self, table: &str) -> Vec<String> {
        let sql = format!("SELECT to_jsonb(t)::text FROM skyfill.{table} t ORDER BY 1");
        let rows = self.client.query(&sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Ledger {
    /// Whatever a test did with repos, the counts that are kept are right.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for _ in 0..2 {
            let counted = Coverage::read(&mut self.client, SCHEMA);
            let kept = Coverage::kept(&mut self.client, SCHEMA);
            let (Ok(counted), Ok((kept, _))) = (counted, kept) else {
                // The test broke its database on purpose.
                return;
            };
            assert_eq!(kept.repos, counted.repos);
            assert_eq!(kept.proofs, counted.proofs);
            assert_eq!(kept.contested, counted.contested);
            ledger::tally::compact(&mut self.client, SCHEMA).unwrap();
        }
    }
}
