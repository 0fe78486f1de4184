//! Records to rows: what the official indexer writes for a record that stands alone.
//!
//! [`index`] takes one record in DAG-CBOR and hands rows to a sink; nothing here knows SQL, sockets
//! or other records. Rows that need rows of other repos (flags of replies and gates, counts, quote
//! and reply notifications) are made later, from the tables. Each collection has a file in
//! `collections/`.
//!
//! Before that the record is checked against its lexicon as strictly as the official indexer does;
//! [`check`] does only that.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod aturi;
mod build;
mod choose;
mod collection;
mod collections;
pub mod datetime;
mod fields;
mod from_json;
mod javascript;
mod json;
mod lexicon;
mod record;
pub mod reject;
mod reorder;
pub mod route;
mod row;

pub use choose::{GROUPS, Meant, meant_by};
pub use collection::Collection;
pub use collections::{own_table, tables_of};
pub use from_json::{DagCbor, from_json, from_stored_json};
pub use json::{to_json, to_whole_json};
pub use lexicon::MAX_SAFE_INTEGER;
pub use record::Record;
pub use reject::Reject;
pub use row::{Field, Rows};

use appview::table;
use atrepo::cbor::{Map, Writer};

/// Checks a record as the official indexer does before it writes anything, and returns its JSON for
/// `record.json`.
///
/// # Errors
/// The official indexer refuses it, too.
pub fn check(collection: Collection, value: Map<'_>) -> Result<String, Reject> {
    let copy = javascript::copy(value)?;
    let mut json = String::new();
    check_copied(collection, copied(value, copy.as_ref()), &mut json)?;
    Ok(json)
}

/// The value as the official code has it.
fn copied<'a>(value: Map<'a>, copy: Option<&'a Writer>) -> Map<'a> {
    copy.and_then(|copy| copy.item().as_map()).unwrap_or(value)
}

/// Appends the record's JSON; whether it can be read back.
fn check_copied(collection: Collection, value: Map<'_>, json: &mut String) -> Result<bool, Reject> {
    // The check goes first: a record that is refused costs no JSON.
    collections::check(collection, value)?;
    json::append_json(value, json)
}

/// What [`index`] learns of a record beside its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Whether [`from_json`] makes the same DAG-CBOR of `record.json` again. Rare records are not
    /// what JavaScript makes of them.
    pub is_reversible: bool,
}

/// Hands the rows of `record` to `rows`: the `record` row first, then those of its collection.
///
/// # Errors
/// The record leaves nothing; the rows that were handed over already are to be thrown away.
pub fn index(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<Indexed, Reject> {
    let copy = javascript::copy(record.value)?;
    let read = Record {
        value: copied(record.value, copy.as_ref()),
        ..*record
    };
    let indexed = index_stored(&read, rows)?;
    Ok(Indexed {
        is_reversible: indexed.is_reversible && copy.is_none(),
    })
}

/// Hands the rows of a record whose value comes from `record.json` ([`from_stored_json`]) to
/// `rows`, as [`index`] does. JavaScript has read such a value already: what it drops is dropped.
///
/// # Errors
/// As [`index`].
pub fn index_stored(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<Indexed, Reject> {
    // What follows the DID in the URI was checked by those who made it. Of DIDs, only those with
    // these characters may be no authority.
    if memchr::memchr2(b'_', b'%', record.did.as_bytes()).is_some()
        && !aturi::is_authority(record.did)
    {
        return Err(aturi::no_authority("the URI of the record"));
    }
    let mut json = rows.take_text();
    let is_reversible = check_copied(record.collection, record.value, &mut json)?;
    rows.push(
        &table::RECORD,
        [record.uri, record.cid, record.did, &json, record.indexed_at].map(Field::Text),
    )?;
    rows.give_back(json);
    collections::index(record, rows)?;
    Ok(Indexed { is_reversible })
}

/// The `createdAt` of a record as the official code reads it, if it is a text: without the byte
/// order mark that its decoder drops in front of a key or a text.
#[must_use]
pub fn created_at<'a>(value: &Map<'a>) -> Option<&'a str> {
    let field = value
        .get("createdAt")
        .or_else(|| value.get("\u{feff}createdAt"))?;
    field.as_text().map(javascript::read)
}
