//! The seeds of every fuzz target, and thousands of mutations of each, without a fuzzer: what CI runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fuzz_harness::seeds;
use simnet::Random;

/// Mutations of each seed.
const MUTATIONS: usize = 400;

fn target(name: &str) -> fn(&[u8]) {
    match name {
        "car" => fuzz_harness::car,
        "cbor" => fuzz_harness::cbor,
        "mst" => fuzz_harness::mst,
        "did_cache" => fuzz_harness::did_cache,
        "line" => fuzz_harness::line,
        other => panic!("no target {other}"),
    }
}

/// Bytes changed, removed, doubled, or swapped for those that matter to the formats.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            break;
        }
        let at = random.index(out.len());
        let end = (at + random.index(16)).min(out.len());
        match random.below(6) {
            0 => out[at] = u8::try_from(random.below(256)).unwrap(),
            1 => out[at] ^= 1 << random.below(8),
            2 => out.truncate(at),
            3 => drop(out.drain(at..end)),
            4 => {
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            _ => {
                out[at] = [
                    0x00, 0x1b, 0x5b, 0x7f, 0x9f, 0xbf, 0xd8, 0xf6, 0xfb, 0xff, b'"', b'{', b'}', b'\\',
                ][random.index(14)];
            }
        }
    }
    out
}

#[test]
fn seeds_and_their_mutations_break_nothing() {
    let mut inputs = 0;
    for (name, seeds) in seeds() {
        assert!(seeds.len() >= 5, "{name}");
        let target = target(name);
        let mut random = Random::new(4);
        for seed in &seeds {
            target(seed);
            for _ in 0..MUTATIONS {
                target(&mutate(seed, &mut random));
                inputs += 1;
            }
        }
    }
    assert!(inputs > 50_000, "{inputs}");
}

#[test]
fn the_seeds_are_accepted() {
    for (name, seeds) in seeds() {
        let accepted = |seed: &[u8]| match name {
            "car" => atrepo::Repo::open(seed, fuzz_harness::DID)
                .and_then(|repo| repo.check())
                .is_ok(),
            "cbor" => atrepo::cbor::check(seed).is_ok(),
            "line" => handoff::line::Message::parse(seed).is_ok(),
            _ => true,
        };
        for seed in &seeds {
            assert!(accepted(seed), "a seed of {name}: {seed:02x?}");
        }
    }
}

/// A repo of one node with these entries (shared bytes, rest of the key) that all link to `record`.
fn one_node(entries: &[(u64, Vec<u8>)], record: &[u8]) -> Vec<u8> {
    use atrepo::cbor::Writer;
    use atrepo::{Cid, Codec};
    let record_cid = Cid::of(Codec::DagCbor, record);
    let mut w = Writer::new();
    w.map(2).text("e").list(entries.len() as u64);
    for (shared, rest) in entries {
        w.map(4)
            .text("k")
            .bytes(rest)
            .text("p")
            .unsigned(*shared)
            .text("t")
            .null()
            .text("v")
            .cid(&record_cid);
    }
    w.text("l").null();
    let node = w.into_bytes();
    let data = Cid::of(Codec::DagCbor, &node);
    let commit = simnet::build_commit(fuzz_harness::DID, "3jzfcijpj2z2a", &data);
    let root = Cid::of(Codec::DagCbor, &commit);
    simnet::build_car(
        root,
        &[(root, commit), (data, node), (record_cid, record.to_vec())],
    )
}

/// Keys as a node stores them.
fn compressed(keys: &[String]) -> Vec<(u64, Vec<u8>)> {
    let mut before: &[u8] = &[];
    let mut entries = Vec::new();
    for key in keys {
        let shared = key.bytes().zip(before).take_while(|(a, b)| a == *b).count();
        entries.push((shared as u64, key.as_bytes()[shared..].to_vec()));
        before = key.as_bytes();
    }
    entries
}

fn refusal(car: &[u8]) -> atrepo::RepoError {
    atrepo::Repo::open(car, fuzz_harness::DID)
        .and_then(|repo| repo.check())
        .expect_err("refused")
}

#[test]
fn a_small_file_cannot_ask_for_much_memory_or_time() {
    // Keys that share all but three bytes with the one before: 60 bytes in the file, 1,000 in memory.
    let prefix = format!("com.example.x/{}", "k".repeat(980));
    let keys = (0u32..)
        .map(|n| format!("{prefix}{n:08}"))
        .filter(|key| atrepo::mst::layer(key.as_bytes()) == 0);
    let keys: Vec<String> = keys.take(20_000).collect();
    let entries = compressed(&keys);
    let car = one_node(&entries, &[0xa0]);
    assert!(car.len() < 2_000_000, "{}", car.len());
    assert!(refusal(&car).to_string().contains("16 MiB"), "{}", refusal(&car));
    // One record of a megabyte under two hundred keys.
    let mut w = atrepo::cbor::Writer::new();
    w.map(1).text("x").text(&"y".repeat(1 << 20));
    let short: Vec<String> = (0u32..)
        .map(|n| format!("com.example.x/{n:08}"))
        .filter(|key| atrepo::mst::layer(key.as_bytes()) == 0)
        .take(200)
        .collect();
    let entries = compressed(&short);
    assert_eq!(
        refusal(&one_node(&entries, &w.into_bytes())),
        atrepo::RepoError::Amplified
    );
    // The same few keys over a small record are fine.
    let car = one_node(&entries, &[0xa0]);
    assert_eq!(
        atrepo::Repo::open(&car[..], fuzz_harness::DID)
            .unwrap()
            .check()
            .unwrap()
            .entries,
        200
    );
}
