//! PostgreSQL's side: WAL, checkpoints, sizes, sessions and what they wait for. Statements that any
//! role may run; none of them reads a table of the AppView or of the ledger.

use postgres::{Client, Error, Row};
use serde::Serialize;

/// Sessions and tables that are named.
const MOST_SESSIONS: i64 = 50;
const MOST_TABLES: i64 = 100;

/// What the server's counters say. All of them grow from its start or its last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Totals {
    /// Its version.
    pub(crate) version: String,
    /// Bytes of the database.
    pub(crate) database_bytes: i64,
    /// Bytes of WAL, of the whole server.
    pub(crate) wal_bytes: i64,
    pub(crate) checkpoints_timed: i64,
    /// Checkpoints because `max_wal_size` was reached, or on request.
    pub(crate) checkpoints_requested: i64,
    pub(crate) checkpoint_write_seconds: f64,
    pub(crate) rows_inserted: i64,
    pub(crate) rows_updated: i64,
    pub(crate) rows_deleted: i64,
    pub(crate) commits: i64,
    pub(crate) rollbacks: i64,
    pub(crate) temp_bytes: i64,
    /// Share of pages that were found in the server's memory, from 0 to 1.
    pub(crate) hit_share: Option<f64>,
    pub(crate) max_wal_size: String,
    pub(crate) shared_buffers: String,
}

/// A session of the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) state: String,
    /// What it waits for; empty, if for nothing.
    pub(crate) wait: String,
    /// Seconds that it is in this state.
    pub(crate) seconds: f64,
}

impl Session {
    /// Whether it works, and does not wait.
    pub(crate) fn is_at_work(&self) -> bool {
        self.state == "active"
    }
}

/// A table with its indexes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Rows, as the server's statistics have them.
    pub(crate) rows: i64,
    /// Bytes of rows and TOAST.
    pub(crate) table_bytes: i64,
    pub(crate) index_bytes: i64,
}

/// What every session of the dashboard begins with: it only reads, waits for no lock for long, and
/// takes one core of the server at most.
pub(crate) fn session(longest_statement: &str) -> String {
    format!(
        "SET statement_timeout = '{longest_statement}'; SET lock_timeout = '2s';
         SET default_transaction_read_only = on; SET max_parallel_workers_per_gather = 0;
         SET application_name = 'skyfill dashboard'"
    )
}

/// The server's counters.
pub(crate) fn totals(client: &mut Client) -> Result<Totals, Error> {
    // Since version 17, checkpoints have a view of their own.
    let has_checkpointer: bool = client
        .query_one(
            "SELECT to_regclass('pg_catalog.pg_stat_checkpointer') IS NOT NULL",
            &[],
        )?
        .try_get(0)?;
    let checkpoints = match has_checkpointer {
        true => "SELECT num_timed, num_requested, write_time FROM pg_stat_checkpointer",
        false => {
            "SELECT checkpoints_timed, checkpoints_req, checkpoint_write_time FROM pg_stat_bgwriter"
        }
    };
    let points = client.query_one(checkpoints, &[])?;
    let row = client.query_one(
        "SELECT current_setting('server_version'), pg_database_size(d.datname),
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0')::bigint,
           d.tup_inserted, d.tup_updated, d.tup_deleted, d.xact_commit, d.xact_rollback, d.temp_bytes,
           d.blks_hit::float8 / nullif(d.blks_hit + d.blks_read, 0), current_setting('max_wal_size'), current_setting('shared_buffers')
         FROM pg_stat_database d WHERE d.datname = current_database()",
        &[],
    )?;
    Ok(Totals {
        version: row.try_get(0)?,
        database_bytes: row.try_get(1)?,
        wal_bytes: whole(&row, 2)?,
        checkpoints_timed: whole(&points, 0)?,
        checkpoints_requested: whole(&points, 1)?,
        checkpoint_write_seconds: points.try_get::<_, Option<f64>>(2)?.unwrap_or(0.0) / 1000.0,
        rows_inserted: whole(&row, 3)?,
        rows_updated: whole(&row, 4)?,
        rows_deleted: whole(&row, 5)?,
        commits: whole(&row, 6)?,
        rollbacks: whole(&row, 7)?,
        temp_bytes: whole(&row, 8)?,
        hit_share: row.try_get(9)?,
        max_wal_size: row.try_get(10)?,
        shared_buffers: row.try_get(11)?,
    })
}

fn whole(row: &Row, at: usize) -> Result<i64, Error> {
    Ok(row.try_get::<_, Option<i64>>(at)?.unwrap_or(0))
}

/// Sessions of the database, this one not counted; those at work first. Of other roles' sessions,
/// a role without privileges sees the names alone.
pub(crate) fn sessions(client: &mut Client) -> Result<Vec<Session>, Error> {
    let rows = client.query(
        "SELECT coalesce(nullif(application_name, ''), 'without a name'), coalesce(state, 'not visible'),
           CASE WHEN state = 'active' THEN coalesce(wait_event_type || ': ' || wait_event, '') ELSE '' END,
           coalesce(extract(epoch FROM clock_timestamp() - state_change), 0)::float8
         FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
           AND application_name <> 'skyfill dashboard'
         ORDER BY state = 'active' DESC NULLS LAST, 1, pid LIMIT $1",
        &[&MOST_SESSIONS],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Session {
                name: row.try_get(0)?,
                state: row.try_get(1)?,
                wait: row.try_get(2)?,
                seconds: row.try_get(3)?,
            })
        })
        .collect()
}

/// Tables of the AppView's schema and of the ledger, the largest first. Sizes are those of the
/// files, and cost a look at each.
pub(crate) fn tables(client: &mut Client, schema: &str) -> Result<Vec<Table>, Error> {
    let rows = client.query(
        "SELECT n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::bigint, pg_table_size(c.oid), pg_indexes_size(c.oid)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname IN ($1, 'skyfill')
         ORDER BY pg_table_size(c.oid) + pg_indexes_size(c.oid) DESC, 1, 2 LIMIT $2",
        &[&schema, &MOST_TABLES],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Table {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
                rows: row.try_get(2)?,
                table_bytes: whole(row, 3)?,
                index_bytes: whole(row, 4)?,
            })
        })
        .collect()
}
