//! Encodes a whole repo as rows: every entry of its tree becomes a row in `record`, or an entry in
//! the list of skipped records.
//!
//! Rows go to a [`Chunk`], table by table, in the form of binary COPY. The unique keys of the
//! record tables only concern the creator's own records. So which of two records is the duplicate
//! is decided here, before a row is sent: the first by key wins. A chunk holds many small repos. A
//! large repo goes through several chunks, so that memory does not grow with it.

mod record;

pub(crate) use record::{CERTAIN_INDEX_BYTES, indexed_length};

use crate::choice::Choice;
use crate::chunk::{Chunk, LoadedRepo, Piece};
use crate::skipping;
use crate::unique_keys::{self, UniqueKeys};
use appview::table::{self, TableInfo};
use atrepo::{Cid, Entry, Repo, RepoError};
use ledger::proofs::Proof;
use ledger::skipped::{ListWriter, Reason};
use rows::{Collection, datetime};

/// Number of tables.
pub(crate) const TABLES: usize = table::ALL.len();
/// A repo whose CAR is larger than this, or than half a chunk, is checked as a whole before its
/// first row is encoded, because its first rows leave before its last one is read. The rows of
/// smaller repos stay together.
const LARGE_CAR: usize = 4 << 20;

/// Chunks that the rows of a small repo may fill; a repo whose rows need more is encoded as a large
/// one.
const SMALL_ROWS: usize = 2;

/// Where a repo comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The lease of its host.
    pub lease: i64,
    /// Who vouches for it.
    pub proof: Option<Proof>,
    /// Whether it replaces another commit of the same rev.
    pub is_fork: bool,
}

/// Why a repo did not become rows.
#[derive(Debug)]
pub enum EncodeError {
    /// It is not complete. Nothing of it is in a chunk.
    Repo(RepoError),
    /// It needs more memory than allowed: how much, and for what. Nothing of it is in a chunk that
    /// is kept.
    TooLarge(String),
    /// The watcher ended it. Nothing of it is in a chunk that is kept.
    BrokenOff,
    /// The server could not be asked, or a chunk could not be handed on.
    Stopped(String),
}

impl From<RepoError> for EncodeError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Tries rows that may exceed the index entry limit on the server; returns the reason if it refuses
/// them.
pub type Probe<'p> = dyn FnMut(&[(TableInfo, &[u8])]) -> Result<Option<String>, String> + 'p;

/// Bounds the cost of a repo.
pub struct Costs<'c, C> {
    /// Called for each entry; an error ends the repo.
    pub watch: &'c mut dyn FnMut(&C) -> Result<(), EncodeError>,
    /// Called with the bytes of memory that are needed.
    pub keys: &'c mut dyn FnMut(usize) -> Result<(), EncodeError>,
}

/// Why a repo does not fit into one chunk.
enum NotInOneChunk {
    /// Its rows or its unique keys exceed what one chunk is meant for.
    Swells,
    /// It is not encoded at all.
    Error(EncodeError),
}

impl From<RepoError> for NotInOneChunk {
    fn from(error: RepoError) -> Self {
        Self::Error(error.into())
    }
}

impl From<EncodeError> for NotInOneChunk {
    fn from(error: EncodeError) -> Self {
        Self::Error(error)
    }
}

/// Receives full chunks and returns empty ones.
pub type HandOn<'h> = dyn FnMut(Chunk) -> Result<Chunk, String> + 'h;

/// Turns repos into chunks.
pub struct Encoder {
    choice: Choice,
    now: i64,
    now_text: String,
    chunk_bytes: usize,
    chunk: Chunk,
    /// The present part, if entries arrive one by one.
    part: Option<Progress>,
    /// Where it began.
    part_mark: Option<Mark>,
    /// Whether the present repo or part continued in another chunk.
    spans: bool,
    /// Columns of btree indexes by table, one bit each.
    indexed: [u32; TABLES],
    /// The same for the unique key.
    unique: [u32; TABLES],
    /// The unique keys of the present collection.
    keys: UniqueKeys,
    uri: String,
    cid: String,
    indexed_at: String,
    json: String,
    touched: Vec<(TableInfo, usize)>,
}

/// Where a repo began in a chunk.
struct Mark {
    tables: [usize; TABLES],
    pieces: usize,
    bytes: usize,
    records: u64,
}

/// The present repo.
struct Progress {
    loaded: LoadedRepo,
    list: ListWriter,
    collection: Option<Collection>,
}

impl Encoder {
    /// An encoder. `indexed` are the columns of btree indexes, as [`crate::fresh::indexed_columns`]
    /// finds them; `now` is the time of the run in milliseconds since 1970.
    #[must_use]
    pub fn new(choice: Choice, now: i64, chunk_bytes: usize, indexed: &[(String, String)]) -> Self {
        let mut unique = [0u32; TABLES];
        for info in table::ALL {
            for (at, column) in info.columns.iter().enumerate() {
                if info.unique.contains(&column.name) {
                    unique[info.id] |= 1 << at;
                }
            }
        }
        Self {
            choice,
            now,
            now_text: datetime::print(now),
            chunk_bytes,
            chunk: Chunk::default(),
            part: None,
            part_mark: None,
            spans: false,
            indexed: masks_of(indexed),
            unique,
            keys: UniqueKeys::default(),
            uri: String::new(),
            cid: String::new(),
            indexed_at: String::new(),
            json: String::new(),
            touched: Vec::new(),
        }
    }

    /// Changes the time of the run, for the repos to come.
    pub fn set_now(&mut self, now: i64) {
        self.now = now;
        self.now_text = datetime::print(now);
    }

    /// Adds a repo. Full chunks go to `hand_on`; the rest stays here, for the next repo or
    /// [`Encoder::flush`].
    ///
    /// `costs.watch` is called for each entry. `costs.keys` is called with the memory for the table
    /// of unique keys of a large repo before it is allocated; it is free again when this returns.
    ///
    /// # Errors
    /// See [`EncodeError`]. After [`EncodeError::Stopped`] the open chunk is unusable; it was
    /// emptied.
    pub fn add<C: AsRef<[u8]>>(
        &mut self,
        repo: &Repo<C>,
        origin: Origin,
        costs: &mut Costs<'_, C>,
        probe: &mut Probe<'_>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<(), EncodeError> {
        let car_bytes = repo.car().as_ref().len();
        let loaded = LoadedRepo {
            did: repo.did().to_owned(),
            lease: origin.lease,
            proof: origin.proof,
            is_fork: origin.is_fork,
            part: None,
            rev: repo.commit().rev.clone(),
            commit_cid: repo.commit_cid().to_string(),
            commit: repo.commit().block.as_slice().into(),
            car_bytes: u64::try_from(car_bytes).unwrap_or(u64::MAX),
            ..LoadedRepo::default()
        };
        let is_small = car_bytes <= LARGE_CAR.min(self.chunk_bytes / 2);
        if is_small && self.add_small(repo, loaded.clone(), costs, probe)? {
            return self.hand_on_if_full(None, hand_on);
        }
        // Everything that can refuse the repo as a whole is checked now.
        let size = repo.measure(&mut *costs.watch)?;
        let expected = (size.most_of_a_collection, size.key_bytes);
        (costs.keys)(unique_keys::memory_for(expected.0, expected.1))?;
        // What came before does not wait for it.
        self.flush(hand_on)?;
        let mut open = self.begin(loaded);
        self.keys.clear(Some(expected));
        let outcome = self.add_large(repo, &mut open, costs, probe, hand_on);
        self.keys.clear(None);
        if let Err(error) = outcome {
            self.chunk.clear(self.chunk_bytes);
            return Err(error);
        }
        self.end(open);
        self.spans = false;
        // Its first chunks wait for this one.
        self.hand_on(None, hand_on)
    }

    /// Whether the last repo left rows in chunks that were passed on although it was not added.
    #[must_use]
    pub fn take_spans(&mut self) -> bool {
        std::mem::take(&mut self.spans)
    }

    /// Adds a repo whose rows all stay in the open chunk. Returns false and adds nothing if they
    /// exceed what that is meant for.
    fn add_small<C: AsRef<[u8]>>(
        &mut self,
        repo: &Repo<C>,
        loaded: LoadedRepo,
        costs: &mut Costs<'_, C>,
        probe: &mut Probe<'_>,
    ) -> Result<bool, EncodeError> {
        let mark = self.mark();
        let mut open = self.begin(loaded);
        let most = mark.bytes + SMALL_ROWS * self.chunk_bytes;
        let outcome = repo.entries(|entry| -> Result<(), NotInOneChunk> {
            (costs.watch)(repo.car())?;
            self.entry(&mut open, &entry, probe)?;
            if self.chunk.bytes > most || self.keys.memory_bytes() > self.chunk_bytes {
                return Err(NotInOneChunk::Swells);
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {
                self.end(open);
                Ok(true)
            }
            Err(NotInOneChunk::Swells) => {
                self.back_to(&mark);
                Ok(false)
            }
            Err(NotInOneChunk::Error(EncodeError::Stopped(why))) => {
                self.chunk.clear(self.chunk_bytes);
                Err(EncodeError::Stopped(why))
            }
            Err(NotInOneChunk::Error(error)) => {
                self.back_to(&mark);
                Err(error)
            }
        }
    }

    /// Adds the entries of a repo that goes through several chunks.
    fn add_large<C: AsRef<[u8]>>(
        &mut self,
        repo: &Repo<C>,
        open: &mut Progress,
        costs: &mut Costs<'_, C>,
        probe: &mut Probe<'_>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<(), EncodeError> {
        repo.entries(|entry| {
            (costs.watch)(repo.car())?;
            self.entry(open, &entry, probe)?;
            self.hand_on_if_full(Some(&open.loaded), hand_on)
        })
    }

    /// Begins a part of a repo whose entries arrive one by one, in key order
    /// ([`Encoder::part_entry`]).
    pub fn begin_part(&mut self, loaded: LoadedRepo) {
        self.part_mark = Some(self.mark());
        self.part = Some(self.begin(loaded));
    }

    /// Adds an entry to the part that was begun.
    ///
    /// # Errors
    /// [`EncodeError::Stopped`], as [`Encoder::add`].
    pub fn part_entry(
        &mut self,
        entry: &Entry<'_, '_>,
        probe: &mut Probe<'_>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<(), EncodeError> {
        let Some(mut open) = self.part.take() else {
            return Ok(());
        };
        let outcome = self
            .entry(&mut open, entry, probe)
            .and_then(|()| self.hand_on_if_full(Some(&open.loaded), hand_on));
        self.part = Some(open);
        if outcome.is_err() {
            self.chunk.clear(self.chunk_bytes);
            self.part = None;
        }
        outcome
    }

    /// Memory of the table of unique keys of the present part, in bytes.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.keys.memory_bytes()
    }

    /// Drops the part that was begun, because the rest of it is not wanted. Returns whether some of
    /// it is in chunks that were passed on.
    pub fn drop_part(&mut self) -> bool {
        let spans = self.take_spans();
        if let (Some(_), Some(mark)) = (self.part.take(), self.part_mark.take()) {
            if spans {
                self.chunk.clear(self.chunk_bytes);
            } else {
                self.back_to(&mark);
            }
        }
        self.keys.clear(None);
        spans
    }

    /// Ends the part that was begun: all of its entries have arrived.
    ///
    /// # Errors
    /// As [`Encoder::part_entry`].
    pub fn end_part(&mut self, hand_on: &mut HandOn<'_>) -> Result<(), EncodeError> {
        if let Some(open) = self.part.take() {
            self.end(open);
        }
        self.keys.clear(None);
        if std::mem::take(&mut self.spans) {
            // Its first chunks wait for this one.
            return self.hand_on(None, hand_on);
        }
        self.hand_on_if_full(None, hand_on)
    }

    /// Passes the chunk on if it is full; `open` is the repo that continues in the next one.
    fn hand_on_if_full(
        &mut self,
        open: Option<&LoadedRepo>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<(), EncodeError> {
        if self.chunk.bytes < self.chunk_bytes {
            return Ok(());
        }
        self.hand_on(open, hand_on)
    }

    fn hand_on(
        &mut self,
        open: Option<&LoadedRepo>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<(), EncodeError> {
        let mut full = std::mem::take(&mut self.chunk);
        full.open = open.cloned();
        self.spans |= full.open.is_some();
        match hand_on(full) {
            Ok(empty) => {
                self.chunk = empty;
                Ok(())
            }
            Err(why) => {
                self.chunk = Chunk::default();
                Err(EncodeError::Stopped(why))
            }
        }
    }

    /// Passes the rest on.
    ///
    /// # Errors
    /// It could not be passed on.
    pub fn flush(&mut self, hand_on: &mut HandOn<'_>) -> Result<(), EncodeError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.hand_on(None, hand_on)
    }

    /// Number of repos that wait in the open chunk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.chunk.repos.len()
    }

    /// Empties the open chunk; returns the repos in it.
    pub fn discard(&mut self) -> Vec<LoadedRepo> {
        let repos = std::mem::take(&mut self.chunk.repos);
        self.chunk.clear(self.chunk_bytes);
        repos
    }

    fn begin(&mut self, loaded: LoadedRepo) -> Progress {
        self.keys.clear(None);
        Progress {
            loaded,
            list: ListWriter::default(),
            collection: None,
        }
    }

    fn entry(
        &mut self,
        open: &mut Progress,
        entry: &Entry<'_, '_>,
        probe: &mut Probe<'_>,
    ) -> Result<(), EncodeError> {
        let (reason, detail) = match skipping::taken(entry, &self.choice) {
            Ok(taken) => return self.record(open, &taken, probe),
            Err(skipped) => skipped,
        };
        match entry {
            Entry::Record {
                collection,
                rkey,
                cid,
                ..
            } => self.skip(open, &[collection, "/", rkey], cid, reason, &detail),
            Entry::BadKey { key, cid } | Entry::BadRecord { key, cid, .. } => {
                self.skip_key(open, key, cid, reason, &detail);
            }
        }
        Ok(())
    }

    fn skip(&mut self, open: &mut Progress, key: &[&str], cid: &Cid, reason: Reason, detail: &str) {
        open.loaded.skipped += 1;
        self.list(open, key, cid, reason, detail);
    }

    fn skip_key(
        &mut self,
        open: &mut Progress,
        key: &[u8],
        cid: &Cid,
        reason: Reason,
        detail: &str,
    ) {
        open.loaded.skipped += 1;
        let piece = open.list.add(key, &cid.to_bytes(), reason, detail);
        self.keep(&mut open.loaded, piece);
    }

    /// Puts an entry on the list.
    fn list(&mut self, open: &mut Progress, key: &[&str], cid: &Cid, reason: Reason, detail: &str) {
        let piece = open
            .list
            .add(key.concat().as_bytes(), &cid.to_bytes(), reason, detail);
        self.keep(&mut open.loaded, piece);
    }

    fn keep(&mut self, loaded: &mut LoadedRepo, piece: Option<Vec<u8>>) {
        let Some(bytes) = piece else { return };
        self.chunk.push_piece(Piece {
            did: loaded.did.clone(),
            part: loaded.part.as_ref().map_or(0, |part| part.number),
            number: loaded.pieces,
            bytes,
        });
        loaded.pieces += 1;
    }

    fn end(&mut self, mut open: Progress) {
        let piece = open.list.take();
        self.keep(&mut open.loaded, piece);
        self.chunk.push_repo(open.loaded);
    }

    fn mark(&self) -> Mark {
        let mut tables = [0; TABLES];
        for (length, rows) in tables.iter_mut().zip(&self.chunk.tables) {
            *length = rows.len();
        }
        Mark {
            tables,
            pieces: self.chunk.pieces.len(),
            bytes: self.chunk.bytes,
            records: self.chunk.records,
        }
    }

    /// Removes everything after `mark`.
    fn back_to(&mut self, mark: &Mark) {
        for (length, rows) in mark.tables.iter().zip(&mut self.chunk.tables) {
            rows.truncate(*length);
        }
        self.chunk.pieces.truncate(mark.pieces);
        (self.chunk.bytes, self.chunk.records) = (mark.bytes, mark.records);
    }
}

/// The columns of btree indexes by table, one bit each.
pub(crate) fn masks_of(indexed: &[(String, String)]) -> [u32; TABLES] {
    let mut masks = [0u32; TABLES];
    for info in table::ALL {
        for (at, column) in info.columns.iter().enumerate() {
            let is_indexed =
                |(table, name): &(String, String)| table == info.name && name == column.name;
            if indexed.iter().any(is_indexed) {
                masks[info.id] |= 1 << at;
            }
        }
    }
    masks
}
