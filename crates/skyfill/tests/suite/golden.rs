//! Real repos from an HTTP server through producer, sockets and consumer, judged by what the official indexer wrote.
//!
//! Set aside by name: what needs rows of other repos (built later, by `finalize`), and accounts, which the line form
//! does not carry.

use crate::support::*;
use simnet::{Answer, Server};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Tables that are relational, or of accounts, or of the migrator.
const TABLES_SET_ASIDE: &[&str] = &[
    "post_agg",
    "profile_agg",
    "actor",
    "actor_sync",
    "kysely_migration",
    "kysely_migration_lock",
];
/// Columns of `post` that are relational.
const COLUMNS_SET_ASIDE: &[&str] = &[
    "invalidReplyRoot",
    "violatesThreadGate",
    "violatesEmbeddingRules",
    "hasThreadGate",
    "hasPostGate",
];
/// Reasons of `notification` that are relational.
const REASONS_SET_ASIDE: &[&str] = &["quote", "reply"];

/// What remains of the rows of `table`. A profile without createdAt got the clock in the golden tables.
fn set_aside(table: &str, rows: impl Iterator<Item = String>) -> Vec<String> {
    canonical(rows.filter_map(|row| {
        let mut value: serde_json::Value = serde_json::from_str(&row).expect("JSON");
        let object = value.as_object_mut().expect("a row");
        match table {
            "post" => COLUMNS_SET_ASIDE
                .iter()
                .for_each(|column| drop(object.remove(*column))),
            "profile" => drop(object.remove("createdAt")),
            "notification" if REASONS_SET_ASIDE.contains(&object["reason"].as_str()?) => return None,
            _ => {}
        }
        Some(value.to_string())
    }))
}

/// The 32 repos of a devnet, or the complete version 3 repos of the corpus: DID and CAR.
fn repos(devnet: bool) -> Option<Vec<(String, Vec<u8>)>> {
    if devnet {
        let dir = shared("oracle/golden/devnet/cars")?;
        let cars = fs::read_dir(dir)
            .expect("cars")
            .map(|entry| fs::read(entry.expect("entry").path()).expect("car"));
        return Some(cars.map(|car| (did_of(&car), car)).collect());
    }
    let dir = shared("corpus/cars")?;
    let names = [
        "shrike-calabro",
        "phpcar-repo",
        "indigo-bnewbold-robocracy",
        "rsky-valid_repo",
        "arroba-snarfed2",
        "repostream-little",
        "repostream-tiny",
        "repostream-empty",
        "indigo-greenground",
    ];
    let cars = names
        .iter()
        .map(|name| fs::read(dir.join(format!("{name}.car"))).expect("car"));
    Some(cars.map(|car| (did_of(&car), car)).collect())
}

fn did_of(car: &[u8]) -> String {
    let (root, index) = atrepo::BlockIndex::build(car).expect("a CAR");
    atrepo::Commit::parse(index.get(&root).expect("the commit"))
        .expect("a commit")
        .did
}

fn golden(dir: &Path) -> BTreeMap<String, Vec<String>> {
    fs::read_dir(dir)
        .expect("golden tables")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .map(|path| {
            let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).expect("rows");
            let rows = set_aside(&table, text.lines().map(str::to_owned));
            (table, rows)
        })
        .collect()
}

/// Loads the repos, twice, and compares.
fn check(devnet: bool, sockets: usize, consumer_args: &[&str]) {
    let tables = if devnet {
        "oracle/golden/devnet/tables"
    } else {
        "oracle/golden/corpus-tables"
    };
    let (Some(repos), Some(tables)) = (repos(devnet), shared(tables)) else {
        return;
    };
    let db = TestDb::migrated();
    let dir = folder();
    let server = Server::start(HashMap::new());
    for (did, car) in &repos {
        server.set(did, Answer::Repo(Arc::new(car.clone())));
    }
    let dids = did_file(
        dir.path(),
        &server.url(),
        repos.iter().map(|(did, _)| did.as_str()),
    );
    let consumers: Vec<Consumer> = (0..sockets)
        .map(|n| Consumer::start(&db.url, dir.path(), &format!("s{n}"), consumer_args))
        .collect();
    let paths: Vec<&Path> = consumers.iter().map(|c| c.socket.as_path()).collect();
    let mut first = None;
    for round in ["first", "second"] {
        let output = producer(dir.path(), &dids, &paths)
            .output()
            .expect("run the producer");
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(summary(&output)["sent"], repos.len(), "{}", told(&output));
        let dump = db.dump();
        let expected = golden(&tables);
        for (table, rows) in &dump {
            if TABLES_SET_ASIDE.contains(&table.as_str()) {
                continue;
            }
            let rows = set_aside(table, rows.iter().cloned());
            let expected = &expected[table];
            let differing = || {
                let ours: Vec<_> = rows
                    .iter()
                    .filter(|row| !expected.contains(row))
                    .take(3)
                    .collect();
                let theirs: Vec<_> = expected
                    .iter()
                    .filter(|row| !rows.contains(row))
                    .take(3)
                    .collect();
                format!("{table}, {round} round: only ours {ours:#?}, only theirs {theirs:#?}")
            };
            assert!(rows == *expected, "{}", differing());
        }
        let first = first.get_or_insert_with(|| dump.clone());
        assert!(*first == dump, "the {round} round changed something");
    }
    for consumer in consumers {
        let log = consumer.log();
        // The official indexer refuses three records of the devnet, and so does the consumer, twice.
        let code = consumer.stop();
        assert!(code == Some(0) || (devnet && code == Some(1)), "{code:?} {log}");
    }
}

#[test]
fn corpus_over_one_socket() {
    check(false, 1, &[]);
}

#[test]
fn corpus_over_three_sockets() {
    check(false, 3, &[]);
}

#[test]
fn corpus_over_several_connections_in_odd_batches() {
    check(
        false,
        1,
        &[
            "--max-db-connections",
            "3",
            "--batch-size",
            "7",
            "--transaction-size",
            "100",
        ],
    );
}

#[test]
fn devnet_over_one_socket() {
    check(true, 1, &[]);
}

#[test]
fn devnet_over_three_sockets() {
    check(true, 3, &["--batch-size", "1"]);
}

#[cfg(feature = "pg-native")]
#[test]
fn devnet_through_libpq() {
    check(true, 1, &["--pg-native"]);
}
