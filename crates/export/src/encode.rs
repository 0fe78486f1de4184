//! A record as the values of a row of a file.

use crate::batch::Value;
use crate::month::in_range;
use crate::shape::{CREATED_AT, Shape};
use appview::table::{self, TableInfo};
use atrepo::cbor::{self, Map};
use rows::{Collection, Field, Record, Reject, Rows, datetime};
use std::ops::Range;

/// A record of either source.
#[derive(Clone, Copy)]
pub(crate) struct Source<'r> {
    pub(crate) did: &'r str,
    pub(crate) collection: &'r str,
    pub(crate) rkey: &'r str,
    pub(crate) uri: &'r str,
    pub(crate) cid: &'r str,
    pub(crate) rev: Option<&'r str>,
    pub(crate) indexed_at: &'r str,
}

/// A change of a record, as the stream of records tells it.
#[derive(Clone, Copy)]
pub(crate) struct Change<'c> {
    /// The record; without a CID if it is gone.
    pub(crate) source: Source<'c>,
    pub(crate) operation: &'c str,
    pub(crate) batch: i64,
    /// The number of its message in the stream.
    pub(crate) sequence: i64,
    /// The record as JSON; nothing if it is gone, or was too large for a message.
    pub(crate) json: Option<&'c str>,
    /// The whole message.
    pub(crate) message: &'c str,
}

/// What an encoder knows of a record beside the source's own values.
#[derive(Default)]
struct Facts {
    /// The values of the columns of the table, end to end.
    text: String,
    /// Where each of them is.
    fields: Vec<Option<Range<usize>>>,
    /// The time of its creation.
    created_at: Option<i64>,
    json: String,
    has_json: bool,
    refused: Option<String>,
}

impl Facts {
    fn clear(&mut self) {
        self.forget_table();
        self.json.clear();
        self.has_json = false;
        self.refused = None;
    }

    fn forget_table(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.created_at = None;
    }

    /// Keeps the values of a row of the table.
    fn keep(&mut self, info: TableInfo, shape: &Shape, values: &[Field<'_>]) {
        self.forget_table();
        let text_of = |at: usize| match values.get(at) {
            Some(Field::Text(text) | Field::Jsonb(text)) => Some(*text),
            Some(Field::Null) | None => None,
        };
        for at in &shape.of_table {
            let range = text_of(*at).map(|text| {
                let start = self.text.len();
                self.text.push_str(text);
                start..self.text.len()
            });
            self.fields.push(range);
        }
        let created_at = info.columns.iter().position(|c| c.name == CREATED_AT);
        self.created_at = created_at.and_then(text_of).and_then(datetime::parse);
    }
}

/// The time that a record says it was created at.
fn created_at(value: Map<'_>) -> Option<i64> {
    rows::created_at(&value).and_then(datetime::parse)
}

/// Turns records to rows. It keeps its memory from one record to the next.
#[derive(Default)]
pub(crate) struct Encoder {
    facts: Facts,
    /// Memory for the JSON of a record.
    memory: String,
    line: String,
}

impl Encoder {
    /// Takes a record from the table `record`.
    pub(crate) fn read_stored(&mut self, shape: &Shape, source: &Source<'_>, json: &str) {
        self.facts.clear();
        let bytes = rows::from_stored_json(json).unwrap_or_default();
        let value = cbor::check(&bytes).ok().and_then(|item| item.as_map());
        if shape.is_line() {
            self.facts.created_at = value.and_then(created_at);
            self.append_line(source, json);
            return;
        }
        self.facts.json.push_str(json);
        self.facts.has_json = true;
        match value {
            Some(value) => self.read(shape, source, value, rows::index_stored),
            None => self.facts.refused = Some("not a record".to_owned()),
        }
    }

    /// Takes a record from a repo. It has its JSON whatever a lexicon says of it; false if it is
    /// for the line form, and cannot be written as JSON.
    pub(crate) fn read_archived(
        &mut self,
        shape: &Shape,
        source: &Source<'_>,
        value: Map<'_>,
    ) -> bool {
        self.facts.clear();
        if shape.is_line() {
            self.facts.created_at = created_at(value);
            return match rows::to_whole_json(value) {
                Ok(json) => {
                    self.append_line(source, &json);
                    true
                }
                Err(_) => false,
            };
        }
        self.read(shape, source, value, rows::index);
        if !self.facts.has_json {
            match rows::to_json(value) {
                Ok(json) => {
                    self.facts.json = json;
                    self.facts.has_json = true;
                }
                Err(reject) => self.facts.refused = Some(reject.to_string()),
            }
        }
        true
    }

    /// Takes a change of a record.
    pub(crate) fn read_change(&mut self, shape: &Shape, change: &Change<'_>) {
        match change.json {
            Some(json) => self.read_stored(shape, &change.source, json),
            None => self.facts.clear(),
        }
        if shape.is_line() {
            self.line.clear();
            self.line.push_str(change.message);
            self.line.push('\n');
        }
    }

    fn append_line(&mut self, source: &Source<'_>, json: &str) {
        let Source {
            collection,
            uri,
            cid,
            indexed_at,
            ..
        } = source;
        self.line.clear();
        // None of these can hold a character that JSON escapes.
        self.line.extend([
            r#"{"type":"commit","collection":""#,
            collection,
            r#"","data":{"uri":""#,
            uri,
            r#"","cid":""#,
            cid,
            r#"","timestamp":""#,
            indexed_at,
            r#"","obj":"#,
            json,
            "}}",
        ]);
        self.line.push('\n');
    }

    fn read(
        &mut self,
        shape: &Shape,
        source: &Source<'_>,
        value: Map<'_>,
        index: fn(&Record<'_>, &mut Rows<'_>) -> Result<rows::Indexed, Reject>,
    ) {
        if let Some(collection) = Collection::parse(source.collection) {
            let record = Record {
                did: source.did,
                collection,
                rkey: source.rkey,
                uri: source.uri,
                cid: source.cid,
                indexed_at: source.indexed_at,
                value,
            };
            let facts = &mut self.facts;
            let mut sink = |info: TableInfo, values: &[Field<'_>]| {
                if shape.table.is_some_and(|table| table.id == info.id) {
                    facts.keep(info, shape, values);
                } else if info.id == table::RECORD.info().id
                    && !facts.has_json
                    && let Some(Field::Text(json)) = values.get(3)
                {
                    facts.json.push_str(json);
                    facts.has_json = true;
                }
            };
            let mut rows = Rows::with_text(&mut sink, std::mem::take(&mut self.memory));
            let indexed = index(&record, &mut rows);
            self.memory = rows.into_text();
            if let Err(reject) = indexed {
                self.facts.forget_table();
                self.facts.refused = Some(reject.to_string());
            }
        }
        if self.facts.created_at.is_none() {
            self.facts.created_at = created_at(value);
        }
    }

    /// Whether the AppView refuses the record.
    pub(crate) fn is_refused(&self) -> bool {
        self.facts.refused.is_some()
    }

    fn times(&self, source: &Source<'_>) -> (Option<i64>, Option<i64>) {
        let created_at = self.facts.created_at.filter(|millis| in_range(*millis));
        let indexed_at = datetime::parse(source.indexed_at).filter(|millis| in_range(*millis));
        (created_at, indexed_at)
    }

    /// When the record counts as written: the earlier one of its `createdAt` and its `indexedAt`,
    /// as the AppView's generated column `sortAt` has it.
    pub(crate) fn sort_at(&self, source: &Source<'_>) -> Option<i64> {
        let (created_at, indexed_at) = self.times(source);
        [created_at, indexed_at].into_iter().flatten().min()
    }

    /// The values of the row of a change, in the order of the shape's columns.
    pub(crate) fn values_of_change<'v>(
        &'v self,
        shape: &Shape,
        change: &Change<'v>,
    ) -> Vec<Value<'v>> {
        let mut values = self.values(shape, &change.source);
        if shape.is_line() {
            return values;
        }
        if change.source.cid.is_empty()
            && let Some(cid) = values.get_mut(2)
        {
            *cid = Value::Null;
        }
        values.extend([
            Value::Text(change.operation),
            Value::Number(change.batch),
            Value::Number(change.sequence),
        ]);
        values
    }

    /// The values of the record's row, in the order of the shape's columns.
    pub(crate) fn values<'v>(&'v self, shape: &Shape, source: &Source<'v>) -> Vec<Value<'v>> {
        if shape.is_line() {
            return vec![Value::Text(&self.line)];
        }
        let (created_at, indexed_at) = self.times(source);
        let mut values = Vec::with_capacity(shape.columns.len());
        values.extend([
            Value::Text(source.uri),
            Value::Text(source.did),
            Value::Text(source.cid),
            Value::from(source.rev),
            Value::from(created_at),
            Value::from(indexed_at),
            Value::from(self.sort_at(source)),
        ]);
        let fields = (0..shape.of_table.len()).map(|at| {
            let range = self.facts.fields.get(at).cloned().flatten();
            Value::from(range.and_then(|range| self.facts.text.get(range)))
        });
        values.extend(fields);
        let json = self.facts.has_json.then_some(self.facts.json.as_str());
        values.extend([
            Value::from(self.facts.refused.as_deref()),
            Value::from(json),
        ]);
        values
    }
}
