//! Repos that are behind the event stream: when they are opened, and when they are settled.

use crate::support::{Ledger, SCHEMA};
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
