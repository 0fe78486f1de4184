//! The one word for what a database holds: the same from `run`, `verify`, `status` and the
//! certificate, with exit code 0 for "complete" alone.

use serde_json::Value;
use std::process::{Command, Output};
use std::sync::Arc;
use testbed::*;

fn command(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The certificate of `verify`, after all commands agreed on its word.
fn certificate(db: &TestDb, word: &str) -> Value {
    let dir = folder();
    let path = dir.path().join("c.json");
    let code = Some(i32::from(word != "complete"));
    let output = command(db, &["verify", "--all", "--certificate"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), code, "{word}: {}", told(&output));
    let said = format!("verdict: {word}");
    assert!(stderr(&output).contains(&said), "{}", told(&output));
    let status = command(db, &["status", "--json"]).output().unwrap();
    assert_eq!(status.status.code(), code, "{word}: {}", told(&status));
    assert_eq!(summary(&status)["verdict"], word);
    let certificate: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(certificate["verdict"], word);
    certificate
}

#[test]
fn one_word_is_right_in_each_case() {
    let net = Net::of_tangle(&simnet::Tangle::new(95, 5, 150));
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let output = run_well(run_load(&db.url).arg(&file));
    assert!(
        stderr(&output).contains("verdict: complete"),
        "{}",
        told(&output)
    );
    let all_well = certificate(&db, "complete");
    assert_eq!(all_well["repos"]["loaded"], 5);
    assert_eq!(all_well["missing"], serde_json::json!([]));
    assert_eq!(all_well["unproved"], 5);
    assert_eq!(
        all_well["scope"],
        serde_json::json!(["only the repos that were named: there was no discovery"])
    );
    let did = &net.dids[0];
    let on_one = |change: &str| format!("UPDATE skyfill.repo SET {change} WHERE did = '{did}'");
    let host = "WITH pass AS (
           INSERT INTO skyfill.listing (schema_name, source, ended_at) VALUES ('bsky', 'test', now()) RETURNING id)
         INSERT INTO skyfill.host (schema_name, host, listing, listed_at, listing_error)
         SELECT 'bsky', name, id, now(), why FROM pass,
           (VALUES ('good.example', NULL), ('away.example', 'no connection'), ('shy.example', 'it opted out')) x (name, why)";
    // What is done and undone, and what the certificate says then.
    let cases = [
        (
            host.to_owned(),
            "DELETE FROM skyfill.host WHERE listing IS NOT NULL; DELETE FROM skyfill.listing"
                .to_owned(),
            "1 host could not be listed",
        ),
        (
            on_one("state = 'failed', error_code = 'bad repo'"),
            on_one("state = 'loaded'"),
            "1 repo failed",
        ),
        (
            on_one("state = 'unresolved'"),
            on_one("state = 'loaded'"),
            "1 repo is on no host that is known for certain",
        ),
        (
            on_one("contested = true"),
            on_one("contested = false"),
            "1 repo is contested: two hosts list it as active",
        ),
    ];
    let mut client = db.client();
    for (change, back, phrase) in cases {
        client.batch_execute(&change).unwrap();
        let found = certificate(&db, "incomplete");
        assert_eq!(found["missing"], serde_json::json!([phrase]));
        // A run that finds nothing to do says the same.
        let output = run_load(&db.url).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{phrase}: {}", told(&output));
        assert!(stderr(&output).contains(phrase), "{}", told(&output));
        if phrase.contains("host") && phrase.contains("listed") {
            assert_eq!(
                found["discovery"]["hostsNotListed"],
                serde_json::json!([{"host": "away.example", "reason": "no connection"}])
            );
            assert_eq!(found["discovery"]["hostsListed"], 1);
            assert_eq!(found["discovery"]["hostsOptedOut"][0], "shy.example");
        }
        client.batch_execute(&back).unwrap();
    }
    certificate(&db, "complete");
    // Differences that a comparison found are known to all until it is mended.
    client
        .batch_execute("DELETE FROM bsky.\"like\" WHERE uri = (SELECT min(uri) FROM bsky.\"like\")")
        .unwrap();
    let different = certificate(&db, "different");
    assert_eq!(different["differences"], 1);
    let output = run_load(&db.url).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        stderr(&output).contains("verdict: different"),
        "{}",
        told(&output)
    );
    // A state that nobody knows is named.
    client.batch_execute(&on_one("state = 'loadde'")).unwrap();
    let output = command(&db, &["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(stderr(&output).contains("\"loadde\""), "{}", told(&output));
}

#[test]
fn nothing_is_empty_and_a_choice_is_named() {
    // Where skyfill has never worked there is nothing to judge.
    let empty = TestDb::migrated();
    let output = command(&empty, &["verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    // It has looked at a list without a repo.
    let dir = folder();
    let nobody = did_file(dir.path(), "https://pds.example", []);
    drop(run_load(&empty.url).arg(nobody).output().unwrap());
    certificate(&empty, "empty");

    let net = Net::of_tangle(&simnet::Tangle::new(96, 4, 100));
    let (part, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let args = [
        "--collections",
        "app.bsky.graph.follow",
        "--notifications",
        "none",
    ];
    run_well(run_load(&part.url).arg(&file).args(args));
    let found = certificate(&part, "complete");
    assert_eq!(
        found["scope"],
        serde_json::json!([
            "only the repos that were named: there was no discovery",
            "only the collections app.bsky.graph.follow",
            "notifications: none"
        ])
    );
    // One repo cannot be had: the run is not complete, and says why.
    net.server.set(
        &net.dids[1],
        simnet::Answer::Repo(Arc::new(b"no CAR at all".to_vec())),
    );
    let db = TestDb::migrated();
    let output = run_load(&db.url).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        stderr(&output).contains("verdict: incomplete\n  1 repo failed"),
        "{}",
        told(&output)
    );
    assert_eq!(certificate(&db, "incomplete")["repos"]["failed"], 1);
    // Without a comparison there is no proof; who asked for none has what was asked for.
    let output = run_load(&db.url)
        .args(["--no-verify", "--retry-failed"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let db = TestDb::migrated();
    let two = did_file(dir.path(), &net.server.url(), [net.dids[0].as_str()]);
    let output = run_well(run_load(&db.url).arg(two).arg("--no-verify"));
    assert!(
        stderr(&output).contains("verdict: unverified"),
        "{}",
        told(&output)
    );
    let status = command(&db, &["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{}", told(&status));
}

#[test]
fn a_certificate_that_has_no_place_is_refused_before_the_work() {
    let net = Net::of_tangle(&simnet::Tangle::new(97, 3, 30));
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let missing = dir.path().join("missing").join("c.json");
    let output = run_load(&db.url)
        .arg(&file)
        .arg("--certificate")
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        stderr(&output).contains("hint: name a file in a writable folder"),
        "{}",
        told(&output)
    );
    assert_eq!(net.server.requests(), 0);
    let verify = command(&db, &["verify", "--all", "--certificate"])
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(3), "{}", told(&verify));
    let path = dir.path().join("c.json");
    run_well(run_load(&db.url).arg(&file).arg("--certificate").arg(&path));
    // Also when there is nothing to load.
    std::fs::remove_file(&path).unwrap();
    run_well(run_load(&db.url).arg("--certificate").arg(&path));
    let found: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(found["verdict"], "complete");
}
