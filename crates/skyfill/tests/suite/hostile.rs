//! Hostile response bodies, and hosts that go wrong, beside good repos: each
//! case ends as it should, in time, and costs nobody else anything.

use crate::network::states;
use atrepo::cbor::Writer;
use simnet::hostile::encoding::Encoding;
use simnet::{Answer, Population, Server};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use testbed::*;

/// Most memory that the producer may take, in KiB.
const MEMORY_KIB: u64 = 300 << 10;

/// Where the manifest leaves it open: whether the repo is sent, and how many records of it are
/// stored. docs/explanation/policies.md says why.
const POLICY: &[(&str, bool, u64)] = &[
    ("011_trailing_garbage.car", false, 0),
    ("310_mst_extra_fields.car", false, 0),
    ("400_commit_sig_wrong.car", true, 3),
    ("500_cbor_unsorted_keys.car", true, 3),
    ("500_cbor_nonminimal_int.car", true, 3),
    ("500_cbor_float_1_5.car", true, 4),
    ("600_nul_text.car", true, 3),
    ("600_text_1MB.car", true, 3),
    ("600_facets_bad.car", true, 5),
    ("600_type_missing.car", true, 3),
    ("600_wrong_types.car", true, 3),
    ("600_like_uri_zoo.car", true, 7),
    ("600_like_itself.car", true, 4),
    ("600_reply_to_itself.car", true, 4),
    ("600_quote_cycle.car", true, 6),
    ("600_blob_zoo.car", true, 5),
];

#[test]
fn every_hostile_body_ends_as_its_manifest_says_and_the_good_repos_are_complete() {
    let dir = material("hostile");
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap();
    let good = Population::new(3, 4, 400);
    let goods: Vec<String> = (0..good.len()).map(|account| good.did(account)).collect();
    let cars: Vec<Arc<Vec<u8>>> = (0..good.len())
        .map(|account| Arc::new(good.car(account)))
        .collect();
    let indexed: Vec<u64> = (0..good.len())
        .map(|account| {
            let records = good.records(account);
            let indexed = records.iter().filter(|(key, _)| !key.starts_with("org."));
            indexed.count() as u64
        })
        .collect();
    let mut seen = BTreeMap::new();
    let (folder, db) = (folder(), TestDb::migrated());
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    for file in manifest["files"].as_array().unwrap() {
        let name = file["file"].as_str().unwrap();
        if name.starts_with("json/") {
            continue;
        }
        let did = file["did"].as_str().unwrap();
        db.delete_all();
        let server = Server::start(HashMap::new());
        server.set(
            did,
            Answer::Repo(Arc::new(fs::read(dir.join(name)).unwrap())),
        );
        for (good_did, car) in goods.iter().zip(&cars) {
            server.set(good_did, Answer::Repo(Arc::clone(car)));
        }
        let dids = did_file(
            folder.path(),
            &server.url(),
            [did].into_iter().chain(goods.iter().map(String::as_str)),
        );
        let mut child = producer(folder.path(), &dids, &[&consumer.socket])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (mut peak, mut seconds) = (0, 0.0);
        while child.try_wait().unwrap().is_none() {
            peak = peak.max(peak_kib(child.id()));
            seconds = cpu_seconds(child.id()).max(seconds);
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        assert!(seconds < 10.0, "{name} took {seconds} s of processor time");
        assert!(peak < MEMORY_KIB, "{name}: {peak} KiB");
        let summary = summary(&output);
        let sent = summary["sent"].as_u64().unwrap() - goods.len() as u64;
        let stored = stored(&db, did);
        let canaries = file["canaries_that_must_survive"].as_u64();
        let policy = POLICY.iter().find(|(policy, ..)| *policy == name);
        match file["expect"].as_str().unwrap() {
            "reject_repo" => {
                assert_eq!((sent, stored), (0, 0), "{name}: {}", told(&output));
                assert_eq!(output.status.code(), Some(1), "{name}");
                let failures = fs::read_to_string(folder.path().join("failures.jsonl")).unwrap();
                assert!(failures.contains(did), "{name}: {failures}");
            }
            "skip_record" => {
                assert_eq!(
                    (sent, summary["unusableRecords"].as_u64()),
                    (1, Some(1)),
                    "{name}: {}",
                    told(&output)
                );
                // Canaries of collections that are not indexed leave no row.
                assert_eq!(stored + 1, canaries.unwrap(), "{name}");
            }
            "accept" => {
                assert_eq!(
                    (sent, summary["unusableRecords"].as_u64()),
                    (1, Some(0)),
                    "{name}: {}",
                    told(&output)
                );
            }
            "either" => {
                let (_, policy_sent, policy_stored) =
                    policy.unwrap_or_else(|| panic!("{name} has no policy"));
                assert_eq!(
                    (sent == 1, stored),
                    (*policy_sent, *policy_stored),
                    "{name}: {}",
                    told(&output)
                );
            }
            other => panic!("{name}: {other}"),
        }
        *seen
            .entry(file["expect"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
        for (good_did, indexed) in goods.iter().zip(&indexed) {
            let found = self::stored(&db, good_did);
            assert_eq!(found, *indexed, "{name}: a good repo beside it");
        }
        drop(fs::remove_file(folder.path().join("failures.jsonl")));
    }
    assert_eq!(consumer.stop(), Some(0));
    assert!(seen.values().sum::<i32>() > 40, "{seen:?}");
}

/// Records stored for an account.
fn stored(db: &TestDb, did: &str) -> u64 {
    let row = db
        .client()
        .query_one("SELECT count(*) FROM bsky.record WHERE did = $1", &[&did])
        .unwrap();
    u64::try_from(row.get::<_, i64>(0)).unwrap()
}

/// What is on the list of skipped records of an account with a detail: key and detail.
fn skipped(db: &TestDb, did: &str) -> Vec<(String, String)> {
    let rows = db
        .client()
        .query(
            "SELECT list FROM skyfill.skipped WHERE did = $1 ORDER BY part, number",
            &[&did],
        )
        .unwrap();
    rows.iter()
        .flat_map(|row| ledger::skipped::read_piece(row.get(0)).unwrap())
        .filter(|entry| entry.reason == ledger::skipped::Reason::OverLimit)
        .map(|entry| (String::from_utf8(entry.key).unwrap(), entry.detail))
        .collect()
}

#[test]
fn a_record_over_a_limit_costs_that_record_alone_whichever_way_it_comes() {
    let population = Population::new(6, 1, 300);
    let did = population.did(0);
    let mut records = population.records(0);
    let post = |bytes: usize| {
        let mut w = atrepo::cbor::Writer::new();
        w.map(4)
            .text("a")
            .text(&"y".repeat(bytes))
            .text("text")
            .text("");
        w.text("$type").text("app.bsky.feed.post");
        w.text("createdAt").text("2024-01-01T00:00:00.000Z");
        w.into_bytes()
    };
    // Larger than a record may be; the second would not even fit into a frame.
    let (large, huge) = (post(1 << 20), post(20 << 20));
    records.push(("app.bsky.feed.post/large".to_owned(), large.clone()));
    records.push(("app.bsky.feed.post/huge".to_owned(), huge.clone()));
    let rev = atrepo::syntax::tid(1_700_000_000_000_000, 0);
    let net = Net::of_cars([(did.clone(), simnet::build_repo(&did, &rev, records))]);
    let good = Net::of_cars([(did.clone(), population.car(0))]);
    let dir = folder();
    let expected = {
        let db = TestDb::migrated();
        good.load(&db, dir.path(), &good.dids, 1, &[]);
        stored(&db, &did)
    };
    let reason = |record: &[u8]| {
        format!(
            "the record has {} bytes, more than the limit of 1048576",
            record.len()
        )
    };
    let wanted = [
        ("app.bsky.feed.post/huge".to_owned(), reason(&huge)),
        ("app.bsky.feed.post/large".to_owned(), reason(&large)),
    ];
    let file = did_file(dir.path(), &net.server.url(), [did.as_str()]);
    let run = TestDb::migrated();
    let output = run_well(run_load(&run.url).arg(&file));
    assert_eq!(summary(&output)["differences"], 0, "{}", told(&output));
    let mut dbs = vec![run];
    for sockets in [1, 3] {
        let db = TestDb::migrated();
        net.load(&db, dir.path(), &net.dids, sockets, &[]);
        dbs.push(db);
    }
    for db in &dbs {
        assert_eq!(stored(db, &did), expected);
        assert_eq!(skipped(db, &did), wanted);
        let mut verify = skyfill();
        let output = run_well(
            verify
                .args(["verify", "--all"])
                .env("BSKY_DB_POSTGRES_URL", &db.url),
        );
        assert!(output.stdout.is_empty(), "{}", told(&output));
    }
}

#[test]
fn slow_endless_and_broken_hosts_cost_their_own_repos_only() {
    let population = Population::new(5, 3, 3000);
    let did = |n: usize| format!("did:plc:bad{n}");
    let car = Arc::new(population.car(0));
    let answers = [
        (Answer::Stall(Arc::clone(&car)), "stalled"),
        (Answer::Drip(Arc::clone(&car)), "stalled"),
        (Answer::Endless, "too large"),
        (Answer::Bomb(200 << 20), "too large"),
        (Answer::Short(Arc::clone(&car)), "broken body"),
        (Answer::Reset, "no connection"),
        (
            Answer::Redirect("file:///etc/passwd".to_owned()),
            "bad redirect",
        ),
        (Answer::Status(500, vec![], String::new()), "server error"),
        (
            Answer::Status(200, vec![], "<html>hello</html>".to_owned()),
            "bad repo",
        ),
        (Answer::error(400, "InvalidRequest"), "refused"),
    ];
    let server = Server::start(HashMap::new());
    for (n, (answer, _)) in answers.iter().enumerate() {
        server.set(&did(n), answer.clone());
    }
    // A loop of redirects needs the server's own address.
    let loop_did = did(answers.len());
    server.set(
        &loop_did,
        Answer::Redirect(format!(
            "{}/xrpc/com.atproto.sync.getRepo?did={loop_did}",
            server.url()
        )),
    );
    let goods: Vec<String> = (0..population.len())
        .map(|account| population.did(account))
        .collect();
    for (account, good) in goods.iter().enumerate() {
        server.set(good, Answer::Repo(Arc::new(population.car(account))));
    }
    let bads: Vec<String> = (0..=answers.len()).map(did).collect();
    let folder = folder();
    let db = TestDb::migrated();
    let dids = did_file(
        folder.path(),
        &server.url(),
        bads.iter().chain(&goods).map(String::as_str),
    );
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    let output = producer(folder.path(), &dids, &[&consumer.socket])
        .args([
            "--processing-timeout",
            "3",
            "--stall-timeout",
            "1",
            "--max-attempts",
            "2",
            "--max-repo-bytes",
            "20000000",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let reasons = failures(&folder.path().join("failures.jsonl"));
    for (n, (_, reason)) in answers.iter().enumerate() {
        let found = &reasons[&did(n)];
        assert!(
            found.starts_with(reason),
            "{}: wanted {reason}, got {found}",
            did(n)
        );
    }
    assert!(
        reasons[&loop_did].starts_with("bad redirect"),
        "{}",
        reasons[&loop_did]
    );
    assert_eq!(summary(&output)["sent"], goods.len());
    drop(consumer);
}

/// The same command under a limit of the system, as `ulimit` takes it; what exceeds it ends it.
fn limited(limit: &str, command: &Command) -> Command {
    let mut limited = clean(Command::new("sh"));
    let script = format!("ulimit {limit} && exec \"$@\"");
    limited.args(["-c", &script, "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    limited
}

/// Largest posts with as many variants of a language, or mentions, as they hold. To compare the
/// variants in pairs takes minutes.
#[test]
fn posts_with_very_many_variants_or_mentions_take_no_cpu() {
    let list = |write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::new();
        write(&mut w);
        w.into_bytes()
    };
    let variants: String = (0..145_000).map(|n| format!("-{n:06}")).collect();
    let langs = list(&|w| _ = w.list(1).text(&format!("en{variants}")));
    const MENTIONED: u64 = 14_000;
    let facets = list(&|w| {
        w.list(1).map(2).text("index").map(2);
        w.text("byteEnd").integer(1).text("byteStart").integer(0);
        w.text("features").list(MENTIONED);
        for n in 0..MENTIONED {
            w.map(2).text("did").text(&format!("did:plc:{n}"));
            w.text("$type").text("app.bsky.richtext.facet#mention");
        }
    });
    let post = |rkey: usize, key: &str, value: &[u8]| {
        let mut w = Writer::new();
        w.map(4).text("text").text("").text("$type");
        w.text("app.bsky.feed.post").text(key).raw(value);
        w.text("createdAt").text("2024-01-01T00:00:00.000Z");
        (format!("app.bsky.feed.post/3k{rkey:011}"), w.into_bytes())
    };
    let posts = (0..4).map(|n| post(n, "langs", &langs));
    let posts = posts.chain((4..6).map(|n| post(n, "facets", &facets)));
    let posts: Vec<_> = posts.collect();
    for (_, post) in &posts {
        assert!(post.len() <= atrepo::MAX_RECORD_BYTES, "{}", post.len());
        assert!(
            post.len() > atrepo::MAX_RECORD_BYTES * 3 / 4,
            "{}",
            post.len()
        );
    }
    let did = "did:plc:many".to_owned();
    let car = simnet::build_repo(&did, "3jzfcijpj2z2a", posts);
    let net = Net::of_cars([(did, car)]);
    let (folder, db) = (folder(), TestDb::migrated());
    let dids = net.dids.iter().map(String::as_str);
    let mut run = run_load(&db.url);
    run.arg(did_file(folder.path(), &net.server.url(), dids));
    let output = limited("-t 20", &run).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        db.count("notification"),
        2 * i64::try_from(MENTIONED).unwrap()
    );
}

#[test]
fn bodies_that_decompress_to_thousands_of_times_their_size_take_no_disk() {
    let bomb = Arc::new(Encoding::Zstd.zeros(256 << 20));
    assert!(bomb.len() < 16 << 10, "{}", bomb.len());
    let good = Population::new(8, 3, 600);
    let net = Net::of_cars((0..good.len()).map(|account| (good.did(account), good.car(account))));
    let bombs: Vec<String> = (0..3).map(|n| format!("did:plc:bomb{n}")).collect();
    for did in &bombs {
        let answer = Answer::Packed(Encoding::Zstd, Arc::clone(&bomb));
        net.server.set(did, answer);
    }
    let (folder, db) = (folder(), TestDb::migrated());
    let dids = bombs.iter().chain(&net.dids).map(String::as_str);
    let file = did_file(folder.path(), &net.server.url(), dids);
    let mut run = run_load(&db.url);
    run.arg(&file).args(["--max-attempts", "1"]);
    // In blocks of 512 bytes.
    let files = format!("-f {}", (32u64 << 20) / 512);
    let output = limited(&files, &run).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let states = states(&db);
    let ended = |wanted: &str, dids: &[String]| {
        for did in dids {
            assert_eq!(states[did], wanted, "{did}: {}", told(&output));
        }
    };
    ended("failed", &bombs);
    ended("loaded", &net.dids);
}

/// Reasons by DID in a file of failures.
fn failures(path: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
    lines
        .map(|mut line| (line.remove(0), line.pop().unwrap()))
        .collect()
}
