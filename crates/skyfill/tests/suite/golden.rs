//! Real repos and adversarial ones from an HTTP server through producer, sockets, consumer,
//! identities and finalize, judged by what the official indexer wrote: every row of every table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use testbed::*;

/// A network of the corpus.
struct Golden {
    net: Net,
    tables: BTreeMap<String, Vec<String>>,
}

/// Whether a table is compared. Which migrations ran says nothing of repos, and newer official
/// versions add some; `migrate.rs` and `drift.rs` prove them.
fn is_compared(table: &str) -> bool {
    table != "kysely_migration"
}

/// The rows of a folder of golden tables.
fn tables(dir: &Path) -> BTreeMap<String, Vec<String>> {
    fs::read_dir(dir)
        .expect("golden tables")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .map(|path| {
            let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).expect("rows");
            (
                table.clone(),
                masked(&table, text.lines().map(str::to_owned)),
            )
        })
        .filter(|(table, _)| is_compared(table))
        .collect()
}

/// Rows without ids, and without what the official indexer takes from the clock: the time of a
/// profile without one.
fn masked(table: &str, rows: impl Iterator<Item = String>) -> Vec<String> {
    canonical(rows.map(|row| {
        let mut value: serde_json::Value = serde_json::from_str(&row).expect("JSON");
        let object = value.as_object_mut().expect("a row");
        match table {
            "profile" => drop(object.remove("createdAt")),
            "notification" | "kysely_migration_lock" => drop(object.remove("id")),
            _ => {}
        }
        value.to_string()
    }))
}

/// The 32 repos of a devnet, or 24 in which everything collides.
fn network(name: &str) -> Golden {
    let dir = material(name);
    let cars = fs::read_dir(dir.join("cars"))
        .expect("cars")
        .map(|entry| fs::read(entry.expect("entry").path()).expect("car"));
    let net = Net::of_cars(cars.map(|car| (did_of(&car), car)));
    for entry in fs::read_dir(dir.join("diddocs")).expect("documents") {
        let document = fs::read_to_string(entry.expect("entry").path()).expect("a document");
        let did = serde_json::from_str::<serde_json::Value>(&document).expect("JSON")["id"].clone();
        net.set_document(did.as_str().expect("an id"), &document);
    }
    let handles = fs::read_to_string(dir.join("handles.json")).expect("handles");
    let handles: BTreeMap<String, String> = serde_json::from_str(&handles).expect("handles");
    // Of two that claim a handle, it leads to the first.
    for (did, handle) in handles.iter().rev() {
        net.set_handle(handle, did);
    }
    let unpacked = folder();
    let packed = dir.join("tables.tar.gz");
    let tables_dir = if packed.exists() {
        let status = Command::new("tar")
            .arg("xzf")
            .arg(packed)
            .arg("-C")
            .arg(unpacked.path())
            .status();
        assert!(status.expect("tar").success());
        unpacked.path().join("tables")
    } else {
        dir.join("tables")
    };
    Golden {
        net,
        tables: tables(&tables_dir),
    }
}

/// The complete version 3 repos of the corpus. Their golden tables were made without handles, so
/// none leads anywhere here.
fn corpus() -> Golden {
    let dir = shared("corpus/cars");
    let tables_dir = shared("oracle/golden/corpus-tables");
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
    let net = Net::of_cars(cars.map(|car| (did_of(&car), car)));
    for did in &net.dids {
        let document = simnet::document(did, "nowhere.example.com", &net.server.url());
        net.set_document(did, &document);
    }
    Golden {
        net,
        tables: tables(&tables_dir),
    }
}

fn did_of(car: &[u8]) -> String {
    let (root, index) = atrepo::BlockIndex::build(car).expect("a CAR");
    atrepo::Commit::parse(index.get(&root).expect("the commit"))
        .expect("a commit")
        .did
}

/// Loads the repos twice and compares all tables each time.
fn check(golden: &Golden, sockets: usize, consumer_args: &[&str]) {
    let db = TestDb::migrated();
    let dir = folder();
    for round in ["first", "second"] {
        golden
            .net
            .load(&db, dir.path(), &golden.net.dids, sockets, consumer_args);
        run_well(&mut golden.net.identities(&db));
        run_well(&mut finalize(&db));
        let dump = db
            .dump()
            .into_iter()
            .filter(|(table, _)| is_compared(table))
            .map(|(table, rows)| (table.clone(), masked(&table, rows.into_iter())))
            .collect();
        if let Some(difference) = difference(&dump, &golden.tables) {
            panic!("{round} round: {difference}");
        }
    }
}

needs_shared! {
    fn corpus_over_one_socket() {
        check(&corpus(), 1, &[]);
    }

    fn corpus_over_three_sockets_and_several_connections_in_odd_batches() {
        let args = [
            "--max-db-connections",
            "3",
            "--batch-size",
            "7",
            "--transaction-size",
            "100",
        ];
        check(&corpus(), 3, &args);
    }
}

#[test]
fn devnet_over_one_socket() {
    check(&network("devnet"), 1, &[]);
}

#[test]
fn devnet_over_three_sockets() {
    check(&network("devnet"), 3, &["--batch-size", "1"]);
}

#[test]
fn adversarial_network_over_one_socket() {
    check(&network("advnet-1"), 1, &[]);
}

#[test]
fn adversarial_network_over_three_sockets_and_eight_connections() {
    check(
        &network("advnet-1"),
        3,
        &["--max-db-connections", "8", "--batch-size", "3"],
    );
}

#[cfg(feature = "pg-native")]
#[test]
fn devnet_through_libpq() {
    check(&network("devnet"), 1, &["--pg-native"]);
}
