//! Sorts the records of a part by collection and month, within a memory budget.
//!
//! Repos come in the order of DIDs, and each has records of all months, so that all partitions grow
//! at the same time: some 900 of them in the whole network. When their rows exceed the budget, the
//! largest are compressed and appended to one file in the spool. At the end of the part each
//! partition is read back from there and written to a file of its own, in row groups of full size.

use crate::batch::{Batch, Done, Form, Value};
use crate::month::Month;
use crate::plan::Format;
use crate::shape::Shape;
use crate::tally::{Tallies, Tally};
use fetch::{Body, Spool, SpoolFile};
use rows::Collection;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// Collections that the AppView does not know and that have folders of their own: of a part of an
/// export, or of all parts of changes together. A hostile repo could have a million; the records of
/// the rest share a folder.
const MOST_UNKNOWN: usize = 1000;
/// Longest name of a collection that has a folder of its own, in bytes: names of folders have at
/// most 255.
const LONGEST_NAME: usize = 200;
/// The folder of the other collections. No collection is called so: names have dots.
pub(crate) const OTHERS: &str = "others";
/// Whose the file in the spool is.
const OWNER: &str = "the files";
/// Memory that an empty partition costs, about.
const PARTITION_BYTES: usize = 2048;
/// Maximum number of partitions; those of further months share one for each collection that the
/// AppView knows, and one for all others.
const MOST_PARTITIONS: usize = 20_000;
/// The same of a part of changes, of which there is one every few minutes.
const MOST_OF_CHANGES: usize = 2000;

/// What the rows of a part say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// What records are.
    Records,
    /// How they changed.
    Changes,
}

/// A collection of the part.
struct Of {
    is_known: bool,
    shape: Arc<Shape>,
    tally: Tally,
}

/// The rows of one collection and month.
pub(crate) struct Partition {
    /// The name of its collection's folder.
    pub(crate) collection: String,
    pub(crate) month: Month,
    pub(crate) shape: Arc<Shape>,
    batch: Batch,
    /// Where in the spool its pieces are.
    pieces: Vec<(Form, usize, usize)>,
}

impl Partition {
    /// Its rows in batches.
    pub(crate) fn batches<'b>(
        self,
        spooled: Option<&'b Body>,
    ) -> impl Iterator<Item = io::Result<Done>> + 'b {
        let Self {
            shape,
            batch,
            pieces,
            ..
        } = self;
        let from_spool = pieces.into_iter().map(move |(form, start, end)| {
            let lost = || io::Error::new(io::ErrorKind::UnexpectedEof, "the spool is cut off");
            let body = spooled.ok_or_else(lost)?;
            let read = Done::read(&shape, &form, body.get(start..end).ok_or_else(lost)?);
            body.let_go();
            read
        });
        let from_memory = (batch.rows() > 0).then(|| Ok(batch.done()));
        from_spool.chain(from_memory)
    }
}

/// All partitions of a part.
pub(crate) struct Partitions {
    format: Format,
    content: Content,
    collections: Vec<Of>,
    names: HashMap<String, usize>,
    unknown: usize,
    /// Unknown collections that have a folder in any case.
    has_folder: HashSet<String>,
    partitions: HashMap<(usize, Month), Partition>,
    /// Bytes in memory, and how many there may be.
    bytes: usize,
    most: usize,
    spool: Spool,
    file: Option<SpoolFile>,
    spooled: usize,
}

impl Partitions {
    pub(crate) fn new(
        (format, content): (Format, Content),
        before: Option<&Tallies>,
        most: usize,
        spool: &Spool,
    ) -> Self {
        let before = before.into_iter().flat_map(Tallies::keys);
        let has_folder: HashSet<String> = before
            .filter(|name| *name != OTHERS && Collection::parse(name).is_none())
            .cloned()
            .collect();
        Self {
            format,
            content,
            collections: Vec::new(),
            names: HashMap::new(),
            unknown: has_folder.len(),
            has_folder,
            partitions: HashMap::new(),
            bytes: 0,
            most,
            spool: spool.clone(),
            file: None,
            spooled: 0,
        }
    }

    /// The number of a collection here.
    pub(crate) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let known = Collection::parse(name);
        let is_listed = known.is_some() || name == OTHERS || self.has_folder.contains(name);
        let has_folder = is_listed || (self.unknown < MOST_UNKNOWN && name.len() <= LONGEST_NAME);
        self.unknown += usize::from(!is_listed);
        // Beyond the bound, the other collections are counted together as well.
        if !has_folder {
            return self.number(OTHERS);
        }
        let number = self.collections.len();
        self.collections.push(Of {
            is_known: known.is_some(),
            shape: Arc::new(match (self.format, self.content) {
                (Format::Parquet, Content::Records) => Shape::typed(known),
                (Format::Parquet, Content::Changes) => Shape::of_changes(known),
                (Format::Jsonl, _) => Shape::lines(),
            }),
            tally: Tally::default(),
        });
        self.names.insert(name.to_owned(), number);
        number
    }

    /// The shape of a collection's files.
    pub(crate) fn shape(&self, number: usize) -> Arc<Shape> {
        Arc::clone(&self.collections[number].shape)
    }

    /// Counts of a collection.
    pub(crate) fn tally(&mut self, number: usize) -> &mut Tally {
        &mut self.collections[number].tally
    }

    /// The partition that a record goes to.
    pub(crate) fn place(&mut self, number: usize, month: Month) -> (usize, Month) {
        // Empty partitions take at most a quarter of the memory.
        let most = match self.content {
            Content::Records => MOST_PARTITIONS,
            Content::Changes => MOST_OF_CHANGES,
        };
        let most = most.min(self.most / 4 / PARTITION_BYTES);
        if self.partitions.len() < most || self.partitions.contains_key(&(number, month)) {
            return (number, month);
        }
        match self.collections[number].is_known {
            true => (number, Month::Mixed),
            false => (self.number(OTHERS), Month::Mixed),
        }
    }

    /// Adds a row to a partition.
    ///
    /// # Errors
    /// The spool is full or cannot be written.
    pub(crate) fn add<'v>(
        &mut self,
        (number, month): (usize, Month),
        values: impl Iterator<Item = Value<'v>>,
    ) -> io::Result<()> {
        let of = &self.collections[number];
        let partition = self.partitions.entry((number, month)).or_insert_with(|| {
            self.bytes += PARTITION_BYTES;
            let name = self.names.iter().find(|(_, known)| **known == number);
            Partition {
                collection: name.map_or_else(String::new, |(name, _)| name.clone()),
                month,
                shape: Arc::clone(&of.shape),
                batch: Batch::new(&of.shape),
                pieces: Vec::new(),
            }
        });
        self.bytes += partition.batch.push(values);
        if self.bytes > self.most {
            self.spill()?;
        }
        Ok(())
    }

    /// Brings the largest partitions to the spool, until half of the budget is free.
    fn spill(&mut self) -> io::Result<()> {
        let mut largest: Vec<&mut Partition> = self.partitions.values_mut().collect();
        largest.sort_by_key(|partition| std::cmp::Reverse(partition.batch.bytes()));
        for partition in largest {
            let bytes = partition.batch.bytes();
            if self.bytes <= self.most / 2 || bytes == 0 {
                break;
            }
            let full = std::mem::replace(&mut partition.batch, Batch::new(&partition.shape));
            let piece = full.compress()?;
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(self.spool.file(OWNER)?),
            };
            file.push(&piece.compressed)?;
            let end = self.spooled + piece.compressed.len();
            partition.pieces.push((piece.form, self.spooled, end));
            self.spooled = end;
            self.bytes -= bytes;
        }
        Ok(())
    }

    /// The partitions in the order of their names, what of them is in the spool, and the tallies.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(crate) fn finish(self) -> io::Result<(Vec<Partition>, Option<Body>, Tallies)> {
        let mut partitions: Vec<Partition> = self.partitions.into_values().collect();
        partitions.sort_by(|a, b| (&a.collection, a.month).cmp(&(&b.collection, b.month)));
        let spooled = self.file.map(SpoolFile::finish).transpose()?;
        let tallies = self
            .names
            .into_iter()
            .filter_map(|(name, number)| Some((name, self.collections.get(number)?.tally)));
        Ok((partitions, spooled, tallies.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a partition, by what is in its first column.
    fn rows_of(partition: Partition, spooled: Option<&Body>) -> usize {
        let batches = partition.batches(spooled);
        batches.map(|batch| batch.unwrap().rows).sum()
    }

    #[test]
    fn what_exceeds_the_budget_comes_back_from_the_spool() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        let mut partitions =
            Partitions::new((Format::Jsonl, Content::Records), None, 200_000, &spool);
        let text = "x".repeat(100);
        for row in 0..50_000usize {
            let number = partitions.number(["com.example.a", "com.example.b"][row % 2]);
            let month = Month::Of(24_000 + i32::try_from(row % 10).unwrap());
            partitions
                .add((number, month), std::iter::once(Value::Text(&text)))
                .unwrap();
            assert!(partitions.bytes <= 201_000, "{}", partitions.bytes);
        }
        assert!(partitions.spooled > 0);
        let (parts, spooled, _) = partitions.finish().unwrap();
        assert_eq!(parts.len(), 10);
        assert_eq!(parts[0].collection, "com.example.a");
        for part in parts {
            assert_eq!(rows_of(part, spooled.as_ref()), 5000);
        }
    }

    #[test]
    fn the_number_of_folders_is_bounded() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        let mut partitions =
            Partitions::new((Format::Parquet, Content::Records), None, 1 << 20, &spool);
        for name in 0..5000 {
            partitions.number(&format!("com.example.x{name}"));
        }
        assert_eq!(partitions.collections.len(), MOST_UNKNOWN + 1);
        let others = partitions.number("com.example.x4999");
        assert_eq!(partitions.number(OTHERS), others);
        // One that the AppView knows always has its own.
        let post = partitions.number("app.bsky.feed.post");
        assert!(partitions.shape(post).table.is_some() && post != others);
        // Nor do months make folders without end.
        for month in 0..1000 {
            let (number, month) = partitions.place(post, Month::Of(month));
            let text = std::iter::once(Value::Text("x"));
            partitions.add((number, month), text).unwrap();
        }
        assert_eq!(
            partitions.partitions.len(),
            (1 << 20) / 4 / PARTITION_BYTES + 1
        );
        assert_eq!(
            partitions.place(others, Month::Of(7)),
            (others, Month::Mixed)
        );
        let mut partitions =
            Partitions::new((Format::Parquet, Content::Records), None, 1 << 20, &spool);
        let long = format!("com.example.{}", "x".repeat(250));
        let others = partitions.number(&long);
        assert_eq!(partitions.number(OTHERS), others);
    }
}
