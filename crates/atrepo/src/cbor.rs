//! DAG-CBOR, read in place.
//!
//! [`check`] reads the bytes once and enforces the strict form
//! (<https://ipld.io/specs/codecs/dag-cbor/spec/>, <https://dasl.ing/drisl.html>): shortest
//! integers and lengths; definite lengths; map keys that are text, unique and in canonical order
//! (length first, then bytes); 64-bit floats that are finite; tag 42 around a CID and no other tag.
//! After that, an [`Item`] is a view of the checked bytes: no tree is built, and a field is found
//! by walking over its neighbors. [`Writer`] writes the same form.
//!
//! The iterators [`List`] and [`Map`] skip an item to find the next one, so reading a nested value
//! with them reads its inner parts once per level. That is right for a reader that knows how deep
//! it goes, as a lexicon does. To read all of a value of any depth, use a [`Cursor`], which reads
//! each byte once.

use crate::cid::Link;
use crate::work;
use std::cmp::Ordering;
use std::fmt;

mod writer;

pub use writer::Writer;

/// Maximum nesting of arrays and maps. Real records stay under 20. The bound keeps every later
/// reader safe, recursive or not.
pub const MAX_DEPTH: usize = 100;

/// The rule of DAG-CBOR that some bytes break, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CborError {
    /// Offset of the item that breaks the rule.
    pub at: usize,
    /// The rule.
    pub rule: &'static str,
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not canonical DAG-CBOR at byte {}: {}",
            self.at, self.rule
        )
    }
}

impl std::error::Error for CborError {}

/// First byte and argument of an item.
#[derive(Clone, Copy)]
struct Head {
    major: u8,
    info: u8,
    argument: u64,
    /// Number of bytes in the head.
    length: usize,
}

/// Reads the head at the front of `bytes`, in its shortest form only.
#[inline]
fn head(bytes: &[u8]) -> Result<Head, &'static str> {
    work::add(work::HEAD);
    let &first = bytes.first().ok_or("cut off")?;
    let (major, info) = (first >> 5, first & 0x1f);
    match (info, bytes.get(1)) {
        (0..=23, _) => Ok(Head {
            major,
            info,
            argument: u64::from(info),
            length: 1,
        }),
        (24, Some(&argument)) if argument >= 24 && major != 7 => Ok(Head {
            major,
            info,
            argument: u64::from(argument),
            length: 2,
        }),
        _ => long_head(bytes, major, info),
    }
}

/// Reads a head whose argument has more than one byte.
fn long_head(bytes: &[u8], major: u8, info: u8) -> Result<Head, &'static str> {
    let extra: usize = match info {
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        31 => return Err("indefinite length"),
        _ => return Err("reserved length"),
    };
    let tail = bytes.get(1..=extra).ok_or("cut off")?;
    let argument = tail.iter().fold(0u64, |sum, &b| (sum << 8) | u64::from(b));
    let least = match extra {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if argument < least && major != 7 {
        return Err("number or length not in its shortest form");
    }
    Ok(Head {
        major,
        info,
        argument,
        length: extra.saturating_add(1),
    })
}

const FALSE: u8 = 20;
const TRUE: u8 = 21;
const NULL: u8 = 22;
const FLOAT64: u8 = 27;
const CID_TAG: u64 = 42;

/// An array or map that [`check`] is inside of.
struct Open<'a> {
    /// Number of items still to read; a map counts keys and values.
    left: u64,
    /// For a map: the previous key, and whether a key is next.
    map: Option<(Option<&'a [u8]>, bool)>,
}

impl Open<'_> {
    fn list(left: u64) -> Self {
        Self { left, map: None }
    }

    fn map(left: u64) -> Self {
        let map = Some((None, true));
        Self { left, map }
    }
}

/// Checks that `bytes` are exactly one item in the strict form, in one pass.
///
/// # Errors
/// The first rule that is broken, with its offset.
pub fn check(bytes: &[u8]) -> Result<Item<'_>, CborError> {
    let (item, rest) = check_first(bytes)?;
    if !rest.is_empty() {
        return Err(CborError {
            at: bytes.len().saturating_sub(rest.len()),
            rule: "bytes after the item",
        });
    }
    Ok(item)
}

/// Checks the item at the front of `bytes`, in one pass; returns it and the bytes after it.
///
/// # Errors
/// The first rule that the item breaks, with its offset.
pub fn check_first(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), CborError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = 0usize;
    loop {
        let start = at;
        let fail = |rule| CborError { at: start, rule };
        let rest = bytes.get(at..).unwrap_or_default();
        let h = head(rest).map_err(fail)?;
        let body = rest.get(h.length..).unwrap_or_default();
        let mut taken = h.length;
        let mut text: Option<&[u8]> = None;
        let mut opened: Option<Open<'_>> = None;
        match h.major {
            0 | 1 => {}
            2 | 3 => {
                let length = usize::try_from(h.argument).map_err(|_| fail("cut off"))?;
                let content = body.get(..length).ok_or_else(|| fail("cut off"))?;
                if h.major == 3 {
                    work::add(content.len());
                    std::str::from_utf8(content).map_err(|_| fail("text is not UTF-8"))?;
                    text = Some(content);
                }
                taken = taken.saturating_add(length);
            }
            4 => opened = Some(Open::list(h.argument)),
            5 => {
                let left = h.argument.checked_mul(2).ok_or_else(|| fail("cut off"))?;
                opened = Some(Open::map(left));
            }
            6 => taken = taken.saturating_add(check_link(&h, body).map_err(fail)?),
            _ => match h.info {
                FALSE | TRUE | NULL => {}
                FLOAT64 if f64::from_bits(h.argument).is_finite() => {}
                FLOAT64 => return Err(fail("a float that is not finite")),
                25 | 26 => return Err(fail("a float of less than 64 bits")),
                _ => return Err(fail("an unknown simple value")),
            },
        }
        // In a map, the item may have to be a key: text, in order.
        if let Some(Open {
            map: Some((before, wants_key)),
            ..
        }) = open.last_mut()
        {
            if *wants_key {
                let key = text.ok_or_else(|| fail("a map key that is not text"))?;
                if before.is_some_and(|b| key_order(b, key) != Ordering::Less) {
                    return Err(fail("map keys out of order or twice"));
                }
                *before = Some(key);
            }
            *wants_key = !*wants_key;
        }
        at = at.saturating_add(taken);
        if let Some(inner) = opened {
            // Each item has at least one byte, so a larger count is wrong.
            if inner.left > u64::try_from(bytes.len().saturating_sub(at)).unwrap_or(u64::MAX) {
                return Err(fail("cut off"));
            }
            if open.len() >= MAX_DEPTH {
                return Err(fail("nested deeper than 100 levels"));
            }
            open.push(inner);
        } else {
            close_one(&mut open);
        }
        while open.last().is_some_and(|o| o.left == 0) {
            open.pop();
            close_one(&mut open);
        }
        if open.is_empty() {
            let (bytes, rest) = bytes.split_at_checked(at).ok_or(fail("cut off"))?;
            return Ok((Item { bytes }, rest));
        }
    }
}

/// Checks what a tag at the front of `body` is about; the length of that. Only links have tags.
#[inline]
fn check_link(tag: &Head, body: &[u8]) -> Result<usize, &'static str> {
    if tag.argument != CID_TAG {
        return Err("a tag other than 42");
    }
    let inner = head(body)?;
    let length = usize::try_from(inner.argument).map_err(|_| "cut off")?;
    let end = inner.length.saturating_add(length);
    let content = body.get(inner.length..end).ok_or("cut off")?;
    let cid = content.strip_prefix(&[0]).and_then(Link::from_bytes);
    if inner.major != 2 || cid.is_none() {
        return Err("tag 42 without a CIDv1");
    }
    Ok(end)
}

/// Counts one finished item in the innermost open container.
fn close_one(open: &mut [Open<'_>]) {
    if let Some(last) = open.last_mut() {
        last.left = last.left.saturating_sub(1);
    }
}

/// Canonical order of map keys: the shorter first, then byte by byte.
#[must_use]
pub fn key_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Bytes that passed [`check`], so that reading them needs no second check.
#[derive(Clone, Debug)]
pub struct Checked(Vec<u8>);

impl Checked {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// As [`check`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, CborError> {
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The value.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        Item { bytes: &self.0 }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value inside checked bytes. It begins at the front of `bytes`; more bytes may follow.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    bytes: &'a [u8],
}

/// The value of an [`Item`].
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A non-negative integer.
    Unsigned(u64),
    /// The integer `-1 - n`.
    Negative(u64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// An array.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// A link.
    Link(Link<'a>),
    /// A boolean.
    Bool(bool),
    /// Null.
    Null,
    /// A finite 64-bit float.
    Float(f64),
}

impl<'a> Item<'a> {
    /// Reads the value. All bytes here are checked; if they did not parse, the result would be
    /// [`Value::Null`].
    #[must_use]
    #[inline]
    pub fn value(&self) -> Value<'a> {
        self.split().0
    }

    /// The map, if the item is one.
    #[must_use]
    #[inline]
    pub fn as_map(&self) -> Option<Map<'a>> {
        match self.value() {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The text, if the item is one.
    #[must_use]
    #[inline]
    pub fn as_text(&self) -> Option<&'a str> {
        match self.value() {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A cursor at the item.
    #[must_use]
    pub fn cursor(self) -> Cursor<'a> {
        Cursor { rest: self }
    }

    /// The bytes of the item, with everything inside it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        let length = self.bytes.len().saturating_sub(self.skip().len());
        self.bytes.get(..length).unwrap_or_default()
    }

    /// The value and the bytes after it; for a container, the bytes after its head.
    #[inline]
    fn split(&self) -> (Value<'a>, &'a [u8]) {
        let Ok(h) = head(self.bytes) else {
            return (Value::Null, &[]);
        };
        let body = self.bytes.get(h.length..).unwrap_or_default();
        let (content, after) = match h.major {
            2 | 3 => body
                .split_at_checked(usize::try_from(h.argument).unwrap_or(usize::MAX))
                .unwrap_or_default(),
            _ => (&[][..], body),
        };
        let value = match h.major {
            0 => Value::Unsigned(h.argument),
            1 => Value::Negative(h.argument),
            2 => Value::Bytes(content),
            3 => {
                work::add(content.len());
                Value::Text(std::str::from_utf8(content).unwrap_or_default())
            }
            4 => Value::List(List {
                left: h.argument,
                bytes: body,
            }),
            5 => Value::Map(Map {
                left: h.argument,
                bytes: body,
            }),
            6 => {
                let (inner, after) = Item { bytes: body }.split();
                return match inner {
                    Value::Bytes(cid) => (
                        cid.get(1..)
                            .and_then(Link::from_bytes)
                            .map_or(Value::Null, Value::Link),
                        after,
                    ),
                    _ => (Value::Null, after),
                };
            }
            _ => match h.info {
                FALSE => Value::Bool(false),
                TRUE => Value::Bool(true),
                FLOAT64 => Value::Float(f64::from_bits(h.argument)),
                _ => Value::Null,
            },
        };
        (value, after)
    }

    /// The bytes after this item and everything inside it. Only heads are read.
    #[inline]
    fn skip(self) -> &'a [u8] {
        let mut left = 1u64;
        let mut rest = self.bytes;
        while left > 0 {
            let Ok(h) = head(rest) else { return &[] };
            let (content, inside) = match h.major {
                2 | 3 => (usize::try_from(h.argument).unwrap_or(usize::MAX), 0),
                4 => (0, h.argument),
                5 => (0, h.argument.saturating_mul(2)),
                // A tag: the bytes of the CID come next.
                6 => (0, 1),
                _ => (0, 0),
            };
            rest = rest
                .get(h.length.saturating_add(content)..)
                .unwrap_or_default();
            left = left.saturating_sub(1).saturating_add(inside);
        }
        rest
    }
}

/// Reads checked bytes in the order in which they are stored. The content of an array or a map
/// comes right after its head, so that a value of any depth is read once.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    rest: Item<'a>,
}

impl<'a> Cursor<'a> {
    /// Reads the next value. For an array or a map this is the head; its items or entries are next.
    #[inline]
    pub fn value(&mut self) -> Value<'a> {
        let (value, after) = self.rest.split();
        self.rest = Item { bytes: after };
        value
    }

    /// Reads the next value, which is a key of a map.
    #[inline]
    pub fn key(&mut self) -> &'a str {
        match self.value() {
            Value::Text(key) => key,
            _ => "",
        }
    }

    /// The next value, without moving on.
    #[must_use]
    pub fn peek(&self) -> Value<'a> {
        self.rest.value()
    }

    /// Skips the next value and everything inside it.
    pub fn skip(&mut self) {
        self.rest = Item {
            bytes: self.rest.skip(),
        };
    }
}

/// An array; an iterator over its items.
#[derive(Clone, Copy)]
pub struct List<'a> {
    left: u64,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    /// Number of items that are left.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether no item is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// A cursor at the first item.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'a> {
        Cursor {
            rest: Item { bytes: self.bytes },
        }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        self.left = self.left.checked_sub(1)?;
        let item = Item { bytes: self.bytes };
        self.bytes = item.skip();
        Some(item)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.map(|item| item.value()))
            .finish()
    }
}

/// A map; an iterator over its entries, in canonical order.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    left: u64,
    bytes: &'a [u8],
}

impl<'a> Map<'a> {
    /// Number of entries that are left.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether no entry is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// A cursor at the first entry.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'a> {
        Cursor {
            rest: Item { bytes: self.bytes },
        }
    }

    /// The value of `key`. Walks over the entries before it.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        let mut rest = self.bytes;
        for left in (0..self.left).rev() {
            let h = head(rest).ok()?;
            let body = rest.get(h.length..)?;
            let (found, after) = body.split_at_checked(usize::try_from(h.argument).ok()?)?;
            let item = Item { bytes: after };
            if found == key.as_bytes() {
                return Some(item);
            }
            if left == 0 {
                return None;
            }
            rest = item.skip();
        }
        None
    }

    /// The next entry, with its key as bytes.
    #[inline]
    pub fn next_raw(&mut self) -> Option<(&'a [u8], Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let h = head(self.bytes).ok()?;
        let body = self.bytes.get(h.length..)?;
        let (key, after) = body.split_at_checked(usize::try_from(h.argument).ok()?)?;
        let item = Item { bytes: after };
        self.bytes = item.skip();
        Some((key, item))
    }

    /// The bytes of the entries that are left, and of whatever follows the map.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Map<'a> {
    type Item = (&'a str, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, item) = self.next_raw()?;
        Some((std::str::from_utf8(key).ok()?, item))
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.map(|(key, item)| (key, item.value())))
            .finish()
    }
}

#[cfg(test)]
mod tests;
