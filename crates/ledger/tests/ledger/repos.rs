//! What becomes of repos, state by state.

use crate::support::{Ledger, SCHEMA, lease_hosts};
use ledger::open::Which;
use ledger::proofs::Proof;
use ledger::repos::{self, Note, RetryFailed, Stored, Unfound};
use ledger::states::State;
use ledger::verified;
use std::time::Duration;

const DID: &str = "did:plc:a";

/// A ledger with one repo, and the lease of its host.
fn one() -> (Ledger, i64) {
    let mut db = Ledger::new();
    db.add("a.example", &[DID]);
    let lease = lease_hosts(&mut db.client, 1)[0].lease;
    (db, lease)
}

fn note(lease: i64, state: State, proof: Option<Proof>) -> Note {
    Note {
        did: DID.to_owned(),
        lease,
        state,
        code: None,
        error: Some("why\0".to_owned()),
        proof,
    }
}

fn stored(rev: &str) -> Stored<'_> {
    Stored {
        did: DID,
        rev,
        commit_cid: "cid",
        commit: b"block",
        records: 3,
        skipped: 2,
        duplicates: 1,
        car_bytes: 9,
        proof: Some(Proof::Signed),
        is_fork: true,
    }
}

#[test]
fn what_is_noted_of_a_pending_repo_stands() {
    let (mut db, lease) = one();
    for (state, proof, row) in [
        (State::Failed, None, "failed 1"),
        (State::NotFound, None, "not found 0"),
        (State::Takendown, None, "takendown 0"),
        (State::OptedOut, None, "host opted out 0"),
        (State::Loaded, Some(Proof::OlderKey), "loaded 0 older key"),
    ] {
        db.set(DID, "state = 'open', attempts = 0, newer = true");
        let noted = [note(lease, state, proof)];
        assert_eq!(repos::note(&mut db.client, SCHEMA, &noted).unwrap(), 1);
        assert_eq!(db.get(DID, "state, attempts, proof"), row);
        assert_eq!(db.get(DID, "newer, error"), "f why\u{fffd}");
        // Only what is pending is.
        assert_eq!(repos::note(&mut db.client, SCHEMA, &noted).unwrap(), 0);
    }
}

#[test]
fn the_pause_after_a_failure_doubles_and_ends_at_a_day_and_a_half() {
    let (mut db, lease) = one();
    for hours in [1, 2, 4, 8, 16, 32, 32] {
        db.set(DID, "state = 'open'");
        repos::note(&mut db.client, SCHEMA, &[note(lease, State::Failed, None)]).unwrap();
        let pause = "round(extract(epoch FROM next_attempt - now()) / 3600)";
        assert_eq!(db.get(DID, pause), hours.to_string());
    }
    let retry = |db: &mut Ledger, which| repos::retry_failed(&mut db.client, SCHEMA, which);
    assert_eq!(retry(&mut db, RetryFailed::Due).unwrap(), 0);
    db.set(DID, "next_attempt = now()");
    assert_eq!(retry(&mut db, RetryFailed::DueBelow(7)).unwrap(), 0);
    assert_eq!(retry(&mut db, RetryFailed::DueBelow(8)).unwrap(), 1);
    assert_eq!(db.get(DID, "state, attempts"), "open 7");
    db.set(DID, "state = 'failed', next_attempt = 'infinity'");
    assert_eq!(retry(&mut db, RetryFailed::All).unwrap(), 1);
    assert_eq!(db.get(DID, "state, attempts"), "open 0");
}

#[test]
fn a_repo_is_loaded_by_the_transaction_that_stores_it_and_pending_again_when_it_is_added() {
    let (mut db, lease) = one();
    let held = repos::lock(&mut db.client, SCHEMA, &[DID], &[lease]).unwrap();
    assert_eq!((held[0].rev.as_deref(), held[0].proof), (None, None));
    let (rebuilt, new) = repos::rebuilt_and_new(&mut db.client, SCHEMA, &[DID]).unwrap();
    assert_eq!((rebuilt.len(), new.len()), (0, 1));
    repos::loaded(&mut db.client, SCHEMA, 7, &[stored("3a")]).unwrap();
    let known = verified::page(&mut db.client, SCHEMA, "", Some(&[DID.to_owned()]), 9).unwrap();
    let [known] = known.as_slice() else {
        panic!("{known:?}")
    };
    assert_eq!(
        (known.state, known.records, known.run),
        (State::Loaded, 3, Some(7))
    );
    assert_eq!(known.commit.as_deref(), Some(&b"block"[..]));
    assert_eq!(db.get(DID, "rev, proof, forks"), "3a signed 1");
    assert!(
        repos::lock(&mut db.client, SCHEMA, &[DID], &[lease])
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        repos::count_stored(&mut db.client, SCHEMA, lease).unwrap(),
        1
    );
    db.add("a.example", &[DID, "did:plc:b"]);
    let open = repos::open(&mut db.client, SCHEMA, ("a.example", Which::All), "", 9).unwrap();
    let revs: Vec<Option<&str>> = open.iter().map(|open| open.rev.as_deref()).collect();
    assert_eq!(revs, [Some("3a"), None]);
    assert_eq!(open[0].proof, Some(Proof::Signed));
    assert_eq!(
        repos::rebuild(&mut db.client, SCHEMA, &[DID.to_owned()]).unwrap(),
        1
    );
    let (rebuilt, new) = repos::rebuilt_and_new(&mut db.client, SCHEMA, &[DID]).unwrap();
    assert_eq!((rebuilt.len(), new.len()), (1, 0));
    let unknown = ["did:plc:x".to_owned(), DID.to_owned()];
    assert_eq!(
        repos::unknown(&mut db.client, SCHEMA, &unknown).unwrap(),
        ["did:plc:x"]
    );
    // Into empty tables all is loaded again.
    repos::forget_loaded(&mut db.client, SCHEMA).unwrap();
    assert_eq!(db.get(DID, "state, rev, commit_cid"), "open");
}

#[test]
fn of_a_deleted_account_nothing_is_kept_but_that_it_is() {
    let (mut db, _) = one();
    repos::loaded(&mut db.client, SCHEMA, 7, &[stored("3a")]).unwrap();
    ledger::identity::enroll(&mut db.client, SCHEMA, &[DID.to_owned()]).unwrap();
    repos::deleted(&mut db.client, SCHEMA, DID).unwrap();
    assert_eq!(
        db.get(DID, "state, rev, commit_cid, records, proof, error"),
        "deleted"
    );
    assert!(db.rows("identity").is_empty());
}

#[test]
fn a_host_that_is_away_fails_what_is_left_of_it() {
    let (mut db, lease) = one();
    db.add("a.example", &["did:plc:b", "did:plc:c"]);
    let error = ("host away", "it rests");
    let hour = Duration::from_secs(3600);
    let place = ("a.example", lease);
    let failed = repos::fail_host(&mut db.client, SCHEMA, place, DID, error, hour).unwrap();
    assert_eq!(failed, 2);
    assert_eq!(db.get(DID, "state"), "open");
    assert_eq!(
        db.get("did:plc:c", "state, error_code, error"),
        "failed host away it rests"
    );
    // Where it was found elsewhere, it is asked for there.
    let moved = repos::Moved {
        did: DID.to_owned(),
        lease,
        pds: "https://b.example".to_owned(),
        host: "b.example".to_owned(),
    };
    db.set(DID, "rev = '3a'");
    assert_eq!(repos::moved(&mut db.client, SCHEMA, &[moved]).unwrap(), 1);
    assert_eq!(
        db.get(DID, "state, host, moves, proof"),
        "open b.example 1 elsewhere"
    );
}

#[test]
fn an_account_without_a_pds_is_added_with_the_reason_and_a_known_one_is_asked_where_it_was() {
    let mut db = Ledger::new();
    db.add("a.example", &["did:plc:known"]);
    db.set("did:plc:known", "state = 'loaded'");
    let unfound = |did: &str, state| Unfound {
        did: did.to_owned(),
        state,
        code: "no account",
        error: "why".to_owned(),
    };
    let accounts = [
        unfound("did:plc:known", State::NotFound),
        unfound("did:plc:x", State::NotFound),
        unfound("did:plc:y", State::Failed),
    ];
    assert_eq!(
        repos::add_unfound(&mut db.client, SCHEMA, &accounts).unwrap(),
        3
    );
    assert_eq!(db.get("did:plc:known", "state, host"), "open a.example");
    assert_eq!(db.get("did:plc:x", "state, next_attempt"), "not found");
    assert_eq!(
        db.get("did:plc:y", "state, next_attempt > now()"),
        "failed t"
    );
}

#[test]
fn an_older_rev_keeps_out_unless_nobody_proved_it() {
    let (signed, forged) = (Some(Proof::Signed), Some(Proof::Forged));
    for (stored, rebuild, proof, coming, is_binding) in [
        ("3b", false, signed, None, true),
        ("3b", false, signed, signed, true),
        ("3b", false, None, None, true),
        ("3b", false, None, signed, false),
        ("3b", false, forged, signed, false),
        ("3b", true, signed, None, false),
        ("3z", false, signed, None, false),
    ] {
        let found = repos::is_binding(stored, "3c", rebuild, proof, coming);
        assert_eq!(found, is_binding, "{stored} {rebuild} {proof:?} {coming:?}");
    }
}
