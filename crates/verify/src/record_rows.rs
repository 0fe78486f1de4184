//! The rows that follow from a record alone: made again, and compared with what is stored.

use crate::finding::{Finding, What};
use appview::table::{self, Kind, TableInfo};
use atrepo::{Cid, Codec};
use load::Notifications;
use postgres::{Client, Error, GenericClient};
use rows::{Collection, Field, Record, Rows};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// A row: its values as text, `jsonb` in one form.
pub(crate) type Row = Vec<Option<String>>;

/// Which tables and columns a database has.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By table, the columns that it has; none if it is absent.
    columns: Vec<Vec<bool>>,
}

impl Facts {
    /// Reads which of the official tables and columns `schema` has.
    ///
    /// # Errors
    /// The server refused.
    pub fn read(client: &mut Client, schema: &str) -> Result<Self, Error> {
        let rows = client.query(
            "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')",
            &[&schema],
        )?;
        let known: HashSet<(String, String)> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let has =
            |table: &str, column: &str| known.contains(&(table.to_owned(), column.to_owned()));
        let of_table = |info: &TableInfo| {
            let columns = info.columns.iter();
            columns.map(|column| has(info.name, column.name)).collect()
        };
        Ok(Self {
            columns: table::ALL.iter().map(of_table).collect(),
        })
    }

    /// Whether a table is there, with the column that names the record.
    #[must_use]
    pub fn has(&self, info: &TableInfo) -> bool {
        let columns = info.columns.iter().zip(self.of(info));
        columns
            .into_iter()
            .any(|(column, is_there)| *is_there && column.name == info.uri)
    }

    /// Official tables that are not there.
    pub fn absent(&self) -> impl Iterator<Item = &'static str> {
        table::ALL
            .iter()
            .filter(|info| !self.has(info))
            .map(|info| info.name)
    }

    fn of(&self, info: &TableInfo) -> &[bool] {
        self.columns.get(info.id).map_or(&[], Vec::as_slice)
    }

    fn has_column(&self, info: &TableInfo, at: usize) -> bool {
        self.of(info).get(at).copied().unwrap_or(false)
    }

    /// Whether the value of a column says nothing: the time is the indexer's own, or the column is
    /// absent.
    fn is_free(&self, info: &TableInfo, at: usize) -> bool {
        let name = info.columns.get(at).map_or("", |column| column.name);
        matches!(name, "indexedAt" | "sortAt") || !self.has_column(info, at)
    }

    /// SQL of a column's value as text.
    fn value(&self, info: &TableInfo, at: usize, name: &str) -> String {
        match self.has_column(info, at) {
            true => format!("x.\"{name}\"::text"),
            false => "NULL::text".to_owned(),
        }
    }
}

/// Which rows a record should have, for whom.
#[derive(Clone, Copy)]
pub(crate) struct Making<'m> {
    /// The notifications that are wanted.
    pub(crate) notifications: &'m Notifications,
    /// Whether skyfill wrote the rows and `record` is compared elsewhere. Else any indexer wrote
    /// them, and the record's value comes from the repo.
    pub(crate) is_own: bool,
}

impl Making<'_> {
    /// The rows of a record; why it should not be there, if it should not.
    pub(crate) fn rows(
        self,
        record: &Record<'_>,
        winners: &mut Winners,
    ) -> Result<Vec<(TableInfo, Row)>, String> {
        let mut made: Vec<(TableInfo, Row)> = Vec::new();
        let mut sink = |info: TableInfo, values: &[Field<'_>]| {
            if self.is_own && info.id == table::RECORD.info().id {
                return;
            }
            let row = values.iter().map(|value| text_of(*value)).collect();
            made.push((info, row));
        };
        let mut rows = Rows::new(&mut sink);
        let indexed = match self.is_own {
            true => rows::index_stored(record, &mut rows),
            false => rows::index(record, &mut rows),
        };
        indexed.map_err(|reject| reject.to_string())?;
        let winner = winners.winner_over(record, &made);
        made.retain(|(info, row)| {
            let is_left_out = info.id == table::NOTIFICATION.info().id
                && !row
                    .last()
                    .and_then(Option::as_deref)
                    .is_some_and(|sort_at| self.notifications.takes(sort_at));
            !is_left_out && (winner.is_none() || info.stands_alone())
        });
        if let Some(winner) = winner {
            let row = [record.uri, record.cid, &winner, record.indexed_at];
            let row = row.map(|text| Some(text.to_owned())).to_vec();
            made.push((table::DUPLICATE_RECORD.info(), row));
        }
        Ok(made)
    }
}

/// Some records of one repo, and the rows that they should have in a database that any indexer
/// filled: it has its own times, and perhaps not all tables and columns.
pub(crate) struct Batch<'r> {
    facts: &'r Facts,
    uris: Vec<String>,
    wanted: HashMap<(usize, String), Vec<Row>>,
    /// Tables that the collections of the batch fill.
    tables: HashSet<usize>,
    /// Profiles without `createdAt`: another indexer takes the clock for it.
    without_time: HashSet<String>,
}

/// Which record of a repo has which unique key. Records come in the order of keys, so a collection
/// comes in one piece.
#[derive(Default)]
pub(crate) struct Winners {
    collection: Option<Collection>,
    by_key: HashMap<[u8; 32], Box<str>>,
}

impl Winners {
    /// The earlier record that has a unique key of this one, whose rows these are.
    fn winner_over(&mut self, record: &Record<'_>, made: &[(TableInfo, Row)]) -> Option<String> {
        if self.collection != Some(record.collection) {
            self.collection = Some(record.collection);
            self.by_key.clear();
        }
        let mut winner = None;
        for (info, row) in made.iter().filter(|(info, _)| !info.unique.is_empty()) {
            let key: Vec<&str> = info
                .columns
                .iter()
                .zip(row)
                .filter(|(column, _)| info.unique.contains(&column.name))
                .map(|(_, value)| value.as_deref().unwrap_or_default())
                .collect();
            let first = self
                .by_key
                .entry(*Cid::of(Codec::Raw, key.join("\n").as_bytes()).digest())
                .or_insert_with(|| record.rkey.into());
            if **first != *record.rkey {
                let collection = record.collection.nsid();
                winner = Some(format!("at://{}/{collection}/{first}", record.did));
            }
        }
        winner
    }
}

impl<'r> Batch<'r> {
    pub(crate) fn new(facts: &'r Facts) -> Self {
        Self {
            facts,
            uris: Vec::new(),
            wanted: HashMap::new(),
            tables: HashSet::new(),
            without_time: HashSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.uris.len()
    }

    /// Adds a record that the repo does not have: rows that name it are extra.
    pub(crate) fn add_stray(&mut self, uri: &str) {
        let collection = uri.split('/').nth(3).and_then(Collection::parse);
        match collection {
            Some(collection) => self.add_tables_of(collection),
            None => self.tables.extend([
                table::NOTIFICATION.info().id,
                table::DUPLICATE_RECORD.info().id,
            ]),
        }
        self.tables.insert(table::RECORD.info().id);
        self.uris.push(uri.to_owned());
    }

    /// Calls `each` for each table with the number of rows that it should have.
    pub(crate) fn expected(&self, mut each: impl FnMut(&'static TableInfo, u64)) {
        for ((id, _), rows) in &self.wanted {
            if let Some(info) = table::ALL.get(*id) {
                each(info, rows.len() as u64);
            }
        }
    }

    /// Adds a record; why it should not be there, if it should not.
    pub(crate) fn add(&mut self, record: &Record<'_>, winners: &mut Winners) -> Result<(), String> {
        let making = Making {
            notifications: &Notifications::All,
            is_own: false,
        };
        let made = making.rows(record, winners)?;
        self.uris.push(record.uri.to_owned());
        if has_no_time(record) {
            self.without_time.insert(record.uri.to_owned());
        }
        self.add_tables_of(record.collection);
        self.tables.insert(table::RECORD.info().id);
        for (info, row) in made {
            self.want(info, record.uri, row);
        }
        Ok(())
    }

    fn add_tables_of(&mut self, collection: Collection) {
        let tables = rows::tables_of(collection);
        self.tables.extend(tables.iter().map(|info| info.id));
    }

    fn want(&mut self, info: TableInfo, uri: &str, row: Row) {
        if !self.facts.has(&info) {
            return;
        }
        self.wanted
            .entry((info.id, uri.to_owned()))
            .or_default()
            .push(row);
    }

    /// Compares, and empties the batch.
    pub(crate) fn compare(
        &mut self,
        client: &mut Client,
        did: &str,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        let facts = self.facts;
        let Self {
            uris,
            mut wanted,
            tables,
            without_time,
            ..
        } = std::mem::replace(self, Self::new(facts));
        let compared = table::ALL
            .iter()
            .filter(|info| tables.contains(&info.id) && facts.has(info));
        for info in compared {
            let is_profile = info.id == table::PROFILE.info().id;
            let is_free = |uri: &str, at: usize| {
                let name = info.columns.get(at).map_or("", |column| column.name);
                let has_no_time = is_profile && name == "createdAt";
                has_no_time && without_time.contains(uri) || facts.is_free(info, at)
            };
            // Found by what must be the same: a post may have ten thousand notifications.
            let fixed = |uri: &str, row: &Row| -> Row {
                let values = row.iter().enumerate();
                let fixed = values.map(|(at, value)| value.clone().filter(|_| !is_free(uri, at)));
                fixed.collect()
            };
            let of_table: Vec<(usize, String)> = wanted
                .keys()
                .filter(|(id, _)| *id == info.id)
                .cloned()
                .collect();
            let mut by_fixed: HashMap<(String, Row), Vec<Row>> = HashMap::new();
            for key in of_table {
                for row in wanted.remove(&key).unwrap_or_default() {
                    let fixed = fixed(&key.1, &row);
                    by_fixed
                        .entry((key.1.clone(), fixed))
                        .or_default()
                        .push(row);
                }
            }
            for (uri, row) in stored(client, info, &uris, facts)? {
                let fixed = fixed(&uri, &row);
                let same = by_fixed.get_mut(&(uri.clone(), fixed));
                if same.and_then(Vec::pop).is_none() {
                    report(Finding {
                        did: did.to_owned(),
                        what: What::Extra {
                            table: info.name,
                            row: shown(info, &row),
                            uri,
                        },
                    });
                }
            }
            for ((uri, _), mut rows) in by_fixed {
                let left = wanted.entry((info.id, uri)).or_default();
                left.append(&mut rows);
            }
        }
        for ((id, uri), rows) in wanted {
            let Some(info) = table::ALL.get(id) else {
                continue;
            };
            for row in rows {
                if info.id == table::NOTIFICATION.info().id && is_muted(client, &row)? {
                    continue;
                }
                report(Finding {
                    did: did.to_owned(),
                    what: What::Missing {
                        table: info.name,
                        uri: uri.clone(),
                        row: shown(info, &row),
                    },
                });
            }
        }
        Ok(())
    }
}

/// Whether a record is a profile without `createdAt`, of which another indexer takes the clock's.
pub(crate) fn has_no_time(record: &Record<'_>) -> bool {
    record.collection == Collection::Profile && record.value.get("createdAt").is_none()
}

/// The stored rows of some records.
fn stored(
    client: &mut Client,
    info: &TableInfo,
    uris: &[String],
    facts: &Facts,
) -> Result<Vec<(String, Row)>, Error> {
    let columns: Vec<String> = info
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| facts.value(info, at, column.name))
        .collect();
    let mut condition = String::new();
    if info.id == table::NOTIFICATION.info().id {
        condition = format!(" AND x.reason NOT IN ({})", load::RELATIONAL_REASONS);
    }
    let sql = format!(
        "SELECT u.uri, {} FROM unnest($1::text[]) u (uri) CROSS JOIN {} WHERE true{condition}",
        columns.join(", "),
        info.rows_of_record("u.uri")
    );
    let rows = client.query(&sql, &[&uris])?;
    Ok(rows
        .iter()
        .map(|row| {
            let values = info
                .columns
                .iter()
                .enumerate()
                .map(|(at, column)| {
                    let text: Option<String> = row.get(at + 1);
                    match column.kind {
                        Kind::Text => text,
                        Kind::Jsonb => text.map(|json| canonical(&json)),
                    }
                })
                .collect();
            (row.get(0), values)
        })
        .collect())
}

/// Whether the recipient has muted the thread: the official indexer, too, tells them nothing then.
pub(crate) fn is_muted(client: &mut impl GenericClient, row: &Row) -> Result<bool, Error> {
    let (recipient, subject) = (row.first(), row.get(5));
    Ok(client
        .query_one(
            "SELECT EXISTS (SELECT FROM thread_mute m JOIN post p ON m.\"rootUri\" = coalesce(p.\"replyRoot\", p.uri)
             WHERE m.\"mutedByDid\" = $1 AND p.uri = $2)",
            &[&recipient.cloned().flatten(), &subject.cloned().flatten()],
        )?
        .get(0))
}

fn text_of(value: Field<'_>) -> Option<String> {
    match value {
        Field::Null => None,
        Field::Text(text) => Some(text.to_owned()),
        Field::Jsonb(json) => Some(canonical(json)),
    }
}

/// JSON in one form.
pub(crate) fn canonical(json: &str) -> String {
    serde_json::from_str::<Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

pub(crate) fn shown(info: &TableInfo, row: &Row) -> Value {
    info.columns
        .iter()
        .zip(row)
        .map(|(column, value)| (column.name.to_owned(), Value::from(value.clone())))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}
