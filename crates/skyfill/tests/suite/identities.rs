//! `skyfill identities`: documents, handles both ways, states, and what cannot be reached.

use simnet::{Answer, Dns};
use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use testbed::*;

/// DID to handle and state, as the table has them.
fn actors(db: &TestDb) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let rows = db
        .client()
        .query(
            "SELECT did, handle, \"upstreamStatus\" FROM bsky.actor",
            &[],
        )
        .expect("actors");
    rows.iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect()
}

fn handle_of(db: &TestDb, did: &str) -> Option<String> {
    actors(db)
        .get(did)
        .unwrap_or_else(|| panic!("{did} has no row"))
        .0
        .clone()
}

/// Accounts `did:plc:a` and so on, loaded with empty repos.
fn loaded(dids: &[&str]) -> (Net, TestDb) {
    let rev = atrepo::syntax::tid(1_700_000_000_000_000, 0);
    let net = Net::of_cars(
        dids.iter()
            .map(|did| ((*did).to_owned(), simnet::build_repo(did, &rev, Vec::new()))),
    );
    let (db, dir) = (TestDb::migrated(), folder());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    (net, db)
}

/// A good document of `did` that claims `handle`.
fn document(net: &Net, did: &str, handle: &str) -> String {
    simnet::document(did, handle, &net.server.url())
}

fn set(net: &Net, did: &str, handle: &str) {
    net.set_document(did, &document(net, did, handle));
}

fn code(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("run skyfill identities");
    (output.status.code(), told(&output))
}

#[test]
fn handles_are_checked_both_ways_by_dns_first() {
    let dids = [
        "did:plc:a",
        "did:plc:b",
        "did:plc:c",
        "did:plc:d",
        "did:plc:e",
        "did:web:host.example",
        "did:plc:f",
    ];
    let (net, db) = loaded(&dids);
    set(&net, "did:plc:a", "DNS.Example.com");
    set(&net, "did:plc:b", "file.example.com");
    set(&net, "did:plc:c", "twice.example.com");
    set(&net, "did:plc:d", "others.example.com");
    set(&net, "did:plc:e", "nowhere.example.com");
    set(&net, "did:web:host.example", "web.example.com");
    set(&net, "did:plc:f", "not a handle");
    net.set_handle("file.example.com", "did:plc:b");
    // A file counts for nothing if DNS says something.
    net.set_handle("dns.example.com", "did:plc:x");
    net.set_handle("web.example.com", "did:web:host.example");
    let txt = |name: &str, texts: &[&str]| {
        (
            format!("_atproto.{name}"),
            texts.iter().map(|text| (*text).to_owned()).collect(),
        )
    };
    let dns = Dns::start(HashMap::from([
        txt("dns.example.com", &["v=spf1", "did=did:plc:a"]),
        txt("twice.example.com", &["did=did:plc:c", "did=did:plc:c"]),
        txt("others.example.com", &["did=did:plc:a"]),
    ]));
    let mut command = net.identities_with(&db, &dns);
    assert_eq!(code(&mut command).0, Some(0));
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("dns.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:plc:b").as_deref(),
        Some("file.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:web:host.example").as_deref(),
        Some("web.example.com")
    );
    for unverified in ["did:plc:c", "did:plc:d", "did:plc:e", "did:plc:f"] {
        assert_eq!(handle_of(&db, unverified), None, "{unverified}");
    }
    // Nothing is due any more: a second run asks nobody.
    let before = net.server.requests();
    assert_eq!(code(&mut command).0, Some(0));
    assert_eq!(net.server.requests(), before);
}

/// As `resolveHttp` and `parseDnsResult` of the official resolver (`packages/identity/src/handle`).
#[test]
fn odd_answers_for_handles_are_read_as_the_official_resolver_reads_them() {
    let statuses = [201, 203, 302, 403, 404, 500, 503];
    let named: Vec<String> = statuses
        .iter()
        .map(|status| format!("did:plc:status{status}"))
        .collect();
    let others = [
        "did:plc:mark",
        "did:plc:long",
        "did:plc:empty",
        "did:plc:later",
        "did:plc:page",
    ];
    let dids: Vec<&str> = named.iter().map(String::as_str).chain(others).collect();
    let (net, db) = loaded(&dids);
    let answer = |name: &str, answer: Answer| {
        let handle = format!("{name}.example.com");
        set(&net, &format!("did:plc:{name}"), &handle);
        net.server.set(&format!("handle {handle}"), answer);
    };
    for status in statuses {
        let name = format!("status{status}");
        let body = format!("did:plc:{name}");
        answer(&name, Answer::Status(status, Vec::new(), body));
    }
    answer("mark", Answer::text("\u{feff} did:plc:mark \r\n"));
    answer(
        "long",
        Answer::text(format!("did:plc:long\n{}", "x".repeat(3 << 20))),
    );
    answer("empty", Answer::text("did:plc:empty"));
    // The DID is not on the first line.
    answer("later", Answer::text("hello\ndid:plc:later"));
    answer(
        "page",
        Answer::Status(404, Vec::new(), "<html>not here</html>".to_owned()),
    );
    let dns = Dns::start(HashMap::from([(
        "_atproto.empty.example.com".to_owned(),
        vec!["did=".to_owned()],
    )]));
    assert_eq!(code(&mut net.identities_with(&db, &dns)).0, Some(0));
    for did in dids {
        let name = did.trim_start_matches("did:plc:");
        let right = format!("{name}.example.com");
        let is_right = !["later", "page"].contains(&name);
        assert_eq!(handle_of(&db, did), is_right.then_some(right), "{did}");
    }
}

#[test]
fn documents_that_are_gone_or_useless_leave_no_row_and_what_is_away_comes_later() {
    let dids = [
        "did:plc:gone",
        "did:plc:tomb",
        "did:plc:nokey",
        "did:plc:away",
        "did:plc:lost",
        "did:plc:other",
        "did:key:z",
    ];
    let (net, db) = loaded(&dids);
    net.server.set(
        "plc did:plc:tomb",
        Answer::Status(410, Vec::new(), "{}".to_owned()),
    );
    net.set_document(
        "did:plc:nokey",
        &document(&net, "did:plc:nokey", "a.example.com").replace("#atproto\"", "#x\""),
    );
    net.set_document(
        "did:plc:other",
        &document(&net, "did:plc:gone", "a.example.com"),
    );
    net.server.set(
        "plc did:plc:away",
        Answer::Status(500, Vec::new(), String::new()),
    );
    set(&net, "did:plc:lost", "lost.example.com");
    net.server.set("handle lost.example.com", Answer::Reset);
    let dns = Dns::start(HashMap::from([(
        "_atproto.lost.example.com".to_owned(),
        Vec::new(),
    )]));
    let mut command = net.identities_with(&db, &dns);
    let (ended, text) = code(&mut command);
    assert_eq!(ended, Some(1), "{text}");
    assert_eq!(actors(&db).keys().collect::<Vec<_>>(), ["did:plc:lost"]);
    assert_eq!(handle_of(&db, "did:plc:lost"), None);
    // Not due yet: nothing happens. Asked to, it tries again.
    set(&net, "did:plc:away", "away.example.com");
    net.set_handle("away.example.com", "did:plc:away");
    net.set_handle("lost.example.com", "did:plc:lost");
    assert_eq!(code(&mut command).0, Some(0));
    assert_eq!(handle_of(&db, "did:plc:lost"), None);
    assert_eq!(code(command.arg("--retry")).0, Some(0));
    assert_eq!(
        handle_of(&db, "did:plc:lost").as_deref(),
        Some("lost.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:plc:away").as_deref(),
        Some("away.example.com")
    );
}

#[test]
fn claimed_handles_are_marked_and_checked_later_and_contention_is_settled() {
    let (net, db) = loaded(&["did:plc:a", "did:plc:b", "did:plc:c"]);
    for did in ["did:plc:a", "did:plc:b"] {
        set(&net, did, "Same.example.com");
    }
    set(&net, "did:plc:c", "liar.example.com");
    net.set_handle("same.example.com", "did:plc:a");
    let mut claimed = net.identities(&db);
    run_well(claimed.args(["--handles", "claimed"]));
    // Of two claims, the one of the greater DID stands, in any order.
    assert_eq!(handle_of(&db, "did:plc:a"), None);
    assert_eq!(
        handle_of(&db, "did:plc:b").as_deref(),
        Some("same.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:plc:c").as_deref(),
        Some("liar.example.com")
    );
    let requests = net.server.requests();
    run_well(&mut net.identities(&db));
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("same.example.com")
    );
    assert_eq!(handle_of(&db, "did:plc:b"), None);
    assert_eq!(handle_of(&db, "did:plc:c"), None);
    // The documents were kept: only three handles were asked for.
    assert_eq!(net.server.requests() - requests, 3);
}

#[test]
fn the_export_brings_documents_in_bulk_and_is_gone_on_with() {
    let (net, db) = loaded(&["did:plc:a", "did:plc:b", "did:plc:c"]);
    let operation = |did: &str, handle: &str, at: &str| {
        serde_json::json!({"did": did, "cid": "c", "nullified": false, "createdAt": at, "operation": {
            "type": "plc_operation", "alsoKnownAs": [format!("at://{handle}")],
            "verificationMethods": {"atproto": "did:key:zQ3shUMvyB5nKMuXazrBW94EwnLoMRrXMu3vXmHq7utJzfcK8"},
            "services": {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": "https://pds.example"}}}})
        .to_string()
    };
    let many: Vec<String> = (0..1000)
        .map(|n| match n {
            0 => operation("did:plc:a", "old.example.com", "t0000"),
            500 => operation("did:plc:a", "a.example.com", "t0500"),
            _ => operation(
                &format!("did:plc:stranger{n}"),
                "x.example.com",
                &format!("t{n:04}"),
            ),
        })
        .collect();
    net.server.set("export ", Answer::text(many.join("\n")));
    // After a full page others of its last operation's time may follow: that time is asked for
    // again.
    let last = [
        many[999].clone(),
        operation("did:plc:b", "b.example.com", "t1000"),
    ]
    .join("\n");
    net.server.set("export t0998", Answer::text(last));
    net.server.set("export t1000", Answer::text(""));
    net.set_handle("a.example.com", "did:plc:a");
    net.set_handle("b.example.com", "did:plc:b");
    let mut command = net.identities(&db);
    let output = run_well(command.arg("--plc-export"));
    assert!(
        told(&output).contains("2 documents stored"),
        "{}",
        told(&output)
    );
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("a.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:plc:b").as_deref(),
        Some("b.example.com")
    );
    // What the export does not know is asked for by itself; the directory does not know it either.
    assert!(!actors(&db).contains_key("did:plc:c"));
    // The next time it begins where it ended, and whoever changed is looked at again.
    net.server.set(
        "export t1000",
        Answer::text(operation("did:plc:a", "new.example.com", "t1001")),
    );
    net.server.set("export t1001", Answer::text(""));
    net.set_handle("new.example.com", "did:plc:a");
    let output = run_well(&mut command);
    assert_eq!(summary(&output)["lookedUp"], 1, "{}", told(&output));
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("new.example.com")
    );
    assert_eq!(
        handle_of(&db, "did:plc:b").as_deref(),
        Some("b.example.com")
    );
}

/// The directory of another network has an export, too.
#[test]
fn an_export_that_knows_nobody_is_named() {
    let (net, db) = loaded(&["did:plc:a"]);
    set(&net, "did:plc:a", "a.example.com");
    net.set_handle("a.example.com", "did:plc:a");
    net.server.set("export ", Answer::text(""));
    let output = run_well(net.identities(&db).arg("--plc-export"));
    let named = format!("the export of {} knows none of them", net.server.url());
    assert!(told(&output).contains(&named), "{}", told(&output));
    let handle = handle_of(&db, "did:plc:a");
    assert_eq!(handle.as_deref(), Some("a.example.com"));
}

/// What was verified is not taken away by whom nobody checked, nor by a server that is away for a
/// while.
#[test]
fn verified_handles_stay() {
    let (net, db) = loaded(&["did:plc:a", "did:plc:z"]);
    set(&net, "did:plc:a", "real.example.com");
    set(&net, "did:plc:z", "other.example.com");
    net.set_handle("real.example.com", "did:plc:a");
    net.set_handle("other.example.com", "did:plc:z");
    run_well(&mut net.identities(&db));
    set(&net, "did:plc:z", "real.example.com");
    db.client()
        .batch_execute(
            "UPDATE skyfill.identity SET due = '-infinity', documented_at = NULL WHERE did = 'did:plc:z'",
        )
        .expect("make it due");
    let mut claimed = net.identities(&db);
    run_well(claimed.args(["--handles", "claimed"]));
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("real.example.com")
    );
    assert_eq!(handle_of(&db, "did:plc:z"), None);
    net.server.set("handle real.example.com", Answer::Reset);
    net.server.set("plc did:plc:z", Answer::Reset);
    let (ended, text) = code(net.identities(&db).arg("--recheck"));
    assert_eq!(ended, Some(1), "{text}");
    assert_eq!(
        handle_of(&db, "did:plc:a").as_deref(),
        Some("real.example.com")
    );
}

#[test]
fn states_of_accounts_come_with_the_load_and_change_with_it() {
    let (net, db) = loaded(&["did:plc:a"]);
    set(&net, "did:plc:a", "a.example.com");
    set(&net, "did:plc:b", "b.example.com");
    let dir = folder();
    net.server
        .set("did:plc:b", Answer::error(400, "RepoDeactivated"));
    net.server
        .set("did:plc:c", Answer::error(400, "RepoNotFound"));
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let file = did_file(dir.path(), &net.server.url(), ["did:plc:b", "did:plc:c"]);
    let output = producer(dir.path(), &file, &[&consumer.socket])
        .output()
        .expect("run the producer");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    run_well(&mut net.identities(&db));
    let status = |did: &str| actors(&db)[did].1.clone();
    assert_eq!(status("did:plc:a"), None);
    assert_eq!(status("did:plc:b").as_deref(), Some("deactivated"));
    assert!(
        !actors(&db).contains_key("did:plc:c"),
        "that a host does not hold a repo says nothing"
    );
    // The account of a is taken down, that of b comes back.
    net.server
        .set("did:plc:a", Answer::error(400, "RepoTakendown"));
    let rev = atrepo::syntax::tid(1_720_000_000_000_000, 0);
    let car = simnet::build_repo("did:plc:b", &rev, Vec::new());
    net.server
        .set("did:plc:b", Answer::Repo(std::sync::Arc::new(car)));
    let file = did_file(dir.path(), &net.server.url(), ["did:plc:a", "did:plc:b"]);
    let output = producer(dir.path(), &file, &[&consumer.socket])
        .output()
        .expect("run the producer");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(status("did:plc:a").as_deref(), Some("takendown"));
    assert_eq!(status("did:plc:b"), None);
    // An older rev never overwrites a newer one.
    let line = handoff::account::repo_line(
        "did:plc:b",
        &atrepo::syntax::tid(1, 0),
        &atrepo::Cid::of(atrepo::Codec::DagCbor, b"x"),
    );
    send_lines(&consumer.socket, &line);
    let kept: String = db
        .client()
        .query_one(
            "SELECT \"repoRev\" FROM bsky.actor_sync WHERE did = 'did:plc:b'",
            &[],
        )
        .expect("the rev")
        .get(0);
    assert_eq!(kept, rev);
    consumer.stop();
}
