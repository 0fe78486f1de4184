//! One record, before it becomes rows.

use crate::collection::Collection;
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
