//! Which consumer reads which shard of a stream: each holds an advisory lock per shard, so that no
//! two consumers of one database read the same shard.
//!
//! The locks belong to a session, so they end with its process, however that ends. Two consumers
//! that read one shard would do no harm to the tables, but each would get half of the pieces of a
//! large part.

use crate::locks::{READERS, SHARDS};
use postgres::{Error, GenericClient};

/// Says that this session reads from `stream`, until it ends. The server notices within two minutes
/// if its machine is gone.
///
/// # Errors
/// The server refused.
pub fn join(client: &mut impl GenericClient, stream: &str) -> Result<(), Error> {
    client.batch_execute(
        "SET tcp_keepalives_idle = '60s'; SET tcp_keepalives_interval = '15s'; SET tcp_keepalives_count = 4",
    )?;
    let sql = format!("SELECT pg_advisory_lock_shared({READERS}, hashtext($1))");
    client.execute(&sql, &[&stream])?;
    Ok(())
}

/// How many sessions read from `stream`.
///
/// # Errors
/// The server refused.
pub fn readers(client: &mut impl GenericClient, stream: &str) -> Result<u32, Error> {
    let sql = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {READERS} AND objsubid = 2
           AND objid::bigint = hashtext($1)::bigint & 4294967295
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted"
    );
    let count: i64 = client.query_one(&sql, &[&stream])?.try_get(0)?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Takes a shard of `stream` if nobody has it.
///
/// # Errors
/// The server refused.
pub fn try_take(client: &mut impl GenericClient, stream: &str, shard: u32) -> Result<bool, Error> {
    let sql = format!("SELECT pg_try_advisory_lock({SHARDS}, hashtext($1))");
    client.query_one(&sql, &[&key(stream, shard)])?.try_get(0)
}

/// Gives a shard of `stream` back.
///
/// # Errors
/// The server refused.
pub fn release(client: &mut impl GenericClient, stream: &str, shard: u32) -> Result<(), Error> {
    let sql = format!("SELECT pg_advisory_unlock({SHARDS}, hashtext($1))");
    client.execute(&sql, &[&key(stream, shard)])?;
    Ok(())
}

/// Shards whose keys have one hash are read by one consumer after the other, which costs time
/// alone.
fn key(stream: &str, shard: u32) -> String {
    format!("{stream} {shard}")
}
