//! A part of a repo while it comes over a framed stream: what is checked of it before anything of
//! it is stored.
//!
//! A part passes if its commit is of its account, its keys are in order and of its collections,
//! each block has its CID, and as many entries came as its end counts. So a stream that was cut has
//! no part that its producer did not send, and a part with a frame that was changed on its way has
//! the same blocks or does not pass. No hash covers the rest of the header and the keys: a process
//! that may connect to the socket may send what it likes there.

use crate::frames::PartHeader;
use atrepo::{Cid, Commit, RecordError, syntax};
use std::fmt;

/// A part that has begun.
#[derive(Debug)]
pub struct IncomingPart {
    header: PartHeader,
    rev: String,
    entries: u64,
    last_key: Vec<u8>,
}

/// Why something is not a part of a repo, or not in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartError {
    did: String,
    why: String,
}

impl PartError {
    /// An error in the part of `did`.
    #[must_use]
    pub fn new(did: &str, why: impl fmt::Display) -> Self {
        Self {
            did: did.to_owned(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.did, self.why)
    }
}

impl std::error::Error for PartError {}

impl IncomingPart {
    /// A part begins.
    ///
    /// # Errors
    /// Its commit is none, or is of another account.
    pub fn begin(header: PartHeader) -> Result<Self, PartError> {
        let commit =
            Commit::parse(&header.commit).map_err(|why| PartError::new(&header.did, why))?;
        if commit.did != header.did {
            let why = format!("the commit is of {}", commit.did);
            return Err(PartError::new(&header.did, why));
        }
        Ok(Self {
            header,
            rev: commit.rev,
            entries: 0,
            last_key: Vec::new(),
        })
    }

    /// What it is of.
    #[must_use]
    pub fn header(&self) -> &PartHeader {
        &self.header
    }

    /// The rev of its commit.
    #[must_use]
    pub fn rev(&self) -> &str {
        &self.rev
    }

    /// Entries so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry comes: its key, its CID, and its block or why it has none.
    ///
    /// # Errors
    /// It is not in its place, or the block is another one.
    pub fn entry(
        &mut self,
        key: &[u8],
        cid: &Cid,
        block: &Result<&[u8], RecordError>,
    ) -> Result<(), PartError> {
        let header = &self.header;
        let wrong = |why: &str| Err(PartError::new(&header.did, why));
        if self.entries > 0 && key <= self.last_key.as_slice() {
            return wrong("keys out of order");
        }
        if block.as_ref().is_ok_and(|block| !cid.matches(block)) {
            return wrong("a block that does not match its CID");
        }
        let collection = syntax::split_key(key).map_or("", |(collection, _)| collection);
        let part = rows::route::socket_of(collection, usize::from(header.parts));
        if part != usize::from(header.part) {
            return wrong(&format!("{collection} does not belong to this part"));
        }
        self.entries = self.entries.saturating_add(1);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// The part ends, with this number of entries.
    ///
    /// # Errors
    /// Another number of entries came.
    pub fn end(&self, entries: u64) -> Result<(), PartError> {
        if self.entries == entries {
            return Ok(());
        }
        let why = format!("{} entries came of {entries}", self.entries);
        Err(PartError::new(&self.header.did, why))
    }

    /// The header of a part that has ended, and the rev of its commit.
    #[must_use]
    pub fn into_header(self) -> (PartHeader, String) {
        (self.header, self.rev)
    }
}
