//! The temporary tables of a merge, and COPY into them and into the real ones. Each table of the
//! AppView has a temporary table of the same columns; rows of a merge wait there. What moves them
//! on differs: whole repos are compared with what is stored (`replace`), and the line form
//! of the crate `consumer` inserts what is new.

use crate::copy::{self, HEADER, TRAILER};
use appview::table::{self, Kind, TableInfo};
use pg::DbError;
use postgres::Client;

/// Settings of a new connection.
pub(crate) fn session_settings(schema: &str) -> String {
    format!(
        "{};
         SET synchronous_commit = on;
         SET synchronize_seqscans = off;
         SET client_min_messages = warning;",
        pg::search_path(schema)
    )
}

/// Settings and temporary tables of a new connection that merges rows of any table.
#[must_use]
pub fn session(schema: &str) -> String {
    let creates: String = table::ALL.iter().map(create).collect();
    format!("{}{creates}", session_settings(schema))
}

/// Creates the temporary table of `table`.
pub(crate) fn create(table: &TableInfo) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let kind = match column.kind {
                Kind::Jsonb => "jsonb",
                Kind::Text => "text",
            };
            format!("\"{}\" {kind}", column.name)
        })
        .collect();
    format!(
        "CREATE TEMPORARY TABLE \"{}\" ({});",
        name_of(table),
        columns.join(", ")
    )
}

/// Name of the temporary table of `table`.
#[must_use]
pub fn name_of(table: &TableInfo) -> String {
    format!("new_{}", table.name)
}

/// The COPY of encoded rows straight into their table.
#[must_use]
pub fn copy_into(table: &TableInfo) -> String {
    format!(
        "COPY \"{}\" ({}) FROM STDIN BINARY",
        table.name,
        table.column_list()
    )
}

/// The COPY of encoded rows into the temporary table of their table.
#[must_use]
pub fn stage_into(table: &TableInfo) -> String {
    format!(
        "COPY pg_temp.\"{}\" ({}) FROM STDIN BINARY",
        name_of(table),
        table.column_list()
    )
}

/// Copies encoded rows straight into their table.
///
/// # Errors
/// See [`DbError`].
pub fn copy_rows(client: &mut Client, table: &TableInfo, rows: &[u8]) -> Result<(), DbError> {
    copy::copy_in(client, &copy_into(table), &[HEADER, rows, TRAILER])
}

/// Fills the temporary tables of `tables`.
pub(crate) fn stage(client: &mut Client, tables: &[(TableInfo, &[u8])]) -> Result<(), DbError> {
    for (table, rows) in tables {
        copy::copy_in(client, &stage_into(table), &[HEADER, rows, TRAILER])?;
    }
    Ok(())
}

/// The one filter of the official indexer (`indexing/processor.ts`): threads that the recipient
/// muted.
pub const NOT_MUTED: &str = "NOT EXISTS (
    SELECT FROM thread_mute m JOIN post p ON m.\"rootUri\" = coalesce(p.\"replyRoot\", p.uri)
    WHERE m.\"mutedByDid\" = n.did AND p.uri = n.\"reasonSubject\")";

/// Reasons of notifications that do not follow from their record alone, as SQL lists them: quotes
/// and replies need other repos' rows, and of a verification that is gone the official code tells
/// after its record is.
pub const RELATIONAL_REASONS: &str = "'quote', 'reply', 'unverified'";
