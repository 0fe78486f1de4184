//! Producers and consumers with NATS JetStream between them: the tables are those of sockets,
//! whatever is killed, however small the stream, and whoever else publishes.

use crate::consumer::large_repos;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use testbed::*;

/// Messages so small that most repos are cut into many.
const SMALL: &str = "max_payload: 8192\nmax_pending: 1048576";

/// Repos, and the tables that they give over a socket.
struct Scene {
    net: Net,
    reference: TestDb,
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let net = Net::of_tangle(&simnet::Tangle::new(177, 16, 1600));
        let reference = TestDb::migrated();
        net.load(&reference, folder().path(), &net.dids, 1, &[]);
        Scene { net, reference }
    })
}

impl Scene {
    fn did_file(&self, dir: &Path, dids: &[String]) -> PathBuf {
        did_file(dir, &self.net.server.url(), dids.iter().map(String::as_str))
    }

    /// A producer of all repos.
    fn producer(&self, dir: &Path, url: &str) -> Command {
        let file = self.did_file(dir, &self.net.dids);
        let mut command = producer(dir, &file, &[]);
        command.args(["--transport", url]);
        command
    }

    /// A producer of all repos that waits, because they are more than the stream may hold.
    fn producing_into_full(&self, dir: &Path, server: &Nats, most_bytes: &str) -> Watched {
        let mut command = self.producer(dir, &server.url());
        let mut producing = Watched::start(command.args(["--nats-max-bytes", most_bytes]));
        producing.wait_for("is full");
        producing
    }

    /// Makes sure that a database has what the sockets' way gives.
    fn assert_tables(&self, db: &TestDb) {
        if let Some(difference) = difference(&db.dump(), &self.reference.dump()) {
            panic!("{difference}");
        }
    }

    /// Makes sure that a database has what the sockets' way gives, proved, and the stream nothing.
    fn assert_stored(&self, db: &TestDb, server: &Nats) {
        self.assert_tables(db);
        let mut verify = skyfill();
        verify.args(["verify", "--all"]);
        run_well(verify.env("BSKY_DB_POSTGRES_URL", &db.url));
        assert_eq!(server.messages("skyfill"), 0);
    }
}

/// A consumer of the stream.
fn consumer(db: &TestDb, dir: &Path, url: &str) -> Command {
    let mut command = skyfill();
    command.args(["consumer", "--json", "--transport", url]);
    command.arg("--rejects").arg(dir.join("rejects.jsonl"));
    command.args(["--part-timeout", "2"]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// Such a consumer at work.
fn consuming(db: &TestDb, dir: &Path, server: &Nats) -> Watched {
    Watched::start(&mut consumer(db, dir, &server.url()))
}

/// Stops consumers once they have stored all that is in the stream; what each printed.
fn stop_after_all<const N: usize>(consumers: [Watched; N], server: &Nats) -> [String; N] {
    wait_until("the end of the stream", || server.messages("skyfill") == 0);
    consumers.map(|consumer| {
        signal(&consumer.child, "TERM");
        let (code, printed) = consumer.end();
        assert_eq!(code, Some(0), "{printed}");
        printed
    })
}

/// Stores all that is in the stream; what the consumer printed.
fn drain(db: &TestDb, dir: &Path, server: &Nats, code: i32) -> String {
    let mut command = consumer(db, dir, &server.url());
    let output = command.arg("--until-empty").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    told(&output)
}

#[test]
fn two_producers_and_two_consumers_give_the_tables_of_a_socket() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start(SMALL);
    let db = TestDb::migrated();
    // Consumers may come before the stream is there.
    let mut consumers = [0, 1].map(|_| consuming(&db, dir.path(), &server));
    consumers[0].wait_for("waiting until a producer creates it");
    let half = scene.net.dids.len() / 2;
    for dids in [&scene.net.dids[..half], &scene.net.dids[half..]] {
        let file = scene.did_file(dir.path(), dids);
        let mut command = producer(dir.path(), &file, &[]);
        command.args(["--transport", &server.url(), "--nats-shards", "5"]);
        let output = run_well(&mut command);
        assert_eq!(summary(&output)["sent"], dids.len(), "{}", told(&output));
    }
    let mut stored = 0;
    for printed in stop_after_all(consumers, &server) {
        let json = printed.lines().find(|line| line.starts_with('{')).unwrap();
        let summary: serde_json::Value = serde_json::from_str(json).unwrap();
        stored += summary["parts"].as_u64().unwrap();
    }
    assert_eq!(stored, scene.net.dids.len() as u64);
    scene.assert_stored(&db, &server);
    // The same again changes nothing.
    run_well(&mut scene.producer(dir.path(), &server.url()));
    drain(&db, dir.path(), &server, 0);
    scene.assert_stored(&db, &server);
}

/// Before and after a commit: what was not acknowledged is stored by the next consumer.
/// Uploads that find no space in the spool are read again when they are complete; one that can
/// never find any is refused, with what helps.
#[test]
fn a_small_spool_holds_up_nothing() {
    let net = large_repos::<8>();
    let (server, dir) = (Nats::start("max_payload: 8192"), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut command = producer(dir.path(), &file, &[]);
    command.args(["--transport", &server.url()]);
    run_well(&mut command);
    let stored = |spool, code| {
        let db = TestDb::migrated();
        let mut command = consumer(&db, dir.path(), &server.url());
        command.args(["--until-empty", "--spool-size", spool]);
        let mut consuming = Watched::start(&mut command);
        consuming.wait_for("is empty");
        let (ended, printed) = consuming.end();
        assert_eq!(ended, Some(code), "{printed}");
        (db.count("record"), printed)
    };
    let (records, printed) = stored("16MiB", 0);
    assert_eq!(records, 240, "{printed}");
    run_well(&mut command);
    let (records, printed) = stored("2MiB", 1);
    assert_eq!(records, 0, "{printed}");
    assert!(
        printed.contains("enlarge it with --spool-size"),
        "{printed}"
    );
}

#[test]
fn a_consumer_that_is_killed_loses_nothing() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start(SMALL);
    run_well(&mut scene.producer(dir.path(), &server.url()));
    let db = TestDb::migrated();
    for place in ["commit", "committed"] {
        let mut command = consumer(&db, dir.path(), &server.url());
        command.env("SKYFILL_FAILPOINT", place);
        let (code, printed) = Watched::start(&mut command).end();
        assert_eq!(code, None, "{place}: {printed}");
        assert!(server.messages("skyfill") > 0, "{place}");
    }
    drain(&db, dir.path(), &server, 0);
    scene.assert_stored(&db, &server);
}

/// Of two consumers one is killed, and the sessions of the other are ended: it goes on with the
/// shards of both.
#[test]
fn a_consumer_takes_over_and_waits_for_its_database() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start(SMALL);
    let db = TestDb::migrated();
    let mut producing = scene.producing_into_full(dir.path(), &server, "98304");
    let [mut killed, other] = [0, 1].map(|_| consuming(&db, dir.path(), &server));
    wait_until("a record", || db.count("record") > 0);
    killed.child.kill().unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..3 {
        db.client().batch_execute(end).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(producing.wait_for_end(), Some(0), "{}", producing.printed());
    stop_after_all([other], &server);
    scene.assert_stored(&db, &server);
}

/// What a producer had not sent to its end is removed, and comes again with the next producer.
#[test]
fn a_producer_that_is_killed_leaves_nothing_behind() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start(SMALL);
    // In the middle of an upload: its first message, which is empty, is still there.
    let is_begun = || {
        let messages = server.messages_after("skyfill", 0);
        messages.iter().any(|message| message.content.is_empty())
    };
    while !is_begun() {
        let _ = server.ask("STREAM.PURGE.skyfill");
        let producing = Watched::start(&mut scene.producer(dir.path(), &server.url()));
        wait_until("a message", || server.messages("skyfill") > 0);
        drop(producing);
    }
    let db = TestDb::migrated();
    let printed = drain(&db, dir.path(), &server, 0);
    assert!(printed.contains("dropped an upload"), "{printed}");
    let storing = consuming(&db, dir.path(), &server);
    run_well(&mut scene.producer(dir.path(), &server.url()));
    stop_after_all([storing], &server);
    scene.assert_stored(&db, &server);
}

#[test]
fn a_server_that_is_killed_is_waited_for() {
    let (scene, dir) = (scene(), folder());
    let mut server = Nats::start(SMALL);
    // It cannot come to its end before somebody stores.
    let mut producing = scene.producing_into_full(dir.path(), &server, "98304");
    server.kill();
    producing.wait_for("is lost");
    server.start_again();
    let db = TestDb::migrated();
    let mut storing = consuming(&db, dir.path(), &server);
    wait_until("a record", || db.count("record") > 0);
    server.kill();
    storing.wait_for("is lost");
    server.start_again();
    assert_eq!(producing.wait_for_end(), Some(0), "{}", producing.printed());
    stop_after_all([storing], &server);
    scene.assert_stored(&db, &server);
}

/// A full stream makes producers wait, and says so.
#[test]
fn a_full_stream_slows_producers_down() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start("");
    let mut producing = scene.producing_into_full(dir.path(), &server, "131072");
    producing.wait_for("nothing is lost");
    let db = TestDb::migrated();
    let storing = consuming(&db, dir.path(), &server);
    producing.wait_for("the stream takes messages again");
    assert_eq!(producing.wait_for_end(), Some(0), "{}", producing.printed());
    stop_after_all([storing], &server);
    scene.assert_stored(&db, &server);
}

/// Puts a folder on a disk of its own that has space for 256 KiB more.
const SHRINK: &str = "kept=$(mktemp -d); cp -a \"$1\"/. $kept
    mount -t tmpfs -o size=$(($(du -sk $kept | cut -f1) + 256))k tmpfs \"$1\"
    cp -a $kept/. \"$1\"; rm -r $kept";
/// Puts it back.
const GROW: &str = "kept=$(mktemp -d); cp -a \"$1\"/. $kept; umount \"$1\"
    rm -r \"$1\"/*; cp -a $kept/. \"$1\"; rm -r $kept";

fn sh(script: &str, folder: &Path) {
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).arg(folder);
    assert!(command.status().unwrap().success(), "{script}");
}

/// The server's disk is full before the stream is, and larger after it was started again.
#[test]
#[ignore = "needs root, for a disk of its own: make machines"]
fn a_full_disk_of_the_server_loses_nothing() {
    let (scene, dir) = (scene(), folder());
    let mut server = Nats::start(SMALL);
    server.kill();
    sh(SHRINK, &server.store());
    server.start_again();
    let mut producing = Watched::start(&mut scene.producer(dir.path(), &server.url()));
    let store = server.store();
    wait_until("its disk is full", || {
        rustix::fs::statvfs(&store).unwrap().f_bavail < 4
    });
    let db = TestDb::migrated();
    let storing = consuming(&db, dir.path(), &server);
    producing.wait_for("waiting");
    server.kill();
    sh(GROW, &store);
    server.start_again();
    assert_eq!(producing.wait_for_end(), Some(0), "{}", producing.printed());
    stop_after_all([storing], &server);
    scene.assert_stored(&db, &server);
}

/// A consumer on the server that delivers nothing more, as one whose replica missed something, is
/// made anew.
#[test]
fn messages_that_do_not_come_are_read_again() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start("");
    let half = scene.net.dids.len() / 2;
    let produce = |dids: &[String]| {
        let file = scene.did_file(dir.path(), dids);
        let mut command = producer(dir.path(), &file, &[]);
        run_well(command.args(["--transport", &server.url(), "--nats-shards", "1"]));
    };
    produce(&scene.net.dids[..half]);
    let db = TestDb::migrated();
    let mut command = skyfill();
    command.args(["consumer", "--json", "--transport", &server.url()]);
    command.args(["--part-timeout", "600"]);
    let mut storing = Watched::start(command.env("BSKY_DB_POSTGRES_URL", &db.url));
    wait_until("the first half", || server.messages("skyfill") == 0);
    // One message is under way for long, and the server delivers no other one beside it.
    let open = [("Skyfill-Chunk", "open")];
    server.publish(
        "skyfill.repos.0.0123456789abcdef0123456789abcdef",
        &open,
        b"",
    );
    let name = "skyfill.shard-0";
    let mut config = server.ask(&format!("CONSUMER.INFO.{name}"))["config"].take();
    config["max_ack_pending"] = 1.into();
    let change = serde_json::json!({ "stream_name": "skyfill", "config": config });
    let subject = format!("CONSUMER.DURABLE.CREATE.{name}");
    let changed = server.ask_with(&subject, &change.to_string());
    assert_eq!(changed["config"]["max_ack_pending"], 1, "{changed}");
    produce(&scene.net.dids[half..]);
    storing.wait_for("messages are in the stream and do not come");
    wait_until("all but the open one", || server.messages("skyfill") == 1);
    signal(&storing.child, "TERM");
    let (code, printed) = storing.end();
    assert_eq!(code, Some(0), "{printed}");
    scene.assert_tables(&db);
}

/// Whoever may publish may publish anything: it is refused by itself, and told.
#[test]
fn what_no_producer_sends_is_refused_and_harms_nothing() {
    let (scene, dir) = (scene(), folder());
    let server = Nats::start("");
    run_well(&mut scene.producer(dir.path(), &server.url()));
    let name = "0123456789abcdef0123456789abcdef";
    let upload = format!("skyfill.repos.0.{name}");
    let whole = "skyfill.repos.0.whole";
    let mut frame = handoff::frames::MAGIC.to_vec();
    frame.extend([2, 0xff, 0xff, 0xff, 0xff]);
    let mut cut = handoff::frames::MAGIC.to_vec();
    handoff::frames::append_end(&mut cut, 7);
    let large = vec![b'x'; 1 << 20 >> 1];
    let garbage: [(&str, &[(&str, &str)], &[u8]); 8] = [
        (whole, &[], b"nothing"),
        (whole, &[("Skyfill-Chunk", "whole")], b"nothing"),
        (whole, &[("Skyfill-Chunk", "whole")], &frame),
        (whole, &[("Skyfill-Chunk", "whole")], &cut),
        (whole, &[("Skyfill-Chunk", "whole")], &large),
        (whole, &[("Skyfill-Chunk", "last 1")], b""),
        ("skyfill.repos.0.other", &[("Skyfill-Chunk", "open")], b""),
        (&upload, &[("Skyfill-Chunk", "last 1")], b"\xf5other"),
    ];
    for (subject, headers, content) in garbage {
        server.publish(subject, headers, content);
    }
    // Pieces out of place, and an upload that never ends.
    for place in ["open", "open", "more 1", "more 3", "last 4294967295"] {
        server.publish(&upload, &[("Skyfill-Chunk", place)], handoff::frames::MAGIC);
    }
    let db = TestDb::migrated();
    let printed = drain(&db, dir.path(), &server, 1);
    let rejects = fs::read_to_string(dir.path().join("rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().count(), 9, "{rejects}\n{printed}");
    assert!(
        printed.contains("not a message of skyfill producer"),
        "{printed}"
    );
    scene.assert_stored(&db, &server);
}

/// A part that is whole, but for what its header says: no database takes that, now or later.
#[test]
fn a_part_that_no_database_takes_does_not_hold_up_its_shard() {
    use handoff::frames::{self, PartHeader};
    let (scene, dir) = (scene(), folder());
    let server = Nats::start("");
    run_well(&mut scene.producer(dir.path(), &server.url()));
    let data = atrepo::Cid::of(atrepo::Codec::DagCbor, b"nothing");
    for (did, pds, car_bytes) in [
        ("did:plc:nul", "https://pds.example\0", 1),
        ("did:plc:huge", "https://pds.example", u64::MAX),
    ] {
        let header = PartHeader {
            did: did.to_owned(),
            pds: pds.to_owned(),
            part: 0,
            parts: 1,
            commit: simnet::build_commit(did, "3jzfcijpj2z2a", &data),
            car_bytes,
            now: 1_793_000_000_000,
        };
        let mut content = frames::MAGIC.to_vec();
        frames::append_part(&mut content, &header);
        frames::append_end(&mut content, 0);
        let whole = [("Skyfill-Chunk", "whole")];
        server.publish("skyfill.repos.0.whole", &whole, &content);
    }
    let db = TestDb::migrated();
    let storing = consuming(&db, dir.path(), &server);
    wait_until("the end of the stream", || server.messages("skyfill") == 0);
    signal(&storing.child, "TERM");
    let (_, printed) = storing.end();
    assert!(printed.contains("control characters"), "{printed}");
    assert!(printed.contains("more than a tebibyte"), "{printed}");
    let rejects = fs::read_to_string(dir.path().join("rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().count(), 2, "{rejects}\n{printed}");
    scene.assert_stored(&db, &server);
}

/// A run that has consumers store its repos, killed on the way, ends as one that stores them
/// itself. What no consumer stored has failed, and is sent again later.
#[test]
fn a_run_may_have_consumers_store_its_repos() {
    let (scene, dir) = (scene(), folder());
    let file = scene.did_file(dir.path(), &scene.net.dids);
    let reference = TestDb::migrated();
    let mut alone = run_load(&reference.url);
    run_well(alone.arg(&file).args(["--mode", "merge"]));
    let (server, db) = (Nats::start(SMALL), TestDb::migrated());
    let run = |args: &[&str]| {
        let mut command = run_load(&db.url);
        command.args(["--transport", &server.url()]).args(args);
        command
    };
    let file = file.to_str().unwrap();
    for wrong in [["--mode", "fresh"], ["--collections", "likes"]] {
        let output = run(&[file, wrong[0], wrong[1]]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        let text = told(&output);
        assert!(text.contains("with --transport, consumers store"), "{text}");
    }
    let mut killed = run(&[file]);
    let output = killed.env("SKYFILL_FAILPOINT", "sent=5").output().unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
    // All of them come to the stream, and are lost there.
    let mut running = Watched::start(&mut run(&[]));
    running.wait_for("waiting until consumers have stored");
    let states = |word: &str| {
        let sql = "SELECT count(*) FROM skyfill.repo WHERE state = $1";
        let count: i64 = db.client().query_one(sql, &[&word]).unwrap().get(0);
        usize::try_from(count).unwrap()
    };
    assert_eq!(states("coming"), scene.net.dids.len());
    let purged = server.ask_with("STREAM.PURGE.skyfill", "");
    assert_eq!(purged["success"], true, "{purged}");
    let code = running.wait_for_end();
    assert_eq!(code, Some(1), "{}", running.printed());
    assert!(running.printed().contains("that no consumer has stored"));
    assert_eq!(states("failed"), scene.net.dids.len());
    // Sent once more, they are stored while they are sent.
    let consumer = consuming(&db, dir.path(), &server);
    let output = run_well(&mut run(&["--retry-failed"]));
    assert_eq!(summary(&output)["differences"], 0, "{}", told(&output));
    stop_after_all([consumer], &server);
    assert_eq!(states("loaded"), scene.net.dids.len());
    if let Some(difference) = difference(&db.dump(), &reference.dump()) {
        panic!("{difference}");
    }
}

/// Repos that wait for consumers are loaded by a run that has none; a stop says how to continue.
#[test]
fn a_run_without_a_stream_loads_what_no_consumer_stored() {
    let (scene, dir) = (scene(), folder());
    let file = scene.did_file(dir.path(), &scene.net.dids);
    let (server, db) = (Nats::start(SMALL), TestDb::migrated());
    let mut run = run_load(&db.url);
    run.arg(&file).args(["--transport", &server.url()]);
    let mut running = Watched::start(&mut run);
    running.wait_for("waiting until consumers have stored");
    signal(&running.child, "TERM");
    let code = running.wait_for_end();
    assert_eq!(code, Some(4), "{}", running.printed());
    let line = format!("--transport {}", server.url());
    assert!(running.printed().contains(&line), "{}", running.printed());
    let output = run_well(&mut run_load(&db.url));
    let text = told(&output);
    assert!(text.contains("this run loads them itself"), "{text}");
    assert_eq!(summary(&output)["differences"], 0, "{text}");
    let loaded = &summary(&output)["repos"]["loaded"];
    assert_eq!(*loaded, scene.net.dids.len(), "{text}");
    // What is in the stream changes nothing any more.
    let consumer = consuming(&db, dir.path(), &server);
    stop_after_all([consumer], &server);
    let mut verify = skyfill();
    verify.args(["verify", "--all"]);
    run_well(verify.env("BSKY_DB_POSTGRES_URL", &db.url));
    for refused in [["--keep-cars", "cars"], ["--follow", "--discover"]] {
        let mut run = run_load(&db.url);
        run.args(["--transport", &server.url()]).args(refused);
        let output = run.current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    }
}

/// What a server refuses is an error that says what to do, at either end.
#[test]
fn what_the_server_refuses_is_told_with_the_next_step() {
    let (scene, dir) = (scene(), folder());
    let db = TestDb::migrated();
    let refused = |server: &Nats, args: &[&str], wanted: &[&str]| {
        let ends = [
            scene.producer(dir.path(), &server.url()),
            consumer(&db, dir.path(), &server.url()),
        ];
        for mut command in ends {
            let output = command.args(args).output().unwrap();
            let printed = told(&output);
            assert_eq!(output.status.code(), Some(3), "{printed}");
            for wanted in wanted {
                assert!(printed.contains(wanted), "{wanted}: {printed}");
            }
            assert!(!printed.contains("wrong-secret"), "{printed}");
        }
    };
    let server = Nats::start(
        "authorization { users = [ { user: me, password: right },
           { user: poor, password: right, permissions: { publish: [\"other\"] } } ] }",
    );
    let secret = dir.path().join("password");
    fs::write(&secret, "wrong-secret\n").unwrap();
    let file = secret.display().to_string();
    let as_me = ["--nats-user", "me", "--nats-password-file", &file];
    let wrong = ["does not accept these credentials", "--nats-password-file"];
    refused(&server, &[], &wrong);
    refused(&server, &as_me, &wrong);
    fs::write(&secret, "right\n").unwrap();
    let as_poor = ["--nats-user", "poor", "--nats-password-file", &file];
    refused(&server, &as_poor, &["ermissions", "docs/how-to/nats.md"]);
    let mut command = scene.producer(dir.path(), &server.url());
    run_well(command.args(as_me));
    let mut command = consumer(&db, dir.path(), &server.url());
    run_well(command.args(as_me).arg("--until-empty"));
    scene.assert_tables(&db);
    let refused_producer = |server: &Nats, args: &[&str], wanted: &str| {
        let output = scene
            .producer(dir.path(), &server.url())
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(told(&output).contains(wanted), "{}", told(&output));
    };
    let other = [&as_me[..], &["--nats-shards", "3"]].concat();
    refused_producer(
        &server,
        &other,
        "exists with 8 shards, but --nats-shards says 3",
    );
    let other = [&as_me[..], &["--nats-max-bytes", "1GiB"]].concat();
    refused_producer(
        &server,
        &other,
        "exists with a limit of 8589934592 bytes, but --nats-max-bytes says 1073741824",
    );
    drop(server);
    refused(
        &Nats::without_jetstream(),
        &[],
        &["JetStream is not enabled", "nats-server -js"],
    );
    let server = Nats::start("");
    let limited = serde_json::json!({
        "name": "skyfill", "subjects": ["skyfill.repos.0.*"], "retention": "workqueue",
        "discard": "new", "storage": "file", "max_bytes": 1 << 20,
    });
    let created = server.ask_with("STREAM.CREATE.skyfill", &limited.to_string());
    assert_eq!(created["config"]["max_bytes"], 1 << 20, "{created}");
    if server.version() < [2, 10, 11] {
        refused(
            &server,
            &[],
            &["deletes its oldest messages", "nats stream edit"],
        );
    } else {
        run_well(&mut scene.producer(dir.path(), &server.url()));
    }
}

/// A producer and a consumer with no other rights than those that the guide lists.
#[test]
fn the_rights_in_the_guide_are_enough() {
    let (scene, dir) = (scene(), folder());
    let guide = pages::text_of("docs/how-to/nats.md");
    let user = |name: &str| {
        let row = guide
            .lines()
            .find(|line| line.starts_with(&format!("| {name} | `")));
        let rights: Vec<String> = row
            .unwrap()
            .split('|')
            .skip(2)
            .take(2)
            .map(|cell| {
                let subjects: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
                format!("[\"{}\"]", subjects.join("\", \""))
            })
            .collect();
        format!(
            "{{ user: {name}, password: right, permissions: {{ publish: {}, subscribe: {} }} }}",
            rights[0], rights[1]
        )
    };
    let users = format!(
        "{SMALL}\nauthorization {{ users = [ {}, {} ] }}",
        user("producer"),
        user("consumer")
    );
    let server = Nats::start(&users);
    let url = |name: &str| format!("nats://{name}:right@127.0.0.1:{}", server.port());
    let output = run_well(&mut scene.producer(dir.path(), &url("producer")));
    assert!(!told(&output).contains("right"), "{}", told(&output));
    let db = TestDb::migrated();
    let mut command = consumer(&db, dir.path(), &url("consumer"));
    run_well(command.arg("--until-empty"));
    scene.assert_tables(&db);
}

/// A server with TLS: trusted by the authority's file, refused without.
#[test]
fn tls_needs_the_authority() {
    let (scene, dir) = (scene(), folder());
    let authority = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Issuer::new(params, key)
    };
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let server = Nats::start(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\nauthorization {{ token: secret-token }}",
        cert_file.display(),
        key_file.display()
    ));
    let token = dir.path().join("token");
    fs::write(&token, "secret-token").unwrap();
    let mut command = scene.producer(dir.path(), &server.url());
    command.arg("--nats-token-file").arg(&token);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("--nats-ca"), "{}", told(&output));
    command.arg("--nats-ca").arg(dir.path().join("ca.pem"));
    let output = run_well(&mut command);
    assert!(!told(&output).contains("secret-token"), "{}", told(&output));
}
