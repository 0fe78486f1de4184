//! What is logged, where to, and that output which fails ends nothing.

use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
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
    let failed = lines.iter().find(|line| {
        line["level"] == "DEBUG"
            && line["host"] == host.as_str()
            && line["target"] == "fetch::turns"
    });
    assert!(failed.is_some(), "{lines:?}");
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
    assert!(before.contains(" INFO skyfill::indexes: "), "{before}");
    assert!(
        told(&loud).contains(" INFO skyfill::indexes: "),
        "{}",
        told(&loud)
    );
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
        told(&output).contains("hint: name a file"),
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
