//! Dropping indexes and constraints with a way back, and putting them back.

use ledger::dropped::{self, Dropped};
use postgres::{Client, Error};

/// What `migrate --drop-follow-indexes` drops, as the original script did; the primary key stays.
const FOLLOW: &[&str] = &[
    "follow_creator_cursor_idx",
    "follow_subject_cursor_idx",
    "follow_unique_subject",
];

/// Drops the indexes of `follow` and its unique constraint, and remembers them in the same transaction. What is
/// dropped already is left alone. Returns the names.
///
/// # Errors
/// The server refused, or somebody holds the table for more than ten seconds.
pub fn drop_follow(client: &mut Client, schema: &str) -> Result<Vec<String>, Error> {
    ledger::prepare(client)?;
    let mut txn = client.transaction()?;
    txn.batch_execute(&format!(
        "SET LOCAL lock_timeout = '10s'; LOCK TABLE \"{schema}\".follow IN ACCESS EXCLUSIVE MODE"
    ))?;
    let found = txn.query(
        "SELECT i.relname::text, con.conname IS NOT NULL,
                CASE WHEN con.conname IS NULL THEN pg_get_indexdef(i.oid)
                     ELSE format('ALTER TABLE %I.follow ADD CONSTRAINT %I %s', $1::text, con.conname, pg_get_constraintdef(con.oid)) END
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
         LEFT JOIN pg_constraint con ON con.conindid = i.oid
         WHERE x.indrelid = format('%I.follow', $1::text)::regclass AND i.relname::text = ANY($2) ORDER BY 1",
        &[&schema, &FOLLOW],
    )?;
    let mut names = Vec::new();
    for row in found {
        let (name, is_constraint, ddl): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
        let statement = if is_constraint {
            format!("ALTER TABLE \"{schema}\".follow DROP CONSTRAINT \"{name}\"")
        } else {
            format!("DROP INDEX \"{schema}\".\"{name}\"")
        };
        dropped::save(
            &mut txn,
            schema,
            &Dropped {
                table: "follow".to_owned(),
                name: name.clone(),
                ddl,
            },
        )?;
        txn.batch_execute(&statement)?;
        names.push(name);
    }
    txn.commit()?;
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

/// Makes `what` again and forgets that it was dropped.
///
/// # Errors
/// The server refused; for a unique constraint, because rows that break it came in meanwhile.
pub fn restore(client: &mut Client, schema: &str, what: &Dropped) -> Result<(), Error> {
    let mut txn = client.transaction()?;
    // Somebody may have put it back by hand.
    let there = txn.query_opt(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        &[&schema, &what.name],
    )?;
    if there.is_none() {
        txn.batch_execute(&what.ddl)?;
    }
    dropped::forget(&mut txn, schema, &what.name)?;
    txn.commit()
}
