//! `skyfill plan` and `skyfill run --dry-run`: what they say without a database and with one,
//! before the first request, and beside what a real run takes.

use crate::network::{FAST, on, settings};
use serde_json::Value;
use simnet::{Network, Population};
use std::fs;
use std::process::{Command, Output};
use testbed::*;

fn plan(url: &str, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(["plan", "--json"]).args(args);
    command.env("BSKY_DB_POSTGRES_URL", url);
    command
}

fn total(plan: &Value) -> u64 {
    plan["seconds"].as_u64().unwrap()
}

fn phase<'p>(plan: &'p Value, name: &str) -> &'p Value {
    let mut phases = plan["phases"].as_array().unwrap().iter();
    phases.find(|phase| phase["phase"] == name).unwrap()
}

/// The tables of schema `skyfill`, if it is there.
fn tables_of_skyfill(db: &TestDb) -> i64 {
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'skyfill'";
    db.client().query_one(sql, &[]).unwrap().get(0)
}

/// The page about the full network shows what its command prints.
#[test]
fn the_page_about_the_full_network_is_of_today() {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/how-to/full-network.md"
    );
    let page = fs::read_to_string(page).unwrap();
    let (_, after) = page.split_once("```text\n").unwrap();
    let (shown, _) = after.split_once("```\n").unwrap();
    let mut lines = page.lines();
    let line = lines.find_map(|line| line.strip_prefix("skyfill plan "));
    let folder = folder();
    let mut command = skyfill();
    command.arg("plan").args(line.unwrap().split(' '));
    let output = command.current_dir(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
}

#[test]
fn without_a_database_it_is_the_full_network_and_nothing_is_made() {
    let folder = folder();
    let run = |args: &[&str]| -> Output {
        let mut command = skyfill();
        command.arg("plan").args(args).current_dir(folder.path());
        command.output().unwrap()
    };
    let large = ["--cores", "64", "--memory", "256GiB", "--disk", "100TiB"];
    let output = run(&[&large[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let found = summary(&output);
    assert_eq!(found["work"]["repos"], 45_000_000, "{found:#}");
    let load = phase(&found, "load");
    // 500,000 repos on the fullest host, at 10 requests per second.
    assert!(
        load["bounds"]["hosts"].as_u64().unwrap() > 50_000,
        "{load:#}"
    );
    let bytes = found["disk"]["bytesAtTheEnd"].as_u64().unwrap();
    assert!((30..60).contains(&(bytes / 1_000_000_000_000)), "{bytes}");
    // A disk that is too small is a "no".
    let output = run(&["--cores", "64", "--disk", "1TiB"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains(" too little"), "{}", told(&output));
    // A slow disk bounds it, and more cores help where they are what bounds it.
    let slow = summary(&run(
        &[&large[..], &["--json", "--disk-rate", "1MiB"]].concat()
    ));
    assert_eq!(phase(&slow, "verify")["boundBy"], "disk", "{slow:#}");
    let few = summary(&run(&["--json", "--cores", "4", "--disk", "100TiB"]));
    assert!(total(&few) > total(&found) && total(&slow) > total(&found));
    let refused = run(&["--cores", "4", "--measure-disk"]);
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let measured = run(&["--repos", "10", "--measure-disk", "--json"]);
    assert_eq!(measured.status.code(), Some(0), "{}", told(&measured));
    let rate = summary(&measured)["machine"]["diskBytesPerSecond"].as_u64();
    assert!(rate.is_some_and(|rate| rate > 1 << 20), "{rate:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_real_run_takes_the_bytes_that_it_says() {
    let (db, folder) = (TestDb::migrated(), folder());
    let population = Population::new(7, 50, 8000);
    let cars = folder.path().join("cars");
    fs::create_dir(&cars).unwrap();
    for account in 0..population.len() {
        let car = population.car(account);
        fs::write(cars.join(format!("{account}.car")), car).unwrap();
    }
    let mut load = run_load(&db.url);
    load.arg("--from-cars").arg(&cars);
    let records = summary(&run_well(&mut load))["records"].as_u64().unwrap();
    let (repos, all) = (population.len().to_string(), records.to_string());
    let args = ["--repos", &repos, "--records", &all, "--handles", "skip"];
    let found = summary(&run_well(&mut plan(&db.url, &args)));
    let bytes = "SELECT sum(pg_table_size(c.oid))::float8, sum(pg_indexes_size(c.oid))::float8 FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'bsky' AND c.relname = $1";
    let mut client = db.client();
    let (mut predicted, mut measured) = ([0.0; 2], [0.0; 2]);
    for table in found["disk"]["tables"].as_array().unwrap() {
        let name = table["table"].as_str().unwrap();
        if name.starts_with("skyfill.") {
            continue;
        }
        let row = client.query_one(bytes, &[&name]).unwrap();
        for (at, key) in ["heapBytes", "indexBytes"].into_iter().enumerate() {
            predicted[at] += table[key].as_f64().unwrap();
            measured[at] += row.get::<_, f64>(at);
        }
    }
    // At a hundredth of the smallest size that the costs were measured at, pages that are not full
    // weigh more: `bench costs` holds it to a tenth.
    for at in 0..2 {
        let ratio = predicted[at] / measured[at];
        assert!(
            (0.8..1.25).contains(&ratio),
            "{ratio}: {predicted:?}, {measured:?}, {found:#}"
        );
    }
    // Nothing is pending, and without a number there is nothing to plan.
    let nothing = run_well(&mut plan(&db.url, &[]));
    assert!(
        told(&nothing).contains("nothing is pending"),
        "{}",
        told(&nothing)
    );
}

#[test]
fn a_dry_run_ends_before_the_first_request_and_changes_nothing() {
    let network = Network::start(settings(77, 12, 2));
    let (db, folder) = (TestDb::migrated(), folder());
    let mut lines: Vec<String> = network
        .dids()
        .into_iter()
        .map(|(did, pds)| format!("[\"{did}\",\"{pds}\"]\n"))
        .collect();
    lines.push("nonsense\n".to_owned());
    let file = folder.path().join("dids.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    network.reset_counts();
    let mut command = on(&network, &db, "run");
    command.args(FAST).arg("--dry-run").arg(&file);
    let found = summary(&run_well(&mut command));
    assert_eq!(found["work"]["repos"], network.dids().len(), "{found:#}");
    assert_eq!(found["work"]["hosts"], 2, "{found:#}");
    let requests: u64 = network.counts().iter().map(|host| host.requests).sum();
    assert_eq!((requests, tables_of_skyfill(&db)), (0, 0));
    // A page for people, with the settings of the tests' server that could be better.
    let mut command = skyfill();
    command.arg("run").arg(&file).arg("--dry-run");
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    let page = told(&run_well(&mut command));
    for said in [
        "\ntotal ",
        "\nmax_wal_size: 512 MiB; ",
        "\n  -> ALTER SYSTEM SET max_wal_size",
        " free at ",
        "costs per record: measured on ",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // What the ledger has as pending is planned without an argument.
    let mut discover = on(&network, &db, "discover");
    discover.args(["--relay", &network.relay_url()]);
    discover.output().unwrap();
    let found = summary(&run_well(&mut plan(&db.url, &[])));
    assert_eq!(found["work"]["basis"], "ledger", "{found:#}");
    assert!(found["work"]["repos"].as_u64().unwrap() > 0, "{found:#}");
}

#[test]
fn a_run_for_which_the_disk_is_clearly_too_small_stops_before_the_first_request() {
    let db = TestDb::migrated();
    // No machine that runs tests has tens of terabytes free. Nobody can be asked in any case.
    let mut command = skyfill();
    command.args(["run", "--discover", "--dns-server", "127.0.0.1:9"]);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(variable, "http://127.0.0.1:9");
    }
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    let output = command.output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    for said in [
        "estimate for 45,000,000 repos on 3,200 hosts",
        "estimate of the time: ",
        "error: the disk of the database has ",
        "--force; what takes how much: skyfill plan",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}
