//! Loads into empty tables: indexes and constraints are dropped before, and rebuilt after.
//!
//! The same transaction that drops them saves their definitions (`dropped_ddl`). So whatever stops
//! skyfill, the next start, or `skyfill indexes restore`, rebuilds them. Autovacuum is off for
//! these tables meanwhile, see [`crate::freeze`].

use crate::copy::{self, HEADER, TRAILER};
use crate::{freeze, indexes};
use appview::table;
use ledger::failpoint;
use ledger::locks::{self, Hold, Lock};
use ledger::repos;
use ledger::runs::{self, Mode, Run};
use pg::{DbError, Waits};
use postgres::{Client, Error};
use std::fmt;

/// Why tables cannot be loaded fresh.
#[derive(Debug)]
pub enum FreshError {
    /// This table has rows.
    NotEmpty(String),
    /// Another session uses the tables, and did not release them in time.
    InUse(DbError),
    /// The database.
    Database(DbError),
}

impl fmt::Display for FreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty(table) => write!(f, "table {table} has rows"),
            Self::InUse(error) => write!(f, "another session holds the tables: {error}"),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FreshError {}

impl<E: Into<DbError>> From<E> for FreshError {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.sqlstate.as_deref() {
            Some("55P03") => Self::InUse(error),
            _ => Self::Database(error),
        }
    }
}

/// One of the tables that repos fill which has rows, if there is one.
///
/// # Errors
/// The server refused.
pub fn filled_table(
    client: &mut impl postgres::GenericClient,
    schema: &str,
) -> Result<Option<&'static str>, Error> {
    for info in table::ALL {
        let sql = format!("SELECT EXISTS (SELECT FROM \"{schema}\".\"{}\")", info.name);
        if client.query_one(&sql, &[])?.get(0) {
            return Ok(Some(info.name));
        }
    }
    Ok(None)
}

/// Begins a run. A fresh one locks the tables, checks that they are empty, saves their indexes and
/// constraints and drops them, all in one transaction with the run's row.
///
/// # Errors
/// See [`FreshError`]; nothing was changed.
pub fn begin(
    client: &mut Client,
    schema: &str,
    run: &Run,
    waits: Waits<'_>,
) -> Result<i64, FreshError> {
    let mut txn = client.transaction()?;
    make_probes(&mut txn, schema, waits)?;
    if run.mode == Mode::Fresh {
        let names: Vec<String> = table::ALL
            .iter()
            .map(|info| format!("\"{schema}\".\"{}\"", info.name))
            .collect();
        txn.batch_execute(&format!(
            "SET LOCAL lock_timeout = '10s'; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            names.join(", ")
        ))?;
        if let Some(table) = filled_table(&mut txn, schema)? {
            return Err(FreshError::NotEmpty(table.to_owned()));
        }
        let tables: Vec<&str> = table::ALL.iter().map(|info| info.name).collect();
        indexes::drop_some(&mut txn, schema, &tables, |_| true)?;
        freeze::pause_autovacuum(&mut txn, schema)?;
        // The tables do not have what the ledger knows of an earlier load, so that is loaded again.
        repos::forget_loaded(&mut txn, schema)?;
    }
    let id = runs::begin(&mut txn, schema, run)?;
    failpoint::pass("begin");
    txn.commit()?;
    failpoint::pass("begun");
    Ok(id)
}

/// The prefix of the names of a schema's empty copies. Names have at most 63 bytes, so the name of
/// a long schema is cut and a hash added.
fn probe_prefix(schema: &str) -> String {
    let hash = schema.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("probe_{:08x}_", hash >> 32)
}

/// Name of the empty copy of a table, with its indexes: rows that may exceed the index entry limit
/// are tried against it. It is kept, because others may use it.
fn probe_table(schema: &str, table: &str) -> String {
    format!("skyfill.\"{}{table}\"", probe_prefix(schema))
}

/// Creates the empty copies that do not exist.
///
/// # Errors
/// The server refused, or skyfill was stopped while it waited.
pub fn prepare_probes(client: &mut Client, schema: &str, waits: Waits<'_>) -> Result<(), DbError> {
    let mut txn = client.transaction()?;
    make_probes(&mut txn, schema, waits)?;
    Ok(txn.commit()?)
}

fn make_probes(
    client: &mut impl postgres::GenericClient,
    schema: &str,
    waits: Waits<'_>,
) -> Result<(), DbError> {
    locks::acquire(client, Lock::Probes, Hold::Transaction, waits)?;
    client.batch_execute("SET LOCAL client_min_messages = warning")?;
    for info in table::ALL {
        let probe = probe_table(schema, info.name);
        let table = format!("\"{schema}\".\"{}\"", info.name);
        if is_outdated(client, &probe, &table)? {
            client.batch_execute(&format!("DROP TABLE {probe}"))?;
        }
        client.batch_execute(&format!(
            "CREATE UNLOGGED TABLE IF NOT EXISTS {probe}
             (LIKE {table} INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING GENERATED INCLUDING INDEXES)"
        ))?;
    }
    Ok(())
}

/// Whether a twin is that of an earlier state of its table: migrations added or dropped columns, or
/// added indexes. Fewer indexes are those that a load dropped.
fn is_outdated(
    client: &mut impl postgres::GenericClient,
    probe: &str,
    table: &str,
) -> Result<bool, Error> {
    let row = client.query_one(
        "SELECT to_regclass($1) IS NOT NULL AND (
           (SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)) <
           (SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($2))
           OR (SELECT array_agg((attname, atttypid, attnotnull) ORDER BY attname)
               FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped)
             IS DISTINCT FROM (SELECT array_agg((attname, atttypid, attnotnull) ORDER BY attname)
               FROM pg_attribute WHERE attrelid = to_regclass($2) AND attnum > 0 AND NOT attisdropped))",
        &[&probe, &table],
    )?;
    row.try_get(0)
}

/// Drops the empty copies, when their schema is dropped.
///
/// # Errors
/// The server refused.
pub fn drop_probes(client: &mut Client, schema: &str) -> Result<(), Error> {
    let names: Vec<String> = table::ALL
        .iter()
        .map(|info| probe_table(schema, info.name))
        .collect();
    client.batch_execute(&format!(
        "SET client_min_messages = warning; DROP TABLE IF EXISTS {}; RESET client_min_messages",
        names.join(", ")
    ))
}

/// Tables and columns of btree indexes, from the empty copies.
///
/// # Errors
/// The server refused.
pub fn indexed_columns(client: &mut Client, schema: &str) -> Result<Vec<(String, String)>, Error> {
    let prefix = probe_prefix(schema);
    let rows = client.query(
        "SELECT DISTINCT substr(t.relname::text, length($1) + 1), a.attname::text
         FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
           JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree'
           JOIN pg_attribute a ON a.attrelid = i.oid AND NOT a.attisdropped
         WHERE n.nspname = 'skyfill' AND starts_with(t.relname::text, $1)",
        &[&prefix],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A connection that tries the rows of one record against the empty copies. Nothing is stored.
pub struct Probes {
    url: String,
    schema: String,
    client: Option<Client>,
}

impl Probes {
    /// Connects at the first use.
    #[must_use]
    pub fn new(url: &str, schema: &str) -> Self {
        Self {
            url: url.to_owned(),
            schema: schema.to_owned(),
            client: None,
        }
    }

    /// Why the server refuses the rows; `None` if it accepts them.
    ///
    /// # Errors
    /// The server could not be asked.
    pub fn ask(&mut self, tables: &[(table::TableInfo, &[u8])]) -> Result<Option<String>, DbError> {
        let outcome = self.try_ask(tables);
        if outcome.is_err() {
            self.client = None;
        }
        outcome
    }

    fn try_ask(&mut self, tables: &[(table::TableInfo, &[u8])]) -> Result<Option<String>, DbError> {
        if self.client.is_none() {
            let mut client = pg::connect(&self.url)?;
            client.batch_execute("SET client_min_messages = warning")?;
            self.client = Some(client);
        }
        let client = self
            .client
            .as_mut()
            .ok_or_else(|| DbError::lost("not connected"))?;
        client.batch_execute("BEGIN")?;
        for (info, rows) in tables {
            let sql = format!(
                "COPY {} ({}) FROM STDIN BINARY",
                probe_table(&self.schema, info.name),
                info.column_list()
            );
            match copy::copy_in(client, &sql, &[HEADER, rows, TRAILER]) {
                Ok(()) => {}
                Err(error) if crate::decide(&error) == crate::Decision::Split => {
                    client.batch_execute("ROLLBACK")?;
                    return Ok(Some(error.message));
                }
                Err(error) => return Err(error),
            }
        }
        client.batch_execute("ROLLBACK")?;
        Ok(None)
    }
}
