//! Repos that are behind the event stream: when they are opened, and when they are settled.

use crate::support::{Ledger, SCHEMA, lease_hosts};
use ledger::follow::{self, Behind};
use ledger::identity::{self, DocumentNote, DocumentState, HandleNote, HandleState, Looked};

const DID: &str = "did:plc:a";

fn loaded() -> Ledger {
    let mut db = Ledger::new();
    db.add("a", &[DID]);
    db.set(DID, "state = 'loaded', rev = '3b'");
    db
}

fn event(rev: &str) -> Behind {
    Behind {
        did: DID.to_owned(),
        rev: rev.to_owned(),
        is_signed: !rev.is_empty(),
        reason: "a test",
        is_fall: !rev.is_empty(),
        is_deleted: false,
        at: None,
    }
}

fn note(db: &mut Ledger, event: Behind) -> u64 {
    follow::note_behind(&mut db.client, SCHEMA, &[event]).unwrap()
}

fn settle(db: &mut Ledger) -> u64 {
    follow::settle(&mut db.client, SCHEMA).unwrap()
}

fn behind(db: &mut Ledger) -> (u64, u64) {
    let all = follow::count_behind(&mut db.client, SCHEMA).unwrap();
    let untried = follow::count_untried(&mut db.client, SCHEMA).unwrap();
    (all, untried)
}

/// What a merge of the repo comes to.
fn merged(db: &mut Ledger, becomes: &str) {
    assert_eq!(db.get(DID, "state"), "open");
    db.set(DID, becomes);
}

/// The time of the repo has come.
fn wait(db: &mut Ledger) {
    let earlier = "UPDATE skyfill.behind SET due = now() - interval '1 second'";
    assert_eq!(db.client.execute(earlier, &[]).unwrap(), 1);
}

#[test]
fn a_repo_that_keeps_falling_behind_waits_and_is_fetched_when_its_time_has_come() {
    let mut db = loaded();
    assert_eq!(note(&mut db, event("3c")), 1);
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 1)));
    merged(&mut db, "state = 'loaded', rev = '3c'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
    // Once more: its time has not come.
    assert_eq!(note(&mut db, event("3d")), 0);
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
    assert_eq!(db.get(DID, "state"), "loaded");
    wait(&mut db);
    assert_eq!((settle(&mut db), behind(&mut db)), (1, (1, 1)));
    // Its host does not have it yet.
    merged(&mut db, "state = 'loaded'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
    assert_eq!(follow::hasten(&mut db.client, SCHEMA).unwrap(), 1);
    assert_eq!((settle(&mut db), behind(&mut db)), (1, (1, 1)));
    merged(&mut db, "state = 'loaded', rev = '3e'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
}

#[test]
fn what_is_said_of_an_account_while_its_repo_is_fetched_is_asked_for_afterwards() {
    let mut db = loaded();
    assert_eq!(note(&mut db, event("3c")), 1);
    let deletion = Behind {
        is_deleted: true,
        ..event("")
    };
    assert_eq!(note(&mut db, deletion), 0);
    // What was fetched may be older than that.
    merged(&mut db, "state = 'loaded', rev = '3c', delisted = false");
    assert_eq!((settle(&mut db), behind(&mut db)), (1, (1, 1)));
    assert_eq!(db.get(DID, "delisted"), "t");
    merged(&mut db, "state = 'deleted', rev = NULL");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
}

#[test]
fn an_account_that_changed_does_not_wait_for_its_repo() {
    let mut db = loaded();
    note(&mut db, event("3c"));
    merged(&mut db, "state = 'failed'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
    assert_eq!(note(&mut db, event("")), 1);
    merged(&mut db, "state = 'deactivated'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
}

/// A commit that does not verify, and that names this rev.
fn broken(rev: &str) -> Behind {
    Behind {
        is_signed: false,
        is_fall: true,
        ..event(rev)
    }
}

#[test]
fn a_rev_that_nobody_signed_has_the_host_compared_once() {
    let mut db = loaded();
    assert_eq!(note(&mut db, broken("3z")), 1);
    assert_eq!(db.get(DID, "newer"), "f");
    merged(&mut db, "state = 'loaded'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
    // Again, and again while it is being looked at: ever later.
    assert_eq!(note(&mut db, broken("3z")), 0);
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
    wait(&mut db);
    assert_eq!(settle(&mut db), 1);
    assert_eq!(note(&mut db, broken("3z")), 0);
    merged(&mut db, "state = 'loaded'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
    // One that is not newer than what is stored is nothing.
    let mut db = loaded();
    assert_eq!(note(&mut db, broken("3a")), 0);
    assert_eq!(behind(&mut db), (0, 0));
}

#[test]
fn an_account_that_is_said_to_change_over_and_over_is_asked_for_ever_more_rarely() {
    let mut db = loaded();
    assert_eq!(note(&mut db, event("")), 1);
    merged(&mut db, "state = 'loaded'");
    assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
    for falls in 1..4 {
        assert_eq!(note(&mut db, event("")), 0);
        assert_eq!((settle(&mut db), behind(&mut db)), (0, (1, 0)));
        let sql = "SELECT falls, due > now() + interval '8 seconds' * 2 ^ (falls - 1) FROM skyfill.behind";
        let row = db.client.query_one(sql, &[]).unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (falls, true));
        wait(&mut db);
        assert_eq!(settle(&mut db), 1);
        merged(&mut db, "state = 'loaded'");
        assert_eq!((settle(&mut db), behind(&mut db)), (0, (0, 0)));
    }
    // What is said after ten minutes is looked at immediately.
    let earlier = "UPDATE skyfill.behind SET told_at = told_at - interval '10 minutes'";
    assert_eq!(db.client.execute(earlier, &[]).unwrap(), 1);
    assert_eq!(note(&mut db, event("")), 1);
}

#[test]
fn what_a_host_confirms_is_not_gone() {
    let mut db = loaded();
    let deletion = Behind {
        is_deleted: true,
        ..event("")
    };
    assert_eq!(note(&mut db, deletion), 1);
    assert_eq!(db.get(DID, "delisted"), "t");
    let lease = lease_hosts(&mut db.client, 1).swap_remove(0).lease;
    let note = ledger::repos::Note {
        did: DID.to_owned(),
        lease,
        state: ledger::states::State::Loaded,
        code: None,
        error: None,
        proof: None,
    };
    assert_eq!(
        ledger::repos::note(&mut db.client, SCHEMA, &[note]).unwrap(),
        1
    );
    assert_eq!(db.get(DID, "delisted"), "f");
}

#[test]
fn a_relay_whose_numbers_began_anew_has_the_new_cursor() {
    let mut db = Ledger::new();
    let relay = "https://relay.example";
    let mut moved = |cursor, head| {
        follow::move_cursor(&mut db.client, SCHEMA, relay, cursor, head).unwrap();
        follow::begins_at(&mut db.client, SCHEMA, relay).unwrap()
    };
    assert_eq!(moved(1000, Some(1100)), Some(1000));
    // Another process is further.
    assert_eq!(moved(900, Some(1100)), Some(1000));
    assert_eq!(moved(900, None), Some(1000));
    assert_eq!(moved(50, Some(60)), Some(50));
}

/// A document with this handle, that was asked for when so much had been heard.
fn document(db: &mut Ledger, handle: &str, heard: Option<i64>) {
    let note = DocumentNote {
        did: DID.to_owned(),
        state: DocumentState::Good,
        claimed_handle: Some(handle.to_owned()),
        pds: Some("https://a".to_owned()),
        signing_key: Some("key".to_owned()),
        error: None,
        is_fresh: true,
        heard,
    };
    identity::add_documents(&mut db.client, SCHEMA, &[note]).unwrap();
}

/// The account's handle, whether its document is fresh, and whether it is due.
fn identity_of(db: &mut Ledger) -> (Option<String>, bool, bool) {
    let sql = "SELECT claimed_handle, documented_at IS NOT NULL, coalesce(due <= now(), false) FROM skyfill.identity";
    let row = db.client.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[test]
fn what_was_asked_for_before_something_was_heard_is_not_stored_after_it() {
    let mut db = loaded();
    identity::enroll(&mut db.client, SCHEMA, &[DID.to_owned()]).unwrap();
    document(&mut db, "old.example", None);
    let due = |db: &mut Ledger| {
        identity::due(&mut db.client, SCHEMA, ("", 10), false, Looked::AtAny).unwrap()
    };
    let looked = |db: &mut Ledger, heard| {
        let note = HandleNote {
            did: DID.to_owned(),
            state: HandleState::Verified,
            error: None,
            again_in: None,
            heard,
        };
        identity::note_handles(&mut db.client, SCHEMA, &[note]).unwrap();
    };
    let before = due(&mut db).swap_remove(0).heard;
    follow::look_up_again(&mut db.client, SCHEMA, &[DID]).unwrap();
    document(&mut db, "older.example", before);
    looked(&mut db, before);
    let old = || Some("old.example".to_owned());
    assert_eq!(identity_of(&mut db), (old(), false, true));
    // What is asked for then is stored.
    let after = due(&mut db).swap_remove(0).heard;
    document(&mut db, "new.example", after);
    looked(&mut db, after);
    let new = Some("new.example".to_owned());
    assert_eq!(identity_of(&mut db), (new.clone(), true, false));
    // Of an account that nobody knew, too.
    db.client
        .execute("DELETE FROM skyfill.identity", &[])
        .unwrap();
    follow::look_up_again(&mut db.client, SCHEMA, &[DID]).unwrap();
    document(&mut db, "old.example", Some(0));
    assert_eq!(identity_of(&mut db), (None, false, false));
    document(&mut db, "new.example", None);
    assert_eq!(identity_of(&mut db), (new, true, false));
}
