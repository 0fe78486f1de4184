//! Columns that are enums: an unknown word is an error that names it, wherever it is read.

use crate::support::{Ledger, SCHEMA};
use ledger::coverage::Coverage;
use ledger::handles;
use ledger::identity::{self, DocumentNote, DocumentState, HandleState};
use ledger::listing;
use ledger::open::Which;
use ledger::proofs::{self, Proof};
use ledger::repos;
use ledger::runs::{self, Mode, Phase, Run};
use ledger::states::State;
use ledger::verified;
use postgres::Error;

fn run() -> Run {
    Run {
        id: 0,
        now: "2026-11-01T00:00:00.000Z".to_owned(),
        mode: Mode::Fresh,
        phase: Phase::Load,
        collections: None,
        notifications: "all".to_owned(),
        since: None,
    }
}

/// The whole text of an error.
fn text_of<T>(outcome: Result<T, Error>) -> String {
    outcome
        .err()
        .map(|error| pg::DbError::from(error).to_string())
        .unwrap_or_default()
}

#[test]
fn a_word_that_is_not_known_is_an_error_that_names_it() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:a"]);
    db.set(
        "did:plc:a",
        "state = 'loaded', rev = '3a', commit_cid = 'c'",
    );
    runs::begin(&mut db.client, SCHEMA, &run()).unwrap();
    identity::enroll(&mut db.client, SCHEMA, &["did:plc:a".to_owned()]).unwrap();
    type Read = fn(&mut Ledger) -> Result<(), Error>;
    let coverage: Read = |db| Coverage::read(&mut db.client, SCHEMA).map(drop);
    let page: Read = |db| {
        verified::page(
            &mut db.client,
            SCHEMA,
            "",
            Some(&["did:plc:a".to_owned()]),
            9,
        )
        .map(drop)
    };
    let open: Read =
        |db| repos::open(&mut db.client, SCHEMA, ("a.example", Which::All), "", 9).map(drop);
    let unproved: Read = |db| proofs::unproved(&mut db.client, SCHEMA, "", 9).map(drop);
    let last: Read = |db| runs::last(&mut db.client, SCHEMA).map(drop);
    let all: Read = |db| runs::all(&mut db.client, SCHEMA).map(drop);
    let summary: Read = |db| handles::by_state(&mut db.client, SCHEMA).map(drop);
    for (table, change, read, named) in [
        (
            "repo",
            "state = 'loadde'",
            coverage,
            "skyfill.repo has the state \"loadde\"",
        ),
        (
            "repo",
            "state = 'loadde'",
            page,
            "skyfill.repo has the state \"loadde\"",
        ),
        (
            "repo",
            "state = 'open', proof = 'sworn'",
            open,
            "skyfill.repo has the proof \"sworn\"",
        ),
        (
            "run",
            "phase = 'compact'",
            last,
            "skyfill.run has the phase \"compact\"",
        ),
        (
            "run",
            "phase = 'compact'",
            coverage,
            "skyfill.run has the phase \"compact\"",
        ),
        (
            "run",
            "mode = 'lazy'",
            last,
            "skyfill.run has the mode \"lazy\"",
        ),
        (
            "run",
            "mode = 'lazy'",
            all,
            "skyfill.run has the mode \"lazy\"",
        ),
        (
            "identity",
            "document = 'x'",
            summary,
            "the document state \"x\"",
        ),
        (
            "identity",
            "handle = 'x'",
            summary,
            "the handle state \"x\"",
        ),
    ] {
        db.client
            .batch_execute(&format!("UPDATE skyfill.{table} SET {change}"))
            .unwrap();
        let error = text_of(read(&mut db));
        assert!(error.contains(named), "{change}: {error}");
        db.client
            .batch_execute(
                "UPDATE skyfill.repo SET state = 'loaded', proof = NULL;
                 UPDATE skyfill.run SET phase = 'load', mode = 'fresh';
                 UPDATE skyfill.identity SET document = 'unknown', handle = 'unknown'",
            )
            .unwrap();
        assert_eq!(text_of(read(&mut db)), "");
    }
    // Of what is proved nothing is looked for, whatever the word.
    assert_eq!(text_of(unproved(&mut db)), "");
}

#[test]
fn every_state_is_read_as_it_was_written() {
    let mut db = Ledger::new();
    for state in State::ALL {
        let did = format!("did:plc:{}", state.word().replace(' ', ""));
        db.add("a.example", &[&did]);
        db.set(&did, &format!("state = '{state}'"));
        let known = verified::page(&mut db.client, SCHEMA, "", Some(&[did]), 9).unwrap();
        assert_eq!(known[0].state, state);
    }
    let coverage = Coverage::read(&mut db.client, SCHEMA).unwrap();
    assert_eq!(coverage.repos.len(), State::ALL.len());
    assert_eq!(coverage.count(State::is_unfinished), 4);
    assert_eq!(
        repos::count_open(&mut db.client, SCHEMA, Which::All).unwrap(),
        1
    );
    // Those of accounts that are not active.
    let dids = ["did:plc:suspended", "did:plc:deleted", "did:plc:open"];
    let inactive = listing::inactive(&mut db.client, SCHEMA, &dids).unwrap();
    assert_eq!(inactive.len(), 1);
    assert_eq!(inactive[0].1.word(), "suspended");
}

#[test]
fn documents_and_handles_are_counted_by_their_states() {
    let mut db = Ledger::new();
    for (number, state) in DocumentState::ALL.into_iter().enumerate().skip(1) {
        let note = DocumentNote {
            did: format!("did:plc:{number}"),
            state,
            claimed_handle: None,
            pds: None,
            signing_key: None,
            error: None,
            is_fresh: true,
            heard: None,
        };
        identity::add_documents(&mut db.client, SCHEMA, &[note]).unwrap();
    }
    for (number, state) in HandleState::ALL.into_iter().enumerate().skip(1) {
        let note = identity::HandleNote {
            did: format!("did:plc:{number}"),
            state,
            error: None,
            again_in: None,
            heard: None,
        };
        assert_eq!(
            identity::note_handles(&mut db.client, SCHEMA, &[note]).unwrap(),
            1
        );
    }
    let summary = handles::by_state(&mut db.client, SCHEMA).unwrap();
    assert_eq!(summary.len(), 5);
    assert!(summary.contains(&(DocumentState::Good, HandleState::Verified, 1)));
    assert!(summary.contains(&(DocumentState::Unreachable, HandleState::NoDocument, 1)));
}

#[test]
fn a_run_goes_from_phase_to_phase_and_that_of_a_producer_has_none() {
    let mut db = Ledger::new();
    let client = &mut db.client;
    assert_eq!(runs::last(client, SCHEMA).unwrap(), None);
    let now = "2026-10-01T00:00:00.000Z";
    let of_producer = runs::of_producer(client, SCHEMA, now).unwrap();
    assert_eq!(runs::of_producer(client, SCHEMA, now).unwrap(), of_producer);
    assert_eq!(runs::last(client, SCHEMA).unwrap(), None);
    let id = runs::begin(client, SCHEMA, &run()).unwrap();
    assert!(runs::advance(client, id, Phase::Load, Phase::Indexes).unwrap());
    // Somebody else has moved it.
    assert!(!runs::advance(client, id, Phase::Load, Phase::Indexes).unwrap());
    assert_eq!(
        runs::last(client, SCHEMA).unwrap().unwrap().phase,
        Phase::Indexes
    );
    runs::load_again(client, id).unwrap();
    let again = runs::last(client, SCHEMA).unwrap().unwrap();
    assert_eq!((again.phase, again.mode), (Phase::Load, Mode::Merge));
    let modes: Vec<Mode> = runs::all(client, SCHEMA)
        .unwrap()
        .iter()
        .map(|run| run.mode)
        .collect();
    assert_eq!(modes, [Mode::Merge, Mode::Merge]);
    // What the run alone was told goes with it.
    let setting = |name: &str, of_run| ledger::settings::Setting {
        name: name.to_owned(),
        values: vec!["x".to_owned()],
        from_environment: false,
        of_run,
    };
    let told = [setting("mode", true), setting("host-rate", false)];
    ledger::settings::note(client, SCHEMA, &told).unwrap();
    assert_eq!(ledger::settings::all(client, SCHEMA).unwrap().len(), 2);
    assert!(runs::advance(client, id, Phase::Load, Phase::Done).unwrap());
    let left = ledger::settings::all(client, SCHEMA).unwrap();
    assert_eq!(left, [setting("host-rate", false)]);
    // A new value takes the place of the old one.
    let newer = ledger::settings::Setting {
        values: Vec::new(),
        ..setting("host-rate", false)
    };
    ledger::settings::note(client, SCHEMA, std::slice::from_ref(&newer)).unwrap();
    assert_eq!(ledger::settings::all(client, SCHEMA).unwrap(), [newer]);
    ledger::settings::forget(client, SCHEMA, &["host-rate"]).unwrap();
    assert!(ledger::settings::all(client, SCHEMA).unwrap().is_empty());
}

#[test]
fn a_proof_is_noted_for_the_commit_that_was_looked_at() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:a", "did:plc:b", "did:plc:c"]);
    for did in ["did:plc:a", "did:plc:b", "did:plc:c"] {
        db.set(
            did,
            "state = 'loaded', rev = '3a', commit_cid = 'c', commit = ''",
        );
    }
    assert_eq!(
        proofs::unproved(&mut db.client, SCHEMA, "", 9)
            .unwrap()
            .len(),
        3
    );
    let found = |did: &str, cid: &str, proof, at: Option<&str>| proofs::Found {
        did: did.to_owned(),
        commit_cid: cid.to_owned(),
        proof,
        at: at.map(|host| (format!("https://{host}"), host.to_owned())),
    };
    let opened = proofs::note(
        &mut db.client,
        SCHEMA,
        &[
            found("did:plc:a", "c", Proof::Signed, None),
            found("did:plc:b", "older", Proof::Forged, Some("b.example")),
            found("did:plc:c", "c", Proof::Forged, Some("b.example")),
        ],
    );
    assert_eq!(opened.unwrap(), 1);
    assert_eq!(
        db.get("did:plc:a", "state, host, proof"),
        "loaded a.example signed"
    );
    assert_eq!(
        db.get("did:plc:b", "state, host, proof"),
        "loaded a.example"
    );
    assert_eq!(
        db.get("did:plc:c", "state, host, proof"),
        "open b.example forged"
    );
}
