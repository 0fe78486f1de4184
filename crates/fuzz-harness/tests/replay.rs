//! The seeds of every fuzz target, and thousands of mutations of each, without a fuzzer: what CI
//! runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fuzz_harness::{attacks, one_node, rkeys, seeds, target};
use simnet::Random;

/// Mutations of each seed.
const MUTATIONS: usize = 400;

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
                    0x00, 0x1b, 0x5b, 0x7f, 0x9f, 0xbf, 0xd8, 0xf6, 0xfb, 0xff, b'"', b'{', b'}',
                    b'\\',
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
            target.run(seed);
            for _ in 0..MUTATIONS {
                target.run(&mutate(seed, &mut random));
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
            "frames" => is_stream(seed) || handoff::frames::Answer::parse(seed).is_some(),
            "lists" => {
                discover::lists::repos(seed).is_ok()
                    || discover::did_file::read(seed, 0, 0).all(|line| line.unwrap().is_ok())
            }
            "events" => discover::events::read(seed) != discover::events::Frame::Other,
            "document" => !matches!(
                identity::document::parse(seed, fuzz_harness::DID),
                Err(identity::document::DocumentError::Malformed(_))
            ),
            "export" => identity::export::read_page(seed).bad_lines == 0,
            _ => true,
        };
        for seed in &seeds {
            assert!(accepted(seed), "a seed of {name}: {seed:02x?}");
        }
    }
}

/// Whether a stream has no fault, and frames if it has more than a beginning.
fn is_stream(stream: &[u8]) -> bool {
    let mut frames = handoff::frames::Frames::new(stream, &[]);
    loop {
        match frames.step(|_| Ok::<(), handoff::frames::FrameError>(())) {
            Ok(handoff::frames::Step::End) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Inputs that cost out of proportion before they were found, and a few mutations of each.
#[test]
fn attacks_cost_no_more_than_twenty_times_an_honest_input() {
    for (name, attacks) in attacks() {
        let target = target(name);
        let mut random = Random::new(5);
        for attack in &attacks {
            target.run(attack);
            for _ in 0..3 {
                target.run(&mutate(attack, &mut random));
            }
        }
    }
}

/// The attacks are what they mean to be: taken whole, up to the lexicon check and beyond.
#[test]
fn attacks_are_records_that_are_read() {
    for (name, attacks) in attacks() {
        for attack in &attacks {
            match name {
                "car" | "car_rows" => {
                    let repo = atrepo::Repo::open(&attack[..], fuzz_harness::DID).unwrap();
                    assert!(repo.check().unwrap().entries > 2);
                }
                "cbor" | "record" => drop(atrepo::cbor::check(attack).unwrap()),
                "line" => drop(handoff::line::Message::parse(attack).unwrap()),
                _ => {}
            }
        }
    }
}

fn refusal(car: &[u8]) -> atrepo::RepoError {
    atrepo::Repo::open(car, fuzz_harness::DID)
        .and_then(|repo| repo.check())
        .expect_err("refused")
}

/// The reasons of the entries that are no records.
fn reasons(car: &[u8]) -> Vec<String> {
    let mut reasons = Vec::new();
    atrepo::Repo::open(car, fuzz_harness::DID)
        .unwrap()
        .entries(|entry| -> Result<(), atrepo::RepoError> {
            if let atrepo::Entry::BadRecord { error, .. } = entry {
                reasons.push(error.to_string());
            }
            Ok(())
        })
        .unwrap();
    reasons
}

#[test]
fn a_small_file_cannot_ask_for_much_memory_or_time() {
    // Keys that share all but three bytes with the one before: 60 bytes in the file, 1,000 in
    // memory.
    let prefix = format!("com.example.x/{}", "k".repeat(980));
    let keys = (0u32..)
        .map(|n| format!("{prefix}{n:08}"))
        .filter(|key| atrepo::mst::layer(key.as_bytes()) == 0);
    let keys: Vec<String> = keys.take(18_000).collect();
    let car = one_node(&keys, &[0xa0]);
    assert!(car.len() < 2_000_000, "{}", car.len());
    assert!(
        refusal(&car).to_string().contains("16 MiB"),
        "{}",
        refusal(&car)
    );
    // One record of half a megabyte under two hundred keys: read four times as often as the CAR is
    // large, then skipped.
    let mut w = atrepo::cbor::Writer::new();
    w.map(1).text("x").text(&"y".repeat(1 << 19));
    let short = rkeys("com.example.x", 200);
    let skipped = reasons(&one_node(&short, &w.into_bytes()));
    assert_eq!(skipped.len(), 196);
    assert!(
        skipped[0].contains("more than the limit of 4 times the CAR"),
        "{}",
        skipped[0]
    );
    // The same few keys over a small record are fine.
    assert_eq!(reasons(&one_node(&short, &[0xa0])), [""; 0]);
}

#[test]
fn a_record_over_its_limit_costs_that_record_and_says_so() {
    let record = |bytes: usize| {
        let mut w = atrepo::cbor::Writer::new();
        w.map(1).text("x").text(&"y".repeat(bytes));
        w.into_bytes()
    };
    let overhead = record(1 << 20).len() - (1 << 20);
    let keys = rkeys("com.example.x", 1);
    assert_eq!(
        reasons(&one_node(&keys, &record((1 << 20) - overhead))),
        [""; 0]
    );
    for bytes in [(1 << 20) - overhead + 1, 9 << 20] {
        assert_eq!(
            reasons(&one_node(&keys, &record(bytes))),
            [format!(
                "the record has {} bytes, more than the limit of 1048576",
                bytes + overhead
            )]
        );
    }
}
