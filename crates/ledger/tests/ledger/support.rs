//! A ledger of a test's own.

use ledger::coverage::Coverage;
use ledger::hosts::{self, Leased, Wish};
use ledger::open::Which;
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

    /// How to connect to it.
    pub(crate) fn url(&self) -> &str {
        &self.db.url
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

    /// Lets the time of all leases run out.
    pub(crate) fn expire_leases(&mut self) {
        let sql = "UPDATE skyfill.host SET lease_until = now() - interval '1 s'";
        self.client.batch_execute(sql).unwrap();
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

    /// Pending, new and stored repos by host: as they are kept, or counted.
    fn host_counts(&mut self, is_kept: bool) -> Vec<String> {
        let of = match is_kept {
            true => "SELECT host, pending, new, stored FROM skyfill.host_count",
            false => {
                "SELECT host, (state = 'open')::int, (state = 'open' AND rev IS NULL)::int, (rev IS NOT NULL)::int
                 FROM skyfill.repo"
            }
        };
        let sql = format!(
            "SELECT concat_ws(' ', host, sum(a), sum(b), sum(c)) FROM ({of}) r (host, a, b, c) GROUP BY host
             HAVING (sum(a), sum(b), sum(c)) <> (0, 0, 0) ORDER BY host"
        );
        let rows = self.client.query(&sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Accounts by state of document and handle: as they are kept, or counted.
    fn handle_counts(&mut self, is_kept: bool) -> Vec<String> {
        let of = match is_kept {
            true => "SELECT document, handle, accounts FROM skyfill.handle_count",
            false => "SELECT document, handle, 1 FROM skyfill.identity",
        };
        let sql = format!(
            "SELECT concat_ws(' ', document, handle, sum(n)) FROM ({of}) i (document, handle, n) GROUP BY document, handle
             HAVING sum(n) <> 0 ORDER BY 1"
        );
        let rows = self.client.query(&sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
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
            assert_eq!(self.host_counts(true), self.host_counts(false));
            assert_eq!(self.handle_counts(true), self.handle_counts(false));
            ledger::tally::compact(&mut self.client, SCHEMA).unwrap();
        }
    }
}

/// Leases up to `count` hosts of all that have something to do.
pub(crate) fn lease_hosts(client: &mut Client, count: i64) -> Vec<Leased> {
    hosts::lease(client, SCHEMA, Wish::new(Which::All, count)).unwrap()
}
