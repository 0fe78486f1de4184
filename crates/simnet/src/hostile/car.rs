//! CARs with far more sections than a repo needs.

use crate::repo::write_section;
use atrepo::{Cid, Codec};

/// A CAR with `count` more sections, all of the same block of one byte: each takes a place in an
/// index of blocks, and all of them together are nearly nothing once compressed.
#[must_use]
pub fn with_duplicate_sections(mut car: Vec<u8>, count: usize) -> Vec<u8> {
    // DAG-CBOR of the number 0.
    let block = [0u8];
    let mut section = Vec::new();
    write_section(&mut section, &Cid::of(Codec::DagCbor, &block), &block);
    car.reserve(section.len() * count);
    for _ in 0..count {
        car.extend_from_slice(&section);
    }
    car
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build_repo;
    use atrepo::{Repo, syntax};

    #[test]
    fn the_repo_in_it_is_still_there() {
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        let car = build_repo(did, &syntax::tid(1, 0), Vec::new());
        let long = with_duplicate_sections(car, 1000);
        assert!(long.len() > 37_000);
        assert_eq!(Repo::open(&long, did).unwrap().check().unwrap().entries, 0);
    }
}
