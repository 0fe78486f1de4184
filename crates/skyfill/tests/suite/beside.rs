//! Loading beside discovery: it begins with the first page, whatever other hosts do, and goes on
//! as the same load after a stop.

use crate::trust::{
    DID, Host, assert_loaded_alone, directory, forged, ledger_of, lives_on, repo, rev, texts,
};
use simnet::{Gate, Server};
use std::process::Command;
use testbed::*;

/// An account of the host whose list does not come.
const LATE: &str = "did:plc:late";

/// A run over these hosts, patient enough for one that keeps its list back.
fn run_over(db: &TestDb, directory: &Server, hosts: &[&Host]) -> Command {
    let mut run = skyfill();
    run.args(["run", "--json", "--allow-private-hosts", "--now", NOW]);
    run.args(["--relay", "http://127.0.0.1:9", "--max-attempts", "1"]);
    run.args(["--plc-url", &directory.url(), "--plc-rate", "5000"]);
    run.args(["--host-rate", "5000", "--timeout", "60"]);
    run.args(["--stall-timeout", "60", "--straggler-grace", "60"]);
    for host in hosts {
        run.args(["--pds", &host.url()]);
    }
    run.env("BSKY_DB_POSTGRES_URL", &db.url);
    run
}

/// Keeps the list of a host back until the gate is open.
fn keep_list_back(host: &Host, cars: &[(&str, Vec<u8>)]) -> Gate {
    let gate = Gate::default();
    gate.close();
    host.serves(cars);
    host.server.set("", Host::list(cars).behind(&gate));
    gate
}

fn wait_until_loaded(db: &TestDb, did: &str) {
    let mut client = db.client();
    wait_until("a repo is loaded", || {
        let sql = "SELECT count(*) FROM skyfill.repo WHERE did = $1 AND state = 'loaded'";
        // The ledger is made by the run.
        let loaded = client.query_one(sql, &[&did]);
        loaded.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    });
}

/// A good host, and one that keeps its list back until the gate is open.
struct Scene {
    db: TestDb,
    good: Host,
    slow: Host,
    gate: Gate,
    directory: Server,
}

impl Scene {
    fn new() -> Self {
        let good = Host::of(&[(DID, repo(DID, &rev(3), "first"))]);
        let late = [(LATE, repo(LATE, &rev(3), "late"))];
        let slow = Host::of(&late);
        let gate = keep_list_back(&slow, &late);
        let directory = directory(&[DID], &good);
        lives_on(&directory, LATE, &slow);
        Self {
            db: TestDb::migrated(),
            good,
            slow,
            gate,
            directory,
        }
    }

    /// A run over both, once the good host's repo is loaded.
    fn run(&self) -> Watched {
        let mut run = run_over(&self.db, &self.directory, &[&self.slow, &self.good]);
        let run = Watched::start(run.args(["--handles", "claimed"]));
        wait_until_loaded(&self.db, DID);
        run
    }
}

#[test]
fn a_host_that_keeps_its_list_back_keeps_no_other_repo_waiting() {
    let scene = Scene::new();
    let run = scene.run();
    scene.gate.open();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(texts(&scene.db), ["first", "late"], "{said}");
}

/// The line that it prints continues the pass and the load, without a merge of the rest.
#[test]
fn a_stop_in_a_pass_is_continued_as_the_same_load() {
    let scene = Scene::new();
    let db = &scene.db;
    let run = scene.run();
    signal(&run.child, "TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("stopped; continue with: skyfill run --json\n"),
        "{said}"
    );
    scene.gate.open();
    let mut run = skyfill();
    run.args(["run", "--json"]);
    let output = run_well(run.env("BSKY_DB_POSTGRES_URL", &db.url));
    assert_eq!(texts(db), ["first", "late"], "{}", told(&output));
    let ended = summary(&output);
    assert_eq!(
        (&ended["run"], &ended["mode"], &ended["differences"]),
        (&1.into(), &"fresh".into(), &0.into()),
        "{ended}"
    );
    // The pass is over: nothing of where it looked is left for later commands.
    let mut run = skyfill();
    run.args(["run", "--json"]);
    let output = run_well(run.env("BSKY_DB_POSTGRES_URL", &db.url));
    assert!(!told(&output).contains("--pds"), "{}", told(&output));
}

/// Who lists somebody else's account first has it loaded, and is found out in the same run.
#[test]
fn a_claim_that_comes_first_does_not_stay() {
    for handles in ["claimed", "skip"] {
        let db = TestDb::migrated();
        let car = repo(DID, &rev(3), "true");
        let evil = Host::of(&[(DID, forged(DID, &rev(9), "forged"))]);
        let good = Host::of(&[(DID, car.clone())]);
        let gate = keep_list_back(&good, &[(DID, car.clone())]);
        let directory = directory(&[DID], &good);
        let mut run = run_over(&db, &directory, &[&evil, &good]);
        let run = Watched::start(run.args(["--handles", handles]));
        wait_until_loaded(&db, DID);
        assert_eq!(texts(&db), ["forged"], "{handles}");
        gate.open();
        let (code, said) = run.end();
        assert_eq!(code, Some(0), "{handles}: {said}");
        assert_eq!(texts(&db), ["true"], "{handles}: {said}");
        let (state, host, proof, _) = ledger_of(&db, DID);
        assert_eq!(
            (state.as_str(), host, proof.as_deref()),
            ("loaded", good.name(), Some("signed")),
            "{handles}"
        );
        if handles == "claimed" {
            assert_loaded_alone(&db, &directory, &car, handles);
        }
    }
}

/// A line of the export that says what a document says.
fn operation(did: &str, handle: &str, host: &Host, at: &str) -> String {
    let document = simnet::document(did, handle, &host.url());
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let key = document["verificationMethod"][0]["publicKeyMultibase"].as_str();
    let key = format!("did:key:{}", key.unwrap());
    serde_json::json!({"did": did, "cid": "c", "nullified": false, "createdAt": at, "operation": {
        "type": "plc_operation", "alsoKnownAs": [format!("at://{handle}")],
        "verificationMethods": {"atproto": key},
        "services": {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": host.url()}}}})
    .to_string()
}

/// The directory has the documents in its export and nowhere else. They are read while repos are
/// loaded, those of accounts that nobody has listed yet, too.
#[test]
fn documents_come_from_the_export_while_repos_are_loaded() {
    let db = TestDb::migrated();
    let good = Host::of(&[(DID, repo(DID, &rev(3), "first"))]);
    let late = [(LATE, repo(LATE, &rev(3), "late"))];
    let slow = Host::of(&late);
    let gate = keep_list_back(&slow, &late);
    let directory = directory(&[], &good);
    let lines = [
        operation(DID, "first.test", &good, "t1"),
        operation(LATE, "late.test", &slow, "t2"),
    ];
    directory.set("export ", simnet::Answer::text(lines.join("\n")));
    directory.set("export t2", simnet::Answer::text(""));
    let mut run = run_over(&db, &directory, &[&slow, &good]);
    run.args(["--handles", "claimed", "--documents", "export"]);
    let run = Watched::start(&mut run);
    wait_until_loaded(&db, DID);
    let mut client = db.client();
    let count = |client: &mut postgres::Client, sql: &str| -> i64 {
        client.query_one(sql, &[]).unwrap().get(0)
    };
    let documents = "SELECT count(*) FROM skyfill.identity WHERE document = 'good'";
    wait_until("both documents are there", || {
        count(&mut client, documents) == 2
    });
    let loading = "SELECT count(*) FROM skyfill.run WHERE phase = 'load'";
    assert_eq!(count(&mut client, loading), 1);
    gate.open();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    let handles = "SELECT string_agg(handle, ' ' ORDER BY handle) FROM bsky.actor";
    let handles: Option<String> = client.query_one(handles, &[]).unwrap().get(0);
    assert_eq!(handles.as_deref(), Some("first.test late.test"), "{said}");
    for did in [DID, LATE] {
        let (_, _, proof, _) = ledger_of(&db, did);
        assert_eq!(proof.as_deref(), Some("signed"), "{did}: {said}");
    }
    // None was asked for by itself.
    let single = "SELECT count(*) FROM skyfill.identity WHERE documented_at IS NOT NULL";
    assert_eq!(count(&mut client, single), 0, "{said}");
}
