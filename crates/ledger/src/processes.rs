//! Processes that work or worked on a schema (table `process`): which command, on which machine,
//! since when, and whether it is alive.
//!
//! A process holds an advisory lock of its number as long as its session lives. So others know that
//! it is gone, however it ended, even if it could not write that down.

use crate::locks::PROCESSES;
use postgres::{Error, GenericClient};

/// So many processes of a schema are remembered, with their history.
const REMEMBERED: i64 = 200;

/// A process that begins to work.
#[derive(Clone, Debug)]
pub struct Entering<'e> {
    /// The command, without `skyfill`.
    pub command: &'e str,
    /// The name of the machine.
    pub machine: &'e str,
    /// The process's id there.
    pub pid: u32,
    /// The version of skyfill.
    pub version: &'e str,
}

/// A process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its number in the ledger.
    pub id: i32,
    /// The command, without `skyfill`.
    pub command: String,
    /// The name of the machine.
    pub machine: String,
    /// The process's id there.
    pub pid: i32,
    /// The version of skyfill.
    pub version: String,
    /// Seconds since 1970 when it began.
    pub began: f64,
    /// The same when it last wrote.
    pub seen: f64,
    /// The same when it ended, if it could write that down.
    pub ended: Option<f64>,
    /// The run that it works on.
    pub run: Option<i64>,
    /// The phase that it is in, or was in.
    pub phase: Option<String>,
    /// Whether its session holds its lock.
    pub is_alive: bool,
}

/// Adds a process, and takes its lock; its number. Forgets those that ended long ago.
///
/// # Errors
/// The server refused.
pub fn enter(
    client: &mut impl GenericClient,
    schema: &str,
    entering: &Entering<'_>,
) -> Result<i32, Error> {
    let row = client.query_one(
        "INSERT INTO skyfill.process (schema_name, command, machine, pid, version) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        &[
            &schema,
            &entering.command,
            &entering.machine,
            &i32::try_from(entering.pid).unwrap_or(0),
            &entering.version,
        ],
    )?;
    let id: i32 = row.get(0);
    lock(client, id)?;
    client.execute(
        "DELETE FROM skyfill.process WHERE schema_name = $1 AND id <=
           (SELECT id FROM skyfill.process WHERE schema_name = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
        &[&schema, &REMEMBERED],
    )?;
    Ok(id)
}

/// Takes the lock of a process, for a session that takes the place of a lost one.
///
/// # Errors
/// The server refused.
pub fn lock(client: &mut impl GenericClient, id: i32) -> Result<(), Error> {
    client.batch_execute(&format!("SELECT pg_advisory_lock({PROCESSES}, {id})"))
}

/// Notes that a process is alive, and what it is at.
///
/// # Errors
/// The server refused.
pub fn seen(
    client: &mut impl GenericClient,
    id: i32,
    run: Option<i64>,
    phase: &str,
) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.process SET seen_at = clock_timestamp(), run = coalesce($2, run), phase = $3 WHERE id = $1",
        &[&id, &run, &phase],
    )?;
    Ok(())
}

/// Notes that a process ended by itself.
///
/// # Errors
/// The server refused.
pub fn leave(client: &mut impl GenericClient, id: i32) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.process SET ended_at = clock_timestamp() WHERE id = $1",
        &[&id],
    )?;
    Ok(())
}

/// The last `count` processes of a schema, the latest first.
///
/// # Errors
/// The server refused.
pub fn latest(
    client: &mut impl GenericClient,
    schema: &str,
    count: i64,
) -> Result<Vec<Process>, Error> {
    let sql = format!(
        "SELECT p.id, p.command, p.machine, p.pid, p.version, extract(epoch FROM p.began_at)::float8, extract(epoch FROM p.seen_at)::float8,
           extract(epoch FROM p.ended_at)::float8, p.run, p.phase,
           EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
             AND l.classid::bigint = {PROCESSES} AND l.objid::bigint = p.id
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
         FROM skyfill.process p WHERE p.schema_name = $1 ORDER BY p.id DESC LIMIT $2"
    );
    let rows = client.query(&sql, &[&schema, &count])?;
    let process = |row: &postgres::Row| Process {
        id: row.get(0),
        command: row.get(1),
        machine: row.get(2),
        pid: row.get(3),
        version: row.get(4),
        began: row.get(5),
        seen: row.get(6),
        ended: row.get(7),
        run: row.get(8),
        phase: row.get(9),
        is_alive: row.get(10),
    };
    Ok(rows.iter().map(process).collect())
}
