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

/// Some records of one repo, and the rows that they should have.
#[derive(Default)]
pub(crate) struct Batch {
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

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.uris.len()
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
        rows::index_stored(
            record,
            &mut Rows::new(&mut |info, values| {
                let row = values.iter().map(|value| text_of(*value)).collect();
                made.push((info, row));
            }),
        )
        .map_err(|reject| reject.to_string())?;
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
        for (info, row) in made {
            let is_record = info.id == table::RECORD.info().id;
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
        let Self {
            uris,
            mut wanted,
            tables,
            without_time,
        } = std::mem::take(self);
        for info in table::ALL.iter().filter(|info| tables.contains(&info.id)) {
            for (uri, row) in stored(client, info, &uris)? {
                let rows = wanted.get_mut(&(info.id, uri.clone()));
                let is_free = |column: &str| column == "createdAt" && without_time.contains(&uri);
                let found = rows.and_then(|rows| {
                    let at = rows
                        .iter()
                        .position(|wanted| is_same(info, wanted, &row, &is_free))?;
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

/// Whether two rows are the same, apart from columns of the profile table that are free.
fn is_same(info: &TableInfo, wanted: &Row, stored: &Row, is_free: &dyn Fn(&str) -> bool) -> bool {
    let has_free = info.id == table::PROFILE.info().id;
    info.columns
        .iter()
        .zip(wanted.iter().zip(stored))
        .all(|(column, (wanted, stored))| wanted == stored || (has_free && is_free(column.name)))
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
) -> Result<Vec<(String, Row)>, Error> {
    let columns: Vec<String> = info
        .columns
        .iter()
        .map(|c| format!("x.\"{}\"::text", c.name))
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
