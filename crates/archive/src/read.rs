//! Reads an archive.
//!
//! [`Archive::open`] reads the indexes once and keeps the place of the newest CAR of each account
//! in a catalog of bounded memory ([`crate::catalog`]). What is torn, missing or no index is noted
//! and left out: it costs its own repos.
//!
//! Costs, for an object store: opening lists all objects (1,000 per request) and gets each index.
//! Then a repo is one request, or, where repos are read in the order of the archive
//! ([`Archive::in_order`], [`Archive::expect_order`]), a request for each 8 MiB of a segment.

use crate::catalog::{Catalog, Entry, Sorter};
use crate::error::ArchiveError;
use crate::frame::{self, Decoders};
use crate::line::Line;
use crate::place::{Access, Place};
use crate::runs::Runs;
use crate::source::{Lines, Source};
use crate::{ABOUT, CAR, FOLDER_INDEX, INDEX, SEGMENT};
use atrepo::{Blocks, Commit};
use fetch::{Body, Spool};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Notes that are kept; more are counted.
const NOTES: usize = 1000;
/// Indexes and plain CARs of an object store that are requested at once.
const AT_ONCE: usize = 16;
/// Bytes of the indexes that are requested at once, unless one alone has more.
const INDEXES: u64 = 16 << 20;
/// Largest index of a segment, compressed. A writer ends a segment whose lines come to
/// [`frame::INDEX_LINES`], and these compress to about a third.
const INDEX_BYTES: u64 = 9 << 20;
/// Bytes of a plain CAR in which its commit is looked for first.
const HEAD: u64 = 64 << 10;

/// How an archive is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// How object stores are reached.
    pub access: Access,
    /// Where what exceeds the memory goes.
    pub spool: Spool,
    /// Memory of the process.
    pub memory: u64,
}

/// An archive to read from.
pub struct Archive {
    source: Source,
    catalog: Catalog,
    notes: Notes,
    /// Sizes of the segments, by name.
    sizes: HashMap<String, u64>,
    /// Names and sizes of the indexes, in their order.
    indexes: Vec<(String, u64)>,
    runs: Option<Arc<Runs>>,
    decoders: Decoders,
    is_in_order: AtomicBool,
}

/// What is wrong, within a bound.
#[derive(Default)]
struct Notes {
    texts: Vec<String>,
    more: u64,
}

impl Notes {
    fn add(&mut self, text: String) {
        match self.texts.len() < NOTES {
            true => self.texts.push(text),
            false => self.more += 1,
        }
    }
}

/// The files of an archive by what they are.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) sizes: HashMap<String, u64>,
    pub(crate) indexes: Vec<(String, u64)>,
    /// Whether there are plain CARs.
    pub(crate) has_cars: bool,
}

impl Files {
    /// Lists an archive; `car` gets the name and size of each plain CAR.
    pub(crate) fn list(
        source: &Source,
        mut car: impl FnMut(String, u64) -> Result<(), ArchiveError>,
    ) -> Result<Self, ArchiveError> {
        let (mut files, mut is_begun) = (Self::default(), false);
        source.list(|name, size| {
            if name.ends_with(SEGMENT) {
                files.sizes.insert(name, size);
            } else if name == FOLDER_INDEX || name.ends_with(INDEX) {
                files.indexes.push((name, size));
            } else if name == ABOUT {
                is_begun = true;
            } else if name.ends_with(CAR) {
                files.has_cars = true;
                car(name, size)?;
            }
            Ok(())
        })?;
        files.indexes.sort_unstable();
        if files.indexes.is_empty() && !files.has_cars && !is_begun {
            let place = source.place();
            return Err(ArchiveError::new(
                place,
                "contains neither an index of an archive nor .car files",
            )
            .with_hint("name an archive that --keep-cars filled, or one of .car files"));
        }
        Ok(files)
    }
}

impl Archive {
    /// Opens an archive, or a folder or prefix of `.car` files. If a DID occurs more than once, the
    /// newest rev counts.
    ///
    /// # Errors
    /// It cannot be read, or is neither.
    pub fn open(place: &Place, options: &OpenOptions) -> Result<Self, ArchiveError> {
        let source = Source::open(place, &options.access)?;
        let memory = usize::try_from(options.memory / 4).unwrap_or(usize::MAX);
        let mut opening = Opening {
            source: &source,
            spool: &options.spool,
            sorter: Sorter::new(&options.spool, memory),
            notes: Notes::default(),
            cars: Vec::new(),
        };
        let Files { sizes, indexes, .. } =
            Files::list(&source, |name, size| opening.car(name, size))?;
        opening.end_cars()?;
        opening.indexes(&indexes, &sizes)?;
        let Opening { sorter, notes, .. } = opening;
        let failed = |error| ArchiveError::new(source.place(), error);
        let catalog = sorter.finish().map_err(failed)?;
        let runs = match &source {
            Source::Folder(_) => None,
            Source::Objects(objects) => {
                let runs = Runs::new(Arc::clone(objects), options.memory);
                Some(Arc::new(runs))
            }
        };
        Ok(Self {
            source,
            catalog,
            notes,
            sizes,
            indexes,
            runs,
            decoders: Decoders::new(options.memory),
            is_in_order: AtomicBool::new(false),
        })
    }

    /// Bytes of memory that reading takes of so many, beside what each repo takes.
    #[must_use]
    pub fn memory(&self, total: u64) -> u64 {
        let of_runs = self.runs.as_ref().map_or(0, |_| Runs::memory(total));
        of_runs.saturating_add(Decoders::memory(total))
    }

    /// What is torn or cannot be read, and was left out.
    pub fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let more = (self.notes.more > 0).then(|| format!("and {} more", self.notes.more));
        self.notes.texts.iter().cloned().chain(more)
    }

    /// How many accounts are in it.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.catalog.accounts()
    }

    /// Bytes of the newest CARs of all accounts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.catalog.bytes()
    }

    /// The accounts after `did`, in the order of DIDs.
    pub fn after(&self, did: &str) -> impl Iterator<Item = Result<Account, ArchiveError>> + '_ {
        let account = |entry: Entry| Account {
            did: entry.did,
            pds: entry.pds,
            rev: entry.rev,
            bytes: entry.car,
        };
        self.catalog.after(did).map(move |entry| entry.map(account))
    }

    /// The rev of an account's CAR.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn rev(&self, did: &str) -> Result<Option<String>, ArchiveError> {
        Ok(self.catalog.find(did)?.map(|entry| entry.rev))
    }

    /// From now on repos are read about in the order of [`Self::in_order`].
    pub fn expect_order(&self, is_in_order: bool) {
        self.is_in_order.store(is_in_order, Ordering::Relaxed);
    }

    /// Whether reading in the order of the archive is worth it.
    #[must_use]
    pub fn has_order(&self) -> bool {
        self.runs.is_some() && !self.indexes.is_empty()
    }

    /// What is known of an account's newest CAR.
    pub(crate) fn entry(&self, did: &str) -> Result<Option<Entry>, ArchiveError> {
        self.catalog.find(did)
    }

    /// The accounts whose newest CAR is a plain file.
    pub(crate) fn plain(&self) -> impl Iterator<Item = Result<Entry, ArchiveError>> + '_ {
        let is_plain = |entry: &Result<Entry, _>| entry.as_ref().map_or(true, |e| e.is_plain);
        self.catalog.after("").filter(is_plain)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn indexes(&self) -> &[(String, u64)] {
        &self.indexes
    }

    pub(crate) fn sizes(&self) -> &HashMap<String, u64> {
        &self.sizes
    }

    /// Whether a line of an index is of the newest CAR of its account.
    pub(crate) fn is_newest(&self, line: &Line) -> Result<bool, ArchiveError> {
        let entry = self.catalog.find(&line.did)?;
        let is_it = |entry: Entry| {
            !entry.is_plain && entry.file == line.file && entry.offset == line.offset
        };
        Ok(entry.is_some_and(is_it))
    }

    /// The CAR of an account; `None` if it is not in the archive. A CAR larger than `most_memory`
    /// goes to `spool` and is mapped.
    ///
    /// # Errors
    /// It cannot be read, or is of another rev than the index says.
    pub fn read(
        &self,
        did: &str,
        most_memory: usize,
        spool: &Spool,
    ) -> Result<Option<Body>, ArchiveError> {
        let Some(entry) = self.catalog.find(did)? else {
            return Ok(None);
        };
        let shown = self.source.shown(&entry.file);
        let at = |error: io::Error| ArchiveError::new(&shown, format!("the CAR of {did}: {error}"));
        if entry.is_plain {
            let file = (entry.file.as_str(), entry.bytes);
            let body = self.source.car(file, most_memory, spool);
            return body.map(Some).map_err(at);
        }
        let Entry {
            file,
            offset,
            bytes,
            ..
        } = &entry;
        let size = self.sizes.get(file).copied().unwrap_or_default();
        let mut frame: Box<dyn Read + Send> = match &self.runs {
            Some(runs) if self.is_in_order.load(Ordering::Relaxed) => {
                Box::new(runs.read(file, *offset, *bytes, size))
            }
            _ => self.source.read(file, *offset, *bytes).map_err(at)?,
        };
        // No decoder waits for a store, unless a frame is larger than what may be in memory.
        if self.runs.is_some() && *bytes <= most_memory as u64 {
            let mut content = Vec::new();
            frame.read_to_end(&mut content).map_err(at)?;
            frame = Box::new(io::Cursor::new(content));
        }
        let decoding = self.decoders.wait();
        let sizes = (*bytes, entry.car);
        let body = frame::unpack(frame, sizes, (most_memory, spool), |_| ()).map_err(at)?;
        drop(decoding);
        // An index that was altered must not pass an old CAR off as the newest. Other faults of a
        // CAR are found by whoever opens it.
        if let Ok(commit) = commit_of(&body)
            && commit.rev != entry.rev
        {
            let (rev, of_line) = (commit.rev, &entry.rev);
            let why = format!("the CAR of {did}: its rev is {rev}, the index has {of_line}");
            return Err(ArchiveError::new(&shown, why));
        }
        body.let_go();
        Ok(Some(body))
    }
}

/// An account of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its DID.
    pub did: String,
    /// The PDS that its repo was fetched from, if that is known.
    pub pds: String,
    /// The rev of the newest CAR.
    pub rev: String,
    /// Bytes of that CAR.
    pub bytes: u64,
}

/// An archive that is being opened.
struct Opening<'o> {
    source: &'o Source,
    spool: &'o Spool,
    sorter: Sorter,
    notes: Notes,
    /// Plain CARs that were not looked into yet.
    cars: Vec<(String, u64)>,
}

impl Opening<'_> {
    fn add(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        if !entry.is_kept() {
            let name = self.source.shown(&entry.file);
            self.notes.add(format!(
                "{name}: a line has no DID, or a text that is too long; left out"
            ));
            return Ok(());
        }
        let added = self.sorter.add(entry);
        added.map_err(|error| ArchiveError::new(self.source.place(), error))
    }

    /// Takes a plain CAR; of an object store several are looked into at once.
    fn car(&mut self, name: String, size: u64) -> Result<(), ArchiveError> {
        self.cars.push((name, size));
        match self.cars.len() >= AT_ONCE {
            true => self.end_cars(),
            false => Ok(()),
        }
    }

    fn end_cars(&mut self) -> Result<(), ArchiveError> {
        let cars = std::mem::take(&mut self.cars);
        let commits = commits_of(self.source, &cars, self.spool);
        for ((name, size), commit) in cars.into_iter().zip(commits) {
            match commit {
                Ok(commit) => self.add(Entry {
                    did: commit.did,
                    rev: commit.rev,
                    pds: String::new(),
                    file: name,
                    offset: 0,
                    bytes: size,
                    car: size,
                    is_plain: true,
                    number: 0,
                })?,
                Err(why) => self
                    .notes
                    .add(format!("{}: {why}", self.source.shown(&name))),
            }
        }
        Ok(())
    }

    /// Reads all indexes.
    fn indexes(
        &mut self,
        names: &[(String, u64)],
        sizes: &HashMap<String, u64>,
    ) -> Result<(), ArchiveError> {
        let mut left = names;
        while !left.is_empty() {
            let (some, rest) = left.split_at(at_once(left));
            left = rest;
            for ((name, _), index) in some.iter().zip(open_indexes(self.source, some)) {
                let shown = self.source.shown(name);
                match index {
                    Ok(index) => self.index(&shown, index, sizes)?,
                    Err(error) if name == FOLDER_INDEX => {
                        return Err(ArchiveError::new(shown, error));
                    }
                    Err(error) => self.notes.add(format!(
                        "{shown}: {error}; the repos of this segment are left out"
                    )),
                }
            }
        }
        Ok(())
    }

    fn index(
        &mut self,
        shown: &str,
        index: Box<dyn Read + Send>,
        sizes: &HashMap<String, u64>,
    ) -> Result<(), ArchiveError> {
        let (mut lines, mut number) = (Lines::new(index), 0u64);
        // Where the last CAR of each file ends: if many lines named one, each would be read again.
        let mut ends: HashMap<String, u64> = HashMap::new();
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                // Of a segment's index the rest is lost; that of a folder is the only one.
                Err(error) if shown.ends_with(INDEX) => {
                    self.notes.add(format!(
                        "{shown}, after line {number}: {error}; the rest of this segment is left out"
                    ));
                    return Ok(());
                }
                Err(error) => return Err(ArchiveError::new(shown, error)),
            };
            number = number.saturating_add(1);
            if line.is_empty() {
                continue;
            }
            let Some(line) = Line::read(line) else {
                self.notes.add(format!(
                    "{shown}, line {number}: torn, or its file is not in the archive; left out"
                ));
                continue;
            };
            let size = sizes.get(&line.file);
            if line
                .end()
                .is_none_or(|end| size.is_none_or(|size| end > *size))
            {
                let file = self.source.shown(&line.file);
                self.notes.add(match size {
                    None => format!("{file} is missing: the CAR of {} is left out", line.did),
                    Some(_) => format!(
                        "{file} is torn: the CAR of {} at {} is incomplete, left out",
                        line.did, line.offset
                    ),
                });
                continue;
            }
            let last = ends.get(&line.file).copied().unwrap_or(0);
            if line.offset < last {
                let file = self.source.shown(&line.file);
                self.notes.add(format!(
                    "{file}: the CAR of {} at {} begins within the one before it; left out",
                    line.did, line.offset
                ));
                continue;
            }
            ends.insert(line.file.clone(), line.end().unwrap_or(last));
            self.add(Entry {
                did: line.did,
                rev: line.rev,
                pds: line.pds,
                file: line.file,
                offset: line.offset,
                bytes: line.bytes,
                car: line.car,
                is_plain: false,
                number: 0,
            })?;
        }
    }
}

/// How many of the first of these indexes are requested at once: at least one.
fn at_once(indexes: &[(String, u64)]) -> usize {
    let mut bytes = 0u64;
    let fits = |index: &&(String, u64)| {
        bytes = bytes.saturating_add(index.1);
        bytes <= INDEXES
    };
    let some = indexes.iter().take(AT_ONCE).take_while(fits).count();
    some.max(1).min(indexes.len())
}

/// Whether an index is that of a segment, and larger than such a one may be.
fn is_too_large((name, size): &(String, u64)) -> bool {
    name != FOLDER_INDEX && *size > INDEX_BYTES
}

/// The lines of an index.
fn lines_of(
    content: Box<dyn Read + Send>,
    (name, size): &(String, u64),
) -> Result<Box<dyn Read + Send>, String> {
    match name == FOLDER_INDEX {
        true => Ok(content),
        false => frame::index(content, *size).map_err(|error| error.to_string()),
    }
}

/// Opens indexes; those of object stores are requested at once.
pub(crate) fn open_indexes(
    source: &Source,
    names: &[(String, u64)],
) -> Vec<Result<Box<dyn Read + Send>, String>> {
    // One of all segments can be large: it is read piece by piece.
    let is_read =
        |index: &(String, u64)| index.0 == FOLDER_INDEX || matches!(source, Source::Folder(_));
    let mut got = match source {
        Source::Folder(_) => Vec::new(),
        Source::Objects(objects) => {
            let wanted = names
                .iter()
                .filter(|&index| !is_read(index) && !is_too_large(index));
            let getting = |(name, size): &(String, u64)| objects.getting_whole(name, *size);
            objects.wait_all(wanted.map(getting).collect())
        }
    }
    .into_iter();
    let open = |index: &(String, u64)| -> Result<Box<dyn Read + Send>, String> {
        let (name, size) = index;
        if is_too_large(index) {
            return Err(format!(
                "it has {size} bytes; the index of a segment has {INDEX_BYTES} at most"
            ));
        }
        if is_read(index) {
            let content = source.read(name, 0, *size);
            return lines_of(content.map_err(|error| error.to_string())?, index);
        }
        match got.next() {
            Some(Ok(content)) => lines_of(Box::new(io::Cursor::new(content)), index),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it was not read".to_owned()),
        }
    };
    names.iter().map(open).collect()
}

/// The commits of plain CARs, or why there is none.
fn commits_of(
    source: &Source,
    cars: &[(String, u64)],
    spool: &Spool,
) -> Vec<Result<Commit, String>> {
    let whole = |name: &str, size: u64| {
        let body = source.car((name, size), 1 << 20, spool);
        commit_of(&body.map_err(|error| error.to_string())?)
    };
    let Source::Objects(objects) = source else {
        return cars.iter().map(|(name, size)| whole(name, *size)).collect();
    };
    let heads = cars
        .iter()
        .map(|(name, size)| objects.getting(name, 0..HEAD.min(*size)))
        .collect();
    let heads = objects.wait_all(heads);
    // The commit stands first in nearly every CAR.
    let commit = |((name, size), head): (&(String, u64), Result<bytes::Bytes, ArchiveError>)| {
        let head = head.map_err(|error| error.to_string())?;
        commit_of(&head).or_else(|why| match HEAD < *size {
            true => whole(name, *size),
            false => Err(why),
        })
    };
    cars.iter().zip(heads).map(commit).collect()
}

/// The commit of a CAR, or why there is none.
pub(crate) fn commit_of(car: &[u8]) -> Result<Commit, String> {
    let (root, blocks) = Blocks::open(car).map_err(|error| error.to_string())?;
    for block in blocks {
        let (cid, _, bytes) = block.map_err(|error| error.to_string())?;
        if cid == root {
            return Commit::parse(bytes).map_err(str::to_owned);
        }
    }
    Err("the commit is not in it".to_owned())
}
