//! One build: the statements that the server carries out, in one message.
//!
//! The statements of one message are one transaction. So an index and its line in the ledger are
//! committed together, and the server needs no client for that: if skyfill is killed while an index
//! is built, the server finishes it and notes it. Whoever comes next waits for that build, because
//! its session holds the lock on it ([`ledger::locks::acquire_build`]).

use super::Conflicts;
use super::resources::Share;
use appview::table::TableInfo;
use ledger::dropped::{self, Dropped};
use ledger::locks;
use pg::{DbError, Waits};
use postgres::Client;
use postgres::error::SqlState;

/// What is there after a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// All of it.
    Whole,
    /// The index of a constraint, which is to be added to it.
    Index,
}

/// A session that builds indexes. It sends nothing to the client before a message is carried out,
/// not even warnings, and does not look whether the client is still there: else it would break off
/// when skyfill is killed.
pub(super) fn session(url: &str, schema: &str) -> Result<Client, DbError> {
    let mut client = pg::connect(url)?;
    client.batch_execute(&format!(
        "{}; SET client_min_messages = error; SET client_connection_check_interval = 0",
        pg::search_path(schema)
    ))?;
    Ok(client)
}

/// Builds the index that `what` is or stands on, unless it is there.
pub(super) fn build(
    client: &mut Client,
    schema: &str,
    what: &Dropped,
    share: Share,
    conflicts: Conflicts,
    waits: Waits<'_>,
) -> Result<Built, DbError> {
    locks::acquire_build(client, schema, &what.name, waits)?;
    let outcome = build_alone(client, schema, what, share, conflicts);
    if outcome.is_ok() {
        locks::release_build(client, schema, &what.name)?;
    }
    outcome
}

fn build_alone(
    client: &mut Client,
    schema: &str,
    what: &Dropped,
    share: Share,
    conflicts: Conflicts,
) -> Result<Built, DbError> {
    // A build that was waited for may have been this one.
    if !dropped::is_listed(client, schema, &what.name)? {
        return Ok(Built::Whole);
    }
    // Somebody may have rebuilt it by hand. The index of a constraint may be there without it.
    let row = client.query_one(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = $1 AND c.relname = $2),
           EXISTS (SELECT FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
                   WHERE n.nspname = $1 AND k.conname = $2)",
        &[&schema, &what.name],
    )?;
    let (has_index, has_constraint): (bool, bool) = (row.get(0), row.get(1));
    let is_index_only = what.index.is_some() && !has_constraint;
    if has_index && is_index_only {
        return Ok(Built::Index);
    }
    if has_index {
        client.batch_execute(&dropped::forget(schema, &what.name))?;
        return Ok(Built::Whole);
    }
    let definition = checked_definition(client, schema, what)?;
    let mut statements = settings(client, schema, what, share)?;
    statements.push(definition.to_owned());
    if !is_index_only {
        statements.push(dropped::forget(schema, &what.name));
    }
    let outcome = client.batch_execute(&statements.join(";\n"));
    let outcome = outcome.map_err(DbError::from);
    let of_table = appview::table::ALL
        .iter()
        .find(|table| table.name == what.table && !table.unique.is_empty());
    match (outcome, of_table) {
        (Err(error), Some(table)) if conflicts == Conflicts::Settle && is_conflict(&error) => {
            statements.insert(0, settle(table, schema));
            client.batch_execute(&statements.join(";\n"))?;
        }
        (outcome, _) => outcome?,
    }
    Ok(if is_index_only {
        Built::Index
    } else {
        Built::Whole
    })
}

fn is_conflict(error: &DbError) -> bool {
    error.sqlstate.as_deref() == Some(SqlState::UNIQUE_VIOLATION.code())
}

/// The settings of the transaction of a build.
fn settings(
    client: &mut Client,
    schema: &str,
    what: &Dropped,
    share: Share,
) -> Result<Vec<String>, DbError> {
    // Definitions that earlier versions saved name the operator class of pg_trgm without its
    // schema.
    let row = client.query_one(
        "SELECT format('SET LOCAL search_path TO pg_catalog, %I, %I, pg_temp', $1::text, coalesce(
           (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
            WHERE e.extname = 'pg_trgm'), $1::text)),
           format('SET LOCAL default_tablespace TO %L', $2::text)",
        &[&schema, &what.tablespace],
    )?;
    let mut settings = vec![
        format!(
            "SET LOCAL maintenance_work_mem = '{}kB'",
            share.memory >> 10
        ),
        format!(
            "SET LOCAL max_parallel_maintenance_workers = {}",
            share.processes.saturating_sub(1).min(1024)
        ),
        row.get(0),
    ];
    if what.tablespace.is_some() {
        settings.push(row.get(1));
    }
    Ok(settings)
}

/// The definition of the index, or of the constraint with it, if it has the form that skyfill
/// saves and is one statement: it is executed with the rights of whoever runs this.
fn checked_definition<'d>(
    client: &mut Client,
    schema: &str,
    what: &'d Dropped,
) -> Result<&'d str, DbError> {
    let text = what.index.as_ref().unwrap_or(&what.ddl);
    let row = client.query_one(
        "SELECT bool_or(starts_with($4::text, form)) FROM (VALUES
           (format('CREATE INDEX %I ON %I.%I USING ', $3::text, $1::text, $2::text)),
           (format('CREATE UNIQUE INDEX %I ON %I.%I USING ', $3::text, $1::text, $2::text)),
           (format('ALTER TABLE %I.%I ADD CONSTRAINT %I ', $1::text, $2::text, $3::text))) f (form)",
        &[&schema, &what.table, &what.name, text],
    )?;
    // The server parses what is prepared, and refuses more than one statement.
    if row.get(0) && client.prepare(text).is_ok() {
        return Ok(text);
    }
    Err(DbError::other(format!(
        "the entry of skyfill.dropped_ddl for {} does not define an index or a constraint of {}: {text}",
        what.name, what.table
    )))
}

/// Adds constraints of one table to their indexes, and deletes their saved definitions. That locks
/// the table for as long as the catalog takes: PostgreSQL does not read the rows again.
pub(super) fn add_constraints(
    client: &mut Client,
    schema: &str,
    constraints: &[&Dropped],
    waits: Waits<'_>,
) -> Result<(), DbError> {
    let mut statements = Vec::new();
    for what in constraints {
        locks::acquire_build(client, schema, &what.name, waits)?;
        // A process that was killed may have come so far.
        if dropped::is_listed(client, schema, &what.name)? {
            statements.push(addition(client, schema, what)?);
            statements.push(dropped::forget(schema, &what.name));
        }
    }
    client.batch_execute(&statements.join(";\n"))?;
    for what in constraints {
        locks::release_build(client, schema, &what.name)?;
    }
    Ok(())
}

/// The statement that adds a constraint to its index, which has its name. It is made from the words
/// that `pg_get_constraintdef` begins and ends with.
fn addition(client: &mut Client, schema: &str, what: &Dropped) -> Result<String, DbError> {
    let row = client.query_one(
        "SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I ', $1::text, $2::text, $3::text),
           format('%I', $3::text)",
        &[&schema, &what.table, &what.name],
    )?;
    let (begin, name): (String, String) = (row.get(0), row.get(1));
    let definition = what.ddl.strip_prefix(&begin).unwrap_or_default();
    let kind = ["PRIMARY KEY", "UNIQUE"];
    let Some(kind) = kind.into_iter().find(|kind| definition.starts_with(kind)) else {
        return Err(DbError::other(format!(
            "the entry of skyfill.dropped_ddl for {} does not define a constraint of {}: {}",
            what.name, what.table, what.ddl
        )));
    };
    let ends = [" DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"];
    let end = ends.into_iter().find(|end| definition.ends_with(end));
    let end = end.unwrap_or_default();
    Ok(format!("{begin}{kind} USING INDEX {name}{end}"))
}

/// SQL: turns all rows of `table` but the first of each unique key into duplicates, and removes
/// their notifications.
fn settle(table: &TableInfo, schema: &str) -> String {
    let key: Vec<String> = table
        .unique
        .iter()
        .map(|column| format!("\"{column}\""))
        .collect();
    let (key, name) = (key.join(", "), table.name);
    format!(
        "SET LOCAL search_path TO pg_catalog, \"{schema}\", pg_temp;
         LOCK TABLE \"{name}\" IN ACCESS EXCLUSIVE MODE;
         CREATE TEMPORARY TABLE loser ON COMMIT DROP AS
           SELECT * FROM (SELECT uri, cid, \"indexedAt\",
             first_value(uri) OVER (PARTITION BY {key} ORDER BY split_part(uri, '/', 5) COLLATE \"C\", uri COLLATE \"C\") AS winner
             FROM \"{name}\") ranked WHERE uri <> winner;
         INSERT INTO duplicate_record (uri, cid, \"duplicateOf\", \"indexedAt\")
           SELECT uri, cid, winner, \"indexedAt\" FROM loser ON CONFLICT DO NOTHING;
         DELETE FROM notification WHERE \"recordUri\" IN (SELECT uri FROM loser);
         DELETE FROM \"{name}\" WHERE uri IN (SELECT uri FROM loser)"
    )
}
