//! What the server is at: builds and vacuums that run, and sessions that work.

use postgres::{Client, Error};

/// What the server is at for long.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerWork {
    /// An index or a vacuum, of which table.
    pub what: String,
    /// What it does now.
    pub phase: String,
    /// How far that is, from 0 to 1.
    pub share: Option<f64>,
}

/// Indexes that are being built and tables that are being vacuumed in this database
/// (`pg_stat_progress_create_index`, `pg_stat_progress_vacuum`).
///
/// # Errors
/// The server refused.
pub fn under_way(client: &mut Client) -> Result<Vec<ServerWork>, Error> {
    let rows = client.query(
        "SELECT 'index of ' || coalesce(c.relname::text, p.relid::text), replace(p.phase, 'building index: ', ''),
           CASE WHEN p.tuples_total > 0 THEN p.tuples_done::float8 / p.tuples_total
                WHEN p.blocks_total > 0 THEN p.blocks_done::float8 / p.blocks_total END
         FROM pg_stat_progress_create_index p LEFT JOIN pg_class c ON c.oid = p.relid
         WHERE p.datname = current_database()
         UNION ALL
         SELECT coalesce(c.relname::text, p.relid::text), p.phase,
           CASE WHEN p.heap_blks_total > 0 THEN p.heap_blks_scanned::float8 / p.heap_blks_total END
         FROM pg_stat_progress_vacuum p LEFT JOIN pg_class c ON c.oid = p.relid
         WHERE p.datname = current_database() ORDER BY 1",
        &[],
    )?;
    let work = |row: &postgres::Row| ServerWork {
        what: row.get(0),
        phase: row.get(1),
        share: row.get(2),
    };
    Ok(rows.iter().map(work).collect())
}

/// Sessions of this user in this database that are at work now, and how many of them wait for the
/// disk.
///
/// # Errors
/// The server refused.
pub fn sessions_at_work(client: &mut Client) -> Result<(u64, u64), Error> {
    let row = client.query_one(
        "SELECT count(*),
           count(*) FILTER (WHERE wait_event_type = 'IO' OR wait_event LIKE 'WAL%')
         FROM pg_stat_activity
         WHERE datname = current_database() AND usename = current_user
           AND state = 'active' AND pid <> pg_backend_pid()",
        &[],
    )?;
    let [all, on_disk] = [0, 1].map(|at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0));
    Ok((all, on_disk))
}
