//! The accounts of an archive with the places of their newest CARs, in the order of DIDs, in
//! bounded memory.
//!
//! The indexes of an archive are in the order in which CARs came, and at full size they are some 15
//! GB. They are sorted in runs of bounded size, which go to the spool and are merged to blocks of
//! [`BLOCK`] accounts, compressed, in the spool as well, unless they are small. Memory keeps the
//! first DID of each block: 20 MB for 45 million accounts. A look-up reads one block.

use crate::error::ArchiveError;
use fetch::{Body, Incoming, Spool, SpoolFile};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::sync::atomic::{AtomicU32, Ordering as Atomic};

/// Accounts of a block.
const BLOCK: usize = 128;
/// Bytes of a run, at least and at most.
const RUN: (usize, usize) = (1 << 20, 64 << 20);
/// A fast level.
const LEVEL: i32 = 1;
/// Look-ups after which the pages of a catalog in a file are released.
const LOOKUPS: u32 = 256;
/// Longest texts that an entry may have: DID, rev, PDS and file.
const TEXTS: [usize; 4] = [2048, 64, 2048, 255];

/// The newest CAR of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) did: String,
    pub(crate) rev: String,
    pub(crate) pds: String,
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// Bytes of the frame; of a plain file, of the file.
    pub(crate) bytes: u64,
    /// Bytes of the CAR.
    pub(crate) car: u64,
    /// Whether its file is the CAR itself.
    pub(crate) is_plain: bool,
    /// Its position among all: of equal revs, the last one counts.
    pub(crate) number: u64,
}

impl Entry {
    /// Whether it has the form that the archive can keep.
    pub(crate) fn is_kept(&self) -> bool {
        let texts = [&self.did, &self.rev, &self.pds, &self.file];
        atrepo::syntax::is_did(&self.did)
            && texts
                .iter()
                .zip(TEXTS)
                .all(|(text, most)| text.len() <= most)
    }

    /// By DID; of one DID the newest first.
    fn order(&self, other: &Self) -> Ordering {
        self.did
            .cmp(&other.did)
            .then_with(|| other.rev.cmp(&self.rev))
            .then_with(|| other.number.cmp(&self.number))
    }

    /// Memory that it takes while it is sorted, about.
    fn memory(&self) -> usize {
        size_of::<Self>() + self.did.len() + self.rev.len() + self.pds.len() + self.file.len() + 64
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for text in [&self.did, &self.rev, &self.pds, &self.file] {
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            to.write_all(&length.to_le_bytes())?;
            to.write_all(text.as_bytes())?;
        }
        for number in [self.offset, self.bytes, self.car, self.number] {
            to.write_all(&number.to_le_bytes())?;
        }
        to.write_all(&[u8::from(self.is_plain)])
    }

    /// The next one; nothing at the end.
    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(did) = text(from)? else {
            return Ok(None);
        };
        let mut more = || text(from)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
        let texts: [String; 3] = [more()?, more()?, more()?];
        let [rev, pds, file] = texts;
        let mut number = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let (offset, bytes, car) = (number()?, number()?, number()?);
        let number = number()?;
        let mut plain = [0];
        from.read_exact(&mut plain)?;
        Ok(Some(Self {
            did,
            rev,
            pds,
            file,
            offset,
            bytes,
            car,
            is_plain: plain != [0],
            number,
        }))
    }
}

fn text(from: &mut impl Read) -> io::Result<Option<String>> {
    let mut length = [0; 2];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut bytes = vec![0; usize::from(u16::from_le_bytes(length))];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Collects entries in any order.
pub(crate) struct Sorter {
    spool: Spool,
    entries: Vec<Entry>,
    memory: usize,
    most: usize,
    /// Sorted runs, with the claims on their space.
    runs: Vec<Run>,
    number: u64,
}

/// A sorted run in the spool.
struct Run {
    file: File,
    _claim: fetch::Claim,
}

impl Sorter {
    /// One that uses at most so much memory for what it sorts.
    pub(crate) fn new(spool: &Spool, memory: usize) -> Self {
        Self {
            spool: spool.clone(),
            entries: Vec::new(),
            memory: 0,
            most: (memory / 2).clamp(RUN.0, RUN.1),
            runs: Vec::new(),
            number: 0,
        }
    }

    pub(crate) fn add(&mut self, mut entry: Entry) -> io::Result<()> {
        self.number = self.number.saturating_add(1);
        entry.number = self.number;
        self.memory = self.memory.saturating_add(entry.memory());
        self.entries.push(entry);
        match self.memory >= self.most {
            true => self.end_run(),
            false => Ok(()),
        }
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.entries.sort_unstable_by(Entry::order);
        let spooled = ToSpool(self.spool.file("the archive's index")?);
        let mut to = BufWriter::new(zstd::Encoder::new(spooled, LEVEL)?);
        for entry in &self.entries {
            entry.write(&mut to)?;
        }
        let encoder = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        let (mut file, claim) = encoder.finish()?.0.into_parts();
        file.rewind()?;
        self.runs.push(Run {
            file,
            _claim: claim,
        });
        self.entries.clear();
        self.memory = 0;
        Ok(())
    }

    /// The catalog of all entries.
    pub(crate) fn finish(mut self) -> io::Result<Catalog> {
        self.entries.sort_unstable_by(Entry::order);
        let mut blocks = Blocks::new(&self.spool, self.most);
        let mut inputs: Vec<Box<dyn Iterator<Item = io::Result<Entry>>>> = Vec::new();
        let mut claims = Vec::new();
        for Run { file, _claim } in self.runs {
            let mut from = BufReader::new(zstd::Decoder::new(file)?);
            let next = move || Entry::read(&mut from).transpose();
            inputs.push(Box::new(std::iter::from_fn(next)));
            claims.push(_claim);
        }
        inputs.push(Box::new(self.entries.into_iter().map(Ok)));
        let mut heap = BinaryHeap::new();
        for (input, entries) in inputs.iter_mut().enumerate() {
            if let Some(entry) = entries.next() {
                heap.push(Head(entry?, input));
            }
        }
        while let Some(Head(entry, input)) = heap.pop() {
            blocks.add(entry)?;
            if let Some(next) = inputs.get_mut(input).and_then(Iterator::next) {
                heap.push(Head(next?, input));
            }
        }
        drop(claims);
        blocks.finish()
    }
}

/// The next entry of a run. The heap gives the first one by [`Entry::order`].
struct Head(Entry, usize);

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.order(&self.0)
    }
}

struct ToSpool(SpoolFile);

impl Write for ToSpool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the blocks of a catalog.
struct Blocks<'s> {
    body: Incoming<'s>,
    block: Vec<u8>,
    in_block: usize,
    first: String,
    last: String,
    catalog: Index,
}

/// What memory keeps of a catalog.
#[derive(Default)]
struct Index {
    /// For each block its first DID, and where it ends.
    blocks: Vec<(Box<str>, u64)>,
    accounts: u64,
    /// Bytes of all CARs.
    bytes: u64,
}

impl<'s> Blocks<'s> {
    fn new(spool: &'s Spool, most_memory: usize) -> Self {
        Self {
            body: Incoming::new(most_memory / 4, spool, "the archive's index"),
            block: Vec::new(),
            in_block: 0,
            first: String::new(),
            last: String::new(),
            catalog: Index::default(),
        }
    }

    fn add(&mut self, entry: Entry) -> io::Result<()> {
        // The first one of a DID is the newest.
        if self.last == entry.did {
            return Ok(());
        }
        if self.in_block == 0 {
            self.first.clone_from(&entry.did);
        }
        entry.write(&mut self.block)?;
        self.in_block += 1;
        self.catalog.accounts = self.catalog.accounts.saturating_add(1);
        self.catalog.bytes = self.catalog.bytes.saturating_add(entry.car);
        self.last = entry.did;
        match self.in_block >= BLOCK {
            true => self.end_block(),
            false => Ok(()),
        }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.in_block == 0 {
            return Ok(());
        }
        self.body
            .push(&zstd::encode_all(self.block.as_slice(), LEVEL)?)?;
        let first = self.first.as_str().into();
        self.catalog.blocks.push((first, self.body.total()));
        self.block.clear();
        self.in_block = 0;
        Ok(())
    }

    fn finish(mut self) -> io::Result<Catalog> {
        self.end_block()?;
        Ok(Catalog {
            index: self.catalog,
            blocks: match self.body.total() {
                0 => Body::in_memory(Vec::new()),
                _ => self.body.finish()?,
            },
            lookups: AtomicU32::new(0),
        })
    }
}

/// The accounts of an archive.
pub(crate) struct Catalog {
    index: Index,
    blocks: Body,
    lookups: AtomicU32,
}

impl Catalog {
    /// How many accounts there are.
    pub(crate) fn accounts(&self) -> u64 {
        self.index.accounts
    }

    /// Bytes of all CARs.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes
    }

    /// The entry of an account.
    pub(crate) fn find(&self, did: &str) -> Result<Option<Entry>, ArchiveError> {
        let blocks = &self.index.blocks;
        let after = blocks.partition_point(|(first, _)| first.as_ref() <= did);
        let Some(at) = after.checked_sub(1) else {
            return Ok(None);
        };
        let entries = self.block(at)?;
        Ok(entries.into_iter().find(|entry| entry.did == did))
    }

    /// All entries after this DID, in their order.
    pub(crate) fn after(
        &self,
        did: &str,
    ) -> impl Iterator<Item = Result<Entry, ArchiveError>> + '_ {
        let blocks = &self.index.blocks;
        let first = blocks
            .partition_point(|(first, _)| first.as_ref() <= did)
            .saturating_sub(1);
        let did = did.to_owned();
        (first..blocks.len()).flat_map(move |at| {
            let entries: Vec<_> = match self.block(at) {
                Err(error) => vec![Err(error)],
                Ok(entries) => entries
                    .into_iter()
                    .filter(|entry| entry.did > did)
                    .map(Ok)
                    .collect(),
            };
            entries
        })
    }

    fn block(&self, at: usize) -> Result<Vec<Entry>, ArchiveError> {
        let ends = |at: usize| self.index.blocks.get(at).map_or(0, |(_, end)| *end);
        let start = at.checked_sub(1).map_or(0, ends);
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.blocks.get(place(start)..place(ends(at)));
        let read = || -> io::Result<Vec<Entry>> {
            let mut from = zstd::Decoder::new(bytes.unwrap_or_default())?;
            let mut entries = Vec::with_capacity(BLOCK);
            while let Some(entry) = Entry::read(&mut from)? {
                entries.push(entry);
            }
            Ok(entries)
        };
        let entries = read().map_err(|error| ArchiveError::new("its index in the spool", error));
        let lookups = self.lookups.fetch_add(1, Atomic::Relaxed);
        if lookups.is_multiple_of(LOOKUPS) {
            self.blocks.let_go();
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(did: u64, rev: u64, offset: u64) -> Entry {
        Entry {
            did: format!("did:plc:{did:08}"),
            rev: format!("{rev:013}"),
            pds: "https://pds.example".to_owned(),
            file: "000000.cars.zst".to_owned(),
            offset,
            bytes: 10,
            car: 20,
            is_plain: false,
            number: 0,
        }
    }

    /// Sorted in one run or in many, in memory or in the spool, it answers the same.
    #[test]
    fn the_newest_of_each_account_is_found_in_any_size() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        for memory in [2 << 20, 256 << 20] {
            let mut sorter = Sorter::new(&spool, memory);
            for offset in 0..30_000u64 {
                // 10,007 is prime: each account comes some three times, not in order.
                let (did, rev) = (offset * 7 % 10_007, offset % 5);
                sorter.add(entry(did, rev, offset)).unwrap();
            }
            assert_eq!(sorter.runs.is_empty(), memory > 100 << 20);
            let catalog = sorter.finish().unwrap();
            assert_eq!(catalog.accounts(), 10_007);
            assert_eq!(catalog.bytes(), 10_007 * 20);
            let newest = |did: u64| {
                let of_did = (0..30_000u64).filter(|offset| offset * 7 % 10_007 == did);
                of_did.max_by_key(|offset| (offset % 5, *offset)).unwrap()
            };
            for did in [0, 1, 127, 128, 5000, 10_006] {
                let found = catalog.find(&format!("did:plc:{did:08}")).unwrap();
                assert_eq!(found.unwrap().offset, newest(did), "{did}");
            }
            for absent in ["did:plc:", "did:plc:00000001a", "did:zzz:z"] {
                assert_eq!(catalog.find(absent).unwrap(), None);
            }
            let after: Vec<String> = catalog
                .after("did:plc:00010000")
                .map(|entry| entry.unwrap().did)
                .collect();
            assert_eq!(after.len(), 6);
            assert_eq!(after[0], "did:plc:00010001");
            assert_eq!(catalog.after("").count(), 10_007);
        }
        let none = Sorter::new(&spool, 0).finish().unwrap();
        assert_eq!(none.find("did:plc:a").unwrap(), None);
    }
}
