//! Inputs to begin with, made by the project itself.

use crate::DID;
use atrepo::cbor::Writer;
use atrepo::{BlockIndex, Blocks, Cid, Codec, syntax};
use simnet::{Population, build_repo};
use std::collections::BTreeMap;

/// The seeds of each target, by its name.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut all = vec![
        ("car", cars()),
        ("car_rows", cars()),
        ("cbor", records()),
        ("record", records_of_each_collection()),
        ("mst", trees()),
        ("did_cache", caches()),
        ("line", lines()),
    ];
    all.extend(crate::message_seeds::seeds());
    all
}

/// The records of a small population, and some that hold every kind of value.
fn all_records() -> Vec<(String, Vec<u8>)> {
    let population = Population::new(99, 6, 240);
    (0..population.len())
        .flat_map(|account| population.records(account))
        .collect()
}

fn records() -> Vec<Vec<u8>> {
    let mut w = Writer::new();
    w.map(9)
        .text("a")
        .null()
        .text("b")
        .bool(true)
        .text("c")
        .float(1.5)
        .text("d")
        .integer(-7);
    w.text("e")
        .unsigned(u64::MAX)
        .text("f")
        .bytes(&[1, 2, 3])
        .text("g")
        .cid(&Cid::of(Codec::Raw, b"x"));
    w.text("h")
        .list(2)
        .text("i")
        .map(0)
        .text("i")
        .map(1)
        .text("$link")
        .text("bafy");
    let mut all = vec![w.into_bytes()];
    all.extend(all_records().into_iter().map(|(_, bytes)| bytes).take(60));
    all
}

/// Some records of each collection that the generator knows.
fn records_of_each_collection() -> Vec<Vec<u8>> {
    let mut of_each: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (key, bytes) in all_records() {
        let collection = key.split('/').next().unwrap_or_default().to_owned();
        of_each.entry(collection).or_default().push(bytes);
    }
    of_each
        .into_values()
        .flat_map(|records| records.into_iter().take(6))
        .collect()
}

fn cars() -> Vec<Vec<u8>> {
    let records = all_records();
    let rev = syntax::tid(1_700_000_000_000_000, 0);
    // Keys of different accounts may be the same: the first one is kept.
    let part = |count: usize| {
        let mut some: Vec<_> = records.iter().take(count).cloned().collect();
        some.sort();
        some.dedup_by(|a, b| a.0 == b.0);
        build_repo(DID, &rev, some)
    };
    [0, 1, 2, 10, 60].into_iter().map(part).collect()
}

/// Blocks of whole repos, root first, each with its length.
fn trees() -> Vec<Vec<u8>> {
    cars().iter().filter_map(|car| tree_of(car)).collect()
}

fn tree_of(car: &[u8]) -> Option<Vec<u8>> {
    let (root, index) = BlockIndex::build(car).ok()?;
    let data = atrepo::Commit::parse(index.get(&root)?).ok()?.data;
    let (_, blocks) = Blocks::open(car).ok()?;
    let mut nodes: Vec<(Cid, &[u8])> = blocks
        .filter_map(Result::ok)
        .map(|(cid, _, bytes)| (cid, bytes))
        .collect();
    nodes.sort_by_key(|(cid, _)| *cid != data);
    let mut out = Vec::new();
    for (_, bytes) in nodes {
        let length = u16::try_from(bytes.len()).ok()?;
        out.extend(length.to_be_bytes());
        out.extend(bytes);
    }
    Some(out)
}

fn caches() -> Vec<Vec<u8>> {
    let pair = |list: u8, text: &[u8]| {
        let did = format!("did:plc:{}", "a".repeat(24));
        let mut out = vec![list];
        out.extend(text);
        out.push(u8::try_from(did.len()).unwrap_or(0));
        out.extend(did.as_bytes());
        // A short string: both encodings have the length in the head.
        out.push(if list == 0x92 { 0xa3 } else { 0x63 });
        out.extend(b"pds");
        out
    };
    let (pack, cbor) = (pair(0x92, &[0xd9]), pair(0x82, &[0x78]));
    vec![
        pack.repeat(3),
        cbor.repeat(3),
        [&[0x93][..], &pack.repeat(3)].concat(),
        [&[0xdd, 0, 0, 0, 3][..], &pack.repeat(3)].concat(),
        [&[0x83][..], &cbor.repeat(3)].concat(),
        [&[0x9f][..], &cbor.repeat(3), &[0xff]].concat(),
        [
            &pack[..],
            &[0xc0, 0x91, 0x81, 0xa1, b'k', 0xd6, 1, 2, 3, 4, 5],
            &pack,
        ]
        .concat(),
    ]
}

fn lines() -> Vec<Vec<u8>> {
    let population = Population::new(99, 6, 240);
    let mut all = Vec::new();
    (0..population.len()).for_each(|account| simnet::append_lines(&population, account, &mut all));
    all.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .take(80)
        .map(<[u8]>::to_vec)
        .collect()
}

/// `count` keys of `collection` that stand in one node.
#[must_use]
pub fn rkeys(collection: &str, count: usize) -> Vec<String> {
    (0u32..)
        .map(|n| format!("{collection}/{n:08}"))
        .filter(|key| atrepo::mst::layer(key.as_bytes()) == 0)
        .take(count)
        .collect()
}

/// A repo of one node whose keys, which are in order and of one layer, all link to `record`.
#[must_use]
pub fn one_node(keys: &[String], record: &[u8]) -> Vec<u8> {
    let record_cid = Cid::of(Codec::DagCbor, record);
    let mut w = Writer::new();
    w.map(2).text("e").list(keys.len() as u64);
    let mut before: &[u8] = &[];
    for key in keys {
        let key = key.as_bytes();
        let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
        w.map(4).text("k").bytes(&key[shared..]);
        w.text("p").unsigned(shared as u64).text("t").null();
        w.text("v").cid(&record_cid);
        before = key;
    }
    w.text("l").null();
    let node = w.into_bytes();
    let data = Cid::of(Codec::DagCbor, &node);
    let commit = simnet::build_commit(DID, "3jzfcijpj2z2a", &data);
    let root = Cid::of(Codec::DagCbor, &commit);
    simnet::build_car(
        root,
        &[(root, commit), (data, node), (record_cid, record.to_vec())],
    )
}
