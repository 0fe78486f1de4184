//! The progress of finalize (table `finalize_slice`). Each stage is cut into slices, and one
//! transaction does a slice.

use crate::locks::{self, Hold, Lock};
use pg::{DbError, Waits};
use postgres::{Error, GenericClient, Transaction};
use std::collections::HashMap;

/// A slice of a stage: from `lower` up to, but not, `upper`; open where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its number in the stage.
    pub number: i32,
    /// Where it begins.
    pub lower: Option<String>,
    /// Where the next one begins.
    pub upper: Option<String>,
}

/// How many slices of a stage there are, and how many are done.
///
/// # Errors
/// The server refused.
pub fn count(
    client: &mut impl GenericClient,
    schema: &str,
    stage: &str,
) -> Result<(u64, u64), Error> {
    let row = client.query_one(
        "SELECT count(*), count(*) FILTER (WHERE done) FROM skyfill.finalize_slice WHERE schema_name = $1 AND stage = $2",
        &[&schema, &stage],
    )?;
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok((number(0), number(1)))
}

/// The same of each stage that was planned.
///
/// # Errors
/// The server refused.
pub fn counts(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<HashMap<String, (u64, u64)>, Error> {
    let rows = client.query(
        "SELECT stage, count(*), count(*) FILTER (WHERE done) FROM skyfill.finalize_slice WHERE schema_name = $1 GROUP BY stage",
        &[&schema],
    )?;
    let number = |row: &postgres::Row, at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let of_stage = |row: &postgres::Row| (row.get(0), (number(row, 1), number(row, 2)));
    Ok(rows.iter().map(of_stage).collect())
}

/// How many slices of all stages there are so far, and how many of them are done.
///
/// # Errors
/// The server refused.
pub fn count_all(client: &mut impl GenericClient, schema: &str) -> Result<(u64, u64), Error> {
    let row = client.query_one(
        "SELECT count(*), count(*) FILTER (WHERE done) FROM skyfill.finalize_slice WHERE schema_name = $1",
        &[&schema],
    )?;
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok((number(0), number(1)))
}

/// Cuts a stage into slices at `bounds`; without any it is one slice. What comes after the last
/// bound belongs to no slice if the stage `is_closed`.
///
/// # Errors
/// The server refused.
pub fn plan(
    txn: &mut Transaction<'_>,
    schema: &str,
    stage: &str,
    bounds: &[String],
    is_closed: bool,
) -> Result<(), Error> {
    let statement = txn.prepare(
        "INSERT INTO skyfill.finalize_slice (schema_name, stage, number, lower_bound, upper_bound) VALUES ($1, $2, $3, $4, $5)",
    )?;
    let open = (!is_closed).then_some(None);
    let mut lower: Option<&String> = None;
    for (number, upper) in (0i32..).zip(bounds.iter().map(Some).chain(open)) {
        txn.execute(&statement, &[&schema, &stage, &number, &lower, &upper])?;
        lower = upper;
    }
    Ok(())
}

/// Makes each of these stages one slice, unless it was planned before.
///
/// # Errors
/// The server refused.
pub fn plan_whole(
    client: &mut impl GenericClient,
    schema: &str,
    stages: &[&str],
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.finalize_slice (schema_name, stage, number) SELECT $1, s, 0 FROM unnest($2::text[]) s
         WHERE NOT EXISTS (SELECT FROM skyfill.finalize_slice p WHERE p.schema_name = $1 AND p.stage = s)",
        &[&schema, &stages],
    )?;
    Ok(())
}

/// The statement that notes that a stage of one slice is done.
#[must_use]
pub fn whole_is_done(schema: &str, stage: &str) -> String {
    format!(
        "UPDATE skyfill.finalize_slice SET done = true WHERE schema_name = '{schema}' AND stage = '{stage}' AND number = 0"
    )
}

/// Claims the next slice of a stage that is not done, and holds it until the transaction ends.
/// Slices that others hold are left to them, or waited for if `wait`.
///
/// # Errors
/// The server refused.
pub fn claim(
    txn: &mut Transaction<'_>,
    schema: &str,
    stage: &str,
    wait: bool,
) -> Result<Option<Slice>, Error> {
    let skip = if wait { "" } else { "SKIP LOCKED" };
    let row = txn.query_opt(
        &format!(
            "SELECT number, lower_bound, upper_bound FROM skyfill.finalize_slice
             WHERE schema_name = $1 AND stage = $2 AND NOT done ORDER BY number LIMIT 1 FOR UPDATE {skip}"
        ),
        &[&schema, &stage],
    )?;
    Ok(row.map(|row| Slice {
        number: row.get(0),
        lower: row.get(1),
        upper: row.get(2),
    }))
}

/// Notes that a slice is done; in the transaction that did it.
///
/// # Errors
/// The server refused.
pub fn done(
    txn: &mut Transaction<'_>,
    schema: &str,
    stage: &str,
    number: i32,
) -> Result<(), Error> {
    txn.execute(
        "UPDATE skyfill.finalize_slice SET done = true WHERE schema_name = $1 AND stage = $2 AND number = $3",
        &[&schema, &stage, &number],
    )?;
    Ok(())
}

/// Forgets all slices, of all schemas: they share their work tables.
///
/// # Errors
/// The server refused.
pub fn forget(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("DELETE FROM skyfill.finalize_slice", &[])?;
    Ok(())
}

/// Whether the tables are there.
pub const EXISTS: &str = "SELECT (to_regclass('skyfill.finalized') IS NOT NULL)::int::bigint";

/// The statements with which a load that does not note its changes ([`crate::changes`]) says that
/// what finalize did so far is out of date; in the load's own transaction.
#[must_use]
pub fn out_of_date(schema: &str) -> String {
    format!(
        "DELETE FROM skyfill.finalize_slice WHERE schema_name = '{schema}';
         DELETE FROM skyfill.finalized WHERE schema_name = '{schema}'"
    )
}

/// The statement with which a load, before it commits, makes sure that [`after_loads`] waits for
/// it.
#[must_use]
pub fn load_commits() -> String {
    format!("SELECT pg_advisory_xact_lock_shared({})", Lock::Loads.key())
}

/// Waits until every load that is committing has done so; until this transaction ends, none begins
/// to.
///
/// # Errors
/// The server refused, or it was stopped while it waited.
pub fn after_loads(txn: &mut Transaction<'_>, waits: Waits<'_>) -> Result<(), DbError> {
    locks::acquire(txn, Lock::Loads, Hold::Transaction, waits)
}
