//! Which record of a collection was the first with its unique key: the table of the keys of the
//! collection at hand.
//!
//! It is all that encoding a repo holds in proportion to the number of its records, so it says what
//! it takes, and before it takes it where the number is known.

use rows::Field;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// A table of so many keys is used again, a larger one is given back: clearing it takes as long as
/// it is large.
const KEPT_KEYS: usize = 1 << 16;

/// The unique keys of a collection, and the record keys of the records that have them.
#[derive(Default)]
pub(crate) struct UniqueKeys {
    hasher: RandomState,
    /// Unique keys, and the number of the record that has each.
    seen: HashMap<[u32; 4], u32, BuildHasherDefault<Given>>,
    /// Record keys of those, end to end, and where each ends.
    rkeys: Vec<u8>,
    ends: Vec<u32>,
    /// Records and bytes of their keys that may come, if that is known.
    expected: Option<(usize, usize)>,
}

/// A hash of what is a hash already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }
}

/// What a place in the table takes: key, number, and a byte of the table's own.
const PLACE_BYTES: usize = size_of::<([u32; 4], u32)>() + 1;

/// What the table takes for so many records with so many bytes of record keys.
pub(crate) fn memory_for(records: usize, key_bytes: usize) -> usize {
    // Seven of eight places are used at most; their number is a power of two.
    let places = records.saturating_mul(8).div_ceil(7).next_power_of_two();
    let ends = records.saturating_mul(size_of::<u32>());
    places
        .saturating_mul(PLACE_BYTES)
        .saturating_add(ends)
        .saturating_add(key_bytes)
}

impl UniqueKeys {
    /// Starts over, for another collection. `expected` are the records that may come, and the bytes
    /// of their keys, where they are known.
    pub(crate) fn clear(&mut self, expected: Option<(usize, usize)>) {
        self.expected = expected;
        if self.seen.capacity() > KEPT_KEYS {
            self.seen = HashMap::default();
            self.rkeys = Vec::new();
            self.ends = Vec::new();
        }
        self.seen.clear();
        self.rkeys.clear();
        self.ends.clear();
    }

    /// The same for the next collection of a repo.
    pub(crate) fn clear_for_next(&mut self) {
        self.clear(self.expected);
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        memory_for(self.seen.capacity(), self.rkeys.capacity())
    }

    /// A keyed hash of a row's unique key, 128 bits: nobody can choose two that are the same.
    pub(crate) fn key(&self, mask: u32, values: &[Field<'_>]) -> [u32; 4] {
        let hash = |salt: u8| {
            let mut state = self.hasher.build_hasher();
            salt.hash(&mut state);
            for (at, value) in values.iter().enumerate() {
                if let (true, Field::Text(text)) = (mask & (1 << at) != 0, value) {
                    text.hash(&mut state);
                }
            }
            state.finish().to_ne_bytes()
        };
        let (a, b) = (hash(0), hash(1));
        let word = |bytes: [u8; 8], at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        [word(a, 0), word(a, 4), word(b, 0), word(b, 4)]
    }

    /// Notes that the record under `rkey` has `key`; the record key of an earlier one that has it,
    /// too.
    pub(crate) fn claim(&mut self, key: [u32; 4], rkey: &str) -> Option<&str> {
        if let (true, Some((records, key_bytes))) = (self.seen.is_empty(), self.expected) {
            // Growing by doubling would take up to three times as much for a moment.
            self.seen.reserve(records);
            self.ends.reserve_exact(records);
            self.rkeys.reserve_exact(key_bytes);
        }
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let winner = *self.seen.entry(key).or_insert(number);
        if winner != number {
            return Some(self.rkey(winner));
        }
        self.rkeys.extend_from_slice(rkey.as_bytes());
        self.ends
            .push(u32::try_from(self.rkeys.len()).unwrap_or(u32::MAX));
        None
    }

    /// The record key of the first record that had a unique key.
    fn rkey(&self, number: u32) -> &str {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        let rkey = self.rkeys.get(start..end(at)).unwrap_or_default();
        std::str::from_utf8(rkey).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_has_the_key_and_memory_is_what_was_said() {
        let mut keys = UniqueKeys::default();
        let expected = (100_000, 1_300_000);
        keys.clear(Some(expected));
        for number in 0..100_000u32 {
            assert_eq!(
                keys.claim([number, 0, 0, 0], &format!("{number:013}")),
                None
            );
        }
        assert_eq!(keys.claim([7, 0, 0, 0], "another"), Some("0000000000007"));
        assert!(keys.memory_bytes() <= memory_for(expected.0, expected.1) + (1 << 20));
        keys.clear(None);
        assert_eq!(keys.claim([7, 0, 0, 0], "first"), None);
        assert!(keys.memory_bytes() < 1 << 20);
    }
}
