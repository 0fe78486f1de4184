//! The rows that follow from a record alone: made again, and compared with what is stored.

use crate::finding::{Finding, What};
use appview::table::{self, Kind, TableInfo};
use atrepo::{Cid, Codec};
use load::Notifications;
use postgres::{Client, Error};
use rows::{Collection, Field, Record, Rows};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// A row: its values as text, `jsonb` in one form.
type Row = Vec<Option<String>>;

/// How strictly rows are compared.
#[derive(Clone, Copy)]
pub(crate) enum Rules<'r> {
    /// As rows that skyfill wrote; `record` is compared elsewhere.
    Own,
    /// As rows that any indexer wrote: it has its own times, and perhaps not all tables and
    /// columns. `record` is compared, too.
    Foreign(&'r Facts),
}

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
}

impl Rules<'_> {
    fn has(self, info: &TableInfo) -> bool {
        match self {
            Self::Own => true,
            Self::Foreign(facts) => facts.has(info),
        }
    }

    /// Whether the value of a column says nothing: the time is the indexer's own, or the column is
    /// absent.
    fn is_free(self, info: &TableInfo, at: usize) -> bool {
        let Self::Foreign(facts) = self else {
            return false;
        };
        let name = info.columns.get(at).map_or("", |column| column.name);
        matches!(name, "indexedAt" | "sortAt") || !facts.has_column(info, at)
    }

    /// SQL of a column's value as text.
    fn value(self, info: &TableInfo, at: usize, name: &str) -> String {
        match self {
            Self::Foreign(facts) if !facts.has_column(info, at) => "NULL::text".to_owned(),
            _ => format!("x.\"{name}\"::text"),
        }
    }
}

/// Some records of one repo, and the rows that they should have.
pub(crate) struct Batch<'r> {
    rules: Rules<'r>,
    uris: Vec<String>,
    wanted: HashMap<(usize, String), Vec<Row>>,
    /// Tables that the collections of the batch fill.
    tables: HashSet<usize>,
    /// Profiles without `createdAt`: another indexer takes the clock for it.
    without_time: HashSet<String>,
}

/// Which record of a repo has which unique key.
#[derive(Default)]
pub(crate) struct Winners {
    collection: Option<Collection>,
    by_key: HashMap<[u8; 32], Box<str>>,
}

impl<'r> Batch<'r> {
    pub(crate) fn new(rules: Rules<'r>) -> Self {
        Self {
            rules,
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
            Some(collection) => self.tables.extend(tables_of(collection)),
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

    /// Adds a record; why it should not be there, if it should not. `alone` is whether all rows are
    /// skyfill's.
    pub(crate) fn add(
        &mut self,
        record: &Record<'_>,
        notifications: &Notifications,
        winners: &mut Winners,
        alone: bool,
    ) -> Result<(), String> {
        if winners.collection != Some(record.collection) {
            // Records come in the order of keys, so a collection comes in one piece.
            winners.collection = Some(record.collection);
            winners.by_key.clear();
        }
        let mut made: Vec<(TableInfo, Row)> = Vec::new();
        let mut sink = |info: TableInfo, values: &[Field<'_>]| {
            let row = values.iter().map(|value| text_of(*value)).collect();
            made.push((info, row));
        };
        let mut rows = Rows::new(&mut sink);
        let indexed = match self.rules {
            Rules::Own => rows::index_stored(record, &mut rows),
            // Its value comes from the repo.
            Rules::Foreign(_) => rows::index(record, &mut rows),
        };
        indexed.map_err(|reject| reject.to_string())?;
        let mut winner = None;
        for (info, row) in &made {
            if !info.unique.is_empty() {
                let key: Vec<&str> = info
                    .columns
                    .iter()
                    .zip(row)
                    .filter(|(column, _)| info.unique.contains(&column.name))
                    .map(|(_, value)| value.as_deref().unwrap_or_default())
                    .collect();
                let first = winners
                    .by_key
                    .entry(*Cid::of(Codec::Raw, key.join("\n").as_bytes()).digest())
                    .or_insert_with(|| record.rkey.into());
                if **first != *record.rkey {
                    winner = Some(format!(
                        "at://{}/{}/{first}",
                        record.did,
                        record.collection.nsid()
                    ));
                }
            }
        }
        self.uris.push(record.uri.to_owned());
        if record.collection == Collection::Profile
            && !alone
            && record.value.get("createdAt").is_none()
        {
            self.without_time.insert(record.uri.to_owned());
        }
        self.tables.extend(tables_of(record.collection));
        if matches!(self.rules, Rules::Foreign(_)) {
            self.tables.insert(table::RECORD.info().id);
        }
        for (info, row) in made {
            let is_record = info.id == table::RECORD.info().id && matches!(self.rules, Rules::Own);
            let is_left_out = info.id == table::NOTIFICATION.info().id
                && !row
                    .last()
                    .and_then(Option::as_deref)
                    .is_some_and(|sort_at| notifications.takes(sort_at));
            if is_record || is_left_out || (winner.is_some() && !info.stands_alone()) {
                continue;
            }
            self.want(info, record.uri, row);
        }
        if let Some(winner) = winner {
            let row = [record.uri, record.cid, &winner, record.indexed_at]
                .map(|text| Some(text.to_owned()));
            self.want(table::DUPLICATE_RECORD.info(), record.uri, row.to_vec());
        }
        Ok(())
    }

    fn want(&mut self, info: TableInfo, uri: &str, row: Row) {
        if !self.rules.has(&info) {
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
        let rules = self.rules;
        let Self {
            uris,
            mut wanted,
            tables,
            without_time,
            ..
        } = std::mem::replace(self, Self::new(rules));
        let compared = table::ALL
            .iter()
            .filter(|info| tables.contains(&info.id) && rules.has(info));
        for info in compared {
            for (uri, row) in stored(client, info, &uris, rules)? {
                let rows = wanted.get_mut(&(info.id, uri.clone()));
                let is_profile = info.id == table::PROFILE.info().id;
                let is_free = |at: usize| {
                    let name = info.columns.get(at).map_or("", |column| column.name);
                    let has_no_time = is_profile && name == "createdAt";
                    has_no_time && without_time.contains(&uri) || rules.is_free(info, at)
                };
                let found = rows.and_then(|rows| {
                    let at = rows
                        .iter()
                        .position(|wanted| is_same(wanted, &row, &is_free))?;
                    Some(rows.swap_remove(at))
                });
                if found.is_none() {
                    report(Finding {
                        did: did.to_owned(),
                        what: What::Extra {
                            table: info.name,
                            uri,
                            row: shown(info, &row),
                        },
                    });
                }
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

/// Whether two rows are the same, apart from columns that are free.
fn is_same(wanted: &Row, stored: &Row, is_free: &dyn Fn(usize) -> bool) -> bool {
    let values = wanted.iter().zip(stored).enumerate();
    values
        .into_iter()
        .all(|(at, (wanted, stored))| wanted == stored || is_free(at))
}

/// Tables that records of a collection may have rows in, but `record`.
fn tables_of(collection: Collection) -> Vec<usize> {
    let own = load::own_table(collection).map(|info| info.id);
    let common = [
        table::NOTIFICATION.info().id,
        table::FEED_ITEM.info().id,
        table::DUPLICATE_RECORD.info().id,
    ];
    let of_posts = [
        table::POST_EMBED_IMAGE.info().id,
        table::POST_EMBED_GALLERY_IMAGE.info().id,
        table::POST_EMBED_EXTERNAL.info().id,
        table::POST_EMBED_RECORD.info().id,
        table::POST_EMBED_VIDEO.info().id,
        table::QUOTE.info().id,
        table::OP_THREAD_REPLY.info().id,
    ];
    let is_post = collection == Collection::Post;
    own.into_iter()
        .chain(common)
        .chain(of_posts.into_iter().filter(|_| is_post))
        .collect()
}

/// The stored rows of some records.
fn stored(
    client: &mut Client,
    info: &TableInfo,
    uris: &[String],
    rules: Rules<'_>,
) -> Result<Vec<(String, Row)>, Error> {
    let columns: Vec<String> = info
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| rules.value(info, at, column.name))
        .collect();
    let mut condition = String::new();
    if info.id == table::NOTIFICATION.info().id {
        condition = format!(" AND x.reason NOT IN ({})", load::RELATIONAL_REASONS);
    }
    // By index, whatever the planner thinks of so many URIs; the key of op_thread_reply begins with
    // the root, which the post knows.
    let from = if info.id == table::OP_THREAD_REPLY.info().id {
        "post p ON p.uri = u.uri JOIN op_thread_reply x ON x.\"rootUri\" = p.\"replyRoot\" AND x.uri = u.uri"
            .to_owned()
    } else {
        format!("\"{}\" x ON x.\"{}\" = u.uri", info.name, info.uri)
    };
    let sql = format!(
        "SELECT u.uri, {} FROM unnest($1::text[]) u (uri) JOIN {from} WHERE true{condition}",
        columns.join(", ")
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
fn is_muted(client: &mut Client, row: &Row) -> Result<bool, Error> {
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
fn canonical(json: &str) -> String {
    serde_json::from_str::<Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

fn shown(info: &TableInfo, row: &Row) -> Value {
    info.columns
        .iter()
        .zip(row)
        .map(|(column, value)| (column.name.to_owned(), Value::from(value.clone())))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}
