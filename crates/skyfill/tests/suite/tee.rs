//! Files that follow the stream of records: the newest rows are the table `record`, and each
//! message is in the files once, whatever is killed.

use crate::export::{Row, files_ending, text};
use crate::follow::World;
use crate::records::{STREAM, follow_half, publish, records, run_later};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use testbed::*;

fn tee(server: &Nats, to: &Path) -> Command {
    let mut command = skyfill();
    command.arg("tee").arg(to);
    command.args(["--json", "--transport", &server.url()]);
    command
}

fn tee_all(server: &Nats, to: &Path, args: &[&str]) -> Value {
    let mut command = tee(server, to);
    summary(&run_well(command.arg("--until-read").args(args)))
}

/// All rows of all files.
fn rows(folder: &Path) -> Vec<Row> {
    let mut all = Vec::new();
    for path in files_ending(folder, ".parquet") {
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let columns = row.unwrap().into_columns().into_iter();
            all.push(columns.map(|(name, field)| (name, text(&field))).collect());
        }
    }
    all
}

fn number(row: &Row, column: &str) -> u64 {
    row[column].as_deref().unwrap().parse().unwrap()
}

/// Asserts that the folder has each message of the stream so far once, and that the newest rows are
/// the records of the table.
fn assert_has(folder: &Path, server: &Nats, db: &TestDb) {
    let rows = rows(folder);
    let sequences: BTreeSet<u64> = rows.iter().map(|row| number(row, "sequence")).collect();
    let info = server.ask(&format!("STREAM.INFO.{STREAM}"));
    let last = info["state"]["last_seq"].as_u64().unwrap();
    assert_eq!(sequences.len(), rows.len(), "a message is there twice");
    assert_eq!(sequences, (1..=last).collect());
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["through"], last);
    assert_eq!(manifest["rows"], rows.len());
    assert!(files_ending(folder, ".tmp").is_empty());
    let mut newest: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in &rows {
        let at = newest.entry(row["uri"].as_deref().unwrap()).or_insert(row);
        if number(row, "sequence") > number(at, "sequence") {
            *at = row;
        }
    }
    newest.retain(|_, row| row["operation"].as_deref() != Some("delete"));
    let sql = "SELECT r.uri, r.cid, r.json, r.\"indexedAt\", p.text FROM bsky.record r LEFT JOIN bsky.post p ON p.uri = r.uri";
    let stored = db.client().query(sql, &[]).unwrap();
    assert_eq!(newest.len(), stored.len());
    for record in &stored {
        let row = newest[record.get::<_, &str>(0)];
        for (at, column) in [(1, "cid"), (2, "record"), (3, "indexedAt")] {
            assert_eq!(row[column].as_deref(), Some(record.get(at)), "{row:?}");
        }
        if let Some(text) = record.get::<_, Option<&str>>(4) {
            assert_eq!(row["text"].as_deref(), Some(text), "{row:?}");
        }
    }
}

#[test]
fn the_newest_rows_are_the_table() {
    let world = World::new(2601);
    let (server, db, dir) = (Nats::start(""), TestDb::migrated(), folder());
    let to = dir.path().join("files");
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    let first = tee_all(&server, &to, &[]);
    assert_eq!(first["parts"], 1, "{first}");
    assert_has(&to, &server, &db);
    // What came, changed and went since.
    follow_half(&world, &db);
    run_later(&world, &db, &[1]);
    publish(&db, &server);
    let then = tee_all(&server, &to, &["--part-records", "100"]);
    assert!(then["parts"].as_u64().unwrap() > 2, "{then}");
    assert_has(&to, &server, &db);
    let operations: BTreeSet<Option<String>> = rows(&to)
        .iter()
        .map(|row| row["operation"].clone())
        .collect();
    assert_eq!(operations.len(), 3, "{operations:?}");
    // Nothing is left, and nothing comes twice.
    assert_eq!(tee_all(&server, &to, &[]), then);
    // A message that skyfill did not send is counted, and told of.
    server.publish("skyfill.records.com.example.a", &[], b"{\"version\":2}");
    let output = tee(&server, &to).arg("--until-read").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(summary(&output)["unknown"], 1);
    // Without the manifest of a part, nothing is taken for unfinished.
    let (manifest, away) = (to.join("parts/000001.json"), dir.path().join("away"));
    fs::rename(&manifest, &away).unwrap();
    let before = rows(&to).len();
    let output = tee(&server, &to).arg("--until-read").output().unwrap();
    assert!(
        told(&output).contains("000001.json: missing"),
        "{}",
        told(&output)
    );
    assert_eq!((output.status.code(), rows(&to).len()), (Some(3), before));
    fs::rename(&away, &manifest).unwrap();
    // Other collections, another form, or another stream of that name are no continuation.
    let refused = |args: &[&str], why: &str| {
        let output = tee(&server, &to).args(args).output().unwrap();
        assert!(told(&output).contains(why), "{}", told(&output));
        assert!(!output.status.success());
    };
    refused(&["--format", "jsonl"], "is of another stream, format");
    let deleted = server.ask(&format!("STREAM.DELETE.{STREAM}"));
    assert_eq!(deleted["success"], true);
    run_well(records(&db, &server).args(["--restart", "--until-published"]));
    refused(&[], "it is another stream than the one that was read");
}

/// Messages that are gone are told of, and do not pass for read.
#[test]
fn messages_that_are_gone_are_told_of() {
    let world = World::new(2602);
    let (server, db, dir) = (Nats::start(""), TestDb::migrated(), folder());
    let to = dir.path().join("files");
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    tee_all(&server, &to, &[]);
    run_later(&world, &db, &[]);
    publish(&db, &server);
    server.ask_with(&format!("STREAM.PURGE.{STREAM}"), "");
    let output = tee(&server, &to).arg("--until-read").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("are gone and were not read"), "{text}");
}

#[test]
fn kills_tear_no_file_and_repeat_no_message() {
    let world = World::new(2603);
    let (server, db, dir) = (Nats::start(""), TestDb::migrated(), folder());
    let to = dir.path().join("files");
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    for place in ["file=4", "part=1", "part-done=1", "file=1", "part-done=2"] {
        let mut killed = tee(&server, &to);
        killed.args(["--until-read", "--part-records", "150"]);
        let output = killed.env("SKYFILL_FAILPOINT", place).output().unwrap();
        assert_eq!(output.status.code(), None, "{place}: {}", told(&output));
    }
    tee_all(&server, &to, &["--part-records", "150"]);
    assert_has(&to, &server, &db);
}

/// Messages that stay until they are read stay until they are in the files, though the reader and
/// the server are killed.
#[test]
fn nothing_is_lost_of_messages_that_go_when_they_are_read() {
    let world = World::new(2604);
    let (mut server, db, dir) = (Nats::start(""), TestDb::migrated(), folder());
    let to = dir.path().join("files");
    let start = |server: &Nats| {
        let mut command = tee(server, &to);
        Watched::start(command.args(["--every", "1", "--part-records", "200"]))
    };
    let mut teeing = start(&server);
    teeing.wait_for("yet: waiting until skyfill records creates it");
    let mut publishing = Watched::start(records(&db, &server).arg("--nats-until-read"));
    teeing.wait_for("after message 0");
    world.serve(&world.earlier);
    world.run(&db);
    wait_until("files", || !files_ending(&to, ".parquet").is_empty());
    teeing.child.kill().unwrap();
    teeing.wait_for_end();
    run_later(&world, &db, &[]);
    let mut teeing = start(&server);
    teeing.wait_for("reading stream");
    server.kill();
    server.start_again();
    let unpublished = "SELECT count(*) FROM skyfill.unpublished";
    wait_until("an empty stream", || {
        let left: i64 = db.client().query_one(unpublished, &[]).unwrap().get(0);
        left == 0 && server.messages(STREAM) == 0
    });
    for process in [&mut teeing, &mut publishing] {
        signal(&process.child, "TERM");
        assert_eq!(process.wait_for_end(), Some(0), "{}", process.printed());
    }
    assert_has(&to, &server, &db);
    // Only one consumer is left of all that were created.
    let info = server.ask(&format!("STREAM.INFO.{STREAM}"));
    assert_eq!(info["state"]["consumer_count"], 1, "{info}");
}

/// With no other rights than those that the guide lists.
#[test]
fn the_rights_in_the_guide_are_enough() {
    let world = World::new(2606);
    let guide = pages::text_of("docs/how-to/records.md");
    let rights = guide.split("It needs these subjects").nth(1).unwrap();
    let rights = rights.split("\n\n").next().unwrap();
    let server = Nats::with_rights(rights);
    let (db, dir) = (TestDb::migrated(), folder());
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    for _ in 0..2 {
        let mut command = skyfill();
        command.arg("tee").arg(dir.path().join("files"));
        run_well(command.args(["--until-read", "--transport", &server.url_of_me()]));
    }
    assert_has(&dir.path().join("files"), &server, &db);
}

/// Lines are the messages.
#[test]
fn lines_are_the_messages() {
    let world = World::new(2605);
    let (server, db, dir) = (Nats::start(""), TestDb::migrated(), folder());
    let to = dir.path().join("files");
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    tee_all(
        &server,
        &to,
        &["--format", "jsonl", "--collections", "likes"],
    );
    let mut lines = Vec::new();
    for path in files_ending(&to, ".jsonl.zst") {
        let text = zstd::decode_all(File::open(path).unwrap()).unwrap();
        lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
    }
    let mut expected: Vec<String> = server
        .messages_after(STREAM, 0)
        .into_iter()
        .filter(|message| message.subject.ends_with(".app.bsky.feed.like"))
        .map(|message| String::from_utf8(message.content).unwrap())
        .collect();
    lines.sort();
    expected.sort();
    assert!(!lines.is_empty());
    assert_eq!(lines, expected);
}
