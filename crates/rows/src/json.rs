//! `record.json`: DAG-CBOR written as JavaScript's `JSON.stringify` writes the official code's
//! objects.
//!
//! Keys keep their DAG-CBOR order, except that JavaScript puts keys that look like array indexes
//! first, in ascending order. Links are `{"$link":…}`, bytes `{"$bytes":…}` in unpadded base 64.
//! Numbers print as JavaScript prints them, so a float without a fraction prints as an integer. A
//! key `__proto__` vanishes.
//!
//! A record is read once, from front to back, however deep it is. Maps whose keys JavaScript moves
//! are written as they are read and put in order at the end ([`crate::reorder`]).

use crate::javascript::{PROTO, is_prototype};
use crate::lexicon::MAX_SAFE_INTEGER;
use crate::reject::{Reject, Rule};
use crate::reorder::{Region, in_order};
use atrepo::cbor::{Cursor, Item, Map, Value};
use atrepo::work;
use data_encoding::BASE64_NOPAD;
use std::fmt::Write;

/// The JSON of a record.
///
/// # Errors
/// It contains an integer over 2^53 - 1.
pub fn to_json(record: Map<'_>) -> Result<String, Reject> {
    let mut text = String::new();
    append_json(record, &mut text)?;
    Ok(text)
}

/// Appends the JSON of a record to `out`. Returns whether [`crate::from_json`] converts it back to
/// the same record. It does not if a float is whole, or if a map looks like a link or bytes.
pub(crate) fn append_json(record: Map<'_>, out: &mut String) -> Result<bool, Reject> {
    write(Value::Map(record), false, out)
}

/// The JSON of a record with everything in it, `__proto__` included.
///
/// # Errors
/// It contains an integer over 2^53 - 1.
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
struct Open {
    /// Items or entries still to come.
    left: u64,
    /// What else there is to know of an object.
    object: Option<OpenObject>,
}

/// An object that is being written.
struct OpenObject {
    /// Where its first entry begins in the text.
    start: usize,
    /// Whether it has one entry alone.
    is_single: bool,
    /// Its entries in the text, from the first key on that looks like an array index. Nearly
    /// always none.
    pieces: Vec<Piece>,
}

/// Entries of an object that stay together: one whose key looks like an array index, or those
/// between two such keys.
struct Piece {
    /// The index that the key is.
    index: Option<u32>,
    start: usize,
    end: usize,
}

impl OpenObject {
    /// Notes that an entry with `key` comes next; `at` is where the entry before it ends.
    fn begin_entry(&mut self, key: &str, at: usize) {
        let index = array_index(key);
        let continues = match self.pieces.last() {
            Some(last) => last.index.is_none() && index.is_none(),
            None => index.is_none(),
        };
        if continues {
            return;
        }
        let is_first = at == self.start;
        match self.pieces.last_mut() {
            Some(last) => last.end = at,
            None if is_first => {}
            None => self.pieces.push(Piece {
                index: None,
                start: self.start,
                end: at,
            }),
        }
        self.pieces.push(Piece {
            index,
            // A comma comes before it.
            start: at.saturating_add(usize::from(!is_first)),
            end: at,
        });
    }

    /// What has to be put in order, now that the last entry ends at `end`.
    fn close(mut self, end: usize) -> Option<Region> {
        self.pieces.last_mut()?.end = end;
        let place = |piece: &Piece| (piece.index.is_none(), piece.index);
        if self.pieces.is_sorted_by_key(place) {
            return None;
        }
        // A stable sort: the keys that are no indexes keep their order, behind those that are.
        self.pieces.sort_by_key(place);
        Some(Region {
            start: self.start.saturating_sub(1),
            head: b"{".to_vec(),
            end,
            pieces: self
                .pieces
                .iter()
                .map(|piece| piece.start..piece.end)
                .collect(),
        })
    }
}

/// Without recursion: depth is bounded by the DAG-CBOR check, but a stack of our own costs nothing.
fn write(value: Value<'_>, whole: bool, out: &mut String) -> Result<bool, Reject> {
    let begin = out.len();
    let mut from = match value {
        Value::List(list) => list.cursor(),
        Value::Map(map) => map.cursor(),
        _ => return write_one(value, out, &mut Vec::new()),
    };
    let mut open = Vec::new();
    let mut regions = Vec::new();
    let mut reversible = write_one(value, out, &mut open)?;
    while let Some(top) = open.last_mut() {
        if top.left == 0 {
            let object = open.pop().and_then(|closed| closed.object);
            let bracket = if object.is_some() { '}' } else { ']' };
            regions.extend(object.and_then(|object| object.close(out.len())));
            out.push(bracket);
            continue;
        }
        top.left = top.left.saturating_sub(1);
        let key = top.object.as_mut().map(|object| (from.key(), object));
        if key.as_ref().is_some_and(|(key, _)| *key == PROTO) && !is_written(&from, whole) {
            from.skip();
            continue;
        }
        let at = out.len();
        if !matches!(out.as_bytes().last(), Some(b'[' | b'{')) {
            out.push(',');
        }
        if let Some((key, object)) = key {
            object.begin_entry(key, at);
            // Such a map is read back as a link or as bytes.
            reversible &= !(object.is_single && matches!(key, "$link" | "$bytes"));
            write_text(key, out);
            out.push(':');
        }
        reversible &= write_one(from.value(), out, &mut open)?;
    }
    if !regions.is_empty() {
        put_in_order(begin, regions, out);
    }
    Ok(reversible)
}

/// Puts the text from `begin` on in the order in which JavaScript has it.
fn put_in_order(begin: usize, mut regions: Vec<Region>, out: &mut String) {
    let written = out.split_off(begin);
    for region in &mut regions {
        region.start = region.start.saturating_sub(begin);
        region.end = region.end.saturating_sub(begin);
        for piece in &mut region.pieces {
            *piece = piece.start.saturating_sub(begin)..piece.end.saturating_sub(begin);
        }
    }
    in_order(written.as_bytes(), regions, b",", |part| {
        work::add(part.len());
        // Pieces begin and end at quotes, brackets and commas, so each is text.
        out.push_str(std::str::from_utf8(part).unwrap_or_default());
    });
}

/// Whether a key `__proto__` with the value that comes next is written: JavaScript has no such key,
/// but whoever wants all of a record also wants one that is a prototype.
fn is_written(from: &Cursor<'_>, whole: bool) -> bool {
    whole && is_prototype(from.peek())
}

/// Writes a scalar, or begins a container and puts it on `open`; whether that can be read back.
fn write_one(value: Value<'_>, out: &mut String, open: &mut Vec<Open>) -> Result<bool, Reject> {
    let mut reversible = true;
    match value {
        Value::Unsigned(n) if n > MAX_SAFE_INTEGER => {
            return Err(Reject::new("$", Rule::UnsafeInteger));
        }
        Value::Negative(n) if n >= MAX_SAFE_INTEGER => {
            return Err(Reject::new("$", Rule::UnsafeInteger));
        }
        Value::Unsigned(n) => written(write!(out, "{n}")),
        Value::Negative(n) => written(write!(out, "-{}", n.saturating_add(1))),
        Value::Bytes(bytes) => {
            work::add(bytes.len());
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
            open.push(Open {
                left: list.len(),
                object: None,
            });
        }
        Value::Map(map) => {
            out.push('{');
            open.push(Open {
                left: map.len(),
                object: Some(OpenObject {
                    start: out.len(),
                    is_single: map.len() == 1,
                    pieces: Vec::new(),
                }),
            });
        }
    }
    Ok(reversible)
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

/// A string as `JSON.stringify` escapes it: quotes, backslashes and control characters, nothing
/// else.
fn write_text(text: &str, out: &mut String) {
    work::add(text.len());
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest
        .bytes()
        .position(|b| b < 0x20 || b == b'"' || b == b'\\')
    {
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
            Some(other) => {
                let (code, digit) = (u32::from(other), |digit| {
                    char::from_digit(digit, 16).unwrap_or('0')
                });
                out.push_str("\\u00");
                out.extend([digit(code >> 4), digit(code & 15)]);
            }
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
        for (value, fine) in [
            (9_007_199_254_740_991, true),
            (9_007_199_254_740_992, false),
        ] {
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

    /// The JSON of `item`, and how much work it was.
    fn json_and_work(item: Item<'_>) -> (String, u64) {
        let before = work::done();
        let json = item_to_json(item).unwrap();
        (json, work::done() - before)
    }

    /// Maps inside each other, `depth` deep, each of which JavaScript puts into another order.
    fn index_keys(depth: usize) -> Vec<u8> {
        (0..depth).fold(vec![0xa0], |inner, _| {
            let mut w = Writer::new();
            w.map(3).text("a").raw(&inner).text("10").integer(1);
            w.text("bb").null();
            w.into_bytes()
        })
    }

    #[test]
    fn keys_move_to_the_front_at_every_level() {
        let bytes = index_keys(3);
        let (json, _) = json_and_work(check(&bytes).unwrap());
        assert_eq!(
            json,
            r#"{"10":1,"a":{"10":1,"a":{"10":1,"a":{},"bb":null},"bb":null},"bb":null}"#
        );
        let mut w = Writer::new();
        w.map(6).text("1").integer(1).text("a").list(2);
        w.map(2).text("x").null().text("20").null().integer(7);
        w.text("b")
            .integer(2)
            .text("10")
            .integer(3)
            .text("12")
            .integer(4);
        w.text("bb").integer(5);
        let bytes = w.into_bytes();
        let item = check(&bytes).unwrap();
        let expected = r#"{"1":1,"10":3,"12":4,"a":[{"20":null,"x":null},7],"b":2,"bb":5}"#;
        assert_eq!(item_to_json(item).unwrap(), expected);
        // Behind other text, too.
        let mut text = "before".to_owned();
        append_json(item.as_map().unwrap(), &mut text).unwrap();
        assert_eq!(text, format!("before{expected}"));
    }

    #[test]
    fn each_map_is_looked_at_once_however_deep() {
        let deep = |depth| {
            let bytes = index_keys(depth);
            let (json, work) = json_and_work(check(&bytes).unwrap());
            assert_eq!(json.matches("10").count(), depth);
            // So much per level.
            work / depth as u64
        };
        assert!(deep(90) <= deep(3) * 2, "{} and {}", deep(90), deep(3));
        // A list 95 deep, with many items at its end.
        let mut bytes = vec![0x81; 95];
        bytes.extend([0x99, 0x27, 0x10]);
        bytes.extend([0; 10_000]);
        let (_, work) = json_and_work(check(&bytes).unwrap());
        assert!(work < 10 * 10_000, "{work}");
    }
}
