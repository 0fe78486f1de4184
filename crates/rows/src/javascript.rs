//! Reproduces what the official decoder makes of a record that JavaScript cannot represent as it is
//! written.
//!
//! Two things happen to a few records (because of cborg's use of `TextDecoder` and of plain
//! objects). A byte order mark at the front of a text or key disappears. And a key `__proto__` is
//! not a key, but sets the object's prototype. The copy that is made of such records has texts
//! without the mark, and no `__proto__` except those that matter to the lexicon check. An object
//! whose prototype is a link counts as that link.

use crate::build::{Builder, Kind};
use crate::reject::{Reject, Rule};
use atrepo::cbor::{Cursor, Map, Value, Writer};
use atrepo::work;
use memchr::memmem::Finder;
use std::sync::LazyLock;

const MARK: char = '\u{feff}';
const MARK_BYTES: &[u8] = b"\xef\xbb\xbf";
/// The key that is not a key.
pub(crate) const PROTO: &str = "__proto__";

/// The copy of `record`; `None` if the record is the same to JavaScript.
///
/// # Errors
/// The official decoder cannot read it: two keys are the same without their marks, or the record
/// has a prototype.
pub(crate) fn copy(record: Map<'_>) -> Result<Option<Writer>, Reject> {
    static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK_BYTES));
    static PROTOS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PROTO));
    let bytes = record.as_bytes();
    work::add(bytes.len());
    if MARKS.find(bytes).is_none() && PROTOS.find(bytes).is_none() {
        return Ok(None);
    }
    let mut copy = Copy {
        from: record.cursor(),
        keys: Vec::new(),
        out: Builder::default(),
    };
    copy.map(record.len()).map_err(|reject| reject.below("$"))?;
    let out = copy.out.finish();
    if out
        .item()
        .as_map()
        .is_none_or(|map| map.get(PROTO).is_some())
    {
        return Err(Reject::new(format!("$.{PROTO}"), Rule::Proto));
    }
    Ok(Some(out))
}

/// A text without the mark that the official decoder drops.
pub(crate) fn read(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Whether JavaScript makes `value` the prototype of the object that has it as its `__proto__`.
/// Null, numbers and the like have no effect.
pub(crate) fn is_prototype(value: Value<'_>) -> bool {
    matches!(
        value,
        Value::Map(_) | Value::List(_) | Value::Bytes(_) | Value::Link(_)
    )
}

/// A copy that is being made: the record is read once, from front to back.
struct Copy<'a> {
    from: Cursor<'a>,
    /// The keys, as they are read, of the maps that are being copied, the outermost first.
    keys: Vec<&'a str>,
    out: Builder,
}

impl Copy<'_> {
    /// Copies the next value. Recursion is bounded by the depth that the DAG-CBOR check lets pass.
    fn value(&mut self) -> Result<(), Reject> {
        let value = self.from.value();
        let out = self.out.writer();
        match value {
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
                for at in 0..list.len() {
                    self.value()
                        .map_err(|reject| reject.below(&format!("[{at}]")))?;
                }
            }
            Value::Map(map) => self.map(map.len())?,
        }
        Ok(())
    }

    /// Copies a map, whose first of `entries` entries comes next.
    fn map(&mut self, entries: u64) -> Result<(), Reject> {
        let (start, first) = (self.out.begin(Kind::Map), self.keys.len());
        let (mut count, mut marked) = (0u64, false);
        for left in (0..entries).rev() {
            let key = self.from.key();
            let key_read = read(key);
            marked |= key_read.len() != key.len();
            self.keys.push(key_read);
            if key_read == PROTO && !is_prototype(self.from.peek()) {
                self.from.skip();
                continue;
            }
            self.out.writer().text(key_read);
            let at = self.out.at();
            self.value()
                .map_err(|reject| reject.below(&format!(".{}", key_read.escape_debug())))?;
            if let (PROTO, Value::Link(link)) = (key_read, self.out.item_at(at).value()) {
                let link = link.as_bytes().to_vec();
                self.out.truncate(start);
                self.out.writer().link(&link);
                self.keys.truncate(first);
                // What else the object has does not count.
                for _ in 0..left {
                    self.from.skip();
                    self.from.skip();
                }
                return Ok(());
            }
            count = count.saturating_add(1);
        }
        let mut keys = self.keys.split_off(first);
        if marked {
            keys.sort_unstable();
            if keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
                return Err(Reject::new(
                    "",
                    Rule::Official("two keys are the same without a byte order mark"),
                ));
            }
        }
        self.out.end(Kind::Map, start, count, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::cbor::check;

    #[test]
    fn marks_and_prototypes() {
        let mut w = Writer::new();
        w.map(3)
            .text("a")
            .list(2)
            .text("\u{feff}\u{feff}x")
            .text("y");
        w.text("b")
            .map(2)
            .text("k")
            .integer(1)
            .text("__proto__")
            .link(&[1, 0x55, 0, 0]);
        w.text("__proto__").null();
        let bytes = w.into_bytes();
        let copied = copy(check(&bytes).unwrap().as_map().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(
            crate::to_json(copied.item().as_map().unwrap()).unwrap(),
            "{\"a\":[\"\u{feff}x\",\"y\"],\"b\":{\"$link\":\"bafkqaaa\"}}"
        );
        // A prototype whose own prototype is a link is that link, whatever else stands beside it.
        let mut w = Writer::new();
        w.map(1).text("b").map(3);
        w.text("k").map(1).text("x").list(0);
        w.text("__proto__")
            .map(1)
            .text("__proto__")
            .link(&[1, 0x55, 0, 0]);
        w.text("zzzzzzzzzz").map(1).text("x").null();
        let bytes = w.into_bytes();
        let copied = copy(check(&bytes).unwrap().as_map().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(
            crate::to_json(copied.item().as_map().unwrap()).unwrap(),
            "{\"b\":{\"$link\":\"bafkqaaa\"}}"
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

    #[test]
    fn a_copy_reads_each_value_once_and_names_long_paths_in_short() {
        let nested = |inner: Vec<u8>, key: &str| {
            (0..90).fold(inner, |inner, _| {
                let mut w = Writer::new();
                w.map(1).text(key).raw(&inner);
                w.into_bytes()
            })
        };
        let mut w = Writer::new();
        w.list(10_001).text("\u{feff}x");
        (0..10_000).for_each(|_| _ = w.integer(0));
        let bytes = nested(w.into_bytes(), "k");
        let map = check(&bytes).unwrap().as_map().unwrap();
        let before = work::done();
        assert!(copy(map).unwrap().is_some());
        let done = work::done() - before;
        assert!(done < 20 * 10_000, "{done}");
        let mut w = Writer::new();
        w.map(2).text("b").null().text("\u{feff}b").null();
        let bytes = nested(w.into_bytes(), &"\u{1b}k".repeat(400));
        let reject = copy(check(&bytes).unwrap().as_map().unwrap())
            .err()
            .unwrap();
        assert!(reject.path.len() < 210, "{}", reject.path.len());
        assert!(reject.path.starts_with("$.\\u{1b}k"), "{reject}");
    }
}
