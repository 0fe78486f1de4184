//! What one host says or does changes nothing for another: not its pace, not its repos, not the
//! time that they take; and nothing that is named from outside leads into a private network.

use crate::network::{FAST, on, settings, states};
use simnet::{Answer, Network, Population, Server};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed::*;

/// Names that all lead to the server at `url`, as names at a shared address do.
fn named(url: &str, name: &str) -> String {
    let port = url.rsplit(':').next().unwrap();
    format!("http://{name}.localhost:{port}")
}

#[test]
fn names_at_the_address_of_an_honest_host_cost_it_nothing() {
    let good = Population::new(11, 60, 300);
    let server = Server::start(HashMap::new());
    let mut lines = String::new();
    for account in 0..good.len() {
        let did = good.did(account);
        server.set(&did, Answer::Repo(Arc::new(good.car(account))));
        lines += &format!("[\"{did}\",\"{}\"]\n", named(&server.url(), "good"));
    }
    let day = vec![("retry-after", "86400".to_owned())];
    for number in 0..20 {
        let did = format!("did:plc:evil{number}");
        let host = named(
            &server.url(),
            if number % 2 == 0 { "evil1" } else { "evil2" },
        );
        // Each answers once, so that its address is known.
        if number > 1 {
            server.set(&did, Answer::Status(429, day.clone(), String::new()));
        }
        lines += &format!("[\"{did}\",\"{host}\"]\n");
    }
    let (db, folder) = (TestDb::migrated(), folder());
    let dids = folder.path().join("dids.jsonl");
    fs::write(&dids, lines).unwrap();
    let mut run = skyfill();
    run.args([
        "run",
        "--allow-private-hosts",
        "--handles",
        "skip",
        "--now",
        NOW,
    ]);
    // Slow enough that both are asked at the same time.
    run.args(["--host-rate", "20", "--plc-url", &server.url()])
        .arg(&dids);
    run.env("BSKY_DB_POSTGRES_URL", &db.url);
    let output = ended(&mut run);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let states = states(&db);
    for account in 0..good.len() {
        let did = good.did(account);
        assert_eq!(states[&did], "loaded", "{did}: {}", told(&output));
    }
    let rows = db
        .client()
        .query(
            "SELECT host, learned FROM skyfill.host WHERE host LIKE 'good.%'",
            &[],
        )
        .unwrap();
    let learned: Option<String> = rows[0].get(1);
    assert!(
        !learned
            .as_ref()
            .is_some_and(|learned| learned.contains("eiling")),
        "{learned:?}"
    );
    let failed: i64 = db
        .client()
        .query_one(
            "SELECT count(*) FROM skyfill.repo WHERE state = 'failed' AND next_attempt > now() + interval '30 minutes'",
            &[],
        )
        .unwrap()
        .get(0);
    // Of the two that are not there one may come after a 429.
    assert!(
        (18..=20).contains(&failed),
        "each is tried again when its own host wants it: {failed}"
    );
}

#[test]
fn a_relay_on_this_machine_opens_no_private_network_to_what_it_lists() {
    let network = Network::start(settings(31, 60, 4));
    let db = TestDb::migrated();
    let mut discover = on(&network, &db, "discover");
    let relay = network.relay_url();
    let args: Vec<_> = discover.get_args().map(ToOwned::to_owned).collect();
    let strict = |source: &[&str]| {
        let mut strict = skyfill();
        strict.args(args.iter().filter(|arg| *arg != "--allow-private-hosts"));
        strict
            .args(FAST)
            .args(source)
            .env("BSKY_DB_POSTGRES_URL", &db.url);
        strict.output().unwrap()
    };
    let output = strict(&["--relay", &relay]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let asked: u64 = network.counts().iter().map(|host| host.requests).sum();
    assert_eq!(asked, 0, "{}", told(&output));
    assert!(
        told(&output).contains("--allow-private-hosts"),
        "{}",
        told(&output)
    );
    // The operator names one of them: that one, and no other.
    let output = strict(&["--pds", &network.host_urls()[1]]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let asked: Vec<u64> = network.counts().iter().map(|host| host.requests).collect();
    assert!(
        asked[1] > 0 && asked.iter().sum::<u64>() == asked[1],
        "{asked:?}"
    );
    discover.args(FAST).args(["--relay", &relay]);
    run_well(&mut discover);
}

/// A server of lists: what it answers to a request for the page after a cursor.
struct Lister {
    url: String,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl Lister {
    fn start(answer: impl Fn(Option<&str>) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = String::new();
                let mut lines = BufReader::new(&stream);
                while lines.read_line(&mut head).is_ok_and(|bytes| bytes > 2) {}
                let cursor = head.split_whitespace().nth(1).unwrap_or_default();
                let cursor = cursor.split("cursor=").nth(1).map(str::to_owned);
                let body = answer(cursor.as_deref());
                noted.lock().unwrap().push(cursor);
                let length = body.len();
                let response = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                drop(stream.write_all(response.as_bytes()));
            }
        });
        Self { url, asked }
    }

    /// The cursors that were asked for since the last call.
    fn asked(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A page of invented accounts.
fn page(first: u64, repos: u64, cursor: &str) -> String {
    let line = |n: u64| {
        format!(
            "{{\"did\":\"did:plc:invented{n}\",\"head\":\"x\",\"rev\":\"3jzfcijpj2z2a\",\"active\":true}}"
        )
    };
    let lines: Vec<String> = (first..first + repos).map(line).collect();
    format!(
        "{{\"cursor\":\"{cursor}\",\"repos\":[{}]}}",
        lines.join(",")
    )
}

/// `skyfill discover` over these hosts.
fn discover(network: &Network, db: &TestDb, hosts: &[String]) -> Output {
    let mut discover = on(network, db, "discover");
    discover
        .args(FAST)
        .args(["--straggler-grace", "2", "--relay", &network.relay_url()]);
    for host in hosts {
        discover.args(["--pds", host]);
    }
    ended(&mut discover)
}

/// What comes of a command, which must come to an end by itself.
fn ended(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(90) {
            child.kill().unwrap();
            panic!(
                "it does not end: {}",
                told(&child.wait_with_output().unwrap())
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_slow_lister_is_listed_in_part_and_holds_nobody_up() {
    let network = Network::start(settings(32, 80, 3));
    let slow = Lister::start(|cursor| {
        std::thread::sleep(Duration::from_millis(300));
        let at: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        page(at, 10, &(at + 10).to_string())
    });
    let db = TestDb::migrated();
    let mut hosts = network.host_urls();
    hosts.insert(0, slow.url.clone());
    let output = discover(&network, &db, &hosts);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("listed in part"),
        "{}",
        told(&output)
    );
    assert_eq!(summary(&output)["failedHosts"].as_array().unwrap().len(), 1);
    let known = states(&db);
    assert!(
        network
            .dids()
            .iter()
            .all(|(did, _)| known.contains_key(did))
    );
    assert!(
        known.contains_key("did:plc:invented0"),
        "what it listed is kept"
    );
    let last = slow.asked().pop().unwrap().unwrap();
    // The next pass goes on where this one ended, the one after that begins anew.
    let output = discover(&network, &db, &hosts);
    assert!(
        told(&output).contains("listed in part"),
        "{}",
        told(&output)
    );
    let first: u64 = slow.asked().remove(0).unwrap().parse().unwrap();
    assert!(first + 10 >= last.parse().unwrap(), "{first} after {last}");
}

#[test]
fn lists_that_go_round_in_circles_are_noted_and_bad_lines_are_counted() {
    let network = Network::start(settings(33, 40, 2));
    let circle = Lister::start(|cursor| {
        let at: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        page(at * 100, 100, &((at + 1) % 5).to_string())
    });
    let same = Lister::start(|_| page(5000, 100, "same"));
    let senseless = Lister::start(|_| {
        r#"{"repos":[{"did":"not-a-did"},{"did":"did:plc:there","rev":"3jzfcijpj2z2a"},7,{"did":"did:plc:"}]}"#
            .to_owned()
    });
    let db = TestDb::migrated();
    let mut hosts = network.host_urls();
    hosts.extend([circle.url.clone(), same.url.clone(), senseless.url.clone()]);
    let output = discover(&network, &db, &hosts);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let summary = summary(&output);
    let failed = summary["failedHosts"].as_array().unwrap();
    let why = |url: &str| {
        let of = failed
            .iter()
            .find(|failed| url.ends_with(failed["host"].as_str().unwrap()));
        of.map(|failed| failed["error"].as_str().unwrap().to_owned())
    };
    assert!(
        why(&circle.url).is_some_and(|why| why.contains("circles")),
        "{summary}"
    );
    assert!(
        why(&same.url).is_some_and(|why| why.contains("same page")),
        "{summary}"
    );
    assert_eq!(why(&senseless.url), None, "{summary}");
    let host = senseless.url.trim_start_matches("http://");
    assert_eq!(summary["badLines"][host], 3, "{summary}");
    assert_eq!(
        summary["badLines"].as_object().unwrap().len(),
        1,
        "{summary}"
    );
}

#[test]
fn what_hosts_say_does_not_act_on_the_terminal() {
    let server = Server::start(HashMap::new());
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\nerror: forged\u{202e}";
    let body = serde_json::json!({ "error": evil, "message": evil }).to_string();
    server.set("did:plc:evil", Answer::Status(400, vec![], body.clone()));
    // Whatever a relay is asked.
    server.set("", Answer::Status(400, vec![], body));
    let (db, folder) = (TestDb::migrated(), folder());
    let dids = did_file(folder.path(), &server.url(), ["did:plc:evil"]);
    let mut run = run_load(&db.url);
    let output = run.arg(&dids).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let text: String = db
        .client()
        .query_one(
            "SELECT error FROM skyfill.repo WHERE did = 'did:plc:evil'",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(text.contains("owned"), "{text}");
    let mut relay = skyfill();
    relay.args(["discover", "--relay", &server.url(), "--max-attempts", "1"]);
    let refused = relay.env("BSKY_DB_POSTGRES_URL", &db.url).output().unwrap();
    for shown in [text, told(&output), told(&refused)] {
        let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!shown.chars().any(acts), "{shown:?}");
        assert!(
            !shown.lines().any(|line| line.starts_with("error: forged")),
            "{shown}"
        );
    }
}

#[test]
fn nobody_is_asked_with_a_password_that_a_list_names() {
    let good = Population::new(12, 1, 20);
    let server = Server::start(HashMap::new());
    let did = good.did(0);
    server.set(&did, Answer::Repo(Arc::new(good.car(0))));
    let (db, folder) = (TestDb::migrated(), folder());
    let url = server.url().replace("http://", "http://me:secret@");
    let dids = did_file(folder.path(), &url, [did.as_str()]);
    let output = run_load(&db.url).arg(&dids).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(server.requests(), 0);
    let error: String = db
        .client()
        .query_one("SELECT error FROM skyfill.repo", &[])
        .unwrap()
        .get(0);
    assert!(
        error.contains("password") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn a_host_that_does_not_have_what_it_lists_is_put_off() {
    let good = Population::new(13, 20, 200);
    let server = Server::start(HashMap::new());
    let (db, folder) = (TestDb::migrated(), folder());
    let mut lines = String::new();
    for account in 0..good.len() {
        let did = good.did(account);
        server.set(&did, Answer::Repo(Arc::new(good.car(account))));
        lines += &format!("[\"{did}\",\"{}\"]\n", named(&server.url(), "good"));
    }
    // The server knows none of these: 404, and the directory neither.
    for number in 0..5000 {
        lines += &format!(
            "[\"did:plc:invented{number}\",\"{}\"]\n",
            named(&server.url(), "evil")
        );
    }
    let dids = folder.path().join("dids.jsonl");
    fs::write(&dids, lines).unwrap();
    let output = run_load(&db.url)
        .args([
            "--plc-url",
            &server.url(),
            "--plc-rate",
            "10000",
            "--max-attempts",
            "1",
        ])
        .arg(&dids)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let states = states(&db);
    assert!((0..good.len()).all(|account| states[&good.did(account)] == "loaded"));
    let sql = "SELECT count(*) FROM skyfill.repo WHERE error_code = 'host put off' AND next_attempt > now()";
    let put_off: i64 = db.client().query_one(sql, &[]).unwrap().get(0);
    assert!(put_off > 3000, "{put_off}: {}", told(&output));
}

#[test]
fn a_host_that_answers_slowly_for_ever_does_not_keep_a_run_from_its_end() {
    let good = Population::new(14, 150, 450);
    let server = Server::start(HashMap::new());
    // One after the other, each a second later.
    let slow = Lister::start(|_| {
        std::thread::sleep(Duration::from_secs(1));
        "{}".to_owned()
    });
    let (db, folder) = (TestDb::migrated(), folder());
    let mut lines = String::new();
    for account in 0..good.len() {
        let did = good.did(account);
        server.set(&did, Answer::Repo(Arc::new(good.car(account))));
        lines += &format!("[\"{did}\",\"{}\"]\n", server.url());
    }
    for number in 0..500 {
        lines += &format!("[\"did:plc:slow{number}\",\"{}\"]\n", slow.url);
    }
    let dids = folder.path().join("dids.jsonl");
    fs::write(&dids, lines).unwrap();
    let mut run = run_load(&db.url);
    run.args(["--host-patience", "5", "--max-attempts", "1"]);
    // However many are under way, none of them stalls.
    run.args(["--stall-timeout", "200", "--processing-timeout", "300"])
        .arg(&dids);
    let started = Instant::now();
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        started.elapsed() < Duration::from_secs(240),
        "{:?}",
        started.elapsed()
    );
    let states = states(&db);
    assert!((0..good.len()).all(|account| states[&good.did(account)] == "loaded"));
    assert!(
        told(&output).contains("delivered almost nothing"),
        "{}",
        told(&output)
    );
}
