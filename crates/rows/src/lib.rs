//! Records to rows: what the official indexer writes for a record that stands alone.
//!
//! [`index`] takes one record in DAG-CBOR and hands rows to a sink; nothing here knows SQL, sockets or other
//! records. Rows that need rows of other repos (flags of replies and gates, counts, quote and reply
//! notifications) are made later, from the tables. Each collection has a file in `collections/`.
//!
//! What is checked here is what the rows need. The strict check of whole records against the lexicons is not
//! built yet; its place is in front of [`index`], beside [`reject`].

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
mod json;
pub mod reject;
mod row;

pub use collection::Collection;
pub use json::to_json;
pub use reject::Reject;
pub use row::{Field, Rows};

use appview::table;
use atrepo::cbor::Map;

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

/// Hands the rows of `record` to `rows`: the `record` row first, then those of its collection.
///
/// # Errors
/// The record leaves nothing; the rows that were handed over already are to be thrown away.
pub fn index(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let json = to_json(record.value)?;
    rows.push(
        &table::RECORD,
        [record.uri, record.cid, record.did, &json, record.indexed_at].map(Field::Text),
    )?;
    collections::index(record, rows)
}
