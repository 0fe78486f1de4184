//! What the AppView's tables hold and take, as the server says.

use postgres::{Client, Error};

/// Up to so many records, all are counted; of more, a sample.
const COUNTED: u64 = 2_000_000;
/// Records of a sample, about: it reads some thousand pages, whatever the size of the table.
const SAMPLED: f64 = 200_000.0;
/// Kinds that are told apart at most: what records are dated comes from their authors.
const KINDS: i64 = 20_000;
/// Settings of the server that matter for a load.
const SETTINGS: &[&str] = &[
    "autovacuum",
    "checkpoint_timeout",
    "effective_cache_size",
    "fsync",
    "full_page_writes",
    "maintenance_work_mem",
    "max_connections",
    "max_parallel_maintenance_workers",
    "max_wal_size",
    "shared_buffers",
    "synchronous_commit",
    "wal_compression",
    "wal_level",
    "work_mem",
];

/// Bounds the statements of a report: it waits for no lock, and none takes longer than a minute.
///
/// # Errors
/// The server refused.
pub fn bound(client: &mut Client) -> Result<(), Error> {
    client.batch_execute("SET statement_timeout = '60s'; SET lock_timeout = '3s'")
}

/// Records of one collection in one month.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// The collection.
    pub collection: String,
    /// The month of `indexedAt`: `2026-11`.
    pub month: String,
    /// How many records, about, if it was sampled.
    pub records: f64,
    /// Bytes of their JSON.
    pub bytes: f64,
}

/// What table `record` holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// By collection and month.
    pub kinds: Vec<Kind>,
    /// The records that were looked at, if that was only a sample.
    pub sampled: Option<u64>,
}

impl Content {
    /// Counts records, of which there are about `records`.
    ///
    /// # Errors
    /// The server refused, or it took too long.
    #[allow(clippy::cast_precision_loss)]
    pub fn read(client: &mut Client, schema: &str, records: u64) -> Result<Self, Error> {
        let is_sample = records > COUNTED;
        let sample = match is_sample {
            true => {
                let percent = (SAMPLED / records as f64 * 100.0).clamp(0.000_001, 100.0);
                format!("TABLESAMPLE SYSTEM ({percent:.9}) REPEATABLE (1)")
            }
            false => String::new(),
        };
        let rows = client.query(
            &format!(
                "SELECT split_part(uri, '/', 4), left(\"indexedAt\", 7), count(*), coalesce(sum(octet_length(json)), 0)::bigint
                 FROM \"{schema}\".record {sample} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT $1"
            ),
            &[&KINDS],
        )?;
        let looked: i64 = rows.iter().map(|row| row.get::<_, i64>(2)).sum();
        let scale = match is_sample && looked > 0 {
            true => records as f64 / looked as f64,
            false => 1.0,
        };
        let kind = |row: &postgres::Row| Kind {
            collection: row.get(0),
            month: row.get(1),
            records: row.get::<_, i64>(2) as f64 * scale,
            bytes: row.get::<_, i64>(3) as f64 * scale,
        };
        Ok(Self {
            kinds: rows.iter().map(kind).collect(),
            sampled: is_sample.then_some(u64::try_from(looked).unwrap_or(0)),
        })
    }
}

/// A table with its indexes.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Rows, as the server estimates.
    pub rows: u64,
    /// Bytes of the table without its indexes.
    pub bytes: u64,
    /// Its indexes with their bytes, the largest first.
    pub indexes: Vec<(String, u64)>,
}

impl Relation {
    /// Bytes of all of its indexes.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.indexes.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The tables of the AppView's schema and of skyfill's, the largest first.
///
/// # Errors
/// The server refused, or it took too long.
pub fn relations(client: &mut Client, schema: &str) -> Result<Vec<Relation>, Error> {
    let rows = client.query(
        "SELECT n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::bigint, pg_table_size(c.oid),
           coalesce((SELECT array_agg(i.relname::text ORDER BY pg_relation_size(i.oid) DESC, i.relname) FROM pg_index x
             JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid), '{}'),
           coalesce((SELECT array_agg(pg_relation_size(i.oid) ORDER BY pg_relation_size(i.oid) DESC, i.relname) FROM pg_index x
             JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid), '{}')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ($1, 'skyfill') AND c.relkind = 'r' AND c.relname NOT LIKE 'probe\\_%'
         ORDER BY pg_total_relation_size(c.oid) DESC, 1, 2",
        &[&schema],
    )?;
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let relation = |row: &postgres::Row| {
        let (names, bytes): (Vec<String>, Vec<i64>) = (row.get(4), row.get(5));
        Relation {
            schema: row.get(0),
            table: row.get(1),
            rows: number(row.get(2)),
            bytes: number(row.get(3)),
            indexes: names
                .into_iter()
                .zip(bytes.into_iter().map(number))
                .collect(),
        }
    };
    Ok(rows.iter().map(relation).collect())
}

/// The server, as far as it matters for a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// Bytes of the whole database.
    pub database_bytes: u64,
    /// Its settings.
    pub settings: Vec<(String, String)>,
}

/// Asks the server.
///
/// # Errors
/// The server refused, or it took too long.
pub fn server(client: &mut Client) -> Result<ServerFacts, Error> {
    let row = client.query_one(
        "SELECT version(), pg_database_size(current_database())",
        &[],
    )?;
    let settings = client.query(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1) ORDER BY name",
        &[&SETTINGS],
    )?;
    Ok(ServerFacts {
        version: row.get(0),
        database_bytes: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
        settings: settings
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    })
}
