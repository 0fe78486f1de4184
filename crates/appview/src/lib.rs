//! The schema of the official AppView, `@atproto/bsky`: its migrations step by step, and the column
//! lists of the tables that repos fill. skyfill's own tables are in the crate `ledger`.

#[cfg(feature = "migrate")]
pub mod drift;
#[cfg(feature = "migrate")]
pub mod migrate;
pub mod migrations;
#[cfg(feature = "migrate")]
pub mod recreate;
pub mod table;

/// Whether the schema can have this `name`: the official service accepts letters and underscores
/// only (`data-plane/server/db/db.ts`).
#[must_use]
pub fn is_schema_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
}
