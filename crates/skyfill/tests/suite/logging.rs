//! What is logged, where to, and that output which fails ends nothing.

use serde_json::Value;
use simnet::{Answer, Population, Server};
use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use testbed::*;

/// The lines of a log of JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let parsed = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    parsed.collect()
}

#[test]
fn a_log_file_has_the_details_and_the_terminal_stays_calm() {
    let (db, folder) = (TestDb::migrated(), folder());
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dids = folder.path().join("dids.jsonl");
    let did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    fs::write(&dids, format!("[\"{did}\",\"http://127.0.0.1:{port}\"]\n")).unwrap();
    let log = folder.path().join("run.log");
    let mut run = run_load(&db.url);
    run.args([
        "--max-attempts",
        "1",
        "--no-verify",
        "--log-format",
        "json",
        "--log-file",
    ])
    .args([&log, &dids]);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let lines = lines(&log);
    for line in &lines {
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(
            line["level"].is_string() && line["target"].is_string(),
            "{line}"
        );
    }
    let host = format!("127.0.0.1:{port}");
    let said = |message: &str| {
        let line = lines.iter().find(|line| line["message"] == message);
        line.unwrap_or_else(|| panic!("{message}: {lines:?}"))
    };
    assert_eq!(said("the host does not answer")["host"], host.as_str());
    let failed = said("a repo failed");
    assert_eq!(
        (&failed["did"], &failed["host"]),
        (&did.into(), &host.as_str().into())
    );
    assert_eq!(
        (&failed["level"], &failed["phase"]),
        (&"DEBUG".into(), &"load".into())
    );
    assert!(
        failed["code"].is_string() && failed["error"].is_string(),
        "{failed}"
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("verdict: incomplete"), "{stderr}");
    assert!(
        !stderr.contains("DEBUG") && !stderr.contains("fetch::"),
        "{stderr}"
    );
    // What people were told is in the file, too.
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "verdict: incomplete"),
        "{lines:?}"
    );
}

#[test]
fn options_of_every_command_go_before_it_or_after_it() {
    let (db, folder) = (TestDb::migrated(), folder());
    let log = folder.path().join("indexes");
    let status = |before: &[&str], after: &[&str]| {
        let mut command = skyfill();
        command.args(before).args(["indexes", "status"]).args(after);
        command
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap()
    };
    let loud = status(&["-v"], &["--log-file", log.to_str().unwrap()]);
    assert_eq!(loud.status.code(), Some(0), "{}", told(&loud));
    let before = fs::read_to_string(&log).unwrap();
    assert!(before.contains(" INFO skyfill::"), "{before}");
    assert!(told(&loud).contains(" INFO skyfill::"), "{}", told(&loud));
    let quiet = status(&["--log-file", log.to_str().unwrap()], &["-q"]);
    assert_eq!(quiet.status.code(), Some(0), "{}", told(&quiet));
    assert_eq!(told(&quiet).trim(), "");
    // It is added to.
    assert!(fs::read_to_string(&log).unwrap().len() > before.len());
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let db = TestDb::migrated();
    let mut command = skyfill();
    command.args(["indexes", "status", "--log-file", "/dev/full"]);
    let output = command
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let warnings = told(&output).matches("the log file is incomplete").count();
    assert_eq!(warnings, 1, "{}", told(&output));
}

#[test]
fn what_says_how_to_log_is_checked_first() {
    let mut command = skyfill();
    command.args(["status", "--log-file", "/nowhere/run.log"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("error: log file /nowhere/run.log: "),
        "{}",
        told(&output)
    );
    assert!(
        told(&output).contains("hint: name a writable file"),
        "{}",
        told(&output)
    );
    let output = skyfill()
        .arg("status")
        .env("RUST_LOG", "fetch=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("error: RUST_LOG: "),
        "{}",
        told(&output)
    );
}

#[test]
fn programs_get_events_of_all_phases_and_counters_by_name() {
    let (db, folder) = (TestDb::migrated(), folder());
    let population = Population::new(23, 20, 2000);
    let server = Server::start(HashMap::new());
    let mut lines = String::new();
    for account in 0..population.len() {
        let did = population.did(account);
        server.set(&did, Answer::Repo(Arc::new(population.car(account))));
        lines += &format!("[\"{did}\",\"{}\"]\n", server.url());
    }
    let dids = folder.path().join("dids.jsonl");
    fs::write(&dids, lines).unwrap();
    let mut run = run_load(&db.url);
    run.args(["--progress", "json"]).arg(&dids);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let phases: Vec<&str> = lines
        .iter()
        .filter(|line| line["event"] == "phase")
        .map(|line| line["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["load", "indexes", "vacuum", "finalize", "verify"]);
    let progress = lines
        .iter()
        .find(|line| line["event"] == "progress")
        .unwrap();
    assert_eq!(progress["command"], "run", "{progress}");
    // The summary is the one line that is no event.
    let summaries: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"].is_null())
        .collect();
    assert_eq!(summaries.len(), 1, "{lines:?}");
    assert_eq!(summaries[0]["repos"]["loaded"], 20, "{}", summaries[0]);
}
