//! `skyfill consumer`: bad lines, collisions, refusals of the database, `--db-test`.

use std::fs;
use testbed::*;

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const CID: &str = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua";

fn line(collection: &str, rkey: &str, object: &str) -> String {
    format!(
        r#"{{"type":"commit","collection":"{collection}","data":{{"uri":"at://{DID}/{collection}/{rkey}","cid":"{CID}","timestamp":"2024-05-05T00:00:00.000Z","obj":{{"$type":"{collection}","createdAt":"2024-05-05T00:00:00Z",{object}}}}}}}"#
    ) + "\n"
}

fn like(rkey: &str, subject: &str) -> String {
    line(
        "app.bsky.feed.like",
        rkey,
        &format!(r#""subject":{{"uri":"{subject}","cid":"{CID}"}}"#),
    )
}

fn post(rkey: &str, text: &str) -> String {
    line("app.bsky.feed.post", rkey, &format!(r#""text":"{text}""#))
}

#[test]
fn a_bad_line_costs_that_line_and_is_kept_with_its_reason() {
    let (db, folder) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    let huge = format!("{{\"x\":\"{}\"}}\n", "y".repeat(17 << 20));
    let lines = [
        post("1", "good"),
        "not json\n".to_owned(),
        "\n".to_owned(),
        post("2", r"with \u0000 inside"),
        line("app.bsky.feed.post", "3", r#""txt":1"#),
        huge,
        line("org.example.other", "4", r#""a":1"#),
        // Longer than any index entry can be, and not to be compressed: PostgreSQL itself refuses
        // it.
        like(
            "5",
            &format!("at://did:plc:b/app.bsky.feed.post/3k#/{}", noise(7000)),
        ),
        post("6", "also good"),
    ];
    send_lines(&consumer.socket, &lines.concat());
    assert_eq!(db.count("record"), 2, "{}", consumer.log());
    assert_eq!(
        (db.count("post"), db.count("like"), db.count("notification")),
        (2, 0, 0)
    );
    let rejects = fs::read_to_string(folder.path().join("s.rejects")).unwrap();
    let reasons: Vec<String> = rejects
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["reason"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for wanted in [
        "not a message",
        "U+0000",
        "$.text is missing",
        "more than",
        "index row",
    ] {
        assert!(
            reasons.iter().any(|reason| reason.contains(wanted)),
            "{wanted}: {reasons:?}"
        );
    }
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    // What PostgreSQL refused is kept as a line that can be sent again.
    let refused = rejects.lines().last().unwrap();
    assert!(
        refused.contains(r#"\"collection\":\"app.bsky.feed.like\""#),
        "{}",
        &refused[..300]
    );
    assert_eq!(consumer.stop(), Some(1));
}

fn noise(length: usize) -> String {
    let mut state = 88_172_645_463_325_252u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'a' + u8::try_from(state % 26).unwrap())
        })
        .collect()
}

#[test]
fn of_two_that_collide_the_first_wins_and_again_changes_nothing() {
    for batch in ["1", "2", "1000"] {
        let (db, folder) = (TestDb::migrated(), folder());
        let consumer = Consumer::start(
            &db.url,
            folder.path(),
            "s",
            &["--batch-size", batch, "--max-db-connections", "2"],
        );
        let subject = "at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3k";
        let lines = [
            like("1", subject),
            like("2", subject),
            like("1", subject),
            like("3", subject),
        ]
        .concat();
        for _ in 0..3 {
            send_lines(&consumer.socket, &lines);
            assert_eq!(
                (
                    db.count("record"),
                    db.count("like"),
                    db.count("notification")
                ),
                (3, 1, 1),
                "batch {batch}"
            );
            let dump = db.dump();
            let duplicates = &dump["duplicate_record"];
            assert_eq!(duplicates.len(), 2);
            assert!(duplicates.iter().all(|row| row.contains(&format!(
                "\"duplicateOf\":\"at://{DID}/app.bsky.feed.like/1\""
            ))));
        }
        assert_eq!(consumer.stop(), Some(0));
    }
}

#[test]
fn muted_threads_do_not_notify() {
    let (db, folder) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    let subject = format!("at://{DID}/app.bsky.feed.post/1");
    send_lines(&consumer.socket, &post("1", "root"));
    db.client()
        .batch_execute(&format!(
            "INSERT INTO bsky.thread_mute VALUES ('{subject}', '{DID}', 'now')"
        ))
        .unwrap();
    let other = |line: String| {
        line.replace(
            &format!("at://{DID}/app.bsky.feed.like"),
            "at://did:plc:c/app.bsky.feed.like",
        )
    };
    send_lines(&consumer.socket, &other(like("2", &subject)));
    assert_eq!((db.count("like"), db.count("notification")), (1, 0));
    db.client()
        .batch_execute("TRUNCATE bsky.thread_mute")
        .unwrap();
    send_lines(
        &consumer.socket,
        &other(like("3", &subject)).replace("did:plc:c", "did:plc:d"),
    );
    assert_eq!((db.count("like"), db.count("notification")), (2, 1));
}

#[test]
fn a_second_consumer_on_a_live_socket_is_refused_and_a_missing_schema_is_told() {
    let (db, folder) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    let run = |url: &str| {
        skyfill()
            .arg("consumer")
            .arg(&consumer.socket)
            .env("BSKY_DB_POSTGRES_URL", url)
            .output()
            .unwrap()
    };
    let output = run(&db.url);
    assert_eq!(
        (
            output.status.code(),
            told(&output).contains("already listens")
        ),
        (Some(3), true),
        "{}",
        told(&output)
    );
    send_lines(&consumer.socket, &post("1", "still there"));
    assert_eq!(db.count("post"), 1);
    let empty = TestDb::empty();
    let output = run(&empty.url);
    assert_eq!(
        (
            output.status.code(),
            told(&output).contains("skyfill migrate")
        ),
        (Some(3), true),
        "{}",
        told(&output)
    );
}

#[test]
fn what_was_read_is_committed_when_it_is_told_to_stop() {
    use std::io::Write;
    let (db, folder) = (TestDb::migrated(), folder());
    let mut consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    let mut stream = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    stream.write_all(post("1", "one").as_bytes()).unwrap();
    // More than fits between the two: when all of it is written, the first line was read.
    stream.write_all(b"{\"type\":\"").unwrap();
    stream.write_all(&vec![b'x'; 8 << 20]).unwrap();
    consumer.signal("INT");
    assert_eq!(
        consumer.wait_for_end(),
        Some(0),
        "a line that is not complete is not a line yet"
    );
    assert_eq!(db.count("post"), 1);
}

#[test]
fn db_test_runs_each_way_and_names_its_limit() {
    let db = TestDb::migrated();
    let run = |args: &[&str]| {
        skyfill()
            .args(["consumer", "--db-test"])
            .args(args)
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap()
    };
    let output = run(&["all", "--rows", "3000", "--batch-size", "500", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let tests = summary(&output)["tests"].as_array().unwrap().clone();
    assert_eq!(tests.len(), 5);
    for test in tests {
        assert_eq!(test["rows"], 3000, "{test}");
        assert!(test["serverCpuSeconds"].is_number(), "{test}");
    }
    assert_eq!(
        db.count("follow"),
        3000,
        "the table is emptied before each test"
    );
    assert_eq!(
        run(&["with-params", "--rows", "1000"]).status.code(),
        Some(0)
    );
    assert_eq!(db.count("follow"), 4000, "one test by name only adds rows");
    let output = run(&["with-prepared", "--batch-size", "20000"]);
    assert_eq!(
        (output.status.code(), told(&output).contains("65535")),
        (Some(2), true),
        "{}",
        told(&output)
    );
    db.client().batch_execute("INSERT INTO bsky.follow (uri, cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\") VALUES ('u', 'c', 'did:plc:real', 'b', 'x', 'x')").unwrap();
    let output = run(&["all", "--rows", "10"]);
    assert_eq!(
        (output.status.code(), told(&output).contains("real rows")),
        (Some(3), true),
        "{}",
        told(&output)
    );
    if cfg!(feature = "pg-native") {
        let output = run(&["copy-binary", "--rows", "2000", "--pg-native"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(
            run(&["with-prepared", "--rows", "2000", "--pg-native"])
                .status
                .code(),
            Some(0)
        );
        assert_eq!(
            run(&["no-params", "--rows", "2000", "--pg-native"])
                .status
                .code(),
            Some(0)
        );
    } else {
        let output = run(&["copy", "--rows", "10", "--pg-native"]);
        assert_eq!(
            (
                output.status.code(),
                told(&output).contains("--features pg-native")
            ),
            (Some(2), true)
        );
    }
}

#[test]
fn a_live_lost_connection_is_told_to_stop_within_reason() {
    let (db, folder) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, folder.path(), "s", &[]);
    // No connection can be made again, and the one there is breaks.
    let name = db
        .url
        .rsplit_once("/test_")
        .unwrap()
        .1
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let mut client = db.client();
    client
        .batch_execute(&format!("ALTER DATABASE test_{name} CONNECTION LIMIT 0"))
        .unwrap();
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").unwrap();
    send_lines(&consumer.socket, "");
    assert_eq!(
        consumer.stop(),
        Some(0),
        "nothing was open, so nothing is lost"
    );
}

/// The frames of half a part that is larger than a chunk.
fn half_a_part(did: &str) -> Vec<u8> {
    use atrepo::{Cid, Codec, cbor::Writer};
    use handoff::frames::{self, MAGIC, PartHeader};
    let data = Cid::of(Codec::DagCbor, b"nothing");
    let commit = simnet::build_commit(did, "3jzfcijpj2z2a", &data);
    let mut bytes = MAGIC.to_vec();
    let header = PartHeader {
        did: did.to_owned(),
        pds: "https://pds.example".to_owned(),
        part: 0,
        parts: 1,
        commit,
        car_bytes: 1,
        now: 1_793_000_000_000,
    };
    frames::append_part(&mut bytes, &header);
    for n in 0..40 {
        let mut w = Writer::new();
        w.map(2).text("x").text(&"y".repeat(500_000));
        w.text("$type").text("app.bsky.actor.profile");
        let key = format!("app.bsky.actor.profile/{n:02}");
        frames::append_entry(
            &mut bytes,
            key.as_bytes(),
            &Cid::of(Codec::DagCbor, w.as_bytes()),
            w.as_bytes(),
        );
    }
    bytes
}

/// Repos of 3 MB each: more than a consumer keeps in memory of a part that is not complete.
pub(crate) fn large_repos<const N: usize>() -> Net {
    use atrepo::cbor::Writer;
    let repo = |n: usize| {
        let did = format!("did:plc:large{n:019}");
        let record = |rkey| {
            let mut w = Writer::new();
            w.map(4).text("pad").text(&"y".repeat(100_000));
            w.text("text").text("a post");
            w.text("$type").text("app.bsky.feed.post");
            w.text("createdAt").text("2024-01-01T00:00:00.000Z");
            (
                format!("app.bsky.feed.post/3k{rkey:011}"),
                w.as_bytes().to_vec(),
            )
        };
        let car = simnet::build_repo(&did, "3jzfcijpj2z2a", (2..32).map(record).collect());
        (did, car)
    };
    Net::of_cars((0..N).map(repo))
}

/// Sessions of consumers in the test's database that hold a transaction open and do nothing.
fn open_transactions(db: &TestDb) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'
           AND xact_start < clock_timestamp() - interval '200 ms'";
    db.client().query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn a_producer_that_falls_silent_in_a_part_keeps_nobody_and_is_ended() {
    use std::io::{Read, Write};
    let tangle = simnet::Tangle::new(71, 3, 60);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let mut consumer = Consumer::start(&db.url, dir.path(), "s", &["--part-timeout", "3"]);
    let mut silent = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    // It names an account of the other producer, too.
    silent.write_all(&half_a_part(&net.dids[0])).unwrap();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(&mut producer(dir.path(), &file, &[&consumer.socket]));
    assert!(db.count("record") > 0);
    assert_eq!(open_transactions(&db), 0);
    // The greeting, and then the end; a connection that is cut says so in either way.
    drop(silent.read_to_end(&mut Vec::new()));
    // The line may come after the end.
    consumer.wait_for("of a part arrived for 3 s");
    assert_eq!(consumer.stop(), Some(0));
}

/// Parts that are not complete have half of the spool, of one producer, and the others the rest.
#[test]
fn a_part_takes_no_more_of_the_disk_than_its_share() {
    use std::io::{Read, Write};
    let net = large_repos::<2>();
    let (db, dir) = (TestDb::migrated(), folder());
    let mut consumer = Consumer::start(&db.url, dir.path(), "s", &["--spool-size", "24MiB"]);
    let mut greedy = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    // 20 MB, of which half of the spool holds 12 MiB. It may be cut off while it writes.
    drop(greedy.write_all(&half_a_part("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")));
    drop(greedy.read_to_end(&mut Vec::new()));
    consumer.wait_for("enlarge it with --spool-size");
    let mut waiting = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    let half = half_a_part("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
    waiting.write_all(&half[..10 << 20]).unwrap();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(&mut producer(dir.path(), &file, &[&consumer.socket]));
    assert_eq!(db.count("record"), 60);
    assert_eq!(consumer.stop(), Some(0));
}

/// A producer that never takes its answers is told of nothing any more; whoever stores rows does
/// not wait for it.
#[test]
fn a_producer_that_takes_no_answers_keeps_nobody() {
    use std::io::Write;
    let tangle = simnet::Tangle::new(72, 3, 60);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let mut deaf = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    let mut frames = handoff::frames::MAGIC.to_vec();
    for n in 0..5000 {
        handoff::frames::append_status(&mut frames, &format!("did:plc:{n:024}"), "takendown");
    }
    let writer = std::thread::spawn(move || drop(deaf.write_all(&frames)));
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(&mut producer(dir.path(), &file, &[&consumer.socket]));
    assert!(db.count("record") > 0);
    drop(consumer);
    writer.join().unwrap();
}

/// A producer of lines that drips is never idle; what it sent is committed all the same.
#[test]
fn lines_that_drip_keep_no_transaction_open() {
    use std::io::Write;
    use std::time::{Duration, Instant};
    let (db, dir) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, dir.path(), "s", &["--batch-size", "1"]);
    let mut drip = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
    drip.write_all(post("1", "good").as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.count("record") == 0 {
        drip.write_all(b" ").unwrap();
        assert!(
            Instant::now() < deadline,
            "it was never committed: {}",
            consumer.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Connections that never say anything do not keep a producer out.
#[test]
fn silent_connections_give_way() {
    use std::io::Write;
    let tangle = simnet::Tangle::new(73, 3, 60);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    // A beginning of a line, of a stream of frames, or nothing at all.
    let beginnings: [&[u8]; 3] = [b"{", handoff::frames::MAGIC, b""];
    let silent: Vec<_> = (0..64)
        .map(|number| {
            let mut silent = std::os::unix::net::UnixStream::connect(&consumer.socket).unwrap();
            silent.write_all(beginnings[number % 3]).unwrap();
            silent
        })
        .collect();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(&mut producer(dir.path(), &file, &[&consumer.socket]));
    assert!(db.count("record") > 0);
    drop(silent);
}
