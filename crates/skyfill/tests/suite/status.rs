//! `skyfill status`: who works, what failed and what helps, and that a restart does what it says.

use serde_json::Value;
use std::process::{Command, Output};
use testbed::*;

fn on(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

fn status(db: &TestDb) -> Value {
    let output = on(db, &["status", "--json"]).output().unwrap();
    summary(&output)
}

fn text_of(db: &TestDb, args: &[&str]) -> String {
    let output = on(db, args).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value}: a number"))
}

/// Runs `command` until it passes a failpoint and is gone as by `kill -9`.
fn killed_at(command: &mut Command, failpoint: &str) {
    let output = command
        .env("SKYFILL_FAILPOINT", failpoint)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), None, "{failpoint}: {}", told(&output));
}

struct Scene {
    net: Net,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            net: Net::of_tangle(&simnet::Tangle::new(17, 24, 1500)),
            dir: folder(),
        }
    }

    fn run(&self, db: &TestDb) -> Command {
        let dids = self.net.dids.iter().map(String::as_str);
        let file = did_file(self.dir.path(), &self.net.server.url(), dids);
        let mut command = run_load(&db.url);
        command.arg(file).args(["--concurrency", "2"]);
        command
    }
}

/// The line that a run begins with says where it goes on.
fn assert_goes_on(output: &Output, restart: &Value) {
    let line = format!(
        "continuing run {} of {NOW}, a fresh load, in phase {}",
        restart["continuesRun"],
        restart["phase"].as_str().unwrap()
    );
    assert!(said(output).contains(&line), "{line}\n{}", told(output));
}

/// Killed in each phase: what `status` says of a restart is what the restart does.
#[test]
fn a_restart_does_what_status_says() {
    let scene = Scene::new();
    let undisturbed = TestDb::migrated();
    run_well(&mut scene.run(&undisturbed));
    let places = [
        "begun=1",
        "commit=1",
        "committed=1",
        "phase=1",
        "rebuild=3",
        "rebuild=20",
        "phase=2",
        "phase=3",
        "slice=1",
        "slice=3",
        "compare=1",
    ];
    for place in places {
        let db = TestDb::migrated();
        killed_at(&mut scene.run(&db), place);
        wait_until("the end of its sessions", || {
            status(&db)["processes"][0]["alive"] == false
        });
        let before = status(&db);
        let restart = &before["restart"];
        assert_eq!(restart["command"], "skyfill run", "{place}: {before}");
        assert_eq!(before["processes"][0]["endedAt"], Value::Null, "{place}");
        let promised = text_of(&db, &["status"]);
        assert!(promised.contains("on restart  skyfill run\n"), "{promised}");
        assert!(
            promised.contains("was killed or lost its connection"),
            "{promised}"
        );
        let (requests, loaded) = (scene.net.server.requests(), number(&restart["keeps"]));
        let output = on(&db, &["run", "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{place}: {}", told(&output));
        assert_goes_on(&output, restart);
        // What is pending is fetched, once each, and nothing else.
        let fetched = scene.net.server.requests() - requests;
        let fetches = number(&restart["fetches"]) + number(&restart["retries"]);
        assert_eq!(fetched, fetches, "{place}: {before}");
        let all = scene.net.dids.len() as u64;
        assert_eq!(loaded + fetches, all, "{place}: {before}");
        // Of the phases, those that were named.
        let after = status(&db);
        let process = after["processes"][0]["id"].clone();
        let phases = after["phases"].as_array().unwrap().iter();
        let of_restart: Vec<&str> = phases
            .filter(|phase| phase["process"] == process && phase["seconds"] != 0.0)
            .map(|phase| phase["phase"].as_str().unwrap())
            .collect();
        let mut promised = vec![restart["phase"].as_str().unwrap()];
        let then = restart["then"].as_array().unwrap().iter();
        promised.extend(then.map(|phase| phase.as_str().unwrap()));
        assert_eq!(of_restart, promised, "{place}");
        assert_eq!(after["verdict"], "complete", "{place}");
        assert_eq!(after["droppedIndexes"], 0, "{place}");
        assert!(
            difference(&undisturbed.dump(), &db.dump()).is_none(),
            "{place}"
        );
    }
}

/// Slices of finalize that are done are not done again.
#[test]
fn finalize_keeps_the_slices_that_status_counts() {
    let scene = Scene::new();
    let db = TestDb::migrated();
    killed_at(&mut scene.run(&db), "slice=2");
    let restart = status(&db)["restart"].clone();
    let (done, planned) = (
        number(&restart["slicesDone"]),
        number(&restart["slicesPlanned"]),
    );
    assert!(done >= 1, "{restart}");
    let output = on(&db, &["run", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = said(&output);
    assert!(
        text.contains("continuing where the last run stopped"),
        "{text}"
    );
    assert!(planned >= done);
}

/// While a run works, others see who it is and how far; when it was killed, that it was.
#[test]
fn others_see_who_works_and_that_it_was_killed() {
    let population = simnet::Population::new(5, 12, 3_000);
    let gate = simnet::Gate::default();
    let server = simnet::Server::start(std::collections::HashMap::new());
    let dids: Vec<String> = (0..population.len()).map(|n| population.did(n)).collect();
    for (account, did) in dids.iter().enumerate() {
        let repo = simnet::Answer::Repo(std::sync::Arc::new(population.car(account)));
        let is_last = account == dids.len() - 1;
        server.set(did, if is_last { repo.behind(&gate) } else { repo });
    }
    gate.close();
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(dir.path(), &server.url(), dids.iter().map(String::as_str));
    let mut running = Watched::start(run_load(&db.url).arg(file));
    running.wait_for("a fresh load");
    wait_until("a sample of all but one repo", || {
        status(&db)["repos"]["loaded"] == (dids.len() - 1) as u64
    });
    wait_until("its phase", || {
        status(&db)["processes"][0]["phase"] == "load"
    });
    let found = status(&db);
    let process = &found["processes"][0];
    assert_eq!(process["alive"], true, "{found}");
    assert_eq!(process["command"], "skyfill run");
    assert_eq!(process["pid"], running.child.id());
    assert_eq!(process["run"], found["run"]["id"]);
    assert_eq!(found["progress"]["total"], dids.len() as u64);
    let text = text_of(&db, &["status"]);
    assert!(text.contains("works since"), "{text}");
    assert!(text.contains("1 pending"), "{text}");
    // Twice, then it is told to stop.
    let mut watching = Watched::start(&mut on(&db, &["status", "--watch", "1", "--json"]));
    watching.wait_for("}\n{");
    signal(&watching.child, "TERM");
    assert_eq!(watching.end().0, Some(0));
    running.child.kill().unwrap();
    gate.open();
    wait_until("the end of its session", || {
        status(&db)["processes"][0]["alive"] == false
    });
    let text = text_of(&db, &["status"]);
    assert!(text.contains("was killed or lost its connection"), "{text}");
}

/// Failures by reason with what helps, one host, one account.
#[test]
fn failures_hosts_and_accounts_are_shown_one_by_one() {
    let net = Net::of_tangle(&simnet::Tangle::new(19, 6, 100));
    let [refused, broken, ..] = net.dids.as_slice() else {
        panic!("six accounts");
    };
    net.server
        .set(refused, simnet::Answer::error(400, "NoSuchThing"));
    net.server.set(broken, simnet::Answer::text("no repo"));
    let (db, dir) = (TestDb::migrated(), folder());
    let dids = net.dids.iter().map(String::as_str);
    let file = did_file(dir.path(), &net.server.url(), dids);
    let mut command = run_load(&db.url);
    let output = command
        .arg(file)
        .args(["--max-attempts", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        said(&output).contains("next: skyfill status --failed"),
        "{}",
        told(&output)
    );
    let failed = on(&db, &["status", "--failed", "--json"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let failed = summary(&failed)["failed"].clone();
    let groups = failed.as_array().unwrap();
    assert_eq!(groups.len(), 2, "{failed}");
    for group in groups {
        assert_eq!(
            (group["repos"].clone(), group["hosts"].clone()),
            (1.into(), 1.into())
        );
        assert!(group["helps"].as_str().unwrap().len() > 10, "{group}");
        let did = group["examples"][0]["did"].as_str().unwrap();
        assert!(
            [refused, broken].map(String::as_str).contains(&did),
            "{group}"
        );
    }
    let text = text_of(&db, &["status", "--failed"]);
    assert!(
        text.contains("  helps    ") && text.contains(refused),
        "{text}"
    );
    let address = net.server.url().replace("http://", "");
    let host = summary(
        &on(&db, &["status", "--host", &address, "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        (number(&host["given"]), number(&host["failed"])),
        (4, 2),
        "{host}"
    );
    assert_eq!(host["failures"].as_array().unwrap().len(), 2);
    assert!(text_of(&db, &["status", "--host", &address]).contains("4 repos with"));
    let account = on(&db, &["status", "--did", refused, "--json"])
        .output()
        .unwrap();
    let account = summary(&account);
    assert_eq!(account["repo"]["state"], "failed", "{account}");
    assert!(account["repo"]["helps"].is_string(), "{account}");
    assert!(text_of(&db, &["status", "--did", refused]).contains("helps"));
    for args in [["--host", "nowhere.example"], ["--did", "did:plc:nobody"]] {
        let output = on(&db, &["status", args[0], args[1]]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    }
}
