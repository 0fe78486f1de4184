//! Records to rows: what the official indexer writes for a record that stands alone.
//!
//! [`index`] takes one record in DAG-CBOR and hands rows to a sink; nothing here knows SQL, sockets or other
//! records. Rows that need rows of other repos (flags of replies and gates, counts, quote and reply
//! notifications) are made later, from the tables. Each collection has a file in `collections/`.
//!
//! Before that the record is checked against its lexicon as strictly as the official indexer does; [`check`] does only
//! that.

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
mod collection;
mod collections;
pub mod datetime;
mod fields;
mod javascript;
mod json;
mod lexicon;
pub mod reject;
mod row;

pub use collection::Collection;
pub use json::{to_json, to_whole_json};
pub use lexicon::MAX_SAFE_INTEGER;
pub use reject::Reject;
pub use row::{Field, Rows};

use appview::table;
use atrepo::cbor::{Map, Writer};

/// A record as it comes from a repo or a socket.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The repo's account.
    pub did: &'a str,
    /// Its collection.
    pub collection: Collection,
    /// Its key.
    pub rkey: &'a str,
    /// `at://did/collection/rkey`.
    pub uri: &'a str,
    /// Its CID as text.
    pub cid: &'a str,
    /// When the indexer saw it, or is said to have: stored verbatim.
    pub indexed_at: &'a str,
    /// Its value.
    pub value: Map<'a>,
}

/// Checks a record as the official indexer does before it writes anything, and returns its JSON for `record.json`.
///
/// # Errors
/// The official indexer refuses it, too.
pub fn check(collection: Collection, value: Map<'_>) -> Result<String, Reject> {
    let copy = javascript::copy(value)?;
    check_copied(collection, copied(value, copy.as_ref()))
}

/// The value as the official code has it.
fn copied<'a>(value: Map<'a>, copy: Option<&'a Writer>) -> Map<'a> {
    copy.and_then(|copy| copy.item().as_map()).unwrap_or(value)
}

fn check_copied(collection: Collection, value: Map<'_>) -> Result<String, Reject> {
    let json = to_json(value)?;
    collections::check(collection, value)?;
    Ok(json)
}

/// Hands the rows of `record` to `rows`: the `record` row first, then those of its collection.
///
/// # Errors
/// The record leaves nothing; the rows that were handed over already are to be thrown away.
pub fn index(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    aturi::authority(record.uri, "the URI of the record")?;
    let copy = javascript::copy(record.value)?;
    let record = &Record {
        value: copied(record.value, copy.as_ref()),
        ..*record
    };
    let json = check_copied(record.collection, record.value)?;
    rows.push(
        &table::RECORD,
        [record.uri, record.cid, record.did, &json, record.indexed_at].map(Field::Text),
    )?;
    collections::index(record, rows)
}
