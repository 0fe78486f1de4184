//! Converts the JSON of a record back to DAG-CBOR: `{"$link":…}` is a link, `{"$bytes":…}` is
//! bytes, and keys are put into canonical order. The result is written while serde reads, without a
//! tree, each value once.

use crate::build::{Builder, Kind};
use crate::lexicon::MAX_SAFE_INTEGER;
use atrepo::Link;
use atrepo::cbor;
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// A JSON value as DAG-CBOR, for messages that contain one.
pub struct DagCbor(pub Vec<u8>);

/// The DAG-CBOR of a record's JSON; `None` if `json` is not JSON.
#[must_use]
pub fn from_json(json: &str) -> Option<Vec<u8>> {
    serde_json::from_str::<DagCbor>(json)
        .ok()
        .map(|value| value.0)
}

/// The DAG-CBOR of JSON in `record.json`; `None` if `json` is not JSON.
///
/// As [`from_json`], except that a `$link` or `$bytes` in another spelling than the one that
/// [`crate::to_json`] writes stays a map, because it must have been a map in the record. So the
/// result always prints as `json` again, even if the record itself cannot be recovered.
#[must_use]
pub fn from_stored_json(json: &str) -> Option<Vec<u8>> {
    let mut to = Target {
        spelling: Spelling::Ours,
        ..Target::default()
    };
    let mut reader = serde_json::Deserializer::from_str(json);
    Value { to: &mut to }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(to.builder.finish().into_bytes())
}

/// The accepted spellings of links and bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Spelling {
    /// All that can be read.
    #[default]
    Any,
    /// Only the one that [`crate::to_json`] writes.
    Ours,
}

impl<'de> Deserialize<'de> for DagCbor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut to = Target::default();
        Value { to: &mut to }.deserialize(deserializer)?;
        Ok(Self(to.builder.finish().into_bytes()))
    }
}

/// The output.
#[derive(Default)]
struct Target {
    builder: Builder,
    /// The beginning of each entry of the maps that are being read, the outermost first.
    entries: Vec<usize>,
    spelling: Spelling,
}

/// Reads one value and appends it. Depth is bounded by serde_json's own limit of 128.
struct Value<'w> {
    to: &'w mut Target,
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
        self.to.builder.writer().bool(value);
        Ok(())
    }

    // To JavaScript, which writes these lines, all numbers are floats. A number that is too large
    // to be an exact integer was not one.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match value.unsigned_abs() {
            0..=MAX_SAFE_INTEGER => self.to.builder.writer().integer(value),
            _ => self.to.builder.writer().float(value as f64),
        };
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match value {
            0..=MAX_SAFE_INTEGER => self.to.builder.writer().unsigned(value),
            _ => self.to.builder.writer().float(value as f64),
        };
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.to.builder.writer().float(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.to.builder.writer().text(value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.to.builder.writer().null();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let at = self.to.builder.begin(Kind::List);
        let mut count = 0u64;
        while items
            .next_element_seed(Value { to: &mut *self.to })?
            .is_some()
        {
            count = count.saturating_add(1);
        }
        self.to.builder.end(Kind::List, at, count, None);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let at = self.to.builder.begin(Kind::Map);
        let first = self.to.entries.len();
        let mut is_in_order = true;
        let mut before: Option<Cow<'de, str>> = None;
        while let Some(Key(key)) = map.next_key()? {
            is_in_order &= before.is_none_or(|before| {
                cbor::key_order(before.as_bytes(), key.as_bytes()) == Ordering::Less
            });
            self.to.entries.push(self.to.builder.at());
            self.to.builder.writer().text(&key);
            map.next_value_seed(Value { to: &mut *self.to })?;
            before = Some(key);
        }
        let entries = self.to.entries.get(first..).unwrap_or_default();
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if let ([entry], Some(key)) = (entries, &before)
            && self.to.special(at, *entry, key).is_some()
        {
            self.to.entries.truncate(first);
            return Ok(());
        }
        let order = if is_in_order {
            None
        } else {
            let order = self.to.sorted(first);
            Some(order.ok_or_else(|| A::Error::custom("a key twice"))?)
        };
        self.to.entries.truncate(first);
        self.to.builder.end(Kind::Map, at, count, order);
        Ok(())
    }
}

impl Target {
    /// The positions of the entries from `first` on, which are all those of a map that ends here,
    /// in canonical order. `None` if a key occurs twice.
    fn sorted(&self, first: usize) -> Option<Vec<Range<usize>>> {
        let entries = self.entries.get(first..).unwrap_or_default();
        let ends = entries.iter().skip(1).copied().chain([self.builder.at()]);
        let mut sorted: Vec<(&[u8], Range<usize>)> = entries
            .iter()
            .zip(ends)
            .map(|(start, end)| {
                let key = self.builder.item_at(*start).as_text().unwrap_or_default();
                (key.as_bytes(), *start..end)
            })
            .collect();
        sorted.sort_by(|a, b| cbor::key_order(a.0, b.0));
        let is_twice = sorted
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.0 == b.0));
        (!is_twice).then(|| sorted.into_iter().map(|(_, range)| range).collect())
    }

    /// Writes the link or the bytes that the map at `at` stands for; its only entry is `key` at
    /// `entry`. A map that stands for neither, such as a `$link` without a CID, stays a map.
    fn special(&mut self, at: usize, entry: usize, key: &str) -> Option<()> {
        if !matches!(key, "$link" | "$bytes") {
            return None;
        }
        let mut cursor = self.builder.item_at(entry).cursor();
        cursor.key();
        let atrepo::cbor::Value::Text(text) = cursor.value() else {
            return None;
        };
        let is_any = self.spelling == Spelling::Any;
        let bytes = match key {
            "$link" => {
                let bytes = Link::parse(text)?;
                let is_ours = Link::from_bytes(&bytes).is_some_and(|link| link.to_string() == text);
                (is_any || is_ours).then_some(bytes)?
            }
            _ if text.ends_with('=') && !is_any => return None,
            _ if text.ends_with('=') => BASE64.decode(text.as_bytes()).ok()?,
            _ => BASE64_NOPAD.decode(text.as_bytes()).ok()?,
        };
        self.builder.truncate(at);
        let writer = self.builder.writer();
        _ = match key {
            "$link" => writer.link(&bytes),
            _ => writer.bytes(&bytes),
        };
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

#[cfg(test)]
mod tests {
    use super::from_json;
    use atrepo::{cbor, work};

    fn json_of(json: &str) -> Option<String> {
        let bytes = from_json(json)?;
        let map = cbor::check(&bytes).unwrap().as_map().unwrap();
        Some(crate::to_json(map).unwrap())
    }

    #[test]
    fn keys_are_put_in_order_at_every_level() {
        assert_eq!(
            json_of(
                r#"{"ccc":{"bb":[{"z":1,"a":{}}],"a":"x"},"b":{"$link":"x"},"a":{"$bytes":"AQI="}}"#
            )
            .unwrap(),
            r#"{"a":{"$bytes":"AQI"},"b":{"$link":"x"},"ccc":{"a":"x","bb":[{"a":{},"z":1}]}}"#
        );
        // More items than fit into a head of one byte, inside of each other.
        let many = |inner: &str| format!("[{}{inner}]", "0,".repeat(30));
        let json = format!(r#"{{"bb":{},"a":{}}}"#, many(&many("{}")), many("[]"));
        let sorted = format!(r#"{{"a":{},"bb":{}}}"#, many("[]"), many(&many("{}")));
        assert_eq!(json_of(&json).unwrap(), sorted);
        assert_eq!(json_of(r#"{"a":1,"b":2,"a":3}"#), None);
        assert_eq!(json_of(r#"{"a":{"b":1,"b":2}}"#), None);
    }

    #[test]
    fn each_value_is_written_once_however_deep() {
        let work_of = |start: &str, end: &str| {
            let zeros = "0,".repeat(10_000);
            let json = format!(
                r#"{{"a":{}[{zeros}0]{}}}"#,
                start.repeat(90),
                end.repeat(90)
            );
            let before = work::done();
            from_json(&json).unwrap();
            work::done() - before
        };
        let flat = work_of("", "");
        for (start, end) in [
            ("[", "]"),
            (r#"{"bb":0,"a":"#, "}"),
            (&format!("[{}", "0,".repeat(24)), "]"),
        ] {
            let deep = work_of(start, end);
            assert!(deep < flat * 3, "{start}: {deep} and {flat}");
        }
    }
}
