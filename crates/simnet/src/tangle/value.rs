//! Values of records that are written field by field.

use atrepo::Cid;
use atrepo::cbor::{Writer, key_order};

/// A value of a record; maps are put into canonical order when they are written.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Float(f64),
    Link(Cid),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

pub(super) fn strong_ref(uri: &str, cid: &str) -> Value {
    Value::Map(vec![("uri", text(uri)), ("cid", text(cid))])
}

pub(super) fn of_type(name: &str, mut fields: Vec<(&'static str, Value)>) -> Value {
    fields.push(("$type", text(name)));
    Value::Map(fields)
}

pub(super) fn encoded(fields: Vec<(&'static str, Value)>) -> Vec<u8> {
    let mut w = Writer::new();
    write(&Value::Map(fields), &mut w);
    w.into_bytes()
}

fn write(value: &Value, out: &mut Writer) {
    match value {
        Value::Text(text) => _ = out.text(text),
        Value::Number(number) => _ = out.integer(*number),
        Value::Float(number) => _ = out.float(*number),
        Value::Link(cid) => _ = out.cid(cid),
        Value::List(items) => {
            out.list(items.len() as u64);
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| key_order(a.0.as_bytes(), b.0.as_bytes()));
            out.map(entries.len() as u64);
            for (key, value) in entries {
                out.text(key);
                write(value, out);
            }
        }
    }
}
