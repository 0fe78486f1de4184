//! What the official indexer wrote for networks that the project generates, as digests of tables:
//! small enough to be kept beside the code (`conformance/recorded`), and made again by `make
//! conformance`.

use postgres::{Client, Error};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A network and the tables that the official indexer made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// What the network is made from.
    pub seed: u64,
    /// Its accounts.
    pub accounts: usize,
    /// Its records, about.
    pub records: usize,
    /// The time of the run.
    pub now: String,
    /// The official indexer.
    pub judge: String,
    /// By name.
    pub tables: BTreeMap<String, Table>,
}

/// A table, as far as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Number of rows.
    pub rows: usize,
    /// SHA-256 of its rows as [`dump`] gives them, one line each.
    pub sha256: String,
}

impl Recorded {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// The network.
    #[must_use]
    pub fn tangle(&self) -> simnet::Tangle {
        simnet::Tangle::new(self.seed, self.accounts, self.records)
    }
}

/// All rows of all tables of the AppView as JSON with sorted keys, sorted; less what depends on the
/// clock or on the order of insertion: numbers of notifications, the time of a profile without one,
/// the migrator's own tables.
///
/// # Errors
/// The server refused.
pub fn dump(client: &mut Client, schema: &str) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let tables = client.query(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = $1 AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'kysely%'",
        &[&schema],
    )?;
    let mut dump = BTreeMap::new();
    for row in tables {
        let table: String = row.get(0);
        let less = match table.as_str() {
            "notification" => "id",
            "profile" => "createdAt",
            _ => "",
        };
        let sql = format!("SELECT (to_jsonb(x) - '{less}')::text FROM \"{schema}\".\"{table}\" x");
        let mut rows: Vec<String> = client
            .query(&sql, &[])?
            .iter()
            .map(|row| {
                let json: String = row.get(0);
                serde_json::from_str::<serde_json::Value>(&json)
                    .map_or(json, |value| value.to_string())
            })
            .collect();
        rows.sort();
        dump.insert(table, rows);
    }
    Ok(dump)
}

/// The digests of tables that have rows.
#[must_use]
pub fn digests(dump: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Table> {
    dump.iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(table, rows)| {
            let mut hash = Sha256::new();
            for row in rows {
                hash.update(row);
                hash.update("\n");
            }
            let sha256 = hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let rows = rows.len();
            (table.clone(), Table { rows, sha256 })
        })
        .collect()
}

/// What differs, a line for each table.
#[must_use]
pub fn differing(found: &BTreeMap<String, Table>, wanted: &BTreeMap<String, Table>) -> Vec<String> {
    let tables: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let rows = |table: Option<&Table>| table.map_or(0, |table| table.rows);
    tables
        .into_iter()
        .filter(|table| found.get(*table) != wanted.get(*table))
        .map(|table| {
            let (found, wanted) = (rows(found.get(table)), rows(wanted.get(table)));
            format!("{table} differs: {found} rows, recorded are {wanted}")
        })
        .collect()
}
