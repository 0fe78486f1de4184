//! A whole repo to rows: every entry of its tree is either a row of `record` or on the list of what was skipped.
//!
//! Rows go to a [`Chunk`], table by table, in the form of binary COPY. The unique keys of the record tables hold for the creator's own
//! records, so which of two records is the duplicate is decided here, before a row is sent: the first by key wins. A chunk holds many
//! small repos; a large repo goes through several chunks, so that memory does not grow with it.

use crate::choice::Choice;
use crate::copy;
use appview::table::{self, TableInfo};
use atrepo::{Cid, Entry, RecordError, Repo, RepoError};
use ledger::proofs::Proof;
use ledger::skipped::{ListWriter, Reason};
use rows::{Collection, Field, Record, Rows, datetime};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// Number of tables.
const TABLES: usize = table::ALL.len();
/// A repo whose CAR is larger is checked as a whole before its first row is made, since its rows leave before its last one is read. The rows of
/// smaller ones stay together.
const LARGE_CAR: usize = 4 << 20;
/// A btree takes entries of up to 2,704 bytes after compression (`BTMaxItemSize` in PostgreSQL's `nbtree.h`). Records with less than this
/// in indexed columns are certain to fit, others are shown to the server.
const CERTAIN_INDEX_BYTES: usize = 2000;

/// Unique keys for which room is kept.
const KEPT_KEYS: usize = 1 << 16;
/// Room that is kept in a chunk for each table, in bytes.
const KEPT_BYTES: usize = 8 << 20;
/// A `createdAt` that says nothing.
const EPOCH: &str = "1970-01-01T00:00:00.000Z";

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
    bytes: usize,
    records: u64,
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
    pub commit: Vec<u8>,
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

/// Where a repo comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The lease of its host.
    pub lease: i64,
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
            tables: (0..TABLES).map(|_| Vec::new()).collect(),
            pieces: Vec::new(),
            repos: Vec::new(),
            open: None,
            bytes: 0,
            records: 0,
        }
    }
}

impl Chunk {
    /// Bytes of rows.
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
        self.repos.iter().chain(&self.open).any(|repo| repo.did == did)
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

    /// Empties it, keeping its room.
    pub fn clear(&mut self) {
        for rows in &mut self.tables {
            rows.clear();
            rows.shrink_to(KEPT_BYTES);
        }
        self.pieces.clear();
        self.repos.clear();
        self.open = None;
        (self.bytes, self.records) = (0, 0);
    }
}

/// Why a repo did not become rows.
#[derive(Debug)]
pub enum EncodeError {
    /// It is not whole. Nothing of it is in a chunk.
    Repo(RepoError),
    /// The server could not be asked, or a chunk could not be handed on.
    Stopped(String),
}

impl From<RepoError> for EncodeError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Shows rows that may be too long for an index to the server: the reason why it refuses them, if it does.
pub type Probe<'p> = dyn FnMut(&[(TableInfo, &[u8])]) -> Result<Option<String>, String> + 'p;

/// Takes full chunks away, and gives an empty one back.
pub type HandOn<'h> = dyn FnMut(Chunk) -> Result<Chunk, String> + 'h;

/// Turns repos into chunks.
pub struct Encoder {
    choice: Choice,
    now: i64,
    now_text: String,
    chunk_bytes: usize,
    chunk: Chunk,
    /// The part at hand, if entries come one by one.
    part: Option<Progress>,
    /// Whether the repo or part at hand went on in another chunk.
    spans: bool,
    /// Columns of a btree index, a bit each, by table.
    indexed: [u32; TABLES],
    /// The same for the unique key.
    unique: [u32; TABLES],
    hasher: RandomState,
    /// Unique keys of the collection at hand, and the number of the record that has each.
    seen: HashMap<[u32; 4], u32, BuildHasherDefault<Given>>,
    /// Record keys of those, end to end, and where each ends.
    rkeys: Vec<u8>,
    rkey_ends: Vec<u32>,
    uri: String,
    cid: String,
    indexed_at: String,
    json: String,
    touched: Vec<(TableInfo, usize)>,
}

/// A hash of what is a hash already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }
}

/// Where a repo began in a chunk.
struct Mark {
    tables: [usize; TABLES],
    pieces: usize,
    bytes: usize,
    records: u64,
}

/// The repo at hand.
struct Progress {
    loaded: LoadedRepo,
    list: ListWriter,
    collection: Option<Collection>,
}

impl Encoder {
    /// An encoder. `indexed` are the columns of btree indexes, as [`crate::fresh::indexed_columns`] finds them; `now` is the time of the
    /// run in milliseconds since 1970.
    #[must_use]
    pub fn new(choice: Choice, now: i64, chunk_bytes: usize, indexed: &[(String, String)]) -> Self {
        let (mut masks, mut unique) = ([0u32; TABLES], [0u32; TABLES]);
        for info in table::ALL {
            for (at, column) in info.columns.iter().enumerate() {
                if indexed.iter().any(|(t, c)| t == info.name && c == column.name) {
                    masks[info.id] |= 1 << at;
                }
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
            spans: false,
            indexed: masks,
            unique,
            hasher: RandomState::new(),
            seen: HashMap::default(),
            rkeys: Vec::new(),
            rkey_ends: Vec::new(),
            uri: String::new(),
            cid: String::new(),
            indexed_at: String::new(),
            json: String::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a repo. Full chunks go to `hand_on`; what is left stays here, for the next repo or [`Encoder::take`].
    ///
    /// # Errors
    /// See [`EncodeError`]. After [`EncodeError::Stopped`] the open chunk is of no use; it was emptied.
    pub fn add<C: AsRef<[u8]>>(
        &mut self,
        repo: &Repo<C>,
        origin: Origin,
        watch: &mut dyn FnMut(&C),
        probe: &mut Probe<'_>,
        hand_on: &mut HandOn<'_>,
    ) -> Result<LoadedRepo, EncodeError> {
        let car_bytes = repo.car().as_ref().len();
        let is_large = car_bytes > LARGE_CAR;
        if is_large {
            repo.entries(|_| -> Result<(), RepoError> {
                watch(repo.car());
                Ok(())
            })?;
        }
        let loaded = LoadedRepo {
            did: repo.did().to_owned(),
            lease: origin.lease,
            proof: origin.proof,
            is_fork: origin.is_fork,
            part: None,
            rev: repo.commit().rev.clone(),
            commit_cid: repo.commit_cid().to_string(),
            commit: repo.commit().block.clone(),
            car_bytes: u64::try_from(car_bytes).unwrap_or(u64::MAX),
            ..LoadedRepo::default()
        };
        let mark = self.mark();
        let mut open = self.begin(loaded);
        let outcome = repo.entries(|entry| -> Result<(), EncodeError> {
            watch(repo.car());
            self.entry(&mut open, &entry, probe)?;
            if is_large {
                self.hand_on_if_full(Some(&open.loaded), hand_on)?;
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(EncodeError::Repo(error)) => {
                self.back_to(&mark);
                return Err(EncodeError::Repo(error));
            }
            Err(stopped) => {
                self.chunk.clear();
                return Err(stopped);
            }
        }
        self.end(open);
        let loaded = self.chunk.repos.last().cloned().unwrap_or_default();
        if std::mem::take(&mut self.spans) {
            // Its first chunks wait for this one.
            self.hand_on(None, hand_on)?;
        } else {
            self.hand_on_if_full(None, hand_on)?;
        }
        Ok(loaded)
    }

    /// Begins a part of a repo whose entries come one by one, in the order of keys ([`Encoder::part_entry`]).
    pub fn begin_part(&mut self, loaded: LoadedRepo) {
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
            self.chunk.clear();
            self.part = None;
        }
        outcome
    }

    /// Ends the part that was begun: all of its entries came.
    ///
    /// # Errors
    /// As [`Encoder::part_entry`].
    pub fn end_part(&mut self, hand_on: &mut HandOn<'_>) -> Result<(), EncodeError> {
        if let Some(open) = self.part.take() {
            self.end(open);
        }
        if std::mem::take(&mut self.spans) {
            // Its first chunks wait for this one.
            return self.hand_on(None, hand_on);
        }
        self.hand_on_if_full(None, hand_on)
    }

    /// Hands the chunk on if it is full; `open` is the repo that goes on in the next one.
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

    fn hand_on(&mut self, open: Option<&LoadedRepo>, hand_on: &mut HandOn<'_>) -> Result<(), EncodeError> {
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

    /// Hands on what is left.
    ///
    /// # Errors
    /// It could not be handed on.
    pub fn flush(&mut self, hand_on: &mut HandOn<'_>) -> Result<(), EncodeError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.hand_on(None, hand_on)
    }

    /// The repos that wait in the open chunk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.chunk.repos.len()
    }

    /// Empties the open chunk: the repos in it.
    pub fn discard(&mut self) -> Vec<LoadedRepo> {
        let repos = std::mem::take(&mut self.chunk.repos);
        self.chunk.clear();
        repos
    }

    fn forget_keys(&mut self) {
        // What a large repo needed is given back: clearing a map takes as long as it is large.
        if self.seen.capacity() > KEPT_KEYS {
            self.seen = HashMap::default();
            self.rkeys = Vec::new();
            self.rkey_ends = Vec::new();
        }
        self.seen.clear();
        self.rkeys.clear();
        self.rkey_ends.clear();
    }

    fn begin(&mut self, loaded: LoadedRepo) -> Progress {
        self.forget_keys();
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
        match entry {
            Entry::Record {
                collection,
                rkey,
                cid,
                value,
                ..
            } => {
                let Some(known) = Collection::parse(collection) else {
                    self.skip(open, &[collection, "/", rkey], cid, Reason::Unindexed, "");
                    return Ok(());
                };
                if !self.choice.takes(known) {
                    self.skip(open, &[collection, "/", rkey], cid, Reason::NotChosen, "");
                    return Ok(());
                }
                let Some(value) = value.as_map() else {
                    self.skip(open, &[collection, "/", rkey], cid, Reason::Unreadable, "no map");
                    return Ok(());
                };
                self.record(open, known, rkey, cid, value, probe)
            }
            Entry::BadKey { key, cid } => {
                self.skip_key(open, key, cid, Reason::BadKey, "");
                Ok(())
            }
            Entry::BadRecord { key, cid, error } => {
                let reason = match error {
                    RecordError::TooLarge { .. } | RecordError::Shared { .. } => Reason::OverLimit,
                    _ => Reason::Unreadable,
                };
                self.skip_key(open, key, cid, reason, &error.to_string());
                Ok(())
            }
        }
    }

    fn record(
        &mut self,
        open: &mut Progress,
        collection: Collection,
        rkey: &str,
        cid: &Cid,
        value: atrepo::cbor::Map<'_>,
        probe: &mut Probe<'_>,
    ) -> Result<(), EncodeError> {
        if open.collection != Some(collection) {
            // Entries come in the order of keys, so a collection comes in one piece.
            self.forget_keys();
            open.collection = Some(collection);
        }
        self.uri.clear();
        let nsid = collection.nsid();
        for part in ["at://", &open.loaded.did, "/", nsid, "/", rkey] {
            self.uri.push_str(part);
        }
        self.cid.clear();
        cid.append_to(&mut self.cid);
        let created_at = rows::created_at(&value);
        self.indexed_at.clear();
        match created_at.filter(|text| datetime::is_plain(text)) {
            // Times in the one form sort as texts. The epoch does not count.
            Some(text) if text < self.now_text.as_str() && text != EPOCH => self.indexed_at.push_str(text),
            _ => datetime::append(
                datetime::indexed_at(created_at, rkey, self.now),
                &mut self.indexed_at,
            ),
        }
        let record = Record {
            did: &open.loaded.did,
            collection,
            rkey,
            uri: &self.uri,
            cid: &self.cid,
            indexed_at: &self.indexed_at,
            value,
        };
        let tables = &mut self.chunk.tables;
        // Tables that the record wrote to, and where its rows begin there: at most a handful.
        let mut touched = std::mem::take(&mut self.touched);
        touched.clear();
        let mut key: Option<[u32; 4]> = None;
        let mut indexed_bytes = 0usize;
        let (choice, indexed, unique, hasher) = (&self.choice, &self.indexed, &self.unique, &self.hasher);
        let mut sink = |info: TableInfo, values: &[Field<'_>]| {
            if info.id == table::NOTIFICATION.info().id
                && !matches!(values.last(), Some(Field::Text(sort_at)) if choice.notifications.takes(sort_at))
            {
                return;
            }
            let rows = &mut tables[info.id];
            if touched.iter().all(|(table, _)| table.id != info.id) {
                touched.push((info, rows.len()));
            }
            indexed_bytes = indexed_bytes.max(indexed_length(indexed[info.id], values));
            if unique[info.id] != 0 {
                key = Some(unique_key(hasher, unique[info.id], values));
            }
            copy::append_row(rows, values);
        };
        let mut to = Rows::with_text(&mut sink, std::mem::take(&mut self.json));
        let outcome = rows::index(&record, &mut to);
        self.json = to.into_text();
        let take_back = |tables: &mut [Vec<u8>], touched: &[(TableInfo, usize)]| {
            for (info, start) in touched {
                tables[info.id].truncate(*start);
            }
        };
        let indexed = match outcome {
            Ok(indexed) => indexed,
            Err(reject) => {
                take_back(&mut self.chunk.tables, &touched);
                self.skip(
                    open,
                    &[nsid, "/", rkey],
                    cid,
                    Reason::Refused,
                    &reject.to_string(),
                );
                return Ok(());
            }
        };
        if indexed_bytes > CERTAIN_INDEX_BYTES {
            let rows: Vec<_> = touched
                .iter()
                .map(|(info, start)| (*info, &self.chunk.tables[info.id][*start..]))
                .collect();
            if let Some(reason) = probe(&rows).map_err(EncodeError::Stopped)? {
                take_back(&mut self.chunk.tables, &touched);
                self.skip(open, &[nsid, "/", rkey], cid, Reason::RefusedByDatabase, &reason);
                return Ok(());
            }
        }
        if let Some(key) = key {
            let number = u32::try_from(self.rkey_ends.len()).unwrap_or(u32::MAX);
            let winner = *self.seen.entry(key).or_insert(number);
            if winner == number {
                self.rkeys.extend_from_slice(rkey.as_bytes());
                self.rkey_ends
                    .push(u32::try_from(self.rkeys.len()).unwrap_or(u32::MAX));
            } else {
                for (info, start) in &touched {
                    if !info.stands_alone() {
                        self.chunk.tables[info.id].truncate(*start);
                    }
                }
                let info = table::DUPLICATE_RECORD.info();
                let winner = format!("at://{}/{nsid}/{}", open.loaded.did, self.rkey(winner));
                let rows = &mut self.chunk.tables[info.id];
                touched.push((info, rows.len()));
                let values = [&self.uri, &self.cid, &winner, &self.indexed_at];
                copy::append_row(rows, &values.map(|text| Field::Text(text)));
                open.loaded.duplicates += 1;
            }
        }
        for (info, start) in &touched {
            self.chunk.bytes += self.chunk.tables[info.id].len().saturating_sub(*start);
        }
        self.chunk.records += 1;
        open.loaded.records += 1;
        if !indexed.is_reversible {
            let rows = &self.chunk.tables[table::RECORD.info().id];
            let start = touched.first().map_or(0, |(_, start)| *start);
            let texts = copy::first_row_texts(&rows[start..]);
            let digest = Cid::of(atrepo::Codec::Raw, texts.get(3).unwrap_or(&"").as_bytes()).to_string();
            self.list(open, &[nsid, "/", rkey], cid, Reason::Irreversible, &digest);
        }
        self.touched = touched;
        Ok(())
    }

    fn skip(&mut self, open: &mut Progress, key: &[&str], cid: &Cid, reason: Reason, detail: &str) {
        open.loaded.skipped += 1;
        self.list(open, key, cid, reason, detail);
    }

    fn skip_key(&mut self, open: &mut Progress, key: &[u8], cid: &Cid, reason: Reason, detail: &str) {
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
        self.chunk.bytes += bytes.len();
        self.chunk.pieces.push(Piece {
            did: loaded.did.clone(),
            part: loaded.part.as_ref().map_or(0, |part| part.number),
            number: loaded.pieces,
            bytes,
        });
        loaded.pieces += 1;
    }

    /// The record key of the first record that had a unique key.
    fn rkey(&self, number: u32) -> &str {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let end = |at: usize| self.rkey_ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        let rkey = self.rkeys.get(start..end(at)).unwrap_or_default();
        std::str::from_utf8(rkey).unwrap_or_default()
    }

    fn end(&mut self, mut open: Progress) {
        let piece = open.list.take();
        self.keep(&mut open.loaded, piece);
        self.chunk.repos.push(open.loaded);
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

    /// Takes back what came after `mark`.
    fn back_to(&mut self, mark: &Mark) {
        for (length, rows) in mark.tables.iter().zip(&mut self.chunk.tables) {
            rows.truncate(*length);
        }
        self.chunk.pieces.truncate(mark.pieces);
        (self.chunk.bytes, self.chunk.records) = (mark.bytes, mark.records);
    }
}

/// Bytes of the longest combination of indexed columns that the row can have: all of them together.
fn indexed_length(mask: u32, values: &[Field<'_>]) -> usize {
    let mut total = 0;
    for (at, value) in values.iter().enumerate() {
        if let (true, Field::Text(text)) = (mask & (1 << at) != 0, value) {
            total += text.len();
        }
    }
    total
}

/// A keyed hash of the row's unique key, 128 bits: nobody can choose two that are the same.
fn unique_key(hasher: &RandomState, mask: u32, values: &[Field<'_>]) -> [u32; 4] {
    let hash = |salt: u8| {
        let mut state = hasher.build_hasher();
        salt.hash(&mut state);
        for (at, value) in values.iter().enumerate() {
            if let (true, Field::Text(text)) = (mask & (1 << at) != 0, value) {
                text.hash(&mut state);
            }
        }
        state.finish().to_ne_bytes()
    };
    let (a, b) = (hash(0), hash(1));
    let word = |bytes: [u8; 8], at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(word)
    };
    [word(a, 0), word(a, 4), word(b, 0), word(b, 4)]
}
