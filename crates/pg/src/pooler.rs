//! Poolers between skyfill and PostgreSQL, such as PgBouncer.
//!
//! skyfill's locks, prepared statements and temporary tables belong to a session. A pooler that
//! gives a server connection away after each transaction breaks them, and not always at once. Two
//! sessions that are open at the same time and are the same server process tell that there is one.

use crate::DbError;
use postgres::{Client, SimpleQueryMessage};

/// Makes sure that two open sessions are two sessions on the server, too.
///
/// # Errors
/// They are not, or the server refused.
pub fn require_sessions(first: &mut Client, second: &mut Client) -> Result<(), DbError> {
    if process(first)? != process(second)? {
        return Ok(());
    }
    Err(DbError::other(
        "a pooler (such as PgBouncer) stands before the server and shares its connections by transaction or statement; \
         skyfill's locks, prepared statements and temporary tables need sessions of their own",
    )
    .with_hint("connect to PostgreSQL itself (its own port), or set pool_mode = session for this database in the pooler"))
}

/// The server process behind a session. Asked without a prepared statement: a pooler may not know
/// them.
fn process(client: &mut Client) -> Result<Option<String>, DbError> {
    let messages = client.simple_query("SELECT pg_backend_pid()")?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
