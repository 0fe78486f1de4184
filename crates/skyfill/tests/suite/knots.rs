//! Fifty generated networks in which records are duplicates of each other, reply in circles, are
//! ruled by gates, and hold what JSON does not keep: the proof finds nothing wrong with their
//! tables, whatever the order in which they were loaded.

use std::process::Command;
use testbed::*;

const NETWORKS: u64 = 50;

/// All of them on one PDS; their accounts are their own.
fn networks() -> Net {
    let cars = (0..NETWORKS).flat_map(|seed| {
        let tangle = simnet::Tangle::knotted(seed, 5, 80);
        let cars = tangle.dids().map(|did| (did.to_owned(), tangle.car(did)));
        cars.collect::<Vec<_>>()
    });
    Net::of_cars(cars)
}

/// A run of these accounts, to its proof.
fn load<'d>(db: &TestDb, net: &Net, dids: impl IntoIterator<Item = &'d str>, args: &[&str]) {
    let dir = folder();
    let file = did_file(dir.path(), &net.server.url(), dids);
    let output = run_well(run_load(&db.url).arg(file).args(args));
    assert_eq!(summary(&output)["differences"], 0, "{}", told(&output));
}

#[test]
fn the_proof_is_right_about_fifty_knotted_networks_in_any_order() {
    let net = networks();
    let fresh = TestDb::migrated();
    load(
        &fresh,
        &net,
        net.dids.iter().map(String::as_str),
        &["--mode", "fresh"],
    );
    let irreversible: i64 = fresh
        .client()
        .query_one(
            "SELECT count(*) FROM bsky.record r JOIN bsky.duplicate_record d ON d.\"duplicateOf\" = r.uri
             WHERE r.json LIKE '%\"odd\":3%' OR r.json LIKE '%\"odd\":{%'",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(
        irreversible > 50,
        "{irreversible} duplicates of records that JSON does not keep"
    );
    let merged = TestDb::migrated();
    let mut random = simnet::Random::new(50);
    let mut shuffled: Vec<&str> = net.dids.iter().map(String::as_str).collect();
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, random.index(at + 1));
    }
    for part in shuffled.chunks(shuffled.len().div_ceil(3)) {
        let args = [
            "--mode",
            "merge",
            "--max-db-connections",
            "3",
            "--threads",
            "3",
        ];
        load(&merged, &net, part.iter().copied(), &args);
    }
    assert_eq!(difference(&merged.dump(), &fresh.dump()), None);
    // On its own, with a word for the whole.
    let output = verify(&merged, &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(summary(&output)["verdict"], "complete");
}

fn verify(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(["verify", "--all"]).args(args);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}
