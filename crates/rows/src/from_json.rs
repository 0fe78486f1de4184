//! JSON of a record back to DAG-CBOR: `{"$link":…}` is a link, `{"$bytes":…}` is bytes, and keys are put into canonical
//! order. Written as serde reads it, without a tree.

use crate::lexicon::MAX_SAFE_INTEGER;
use atrepo::Link;
use atrepo::cbor::{self, Writer};
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A JSON value as DAG-CBOR, for messages that hold one.
pub struct DagCbor(pub Vec<u8>);

/// The DAG-CBOR of a record's JSON; `None` if it is no JSON.
#[must_use]
pub fn from_json(json: &str) -> Option<Vec<u8>> {
    serde_json::from_str::<DagCbor>(json).ok().map(|value| value.0)
}

impl<'de> Deserialize<'de> for DagCbor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut writer = Writer::new();
        Value { writer: &mut writer }.deserialize(deserializer)?;
        Ok(Self(writer.into_bytes()))
    }
}

/// Reads one value and appends it to `writer`. Depth is bounded by serde_json's own limit of 128.
struct Value<'w> {
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.writer.bool(value);
        Ok(())
    }

    // To JavaScript, which writes these lines, all numbers are floats: one that is too large to be an exact integer was none.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match value.unsigned_abs() {
            0..=MAX_SAFE_INTEGER => self.writer.integer(value),
            _ => self.writer.float(value as f64),
        };
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match value {
            0..=MAX_SAFE_INTEGER => self.writer.unsigned(value),
            _ => self.writer.float(value as f64),
        };
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.writer.float(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.writer.text(value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.writer.null();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0u64;
        let mut inner = Writer::new();
        while items.next_element_seed(Value { writer: &mut inner })?.is_some() {
            count = count.saturating_add(1);
        }
        self.writer.list(count).raw(&inner.into_bytes());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        // Key, and where its value begins and ends in `values`.
        let mut entries: Vec<(Cow<'de, str>, usize, usize)> = Vec::new();
        let mut values = Writer::new();
        while let Some(Key(key)) = map.next_key()? {
            let start = values.len();
            map.next_value_seed(Value { writer: &mut values })?;
            entries.push((key, start, values.len()));
        }
        let values = values.into_bytes();
        if let [(key, ..)] = entries.as_slice()
            && self.special(key, &values).is_some()
        {
            return Ok(());
        }
        entries.sort_by(|a, b| cbor::key_order(a.0.as_bytes(), b.0.as_bytes()));
        if entries
            .iter()
            .zip(entries.iter().skip(1))
            .any(|(a, b)| a.0 == b.0)
        {
            return Err(A::Error::custom("a key twice"));
        }
        self.writer.map(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        for (key, start, end) in entries {
            self.writer
                .text(&key)
                .raw(values.get(start..end).unwrap_or_default());
        }
        Ok(())
    }
}

impl Value<'_> {
    /// Writes the link or the bytes that a map of `key` alone stands for, whose value is `value` in DAG-CBOR. A map that stands for
    /// neither, such as a `$link` without a CID, is a map like others.
    fn special(&mut self, key: &str, value: &[u8]) -> Option<()> {
        let text = cbor::check(value).ok()?.as_text()?;
        match key {
            "$link" => _ = self.writer.link(&Link::parse(text)?),
            "$bytes" => {
                let encoding = if text.ends_with('=') { BASE64 } else { BASE64_NOPAD };
                self.writer.bytes(&encoding.decode(text.as_bytes()).ok()?);
            }
            _ => return None,
        }
        Some(())
    }
}

/// A key, borrowed from the line where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
