//! Drops indexes and constraints after saving their definitions, and rebuilds them.
//!
//! A rebuild ([`Rebuild`]) works on several connections: the `board` decides what each does next
//! and with how much of the server, `build` builds one index.

mod board;
mod build;
mod rebuild;
mod resources;
mod server;

pub use rebuild::{Rebuild, RebuildError, Rebuilding};
pub use resources::Resources;
pub use server::{ServerWork, sessions_at_work, under_way};

use ledger::dropped::{self, Dropped};
use pg::{DbError, Waits};
use postgres::{Client, Error, Transaction};

/// What `migrate --drop-follow-indexes` drops, as the original script did; the primary key stays.
const FOLLOW: &[&str] = &[
    "follow_creator_cursor_idx",
    "follow_subject_cursor_idx",
    "follow_unique_subject",
];

/// Drops the indexes of `follow` and its unique constraint, and remembers them in the same
/// transaction. What is dropped already is left alone. Returns the names.
///
/// # Errors
/// The server refused, or somebody holds the table for more than ten seconds.
pub fn drop_follow(
    client: &mut Client,
    schema: &str,
    waits: Waits<'_>,
) -> Result<Vec<String>, DbError> {
    ledger::prepare(client, waits)?;
    let mut txn = client.transaction()?;
    txn.batch_execute(&format!(
        "SET LOCAL lock_timeout = '10s'; LOCK TABLE \"{schema}\".follow IN ACCESS EXCLUSIVE MODE"
    ))?;
    let names = drop_some(&mut txn, schema, &["follow"], |name| FOLLOW.contains(&name))?;
    txn.commit()?;
    Ok(names)
}

/// Drops those indexes and constraints of `tables` that `which` names, and remembers them in the
/// same transaction. Returns the names. What foreign keys or a replica identity stand on stays:
/// they are somebody else's, and would go with it.
pub(crate) fn drop_some(
    txn: &mut Transaction<'_>,
    schema: &str,
    tables: &[&str],
    which: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Error> {
    let found = txn.query(
        "SELECT t.relname::text, i.relname::text, con.conname IS NOT NULL,
                CASE WHEN con.conname IS NULL THEN pg_get_indexdef(i.oid)
                     ELSE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', $1::text, t.relname, con.conname, pg_get_constraintdef(con.oid)) END,
                CASE WHEN con.contype IN ('p', 'u') THEN pg_get_indexdef(i.oid) END,
                coalesce((SELECT spcname::text FROM pg_tablespace WHERE oid = i.reltablespace), '')
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
           JOIN pg_namespace n ON n.oid = t.relnamespace
         LEFT JOIN pg_constraint con ON con.conindid = i.oid AND con.conrelid = t.oid AND con.contype IN ('p', 'u', 'x')
         WHERE n.nspname = $1::text AND t.relname::text = ANY($2) AND NOT x.indisreplident
           AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conindid = i.oid AND f.contype = 'f') ORDER BY 1, 2",
        &[&schema, &tables],
    )?;
    let mut names = Vec::new();
    for row in found {
        let (table, name, is_constraint): (String, String, bool) =
            (row.get(0), row.get(1), row.get(2));
        if !which(&name) {
            continue;
        }
        let statement = if is_constraint {
            format!("ALTER TABLE \"{schema}\".\"{table}\" DROP CONSTRAINT \"{name}\"")
        } else {
            format!("DROP INDEX \"{schema}\".\"{name}\"")
        };
        dropped::save(
            txn,
            schema,
            &Dropped {
                table,
                name: name.clone(),
                ddl: row.get(3),
                index: row.get(4),
                tablespace: row.get(5),
            },
        )?;
        txn.batch_execute(&statement)?;
        names.push(name);
    }
    Ok(names)
}

/// What is missing in `schema` because skyfill dropped it.
///
/// # Errors
/// The server refused.
pub fn missing(client: &mut Client, schema: &str) -> Result<Vec<Dropped>, Error> {
    if !ledger::exists(client)? {
        return Ok(Vec::new());
    }
    dropped::list(client, schema)
}

/// What happens to rows that violate a unique key that is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// The first by rkey stays; the others become duplicates, as if they had been refused. These
    /// rows came as lines while the key was dropped.
    Settle,
    /// The error names them. A load of whole repos stores none, so somebody else wrote them.
    Name,
}
