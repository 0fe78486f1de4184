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

/// A CAR whose tree is this node.
fn car_of_node(node: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(6)
        .text("did")
        .text(DID)
        .text("rev")
        .text("3jzfcijpj2z2a");
    w.text("sig").bytes(&[0; 64]);
    w.text("data").cid(&Cid::of(Codec::DagCbor, node));
    w.text("prev").null().text("version").integer(3);
    car(&[w.into_bytes(), node.to_vec()], 0)
}

/// Why a repo is refused, and whether another fetch might bring a better one.
fn refusal(car: Vec<u8>) -> (String, bool) {
    let checked = Repo::open(car, DID).and_then(|repo| repo.check());
    let error = checked.err().unwrap();
    (error.to_string(), error.may_be_transport())
}

#[test]
fn what_a_node_lacks_is_named() {
    let value = Cid::of(Codec::DagCbor, b"record");
    for absent in ["e", "l", "k", "p", "t", "v"] {
        let fields = |all: &[&'static str]| -> Vec<&'static str> {
            all.iter().copied().filter(|name| *name != absent).collect()
        };
        let (of_node, of_entry) = (fields(&["e", "l"]), fields(&["k", "p", "t", "v"]));
        let mut w = Writer::new();
        w.map(of_node.len() as u64);
        for name in of_node {
            w.text(name);
            if name == "l" {
                w.null();
                continue;
            }
            w.list(1).map(of_entry.len() as u64);
            for name in &of_entry {
                w.text(name);
                match *name {
                    "k" => w.bytes(b"app.bsky.feed.post/a"),
                    "p" => w.integer(0),
                    "t" => w.null(),
                    _ => w.cid(&value),
                };
            }
        }
        let (why, may_be_transport) = refusal(car_of_node(&w.into_bytes()));
        assert!(
            why.contains(&format!("field {absent}, ")) && why.contains("is absent"),
            "{absent}: {why}"
        );
        assert!(!may_be_transport, "{absent}");
    }
}

#[test]
fn a_length_that_is_not_in_its_shortest_form_is_not_fetched_again() {
    let mut car = car(&blocks(0), 0);
    // The length of the header, below 128, in two bytes instead of one.
    let first = car[0];
    car[0] |= 0x80;
    car.insert(1, 0);
    assert!(first < 0x80);
    let (why, may_be_transport) = refusal(car);
    assert!(why.contains("not in its shortest form"), "{why}");
    assert!(!may_be_transport);
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
