//! Leases of hosts: who has one, and what somebody who has lost his cannot do any more.

use crate::support::{Ledger, SCHEMA, lease_hosts};
use ledger::hosts;
use ledger::repos::{self, Moved, Note};
use ledger::states::State;
use ledger::workers::{self, Report};
use postgres::GenericClient;

fn note(did: &str, lease: i64) -> Note {
    Note {
        did: did.to_owned(),
        lease,
        state: State::NotFound,
        code: None,
        error: None,
        proof: None,
    }
}

/// Renews a lease; those that are still held.
fn renew(db: &mut Ledger, lease: i64) -> Vec<i64> {
    let report = Report::default();
    workers::renew(&mut db.client, SCHEMA, &[lease], hosts::LEASE, &report).unwrap()
}

/// Repos of `did:plc:a` that are locked under a lease.
fn locked(client: &mut impl GenericClient, lease: i64) -> usize {
    let locked = repos::lock(client, SCHEMA, &["did:plc:a"], &[lease]);
    locked.unwrap().len()
}

#[test]
fn a_host_is_leased_once_and_what_comes_under_an_older_lease_is_not_noted() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:a", "did:plc:b"]);
    db.add("b.example", &["did:plc:c"]);
    let mut other = db.connect();
    hosts::enter(&mut db.client).unwrap();
    hosts::enter(&mut other).unwrap();
    let leased = lease_hosts(&mut db.client, 9);
    let names: Vec<(&str, u64)> = leased.iter().map(|l| (l.host.as_str(), l.open)).collect();
    assert_eq!(names, [("a.example", 2), ("b.example", 1)]);
    // Nobody else gets them while the session lives.
    assert!(lease_hosts(&mut other, 9).is_empty());
    let lease = leased[0].lease;
    assert_eq!(renew(&mut db, lease), [lease]);
    // The time runs out: somebody else leases the host, and has another number.
    db.expire_leases();
    let newer = lease_hosts(&mut other, 1);
    assert_eq!(newer[0].host, "a.example");
    assert!(newer[0].lease > lease);
    assert!(renew(&mut db, lease).is_empty());
    assert_eq!(
        repos::note(&mut db.client, SCHEMA, &[note("did:plc:a", lease)]).unwrap(),
        0
    );
    let moved = Moved {
        did: "did:plc:a".to_owned(),
        lease,
        pds: "https://b.example".to_owned(),
        host: "b.example".to_owned(),
    };
    assert_eq!(repos::moved(&mut db.client, SCHEMA, &[moved]).unwrap(), 0);
    let error = ("host put off", "");
    let retry_in = std::time::Duration::from_secs(60);
    let failed = |db: &mut Ledger, lease| {
        repos::fail_host(
            &mut db.client,
            SCHEMA,
            ("a.example", lease),
            "",
            error,
            retry_in,
        )
    };
    assert_eq!(failed(&mut db, lease).unwrap(), 0);
    assert_eq!(locked(&mut db.client, lease), 0);
    // Under the newer one all of it is.
    let lease = newer[0].lease;
    assert_eq!(locked(&mut db.client, lease), 1);
    assert_eq!(
        repos::note(&mut db.client, SCHEMA, &[note("did:plc:a", lease)]).unwrap(),
        1
    );
    assert_eq!(failed(&mut db, lease).unwrap(), 1);
    assert_eq!(db.get("did:plc:a", "state"), "not found");
    assert_eq!(
        db.get("did:plc:b", "state, error_code"),
        "failed host put off"
    );
}

#[test]
fn the_lease_of_a_session_that_is_gone_is_void_after_some_seconds() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:a"]);
    let mut gone = db.connect();
    hosts::enter(&mut gone).unwrap();
    let lease = lease_hosts(&mut gone, 9)[0].lease;
    assert!(ledger::presence::is_worked_on(&mut db.client, SCHEMA).unwrap());
    let pid: i32 = gone
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    drop(gone);
    // Its server process ends by itself; nobody waits longer than it takes.
    let is_there = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    while db
        .client
        .query_one(is_there, &[&pid])
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        std::thread::yield_now();
    }
    // It may be on its way back.
    assert!(lease_hosts(&mut db.client, 9).is_empty());
    db.client
        .batch_execute("UPDATE skyfill.host SET lease_until = lease_until - interval '10 s'")
        .unwrap();
    let newer = lease_hosts(&mut db.client, 9);
    assert!(newer[0].lease > lease);
}

#[test]
fn a_lease_is_not_taken_over_from_a_transaction_that_stores_rows_but_is_renewed_beside_it() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:a"]);
    let lease = lease_hosts(&mut db.client, 9)[0].lease;
    let (mut storing, mut other) = (db.connect(), db.connect());
    let mut txn = storing.transaction().unwrap();
    assert_eq!(locked(&mut txn, lease), 1);
    assert_eq!(renew(&mut db, lease), [lease]);
    db.expire_leases();
    assert!(lease_hosts(&mut other, 9).is_empty());
    txn.commit().unwrap();
    assert_eq!(lease_hosts(&mut other, 9).len(), 1);
}

#[test]
fn many_hosts_of_one_domain_do_not_keep_others_waiting() {
    let mut db = Ledger::new();
    for number in 0..300 {
        let host = format!("h{number:03}.many.example");
        db.add(
            &host,
            &[&format!("did:plc:{number}a"), &format!("did:plc:{number}b")],
        );
    }
    db.add("one.other", &["did:plc:one"]);
    let leased = lease_hosts(&mut db.client, 257);
    assert!(leased.iter().any(|leased| leased.host == "one.other"));
}

#[test]
fn nobodys_url_takes_tls_away_from_a_host() {
    let mut db = Ledger::new();
    let url = |db: &mut Ledger| -> String {
        let sql = "SELECT url FROM skyfill.host WHERE host = 'a.example'";
        db.client.query_one(sql, &[]).unwrap().get(0)
    };
    for (given, kept) in [
        ("http://a.example/path", "http://a.example"),
        ("https://a.example/x?y", "https://a.example"),
        ("http://a.example", "https://a.example"),
    ] {
        let named = std::iter::once((Some("a.example"), Some(given)));
        hosts::add(&mut db.client, SCHEMA, named).unwrap();
        assert_eq!(url(&mut db), kept);
    }
    hosts::learn(
        &mut db.client,
        SCHEMA,
        &[("a.example".to_owned(), "{}".to_owned())],
    )
    .unwrap();
    let learned = hosts::learned(&mut db.client, SCHEMA).unwrap();
    assert_eq!(learned, [("a.example".to_owned(), "{}".to_owned())]);
}
