//! One record in the AppView's tables: its rows, why its flags are set, and who is notified of it
//! or not.
//!
//! The reasons are worked out again from the tables, as finalize works them out for all posts. Each
//! statement is a lookup by index, for a session whose search path is the AppView's schema.

mod flags;
mod notified;

pub use flags::{Flag, flags};
pub use notified::{Choice, Recipient, recipients};

use appview::table;
use postgres::{Client, Error};
use serde_json::Value;

/// A row of `record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// Its CID.
    pub cid: String,
    /// Its JSON.
    pub json: String,
    /// When the indexer saw it.
    pub indexed_at: String,
}

/// What is stored of a record.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Its row in `record`.
    pub record: Option<RecordRow>,
    /// Its rows in other tables, with the table of each.
    pub rows: Vec<(&'static str, Value)>,
}

impl Stored {
    /// The record that has the row of this one's unique key, if this one is a duplicate.
    #[must_use]
    pub fn duplicate_of(&self) -> Option<&str> {
        let name = table::DUPLICATE_RECORD.info().name;
        let (_, row) = self.rows.iter().find(|(table, _)| *table == name)?;
        row.get("duplicateOf")?.as_str()
    }

    /// Its rows in a table.
    pub fn in_table(&self, name: &str) -> impl Iterator<Item = &Value> {
        let rows = self.rows.iter().filter(move |(table, _)| *table == name);
        rows.map(|(_, row)| row)
    }
}

/// Reads what is stored of the record at `uri`.
///
/// # Errors
/// The server refused.
pub fn stored(client: &mut Client, uri: &str) -> Result<Stored, Error> {
    let record = client.query_opt(
        "SELECT cid, json, \"indexedAt\" FROM record WHERE uri = $1",
        &[&uri],
    )?;
    let mut stored = Stored {
        record: record.map(|row| RecordRow {
            cid: row.get(0),
            json: row.get(1),
            indexed_at: row.get(2),
        }),
        rows: Vec::new(),
    };
    let of_records = table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id);
    for info in of_records {
        let from = info.rows_of_record("$1");
        let rows = client.query(&format!("SELECT to_jsonb(x)::text FROM {from}"), &[&uri])?;
        for row in rows {
            let value = serde_json::from_str(row.get(0)).unwrap_or(Value::Null);
            stored.rows.push((info.name, value));
        }
    }
    let counts = "SELECT to_jsonb(x)::text FROM post_agg x WHERE x.uri = $1";
    for row in client.query(counts, &[&uri])? {
        let value = serde_json::from_str(row.get(0)).unwrap_or(Value::Null);
        stored.rows.push(("post_agg", value));
    }
    Ok(stored)
}

/// The account that has a handle, according to the table `actor`.
///
/// # Errors
/// The server refused.
pub fn account_of_handle(client: &mut Client, handle: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT did FROM actor WHERE handle = lower($1)";
    Ok(client.query_opt(sql, &[&handle])?.map(|row| row.get(0)))
}

/// The row of an account in the table `actor`.
///
/// # Errors
/// The server refused.
pub fn actor(client: &mut Client, did: &str) -> Result<Option<Value>, Error> {
    let sql = "SELECT to_jsonb(x)::text FROM actor x WHERE x.did = $1";
    let row = client.query_opt(sql, &[&did])?;
    Ok(row.map(|row| serde_json::from_str(row.get(0)).unwrap_or(Value::Null)))
}

/// A post, as far as replies to it go.
struct Post {
    uri: String,
    root: Option<String>,
    parent: Option<String>,
    is_invalid: bool,
}

fn post(client: &mut Client, uri: &str) -> Result<Option<Post>, Error> {
    let row = client.query_opt(
        "SELECT uri, \"replyRoot\", \"replyParent\", coalesce(\"invalidReplyRoot\", false) FROM post WHERE uri = $1",
        &[&uri],
    )?;
    Ok(row.map(|row| Post {
        uri: row.get(0),
        root: row.get(1),
        parent: row.get(2),
        is_invalid: row.get(3),
    }))
}

/// The JSON of a record, if it is stored and can be read.
fn json_of(client: &mut Client, uri: &str) -> Result<Option<Value>, Error> {
    let row = client.query_opt("SELECT json FROM record WHERE uri = $1", &[&uri])?;
    Ok(row.and_then(|row| serde_json::from_str(row.get(0)).ok()))
}

/// Authority, collection and record key of an AT-URI.
fn parts_of(uri: &str) -> (&str, &str, &str) {
    let mut parts = uri.split('/').skip(2);
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

/// The record of another collection at the same account and key: the gate that rules a post.
fn beside(uri: &str, collection: &str) -> String {
    let (authority, _, rkey) = parts_of(uri);
    format!("at://{authority}/{collection}/{rkey}")
}

/// The items of a list in a record.
fn items<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter().flatten()
}
