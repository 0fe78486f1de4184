//! The statements that move a batch from its temporary tables ([`load::staging`]) to the real ones.
//!
//! Records are inserted with ON CONFLICT DO NOTHING. Rows that depend on a record's own row
//! (embeds, notifications) are inserted only if this statement inserted that row. So the same
//! records a second time change nothing. Rows are inserted in the order in which they were copied,
//! because one process reads temporary tables from front to back. So of two that collide, the first
//! wins.

use appview::table::{self, TableInfo};
use load::staging::{self, NOT_MUTED};
use std::fmt::Write;

/// The statement that empties the temporary tables of `tables`.
pub(crate) fn truncate(tables: &[(TableInfo, &[u8])]) -> String {
    let names: Vec<String> = tables
        .iter()
        .map(|(table, _)| format!("pg_temp.\"{}\"", staging::name_of(table)))
        .collect();
    format!("TRUNCATE {}", names.join(", "))
}

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
        staging::name_of(table)
    )
}

/// Notes those staged records that have no row in `own` because another record's row has their
/// unique key. (While the unique constraint is dropped all of them have a row, and
/// [`load::indexes::restore`] settles it.)
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
        staging::name_of(own),
        own.name,
        key.join(" AND "),
        own.name
    ))
}
