//! The work tables and functions of finalize, and the tables of what it keeps for the next time.
//!
//! Whoever computes everything makes the work tables anew, before and after, since they may be large.
//! For changes they are kept: to make fifteen tables with their indexes, and to have every session
//! forget what it knew of the last ones, costs the server more than most changes do.

use load::DbError;
use postgres::Transaction;

const TABLES: &str = include_str!("../sql/tables.sql");
const FUNCTIONS: &str = include_str!("../sql/functions.sql");

/// The work tables whose rows are numbered.
const NUMBERED: [&str; 3] = ["finalize_bad", "finalize_up", "finalize_post"];

/// Tables that have more bytes than this are truncated; DELETE empties a small one sooner.
const TRUNCATED_AT: i64 = 1 << 20;

/// Makes the work tables anew.
pub(crate) fn make(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    drop_all(txn)?;
    txn.batch_execute(FUNCTIONS)?;
    txn.batch_execute(TABLES)?;
    let origin = origin(txn)?;
    txn.batch_execute(&format!(
        "COMMENT ON TABLE skyfill.finalize_change IS '{origin}'"
    ))?;
    Ok(())
}

/// Makes sure that they are there, as this version of skyfill has them, and empty.
pub(crate) fn ready(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    let sql = "SELECT obj_description(to_regclass('skyfill.finalize_change'), 'pg_class')";
    let made: Option<String> = txn.query_one(sql, &[])?.get(0);
    if made.is_none() || made != Some(origin(txn)?) {
        return make(txn);
    }
    // Whoever was interrupted left rows.
    empty(txn)
}

/// Empties them.
pub(crate) fn empty(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    let filled = txn.query(
        "SELECT c.relname::text, pg_relation_size(c.oid) FROM pg_class c
         WHERE c.relnamespace = 'skyfill'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^finalize_'
           AND c.relname <> 'finalize_slice' AND pg_relation_size(c.oid) > 0",
        &[],
    )?;
    let mut sql = String::new();
    for row in filled {
        let (table, bytes): (String, i64) = (row.get(0), row.get(1));
        sql.push_str(&match bytes > TRUNCATED_AT {
            true => format!("TRUNCATE skyfill.{table};"),
            false => format!("DELETE FROM skyfill.{table};"),
        });
        if NUMBERED.contains(&table.as_str()) {
            let sequence = format!("pg_get_serial_sequence('skyfill.{table}', 'number')");
            sql.push_str(&format!("SELECT setval({sequence}, 1, false);"));
        }
    }
    Ok(txn.batch_execute(&sql)?)
}

/// Drops the work tables and functions.
pub(crate) fn drop_all(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    Ok(txn.batch_execute(include_str!("../sql/drop.sql"))?)
}

/// The tables of what finalize keeps for the next time, empty.
pub(crate) fn make_derived(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    drop_derived(txn)?;
    Ok(txn.batch_execute(include_str!("../sql/derived.sql"))?)
}

/// Drops them.
pub(crate) fn drop_derived(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    Ok(txn.batch_execute(include_str!("../sql/drop-derived.sql"))?)
}

/// What the work tables and functions of this version are made from.
fn origin(txn: &mut Transaction<'_>) -> Result<String, DbError> {
    let sql = "SELECT encode(sha256(convert_to($1::text || $2::text, 'UTF8')), 'hex')";
    Ok(txn.query_one(sql, &[&FUNCTIONS, &TABLES])?.get(0))
}
