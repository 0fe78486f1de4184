//! `skyfill producer`: hosts that say no, wait, or something else; partitions; signals.

use simnet::{Answer, Population, Server};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::*;

/// A consumer that only counts lines.
fn sink(path: &std::path::Path) -> std::thread::JoinHandle<usize> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(handoff::send::COMMITTED).unwrap();
        all.iter().filter(|b| **b == b'\n').count()
    })
}

#[test]
fn account_states_are_skipped_and_waits_are_kept() {
    let population = Population::new(21, 8, 2000);
    let car = |n| Answer::Repo(Arc::new(population.car(n)));
    let then = |first: Answer, n| Answer::Then(Box::new(first), Box::new(car(n)));
    let limited = |headers| Answer::Status(429, headers, String::new());
    let reset = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3;
    let answers = [
        (
            "did:plc:notfound".to_owned(),
            Answer::error(400, "RepoNotFound"),
        ),
        (
            "did:plc:deactivated".to_owned(),
            Answer::error(400, "RepoDeactivated"),
        ),
        (
            "did:plc:takendown".to_owned(),
            Answer::error(400, "RepoTakendown"),
        ),
        (
            "did:plc:suspended".to_owned(),
            Answer::error(403, "RepoSuspended"),
        ),
        (
            population.did(0),
            then(limited(vec![("retry-after", "2".to_owned())]), 0),
        ),
        (
            population.did(1),
            then(limited(vec![("ratelimit-reset", reset.to_string())]), 1),
        ),
        (
            population.did(2),
            then(Answer::Status(503, vec![], String::new()), 2),
        ),
        (population.did(3), then(Answer::Reset, 3)),
        (population.did(4), car(4)),
    ];
    let dids: Vec<String> = answers.iter().map(|(did, _)| did.clone()).collect();
    let server = Server::start(answers.into_iter().collect());
    let folder = folder();
    let file = did_file(
        folder.path(),
        &server.url(),
        dids.iter().map(String::as_str),
    );
    let socket = folder.path().join("s");
    let consumer = sink(&socket);
    let started = Instant::now();
    let output = producer(folder.path(), &file, &[&socket]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        started.elapsed() > Duration::from_millis(1900),
        "it did not wait: {:?}",
        started.elapsed()
    );
    let summary = summary(&output);
    assert_eq!(summary["sent"], 5);
    for state in ["not found", "deactivated", "takendown", "suspended"] {
        assert_eq!(summary["skipped"][state], 1, "{summary}");
    }
    assert_eq!(summary["retries"], 4, "{summary}");
    assert_eq!(summary["records"], consumer.join().unwrap());
    assert!(
        server.compressed() >= 4,
        "responses are asked for in compressed form"
    );
    assert!(
        server.connections() < server.requests(),
        "connections are used again"
    );
}

#[test]
fn private_hosts_are_refused_by_address_by_name_and_after_a_redirect() {
    let folder = folder();
    let server = Server::start(HashMap::new());
    let port = server.url().rsplit_once(':').unwrap().1.to_owned();
    let path = folder.path().join("dids");
    let lines: Vec<String> = ["127.0.0.1", "localhost", "[::1]", "2130706433", "0.0.0.0"]
        .iter()
        .map(|host| format!("[\"did:plc:a\",\"http://{host}:{port}\"]\n"))
        .collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let socket = folder.path().join("s");
    let mut command = skyfill();
    command
        .arg("producer")
        .arg(&path)
        .arg(&socket)
        .arg("--json")
        .arg("--failures")
        .arg(folder.path().join("f"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(
        summary(&output)["failed"]["blocked address"],
        lines.len(),
        "{}",
        told(&output)
    );
    assert_eq!(server.requests(), 0, "nobody was asked");
    // The file of failures is a DID file.
    let again = skyfill()
        .arg("producer")
        .arg(folder.path().join("f"))
        .arg(&socket)
        .args([
            "--json",
            "--allow-private-hosts",
            "--host-rate",
            "10000",
            "--failures",
        ])
        .arg(folder.path().join("g"))
        .output()
        .unwrap();
    assert_eq!(
        summary(&again)["skipped"]["not found"]
            .as_u64()
            .map(|n| n >= 4),
        Some(true),
        "{}",
        told(&again)
    );
}

#[test]
fn partitions_meet_exactly_and_opted_out_hosts_are_left_alone() {
    let population = Population::new(22, 9, 300);
    let server = Server::start(
        (0..9)
            .map(|n| (population.did(n), Answer::Repo(Arc::new(population.car(n)))))
            .collect(),
    );
    let folder = folder();
    let dids: Vec<String> = (0..9).map(|n| population.did(n)).collect();
    let file = did_file(
        folder.path(),
        &server.url(),
        dids.iter().map(String::as_str),
    );
    let mut sent = 0;
    for (from, to) in [("0", "4"), ("4", "7"), ("7", "0")] {
        let socket = folder.path().join(format!("s{from}"));
        let consumer = sink(&socket);
        let output = producer(folder.path(), &file, &[&socket])
            .args(["--starting-line", from, "--ending-line", to])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        sent += summary(&output)["sent"].as_u64().unwrap();
        consumer.join().unwrap();
    }
    assert_eq!((sent, server.requests()), (9, 9));
    let output = producer(folder.path(), &file, &[&folder.path().join("none")])
        .args(["--skip-host", "127.0.0.1"])
        .output()
        .unwrap();
    assert_eq!(
        summary(&output)["skipped"]["host opted out"],
        9,
        "{}",
        told(&output)
    );
    assert_eq!(server.requests(), 9);
}

#[test]
fn a_signal_lets_it_end_well_and_another_asks_what_it_does() {
    let population = Population::new(23, 3, 300);
    let stalled = Answer::Stall(Arc::new(population.car(0)));
    let server = Server::start(
        (0..3)
            .map(|n| (population.did(n), stalled.clone()))
            .collect(),
    );
    let folder = folder();
    let dids: Vec<String> = (0..3).map(|n| population.did(n)).collect();
    let file = did_file(
        folder.path(),
        &server.url(),
        dids.iter().map(String::as_str),
    );
    let socket = folder.path().join("s");
    let mut child = Watched::start(producer(folder.path(), &file, &[&socket]).args([
        "--concurrency",
        "1",
        "--stall-timeout",
        "2",
        "--max-attempts",
        "1",
    ]));
    wait_until("a request", || server.requests() > 0);
    signal(&child.child, "USR1");
    child.wait_for("worker 0: fetch did:plc:");
    signal(&child.child, "TERM");
    let (_, text) = child.end();
    assert!(text.contains("stopping after the present work"), "{text}");
    assert!(summary_line(&text), "{text}");
}

fn summary_line(text: &str) -> bool {
    text.contains(" sent, ")
}

#[test]
fn a_consumer_that_dies_at_the_very_end_is_told() {
    let population = Population::new(24, 2, 100);
    let server = Server::start(
        (0..2)
            .map(|n| (population.did(n), Answer::Repo(Arc::new(population.car(n)))))
            .collect(),
    );
    let folder = folder();
    let dids: Vec<String> = (0..2).map(|n| population.did(n)).collect();
    let file = did_file(
        folder.path(),
        &server.url(),
        dids.iter().map(String::as_str),
    );
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let dying = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // It has read everything, and closes without having committed.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let output = producer(folder.path(), &file, &[&socket]).output().unwrap();
    dying.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(summary(&output)["acknowledged"], false);
}

#[test]
fn wrong_arguments_name_the_thing() {
    let folder = folder();
    let file = did_file(folder.path(), "http://x", []);
    let run = |args: &[&str]| {
        skyfill()
            .arg("producer")
            .arg(&file)
            .args(args)
            .output()
            .unwrap()
    };
    let output = run(&["/tmp/a", "/tmp/b"]);
    assert_eq!(
        (output.status.code(), told(&output).contains("one or three")),
        (Some(2), true),
        "{}",
        told(&output)
    );
    let output = run(&[&format!("/tmp/{}", "x".repeat(120))]);
    assert_eq!(
        (output.status.code(), told(&output).contains("at most 103")),
        (Some(2), true),
        "{}",
        told(&output)
    );
    let output = skyfill()
        .args(["producer", "/nowhere", "/tmp/a"])
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), told(&output).contains("/nowhere")),
        (Some(3), true),
        "{}",
        told(&output)
    );
    let output = skyfill()
        .args(["producer", "/nowhere", "/tmp/a"])
        .env("PRODUCER_CONCURRENCY", "many")
        .output()
        .unwrap();
    assert_eq!(
        (
            output.status.code(),
            told(&output).contains("PRODUCER_CONCURRENCY")
        ),
        (Some(2), true),
        "{}",
        told(&output)
    );
    let output = run(&["/tmp/a", "--failures", file.to_str().unwrap()]);
    assert_eq!(
        (
            output.status.code(),
            told(&output).contains("still-failing")
        ),
        (Some(2), true),
        "{}",
        told(&output)
    );
}
