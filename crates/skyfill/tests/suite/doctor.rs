//! `skyfill doctor`: what it finds of a server, a schema, other sessions and the network, and what
//! `skyfill run` reports of it.

use serde_json::Value;
use std::process::{Command, Output};
use testbed::*;

fn doctor(url: &str, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(["doctor", "--json"]).args(args);
    command.env("BSKY_DB_POSTGRES_URL", url);
    command
}

/// Exit code and findings, those about one thing as `level: found; change`.
fn findings(output: &Output) -> (Option<i32>, Vec<(String, String)>) {
    let all: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let found = all["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| {
            let [level, found, change] = ["level", "found", "change"].map(|key| text(finding, key));
            (
                text(finding, "about"),
                format!("{level}: {found}; {change}"),
            )
        })
        .collect();
    (output.status.code(), found)
}

fn look(url: &str, args: &[&str]) -> (Option<i32>, Vec<(String, String)>) {
    findings(&doctor(url, args).output().unwrap())
}

/// The finding about something that says this.
fn has(found: &[(String, String)], about: &str, said: &[&str]) {
    let of_it = |(name, text): &&(String, String)| {
        name == about && said.iter().all(|said| text.contains(said))
    };
    assert!(
        found.iter().any(|finding| of_it(&finding)),
        "{about} {said:?}: {found:#?}"
    );
}

#[test]
fn a_database_that_is_ready_has_no_problem() {
    let db = TestDb::migrated();
    let (code, found) = look(&db.url, &["--no-network"]);
    assert_eq!(code, Some(0), "{found:#?}");
    for (about, said) in [
        ("connection", "ok: connected to skyfill@"),
        ("TLS", "ok: not needed"),
        ("version", "ok: PostgreSQL "),
        ("encoding", "ok: UTF8"),
        ("collation", "ok: C"),
        ("shared_buffers", "warning: 128 MiB"),
        ("max_wal_size", "warning: 512 MiB"),
        ("checkpoint_timeout", "ok: 900 s"),
        (
            "maintenance_work_mem",
            "for 2 index builds at once (--server-memory)",
        ),
        ("autovacuum", "ok: on"),
        ("wal_level", "archive_mode off"),
        ("max_connections", "ok: "),
        ("disk", " free at "),
        ("clock", "ok: agrees with the database server"),
        ("schema", "ok: bsky can be filled"),
        ("open files", "at most"),
    ] {
        has(&found, about, &[said]);
    }
}

#[test]
fn what_a_schema_lacks_or_has_more_is_found() {
    let db = TestDb::empty();
    let (code, found) = look(&db.url, &["--no-network"]);
    assert_eq!(code, Some(1), "{found:#?}");
    has(
        &found,
        "schema",
        &["problem: bsky is not there yet", "skyfill migrate"],
    );

    let db = TestDb::migrated();
    let mut client = db.client();
    client
        .batch_execute(
            r#"ALTER TABLE bsky.post ADD COLUMN "forkScore" integer;
               INSERT INTO bsky.kysely_migration VALUES ('_20270101T000000000Z', 'later')"#,
        )
        .unwrap();
    let (code, found) = look(&db.url, &["--no-network"]);
    assert_eq!(code, Some(0), "{found:#?}");
    has(&found, "drift", &["note: column post.forkScore"]);
    has(&found, "migrations", &["note: ", "_20270101T000000000Z"]);
    client
        .batch_execute("ALTER TABLE bsky.quote RENAME COLUMN subject TO target")
        .unwrap();
    let (code, found) = look(&db.url, &["--no-network"]);
    assert_eq!(code, Some(1), "{found:#?}");
    has(
        &found,
        "schema",
        &["problem: column quote.subject is missing"],
    );

    let db = TestDb::migrated();
    run_well(skyfill().args([
        "migrate",
        "--drop-follow-indexes",
        "--database-url",
        &db.url,
    ]));
    let (_, found) = look(&db.url, &["--no-network"]);
    has(
        &found,
        "indexes",
        &[
            "warning: indexes and constraints that skyfill dropped: 3",
            "skyfill indexes restore",
        ],
    );
}

#[test]
fn who_else_is_connected_is_named_and_a_run_says_so() {
    let (db, dir) = (TestDb::migrated(), folder());
    let net = Net::of_tangle(&simnet::Tangle::new(151, 2, 20));
    let (mut appview, mut ingester) = (db.client(), db.client());
    appview
        .batch_execute("SET application_name = 'appview'")
        .unwrap();
    ingester
        .batch_execute("SET application_name = 'ingester'")
        .unwrap();
    let mut writes = ingester.transaction().unwrap();
    writes.batch_execute("DELETE FROM bsky.actor").unwrap();
    let (code, found) = look(&db.url, &["--no-network"]);
    assert_eq!(code, Some(0), "{found:#?}");
    has(
        &found,
        "sessions",
        &[
            "warning: ingester (skyfill) writes",
            "stop the AppView's ingester",
        ],
    );
    has(
        &found,
        "sessions",
        &["note: also connected: appview (skyfill)"],
    );
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let output = run_well(run_load(&db.url).arg(&file).args(["--mode", "merge"]));
    assert!(
        told(&output).contains("stop the AppView's ingester"),
        "{}",
        told(&output)
    );
    assert!(
        !told(&output).contains("also connected"),
        "{}",
        told(&output)
    );
}

#[test]
fn settings_that_cost_are_named_with_their_line() {
    let dir = folder();
    let place = dir.path().join("server");
    let settings = [
        ("shared_buffers", "128MB"),
        ("max_wal_size", "1GB"),
        ("checkpoint_timeout", "5min"),
        ("autovacuum", "off"),
        ("max_connections", "12"),
        ("fsync", "off"),
    ];
    let server = pgbox::start_with(&place, &settings).expect("a server");
    let mut client = postgres::Client::connect(&server.url(), postgres::NoTls).unwrap();
    client
        .batch_execute("SELECT pg_create_physical_replication_slot('nobody')")
        .unwrap();
    let (code, found) = look(
        &server.url(),
        &["--no-network", "--max-db-connections", "8"],
    );
    assert_eq!(code, Some(1), "{found:#?}");
    has(
        &found,
        "shared_buffers",
        &["warning: 128 MiB", "ALTER SYSTEM SET shared_buffers"],
    );
    has(
        &found,
        "max_wal_size",
        &["warning: 1.0 GiB", "ALTER SYSTEM SET max_wal_size"],
    );
    has(&found, "checkpoint_timeout", &["note: 300 s", "15min"]);
    has(&found, "autovacuum", &["warning: off", "autovacuum = on"]);
    has(
        &found,
        "max_connections",
        &["problem: ", "max_connections = 100"],
    );
    has(&found, "fsync", &["note: off"]);
    has(
        &found,
        "replication slots",
        &[
            "warning: nobody reads from nobody",
            "pg_drop_replication_slot('nobody')",
        ],
    );
    drop((client, server));
    assert!(pgbox::stop(&place).unwrap());
}

#[test]
fn the_network_is_asked_with_what_was_told_before() {
    let (db, dir) = (TestDb::migrated(), folder());
    let net = Net::of_tangle(&simnet::Tangle::new(152, 2, 20));
    let dns = dns().address().to_string();
    let url = net.server.url();
    let args = ["--relay", &url, "--dns-server", &dns];
    let file = did_file(dir.path(), &url, net.dids.iter().map(String::as_str));
    run_well(run_load(&db.url).arg(&file).args(["--plc-url", &url]));
    let output = doctor(&db.url, &args).output().unwrap();
    let (code, found) = findings(&output);
    assert_eq!(code, Some(0), "{found:#?}");
    assert!(
        told(&output).contains("with stored settings: --plc-url"),
        "{}",
        told(&output)
    );
    has(&found, "PLC directory", &["ok: ", &url]);
    has(&found, "relay", &["ok: ", &url]);
    has(&found, "DNS", &["ok: ", &dns]);

    // Nobody listens there.
    let nobody = [
        "--plc-url",
        "http://127.0.0.1:9",
        "--dns-server",
        "127.0.0.1:9",
        "--timeout",
        "1",
    ];
    let (code, found) = look(&db.url, &[&args[..2], &nobody[..]].concat());
    assert_eq!(code, Some(1), "{found:#?}");
    has(
        &found,
        "PLC directory",
        &["problem: ", "http://127.0.0.1:9", "--plc-url"],
    );
    has(&found, "DNS", &["problem: ", "--dns-server"]);
}

#[test]
fn without_a_database_the_rest_is_found() {
    let dir = folder();
    let output = skyfill()
        .args(["doctor", "--no-network"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("problem  database: there is no private database"),
        "{}",
        told(&output)
    );
    assert!(told(&output).contains("open files"), "{}", told(&output));
    assert!(!dir.path().join("skyfill-data").exists(), "nothing is made");
    let nowhere = "postgresql://u@/d?host=/nowhere/at/all";
    let (code, found) = look(nowhere, &["--no-network"]);
    assert_eq!(code, Some(1));
    has(
        &found,
        "connection",
        &["problem: cannot connect to u@/nowhere/at/all/d"],
    );
}
