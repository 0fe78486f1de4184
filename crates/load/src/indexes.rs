//! Drops indexes and constraints after saving their definitions, and rebuilds them.

use appview::table::TableInfo;
use ledger::dropped::{self, Dropped};
use pg::{DbError, Waits};
use postgres::error::SqlState;
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
                     ELSE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', $1::text, t.relname, con.conname, pg_get_constraintdef(con.oid)) END
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

/// What the server is at for long.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerWork {
    /// An index or a vacuum, of which table.
    pub what: String,
    /// What it does now.
    pub phase: String,
    /// How far that is, from 0 to 1.
    pub share: Option<f64>,
}

/// Indexes that are being built and tables that are being vacuumed in this database
/// (`pg_stat_progress_create_index`, `pg_stat_progress_vacuum`).
///
/// # Errors
/// The server refused.
pub fn under_way(client: &mut Client) -> Result<Vec<ServerWork>, Error> {
    let rows = client.query(
        "SELECT 'index of ' || coalesce(c.relname::text, p.relid::text), p.phase,
           CASE WHEN p.tuples_total > 0 THEN p.tuples_done::float8 / p.tuples_total
                WHEN p.blocks_total > 0 THEN p.blocks_done::float8 / p.blocks_total END
         FROM pg_stat_progress_create_index p LEFT JOIN pg_class c ON c.oid = p.relid
         WHERE p.datname = current_database()
         UNION ALL
         SELECT coalesce(c.relname::text, p.relid::text), p.phase,
           CASE WHEN p.heap_blks_total > 0 THEN p.heap_blks_scanned::float8 / p.heap_blks_total END
         FROM pg_stat_progress_vacuum p LEFT JOIN pg_class c ON c.oid = p.relid
         WHERE p.datname = current_database() ORDER BY 1",
        &[],
    )?;
    let work = |row: &postgres::Row| ServerWork {
        what: row.get(0),
        phase: row.get(1),
        share: row.get(2),
    };
    Ok(rows.iter().map(work).collect())
}

/// Sessions of this user in this database that are at work now, and how many of them wait for the
/// disk.
///
/// # Errors
/// The server refused.
pub fn sessions_at_work(client: &mut Client) -> Result<(u64, u64), Error> {
    let row = client.query_one(
        "SELECT count(*),
           count(*) FILTER (WHERE wait_event_type = 'IO' OR wait_event LIKE 'WAL%')
         FROM pg_stat_activity
         WHERE datname = current_database() AND usename = current_user
           AND state = 'active' AND pid <> pg_backend_pid()",
        &[],
    )?;
    let [all, on_disk] = [0, 1].map(|at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0));
    Ok((all, on_disk))
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

/// Rebuilds `what`, and deletes its saved definition.
///
/// # Errors
/// The server refused; for a unique constraint, because rows violate it.
pub fn restore(
    client: &mut Client,
    schema: &str,
    what: &Dropped,
    conflicts: Conflicts,
) -> Result<(), DbError> {
    let outcome = try_restore(client, schema, what, None);
    let table = appview::table::ALL
        .iter()
        .find(|table| table.name == what.table && !table.unique.is_empty());
    let is_conflict =
        |error: &DbError| error.sqlstate.as_deref() == Some(SqlState::UNIQUE_VIOLATION.code());
    match (outcome, table) {
        (Err(error), Some(table)) if conflicts == Conflicts::Settle && is_conflict(&error) => {
            try_restore(client, schema, what, Some(&settle(table, schema)))
        }
        (outcome, _) => outcome,
    }
}

fn try_restore(
    client: &mut Client,
    schema: &str,
    what: &Dropped,
    before: Option<&str>,
) -> Result<(), DbError> {
    let mut txn = client.transaction()?;
    if !is_definition(&mut txn, schema, what)? {
        return Err(DbError::other(format!(
            "the entry of skyfill.dropped_ddl for {} does not define an index or a constraint of {}: {}",
            what.name, what.table, what.ddl
        )));
    }
    // Somebody may have rebuilt it by hand.
    let there = txn.query_opt(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        &[&schema, &what.name],
    )?;
    if there.is_none() {
        if let Some(sql) = before {
            txn.batch_execute(sql)?;
        }
        // Definitions that earlier versions saved name the operator class of pg_trgm without its
        // schema.
        txn.execute(
            "SELECT set_config('search_path', format('pg_catalog, %I, %I, pg_temp', $1::text, coalesce(
               (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                WHERE e.extname = 'pg_trgm'), $1::text)), true)",
            &[&schema],
        )?;
        // As a prepared statement, so that it is only one statement.
        txn.execute(what.ddl.as_str(), &[])?;
    }
    dropped::forget(&mut txn, schema, &what.name)?;
    Ok(txn.commit()?)
}

/// Whether a saved definition has the form that [`drop_some`] saves. It is executed with the rights
/// of whoever runs this.
fn is_definition(txn: &mut Transaction<'_>, schema: &str, what: &Dropped) -> Result<bool, Error> {
    let row = txn.query_one(
        "SELECT bool_or(starts_with($4::text, form)) FROM (VALUES
           (format('CREATE INDEX %I ON %I.%I USING ', $3::text, $1::text, $2::text)),
           (format('CREATE UNIQUE INDEX %I ON %I.%I USING ', $3::text, $1::text, $2::text)),
           (format('ALTER TABLE %I.%I ADD CONSTRAINT %I ', $1::text, $2::text, $3::text))) f (form)",
        &[&schema, &what.table, &what.name, &what.ddl],
    )?;
    Ok(row.get(0))
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
