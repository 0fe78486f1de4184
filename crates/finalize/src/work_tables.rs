//! The work tables and functions of finalize, and the tables of what it keeps for the next time.
//!
//! Whoever computes everything makes the work tables anew, before and after, since they may be
//! large. For changes they are kept: to make fifteen tables with their indexes, and to have every
//! session forget what it knew of the last ones, costs the server more than most changes do. What
//! was noted beside another indexer is computed with tables of its own, which are dropped.

use load::DbError;
use postgres::Transaction;

const TABLES: &str = include_str!("../sql/tables.sql");
const FUNCTIONS: &str = include_str!("../sql/functions.sql");

/// The work tables, and whether their rows are numbered.
const NAMES: [(&str, bool); 15] = [
    ("finalize_bad", true),
    ("finalize_climb", false),
    ("finalize_up", true),
    ("finalize_root", false),
    ("finalize_gate", false),
    ("finalize_listed", false),
    ("finalize_hidden", false),
    ("finalize_mention", false),
    ("finalize_disabled", false),
    ("finalize_barred", false),
    ("finalize_shut", false),
    ("finalize_difference", false),
    ("finalize_change", false),
    ("finalize_post", true),
    ("finalize_requote", false),
];

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
    let origin = origin(txn)?;
    let row = txn.query_one(
        "SELECT coalesce(obj_description(to_regclass('skyfill.finalize_change'), 'pg_class') = $1, false)
           AND (SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'skyfill'::regnamespace
                  AND c.relname::text = ANY($2) AND c.relowner = current_user::regrole) = cardinality($2)
           AND (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'skyfill'::regnamespace
                  AND p.proname::text = ANY($3) AND p.proowner = current_user::regrole) = cardinality($3)",
        &[&origin, &names(), &functions()],
    )?;
    if !row.get::<_, bool>(0) {
        return make(txn);
    }
    // Whoever was interrupted left rows.
    empty(txn)
}

/// Empties them.
pub(crate) fn empty(txn: &mut Transaction<'_>) -> Result<(), DbError> {
    let filled = txn.query(
        "SELECT c.relname::text, pg_relation_size(c.oid) FROM pg_class c
         WHERE c.relnamespace = 'skyfill'::regnamespace AND c.relname::text = ANY($1) AND pg_relation_size(c.oid) > 0",
        &[&names()],
    )?;
    let mut sql = String::new();
    for row in filled {
        let (table, bytes): (String, i64) = (row.get(0), row.get(1));
        sql.push_str(&match bytes > TRUNCATED_AT {
            true => format!("TRUNCATE skyfill.{table};"),
            false => format!("DELETE FROM skyfill.{table};"),
        });
        if NAMES.contains(&(table.as_str(), true)) {
            let sequence = format!("pg_get_serial_sequence('skyfill.{table}', 'number')");
            sql.push_str(&format!("SELECT setval({sequence}, 1, false);"));
        }
    }
    Ok(txn.batch_execute(&sql)?)
}

fn names() -> Vec<&'static str> {
    NAMES.iter().map(|(name, _)| *name).collect()
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

/// The names of the functions.
fn functions() -> Vec<&'static str> {
    let made = FUNCTIONS
        .split("CREATE OR REPLACE FUNCTION skyfill.")
        .skip(1);
    made.filter_map(|rest| rest.split_once('('))
        .map(|(name, _)| name)
        .collect()
}

/// What the work tables and functions of this version are made from.
fn origin(txn: &mut Transaction<'_>) -> Result<String, DbError> {
    let sql = "SELECT encode(sha256(convert_to($1::text || $2::text, 'UTF8')), 'hex')";
    Ok(txn.query_one(sql, &[&FUNCTIONS, &TABLES])?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_tables() {
        for (name, is_numbered) in NAMES {
            let begin = format!("CREATE TABLE skyfill.{name} (");
            let (_, columns) = TABLES.split_once(&begin).expect(name);
            let (columns, _) = columns.split_once(";").unwrap_or((columns, ""));
            assert_eq!(
                columns.contains("number bigint GENERATED"),
                is_numbered,
                "{name}"
            );
        }
        assert_eq!(TABLES.matches("CREATE TABLE ").count(), NAMES.len());
    }
}
