//! What a merge sends of a repo: the rows of records that are new, changed or gone, and no others.
//!
//! Before the rows of a repo are staged, the keys and CIDs of its stored records are read. Rows of
//! records that are stored with the same CID, and are a duplicate of the same record or of none,
//! stay here. Of a repo of 100,000 records with three new ones, three travel.
//!
//! Three kinds of repos are staged as a whole: those of which no stored row is trusted, those that
//! skyfill stores for the first time ([`crate::replace`]), and those that come in parts. So is what
//! exceeds the memory for it, [`MOST_STORED`] records per transaction.

use crate::chunk::{Chunk, LoadedRepo};
use appview::table::{self, TableInfo};
use atrepo::{Cid, Codec};
use pg::DbError;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use std::collections::{HashMap, HashSet};

/// Stored records that are known in one transaction: with their keys about 20 MB.
const MOST_STORED: usize = 150_000;

/// A CID, and what the record is a duplicate of, as half of a SHA-256.
type Version = [u8; 16];

/// What is stored of the repos in the open transaction.
#[derive(Default)]
pub(crate) struct Differing {
    /// By account the versions of its records, by URI. Those that were compared are taken out.
    stored: HashMap<String, HashMap<Box<str>, Version>>,
    /// Records that changed.
    changed: Vec<String>,
    count: usize,
}

/// What is staged, in place of the whole repos.
#[derive(Default)]
pub(crate) struct Difference {
    /// The accounts of which only the differences are staged.
    pub(crate) accounts: HashSet<String>,
    /// Their stored records that changed or are gone.
    pub(crate) touched: Vec<String>,
}

impl Differing {
    /// Reads what is stored of the repos that begin in this chunk.
    pub(crate) fn read(
        &mut self,
        client: &mut Client,
        schema: &str,
        chunk: &Chunk,
        open: &HashSet<String>,
    ) -> Result<(), DbError> {
        let begin: Vec<&LoadedRepo> = chunk
            .repos
            .iter()
            .chain(&chunk.open)
            .filter(|repo| repo.part.is_none() && !open.contains(&repo.did))
            .collect();
        let dids: Vec<&str> = begin.iter().map(|repo| repo.did.as_str()).collect();
        if dids.is_empty() {
            return Ok(());
        }
        let (distrusted, new) = ledger::repos::rebuilt_and_new(client, schema, &dids)?;
        let is_in = |list: &[String], did: &str| list.iter().any(|other| other == did);
        let compared = dids.into_iter().filter(|did| {
            !is_in(&distrusted, did) && !is_in(&new, did) && !self.stored.contains_key(*did)
        });
        let compared: Vec<&str> = compared.collect();
        if compared.is_empty() {
            return Ok(());
        }
        for (did, stored) in stored(client, &compared, MOST_STORED - self.count)? {
            self.count += stored.len();
            self.stored.insert(did.to_owned(), stored);
        }
        Ok(())
    }

    /// The rows of a chunk that are to be staged.
    pub(crate) fn of(&mut self, chunk: &Chunk) -> Vec<(TableInfo, Vec<u8>)> {
        let same = self.same(chunk);
        let mut tables = Vec::new();
        for (info, rows) in chunk.tables() {
            let uri = position(&info, info.uri);
            let mut kept = Vec::new();
            for row in Rows(rows) {
                let is_same = row.text(uri).is_some_and(|uri| same.contains(uri));
                if !is_same {
                    kept.extend_from_slice(row.bytes);
                }
            }
            if !kept.is_empty() {
                tables.push((info, kept));
            }
        }
        tables
    }

    /// Whether anything is compared.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// The records of the chunk that are stored as they are.
    fn same<'c>(&mut self, chunk: &'c Chunk) -> HashSet<&'c str> {
        let (record, duplicate) = (table::RECORD.info(), table::DUPLICATE_RECORD.info());
        let rows = |info: TableInfo| Rows(chunk.tables.get(info.id).map_or(&[], Vec::as_slice));
        let of = position(&duplicate, "duplicateOf");
        let duplicates: HashMap<&str, &str> = rows(duplicate)
            .filter_map(|row| row.text(0).zip(row.text(of)))
            .collect();
        let (cid, did) = (position(&record, "cid"), position(&record, "did"));
        let mut same = HashSet::new();
        for row in rows(record) {
            let (Some(uri), Some(cid), Some(did)) = (row.text(0), row.text(cid), row.text(did))
            else {
                continue;
            };
            let stored = self.stored.get_mut(did);
            let Some(version) = stored.and_then(|stored| stored.remove(uri)) else {
                continue;
            };
            if version == version_of(cid, duplicates.get(uri).copied()) {
                same.insert(uri);
            } else {
                self.changed.push(uri.to_owned());
            }
        }
        same
    }

    /// What was staged, once all chunks were.
    pub(crate) fn end(&mut self) -> Difference {
        let mut difference = Difference {
            touched: std::mem::take(&mut self.changed),
            ..Difference::default()
        };
        for (did, gone) in self.stored.drain() {
            difference
                .touched
                .extend(gone.into_keys().map(String::from));
            difference.accounts.insert(did);
        }
        self.count = 0;
        difference
    }
}

/// The stored records of accounts: of the first ones, as long as there are at most `most`.
fn stored<'d>(
    client: &mut Client,
    dids: &[&'d str],
    most: usize,
) -> Result<Vec<(&'d str, HashMap<Box<str>, Version>)>, DbError> {
    // A duplicate has the time of its record; one that has not is written again.
    let mut rows = client.query_raw(
        "SELECT a.number, r.uri, r.cid, d.of
         FROM unnest($1::text[]) WITH ORDINALITY a (did, number)
           CROSS JOIN LATERAL (SELECT uri, cid, \"indexedAt\" FROM record r WHERE r.did = a.did OFFSET 0) r
           LEFT JOIN LATERAL (
             SELECT CASE WHEN d.cid = r.cid AND d.\"indexedAt\" = r.\"indexedAt\" THEN d.\"duplicateOf\" ELSE '' END AS of
             FROM duplicate_record d WHERE d.uri = r.uri OFFSET 0) d ON true",
        [dids].iter().map(|dids| dids as &(dyn ToSql + Sync)),
    )?;
    let mut all: Vec<_> = dids.iter().map(|did| (*did, HashMap::new())).collect();
    let (mut last, mut count) = (0, 0);
    while let Some(row) = rows.next()? {
        let at = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(0);
        // One account after the other: of those before, everything came.
        let is_in_order = at >= last;
        last = at;
        count += 1;
        let Some((_, stored)) = all.get_mut(at).filter(|_| is_in_order && count <= most) else {
            all.truncate(if is_in_order { at } else { 0 });
            break;
        };
        let (uri, cid): (&str, &str) = (row.get(1), row.get(2));
        stored.insert(Box::from(uri), version_of(cid, row.get(3)));
    }
    Ok(all)
}

fn version_of(cid: &str, duplicate_of: Option<&str>) -> Version {
    let text = format!("{cid} {}", duplicate_of.unwrap_or("-"));
    let digest = *Cid::of(Codec::Raw, text.as_bytes()).digest();
    let mut half = Version::default();
    half.copy_from_slice(&digest[..16]);
    half
}

fn position(info: &TableInfo, column: &str) -> usize {
    let found = info.columns.iter().position(|c| c.name == column);
    found.unwrap_or(0)
}

/// The rows of COPY's binary form, as [`crate::copy::append_row`] wrote them.
struct Rows<'r>(&'r [u8]);

/// One of them.
struct Row<'r> {
    bytes: &'r [u8],
}

impl<'r> Iterator for Rows<'r> {
    type Item = Row<'r>;

    fn next(&mut self) -> Option<Row<'r>> {
        let (count, mut rest) = self.0.split_first_chunk::<2>()?;
        for _ in 0..i16::from_be_bytes(*count) {
            rest = field(rest)?.1;
        }
        let (bytes, after) = self.0.split_at(self.0.len() - rest.len());
        self.0 = after;
        Some(Row { bytes })
    }
}

impl<'r> Row<'r> {
    /// The text in a column.
    fn text(&self, column: usize) -> Option<&'r str> {
        let mut rest = self.bytes.get(2..)?;
        for _ in 0..column {
            rest = field(rest)?.1;
        }
        std::str::from_utf8(field(rest)?.0?).ok()
    }
}

/// The first field, and what follows it.
fn field(rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest
            .split_at_checked(length)
            .map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::append_row;
    use rows::Field;

    fn chunk(records: &[(&str, &str)], duplicates: &[(&str, &str)]) -> Chunk {
        let mut chunk = Chunk::default();
        for (uri, cid) in records {
            let values = [uri, cid, "did:plc:a", "{}", "t"].map(Field::Text);
            append_row(&mut chunk.tables[table::RECORD.info().id], &values);
            let values = [uri, cid, "did:plc:a", "s", "c", "t", "t"].map(Field::Text);
            let mut like = values.to_vec();
            like.splice(5..5, [Field::Null, Field::Null]);
            append_row(&mut chunk.tables[table::LIKE.info().id], &like);
        }
        for (uri, of) in duplicates {
            let values = [uri, "c", of, "t"].map(Field::Text);
            append_row(
                &mut chunk.tables[table::DUPLICATE_RECORD.info().id],
                &values,
            );
        }
        chunk
    }

    fn uris(tables: &[(TableInfo, Vec<u8>)], info: TableInfo) -> Vec<String> {
        let found = tables.iter().find(|(other, _)| other.id == info.id);
        let rows = found.map_or(&[][..], |(_, rows)| rows.as_slice());
        Rows(rows)
            .filter_map(|row| row.text(0).map(str::to_owned))
            .collect()
    }

    #[test]
    fn rows_that_are_stored_stay_here() {
        let mut differing = Differing::default();
        let stored = [
            ("same", "1", None),
            ("changed", "2", None),
            ("ceased", "3", Some("same")),
            ("still", "4", Some("same")),
            ("gone", "5", None),
        ]
        .map(|(uri, cid, of)| (Box::from(uri), version_of(cid, of)));
        differing
            .stored
            .insert("did:plc:a".to_owned(), stored.into());
        let chunk = chunk(
            &[
                ("same", "1"),
                ("changed", "9"),
                ("ceased", "3"),
                ("still", "4"),
                ("new", "6"),
            ],
            &[("still", "same")],
        );
        let tables = differing.of(&chunk);
        let staged = ["changed", "ceased", "new"];
        assert_eq!(uris(&tables, table::RECORD.info()), staged);
        assert_eq!(uris(&tables, table::LIKE.info()), staged);
        assert!(uris(&tables, table::DUPLICATE_RECORD.info()).is_empty());
        let mut difference = differing.end();
        difference.touched.sort();
        assert_eq!(difference.touched, ["ceased", "changed", "gone"]);
        assert!(differing.is_empty());
    }
}
