//! Counts and hashes of exported records, by collection.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What was exported of one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Records in the files.
    pub records: u64,
    /// Of these, records that an AppView refuses, so that its tables do not have them.
    pub refused: u64,
    /// Records that are not in the files, because they cannot be read or written as JSON.
    pub unreadable: u64,
    /// The sum modulo 2^64, over the records in the files, of the first eight bytes of the SHA-256
    /// of URI, space and CID. It does not depend on their order, and SQL can compute it.
    #[serde(with = "hexadecimal")]
    pub hash: u64,
}

/// Tallies by collection.
pub type Tallies = BTreeMap<String, Tally>;

impl Tally {
    /// Counts a record that goes to a file.
    pub(crate) fn count(&mut self, uri: &str, cid: &str, is_refused: bool) {
        self.records += 1;
        self.refused += u64::from(is_refused);
        let mut hash = Sha256::new();
        hash.update(uri);
        hash.update(" ");
        hash.update(cid);
        let hash = hash.finalize();
        let first = hash.first_chunk::<8>().copied().unwrap_or_default();
        self.hash = self.hash.wrapping_add(u64::from_be_bytes(first));
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.refused += other.refused;
        self.unreadable += other.unreadable;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Adds tallies to others.
pub(crate) fn add_all(to: &mut Tallies, from: &Tallies) {
    for (collection, tally) in from {
        to.entry(collection.clone()).or_default().add(tally);
    }
}

mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(hash: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{hash:016x}"))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_the_order_and_each_record_counts() {
        let uris = [
            "at://did:plc:a/c/1",
            "at://did:plc:a/c/2",
            "at://did:plc:b/c/1",
        ];
        let of = |uris: &[&str]| {
            let mut tally = Tally::default();
            for uri in uris {
                tally.count(uri, "bafy", false);
            }
            tally
        };
        let all = of(&uris);
        assert_eq!(of(&[uris[2], uris[0], uris[1]]), all);
        let mut sum = of(&uris[..1]);
        sum.add(&of(&uris[1..]));
        assert_eq!(sum, all);
        assert_ne!(of(&[uris[0], uris[1], uris[1]]).hash, all.hash);
        // printf 'at://did:plc:a/c/1 bafy' | sha256sum
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&json).unwrap(), all);
    }
}
