//! Without BSKY_DB_POSTGRES_URL: the private PostgreSQL, from nothing to a psql line that works.

use crate::network::settings;
use appview::migrations::MIGRATIONS;
use simnet::Network;
use std::process::Command;
use testbed::*;

/// Nothing has to be prepared before the first command, and the lines that are printed lead on.
#[test]
fn the_first_command_in_an_empty_folder_may_be_discover() {
    let (folder, network) = (folder(), Network::start(settings(301, 12, 2)));
    let run = |args: &[&str]| {
        let output = skyfill().args(args).current_dir(folder.path()).output();
        output.unwrap()
    };
    // What is wrong with the line is said before a database is made.
    for wrong in [
        &["discover", "--opt-out", "missing.txt"][..],
        &["discover", "--relay", "nowhere at all"],
        &["run", "--did", "did:plc:a", "--spool-dir", "missing"],
        &[
            "run",
            "--did",
            "did:plc:a",
            "--certificate",
            "missing/c.json",
        ],
    ] {
        let output = run(wrong);
        assert!(
            matches!(output.status.code(), Some(2 | 3)),
            "{}",
            told(&output)
        );
        assert!(!folder.path().join("skyfill-data").exists(), "{wrong:?}");
    }
    let (relay, plc, handles) = (
        network.relay_url(),
        network.plc_url(),
        network.well_known_url(),
    );
    let of_network = [
        "--relay",
        &relay,
        "--plc-url",
        &plc,
        "--did-web-server",
        &handles,
        "--allow-private-hosts",
    ];
    let output = run(&[&["discover"][..], &of_network].concat());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("next: skyfill run "),
        "{}",
        told(&output)
    );
    let output = run(&["run", "--handles", "claimed"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("next: skyfill catch-up "),
        "{}",
        told(&output)
    );
    // It asks the relay of the first command.
    let output = run(&["catch-up"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains(&relay), "{}", told(&output));
    assert_eq!(run(&["db", "stop"]).status.code(), Some(0));
}

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
