//! Lists of skipped records, and what was dropped.

use crate::support::{Ledger, SCHEMA};
use ledger::dropped::{self, Dropped};
use ledger::fold;
use ledger::skipped::{self, Change, ListWriter, Reason, Skipped};
use ledger::slices;
use std::io::Write;

const DID: &str = "did:plc:a";

/// Stores the list of a part: keys of this prefix.
fn store(db: &mut Ledger, did: &str, part: i16, keys: &[&str]) {
    let mut rows = Vec::new();
    for (number, key) in (0i32..).zip(keys) {
        let mut writer = ListWriter::default();
        assert_eq!(
            writer.add(key.as_bytes(), &[7; 36], Reason::Refused, "why"),
            None
        );
        let piece = writer.take().unwrap();
        skipped::append_row(&mut rows, SCHEMA, did, (part, number), &piece);
    }
    let mut copy = db.client.copy_in(skipped::COPY).unwrap();
    // The header of PostgreSQL's binary format, and its trailer.
    copy.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
        .unwrap();
    copy.write_all(&rows).unwrap();
    copy.write_all(&(-1i16).to_be_bytes()).unwrap();
    copy.finish().unwrap();
}

fn keys(db: &mut Ledger, did: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for part in skipped::parts(&mut db.client, SCHEMA, did).unwrap() {
        for number in 0.. {
            let piece = skipped::piece(&mut db.client, SCHEMA, did, (part, number)).unwrap();
            let Some(piece) = piece else { break };
            let entries = skipped::read_piece(&piece).unwrap();
            keys.extend(
                entries
                    .into_iter()
                    .map(|e| String::from_utf8(e.key).unwrap()),
            );
        }
    }
    keys
}

#[test]
fn a_list_comes_back_piece_by_piece_and_a_newer_one_takes_its_place() {
    let mut db = Ledger::new();
    store(&mut db, DID, 0, &["a/1", "a/2"]);
    store(&mut db, DID, 2, &["c/1"]);
    store(&mut db, "did:plc:b", 0, &["b/1"]);
    assert_eq!(keys(&mut db, DID), ["a/1", "a/2", "c/1"]);
    // A part takes away its own pieces, a whole repo all.
    skipped::forget(&mut db.client, SCHEMA, &[(DID, 2)], true).unwrap();
    assert_eq!(keys(&mut db, DID), ["a/1", "a/2"]);
    skipped::forget(&mut db.client, SCHEMA, &[(DID, 2)], false).unwrap();
    assert!(keys(&mut db, DID).is_empty());
    assert_eq!(keys(&mut db, "did:plc:b"), ["b/1"]);
}

#[test]
fn what_was_dropped_is_remembered_until_it_is_there_again() {
    let mut db = Ledger::new();
    let of = |name: &str, ddl: &str| Dropped {
        table: "like".to_owned(),
        name: name.to_owned(),
        ddl: ddl.to_owned(),
        index: (name == "two").then(|| format!("{ddl} of two")),
        tablespace: Some("it's".to_owned()),
    };
    dropped::save(&mut db.client, SCHEMA, &of("one", "CREATE INDEX one")).unwrap();
    dropped::save(&mut db.client, SCHEMA, &of("two", "CREATE INDEX two")).unwrap();
    dropped::save(&mut db.client, SCHEMA, &of("two", "CREATE INDEX newer")).unwrap();
    let list = dropped::list(&mut db.client, SCHEMA).unwrap();
    assert_eq!(
        list,
        [
            of("one", "CREATE INDEX one"),
            of("two", "CREATE INDEX newer")
        ]
    );
    assert!(dropped::list(&mut db.client, "other").unwrap().is_empty());
    dropped::save(&mut db.client, SCHEMA, &of("it's", "CREATE INDEX three")).unwrap();
    assert!(dropped::is_listed(&mut db.client, SCHEMA, "it's").unwrap());
    for name in ["one", "it's"] {
        let forget = dropped::forget(SCHEMA, name);
        db.client.batch_execute(&forget).unwrap();
        assert!(!dropped::is_listed(&mut db.client, SCHEMA, name).unwrap());
    }
    assert_eq!(dropped::list(&mut db.client, SCHEMA).unwrap().len(), 1);
}

#[test]
fn slices_cover_a_stage_and_each_is_taken_by_one() {
    let mut db = Ledger::new();
    let mut other = db.connect();
    let mut txn = db.client.transaction().unwrap();
    let bounds = ["b".to_owned(), "c".to_owned()];
    slices::plan(&mut txn, SCHEMA, "flags", &bounds, false).unwrap();
    txn.commit().unwrap();
    assert_eq!(
        slices::count(&mut db.client, SCHEMA, "flags").unwrap(),
        (3, 0)
    );
    let mut first = db.client.transaction().unwrap();
    let one = slices::claim(&mut first, SCHEMA, "flags", false)
        .unwrap()
        .unwrap();
    assert_eq!((one.lower, one.upper.as_deref()), (None, Some("b")));
    let mut second = other.transaction().unwrap();
    let two = slices::claim(&mut second, SCHEMA, "flags", false)
        .unwrap()
        .unwrap();
    assert_eq!(
        (two.lower.as_deref(), two.upper.as_deref()),
        (Some("b"), Some("c"))
    );
    slices::done(&mut first, SCHEMA, "flags", one.number).unwrap();
    first.commit().unwrap();
    // One that broke off is taken again.
    drop(second);
    let mut third = other.transaction().unwrap();
    let again = slices::claim(&mut third, SCHEMA, "flags", false)
        .unwrap()
        .unwrap();
    assert_eq!(again.number, two.number);
    drop(third);
    assert_eq!(
        slices::count(&mut db.client, SCHEMA, "flags").unwrap(),
        (3, 1)
    );
    db.client
        .batch_execute(&slices::out_of_date(SCHEMA))
        .unwrap();
    assert_eq!(
        slices::count(&mut db.client, SCHEMA, "flags").unwrap(),
        (0, 0)
    );
}

/// A change of the list: an entry that came, or went.
fn change(key: &str, is_there: bool) -> Change {
    let entry = Skipped {
        key: key.as_bytes().to_vec(),
        cid: [8; 36],
        reason: Reason::Unindexed,
        detail: String::new(),
    };
    Change {
        did: DID.to_owned(),
        key: key.as_bytes().to_vec(),
        entry: is_there.then_some(entry),
    }
}

#[test]
fn many_changes_of_a_list_are_put_into_it() {
    let mut db = Ledger::new();
    db.add("a", &[DID]);
    store(&mut db, DID, 0, &["b", "d", "f"]);
    let few = [change("a", true), change("b", false), change("d", true)];
    skipped::store_changes(&mut db.client, SCHEMA, &few).unwrap();
    assert_eq!(fold::fold_long(&mut db.client, SCHEMA, &[DID]).unwrap(), 0);
    assert_eq!(keys(&mut db, DID), ["b", "d", "f"]);
    let many: Vec<Change> = (0..1000)
        .map(|n| change(&format!("x{n:04}"), n == 0))
        .collect();
    skipped::store_changes(&mut db.client, SCHEMA, &many).unwrap();
    assert_eq!(fold::fold_long(&mut db.client, SCHEMA, &[DID]).unwrap(), 1);
    assert_eq!(keys(&mut db, DID), ["a", "d", "f", "x0000"]);
    assert!(db.rows("skipped_change").is_empty());
    // That of a repo that came in parts stays.
    store(&mut db, DID, 1, &["c"]);
    skipped::store_changes(&mut db.client, SCHEMA, &few).unwrap();
    assert!(!fold::fold(&mut db.client, SCHEMA, DID).unwrap());
    assert_eq!(db.rows("skipped_change").len(), 3);
}
