//! Workers: their shares of the hosts, what each says of itself, and what becomes of one that is
//! lost.

use crate::support::{Ledger, SCHEMA, lease_hosts};
use ledger::hosts::{self, Wish};
use ledger::open::Which;
use ledger::repos;
use ledger::workers::{self, Joining, Report};
use postgres::Client;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// A worker with so many slots on a session of its own.
fn join(db: &Ledger, name: &str, slots: usize) -> (Client, i32) {
    let joining = Joining {
        name,
        machine: "machine",
        pid: 7,
        run: 1,
        slots,
    };
    let mut client = db.connect();
    let id = workers::join(&mut client, SCHEMA, &joining, LONG).unwrap();
    workers::hold(&mut client, id).unwrap();
    (client, id)
}

fn add_hosts(db: &mut Ledger, count: usize) {
    for number in 0..count {
        db.add(
            &format!("h{number:02}.example"),
            &[&format!("did:plc:{number}")],
        );
    }
}

fn lease_numbers(leased: &[hosts::Leased]) -> Vec<i64> {
    leased.iter().map(|leased| leased.lease).collect()
}

#[test]
fn hosts_are_shared_out_by_the_slots_of_those_who_live() {
    for (slots, hosts, shares) in [
        (vec![512], 10, vec![10]),
        (vec![512, 512], 10, vec![5, 5]),
        (vec![512, 512], 3, vec![2, 2]),
        (vec![300, 100], 8, vec![6, 2]),
        (vec![1, 1, 1, 1], 1, vec![1, 1, 1, 1]),
        (vec![512, 512], 0, vec![0, 0]),
    ] {
        let mut db = Ledger::new();
        add_hosts(&mut db, hosts);
        let mut sessions: Vec<Client> = slots
            .iter()
            .map(|slots| join(&db, "worker", *slots).0)
            .collect();
        let found: Vec<u64> = sessions
            .iter_mut()
            .map(|client| workers::share(client, SCHEMA, Which::All).unwrap().hosts)
            .collect();
        assert_eq!(found, shares, "{slots:?} for {hosts}");
    }
}

#[test]
fn who_left_or_was_lost_has_no_share() {
    let mut db = Ledger::new();
    add_hosts(&mut db, 12);
    let (mut one, _) = join(&db, "one", 8);
    let (mut two, _) = join(&db, "two", 8);
    let (mut three, id) = join(&db, "three", 8);
    let share = |client: &mut Client| {
        let share = workers::share(client, SCHEMA, Which::All).unwrap();
        (share.hosts, share.workers)
    };
    assert_eq!(share(&mut one), (4, 3));
    workers::leave(&mut two).unwrap();
    assert_eq!(share(&mut one), (6, 2));
    // Its time is over, though its session lives.
    let over = "UPDATE skyfill.worker SET lease_until = now() - interval '1 s' WHERE id = $1";
    db.client.execute(over, &[&id]).unwrap();
    assert_eq!(share(&mut one), (12, 1));
    // It is back.
    workers::renew(&mut three, SCHEMA, &[], LONG, &Report::default()).unwrap();
    assert_eq!(share(&mut one), (6, 2));
    let all = workers::of_last_run(&mut db.client, SCHEMA).unwrap();
    let seen: Vec<(&str, bool, bool)> = all
        .iter()
        .map(|worker| (worker.name.as_str(), worker.is_alive, worker.has_left))
        .collect();
    assert_eq!(
        seen,
        [
            ("one", true, false),
            ("two", false, true),
            ("three", true, false)
        ]
    );
}

#[test]
fn a_renewal_says_what_the_worker_does_and_which_leases_it_still_has() {
    let mut db = Ledger::new();
    add_hosts(&mut db, 2);
    let (mut one, _) = join(&db, "one", 8);
    let leased = lease_numbers(&lease_hosts(&mut one, 9));
    let report = Report {
        pending: 2,
        repos: 3,
        failed: 4,
        records: 5,
        bytes: 6,
        repos_per_second: 7.5,
        records_per_second: 8.5,
        under_way: 9,
        leases_lost: 1,
    };
    let mut held = workers::renew(&mut one, SCHEMA, &leased, LONG, &report).unwrap();
    held.sort_unstable();
    assert_eq!(held, leased);
    let worker = workers::of_last_run(&mut db.client, SCHEMA)
        .unwrap()
        .remove(0);
    assert_eq!((worker.report, worker.hosts), (report, 2));
    // What was given back is not renewed.
    hosts::release(&mut one, SCHEMA, &leased[..1]).unwrap();
    let held = workers::renew(&mut one, SCHEMA, &leased, LONG, &report).unwrap();
    assert_eq!(held, leased[1..]);
    workers::leave(&mut one).unwrap();
    let worker = workers::of_last_run(&mut db.client, SCHEMA)
        .unwrap()
        .remove(0);
    assert_eq!((worker.hosts, worker.report.repos), (0, 3));
}

#[test]
fn sessions_of_a_lost_worker_are_ended_and_free_what_they_had_locked() {
    let mut db = Ledger::new();
    add_hosts(&mut db, 1);
    let (mut lost, id) = join(&db, "lost", 8);
    let (mut other, _) = join(&db, "other", 8);
    let number = lease_hosts(&mut lost, 1)[0].lease;
    let mut storing = db.connect();
    workers::attach(&mut storing, id).unwrap();
    let mut txn = storing.transaction().unwrap();
    let locked = repos::lock(&mut txn, SCHEMA, &["did:plc:0"], &[number]).unwrap();
    assert_eq!(locked.len(), 1);
    // It lives: nobody ends it.
    let end_lost = |other: &mut Client| workers::end_lost(other, SCHEMA, LONG).unwrap();
    assert_eq!(end_lost(&mut other), 0);
    db.client
        .batch_execute(&format!(
            "UPDATE skyfill.worker SET lease_until = now() - interval '1 s' WHERE id = {id}"
        ))
        .unwrap();
    db.expire_leases();
    assert!(
        lease_hosts(&mut other, 1).is_empty(),
        "its transaction has the host"
    );
    // It may be slow, and has as much time again.
    assert_eq!(end_lost(&mut other), 0);
    db.client
        .batch_execute(&format!(
            "UPDATE skyfill.worker SET lease_until = now() - interval '2 h' WHERE id = {id}"
        ))
        .unwrap();
    assert_eq!(end_lost(&mut other), 2);
    assert!(txn.commit().is_err());
    testbed::wait_until("the server ended the transaction", || {
        lease_hosts(&mut other, 1).len() == 1
    });
}

#[test]
fn what_was_learned_and_how_long_a_host_rests_comes_with_the_lease() {
    let mut db = Ledger::new();
    add_hosts(&mut db, 1);
    let host = || "h00.example".to_owned();
    hosts::learn(&mut db.client, SCHEMA, &[(host(), "{}".to_owned())]).unwrap();
    hosts::note_pauses(&mut db.client, SCHEMA, &[(host(), LONG)]).unwrap();
    let (mut one, _) = join(&db, "one", 8);
    let leased = lease_hosts(&mut one, 1);
    assert_eq!(leased[0].learned.as_deref(), Some("{}"));
    let pause = leased[0].pause.unwrap();
    assert!(pause <= LONG && pause > LONG / 2, "{pause:?}");
    hosts::release(&mut one, SCHEMA, &[leased[0].lease]).unwrap();
    let over = "UPDATE skyfill.host SET paused_until = now() - interval '1 s'";
    db.client.batch_execute(over).unwrap();
    let leased = lease_hosts(&mut one, 1);
    assert_eq!(leased[0].pause, None);
    // Somebody wants it to be tried now.
    hosts::note_pauses(&mut db.client, SCHEMA, &[(host(), LONG)]).unwrap();
    assert_eq!(hosts::forget_pauses(&mut db.client, SCHEMA).unwrap(), 1);
    hosts::release(&mut one, SCHEMA, &[leased[0].lease]).unwrap();
    assert_eq!(lease_hosts(&mut one, 1)[0].pause, None);
}

#[test]
fn a_host_that_a_pass_is_to_list_is_left_to_it() {
    use ledger::listing::{self, Listing};
    let mut db = Ledger::new();
    add_hosts(&mut db, 2);
    let (pass, _) = listing::begin(&mut db.client, SCHEMA, "source", None).unwrap();
    let listed = [("h00.example".to_owned(), "https://h00.example".to_owned())];
    listing::add_hosts(&mut db.client, SCHEMA, pass, &listed).unwrap();
    let (mut one, _) = join(&db, "one", 8);
    let names = |client: &mut Client, leaves_unlisted: bool| {
        let wish = Wish {
            leaves_unlisted,
            ..Wish::new(Which::All, 9)
        };
        let leased = hosts::lease(client, SCHEMA, wish).unwrap();
        hosts::release(client, SCHEMA, &lease_numbers(&leased)).unwrap();
        let mut names: Vec<String> = leased.into_iter().map(|leased| leased.host).collect();
        names.sort();
        names
    };
    assert_eq!(names(&mut one, true), ["h01.example"]);
    assert_eq!(names(&mut one, false), ["h00.example", "h01.example"]);
    listing::host_ended(&mut db.client, SCHEMA, "h00.example", Listing::Whole).unwrap();
    assert_eq!(names(&mut one, true), ["h00.example", "h01.example"]);
}

#[test]
fn a_pass_that_others_ended_in_the_run_is_found() {
    use ledger::listing;
    use ledger::runs::{self, Mode, Phase, Run};
    let mut db = Ledger::new();
    let ended = |db: &mut Ledger| listing::ended_in_run(&mut db.client, SCHEMA, "source").unwrap();
    let (before, _) = listing::begin(&mut db.client, SCHEMA, "source", None).unwrap();
    listing::end(&mut db.client, before).unwrap();
    assert_eq!(
        listing::last_ended(&mut db.client, SCHEMA, "source").unwrap(),
        Some(before)
    );
    let run = Run {
        id: 0,
        now: "2026-11-01T00:00:00.000Z".to_owned(),
        mode: Mode::Merge,
        phase: Phase::Load,
        collections: None,
        notifications: "all".to_owned(),
        since: None,
    };
    let run = runs::begin(&mut db.client, SCHEMA, &run).unwrap();
    assert_eq!(ended(&mut db), None);
    let (pass, _) = listing::begin(&mut db.client, SCHEMA, "source", None).unwrap();
    assert_eq!(ended(&mut db), None);
    listing::end(&mut db.client, pass).unwrap();
    assert_eq!(ended(&mut db), Some(pass));
    runs::advance(&mut db.client, run, Phase::Load, Phase::Indexes).unwrap();
    assert_eq!(ended(&mut db), None);
}
