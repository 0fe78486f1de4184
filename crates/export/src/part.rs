//! One part: records, until the files that have them are on the disk.

use crate::choice::Choice;
use crate::encode::{Change, Encoder, Source};
use crate::folder::{Folder, failure};
use crate::month::Month;
use crate::partitions::{Content, Partition, Partitions};
use crate::plan::{Damaged, FileEntry, Format, Mismatch, part_name};
use crate::tally::Tallies;
use crate::{lines_file, parquet_file};
use atrepo::cbor::Map;
use fetch::{Body, Spool};
use ledger::failpoint;
use process::{Failure, Stop};
use std::io;

/// A mismatch or a damaged repo is reported by name, up to so many of a part.
const MOST_NAMED: usize = 1000;

/// What parts share.
pub(crate) struct Common<'e> {
    pub(crate) folder: &'e Folder,
    pub(crate) format: Format,
    pub(crate) content: Content,
    /// The time after which no month has a folder of its own, in milliseconds since 1970.
    pub(crate) now: i64,
    pub(crate) choice: &'e Choice,
    /// The collections that the folder has before the part, if parts go on for ever.
    pub(crate) collections: Option<&'e Tallies>,
    pub(crate) spool: &'e Spool,
    /// Memory of one part.
    pub(crate) memory: usize,
    pub(crate) stop: &'e Stop,
}

/// A part that is under way.
pub(crate) struct Part<'e> {
    common: &'e Common<'e>,
    number: usize,
    partitions: Partitions,
    encoder: Encoder,
    repos: u64,
    mismatches: Vec<Mismatch>,
    damaged: Vec<Damaged>,
}

/// What was written of a part.
pub(crate) struct Written {
    pub(crate) repos: u64,
    pub(crate) collections: Tallies,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) mismatches: Vec<Mismatch>,
    pub(crate) damaged: Vec<Damaged>,
}

impl<'e> Part<'e> {
    pub(crate) fn new(common: &'e Common<'e>, number: usize) -> Self {
        // Vectors that grow have up to twice the size of their content.
        let most = common.memory / 4;
        Self {
            common,
            number,
            partitions: Partitions::new(
                (common.format, common.content),
                common.collections,
                most,
                common.spool,
            ),
            encoder: Encoder::default(),
            repos: 0,
            mismatches: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Its number.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Counts a repo.
    pub(crate) fn count_repo(&mut self) {
        self.repos += 1;
    }

    /// Notes that an account does not have what the ledger counted.
    pub(crate) fn note_mismatch(&mut self, mismatch: Mismatch) {
        if self.mismatches.len() < MOST_NAMED {
            self.mismatches.push(mismatch);
        }
    }

    /// Notes that a repo is damaged.
    pub(crate) fn note_damaged(&mut self, damaged: Damaged) {
        if self.damaged.len() < MOST_NAMED {
            self.damaged.push(damaged);
        }
    }

    /// Whether a collection is chosen.
    pub(crate) fn has(&self, collection: &str) -> bool {
        self.common.choice.has(collection)
    }

    /// Adds a record of the table `record`.
    pub(crate) fn add_stored(&mut self, source: &Source<'_>, json: &str) -> Result<(), Failure> {
        let number = self.partitions.number(source.collection);
        let shape = self.partitions.shape(number);
        self.encoder.read_stored(&shape, source, json);
        self.add(number, source, None)
    }

    /// Adds a record of a repo.
    pub(crate) fn add_archived(
        &mut self,
        source: &Source<'_>,
        value: Map<'_>,
    ) -> Result<(), Failure> {
        let number = self.partitions.number(source.collection);
        let shape = self.partitions.shape(number);
        if self.encoder.read_archived(&shape, source, value) {
            return self.add(number, source, None);
        }
        self.partitions.tally(number).unreadable += 1;
        Ok(())
    }

    /// Adds a change of a record.
    pub(crate) fn add_change(&mut self, change: &Change<'_>) -> Result<(), Failure> {
        let source = &change.source;
        let number = self.partitions.number(source.collection);
        let shape = self.partitions.shape(number);
        self.encoder.read_change(&shape, change);
        self.add(number, source, Some(change))
    }

    /// Counts a record that cannot be read.
    pub(crate) fn count_unreadable(&mut self, collection: &str) {
        let number = self.partitions.number(collection);
        self.partitions.tally(number).unreadable += 1;
    }

    /// Adds the row of what the encoder has read.
    fn add(
        &mut self,
        number: usize,
        source: &Source<'_>,
        change: Option<&Change<'_>>,
    ) -> Result<(), Failure> {
        let shape = self.partitions.shape(number);
        let values = match change {
            Some(change) => self.encoder.values_of_change(&shape, change),
            None => self.encoder.values(&shape, source),
        };
        let month = Month::of(self.encoder.sort_at(source), self.common.now);
        let (number, month) = self.partitions.place(number, month);
        self.partitions
            .add((number, month), values.into_iter())
            .map_err(|error| spool_failure(&error))?;
        let tally = self.partitions.tally(number);
        tally.count(source.uri, source.cid, self.encoder.is_refused());
        Ok(())
    }

    /// Writes the files; nothing if it was stopped before.
    pub(crate) fn write(self) -> Result<Option<Written>, Failure> {
        let Self {
            common,
            number,
            partitions,
            ..
        } = self;
        let (partitions, spooled, collections) =
            partitions.finish().map_err(|error| spool_failure(&error))?;
        let mut files = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if common.stop.is_set() {
                return Ok(None);
            }
            files.push(write_file(common, number, partition, spooled.as_ref())?);
            failpoint::pass("file");
        }
        failpoint::pass("part");
        Ok(Some(Written {
            repos: self.repos,
            collections,
            files,
            mismatches: self.mismatches,
            damaged: self.damaged,
        }))
    }
}

/// An error of the spool.
fn spool_failure(error: &io::Error) -> Failure {
    Failure::new(format!("the spool: {error}"))
        .hint_to_go_on("free space there, name another folder with --spool-dir, or give --part-records fewer; then")
}

fn write_file(
    common: &Common<'_>,
    number: usize,
    partition: Partition,
    spooled: Option<&Body>,
) -> Result<FileEntry, Failure> {
    let path = format!(
        "collection={}/month={}/{}.{}",
        partition.collection,
        partition.month,
        part_name(number),
        common.format.extension()
    );
    let mut file = common.folder.create(&path)?;
    let shape = std::sync::Arc::clone(&partition.shape);
    let batches = partition.batches(spooled);
    // The group before compression, and its pages after it, which wait for their column's end.
    let group_bytes = common.memory / 4;
    let records = match common.format {
        Format::Parquet => parquet_file::write(&mut file, &shape, group_bytes, batches),
        Format::Jsonl => lines_file::write(&mut file, batches),
    };
    let records = records.map_err(|error| failure(&common.folder.path(&path), &error))?;
    let written = file.finish()?;
    Ok(FileEntry {
        path,
        records,
        bytes: written.bytes,
        sha256: written.sha256,
    })
}
