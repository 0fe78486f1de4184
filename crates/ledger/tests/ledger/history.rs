//! Processes, their samples and phases; what hosts gave; counts that are kept.

use crate::support::{Ledger, SCHEMA};
use ledger::coverage::{self, Coverage};
use ledger::history::{self, PhaseTime, Sample};
use ledger::hosts::{self, Chosen, Gave};
use ledger::processes::{self, Entering, Process};
use ledger::verified;

const RUN: Entering<'_> = Entering {
    command: "run",
    machine: "db1",
    pid: 4711,
    version: "0.1.0",
};

fn only(ledger: &mut Ledger) -> Process {
    let mut all = processes::latest(&mut ledger.client, SCHEMA, 10).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_process_is_alive_as_long_as_its_session_lives() {
    let mut ledger = Ledger::new();
    let mut session = ledger.connect();
    let id = processes::enter(&mut session, SCHEMA, &RUN).unwrap();
    processes::seen(&mut session, id, Some(3), "load").unwrap();
    let process = only(&mut ledger);
    assert!(process.is_alive && process.ended.is_none());
    assert_eq!((process.id, process.pid, process.run), (id, 4711, Some(3)));
    assert_eq!(process.phase.as_deref(), Some("load"));
    // Killed: it could write nothing down.
    drop(session);
    testbed::wait_until("the end of the session", || !only(&mut ledger).is_alive);
    assert_eq!(only(&mut ledger).ended, None);
    // On a new connection it is alive again, and ends by itself.
    let mut session = ledger.connect();
    processes::lock(&mut session, id).unwrap();
    assert!(only(&mut ledger).is_alive);
    processes::leave(&mut session, id).unwrap();
    assert!(only(&mut ledger).ended.is_some());
    // What comes after many others takes the place of the first ones.
    for _ in 0..210 {
        processes::enter(&mut session, SCHEMA, &RUN).unwrap();
    }
    let all = processes::latest(&mut ledger.client, SCHEMA, 1000).unwrap();
    assert_eq!(all.len(), 200);
}

#[test]
fn samples_of_a_run_are_thinned_evenly() {
    let mut ledger = Ledger::new();
    let id = processes::enter(&mut ledger.client, SCHEMA, &RUN).unwrap();
    processes::seen(&mut ledger.client, id, Some(1), "load").unwrap();
    let sample = Sample {
        process: id,
        phase: "load".to_owned(),
        done: Some(7),
        total: Some(9),
        repos: 7,
        records: 70,
        bytes: 700,
        rows: 140,
        limit: Some("hosts".to_owned()),
        why: Some("encoding waits for them".to_owned()),
        ..Sample::default()
    };
    history::note(&mut ledger.client, &sample).unwrap();
    let stored = history::of_run(&mut ledger.client, SCHEMA, 1).unwrap();
    let expected = Sample {
        run: Some(1),
        at: stored[0].at,
        ..sample
    };
    assert_eq!(stored, [expected]);
    assert_eq!(history::thin(&mut ledger.client, id).unwrap(), 0);
    // A day of them, ten seconds apart.
    ledger
        .client
        .batch_execute(&format!(
            "INSERT INTO skyfill.sample SELECT {id}, now() - n * interval '10 seconds', 'load', 1, 2, 3, 4, 5, 6, 7, 8
             FROM generate_series(1, 8640) n"
        ))
        .unwrap();
    assert!(history::thin(&mut ledger.client, id).unwrap() > 7000);
    let left = history::of_run(&mut ledger.client, SCHEMA, 1).unwrap();
    assert!((990..=1001).contains(&left.len()), "{} samples", left.len());
    let gaps: Vec<f64> = left.windows(2).map(|two| two[1].at - two[0].at).collect();
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    assert!(longest < 200.0, "{longest} seconds");
    // The latest one is always there.
    let latest = history::latest(&mut ledger.client, id, 1).unwrap();
    assert_eq!(latest[0].repos, 7);
    assert_eq!(history::of_process(&mut ledger.client, id).unwrap(), left);
}

#[test]
fn a_phase_is_stored_over_itself() {
    let mut ledger = Ledger::new();
    let id = processes::enter(&mut ledger.client, SCHEMA, &RUN).unwrap();
    processes::seen(&mut ledger.client, id, Some(5), "load").unwrap();
    let mut time = PhaseTime {
        process: id,
        number: 2,
        phase: "load".to_owned(),
        began: 1_700_000_000.0,
        seconds: 10.0,
        is_done: false,
        limits: vec![("hosts".to_owned(), 10.0)],
    };
    history::note_phase(&mut ledger.client, &time).unwrap();
    time.seconds = 20.0;
    time.is_done = true;
    time.limits.insert(0, ("PostgreSQL".to_owned(), 12.0));
    history::note_phase(&mut ledger.client, &time).unwrap();
    let stored = history::phases_of_run(&mut ledger.client, SCHEMA, 5).unwrap();
    assert_eq!(stored, [time]);
    assert_eq!(stored[0].bound_by(), Some("PostgreSQL"));
}

#[test]
fn hosts_with_the_most_to_do_come_first() {
    let mut ledger = Ledger::new();
    for host in ["a.example", "b.example", "c.example"] {
        ledger.add(host, &[&format!("did:plc:{host}")]);
    }
    let gave = |host: &str, given: u64, pending: u64| Gave {
        host: host.to_owned(),
        given,
        records: given * 10,
        bytes: given * 100,
        pending,
        pace: 2.5,
        ..Gave::default()
    };
    let mut failing = gave("b.example", 1, 0);
    failing.failed = 4;
    failing.trouble = Some("timed out".to_owned());
    let first = [gave("a.example", 5, 0), failing, gave("c.example", 2, 8)];
    hosts::note_given(&mut ledger.client, SCHEMA, &first).unwrap();
    hosts::note_given(&mut ledger.client, SCHEMA, &[gave("b.example", 1, 0)]).unwrap();
    let (known, all) = hosts::known(&mut ledger.client, SCHEMA, Chosen::First(2)).unwrap();
    let names: Vec<&str> = known.iter().map(|known| known.host.as_str()).collect();
    assert_eq!((names, all), (vec!["c.example", "b.example"], 3));
    let b = &known[1].gave;
    assert_eq!((b.given, b.failed, b.records, b.bytes), (2, 4, 20, 200));
    assert_eq!(b.trouble.as_deref(), Some("timed out"));
    let (one, all) = hosts::known(&mut ledger.client, SCHEMA, Chosen::One("a.example")).unwrap();
    assert_eq!((one[0].gave.given, all), (5, 1));
}

#[test]
fn the_kept_counts_know_whether_a_proof_is_current() {
    let mut ledger = Ledger::new();
    ledger.add("a.example", &["did:plc:a", "did:plc:b"]);
    let now = coverage::now(&mut ledger.client).unwrap();
    verified::note_proof(&mut ledger.client, SCHEMA, &now, 0, true).unwrap();
    let is_current = |ledger: &mut Ledger| {
        let (kept, _) = Coverage::kept(&mut ledger.client, SCHEMA).unwrap();
        let counted = Coverage::read(&mut ledger.client, SCHEMA).unwrap();
        assert_eq!(kept.proof, counted.proof);
        kept.proof.unwrap().is_current
    };
    assert!(is_current(&mut ledger));
    ledger.set(
        "did:plc:a",
        "state = 'loaded', rev = 'x', records = 3, car_bytes = 30, loaded_at = clock_timestamp()",
    );
    assert!(!is_current(&mut ledger));
    let (_, stored) = Coverage::kept(&mut ledger.client, SCHEMA).unwrap();
    assert_eq!((stored.records, stored.bytes), (3, 30));
    ledger::tally::compact(&mut ledger.client, SCHEMA).unwrap();
    assert!(!is_current(&mut ledger));
}
