//! Encodes one record into the open chunk, or takes its rows back and notes why.

use super::{EncodeError, Encoder, Probe, Progress};
use crate::copy;
use crate::skipping::Taken;
use appview::table::{self, TableInfo};
use atrepo::Cid;
use ledger::skipped::Reason;
use rows::{Collection, Field, Record, Reject, Rows, datetime};

/// A btree accepts entries of up to 2,704 bytes after compression (`BTMaxItemSize` in PostgreSQL's
/// `nbtree.h`). Records with less than this in indexed columns certainly fit; others are tried on
/// the server.
pub(crate) const CERTAIN_INDEX_BYTES: usize = 2000;
/// Memory that is kept for the JSON of a record, in bytes.
const KEPT_TEXT: usize = 1 << 20;
/// A `createdAt` that is meaningless.
const EPOCH: &str = "1970-01-01T00:00:00.000Z";

/// Rows of a record that stand in the chunk.
struct Appended {
    /// Whether the record can be made again from its row.
    is_reversible: bool,
    key: Option<[u32; 4]>,
    /// Bytes of the longest combination of indexed columns.
    indexed_bytes: usize,
}

impl Encoder {
    pub(super) fn record(
        &mut self,
        open: &mut Progress,
        taken: &Taken<'_, '_>,
        probe: &mut Probe<'_>,
    ) -> Result<(), EncodeError> {
        let Taken {
            collection,
            rkey,
            ref cid,
            value,
        } = *taken;
        if open.collection != Some(collection) {
            // Entries arrive in key order, so a collection arrives in one piece.
            self.keys.clear_for_next();
            open.collection = Some(collection);
        }
        let nsid = collection.nsid();
        let key = [nsid, "/", rkey];
        self.name(&open.loaded.did, nsid, rkey, cid, &value);
        if let Some(since) = self.choice.is_before(collection, &self.indexed_at) {
            let why = format!("before {since}");
            self.skip(open, &key, cid, Reason::NotChosen, &why);
            return Ok(());
        }
        let mut touched = std::mem::take(&mut self.touched);
        touched.clear();
        let appended = self.append(&open.loaded.did, collection, rkey, value, &mut touched);
        let refused = match &appended {
            Err(reject) => Some((Reason::Refused, reject.to_string())),
            Ok(appended) => self
                .refusal(appended, &touched, probe)?
                .map(|why| (Reason::RefusedByDatabase, why)),
        };
        if let Some((reason, why)) = refused {
            for (info, start) in &touched {
                self.chunk.tables[info.id].truncate(*start);
            }
            self.skip(open, &key, cid, reason, &why);
        } else if let Ok(appended) = appended {
            self.count(open, &appended, [nsid, rkey], &mut touched);
            if !appended.is_reversible {
                let digest = self.digest(&touched);
                self.list(open, &key, cid, Reason::Irreversible, &digest);
            }
        }
        self.touched = touched;
        Ok(())
    }

    /// Sets AT-URI, CID and `indexedAt` of the present record.
    fn name(
        &mut self,
        did: &str,
        nsid: &str,
        rkey: &str,
        cid: &Cid,
        value: &atrepo::cbor::Map<'_>,
    ) {
        self.uri.clear();
        for part in ["at://", did, "/", nsid, "/", rkey] {
            self.uri.push_str(part);
        }
        self.cid.clear();
        cid.append_to(&mut self.cid);
        let created_at = rows::created_at(value);
        self.indexed_at.clear();
        match created_at.filter(|text| datetime::is_plain(text)) {
            // Times in the one form sort as texts. The epoch does not count.
            Some(text) if text < self.now_text.as_str() && text != EPOCH => {
                self.indexed_at.push_str(text);
            }
            _ => datetime::append(
                datetime::indexed_at(created_at, rkey, self.now),
                &mut self.indexed_at,
            ),
        }
    }

    /// Appends the rows of the present record to the open chunk, also those of a record that is
    /// refused half-way. `touched` are the tables that it wrote to, at most a handful, and where
    /// its rows begin there.
    fn append(
        &mut self,
        did: &str,
        collection: Collection,
        rkey: &str,
        value: atrepo::cbor::Map<'_>,
        touched: &mut Vec<(TableInfo, usize)>,
    ) -> Result<Appended, Reject> {
        let record = Record {
            did,
            collection,
            rkey,
            uri: &self.uri,
            cid: &self.cid,
            indexed_at: &self.indexed_at,
            value,
        };
        let tables = &mut self.chunk.tables;
        let mut key: Option<[u32; 4]> = None;
        let mut indexed_bytes = 0usize;
        let (choice, indexed, unique, keys) =
            (&self.choice, &self.indexed, &self.unique, &self.keys);
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
                key = Some(keys.key(unique[info.id], values));
            }
            copy::append_row(rows, values);
        };
        let mut to = Rows::with_text(&mut sink, std::mem::take(&mut self.json));
        let outcome = rows::index(&record, &mut to);
        self.json = to.into_text();
        self.json.shrink_to(KEPT_TEXT);
        Ok(Appended {
            is_reversible: outcome?.is_reversible,
            key,
            indexed_bytes,
        })
    }

    /// Why the server refuses the rows, if it does. It is asked only where that can be.
    fn refusal(
        &self,
        appended: &Appended,
        touched: &[(TableInfo, usize)],
        probe: &mut Probe<'_>,
    ) -> Result<Option<String>, EncodeError> {
        if appended.indexed_bytes <= CERTAIN_INDEX_BYTES {
            return Ok(None);
        }
        let rows: Vec<_> = touched
            .iter()
            .map(|(info, start)| (*info, &self.chunk.tables[info.id][*start..]))
            .collect();
        probe(&rows).map_err(EncodeError::Stopped)
    }

    /// Counts the present record. If another one has its unique key, its rows give way to a note of
    /// which.
    fn count(
        &mut self,
        open: &mut Progress,
        appended: &Appended,
        [nsid, rkey]: [&str; 2],
        touched: &mut Vec<(TableInfo, usize)>,
    ) {
        if let Some(winner) = appended.key.and_then(|key| self.keys.claim(key, rkey)) {
            for (info, start) in &*touched {
                if !info.stands_alone() {
                    self.chunk.tables[info.id].truncate(*start);
                }
            }
            let info = table::DUPLICATE_RECORD.info();
            let winner = format!("at://{}/{nsid}/{winner}", open.loaded.did);
            let rows = &mut self.chunk.tables[info.id];
            touched.push((info, rows.len()));
            let values = [&self.uri, &self.cid, &winner, &self.indexed_at];
            copy::append_row(rows, &values.map(|text| Field::Text(text)));
            open.loaded.duplicates += 1;
        }
        for (info, start) in &*touched {
            self.chunk.bytes += self.chunk.tables[info.id].len().saturating_sub(*start);
        }
        self.chunk.records += 1;
        open.loaded.records += 1;
    }

    /// The hash of the present record's JSON, as it stands in its row.
    fn digest(&self, touched: &[(TableInfo, usize)]) -> String {
        let rows = &self.chunk.tables[table::RECORD.info().id];
        let start = touched.first().map_or(0, |(_, start)| *start);
        let texts = copy::first_row_texts(&rows[start..]);
        Cid::of(atrepo::Codec::Raw, texts.get(3).unwrap_or(&"").as_bytes()).to_string()
    }
}

/// Bytes of the longest combination of indexed columns that the row can have: all of them together.
pub(crate) fn indexed_length(mask: u32, values: &[Field<'_>]) -> usize {
    let mut total = 0;
    for (at, value) in values.iter().enumerate() {
        if let (true, Field::Text(text)) = (mask & (1 << at) != 0, value) {
            total += text.len();
        }
    }
    total
}
