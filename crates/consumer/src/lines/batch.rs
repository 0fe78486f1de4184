//! The rows of some records of one collection, encoded table by table.

use appview::table::{self, TableInfo};
use load::copy;
use rows::{Collection, Record, Reject, Rows};
use std::collections::HashSet;

/// What a record takes in a batch beside its rows and its URI: places in the set of URIs and in the
/// list of ends.
const BESIDE_ROWS: usize = 128;

/// Rows of up to some thousand records of one collection, and where each record's rows end.
pub struct Batch {
    collection: Collection,
    /// By [`TableInfo::id`]; only tables that got a row.
    tables: Vec<(TableInfo, TableRows)>,
    /// For each record, the end of its rows in each of `tables` (tables that came later count as
    /// empty before).
    ends: Vec<Vec<usize>>,
    uris: HashSet<String>,
    /// What its records take beside their rows, in bytes.
    beside_rows: usize,
}

/// Encoded rows of one table.
#[derive(Default)]
struct TableRows {
    bytes: Vec<u8>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(collection: Collection) -> Self {
        Self {
            collection,
            tables: Vec::new(),
            ends: Vec::new(),
            uris: HashSet::new(),
            beside_rows: 0,
        }
    }

    /// Adds the rows of `record`. False if the batch has a record of that URI already: the first
    /// one wins.
    ///
    /// # Errors
    /// The record is not as its collection wants it; the batch is as before.
    pub fn add(&mut self, record: &Record<'_>) -> Result<bool, Reject> {
        if self.uris.contains(record.uri) {
            return Ok(false);
        }
        let before: Vec<usize> = self
            .tables
            .iter()
            .map(|(_, rows)| rows.bytes.len())
            .collect();
        let tables = &mut self.tables;
        let outcome = rows::index(
            record,
            &mut Rows::new(&mut |info, values| {
                let at = tables
                    .iter()
                    .position(|(table, _)| table.id == info.id)
                    .unwrap_or_else(|| {
                        tables.push((info, TableRows::default()));
                        tables.len() - 1
                    });
                copy::append_row(&mut tables[at].1.bytes, values);
            }),
        );
        if let Err(reject) = outcome {
            for (at, (_, rows)) in self.tables.iter_mut().enumerate() {
                rows.bytes.truncate(before.get(at).copied().unwrap_or(0));
            }
            return Err(reject);
        }
        self.uris.insert(record.uri.to_owned());
        self.beside_rows += BESIDE_ROWS + record.uri.len() + self.tables.len() * size_of::<usize>();
        self.ends.push(
            self.tables
                .iter()
                .map(|(_, rows)| rows.bytes.len())
                .collect(),
        );
        Ok(true)
    }

    /// Its collection.
    #[must_use]
    pub fn collection(&self) -> Collection {
        self.collection
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rows: usize = self.tables.iter().map(|(_, rows)| rows.bytes.len()).sum();
        rows + self.beside_rows
    }

    /// The encoded rows of each table, as [`load::copy_rows`] takes them.
    pub fn tables(&self) -> impl Iterator<Item = (TableInfo, &[u8])> {
        self.all().tables()
    }

    /// All of it.
    pub(crate) fn all(&self) -> Part<'_> {
        Part {
            batch: self,
            from: 0,
            to: self.records(),
        }
    }
}

/// Some records of a batch, next to each other.
#[derive(Clone, Copy)]
pub(crate) struct Part<'b> {
    batch: &'b Batch,
    from: usize,
    to: usize,
}

impl<'b> Part<'b> {
    pub(crate) fn records(&self) -> usize {
        self.to - self.from
    }

    pub(crate) fn collection(&self) -> Collection {
        self.batch.collection
    }

    /// The encoded rows of each table that has some.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (TableInfo, &'b [u8])> + use<'b> {
        let (batch, from, to) = (self.batch, self.from, self.to);
        let end = move |record: usize, at: usize| {
            let last = record
                .checked_sub(1)
                .map_or(&[][..], |last| batch.ends[last].as_slice());
            last.get(at).copied().unwrap_or(0)
        };
        batch
            .tables
            .iter()
            .enumerate()
            .filter_map(move |(at, (table, rows))| {
                let bytes = &rows.bytes[end(from, at)..end(to, at)];
                (!bytes.is_empty()).then_some((*table, bytes))
            })
    }

    /// Both halves, of a part of at least two records.
    pub(crate) fn halves(&self) -> [Self; 2] {
        let middle = self.from + self.records() / 2;
        [
            Self {
                to: middle,
                ..*self
            },
            Self {
                from: middle,
                ..*self
            },
        ]
    }

    /// The columns of the `record` row of the first record, in the order of its table.
    pub(crate) fn record_row(&self) -> Vec<&'b str> {
        let rows = self
            .tables()
            .find(|(info, _)| info.id == table::RECORD.info().id);
        rows.map(|(_, bytes)| copy::first_row_texts(bytes))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(batch: &mut Batch, rkey: &str, subject: &str) -> Result<bool, Reject> {
        let mut w = atrepo_writer();
        let bytes = w(subject);
        let value = rows_value(&bytes);
        let uri = format!("at://did:plc:a/app.bsky.graph.follow/{rkey}");
        batch.add(&Record {
            did: "did:plc:a",
            collection: Collection::Follow,
            rkey,
            uri: &uri,
            cid: "bafy",
            indexed_at: "2024-01-01T00:00:00.000Z",
            value,
        })
    }

    fn atrepo_writer() -> impl FnMut(&str) -> Vec<u8> {
        |subject| {
            let mut w = atrepo::cbor::Writer::new();
            w.map(3)
                .text("$type")
                .text("app.bsky.graph.follow")
                .text("subject")
                .text(subject);
            w.text("createdAt").text("2024-01-01T00:00:00Z");
            w.into_bytes()
        }
    }

    fn rows_value(bytes: &[u8]) -> atrepo::cbor::Map<'_> {
        atrepo::cbor::check(bytes).unwrap().as_map().unwrap()
    }

    fn rows_of(part: &Part<'_>) -> usize {
        part.tables().map(|(_, rows)| rows.len()).sum()
    }

    #[test]
    fn a_refused_record_leaves_no_row_and_a_uri_counts_once() {
        let mut batch = Batch::new(Collection::Follow);
        assert_eq!(add(&mut batch, "1", "did:plc:b"), Ok(true));
        let (before, rows) = (batch.bytes(), rows_of(&batch.all()));
        assert!(add(&mut batch, "2", "nobody").is_err());
        assert_eq!(batch.bytes(), before);
        assert_eq!(add(&mut batch, "1", "did:plc:c"), Ok(false));
        assert_eq!(add(&mut batch, "3", "did:plc:c"), Ok(true));
        assert_eq!(batch.records(), 2);
        let [first, second] = batch.all().halves();
        assert_eq!(rows_of(&first), rows);
        assert_eq!(
            second.record_row()[0],
            "at://did:plc:a/app.bsky.graph.follow/3"
        );
    }
}
