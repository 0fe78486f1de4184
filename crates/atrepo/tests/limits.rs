//! What a CAR may ask for before it is looked into: commits of an honest size, sections in
//! proportion to its bytes, and memory only after somebody has agreed to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use atrepo::cbor::Writer;
use atrepo::{Cid, Codec, MAX_COMMIT_BYTES, Repo, RepoError};

const DID: &str = "did:plc:a";

/// The blocks of an empty repo, its commit first, with a field of so many bytes in it.
fn blocks(extra: usize) -> Vec<Vec<u8>> {
    let mut node = Writer::new();
    node.map(2).text("e").list(0).text("l").null();
    let node = node.into_bytes();
    let mut w = Writer::new();
    w.map(7)
        .text("did")
        .text(DID)
        .text("rev")
        .text("3jzfcijpj2z2a");
    w.text("sig").bytes(&[0; 64]);
    w.text("data").cid(&Cid::of(Codec::DagCbor, &node));
    w.text("prev").null().text("extra").bytes(&vec![0; extra]);
    w.text("version").integer(3);
    vec![w.into_bytes(), node]
}

/// A CAR of the blocks, of which the first is the root and the last stands there so often.
fn car(blocks: &[Vec<u8>], times: usize) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(2).text("roots").list(1);
    w.cid(&Cid::of(Codec::DagCbor, blocks.first().unwrap()));
    w.text("version").integer(1);
    let mut car = Vec::new();
    section(&mut car, &[&w.into_bytes()]);
    let last = blocks.last().unwrap();
    for block in blocks.iter().chain(std::iter::repeat_n(last, times)) {
        section(
            &mut car,
            &[&Cid::of(Codec::DagCbor, block).to_bytes(), block],
        );
    }
    car
}

fn section(car: &mut Vec<u8>, parts: &[&[u8]]) {
    let mut length = parts.iter().map(|part| part.len()).sum::<usize>();
    while length >= 0x80 {
        car.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    car.push(u8::try_from(length).unwrap());
    car.extend(parts.concat());
}

#[test]
fn a_commit_of_more_than_four_kibibytes_refuses_the_repo_and_says_so() {
    let size = |extra: usize| blocks(extra).first().unwrap().len();
    let room = MAX_COMMIT_BYTES - size(1000) + 1000;
    assert!(Repo::open(car(&blocks(room), 0), DID).is_ok());
    let error = Repo::open(car(&blocks(room + 1), 0), DID).err().unwrap();
    assert_eq!(error, RepoError::CommitTooLarge { bytes: 4097 });
    let error = error.to_string();
    assert!(error.contains("4097") && error.contains("4096"), "{error}");
}

#[test]
fn a_car_of_tiny_sections_is_refused_before_anything_is_allocated() {
    let mut blocks = blocks(0);
    blocks.push(Vec::new());
    let car = car(&blocks, 100_000);
    let refused = |_| -> Result<(), RepoError> { panic!("memory is asked for") };
    let error = Repo::open_within(&car, DID, refused, |_, _| ())
        .err()
        .unwrap();
    assert_eq!(error, RepoError::TinySections { bytes: car.len() });
}

#[test]
fn the_memory_of_an_index_is_told_before_it_is_taken() {
    let car = car(&blocks(0), 500);
    let mut told = 0;
    let admit = |bytes| -> Result<(), RepoError> {
        told = bytes;
        Ok(())
    };
    let repo = Repo::open_within(&car, DID, admit, |_, _| ()).unwrap();
    assert_eq!(told, atrepo::index_bytes(502));
    // The same block again and again is kept once.
    assert_eq!(repo.blocks(), 2);
    assert_eq!(repo.index_bytes(), atrepo::index_bytes(2));
    let refused = |bytes| -> Result<(), RepoError> { Err(RepoError::CommitTooLarge { bytes }) };
    assert!(Repo::open_within(&car, DID, refused, |_, _| ()).is_err());
}
