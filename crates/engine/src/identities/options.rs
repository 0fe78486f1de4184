//! How accounts are looked up.

use crate::documents::Directory;
use crate::identities::bulk::Bulk;
use std::path::PathBuf;

/// How accounts are looked up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done about handles.
    pub handles: HandleMode,
    /// Which documents are read in bulk from the PLC export first.
    pub bulk: Bulk,
    /// Whether what could not be reached is due now, whatever its time.
    pub retry: bool,
    /// Whether all accounts are due.
    pub recheck: bool,
    /// A DID file whose accounts are looked up, too.
    pub dids: Option<PathBuf>,
    /// Whether handles that are stored as claimed are verified when all accounts were looked up.
    pub settles: bool,
    /// The time for `indexedAt`, in milliseconds since 1970.
    pub now: i64,
    /// Where documents and handles are asked for.
    pub directory: Directory,
    /// Accounts that are looked up concurrently.
    pub concurrency: usize,
}

/// What is done about handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleMode {
    /// Those of [`crate::identities::MANY`] accounts or more are stored as documents claim them,
    /// and verified later; others are verified.
    Auto,
    /// They are verified, both ways.
    Verified,
    /// They are stored as documents claim them, and marked to be verified later.
    Claimed,
}
