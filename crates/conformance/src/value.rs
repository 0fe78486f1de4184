//! Records as trees that can be taken apart, unlike DAG-CBOR in place.

use atrepo::Link;
use atrepo::cbor::{Writer, key_order};
use data_encoding::BASE64_NOPAD;

/// A value of the data model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A CID in binary form.
    Link(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// What `json` stands for, with links and bytes as records have them.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => number.as_i64().map_or_else(
                || Self::Float(number.as_f64().unwrap_or_default()),
                Self::Integer,
            ),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(items) => {
                Self::List(items.iter().map(Self::from_json).collect())
            }
            serde_json::Value::Object(entries) => {
                let text = |key: &str| entries.get(key).and_then(serde_json::Value::as_str);
                if let Some(cid) = text("$link").and_then(Link::parse) {
                    return Self::Link(cid);
                }
                if let Some(bytes) =
                    text("$bytes").and_then(|t| BASE64_NOPAD.decode(t.as_bytes()).ok())
                {
                    return Self::Bytes(bytes);
                }
                Self::Map(
                    entries
                        .iter()
                        .map(|(key, value)| (key.clone(), Self::from_json(value)))
                        .collect(),
                )
            }
        }
    }

    /// Canonical DAG-CBOR; of entries with the same key the first one stands.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.into_bytes()
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Null => _ = out.null(),
            Self::Bool(value) => _ = out.bool(*value),
            Self::Integer(n) => _ = out.integer(*n),
            Self::Unsigned(n) => _ = out.unsigned(*n),
            Self::Float(n) => _ = out.float(*n),
            Self::Text(text) => _ = out.text(text),
            Self::Bytes(bytes) => _ = out.bytes(bytes),
            Self::Link(cid) => _ = out.link(cid),
            Self::List(items) => {
                out.list(items.len() as u64);
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|a, b| key_order(a.0.as_bytes(), b.0.as_bytes()));
                sorted.dedup_by(|b, a| a.0 == b.0);
                out.map(sorted.len() as u64);
                for (key, value) in sorted {
                    out.text(key);
                    value.write(out);
                }
            }
        }
    }
}
