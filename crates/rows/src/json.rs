//! `record.json`: DAG-CBOR written as JavaScript's `JSON.stringify` writes the official code's objects.
//!
//! Keys keep their DAG-CBOR order, except that JavaScript puts keys that look like array indexes first, in
//! ascending order. Links are `{"$link":…}`, bytes `{"$bytes":…}` in unpadded base 64. Numbers print as
//! JavaScript prints them, so a float without a fraction prints as an integer. A key `__proto__` vanishes.

use crate::javascript::{PROTO, is_prototype};
use crate::lexicon::MAX_SAFE_INTEGER;
use crate::reject::{Reject, Rule};
use atrepo::cbor::{Item, List, Map, Value};
use data_encoding::BASE64_NOPAD;
use std::fmt::Write;

/// The JSON of a record.
///
/// # Errors
/// It holds an integer over 2^53 - 1.
pub fn to_json(record: Map<'_>) -> Result<String, Reject> {
    let mut text = String::new();
    append_json(record, &mut text)?;
    Ok(text)
}

/// Appends the JSON of a record to `out`; whether [`crate::from_json`] makes the same record of it again. It does not where a float
/// is whole, or where a map looks like a link or bytes.
pub(crate) fn append_json(record: Map<'_>, out: &mut String) -> Result<bool, Reject> {
    write(Value::Map(record), false, out)
}

/// The JSON of a record for a reader who wants all of it, `__proto__` too.
///
/// # Errors
/// It holds an integer over 2^53 - 1.
pub fn to_whole_json(record: Map<'_>) -> Result<String, Reject> {
    let mut text = String::new();
    write(Value::Map(record), true, &mut text)?;
    Ok(text)
}

/// The JSON of a part of a record.
pub(crate) fn item_to_json(item: Item<'_>) -> Result<String, Reject> {
    let mut text = String::new();
    write(item.value(), false, &mut text)?;
    Ok(text)
}

/// An array or object that is being written.
enum Open<'a> {
    List(List<'a>),
    /// A map in its own order: what is left of it, all of it, and where it begins in the text.
    Map(Map<'a>, Map<'a>, usize),
    /// A map with keys that JavaScript moves to the front, the last entry first.
    Sorted(Vec<(&'a str, Item<'a>)>),
}

/// Without recursion: depth is bounded by the DAG-CBOR check, but a stack of our own costs nothing.
fn write(value: Value<'_>, whole: bool, out: &mut String) -> Result<bool, Reject> {
    let mut open = Vec::new();
    let mut reversible = write_one(value, out, &mut open)?;
    while let Some(top) = open.last_mut() {
        let next = match top {
            Open::List(list) => list.next().map(|item| (None, item)),
            Open::Map(map, all, start) => {
                let entry = map.find(|(key, item)| is_written(key, *item, whole));
                if entry.is_some_and(|(key, _)| array_index(key).is_some()) {
                    // JavaScript moves this key to the front: the map is written again.
                    out.truncate(*start);
                    *top = sorted(*all);
                    continue;
                }
                entry.map(|(key, item)| (Some(key), item))
            }
            Open::Sorted(entries) => loop {
                match entries.pop() {
                    Some((key, item)) if !is_written(key, item, whole) => {}
                    next => break next.map(|(key, item)| (Some(key), item)),
                }
            },
        };
        let Some((key, item)) = next else {
            out.push(if matches!(top, Open::List(_)) { ']' } else { '}' });
            open.pop();
            continue;
        };
        if !matches!(out.as_bytes().last(), Some(b'[' | b'{')) {
            out.push(',');
        }
        if let Some(key) = key {
            write_text(key, out);
            out.push(':');
        }
        reversible &= write_one(item.value(), out, &mut open)?;
    }
    Ok(reversible)
}

/// Whether JavaScript has `key`. Whoever wants all of a record also wants a `__proto__` that is a prototype.
fn is_written(key: &str, item: Item<'_>, whole: bool) -> bool {
    key != PROTO || (whole && is_prototype(item.value()))
}

/// Writes a scalar, or begins a container and puts it on `open`; whether that can be read back.
fn write_one<'a>(value: Value<'a>, out: &mut String, open: &mut Vec<Open<'a>>) -> Result<bool, Reject> {
    let mut reversible = true;
    match value {
        Value::Unsigned(n) if n > MAX_SAFE_INTEGER => return Err(Reject::new("$", Rule::UnsafeInteger)),
        Value::Negative(n) if n >= MAX_SAFE_INTEGER => return Err(Reject::new("$", Rule::UnsafeInteger)),
        Value::Unsigned(n) => written(write!(out, "{n}")),
        Value::Negative(n) => written(write!(out, "-{}", n.saturating_add(1))),
        Value::Bytes(bytes) => {
            out.push_str(r#"{"$bytes":""#);
            BASE64_NOPAD.encode_append(bytes, out);
            out.push_str("\"}");
        }
        Value::Text(text) => write_text(text, out),
        Value::Link(link) => written(write!(out, r#"{{"$link":"{link}"}}"#)),
        Value::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
        Value::Float(value) => {
            reversible = value.fract() != 0.0;
            out.push_str(ryu_js::Buffer::new().format(value));
        }
        Value::List(list) => {
            out.push('[');
            open.push(Open::List(list));
        }
        Value::Map(map) => {
            out.push('{');
            reversible = map.len() != 1 || map.get("$link").or_else(|| map.get("$bytes")).is_none();
            open.push(Open::Map(map, map, out.len()));
        }
    }
    Ok(reversible)
}

fn sorted(map: Map<'_>) -> Open<'_> {
    let mut entries: Vec<_> = map.collect();
    // A stable sort: the keys that are no indexes keep their order, behind those that are.
    entries.sort_by_key(|(key, _)| array_index(key).map_or((true, 0), |index| (false, index)));
    entries.reverse();
    Open::Sorted(entries)
}

/// The array index that `key` is in JavaScript: a canonical decimal below 2^32 - 1.
fn array_index(key: &str) -> Option<u32> {
    let first = *key.as_bytes().first()?;
    if !first.is_ascii_digit() || (first == b'0' && key.len() > 1) || key.len() > 10 {
        return None;
    }
    key.parse().ok().filter(|index| *index < u32::MAX)
}

/// Writing to a string cannot fail.
fn written(_: std::fmt::Result) {}

/// A string as `JSON.stringify` escapes it: quotes, backslashes and control characters, nothing else.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(other) => written(write!(out, "\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::cbor::{Writer, check};

    #[test]
    fn javascript_order_numbers_and_escapes() {
        let mut w = Writer::new();
        w.map(5);
        w.text("b").list(3).float(1.0).float(1e21).float(-0.0);
        w.text("1").null();
        w.text("10").bytes(&[1, 2]);
        w.text("zz").text("\u{0}\u{7f}\u{2028}\"\n");
        w.text(PROTO).integer(1);
        let bytes = w.into_bytes();
        // "1" sorts before "b" in DAG-CBOR; put right by hand to keep the writer honest.
        assert!(check(&bytes).is_err());
        let mut w = Writer::new();
        w.map(5);
        w.text("1").null();
        w.text("b").list(3).float(1.0).float(1e21).float(-0.0);
        w.text("10").bytes(&[1, 2]);
        w.text("zz").text("\u{0}\u{7f}\u{2028}\"\n");
        w.text(PROTO).integer(1);
        let bytes = w.into_bytes();
        let map = check(&bytes).unwrap().as_map().unwrap();
        assert_eq!(
            to_json(map).unwrap(),
            "{\"1\":null,\"10\":{\"$bytes\":\"AQI\"},\"b\":[1,1e+21,0],\"zz\":\"\\u0000\u{7f}\u{2028}\\\"\\n\"}"
        );
    }

    #[test]
    fn integers_that_javascript_cannot_hold_reject_the_record() {
        for (value, fine) in [(9_007_199_254_740_991, true), (9_007_199_254_740_992, false)] {
            for value in [value, -value] {
                let mut w = Writer::new();
                w.map(1).text("n").integer(value);
                let bytes = w.into_bytes();
                assert_eq!(
                    to_json(check(&bytes).unwrap().as_map().unwrap()).is_ok(),
                    fine,
                    "{value}"
                );
            }
        }
    }
}
