//! The SQL of a merge: temporary tables, COPY into them, and one statement that moves a batch on.
//!
//! Records are inserted with ON CONFLICT DO NOTHING. What hangs on a record's own row (embeds,
//! notifications) is inserted only if this statement inserted that row, so the same records a
//! second time change nothing. Rows are inserted in the order in which they were copied, so of two
//! that collide the first wins: temporary tables are read front to back by one process.

use crate::copy::{HEADER, TRAILER};
use crate::driver::{DbError, Driver};
use appview::table::{self, Kind, TableInfo};
use rows::Collection;
use std::fmt::Write;

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

/// Settings and temporary tables of a new connection.
pub(crate) fn prepare_session(driver: &mut dyn Driver, schema: &str) -> Result<(), DbError> {
    let mut sql = session_settings(schema);
    for table in table::ALL {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|c| {
                format!(
                    "\"{}\" {}",
                    c.name,
                    if c.kind == Kind::Jsonb {
                        "jsonb"
                    } else {
                        "text"
                    }
                )
            })
            .collect();
        let _ = write!(
            sql,
            "CREATE TEMPORARY TABLE \"{}\" ({});",
            staging(table),
            columns.join(", ")
        );
    }
    driver.batch(&sql)
}

/// Name of the temporary table of `table`.
pub(crate) fn staging(table: &TableInfo) -> String {
    format!("new_{}", table.name)
}

/// Copies encoded rows straight into their table.
///
/// # Errors
/// See [`DbError`].
pub fn copy_rows(driver: &mut dyn Driver, table: TableInfo, rows: &[u8]) -> Result<(), DbError> {
    let sql = format!(
        "COPY \"{}\" ({}) FROM STDIN BINARY",
        table.name,
        table.column_list()
    );
    driver.copy_in(&sql, &[HEADER, rows, TRAILER])
}

/// Fills the temporary tables of `tables`.
pub(crate) fn stage(driver: &mut dyn Driver, tables: &[(TableInfo, &[u8])]) -> Result<(), DbError> {
    for (table, rows) in tables {
        let sql = format!(
            "COPY pg_temp.\"{}\" ({}) FROM STDIN BINARY",
            staging(table),
            table.column_list()
        );
        driver.copy_in(&sql, &[HEADER, rows, TRAILER])?;
    }
    Ok(())
}

/// The statement that empties the temporary tables of `tables`.
pub(crate) fn truncate(tables: &[(TableInfo, &[u8])]) -> String {
    let names: Vec<String> = tables
        .iter()
        .map(|(table, _)| format!("pg_temp.\"{}\"", staging(table)))
        .collect();
    format!("TRUNCATE {}", names.join(", "))
}

/// The table of a collection's own rows, if it has one.
#[must_use]
pub fn own_table(collection: Collection) -> Option<TableInfo> {
    match collection {
        Collection::Post => Some(table::POST.info()),
        Collection::Threadgate => Some(table::THREAD_GATE.info()),
        Collection::Postgate => Some(table::POST_GATE.info()),
        Collection::Like => Some(table::LIKE.info()),
        Collection::Repost => Some(table::REPOST.info()),
        Collection::Generator => Some(table::FEED_GENERATOR.info()),
        Collection::Follow => Some(table::FOLLOW.info()),
        Collection::Block => Some(table::ACTOR_BLOCK.info()),
        Collection::List => Some(table::LIST.info()),
        Collection::ListItem => Some(table::LIST_ITEM.info()),
        Collection::ListBlock => Some(table::LIST_BLOCK.info()),
        Collection::StarterPack => Some(table::STARTER_PACK.info()),
        Collection::Verification => Some(table::VERIFICATION.info()),
        Collection::ReferenceListOptOut => Some(table::REFERENCE_LIST_OPT_OUT.info()),
        Collection::Profile => Some(table::PROFILE.info()),
        Collection::Labeler => Some(table::LABELER.info()),
        Collection::Status
        | Collection::NotificationDeclaration
        | Collection::ChatDeclaration
        | Collection::GermDeclaration => None,
    }
}

/// The one filter of the official indexer (`indexing/processor.ts`): threads that the recipient
/// muted.
pub(crate) const NOT_MUTED: &str = "NOT EXISTS (
    SELECT FROM thread_mute m JOIN post p ON m.\"rootUri\" = coalesce(p.\"replyRoot\", p.uri)
    WHERE m.\"mutedByDid\" = n.did AND p.uri = n.\"reasonSubject\")";

/// Reasons of notifications that do not follow from their record alone, as SQL lists them: quotes
/// and replies need other repos' rows, and of a verification that is gone the official code tells
/// after its record is.
pub const RELATIONAL_REASONS: &str = "'quote', 'reply', 'unverified'";

/// Moves what is staged in `tables` to the real ones. The statement answers how many rows of `own`
/// it inserted.
pub(crate) fn merge(own: Option<TableInfo>, tables: &[TableInfo]) -> String {
    let mut parts = Vec::new();
    let has_own = own.filter(|own| tables.iter().any(|t| t.id == own.id));
    if let Some(own) = &has_own {
        parts.push(format!("own AS ({} RETURNING uri)", insert(own, "")));
    }
    for (at, table) in tables.iter().enumerate() {
        if own.is_some_and(|own| own.id == table.id) {
            continue;
        }
        let mut condition = String::new();
        if !table.stands_alone() {
            let _ = write!(
                condition,
                " WHERE n.\"{}\" IN (SELECT uri FROM own)",
                table.uri
            );
        }
        if table.id == table::NOTIFICATION.info().id {
            let _ = write!(condition, " AND {NOT_MUTED}");
        }
        parts.push(format!("part{at} AS ({})", insert(table, &condition)));
    }
    let answer = if has_own.is_some() {
        "SELECT count(*) FROM own"
    } else {
        "SELECT 0::bigint"
    };
    format!("WITH {} {answer}", parts.join(", "))
}

fn insert(table: &TableInfo, condition: &str) -> String {
    let columns = table.column_list();
    // Notifications have no key but their number: nothing to collide with.
    let conflict = if table.id == table::NOTIFICATION.info().id {
        ""
    } else {
        " ON CONFLICT DO NOTHING"
    };
    format!(
        "INSERT INTO \"{}\" ({columns}) SELECT {columns} FROM pg_temp.\"{}\" n{condition}{conflict}",
        table.name,
        staging(table)
    )
}

/// Notes those staged records that have no row in `own` because another record's row has their
/// unique key. (While the unique constraint is dropped all of them have a row, and
/// [`crate::indexes::restore`] settles it.)
pub(crate) fn note_duplicates(own: &TableInfo) -> Option<String> {
    if own.unique.is_empty() {
        return None;
    }
    let key: Vec<String> = own
        .unique
        .iter()
        .map(|column| format!("w.\"{column}\" = n.\"{column}\""))
        .collect();
    Some(format!(
        "WITH noted AS (INSERT INTO duplicate_record (uri, cid, \"duplicateOf\", \"indexedAt\")
         SELECT n.uri, n.cid, w.uri, n.\"indexedAt\" FROM pg_temp.\"{}\" n JOIN \"{}\" w ON {} AND w.uri <> n.uri
         WHERE NOT EXISTS (SELECT FROM \"{}\" o WHERE o.uri = n.uri)
         ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM noted",
        staging(own),
        own.name,
        key.join(" AND "),
        own.name
    ))
}
