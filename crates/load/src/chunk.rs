//! Encoded rows of whole repos on their way to the database, and what is known of those repos.
//!
//! A chunk counts all that it holds, not rows alone: a repo without records, or one whose records
//! were all skipped, takes memory, too.

use appview::table::{self, TableInfo};
use ledger::proofs::Proof;
use std::sync::Arc;

/// What a repo or a piece of a list costs beside its texts.
const BESIDE_TEXTS: usize = 256;

/// Encoded rows on their way to the database.
pub struct Chunk {
    /// By [`TableInfo::id`].
    pub(crate) tables: Vec<Vec<u8>>,
    /// Pieces of lists of skipped records: DID, part, number, bytes.
    pub(crate) pieces: Vec<Piece>,
    /// The repos that end in this chunk.
    pub(crate) repos: Vec<LoadedRepo>,
    /// The repo that goes on in the next chunk.
    pub(crate) open: Option<LoadedRepo>,
    pub(crate) bytes: usize,
    pub(crate) records: u64,
}

/// A piece of a list of skipped records.
pub(crate) struct Piece {
    pub(crate) did: String,
    pub(crate) part: i16,
    pub(crate) number: i32,
    pub(crate) bytes: Vec<u8>,
}

/// What is known of a repo when all of its rows are made.
#[derive(Clone, Debug, Default)]
pub struct LoadedRepo {
    /// The account.
    pub did: String,
    /// The lease of its host; for a part that came over a socket, whatever finds that again.
    pub lease: i64,
    /// Which part of the repo this is, and of how many, if it came over a socket.
    pub part: Option<PartOf>,
    /// Revision.
    pub rev: String,
    /// CID of the commit, as text.
    pub commit_cid: String,
    /// The commit's block.
    pub commit: Arc<[u8]>,
    /// Entries of the tree that are rows of `record`.
    pub records: u64,
    /// Entries that were skipped.
    pub skipped: u64,
    /// Records that are duplicates of another.
    pub duplicates: u64,
    /// Bytes of the CAR.
    pub car_bytes: u64,
    /// Pieces of its list.
    pub pieces: i32,
    /// Whose word stands behind it.
    pub proof: Option<Proof>,
    /// Whether it takes the place of another commit of the same rev.
    pub is_fork: bool,
}

/// Which part of a repo came over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Its number, from 0.
    pub number: i16,
    /// Of how many.
    pub parts: i16,
    /// The URL of the PDS.
    pub pds: String,
    /// The name under which that is paced.
    pub host: String,
    /// The run that its time belongs to.
    pub run: i64,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            tables: (0..table::ALL.len()).map(|_| Vec::new()).collect(),
            pieces: Vec::new(),
            repos: Vec::new(),
            open: None,
            bytes: 0,
            records: 0,
        }
    }
}

impl Chunk {
    /// Bytes of all that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows of `record`.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The repos that end in it.
    #[must_use]
    pub fn repos(&self) -> &[LoadedRepo] {
        &self.repos
    }

    /// The repo that goes on in the next chunk, if one does.
    #[must_use]
    pub fn open_repo(&self) -> Option<&LoadedRepo> {
        self.open.as_ref()
    }

    /// Whether it holds a part of this repo that is its last one, or not its last one.
    #[must_use]
    pub fn mentions(&self, did: &str) -> bool {
        self.repos
            .iter()
            .chain(&self.open)
            .any(|repo| repo.did == did)
    }

    /// The encoded rows of each table that has some, as [`crate::copy_rows`] takes them.
    pub fn tables(&self) -> impl Iterator<Item = (TableInfo, &[u8])> {
        table::ALL
            .iter()
            .zip(&self.tables)
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(info, rows)| (*info, rows.as_slice()))
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.repos.is_empty() && self.pieces.is_empty()
    }

    /// Empties it. Of the memory that its rows took, up to `kept` bytes stay for the next ones.
    pub fn clear(&mut self, mut kept: usize) {
        for rows in &mut self.tables {
            rows.clear();
            match kept.checked_sub(rows.capacity()) {
                Some(left) => kept = left,
                None => *rows = Vec::new(),
            }
        }
        self.pieces = Vec::new();
        self.repos = Vec::new();
        self.open = None;
        (self.bytes, self.records) = (0, 0);
    }

    /// Adds a piece of a list of skipped records.
    pub(crate) fn push_piece(&mut self, piece: Piece) {
        self.bytes += BESIDE_TEXTS + piece.did.len() + piece.bytes.len();
        self.pieces.push(piece);
    }

    /// Adds a repo whose rows are all in this chunk or in earlier ones.
    pub(crate) fn push_repo(&mut self, repo: LoadedRepo) {
        self.bytes += repo.memory_bytes();
        self.repos.push(repo);
    }
}

impl LoadedRepo {
    /// What it takes in memory, in bytes.
    fn memory_bytes(&self) -> usize {
        let of_part = self
            .part
            .as_ref()
            .map_or(0, |part| part.pds.len() + part.host.len());
        let texts = self.did.len() + self.rev.len() + self.commit_cid.len();
        BESIDE_TEXTS + texts + of_part + self.commit.len()
    }
}
