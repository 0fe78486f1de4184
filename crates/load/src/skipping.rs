//! Why an entry of a repo is skipped before its rows are made: by its key, its block, its
//! collection, and what the run chose. Whoever loads a repo, applies a commit, or compares a
//! database with a repo asks here; the consumer of lines, which has no repos, decides by itself.
//! What is found while rows are made stands where they are made: [`Reason::Refused`],
//! [`Reason::RefusedByDatabase`] and what `--since` leaves out.

use crate::choice::Choice;
use atrepo::cbor::Map;
use atrepo::{Cid, Entry, RecordError};
use ledger::skipped::Reason;
use rows::Collection;

/// A record that an AppView knows and the run takes.
#[derive(Debug)]
pub struct Taken<'e, 'a> {
    /// Its collection.
    pub collection: Collection,
    /// Its key.
    pub rkey: &'e str,
    /// The CID of its block.
    pub cid: Cid,
    /// Its fields.
    pub value: Map<'a>,
}

/// The record that an entry is.
///
/// # Errors
/// The reason why it is skipped, with more about it. Of several it is the first: key, block,
/// collection, choice, and what the block holds.
pub fn taken<'e, 'a>(
    entry: &Entry<'e, 'a>,
    choice: &Choice,
) -> Result<Taken<'e, 'a>, (Reason, String)> {
    let (collection, rkey, cid, value) = match entry {
        Entry::Record {
            collection,
            rkey,
            cid,
            value,
            ..
        } => (*collection, *rkey, *cid, value),
        Entry::BadKey { .. } => return Err((Reason::BadKey, String::new())),
        Entry::BadRecord { error, .. } => {
            let reason = match error {
                RecordError::TooLarge { .. } | RecordError::Shared { .. } => Reason::OverLimit,
                _ => Reason::Unreadable,
            };
            return Err((reason, error.to_string()));
        }
    };
    let Some(known) = Collection::parse(collection) else {
        return Err((Reason::Unindexed, String::new()));
    };
    if !choice.takes(known) {
        return Err((Reason::NotChosen, String::new()));
    }
    match value.as_map() {
        Some(value) => Ok(Taken {
            collection: known,
            rkey,
            cid,
            value,
        }),
        None => Err((Reason::Unreadable, "no map".to_owned())),
    }
}
