//! Which commands use a schema: each holds a shared lock while it works, so that nobody drops the
//! schema meanwhile.
//!
//! The lock belongs to a session, so it ends with its process, however that ends.

use crate::locks::{HOLDERS, PRESENCE, PROCESSES};
use postgres::{Error, GenericClient};

/// Says that this session works on `schema`, until it ends. False if somebody is about to drop it.
///
/// # Errors
/// The server refused.
pub fn announce(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let sql = format!("SELECT pg_try_advisory_lock_shared({PRESENCE}, hashtext($1))");
    client.query_one(&sql, &[&schema])?.try_get(0)
}

/// Makes sure that nobody works on `schema`, and that nobody begins to until this session ends;
/// else the process ids of the server that work for those who do.
///
/// # Errors
/// The server refused.
pub fn alone(client: &mut impl GenericClient, schema: &str) -> Result<Result<(), Vec<i32>>, Error> {
    let sql = format!("SELECT pg_try_advisory_lock({PRESENCE}, hashtext($1))");
    if client.query_one(&sql, &[&schema])?.try_get(0)? {
        return Ok(Ok(()));
    }
    let sql = format!(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {PRESENCE} AND objsubid = 2
           AND objid::bigint = hashtext($1)::bigint & 4294967295
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted ORDER BY pid"
    );
    let rows = client.query(&sql, &[&schema])?;
    let holders: Result<Vec<i32>, Error> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(Err(holders?))
}

/// Whether a session that is alive leases a host of `schema`, or notes how a command on it goes: it
/// works there, though its lock may have been lost with a connection.
///
/// # Errors
/// The server refused.
pub fn is_worked_on(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let sql = format!(
        "WITH held AS (
           SELECT classid, objid::bigint AS id FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid IN ({HOLDERS}, {PROCESSES})
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
         SELECT EXISTS (SELECT FROM skyfill.host h JOIN held l ON l.classid = {HOLDERS} AND l.id = h.holder
                        WHERE h.schema_name = $1 AND h.lease_until > now())
           OR EXISTS (SELECT FROM skyfill.process p JOIN held l ON l.classid = {PROCESSES} AND l.id = p.id
                      WHERE p.schema_name = $1 AND p.ended_at IS NULL)"
    );
    client.query_one(&sql, &[&schema])?.try_get(0)
}
