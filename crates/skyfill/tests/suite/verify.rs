//! `skyfill verify`: what somebody changed is named, and repaired.

use serde_json::Value;
use std::process::Command;
use testbed::*;

fn verify(db: &TestDb, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = skyfill()
        .args(["verify", "--all"])
        .args(args)
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let found = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (output.status.code(), found)
}

fn load(net: &Net, db: &TestDb) -> Command {
    let dir = folder();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut command = run_load(&db.url);
    run_well(command.arg(file).arg("--no-verify"));
    run_load(&db.url)
}

#[test]
fn each_change_is_named_and_repaired() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(91, 9, 900));
    let db = TestDb::migrated();
    let mut again = load(&net, &db);
    let (code, found) = verify(&db, &[]);
    assert_eq!((code, found.len()), (Some(0), 0), "{found:#?}");
    let good = db.dump();
    let like = "(SELECT uri FROM bsky.\"like\" ORDER BY uri COLLATE \"C\" LIMIT 1)";
    let follow = "(SELECT uri FROM bsky.follow f WHERE EXISTS (SELECT FROM bsky.notification n WHERE n.\"recordUri\" = f.uri) ORDER BY uri COLLATE \"C\" LIMIT 1)";
    let post = "(SELECT uri FROM bsky.post WHERE text <> '' ORDER BY uri COLLATE \"C\" LIMIT 1)";
    // What is done, and what of it must be named: kind and table.
    let changes: &[(&str, &[(&str, &str)])] = &[
        (
            &format!("UPDATE bsky.\"like\" SET \"subjectCid\" = 'bafyother' WHERE uri = {like}"),
            &[("missing", "like"), ("extra", "like")],
        ),
        (&format!("DELETE FROM bsky.\"like\" WHERE uri = {like}"), &[("missing", "like")]),
        (&format!("DELETE FROM bsky.record WHERE uri = {like}"), &[("root", ""), ("stray", "like")]),
        (
            "INSERT INTO bsky.repost SELECT uri || 'x', cid, creator, subject || 'x', \"subjectCid\", \"createdAt\", \"indexedAt\" FROM bsky.repost LIMIT 1",
            &[("stray", "repost")],
        ),
        (
            &format!("INSERT INTO bsky.record (uri, cid, did, json, \"indexedAt\") SELECT uri || '2', cid, did, json, \"indexedAt\" FROM bsky.record WHERE uri = {like}"),
            &[("root", "")],
        ),
        (
            &format!("UPDATE bsky.record SET json = replace(json, '\"text\":\"', '\"text\":\"edited ') WHERE uri = {post}"),
            &[("json", ""), ("missing", "post"), ("extra", "post")],
        ),
        (
            &format!("UPDATE bsky.record SET \"indexedAt\" = '2020-01-01T00:00:00.000Z' WHERE uri = {post}"),
            &[("indexedAt", "")],
        ),
        ("DELETE FROM bsky.notification WHERE reason = 'follow'", &[("missing", "notification")]),
        (
            "INSERT INTO bsky.notification (did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\")
             SELECT did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\" FROM bsky.notification WHERE reason = 'like' LIMIT 1",
            &[("extra", "notification")],
        ),
        // Its notification is still there, and must not be there twice in the end.
        (&format!("DELETE FROM bsky.record WHERE uri = {follow}"), &[("root", ""), ("stray", "notification")]),
        // A row under another name holds the key of the one that is missing.
        (
            &format!("UPDATE bsky.follow SET uri = 'at://did:plc:foreign/app.bsky.graph.follow/x' WHERE uri = {follow}"),
            &[("missing", "follow"), ("stray", "follow")],
        ),
        (
            "UPDATE bsky.thread_gate SET uri = uri || 'x' WHERE uri = (SELECT min(uri) FROM bsky.thread_gate)",
            &[("missing", "thread_gate"), ("stray", "thread_gate")],
        ),
        (
            &format!("UPDATE bsky.record SET did = (SELECT max(did) FROM bsky.record) WHERE uri = {like}"),
            &[("root", ""), ("json", "")],
        ),
        (
            "UPDATE bsky.op_thread_reply SET \"rootUri\" = \"rootUri\" || 'x' WHERE uri = (SELECT min(uri) FROM bsky.op_thread_reply)",
            &[("missing", "op_thread_reply"), ("stray", "op_thread_reply")],
        ),
        (
            &format!("INSERT INTO bsky.quote SELECT uri, cid, subject, \"subjectCid\", \"createdAt\", \"indexedAt\" FROM bsky.\"like\" WHERE uri = {like}"),
            &[("stray", "quote")],
        ),
        (
            "INSERT INTO bsky.post_embed_image SELECT min(uri) || 'x', '0', 'bafy', '' FROM bsky.post",
            &[("stray", "post_embed_image")],
        ),
        // Records that JSON does not keep.
        (
            "UPDATE bsky.record SET json = replace(json, '\"odd\":3', '\"odd\":4') WHERE uri = (SELECT min(uri) FROM bsky.record WHERE json LIKE '%\"odd\":3%')",
            &[("json", "")],
        ),
        (
            "DELETE FROM bsky.follow WHERE uri = (SELECT min(f.uri) FROM bsky.follow f JOIN bsky.record r USING (uri) WHERE json LIKE '%\"odd\":3%')",
            &[("missing", "follow")],
        ),
        ("DELETE FROM bsky.duplicate_record", &[("missing", "duplicate_record")]),
        ("UPDATE bsky.actor_sync SET \"repoRev\" = '2222222222222' WHERE did = (SELECT min(did) FROM bsky.actor_sync)", &[("actor_sync", "")]),
        ("UPDATE skyfill.repo SET commit = '\\x00' WHERE did = (SELECT min(did) FROM skyfill.repo)", &[("commit", "")]),
        ("UPDATE skyfill.skipped SET list = '\\x00'", &[("list of skipped records", "")]),
    ];
    for (change, wanted) in changes {
        let changed = db
            .client()
            .execute(*change, &[])
            .unwrap_or_else(|error| panic!("{change}: {error}"));
        assert!(changed > 0, "{change}");
        let (code, found) = verify(&db, &["--repair"]);
        assert_eq!(code, Some(1), "{change}");
        for (what, table) in *wanted {
            assert!(
                found
                    .iter()
                    .any(|f| f["what"] == *what && (table.is_empty() || f["table"] == *table)),
                "{change}: {what} {table} in {found:#?}"
            );
        }
        let output = run_well(&mut again);
        assert_eq!(
            summary(&output)["differences"],
            0,
            "{change}: {}",
            told(&output)
        );
        if let Some(difference) = difference(&db.dump(), &good) {
            panic!("{change}: {difference}");
        }
    }
}

/// Writes a row of `record` anew, as the repair of its owner does when it names another account.
fn write_anew(db: &TestDb, uri: &str, owner: &str) {
    let mut client = db.client();
    let mut transaction = client.transaction().unwrap();
    let read = "SELECT cid, json, \"indexedAt\" FROM bsky.record WHERE uri = $1";
    let row = transaction.query_one(read, &[&uri]).unwrap();
    let (cid, json, time): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let delete = "DELETE FROM bsky.record WHERE uri = $1 AND did <> $2";
    transaction.execute(delete, &[&uri, &owner]).unwrap();
    let insert = "INSERT INTO bsky.record (uri, cid, did, json, \"indexedAt\")
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    transaction
        .execute(insert, &[&uri, &cid, &owner, &json, &time])
        .unwrap();
    transaction.commit().unwrap();
}

/// Two accounts are repaired at once, since a record of one had come to name the other: the repair
/// of the other leaves alone what the first one's has just written.
#[test]
fn a_repair_deletes_nothing_that_another_one_writes() {
    let net = Net::of_tangle(&simnet::Tangle::new(93, 5, 200));
    let db = TestDb::migrated();
    let mut again = load(&net, &db);
    let good = db.dump();
    let mut client = db.client();
    let row = client
        .query_one(
            "SELECT uri, did, (SELECT max(did) FROM bsky.record) FROM bsky.\"like\" JOIN bsky.record USING (uri)
             WHERE did < (SELECT max(did) FROM bsky.record) ORDER BY uri LIMIT 1",
            &[],
        )
        .unwrap();
    let (uri, owner, other): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let name = "UPDATE bsky.record SET did = $2 WHERE uri = $1";
    assert_eq!(client.execute(name, &[&uri, &other]).unwrap(), 1);
    assert_eq!(verify(&db, &["--repair"]).0, Some(1));
    // This test is the repair of the owner; skyfill's of the other account is held up after it has
    // read what there is.
    let ours = "UPDATE skyfill.repo SET state = 'loaded', rebuild = false WHERE did = $1";
    assert_eq!(client.execute(ours, &[&owner]).unwrap(), 1);
    let mut held = client.transaction().unwrap();
    held.batch_execute("LOCK TABLE bsky.op_thread_reply IN EXCLUSIVE MODE")
        .unwrap();
    let mut run = Watched::start(&mut again);
    let mut watching = db.client();
    let mut is_waiting = |statement: &str| -> bool {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
        let sessions: i64 = watching.query_one(sql, &[&statement]).unwrap().get(0);
        sessions > 0
    };
    wait_until("the repair at its lock", || is_waiting("op_thread_reply"));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_anew(&db, &uri, &owner));
        // It has written, or waits for the other's transaction.
        wait_until("the write, or its wait", || {
            writing.is_finished() || is_waiting("DELETE FROM bsky.record")
        });
        held.commit().unwrap();
    });
    let code = run.wait_for_end();
    assert_eq!(code, Some(0), "{}", run.printed());
    assert_eq!(difference(&db.dump(), &good), None);
}

#[test]
fn signatures_and_certificates() {
    let tangle = simnet::Tangle::new(92, 5, 100);
    let net = Net::of_tangle(&tangle);
    let db = TestDb::migrated();
    load(&net, &db);
    let url = net.server.url();
    let args = [
        "--signatures",
        "--plc-url",
        &url,
        "--did-web-server",
        &url,
        "--plc-rate",
        "1000",
        "--allow-private-hosts",
    ];
    let (_, found) = verify(&db, &args);
    // The tangle's documents have odd keys or none; what is of interest is set here.
    drop(found);
    for did in &net.dids {
        net.set_document(did, &simnet::document(did, "alice.test", &url));
    }
    let (code, found) = verify(&db, &args);
    assert_eq!((code, found.len()), (Some(0), 0), "{found:#?}");
    // A key that was changed, and one that never was this account's.
    let (moved, forged) = (&net.dids[0], &net.dids[1]);
    let other = simnet::document("did:plc:other", "alice.test", &url);
    for did in [moved, forged] {
        net.set_document(did, &other.replace("did:plc:other", did));
    }
    let log = format!(
        "[{{\"operation\":{{\"verificationMethods\":{{\"atproto\":\"did:key:{}\"}}}}}}]",
        simnet::signing_key(moved)
    );
    net.server
        .set(&format!("audit {moved}"), simnet::Answer::text(log));
    let dir = folder();
    let certificate = dir.path().join("certificate.json");
    let mut with_certificate = args.to_vec();
    with_certificate.extend(["--certificate", certificate.to_str().unwrap()]);
    let (code, found) = verify(&db, &with_certificate);
    assert_eq!(code, Some(1));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0]["did"].as_str(), found[0]["what"].as_str()),
        (Some(forged.as_str()), Some("signature"))
    );
    let certificate: Value = serde_json::from_slice(&std::fs::read(certificate).unwrap()).unwrap();
    assert_eq!(certificate["verdict"], "different");
    assert_eq!(certificate["signatures"]["olderKey"], 1);
    assert_eq!(certificate["unproved"], 0);
    assert_eq!(certificate["hosts"][0]["verified"], net.dids.len());
}
