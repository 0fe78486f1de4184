//! Parts of repos: the last one makes a repo loaded, whatever their order.

use crate::support::{Ledger, NEWEST, SCHEMA};
use ledger::parts::{self, PartState, StoredPart};
use ledger::repos::Stored;

const DID: &str = "did:plc:a";
const PDS: (&str, &str) = ("https://a.example", "a.example");

fn lock(db: &mut Ledger, rev: &str, part: (i16, i16)) -> PartState {
    parts::lock(&mut db.client, SCHEMA, DID, PDS, (rev, NEWEST), part).unwrap()
}

fn store(db: &mut Ledger, rev: &str, part: (i16, i16)) -> bool {
    let part = StoredPart {
        part,
        pds: PDS,
        repo: Stored {
            did: DID,
            rev,
            commit_cid: "cid",
            commit: b"block",
            records: 1,
            skipped: 10,
            duplicates: 100,
            car_bytes: 9,
            proof: None,
            is_fork: false,
        },
    };
    parts::loaded(&mut db.client, SCHEMA, 1, &part).unwrap()
}

#[test]
fn a_repo_is_loaded_when_its_last_part_is() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut db = Ledger::new();
        for (at, part) in order.into_iter().enumerate() {
            let part = (part, 3);
            assert_eq!(lock(&mut db, "3b", part), PartState::Wanted);
            assert_eq!(store(&mut db, "3b", part), at == 2);
            // The same one again is there.
            assert_eq!(lock(&mut db, "3b", part), PartState::There);
            let state = if at == 2 { "loaded" } else { "coming" };
            assert_eq!(db.get(DID, "state"), state);
        }
        assert_eq!(
            db.get(DID, "rev, records, skipped, duplicates"),
            "3b 3 30 300"
        );
        assert!(db.rows("part").is_empty());
    }
}

#[test]
fn parts_of_a_newer_rev_take_the_place_of_older_ones() {
    let mut db = Ledger::new();
    store_first(&mut db);
    assert_eq!(
        lock(&mut db, "3a", (0, 2)),
        PartState::Older("3b".to_owned())
    );
    assert_eq!(lock(&mut db, "3c", (1, 2)), PartState::Wanted);
    assert!(!store(&mut db, "3c", (1, 2)));
    // What was stored of the older one counts no more, nor would it in another split.
    assert_eq!(db.rows("part").len(), 1);
    assert_eq!(lock(&mut db, "3c", (0, 1)), PartState::Wanted);
    assert!(store(&mut db, "3c", (0, 1)));
    assert_eq!(db.get(DID, "state, rev, records"), "loaded 3c 1");
}

fn store_first(db: &mut Ledger) {
    assert_eq!(lock(db, "3b", (0, 2)), PartState::Wanted);
    assert!(!store(db, "3b", (0, 2)));
}

#[test]
fn a_rev_in_the_future_or_to_be_rebuilt_keeps_nothing_out() {
    let mut db = Ledger::new();
    store_first(&mut db);
    assert!(store(&mut db, "3b", (1, 2)));
    assert_eq!(
        lock(&mut db, "3a", (0, 2)),
        PartState::Older("3b".to_owned())
    );
    let newest = ("3a", "3a0");
    let found = parts::lock(&mut db.client, SCHEMA, DID, PDS, newest, (0, 2)).unwrap();
    assert_eq!(found, PartState::Wanted);
    db.set(DID, "rebuild = true");
    assert_eq!(lock(&mut db, "3a", (0, 2)), PartState::Wanted);
    // What the AppView's tables have counts, too.
    let mut db = Ledger::new();
    db.client
        .execute(
            "INSERT INTO bsky.actor_sync (did, \"commitCid\", \"repoRev\") VALUES ($1, 'c', '3b')",
            &[&DID],
        )
        .unwrap();
    assert_eq!(
        lock(&mut db, "3a", (0, 2)),
        PartState::Older("3b".to_owned())
    );
}
