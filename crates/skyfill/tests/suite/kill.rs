//! `kill -9` in the middle, then the same run again from the start: the same tables as an
//! undisturbed run.

use simnet::{Answer, Gate, Population, Server};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;
use testbed::*;

struct Scene {
    folder: tempfile::TempDir,
    dids: PathBuf,
    repos: usize,
    server: Server,
    /// Behind it are the last repos: while it is closed, no run comes to its end.
    gate: Gate,
}

fn scene() -> Scene {
    let population = Population::new(11, 60, 30_000);
    let server = Server::start(HashMap::new());
    let dids: Vec<String> = (0..population.len())
        .map(|account| population.did(account))
        .collect();
    let gate = Gate::default();
    for (account, did) in dids.iter().enumerate() {
        let repo = Answer::Repo(Arc::new(population.car(account)));
        let is_last = account >= dids.len() - 10;
        server.set(did, if is_last { repo.behind(&gate) } else { repo });
    }
    let folder = folder();
    let file = did_file(
        folder.path(),
        &server.url(),
        dids.iter().map(String::as_str),
    );
    Scene {
        folder,
        dids: file,
        repos: dids.len(),
        server,
        gate,
    }
}

/// Small batches and transactions, so that a kill falls in the middle of many things.
const CONSUMER: &[&str] = &[
    "--batch-size",
    "200",
    "--transaction-size",
    "1000",
    "--max-db-connections",
    "2",
];

impl Scene {
    fn consumer(&self, url: &str) -> Consumer {
        Consumer::start(url, self.folder.path(), "s", CONSUMER)
    }

    fn start_producer(&self, consumer: &Consumer) -> Child {
        let mut command = producer(self.folder.path(), &self.dids, &[&consumer.socket]);
        command
            .args(["--concurrency", "2", "--form", "lines"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A whole run.
    fn run(&self, url: &str) {
        let consumer = self.consumer(url);
        let output = self.start_producer(&consumer).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(summary(&output)["sent"], self.repos);
        assert_eq!(consumer.stop(), Some(0));
    }

    /// What an undisturbed run leaves.
    fn undisturbed(&self) -> std::collections::BTreeMap<String, Vec<String>> {
        let db = TestDb::migrated();
        self.run(&db.url);
        db.dump()
    }
}

/// Waits until some records are committed, but by far not all.
fn wait_for_the_middle(db: &TestDb, at_least: i64) {
    wait_until("a commit", || db.count("record") >= at_least);
}

#[test]
fn of_the_consumer() {
    let scene = scene();
    let db = TestDb::migrated();
    let mut consumer = scene.consumer(&db.url);
    scene.gate.close();
    let producing = scene.start_producer(&consumer);
    wait_for_the_middle(&db, 1500);
    consumer.child().kill().unwrap();
    consumer.child().wait().unwrap();
    scene.gate.open();
    let before = db.count("record");
    // Another consumer on the same path: the producer finds it, and sends again what was in flight.
    drop(consumer);
    let second = scene.consumer(&db.url);
    let output = producing.wait_with_output().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code <= 1),
        "{}",
        told(&output)
    );
    assert_eq!(summary(&output)["sent"], scene.repos, "{}", told(&output));
    assert!(before < db.count("record"));
    assert_eq!(second.stop(), Some(0));
    scene.run(&db.url);
    assert!(db.dump() == scene.undisturbed(), "the tables differ");
    // And with nobody coming back: the producer waits until it is told to stop.
    let consumer = scene.consumer(&TestDb::migrated().url);
    let before = scene.server.requests();
    let mut producing = scene.start_producer(&consumer);
    drop(consumer);
    wait_until("a request", || scene.server.requests() > before);
    signal(&producing, "TERM");
    let code = producing.wait().unwrap().code();
    assert!(
        code.is_some_and(|code| [0, 1, 4].contains(&code)),
        "{code:?}"
    );
}

/// In the framed form, over one socket and three: a consumer that ends before or after a commit,
/// and comes back. What it had not acknowledged comes again, nothing is there twice, and the ledger
/// can prove it.
#[test]
fn of_a_consumer_of_frames_around_a_commit() {
    let net = Net::of_tangle(&simnet::Tangle::new(101, 12, 1200));
    let reference = TestDb::migrated();
    net.load(&reference, folder().path(), &net.dids, 1, &[]);
    for (sockets, place) in [
        (1, "commit"),
        (1, "committed"),
        (3, "commit"),
        (3, "committed"),
    ] {
        let (db, dir) = (TestDb::migrated(), folder());
        let what = format!("{place}, {sockets} sockets");
        let file = did_file(
            dir.path(),
            &net.server.url(),
            net.dids.iter().map(String::as_str),
        );
        let mut consumers: Vec<Consumer> = (0..sockets)
            .map(|n| Consumer::start_with(&db.url, dir.path(), &format!("s{n}"), &[], Some(place)))
            .collect();
        let paths: Vec<PathBuf> = consumers.iter().map(|c| c.socket.clone()).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let producing = producer(dir.path(), &file, &paths)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for (n, consumer) in consumers.iter_mut().enumerate() {
            assert_eq!(consumer.wait_for_end(), None, "{what}: socket {n}");
        }
        drop(consumers);
        let again: Vec<Consumer> = (0..sockets)
            .map(|n| Consumer::start(&db.url, dir.path(), &format!("s{n}"), &[]))
            .collect();
        let output = producing.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {}", told(&output));
        assert_eq!(summary(&output)["sent"], net.dids.len(), "{what}");
        for consumer in again {
            assert_eq!(consumer.stop(), Some(0), "{what}");
        }
        if let Some(difference) = difference(&db.dump(), &reference.dump()) {
            panic!("{what}: {difference}");
        }
        let verify = skyfill()
            .args(["verify", "--all"])
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap();
        assert_eq!(verify.status.code(), Some(0), "{what}: {}", told(&verify));
    }
}

#[test]
fn of_the_producer() {
    let scene = scene();
    let db = TestDb::migrated();
    let consumer = scene.consumer(&db.url);
    scene.gate.close();
    let mut producing = scene.start_producer(&consumer);
    wait_for_the_middle(&db, 1500);
    producing.kill().unwrap();
    producing.wait().unwrap();
    scene.gate.open();
    let output = scene.start_producer(&consumer).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    // The line that was cut off is the only one that can be refused.
    let code = consumer.stop();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    assert!(db.dump() == scene.undisturbed(), "the tables differ");
}

/// A server of the test's own, so that killing it disturbs nobody.
#[test]
fn of_postgresql() {
    let scene = scene();
    let data = cluster_folder();
    // What the server wrote is in the kernel's hands, which the test does not end.
    let settings = [("shared_buffers", "128MB"), ("fsync", "off")];
    let server = pgbox::start_with(data.path(), &settings).unwrap();
    let url = server.url();
    let client = || postgres::Client::connect(&url, postgres::NoTls);
    appview::migrate::migrate(&mut client().unwrap(), "bsky").unwrap();
    let mut consumer = scene.consumer(&url);
    scene.gate.close();
    let producing = scene.start_producer(&consumer);
    let count = || -> i64 {
        client()
            .unwrap()
            .query_one("SELECT count(*) FROM bsky.record", &[])
            .unwrap()
            .get(0)
    };
    wait_until("a commit", || count() >= 1500);
    // One backend, then the postmaster, which takes all of them with it.
    client().unwrap().batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_temp%' AND pid <> pg_backend_pid()").unwrap();
    let postmaster = server.postmaster();
    send_signal(postmaster, rustix::process::Signal::KILL);
    drop(server);
    scene.gate.open();
    consumer.wait_for("waiting for the database");
    let revived = loop {
        match pgbox::start_with(data.path(), &settings) {
            Ok(server) if server.postmaster() != postmaster => break server,
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let output = producing.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(summary(&output)["sent"], scene.repos);
    assert_eq!(
        consumer.stop(),
        Some(0),
        "the consumer wrote what it had not committed"
    );
    let undisturbed = scene.undisturbed();
    let compare = |when: &str| {
        for (table, rows) in &undisturbed {
            if table.starts_with("kysely") {
                continue;
            }
            let sql = format!("SELECT (to_jsonb(x) - 'id')::text FROM bsky.\"{table}\" x");
            let found = client().unwrap().query(&sql, &[]).unwrap();
            let found = canonical(found.iter().map(|row| row.get::<_, String>(0)));
            assert!(
                found == *rows,
                "{table} differs {when}: {} rows, not {}",
                found.len(),
                rows.len()
            );
        }
    };
    compare("after the crash");
    scene.run(&url);
    compare("after the second run");
    drop(revived);
    assert!(pgbox::stop(data.path()).unwrap());
}
