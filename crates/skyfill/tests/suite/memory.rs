//! `--memory` bounds the whole process: repos that are made to take memory, many at once, beside
//! good ones.

use atrepo::cbor::Writer;
use atrepo::{BlockIndex, Blocks, Cid, Codec};
use simnet::hostile::encoding::Encoding;
use simnet::{Answer, Population};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use testbed::*;

/// What a process may take beside its `--memory`, in KiB.
const BESIDE: u64 = 64 << 10;
const MIB: u64 = 1 << 10;

/// Bytes that do not shrink.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut random = simnet::Random::new(seed);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(random.below(u64::MAX).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Text of control characters, each of which takes six bytes in JSON.
fn controls(seed: u64, count: usize) -> String {
    let of = |byte: u8| char::from(byte % 7 + 1);
    noise(seed, count).into_iter().map(of).collect()
}

fn did(name: &str, number: usize) -> String {
    format!("did:plc:{name}{number}")
}

fn key(collection: &str, number: usize) -> String {
    let micros = 1_650_000_000_000_000 + number as u64 * 1_000_000;
    format!("{collection}/{}", atrepo::syntax::tid(micros, 1))
}

/// An otherwise good repo whose commit has a field of so many bytes.
fn with_large_commit(did: &str, bytes: &[u8]) -> Vec<u8> {
    let car = simnet::build_repo(did, "3lzfcijpj2z2a", Vec::new());
    let (root, index) = BlockIndex::build(&car).unwrap();
    let commit = atrepo::cbor::check(index.get(&root).unwrap()).unwrap();
    let mut fields: Vec<_> = commit.as_map().unwrap().collect();
    let mut extra = Writer::new();
    extra.bytes(bytes);
    let extra = extra.into_bytes();
    fields.push(("extra", atrepo::cbor::check(&extra).unwrap()));
    fields.sort_by(|a, b| atrepo::cbor::key_order(a.0.as_bytes(), b.0.as_bytes()));
    let mut w = Writer::new();
    w.map(fields.len() as u64);
    for (key, item) in fields {
        w.text(key).raw(item.as_bytes());
    }
    let commit = w.into_bytes();
    let (_, blocks) = Blocks::open(&car).unwrap();
    let mut blocks: Vec<(Cid, Vec<u8>)> = blocks
        .map(|block| block.unwrap())
        .filter(|(cid, ..)| *cid != root)
        .map(|(cid, _, bytes)| (cid, bytes.to_vec()))
        .collect();
    let root = Cid::of(Codec::DagCbor, &commit);
    blocks.push((root, commit));
    simnet::build_car(root, &blocks)
}

fn post(text: &str, extra: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(4)
        .text("text")
        .text(text)
        .text("$type")
        .text("app.bsky.feed.post");
    w.text("extra").text(extra);
    w.text("createdAt").text("2024-05-01T10:00:00.000Z");
    w.into_bytes()
}

fn follow(subject: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(3).text("$type").text("app.bsky.graph.follow");
    w.text("subject").text(subject);
    w.text("createdAt").text("2024-05-01T10:00:00.000Z");
    w.into_bytes()
}

/// A post whose JSON is six times as large as it is, four times.
fn swelling(did: &str, seed: u64) -> Vec<u8> {
    let records = (0..4)
        .map(|number| {
            let extra = controls(seed * 10 + number as u64, 700 << 10);
            (key("app.bsky.feed.post", number), post("hello", &extra))
        })
        .collect();
    simnet::build_repo(did, "3lzfcijpj2z2a", records)
}

/// Zeros in zstd, with the largest window that the format's tools take.
fn wide_zeros(bytes: usize) -> Vec<u8> {
    // A raw frame: magic, a descriptor without size or checksum, a window of 128 MiB, blocks of one
    // byte repeated.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3];
    const BLOCK: usize = 128 << 10;
    for at in 0..bytes / BLOCK {
        let is_last = at + 1 == bytes / BLOCK;
        let head = u32::from(is_last) | 1 << 1 | u32::try_from(BLOCK).unwrap() << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A section of a CAR: its length, the CID, the block.
fn section(block: &[u8]) -> Vec<u8> {
    let cid = Cid::of(Codec::Raw, block).to_bytes();
    let mut length = cid.len() + block.len();
    let mut section = Vec::new();
    while length > 0x7f {
        section.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    section.push(u8::try_from(length).unwrap());
    section.extend(cid);
    section.extend(block);
    section
}

/// As many sections without a block as an index may have, in gzip.
static EMPTY_SECTIONS: LazyLock<Arc<Vec<u8>>> =
    LazyLock::new(|| Arc::new(Encoding::Gzip.repeated(&section(b""), 16 << 20)));

/// A good repo, and behind it the same tiny section more than a million times. Noise in between
/// keeps it from shrinking to less than a hundredth.
fn tiny_sections(did: &str, seed: u64) -> Vec<u8> {
    let mut car = simnet::build_repo(did, "3lzfcijpj2z2a", Vec::new());
    let tiny = section(b"tiny").repeat(3_000);
    for at in 0..500 {
        car.extend(&tiny);
        car.extend(section(&noise(seed + at, 4_000)));
    }
    car
}

/// Accounts that are made to take memory, by what they do.
fn attacks(net: &mut Net) -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    let mut add = |net: &mut Net, what: &'static str, name: &str, answers: Vec<Answer>| {
        let dids: Vec<String> = (0..answers.len()).map(|number| did(name, number)).collect();
        for (did, answer) in dids.iter().zip(answers) {
            net.server.set(did, answer);
            net.dids.push(did.clone());
        }
        all.push((what, dids));
    };
    let repo = |car: Vec<u8>| Answer::Repo(Arc::new(car));
    let large_commit = noise(1, 7 << 20);
    let commits = (0..16).map(|n| repo(with_large_commit(&did("commit", n), &large_commit)));
    add(
        net,
        "commits with a field of 7 MiB",
        "commit",
        commits.collect(),
    );
    let swelling = (0..6).map(|n| repo(swelling(&did("swell", n), n as u64)));
    add(net, "JSON six times as large", "swell", swelling.collect());
    let wide = Arc::new(wide_zeros(160 << 20));
    let windows = (0..8).map(|_| Answer::Packed(Encoding::Zstd, Arc::clone(&wide)));
    add(net, "windows of 128 MiB", "window", windows.collect());
    let bombs = (0..8).map(|_| Answer::Bomb(300 << 20));
    add(net, "bombs in gzip", "bomb", bombs.collect());
    let empties = (0..2).map(|_| Answer::Packed(Encoding::Gzip, Arc::clone(&EMPTY_SECTIONS)));
    add(
        net,
        "16 million empty sections",
        "section",
        empties.collect(),
    );
    let tiny = (0..2).map(|n| {
        let car = tiny_sections(&did("tiny", n), n as u64 * 1_000);
        Answer::Packed(Encoding::Gzip, Arc::new(Encoding::Gzip.pack(&car)))
    });
    add(net, "tiny sections", "tiny", tiny.collect());
    let skipped = (0..4).map(|n| {
        let rkey = |number: usize| format!("{number:08}{}", "x".repeat(500));
        let record = |number: usize| {
            (
                format!("org.example.skipped/{}", rkey(number)),
                follow("did:plc:a"),
            )
        };
        repo(simnet::build_repo(
            &did("skip", n),
            "3lzfcijpj2z2a",
            (0..4000).map(record).collect(),
        ))
    });
    add(
        net,
        "long lists of skipped records",
        "skip",
        skipped.collect(),
    );
    let duplicates = (0..4).map(|n| {
        let record = |number| (key("app.bsky.graph.follow", number), follow("did:plc:same"));
        repo(simnet::build_repo(
            &did("same", n),
            "3lzfcijpj2z2a",
            (0..4000).map(record).collect(),
        ))
    });
    add(net, "nothing but duplicates", "same", duplicates.collect());
    let empty = (0..200).map(|n| {
        repo(simnet::build_repo(
            &did("empty", n),
            "3lzfcijpj2z2a",
            Vec::new(),
        ))
    });
    add(net, "empty repos", "empty", empty.collect());
    all
}

/// Runs a command to its end; what it printed, and its peak in KiB.
fn peak_of(command: &mut Command) -> (Output, u64) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_kib(child.id()));
        std::thread::sleep(Duration::from_millis(5));
    }
    (child.wait_with_output().unwrap(), peak)
}

fn good_net() -> (Net, usize) {
    let population = Population::new(8, 3, 600);
    let cars =
        (0..population.len()).map(|account| (population.did(account), population.car(account)));
    (Net::of_cars(cars), population.len())
}

#[test]
fn a_run_stays_within_its_memory_whatever_is_sent() {
    let (mut net, goods) = good_net();
    let attacks = attacks(&mut net);
    let dir = folder();
    for mib in [128, 256] {
        let db = TestDb::migrated();
        let dids = did_file(
            dir.path(),
            &net.server.url(),
            net.dids.iter().map(String::as_str),
        );
        let mut command = run_load(&db.url);
        command
            .arg(&dids)
            .args(["--memory", &format!("{mib}MiB"), "--max-attempts", "1"]);
        let (output, peak) = peak_of(command.arg("--no-verify"));
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let ends = ends(&db, &attacks);
        eprintln!("{mib} MiB: peak {} MiB\n{ends}", peak / MIB);
        assert!(
            peak < mib * MIB + BESIDE,
            "{mib} MiB: peak {} MiB\n{ends}",
            peak / MIB
        );
        let loaded = &summary(&output)["repos"]["loaded"];
        assert_eq!(*loaded, goods + 6 + 2 + 4 + 4 + 200, "{ends}");
        for (what, reason) in [
            ("commits with a field of 7 MiB", "commit has"),
            ("windows of 128 MiB", "broken body"),
            ("bombs in gzip", "100 times"),
            ("16 million empty sections", "100 times"),
        ] {
            let line = ends.lines().find(|line| line.starts_with(what)).unwrap();
            assert!(line.contains(reason), "{line}");
        }
    }
}

/// What became of the accounts of each attack, with a reason of one.
fn ends(db: &TestDb, attacks: &[(&'static str, Vec<String>)]) -> String {
    let mut told = String::new();
    for (what, dids) in attacks {
        let rows = db
            .client()
            .query(
                "SELECT state, count(*), coalesce(min(error), '') FROM skyfill.repo WHERE did = ANY($1) GROUP BY 1",
                &[dids],
            )
            .unwrap();
        for row in rows {
            let (state, count, error): (String, i64, String) = (row.get(0), row.get(1), row.get(2));
            writeln!(told, "{what}: {count} {state} {error}").unwrap();
        }
    }
    told
}

#[test]
fn a_producer_and_a_consumer_stay_within_theirs() {
    let (mut net, goods) = good_net();
    let attacks = attacks(&mut net);
    let dir = folder();
    let db = TestDb::migrated();
    let consumer = Consumer::start(&db.url, dir.path(), "s", &["--memory", "128MiB"]);
    let dids = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut command = producer(dir.path(), &dids, &[Path::new(&consumer.socket)]);
    command.args(["--memory", "128MiB", "--max-attempts", "1"]);
    let (output, peak) = peak_of(&mut command);
    let of_consumer = peak_kib(consumer.pid());
    let log = consumer.log();
    eprintln!(
        "producer: {} MiB, consumer: {} MiB",
        peak / MIB,
        of_consumer / MIB
    );
    assert!(
        peak < 128 * MIB + BESIDE,
        "producer: {} MiB\n{}",
        peak / MIB,
        told(&output)
    );
    assert!(
        of_consumer < 128 * MIB + BESIDE,
        "consumer: {} MiB\n{log}",
        of_consumer / MIB
    );
    assert_eq!(
        summary(&output)["sent"],
        goods + 6 + 2 + 4 + 4 + 200,
        "{}",
        told(&output)
    );
    assert_eq!(attacks.len(), 9);
    assert_eq!(consumer.stop(), Some(0), "{log}");
}
