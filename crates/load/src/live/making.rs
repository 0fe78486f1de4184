//! Makes the rows of single records, as [`crate::Encoder`] makes those of a repo.

use crate::choice::Choice;
use crate::copy;
use crate::encode_repo::{CERTAIN_INDEX_BYTES, TABLES, indexed_length};
use crate::skipping::{self, Taken};
use appview::table::{self, TableInfo};
use atrepo::{Cid, Codec, Entry};
use ledger::skipped::Reason;
use rows::{Collection, Field, Record, Rows};

/// The rows of a record.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) did: String,
    pub(super) uri: String,
    pub(super) rkey: String,
    pub(super) cid: String,
    pub(super) indexed_at: String,
    /// By table, those of `record` first.
    tables: Vec<(TableInfo, Vec<u8>)>,
    /// The table with a unique key that it has a row in, and the values of the key.
    pub(super) unique: Option<(usize, Vec<String>)>,
    /// The hash of its JSON, if that cannot be converted back.
    pub(super) irreversible: Option<String>,
}

/// What came of a record.
pub(super) enum RecordOutcome {
    Rows(Box<Made>),
    /// It leaves no rows: why, and more about it.
    Skipped(Reason, String),
}

/// Tries rows on the server, see [`crate::Probe`].
pub(super) type Probe<'p> = dyn FnMut(&[(TableInfo, &[u8])]) -> Result<Option<String>, String> + 'p;

/// What rows are made with.
pub(super) struct Making {
    pub(super) choice: Choice,
    /// Columns of btree indexes by table, one bit each.
    pub(super) indexed: [u32; TABLES],
}

/// What is known of a record beside its content.
pub(super) struct About<'a> {
    pub(super) did: &'a str,
    pub(super) cid: &'a str,
    pub(super) indexed_at: &'a str,
}

impl Making {
    /// The rows of a record that came or changed.
    pub(super) fn of_block(
        &self,
        about: &About<'_>,
        (key, cid, block): (&str, Cid, &[u8]),
        probe: &mut Probe<'_>,
    ) -> Result<RecordOutcome, String> {
        let skipped = |reason, detail: String| Ok(RecordOutcome::Skipped(reason, detail));
        let entry = Entry::of(key.as_bytes(), cid, block);
        let taken = match skipping::taken(&entry, &self.choice) {
            Ok(taken) => taken,
            Err((reason, detail)) => return skipped(reason, detail),
        };
        let Taken {
            collection,
            rkey,
            value,
            ..
        } = taken;
        if let Some(since) = self.choice.is_before(collection, about.indexed_at) {
            return skipped(Reason::NotChosen, format!("before {since}"));
        }
        let uri = format!("at://{}/{key}", about.did);
        let record = Record {
            did: about.did,
            collection,
            rkey,
            uri: &uri,
            cid: about.cid,
            indexed_at: about.indexed_at,
            value,
        };
        let (mut made, indexed_bytes) = match self.make(&record, None) {
            Ok(made) => made,
            Err(why) => return skipped(Reason::Refused, why),
        };
        if indexed_bytes > CERTAIN_INDEX_BYTES
            && let Some(why) = probe(&made.rows().collect::<Vec<_>>())?
        {
            return skipped(Reason::RefusedByDatabase, why);
        }
        if made.irreversible.is_some() {
            let json = made
                .tables
                .first()
                .map(|(_, rows)| copy::first_row_texts(rows));
            let json = json.and_then(|texts| texts.get(3).copied().map(str::to_owned));
            let json = json.unwrap_or_default();
            made.irreversible = Some(Cid::of(Codec::Raw, json.as_bytes()).to_string());
        }
        Ok(RecordOutcome::Rows(Box::new(made)))
    }

    /// The rows of a record that is stored, from its JSON.
    pub(super) fn of_stored(&self, about: &About<'_>, uri: &str, json: &str) -> Option<Made> {
        let bytes = rows::from_stored_json(json)?;
        let value = atrepo::cbor::check(&bytes).ok()?.as_map()?;
        let key = uri.strip_prefix("at://")?.strip_prefix(about.did)?;
        let (collection, rkey) = key.strip_prefix('/')?.split_once('/')?;
        let record = Record {
            did: about.did,
            collection: Collection::parse(collection)?,
            rkey,
            uri,
            cid: about.cid,
            indexed_at: about.indexed_at,
            value,
        };
        let (made, _) = self.make(&record, Some(json)).ok()?;
        Some(Made {
            irreversible: None,
            ..made
        })
    }

    /// The rows, and the length of the longest index entry. `stored` is the JSON of a record that
    /// is stored.
    fn make(&self, record: &Record<'_>, stored: Option<&str>) -> Result<(Made, usize), String> {
        let mut tables: Vec<(TableInfo, Vec<u8>)> = Vec::new();
        let mut unique = None;
        let mut indexed_bytes = 0;
        let mut sink = |info: TableInfo, values: &[Field<'_>]| {
            let is_notification = info.id == table::NOTIFICATION.info().id;
            let takes = |sort_at: &str| self.choice.notifications.takes(sort_at);
            if is_notification && !matches!(values.last(), Some(Field::Text(at)) if takes(at)) {
                return;
            }
            indexed_bytes = indexed_bytes.max(indexed_length(self.indexed[info.id], values));
            if !info.unique.is_empty() {
                unique = Some((info.id, key_of(&info, values)));
            }
            let at = match tables.iter().position(|(table, _)| table.id == info.id) {
                Some(at) => at,
                None => {
                    tables.push((info, Vec::new()));
                    tables.len() - 1
                }
            };
            match stored.filter(|_| info.id == table::RECORD.info().id) {
                Some(json) => {
                    let mut values = values.to_vec();
                    if let Some(value) = values.get_mut(3) {
                        *value = Field::Text(json);
                    }
                    copy::append_row(&mut tables[at].1, &values);
                }
                None => copy::append_row(&mut tables[at].1, values),
            }
        };
        let mut rows = Rows::new(&mut sink);
        let indexed = match stored {
            Some(_) => rows::index_stored(record, &mut rows),
            None => rows::index(record, &mut rows),
        };
        let indexed = indexed.map_err(|reject| reject.to_string())?;
        let made = Made {
            did: record.did.to_owned(),
            uri: record.uri.to_owned(),
            rkey: record.rkey.to_owned(),
            cid: record.cid.to_owned(),
            indexed_at: record.indexed_at.to_owned(),
            tables,
            unique,
            irreversible: (!indexed.is_reversible).then(String::new),
        };
        Ok((made, indexed_bytes))
    }
}

impl Made {
    /// Its rows, by table.
    fn rows(&self) -> impl Iterator<Item = (TableInfo, &[u8])> {
        self.tables
            .iter()
            .map(|(info, rows)| (*info, rows.as_slice()))
    }

    /// Appends its rows to those of all tables; `winner` is the record that it is a duplicate of.
    pub(super) fn append_to(&self, staged: &mut [Vec<u8>], winner: Option<&str>) {
        for (info, rows) in &self.tables {
            if winner.is_none() || info.stands_alone() {
                staged[info.id].extend_from_slice(rows);
            }
        }
        if let Some(winner) = winner {
            let values = [&self.uri, &self.cid, winner, &self.indexed_at].map(Field::Text);
            copy::append_row(&mut staged[table::DUPLICATE_RECORD.info().id], &values);
        }
    }
}

/// The values of the unique key of a row.
fn key_of(info: &TableInfo, values: &[Field<'_>]) -> Vec<String> {
    let value = |name: &&str| {
        let at = info.columns.iter().position(|column| column.name == *name);
        match at.and_then(|at| values.get(at)) {
            Some(Field::Text(text)) => (*text).to_owned(),
            _ => String::new(),
        }
    };
    info.unique.iter().map(value).collect()
}
