//! Without BSKY_DB_POSTGRES_URL: the private PostgreSQL, from nothing to a psql line that works.

use appview::migrations::MIGRATIONS;
use std::process::Command;
use testbed::*;

#[test]
fn a_private_database_is_made_used_named_and_stopped() {
    let folder = folder();
    let run = |args: &[&str]| {
        let mut command = skyfill();
        // Whatever the locale of the caller is.
        command
            .args(args)
            .current_dir(folder.path())
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("PGPORT", "1")
            .output()
            .unwrap()
    };
    let output = run(&["migrate"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = told(&output);
    let psql = text
        .lines()
        .find_map(|line| line.strip_prefix("look at it with: "))
        .expect("a psql line");
    let rows = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{psql} -Atc 'SELECT count(*) FROM kysely_migration'"
        ))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&rows.stdout).trim(),
        MIGRATIONS.len().to_string(),
        "{}",
        told(&rows)
    );
    assert_eq!(run(&["db", "status"]).status.code(), Some(0));
    let url = String::from_utf8(run(&["db", "url"]).stdout).unwrap();
    assert!(
        postgres::Client::connect(url.trim(), postgres::NoTls).is_ok(),
        "{url}"
    );
    assert_eq!(run(&["db", "stop"]).status.code(), Some(0));
    assert_eq!(run(&["db", "status"]).status.code(), Some(1));
}

#[test]
fn a_private_database_is_not_stopped_under_a_consumer() {
    let folder = folder();
    let mut consumer = skyfill()
        .arg("consumer")
        .arg(folder.path().join("s"))
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    wait_until("the socket", || folder.path().join("s").exists());
    let stop = || {
        skyfill()
            .args(["db", "stop"])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let output = stop();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        told(&output).contains("another skyfill"),
        "{}",
        told(&output)
    );
    signal(&consumer, "TERM");
    assert_eq!(consumer.wait().unwrap().code(), Some(0));
    assert_eq!(stop().status.code(), Some(0));
}
