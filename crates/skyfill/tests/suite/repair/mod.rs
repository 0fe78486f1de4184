//! `skyfill repair`: single accounts, in databases that skyfill or somebody else filled, while
//! another indexer writes to them.

mod ingester;

use ingester::Ingester;
use serde_json::Value;
use simnet::Answer;
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testbed::*;

fn repair(db: &TestDb, net: &Net, accounts: &[&str]) -> Command {
    let url = net.server.url();
    let mut command = skyfill();
    command.args(["repair", "--json", "--allow-private-hosts", "--now", NOW]);
    command.args(["--host-rate", "10000", "--plc-rate", "5000"]);
    command.args(["--timeout", "2", "--plc-url", &url]);
    command.args(["--well-known-server", &url, "--did-web-server", &url]);
    command.args(["--dns-server", &dns().address().to_string()]);
    command.args(accounts);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// What became of the first account.
fn first(output: &Output) -> Value {
    summary(output)["accounts"][0].clone()
}

/// A load of all accounts of a network as it is, with their handles.
fn whole(net: &Net) -> TestDb {
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(dir.path(), &net.server.url(), all(net));
    run_well(run_load(&db.url).arg(file).arg("--no-verify"));
    run_well(&mut net.identities(&db));
    db
}

fn all(net: &Net) -> impl Iterator<Item = &str> {
    net.dids.iter().map(String::as_str)
}

/// The account with the most records.
fn largest(tangle: &simnet::Tangle) -> String {
    let largest = tangle.dids().max_by_key(|did| tangle.car(did).len());
    largest.unwrap().to_owned()
}

/// Rows without the times at which they were seen.
fn without_times(dump: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let timeless = |row: String| {
        let mut row: Value = serde_json::from_str(&row).unwrap();
        let fields = row.as_object_mut().unwrap();
        for time in ["indexedAt", "sortAt", "sortedAt"] {
            fields.remove(time);
        }
        row.to_string()
    };
    dump.into_iter()
        .map(|(table, rows)| (table, canonical(rows.into_iter().map(timeless))))
        .collect()
}

#[test]
fn a_database_that_skyfill_filled_ends_as_after_a_whole_load() {
    let tangle = simnet::Tangle::knotted(610, 7, 500);
    let net = Net::of_tangle(&tangle);
    let db = whole(&net);
    let did = largest(&tangle);
    let mut random = simnet::Random::new(4);
    let car = later(&tangle.car(&did), &did, &mut random);
    net.server.set(&did, Answer::Repo(Arc::new(car)));
    let output = run_well(&mut repair(&db, &net, &[&did]));
    let account = first(&output);
    assert_eq!(account["result"], "loaded", "{account}");
    assert!(account["stored"]["kept"].as_u64().unwrap() > 0, "{account}");
    assert!(
        account["stored"]["written"].as_u64().unwrap() > 0,
        "{account}"
    );
    assert_eq!(difference(&db.dump(), &whole(&net).dump()), None);
    // Changes alone were computed, and what was proved stays proved.
    let output = run_well(&mut finalize(&db));
    assert!(
        told(&output).contains("nothing changed since the last time"),
        "{}",
        told(&output)
    );
    // Once more there is nothing to write.
    let again = first(&run_well(&mut repair(&db, &net, &[&did])));
    assert_eq!(again["stored"]["written"], 0, "{again}");
    assert_eq!(again["stored"]["replaced"], 0, "{again}");
}

/// Rows of an account are missing, wrong or left over; nobody keeps a ledger.
const DAMAGE: &str = r#"
    DROP SCHEMA skyfill CASCADE;
    SET search_path = bsky;
    UPDATE post_agg SET "likeCount" = 0, "replyCount" = 7
      WHERE uri IN (SELECT subject FROM "like" WHERE creator = 'DID' AND md5(uri) < '8');
    DELETE FROM record WHERE did = 'DID' AND md5(uri) < '4';
    DELETE FROM "like" WHERE creator = 'DID' AND md5(uri) < '8';
    DELETE FROM post WHERE creator = 'DID' AND md5(uri) < '6';
    UPDATE post SET text = 'wrong' WHERE creator = 'DID' AND md5(uri) > 'c';
    DELETE FROM notification WHERE author = 'DID'
      AND (md5("recordUri") < '4' OR md5("recordUri") < '7' AND reason NOT IN ('quote', 'reply'));
    INSERT INTO feed_item (uri, cid, type, "postUri", "originatorDid", "sortAt")
      SELECT uri || 'gone', cid, 'post', uri || 'gone', creator, "indexedAt" FROM post WHERE creator = 'DID' LIMIT 3;
    DELETE FROM actor WHERE did = 'DID';
    DELETE FROM actor_sync WHERE did = 'DID';
"#;

#[test]
fn a_database_that_somebody_else_filled_is_mended() {
    let tangle = simnet::Tangle::new(611, 7, 500);
    let net = Net::of_tangle(&tangle);
    let db = whole(&net);
    let did = largest(&tangle);
    db.client()
        .batch_execute(&DAMAGE.replace("DID", &did))
        .unwrap();
    let dir = folder();
    let list = dir.path().join("accounts.txt");
    std::fs::write(&list, format!("# one\n[\"{did}\",\"https://elsewhere\"]\n")).unwrap();
    let mut command = repair(&db, &net, &[]);
    let output = run_well(command.arg("--file").arg(&list));
    let account = first(&output);
    assert_eq!(account["result"], "loaded", "{account}");
    assert!(account["handleState"].is_string(), "{account}");
    assert_eq!(summary(&output)["derivedRows"], "computed");
    let wanted = without_times(whole(&net).dump());
    let mended = without_times(db.dump());
    assert_eq!(difference(&mended, &wanted), None);
}

#[test]
fn accounts_that_are_away_or_gone() {
    let tangle = simnet::Tangle::new(612, 6, 200);
    let net = Net::of_tangle(&tangle);
    let db = whole(&net);
    let dids = &net.dids;
    let (away, lost, tombstone, well) = (&dids[0], &dids[1], &dids[2], &dids[3]);
    let says = |did: &str, word: &str| net.server.set(did, Answer::error(400, word));
    says(away, "RepoDeactivated");
    says(lost, "RepoNotFound");
    net.server
        .set(&format!("plc {tombstone}"), Answer::error(410, "Gone"));
    let count = |sql: &str, did: &str| -> i64 {
        let row = db.client().query_one(sql, &[&did]).unwrap();
        row.get(0)
    };
    let records = "SELECT count(*) FROM bsky.record WHERE did = $1";
    let stored = count(records, lost);
    assert!(stored > 0);
    let output = repair(&db, &net, &[away, lost, tombstone, well, "nobody.test"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let result = |did: &str| -> Value {
        let accounts = summary(&output)["accounts"].clone();
        let found = accounts
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["account"] == did);
        found.unwrap().clone()
    };
    assert_eq!(result(away)["result"], "deactivated");
    assert_eq!(result(lost)["result"], "failed");
    assert!(
        result(lost)["error"]
            .as_str()
            .unwrap()
            .contains("--accept-deletions"),
        "{}",
        result(lost)
    );
    assert_eq!(result(tombstone)["result"], "removed");
    assert_eq!(result(well)["result"], "loaded");
    assert_eq!(
        result("nobody.test")["error"],
        "the handle does not resolve"
    );
    assert!(count(records, away) > 0);
    assert_eq!(count(records, lost), stored);
    assert_eq!(count(records, tombstone), 0);
    let status =
        "SELECT count(*) FROM bsky.actor WHERE did = $1 AND \"upstreamStatus\" = 'deactivated'";
    assert_eq!(count(status, away), 1);
    run_well(repair(&db, &net, &[lost]).arg("--accept-deletions"));
    assert_eq!(count(records, lost), 0);
    // The one that was away is back.
    net.server
        .set(away, Answer::Repo(Arc::new(tangle.car(away))));
    run_well(&mut repair(&db, &net, &[away]));
    assert_eq!(count(status, away), 0);
    // What is left is a load of the accounts that are left.
    let left: Vec<(String, Vec<u8>)> = [away, well, &dids[4], &dids[5]]
        .map(|did| (did.clone(), tangle.car(did)))
        .into();
    let rest = Net::of_cars(left);
    for did in all(&rest) {
        rest.set_document(did, &tangle.document(did, &rest.server.url()));
        let handle = tangle.handle(did).to_ascii_lowercase();
        if let Some(led) = tangle.leads_to(&handle) {
            rest.set_handle(&handle, led);
        }
    }
    let (mut ours, mut theirs) = (db.dump(), whole(&rest).dump());
    // Who held a handle before does not get it back by itself.
    for dump in [&mut ours, &mut theirs] {
        dump.remove("actor");
    }
    assert_eq!(difference(&ours, &theirs), None);
}

/// Records that an ingester missed: a third of what is stored.
const MISSED: &str = r#"
    SET search_path = bsky;
    CREATE TEMPORARY TABLE IF NOT EXISTS missed (uri text);
    TRUNCATE missed;
    INSERT INTO missed SELECT uri FROM record WHERE did = 'did:plc:busy' AND random() < 0.3;
    DELETE FROM record x USING missed m WHERE x.uri = m.uri;
    DELETE FROM post x USING missed m WHERE x.uri = m.uri;
    DELETE FROM feed_item x USING missed m WHERE x.uri = m.uri;
    DELETE FROM "like" x USING missed m WHERE x.uri = m.uri;
    DELETE FROM follow x USING missed m WHERE x.uri = m.uri;
    DELETE FROM notification x USING missed m WHERE x."recordUri" = m.uri;
    DELETE FROM duplicate_record x USING missed m WHERE x.uri = m.uri
"#;

/// An ingester follows a busy account while it is repaired, again and again, after a third of its
/// records were lost. After each event, nothing that is stored is older than the account.
#[test]
fn never_an_older_row_over_a_newer_one() {
    const DID: &str = "did:plc:busy";
    let net = Net::of_cars([]);
    net.set_document(DID, &simnet::document(DID, "busy.test", &net.server.url()));
    net.set_handle("busy.test", DID);
    let db = TestDb::migrated();
    let mut ingester = Ingester::new(&db, &net.server, DID, 9);
    run_well(&mut repair(&db, &net, &[DID]));
    assert_eq!(ingester.assert_nothing_older(), ingester.records.len());
    let is_over = AtomicBool::new(false);
    let (mut loaded, mut written, mut again) = (0, 0, 0);
    std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            let mut pace = simnet::Random::new(5);
            let mut events = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Bursts, as accounts make them: so many requests of the repair lie between them
                // that some of its attempts are left in peace.
                for _ in 0..=pace.below(4) {
                    ingester.step();
                    ingester.assert_nothing_older();
                    events += 1;
                }
                let next = net.server.requests() + pace.below(8);
                while net.server.requests() < next && !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            events
        });
        let mut missing = db.client();
        for _ in 0..10 {
            if following.is_finished() {
                break;
            }
            missing.batch_execute(MISSED).unwrap();
            let output = repair(&db, &net, &[DID]).output().unwrap();
            let account = first(&output);
            again += account["fetched"].as_u64().unwrap().saturating_sub(1);
            if account["result"] == "loaded" {
                loaded += 1;
                written += account["stored"]["written"].as_u64().unwrap();
            } else {
                assert_eq!(output.status.code(), Some(1), "{}", told(&output));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let events = following.join().unwrap();
        eprintln!(
            "{events} events; {loaded} loads, {again} repos fetched again, {written} records written"
        );
        assert!(events > 20);
    });
    assert!(
        loaded >= 3 && written > 0,
        "{loaded} loads, {written} records"
    );
    run_well(&mut repair(&db, &net, &[DID]));
    assert_eq!(ingester.assert_nothing_older(), ingester.records.len());
    // What the ingester counts in the background is not imitated.
    run_well(&mut finalize(&db));
    let now = whole(&net_of(DID, ingester.car()));
    assert_eq!(
        difference(&without_times(db.dump()), &without_times(now.dump())),
        None
    );
}

/// A network of this account alone.
fn net_of(did: &str, car: Vec<u8>) -> Net {
    let net = Net::of_cars([(did.to_owned(), car)]);
    net.set_document(did, &simnet::document(did, "busy.test", &net.server.url()));
    net.set_handle("busy.test", did);
    net
}
