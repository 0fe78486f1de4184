//! What the official decoder makes of a record that JavaScript cannot hold as it is written.
//!
//! Two things happen to a few records (cborg's use of `TextDecoder`, and of plain objects): a byte order mark at the front
//! of a text or key vanishes, and a key `__proto__` is no key but sets the object's prototype. The copy that is made of
//! them here has texts without the mark and no `__proto__` but those that matter to the lexicon check. An object whose prototype is
//! a link counts as that link.

use crate::reject::{Reject, Rule};
use atrepo::cbor::{Item, Map, Value, Writer};
use memchr::memmem::Finder;
use std::sync::LazyLock;

const MARK: char = '\u{feff}';
const MARK_BYTES: &[u8] = b"\xef\xbb\xbf";
/// The key that is none.
pub(crate) const PROTO: &str = "__proto__";

/// The copy of `record`, or nothing if it is as it is written.
///
/// # Errors
/// The official decoder cannot read it: keys are the same without their marks, or the record has a prototype.
pub(crate) fn copy(record: Map<'_>) -> Result<Option<Writer>, Reject> {
    static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK_BYTES));
    static PROTOS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PROTO));
    let bytes = record.as_bytes();
    if MARKS.find(bytes).is_none() && PROTOS.find(bytes).is_none() {
        return Ok(None);
    }
    let mut out = Writer::new();
    copy_map(record, &mut out).map_err(|reject| reject.below("$"))?;
    if out.item().as_map().is_none_or(|map| map.get(PROTO).is_some()) {
        return Err(Reject::new(format!("$.{PROTO}"), Rule::Proto));
    }
    Ok(Some(out))
}

fn read(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Whether JavaScript makes `value` the prototype of the object that has it as its `__proto__`. Null, numbers and the like
/// change nothing.
pub(crate) fn is_prototype(value: Value<'_>) -> bool {
    matches!(
        value,
        Value::Map(_) | Value::List(_) | Value::Bytes(_) | Value::Link(_)
    )
}

/// Recursion is bounded by the depth that the DAG-CBOR check lets pass.
fn copy_item(item: Item<'_>, out: &mut Writer) -> Result<(), Reject> {
    match item.value() {
        Value::Unsigned(n) => _ = out.unsigned(n),
        Value::Negative(n) => _ = out.negative(n),
        Value::Bytes(bytes) => _ = out.bytes(bytes),
        Value::Text(text) => _ = out.text(read(text)),
        Value::Link(link) => _ = out.link(link.as_bytes()),
        Value::Bool(value) => _ = out.bool(value),
        Value::Null => _ = out.null(),
        Value::Float(value) => _ = out.float(value),
        Value::List(list) => {
            out.list(list.len());
            for (at, item) in list.enumerate() {
                copy_item(item, out).map_err(|reject| reject.below(&format!("[{at}]")))?;
            }
        }
        Value::Map(map) => copy_map(map, out)?,
    }
    Ok(())
}

fn copy_map(map: Map<'_>, out: &mut Writer) -> Result<(), Reject> {
    let mut entries = Writer::new();
    let (mut count, mut marked) = (0u64, false);
    for (key, item) in map {
        let key_read = read(key);
        marked |= key_read.len() != key.len();
        if key_read == PROTO && !is_prototype(item.value()) {
            continue;
        }
        let mut value = Writer::new();
        copy_item(item, &mut value).map_err(|reject| reject.below(&format!(".{key_read}")))?;
        if let (PROTO, Value::Link(link)) = (key_read, value.item().value()) {
            out.link(link.as_bytes());
            return Ok(());
        }
        entries.text(key_read).raw(value.as_bytes());
        count = count.saturating_add(1);
    }
    if marked {
        let mut keys: Vec<&str> = map.map(|(key, _)| read(key)).collect();
        keys.sort_unstable();
        if keys.iter().zip(keys.iter().skip(1)).any(|(a, b)| a == b) {
            return Err(Reject::new(
                "",
                Rule::Official("two keys are the same without a byte order mark"),
            ));
        }
    }
    out.map(count).raw(entries.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::cbor::check;

    #[test]
    fn marks_and_prototypes() {
        let mut w = Writer::new();
        w.map(3).text("a").list(2).text("\u{feff}\u{feff}x").text("y");
        w.text("b")
            .map(2)
            .text("k")
            .integer(1)
            .text("__proto__")
            .link(&[1, 0x55, 0, 0]);
        w.text("__proto__").null();
        let bytes = w.into_bytes();
        let copied = copy(check(&bytes).unwrap().as_map().unwrap()).unwrap().unwrap();
        assert_eq!(
            crate::to_json(copied.item().as_map().unwrap()).unwrap(),
            "{\"a\":[\"\u{feff}x\",\"y\"],\"b\":{\"$link\":\"bafkqaaa\"}}"
        );
        for (key, value) in [("__proto__", "a"), ("\u{feff}__proto__", "b")] {
            let mut w = Writer::new();
            w.map(1).text(key).map(1).text(value).null();
            let bytes = w.into_bytes();
            assert!(copy(check(&bytes).unwrap().as_map().unwrap()).is_err());
        }
        let mut w = Writer::new();
        w.map(2).text("a").null().text("\u{feff}a").null();
        let bytes = w.into_bytes();
        assert!(copy(check(&bytes).unwrap().as_map().unwrap()).is_err());
    }
}
