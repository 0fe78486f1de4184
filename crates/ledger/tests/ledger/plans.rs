//! Plans at the size of the full network: 45 million repos on 3,200 hosts. What serves a page, a
//! batch or a slice reads no large table as a whole; the pages of a first pass not even without
//! statistics.

use crate::support::{Ledger, NEWEST, SCHEMA};
use ledger::identity::{self, DocumentNote, DocumentState, HandleNote, HandleState, Looked};
use ledger::listing::{self, Line, Settled};
use ledger::open::Which;
use ledger::overview::FailedPage;
use ledger::proofs::{self, Found, Proof};
use ledger::repos::{self, Moved, Note, RetryFailed, Stored, Unfound, Wanted};
use ledger::states::State;
use ledger::workers::{self, Joining, Report};
use ledger::{claims, failures, handles, hosts, overview, parts, skipped, verified};
use postgres::Client;
use testbed::{Planned, pretend_rows};

const REPOS: f64 = 45e6;

fn is_large(table: &str) -> bool {
    [
        "repo",
        "actor_sync",
        "identity",
        "skipped",
        "lost_claim",
        "listed",
        "part",
    ]
    .contains(&table)
}

fn pretend(client: &mut Client) {
    for (table, rows) in [
        ("repo", REPOS),
        ("identity", REPOS),
        ("skipped", REPOS / 2.0),
        ("lost_claim", 5e5),
        ("part", 1e6),
    ] {
        pretend_rows(client, &format!("skyfill.{table}"), rows);
    }
    pretend_rows(client, &format!("{SCHEMA}.actor_sync"), REPOS);
}

fn dids(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("did:plc:none{number}"))
        .collect()
}

/// Fails with the first statement that reads a large table as a whole.
fn check(session: &mut Planned, what: &str, step: &str) {
    let whole = session.whole_reads(&is_large);
    assert!(whole.is_empty(), "{step}, {what}: {whole:#?}");
}

/// What a pass runs.
fn pass(session: &mut Planned, step: &str) {
    let client = &mut session.client;
    let lines: Vec<Line> = dids(1000)
        .into_iter()
        .map(|did| Line {
            did,
            pds: Some(("https://a.example".to_owned(), "a.example".to_owned())),
            rev: Some("3a".to_owned()),
            ..Line::default()
        })
        .collect();
    // Those that a page has not changed, too.
    for _ in 0..2 {
        let mut txn = client.transaction().unwrap();
        listing::page(&mut txn, SCHEMA, 1, &lines, NEWEST).unwrap();
        txn.commit().unwrap();
    }
    listing::unsettled(client, SCHEMA, "", 1000, true).unwrap();
    listing::count_unsettled(client, SCHEMA).unwrap();
    check(session, "a pass", step);
}

/// What a load runs.
fn load(session: &mut Planned, step: &str) {
    let client = &mut session.client;
    let many = dids(500);
    let few: Vec<&str> = many.iter().take(30).map(String::as_str).collect();
    let joining = Joining {
        name: "name",
        machine: "machine",
        pid: 1,
        run: 1,
        slots: 512,
    };
    let worker = workers::join(client, SCHEMA, &joining, hosts::LEASE).unwrap();
    workers::hold(client, worker).unwrap();
    workers::share(client, SCHEMA, Which::All).unwrap();
    workers::end_lost(client, SCHEMA, hosts::LEASE).unwrap();
    workers::renew(client, SCHEMA, &[1], hosts::LEASE, &Report::default()).unwrap();
    let pause = ("a.example".to_owned(), hosts::LEASE);
    hosts::note_pauses(client, SCHEMA, &[pause]).unwrap();
    hosts::lease(client, SCHEMA, hosts::Wish::new(Which::All, 2048)).unwrap();
    repos::open(client, SCHEMA, ("a.example", Which::All), "", 500).unwrap();
    repos::open(client, SCHEMA, ("a.example", Which::New), "did:plc:b", 500).unwrap();
    for which in [RetryFailed::Due, RetryFailed::All, RetryFailed::DueBelow(3)] {
        repos::retry_failed(client, SCHEMA, which).unwrap();
    }
    let note = |did: &String| Note {
        did: did.clone(),
        lease: 1,
        state: State::Failed,
        code: Some("code"),
        error: Some("error".to_owned()),
        proof: None,
    };
    repos::note(client, SCHEMA, &many.iter().map(note).collect::<Vec<_>>()).unwrap();
    let moved = |did: &String| Moved {
        did: did.clone(),
        lease: 1,
        pds: "https://b.example".to_owned(),
        host: "b.example".to_owned(),
    };
    repos::moved(client, SCHEMA, &many.iter().map(moved).collect::<Vec<_>>()).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let host = ("a.example", 1);
    repos::fail_host(client, SCHEMA, host, "", ("code", "error"), hour).unwrap();
    repos::count_open(client, SCHEMA, Which::New).unwrap();
    repos::pending(client, SCHEMA).unwrap();
    repos::count_stored(client, SCHEMA, 1).unwrap();
    repos::lock(client, SCHEMA, &few, &vec![1; few.len()]).unwrap();
    let host = ("https://a.example", "a.example");
    parts::lock(client, SCHEMA, few[0], host, ("3a", NEWEST), (0, 2)).unwrap();
    let stored: Vec<Stored<'_>> = few
        .iter()
        .map(|did| Stored {
            did,
            rev: "3a",
            commit_cid: "bafy",
            commit: b"block",
            records: 1,
            skipped: 0,
            duplicates: 0,
            car_bytes: 1,
            proof: Some(Proof::Signed),
            is_fork: false,
        })
        .collect();
    repos::loaded(client, SCHEMA, 1, &stored).unwrap();
    repos::rebuilt_and_new(client, SCHEMA, &few).unwrap();
    check(session, "a load", step);
}

/// What other commands run, with statistics.
fn rest(session: &mut Planned) {
    let client = &mut session.client;
    let many = dids(1000);
    let wanted = |did: &String| Wanted {
        did: did.clone(),
        pds: "https://a.example".to_owned(),
        host: "a.example".to_owned(),
    };
    repos::add(client, SCHEMA, &many.iter().map(wanted).collect::<Vec<_>>()).unwrap();
    let unfound = |did: &String| Unfound {
        did: did.clone(),
        state: State::Failed,
        code: "code",
        error: String::new(),
    };
    repos::add_unfound(
        client,
        SCHEMA,
        &many.iter().map(unfound).collect::<Vec<_>>(),
    )
    .unwrap();
    repos::rebuild(client, SCHEMA, &many).unwrap();
    repos::unknown(client, SCHEMA, &many).unwrap();
    repos::stored_after(client, SCHEMA, "did:plc:a", 200).unwrap();
    listing::repos(client, SCHEMA, "did:plc:a", 1000).unwrap();
    let listed: Vec<&str> = many.iter().map(String::as_str).collect();
    listing::inactive(client, SCHEMA, &listed).unwrap();
    let at = || Settled::On("https://b.example".to_owned(), "b.example".to_owned());
    let settled: Vec<_> = many.iter().map(|did| (did.clone(), at())).collect();
    listing::settle(client, SCHEMA, &settled).unwrap();
    claims::pass_over_liars(client, SCHEMA).unwrap();
    check(session, "repos", "the rest");
    let client = &mut session.client;
    proofs::unproved(client, SCHEMA, "did:plc:a", 500).unwrap();
    let found = |did: &String| Found {
        did: did.clone(),
        commit_cid: "bafy".to_owned(),
        proof: Proof::Forged,
        at: None,
    };
    proofs::note(client, SCHEMA, &many.iter().map(found).collect::<Vec<_>>()).unwrap();
    for named in [None, Some(many.as_slice())] {
        verified::page(client, SCHEMA, "did:plc:a", named, 200).unwrap();
    }
    for upper in [Some("did:plc:b"), None] {
        let range = verified::Range {
            lower: "did:plc:a".to_owned(),
            upper: upper.map(str::to_owned),
        };
        verified::sizes(client, SCHEMA, &range, 500).unwrap();
        let mut txn = client.transaction().unwrap();
        verified::note_range(&mut txn, SCHEMA, &range, "[]").unwrap();
        txn.rollback().unwrap();
    }
    let note = |did: &String| verified::Note {
        did: did.clone(),
        commit_cid: "bafy".to_owned(),
        is_equal: true,
    };
    verified::note(client, SCHEMA, &many.iter().map(note).collect::<Vec<_>>()).unwrap();
    verified::note_differing(client, SCHEMA, &many).unwrap();
    skipped::parts(client, SCHEMA, &many[0]).unwrap();
    skipped::piece(client, SCHEMA, &many[0], (0, 0)).unwrap();
    let dids: Vec<&str> = many.iter().take(100).map(String::as_str).collect();
    skipped::beginnings(client, SCHEMA, &dids).unwrap();
    skipped::changed(client, SCHEMA, &dids).unwrap();
    repos::stored_of(client, SCHEMA, &dids).unwrap();
    failures::by_reason(client, SCHEMA, None).unwrap();
    failures::count_due(client, SCHEMA, 1000).unwrap();
    overview::failed(client, SCHEMA, &FailedPage::default(), 50).unwrap();
    repos::deleted(client, SCHEMA, &many[0]).unwrap();
    check(session, "proofs", "the rest");
    let client = &mut session.client;
    identity::enroll(client, SCHEMA, &many).unwrap();
    for looked in [Looked::AtAny, Looked::Never] {
        identity::due(client, SCHEMA, ("did:plc:a", 1000), true, looked).unwrap();
    }
    identity::are_so_many_due(client, SCHEMA, 300_000).unwrap();
    handles::claims(client, SCHEMA, "did:plc:a", 1000, true).unwrap();
    handles::counts(client, SCHEMA).unwrap();
    let note = |did: &String| DocumentNote {
        did: did.clone(),
        state: DocumentState::Good,
        claimed_handle: None,
        pds: Some("https://a.example".to_owned()),
        signing_key: None,
        error: None,
        is_fresh: false,
        heard: None,
    };
    identity::add_documents(client, SCHEMA, &many.iter().map(note).collect::<Vec<_>>()).unwrap();
    let note = |did: &String| HandleNote {
        did: did.clone(),
        state: HandleState::Verified,
        error: None,
        again_in: None,
        heard: None,
    };
    identity::note_handles(client, SCHEMA, &many.iter().map(note).collect::<Vec<_>>()).unwrap();
    let settled = |did: &String| (note(did), Some("a.example".to_owned()));
    handles::note_settled(
        client,
        SCHEMA,
        &many.iter().map(settled).collect::<Vec<_>>(),
    )
    .unwrap();
    identity::signing_key(client, SCHEMA, &many[0]).unwrap();
    identity::pds_of(client, SCHEMA, &many.iter().collect::<Vec<_>>()).unwrap();
    check(session, "identities", "the rest");
}

#[test]
fn a_page_a_batch_or_a_slice_reads_no_large_table_as_a_whole() {
    let db = Ledger::new();
    let mut client = db.connect();
    pretend(&mut client);
    let mut session = Planned::connect(db.url());
    pass(&mut session, "without statistics");
    drop(session);
    // A sample, as ANALYZE would find it in the full table.
    client
        .batch_execute(
            "INSERT INTO skyfill.host (schema_name, host) SELECT 'bsky', 'pds' || n FROM generate_series(1, 3200) n;
             INSERT INTO skyfill.repo (schema_name, did, pds, host, state, rev, commit_cid, verified, proof)
             SELECT 'bsky', 'did:plc:' || md5(n::text), 'https://pds' || n % 100, 'pds' || n % 100,
               CASE WHEN n % 10 = 0 THEN 'open' WHEN n % 77 = 0 THEN 'failed' ELSE 'loaded' END, CASE WHEN n % 10 <> 0 THEN '3a' END,
               md5(n::text), md5(n::text), CASE WHEN n % 10 <> 0 THEN 'signed' END
             FROM generate_series(1, 20000) n;
             INSERT INTO skyfill.identity (schema_name, did, document, due, handle)
             SELECT schema_name, did, 'good', CASE WHEN state = 'open' THEN now() END,
               CASE state WHEN 'open' THEN 'unknown' WHEN 'failed' THEN 'verified' ELSE 'claimed' END FROM skyfill.repo;
             INSERT INTO skyfill.skipped SELECT schema_name, did, 0, 0, '' FROM skyfill.repo;
             INSERT INTO skyfill.lost_claim SELECT schema_name, did, host FROM skyfill.repo;
             ANALYZE skyfill.lost_claim; ANALYZE skyfill.host; ANALYZE skyfill.repo; ANALYZE skyfill.identity; ANALYZE skyfill.skipped",
        )
        .unwrap();
    pretend(&mut client);
    let mut session = Planned::connect(db.url());
    pass(&mut session, "with statistics");
    load(&mut session, "with statistics");
    drop(session);
    let mut session = Planned::connect(db.url());
    rest(&mut session);
}

#[test]
fn a_scan_is_found() {
    let db = Ledger::new();
    pretend(&mut db.connect());
    let mut session = Planned::connect(db.url());
    let sql = "SELECT count(*) FROM skyfill.repo WHERE pds = 'x'";
    session.client.batch_execute(sql).unwrap();
    let found = session.whole_reads(&is_large);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].table.as_str(), found[0].statement.as_str()),
        ("repo", sql)
    );
}
