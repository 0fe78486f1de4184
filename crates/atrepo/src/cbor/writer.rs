//! Writing DAG-CBOR.

use super::{CID_TAG, FALSE, Item, NULL, TRUE};
use crate::cid::Cid;
use crate::work;

/// Writes DAG-CBOR. The caller must write the entries of maps in canonical order;
/// [`check`](super::check) finds violations.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the written bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, argument: u64) {
        work::add(work::HEAD);
        let first = major << 5;
        let wide = argument.to_be_bytes();
        let (info, skip): (u8, usize) = match argument {
            0..=23 => {
                self.out
                    .push(first | wide.last().copied().unwrap_or_default());
                return;
            }
            24..=0xff => (24, 7),
            0x100..=0xffff => (25, 6),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 0),
        };
        self.out.push(first | info);
        self.out.extend(wide.iter().skip(skip));
    }

    /// Begins a map of `entries` entries; each is a [`Writer::text`] and a value.
    pub fn map(&mut self, entries: u64) -> &mut Self {
        self.head(5, entries);
        self
    }

    /// Begins a list of `items` items.
    pub fn list(&mut self, items: u64) -> &mut Self {
        self.head(4, items);
        self
    }

    /// Writes text, also as a key.
    pub fn text(&mut self, text: &str) -> &mut Self {
        work::add(text.len());
        self.head(3, u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.out.extend(text.as_bytes());
        self
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        work::add(bytes.len());
        self.head(2, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.out.extend(bytes);
        self
    }

    /// Writes an integer.
    pub fn integer(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(value) => self.head(0, value),
            Err(_) => self.head(1, value.unsigned_abs().saturating_sub(1)),
        }
        self
    }

    /// Writes an integer that may exceed the range of [`Writer::integer`].
    pub fn unsigned(&mut self, value: u64) -> &mut Self {
        self.head(0, value);
        self
    }

    /// Writes the integer `-1 - n`.
    pub fn negative(&mut self, n: u64) -> &mut Self {
        self.head(1, n);
        self
    }

    /// Writes a float; null if it is not finite, as in JSON.
    pub fn float(&mut self, value: f64) -> &mut Self {
        if value.is_finite() {
            self.out.push(0xfb);
            self.out.extend(value.to_bits().to_be_bytes());
            return self;
        }
        self.null()
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.head(7, u64::from(if value { TRUE } else { FALSE }));
        self
    }

    /// Writes null.
    pub fn null(&mut self) -> &mut Self {
        self.head(7, u64::from(NULL));
        self
    }

    /// Writes a link to a block.
    pub fn cid(&mut self, cid: &Cid) -> &mut Self {
        self.link(&cid.to_bytes())
    }

    /// Writes a link in binary form.
    pub fn link(&mut self, cid: &[u8]) -> &mut Self {
        self.head(6, CID_TAG);
        self.head(
            2,
            u64::try_from(cid.len())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        );
        self.out.push(0);
        self.out.extend(cid);
        self
    }

    /// Writes bytes that are DAG-CBOR already.
    pub fn raw(&mut self, cbor: &[u8]) -> &mut Self {
        work::add(cbor.len());
        self.out.extend(cbor);
        self
    }

    /// The bytes written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// The written bytes as one item. The caller guarantees order and uniqueness of keys; the
    /// writer guarantees the rest.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        Item { bytes: &self.out }
    }

    /// The item that begins at offset `at`.
    #[must_use]
    pub fn item_at(&self, at: usize) -> Item<'_> {
        Item {
            bytes: self.out.get(at..).unwrap_or_default(),
        }
    }

    /// Overwrites the count of the list or map at `at`, which was begun with 0 entries, with
    /// `count`. Returns false and changes nothing if `count` is 24 or more, because its head would
    /// be longer.
    pub fn set_count(&mut self, at: usize, count: u64) -> bool {
        let (Some(head), Ok(count @ 0..=23)) = (self.out.get_mut(at), u8::try_from(count)) else {
            return false;
        };
        *head = (*head & 0xe0) | count;
        true
    }

    /// Removes everything from offset `at` on.
    pub fn truncate(&mut self, at: usize) {
        self.out.truncate(at);
    }

    /// Number of bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
}
