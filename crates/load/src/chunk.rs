//! Encoded rows of whole repos on their way to the database, with what is known of those repos.
//!
//! A chunk counts all of its memory, not only rows: a repo without records, or one whose records
//! were all skipped, uses memory as well.

use appview::table::{self, TableInfo};
use ledger::proofs::Proof;
use std::sync::Arc;

/// Memory of a repo or a piece of a list in addition to its texts.
const BESIDE_TEXTS: usize = 256;

/// Encoded rows on their way to the database.
pub struct Chunk {
    /// By [`TableInfo::id`].
    pub(crate) tables: Vec<Vec<u8>>,
    /// Pieces of lists of skipped records: DID, part, number, bytes.
    pub(crate) pieces: Vec<Piece>,
    /// The repos that end in this chunk.
    pub(crate) repos: Vec<LoadedRepo>,
    /// The repo that continues in the next chunk.
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

/// What is known of a repo once all of its rows are encoded.
#[derive(Clone, Debug, Default)]
pub struct LoadedRepo {
    /// The account.
    pub did: String,
    /// The lease of its host; for a part from a socket, the number that identifies it.
    pub lease: i64,
    /// Which part of the repo this is, if it came over a socket.
    pub part: Option<PartOf>,
    /// Rev.
    pub rev: String,
    /// CID of the commit, as text.
    pub commit_cid: String,
    /// The commit's block.
    pub commit: Arc<[u8]>,
    /// Entries of the tree that are rows in `record`.
    pub records: u64,
    /// Entries that were skipped.
    pub skipped: u64,
    /// Records that are duplicates of another.
    pub duplicates: u64,
    /// Bytes of the CAR.
    pub car_bytes: u64,
    /// Number of pieces of its list.
    pub pieces: i32,
    /// Who vouches for it.
    pub proof: Option<Proof>,
    /// Whether it replaces another commit of the same rev.
    pub is_fork: bool,
}

/// A part of a repo that came over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Its number, from 0.
    pub number: i16,
    /// Number of parts.
    pub parts: i16,
    /// The URL of the PDS.
    pub pds: String,
    /// The name under which the PDS is paced.
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
    /// Memory of its content, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of rows in `record`.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The repos that end in this chunk.
    #[must_use]
    pub fn repos(&self) -> &[LoadedRepo] {
        &self.repos
    }

    /// The repo that continues in the next chunk, if there is one.
    #[must_use]
    pub fn open_repo(&self) -> Option<&LoadedRepo> {
        self.open.as_ref()
    }

    /// Whether it contains a part of this repo, the last one or another.
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

    /// Whether it contains nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.repos.is_empty() && self.pieces.is_empty()
    }

    /// Empties it. Up to `kept` bytes of its memory are kept for the next rows.
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
    /// Memory that it uses, in bytes.
    fn memory_bytes(&self) -> usize {
        let of_part = self
            .part
            .as_ref()
            .map_or(0, |part| part.pds.len() + part.host.len());
        let texts = self.did.len() + self.rev.len() + self.commit_cid.len();
        BESIDE_TEXTS + texts + of_part + self.commit.len()
    }
}
