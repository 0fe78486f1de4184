//! Handles that are stored as claimed and verified later: the rows of `actor` at the end are those
//! that verifying them at once gives, whatever happens in between.

use crate::network::{FAST, on_with, settings};
use simnet::{Answer, Fault, Network, NetworkSettings};
use std::process::Command;
use testbed::*;

fn count(db: &TestDb, sql: &str) -> i64 {
    db.client().query_one(sql, &[]).unwrap().get(0)
}

/// Accounts whose handle is in this state.
fn handles(db: &TestDb, state: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM skyfill.identity WHERE handle = '{state}'");
    count(db, &sql)
}

fn actors(db: &TestDb) -> Vec<String> {
    db.dump()["actor"].clone()
}

/// The versions of the rows of `actor`: they change with each write.
fn versions(db: &TestDb) -> Vec<String> {
    let sql = "SELECT did || ' ' || xmin FROM bsky.actor ORDER BY did";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Verifies handles, and is killed before its first results are committed, and after that.
fn verify_with_kills(command: impl Fn() -> Command) -> std::process::Output {
    for place in ["claim", "claims"] {
        let output = command().env("SKYFILL_FAILPOINT", place).output().unwrap();
        assert_eq!(output.status.code(), None, "{place}: {}", told(&output));
    }
    command().output().unwrap()
}

#[test]
fn a_network_with_every_fault_of_handles_ends_with_the_rows_of_verifying_at_once() {
    let network = Network::start(NetworkSettings {
        records: 600,
        faults: vec![
            Fault::HandleElsewhere,
            Fault::EscapesInHandles,
            Fault::SilentHandle,
        ],
        ..settings(91, 150, 3)
    });
    let folder = folder();
    for (number, (did, _)) in network.dids().iter().enumerate() {
        let car = network.car(did).unwrap();
        std::fs::write(folder.path().join(format!("{number}.car")), car).unwrap();
    }
    let load = |db: &TestDb, handles: &str| {
        let mut run = on_with(&network, db, "run", handles);
        run.args(FAST).arg("--from-cars").arg(folder.path());
        run.output().unwrap()
    };
    let (at_once, later) = (TestDb::migrated(), TestDb::migrated());
    let output = load(&at_once, "verified");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    for state in ["verified", "mismatch", "unreachable"] {
        assert!(handles(&at_once, state) > 0, "{state}: {}", told(&output));
    }
    let output = load(&later, "claimed");
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let claimed = handles(&later, "claimed");
    // It is complete, and says what that does not cover, and what comes next.
    for said in [
        "verdict: complete\n".to_owned(),
        format!("not covered: {claimed} handles are stored as claimed and not verified yet\n"),
        "next: skyfill identities    # verifies the handles".to_owned(),
    ] {
        assert!(text.contains(&said), "{said}: {text}");
    }
    assert!(actors(&later) != actors(&at_once));
    let before = versions(&later);
    let identities = || {
        let mut command = skyfill();
        command.args(["identities", "--json", "--timeout", "2"]);
        command.env("BSKY_DB_POSTGRES_URL", &later.url);
        command
    };
    let output = verify_with_kills(identities);
    // It had to go on, and the one that was not reached was among the last.
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(actors(&later), actors(&at_once), "{}", told(&output));
    for state in ["verified", "mismatch", "unreachable", "claimed"] {
        assert_eq!(handles(&later, state), handles(&at_once, state), "{state}");
    }
    // Only rows that differ were written.
    let after = versions(&later);
    let written = before.iter().filter(|row| !after.contains(row)).count() as i64;
    let untrue = handles(&later, "mismatch") + handles(&later, "unreachable");
    assert!(written <= untrue, "{written} of {claimed}, {untrue}");
    // Nothing is left to verify.
    let requests: u64 = network.counts().iter().map(|host| host.requests).sum();
    let status = skyfill()
        .args(["status", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &later.url)
        .output()
        .unwrap();
    let status = summary(&status);
    assert_eq!(status["handles"]["claimed"], 0, "{status:#}");
    assert_eq!(status["handles"]["verified"], handles(&later, "verified"));
    let again: u64 = network.counts().iter().map(|host| host.requests).sum();
    assert_eq!(requests, again);
}

const DIDS: [&str; 9] = [
    "did:plc:a",
    "did:plc:b",
    "did:plc:c",
    "did:plc:d",
    "did:plc:e",
    "did:plc:f",
    "did:plc:g",
    "did:plc:h",
    "did:web:w.example.com",
];

/// A line of the export.
fn operation(net: &Net, did: &str, handle: &str, at: &str) -> String {
    let mut line = serde_json::json!({"did": did, "cid": "c", "nullified": false, "createdAt": at, "operation": {
        "type": "plc_operation", "alsoKnownAs": [format!("at://{handle}")],
        "verificationMethods": {"atproto": "did:key:zQ3shUMvyB5nKMuXazrBW94EwnLoMRrXMu3vXmHq7utJzfcK8"},
        "services": {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": net.server.url()}}}});
    if handle.is_empty() {
        line["operation"]["alsoKnownAs"] = serde_json::json!([]);
    }
    line.to_string()
}

/// Loads the accounts; their documents are in the export, those of t1 at first.
fn loaded(net: &Net) -> TestDb {
    let (db, dir) = (TestDb::migrated(), folder());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    db
}

/// Several accounts claim one handle, a handle changes hands with the documents and without them,
/// and one is not reached: the right account ends with each, and no key fails.
#[test]
fn a_handle_that_changes_hands_ends_with_the_right_account() {
    let rev = atrepo::syntax::tid(1_700_000_000_000_000, 0);
    let net = Net::of_cars(DIDS.iter().map(|did| {
        let car = simnet::build_repo(did, &rev, Vec::new());
        ((*did).to_owned(), car)
    }));
    let first = [
        // The first two claim one handle all the time; who has it changes.
        ("did:plc:a", "both.example.com"),
        ("did:plc:b", "Both.example.com"),
        // Its handle goes to the next one, with the documents.
        ("did:plc:c", "sold.example.com"),
        ("did:plc:d", "mine.example.com"),
        // Three claim what is the last one's, by did:web.
        ("did:plc:e", "third.example.com"),
        ("did:plc:f", "third.example.com"),
        ("did:plc:g", "away.example.com"),
        ("did:plc:h", "gives-up.example.com"),
    ];
    let later = [
        ("did:plc:c", "bought.example.com"),
        ("did:plc:d", "sold.example.com"),
        ("did:plc:h", ""),
    ];
    let lines = |of: &[(&str, &str)], at: &str| {
        let lines = of
            .iter()
            .map(|(did, handle)| operation(&net, did, handle, at));
        lines.collect::<Vec<_>>().join("\n")
    };
    net.server.set("export ", Answer::text(lines(&first, "t1")));
    net.server.set("export t1", Answer::text(""));
    net.set_document(
        "did:web:w.example.com",
        &simnet::document(
            "did:web:w.example.com",
            "third.example.com",
            &net.server.url(),
        ),
    );
    let leads = |handle: &str, did: &str| net.set_handle(&format!("{handle}.example.com"), did);
    leads("both", "did:plc:b");
    leads("sold", "did:plc:c");
    leads("mine", "did:plc:d");
    leads("third", "did:web:w.example.com");
    leads("gives-up", "did:plc:h");
    net.server.set("handle away.example.com", Answer::Reset);
    let claimed = loaded(&net);
    let identities = |db: &TestDb| {
        let mut command = net.identities(db);
        command.arg("--plc-export");
        command
    };
    run_well(identities(&claimed).args(["--handles", "claimed"]));
    assert_eq!(handles(&claimed, "claimed"), 9);
    // Time passes.
    leads("both", "did:plc:a");
    leads("sold", "did:plc:d");
    leads("bought", "did:plc:c");
    net.server
        .set("export t1", Answer::text(lines(&later, "t2")));
    net.server.set("export t2", Answer::text(""));
    // When it was killed for the second time, all was stored.
    let output = verify_with_kills(|| identities(&claimed));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let at_once = loaded(&net);
    let output = identities(&at_once).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(actors(&claimed), actors(&at_once), "{}", told(&output));
    let sql = "SELECT string_agg(did || ' ' || handle, '; ' ORDER BY did) FROM bsky.actor WHERE handle IS NOT NULL";
    let held: String = claimed.client().query_one(sql, &[]).unwrap().get(0);
    assert_eq!(
        held,
        "did:plc:a both.example.com; did:plc:c bought.example.com; did:plc:d sold.example.com; \
         did:web:w.example.com third.example.com"
    );
}

/// Nobody else's row is touched: what the AppView's ingester has written since stays, and an
/// account that was deleted does not come back.
#[test]
fn what_others_wrote_since_stays() {
    let rev = atrepo::syntax::tid(1_700_000_000_000_000, 0);
    let net = Net::of_cars(["did:plc:a", "did:plc:b", "did:plc:c"].map(|did| {
        let car = simnet::build_repo(did, &rev, Vec::new());
        (did.to_owned(), car)
    }));
    let db = loaded(&net);
    for (did, name) in [("did:plc:a", "a"), ("did:plc:b", "b"), ("did:plc:c", "c")] {
        let handle = format!("{name}.example.com");
        net.set_document(did, &simnet::document(did, &handle, &net.server.url()));
        if name != "b" {
            net.set_handle(&handle, did);
        }
    }
    run_well(net.identities(&db).args(["--handles", "claimed"]));
    db.client()
        .batch_execute(
            "UPDATE bsky.actor SET handle = 'new.example.com' WHERE did = 'did:plc:a';
             UPDATE bsky.actor SET handle = 'other.example.com' WHERE did = 'did:plc:b';
             DELETE FROM bsky.actor WHERE did = 'did:plc:c'",
        )
        .unwrap();
    let before = versions(&db);
    // Another one that verifies them is refused meanwhile.
    let mut other = db.client();
    let lock = ledger::locks::Lock::Claims;
    let held = ledger::locks::try_acquire(&mut other, lock, ledger::locks::Hold::Session);
    assert!(held.unwrap());
    let output = net.identities(&db).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("verifies claimed handles in this database"));
    drop(other);
    run_well(&mut net.identities(&db));
    assert_eq!(versions(&db), before);
    assert_eq!((handles(&db, "claimed"), handles(&db, "verified")), (0, 2));
}

/// At the size of the full network, each statement about handles costs its accounts.
#[test]
fn no_statement_about_handles_reads_a_table_or_a_trigram_index() {
    let db = TestDb::migrated();
    let mut client = db.client();
    ledger::prepare(&mut client, pg::Waits::SILENT).unwrap();
    let sample = "INSERT INTO bsky.actor (did, handle, \"indexedAt\")
           SELECT 'did:plc:' || md5(n::text), n || '.example.com', 'x' FROM generate_series(1, 20000) n;
         INSERT INTO skyfill.identity (schema_name, did, document, handle, due)
           SELECT 'bsky', did, 'good', CASE WHEN did < 'did:plc:8' THEN 'claimed' ELSE 'verified' END, NULL FROM bsky.actor;
         ANALYZE bsky.actor, skyfill.identity";
    for what in ["without statistics", "with statistics"] {
        if what == "with statistics" {
            client.batch_execute(sample).unwrap();
        }
        for table in ["bsky.actor", "skyfill.identity"] {
            pretend_rows(&mut client, table, 45e6);
        }
        let mut session = Planned::connect(&db.url);
        let dids: Vec<String> = (0..1000).map(|n| format!("did:plc:none{n}")).collect();
        let actor = |did: &String| load::actors::Actor {
            did: did.clone(),
            handle: Some(format!("{did}.example.com").replace(':', ".")),
        };
        let actors: Vec<_> = dids.iter().map(actor).collect();
        let settled = |actor: &load::actors::Actor| load::actors::Settled {
            did: actor.did.clone(),
            claimed: actor.handle.clone(),
            is_verified: actor.did.ends_with('1'),
        };
        let settled: Vec<_> = actors.iter().map(settled).collect();
        let client = &mut session.client;
        load::actors::store(client, "bsky", &actors, NOW, false).unwrap();
        load::actors::store(client, "bsky", &actors, NOW, true).unwrap();
        load::actors::settle(client, "bsky", &settled).unwrap();
        load::actors::withdraw_claims(client, "bsky", &dids).unwrap();
        load::actors::add(client, "bsky", &dids, NOW).unwrap();
        let whole = session.whole_reads(&|table| ["actor", "identity"].contains(&table));
        assert!(whole.is_empty(), "{what}: {whole:#?}");
    }
}
