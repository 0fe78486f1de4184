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
