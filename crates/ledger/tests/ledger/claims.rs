//! Claims of hosts to accounts of other hosts, and what the documents settle.

use crate::support::{Ledger, NEWEST, SCHEMA};
use ledger::claims;
use ledger::identity::{self, DocumentNote, DocumentState};
use ledger::listing::{self, Line, Settled};

const DID: &str = "did:plc:a";
const ROW: &str = "state, host, contested, claimant";

/// `host` lists the repo as active.
fn claim(db: &mut Ledger, host: &str) -> u64 {
    let line = Line {
        did: DID.to_owned(),
        pds: Some((format!("https://{host}"), host.to_owned())),
        ..Line::default()
    };
    listing::page(&mut db.client, SCHEMA, 1, &[line], NEWEST)
        .unwrap()
        .contested
}

fn settle(db: &mut Ledger, host: Option<&str>) {
    let at = host.map_or(Settled::Nowhere, |host| {
        Settled::On(format!("https://{host}"), host.to_owned())
    });
    let settled = [(DID.to_owned(), at)];
    listing::settle(&mut db.client, SCHEMA, &settled).unwrap();
}

fn loaded_on_a() -> Ledger {
    let mut db = Ledger::new();
    db.add("a", &[DID]);
    db.set(DID, "state = 'loaded', rev = '3a', proof = 'signed'");
    db
}

#[test]
fn the_document_settles_a_claim_and_a_lost_one_is_not_heard_again() {
    let mut db = loaded_on_a();
    assert_eq!(claim(&mut db, "b"), 1);
    let open = listing::unsettled(&mut db.client, SCHEMA, "", 9, true).unwrap();
    assert_eq!(open, [(DID.to_owned(), true)]);
    assert!(
        listing::unsettled(&mut db.client, SCHEMA, "", 9, false)
            .unwrap()
            .is_empty()
    );
    settle(&mut db, Some("a"));
    assert_eq!(db.get(DID, ROW), "loaded a f");
    assert_eq!(listing::count_unsettled(&mut db.client, SCHEMA).unwrap(), 0);
    assert_eq!(claim(&mut db, "b"), 0);
    assert_eq!(db.get(DID, ROW), "loaded a f");
    // Another host's is.
    assert_eq!(claim(&mut db, "c"), 1);
    settle(&mut db, Some("c"));
    assert_eq!(db.get(DID, ROW), "open c f");
}

#[test]
fn a_lost_claim_is_heard_again_when_the_document_changes() {
    let mut db = loaded_on_a();
    let document = |db: &mut Ledger, host: &str| {
        let note = DocumentNote {
            did: DID.to_owned(),
            state: DocumentState::Good,
            claimed_handle: None,
            pds: Some(format!("https://{host}")),
            signing_key: Some("key".to_owned()),
            error: None,
            is_fresh: true,
            heard: None,
        };
        identity::add_documents(&mut db.client, SCHEMA, &[note]).unwrap();
    };
    document(&mut db, "a");
    claim(&mut db, "b");
    settle(&mut db, Some("a"));
    document(&mut db, "a");
    assert_eq!(db.rows("lost_claim").len(), 1);
    assert_eq!(db.get(DID, "proof"), "signed");
    document(&mut db, "b");
    assert!(db.rows("lost_claim").is_empty());
    // What was proved by the older document is not proved any more.
    assert_eq!(db.get(DID, "proof"), "");
    assert_eq!(claim(&mut db, "b"), 1);
}

#[test]
fn an_account_without_a_document_is_asked_for_where_it_was() {
    let mut db = loaded_on_a();
    claim(&mut db, "b");
    settle(&mut db, None);
    assert_eq!(db.get(DID, ROW), "open a f");
    let line = Line {
        did: "did:plc:nowhere".to_owned(),
        ..Line::default()
    };
    listing::page(&mut db.client, SCHEMA, 1, &[line], NEWEST).unwrap();
    let settled = [("did:plc:nowhere".to_owned(), Settled::Nowhere)];
    listing::settle(&mut db.client, SCHEMA, &settled).unwrap();
    assert_eq!(db.get("did:plc:nowhere", "state"), "not found");
}

#[test]
fn a_host_that_loses_many_claims_is_not_heard_and_keeps_nothing_that_nobody_proved() {
    let mut db = loaded_on_a();
    let lost: Vec<(String, String)> = (0..20)
        .map(|number| (format!("did:plc:{number}"), "liar".to_owned()))
        .collect();
    db.add("liar", &["did:plc:other"]);
    claims::note_lost(&mut db.client, SCHEMA, &lost, &[]).unwrap();
    // The same again is none.
    claims::note_lost(&mut db.client, SCHEMA, &lost, &[]).unwrap();
    let lost = "SELECT claims_lost FROM skyfill.host WHERE host = 'liar'";
    assert_eq!(db.client.query_one(lost, &[]).unwrap().get::<_, i64>(0), 20);
    assert_eq!(claim(&mut db, "liar"), 0);
    // What it has goes to whoever claims it, unless it is proved.
    for (proof, after) in [("NULL", "open b f"), ("'signed'", "open liar t b")] {
        db.set(DID, &format!("state = 'open', rev = '3a', host = 'liar', claimant = NULL, contested = false, proof = {proof}"));
        claim(&mut db, "b");
        assert_eq!(db.get(DID, ROW), after, "{proof}");
    }
    db.set(
        DID,
        "host = 'a', contested = true, claimant = 'liar', proof = NULL, state = 'loaded'",
    );
    assert_eq!(claims::pass_over_liars(&mut db.client, SCHEMA).unwrap(), 1);
    assert_eq!(db.get(DID, ROW), "loaded a f");
}
