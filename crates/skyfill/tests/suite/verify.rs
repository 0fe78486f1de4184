//! `skyfill verify`: what somebody changed is named, and repaired.

use serde_json::Value;
use std::process::Command;
use testbed::*;

fn verify(db: &TestDb, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    verify_with(db, &[&["--all"], args].concat())
}

fn verify_with(db: &TestDb, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = skyfill()
        .arg("verify")
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

/// What is done to the tables, and what of it must be named: kind and table.
fn changes() -> Vec<(String, Vec<(&'static str, &'static str)>)> {
    let like = "(SELECT uri FROM bsky.\"like\" ORDER BY uri COLLATE \"C\" LIMIT 1)";
    let follow = "(SELECT uri FROM bsky.follow f WHERE EXISTS (SELECT FROM bsky.notification n WHERE n.\"recordUri\" = f.uri) ORDER BY uri COLLATE \"C\" LIMIT 1)";
    let post = "(SELECT uri FROM bsky.post WHERE text <> '' ORDER BY uri COLLATE \"C\" LIMIT 1)";
    vec![
        (
            format!("UPDATE bsky.\"like\" SET \"subjectCid\" = 'bafyother' WHERE uri = {like}"),
            vec![("missing", "like"), ("extra", "like")],
        ),
        (format!("DELETE FROM bsky.\"like\" WHERE uri = {like}"), vec![("missing", "like")]),
        (format!("DELETE FROM bsky.record WHERE uri = {like}"), vec![("root", ""), ("stray", "like")]),
        (
            "INSERT INTO bsky.repost SELECT uri || 'x', cid, creator, subject || 'x', \"subjectCid\", \"createdAt\", \"indexedAt\" FROM bsky.repost LIMIT 1".to_owned(),
            vec![("stray", "repost")],
        ),
        (
            format!("INSERT INTO bsky.record (uri, cid, did, json, \"indexedAt\") SELECT uri || '2', cid, did, json, \"indexedAt\" FROM bsky.record WHERE uri = {like}"),
            vec![("root", "")],
        ),
        (
            format!("UPDATE bsky.record SET json = replace(json, '\"text\":\"', '\"text\":\"edited ') WHERE uri = {post}"),
            vec![("json", ""), ("missing", "post"), ("extra", "post")],
        ),
        (
            format!("UPDATE bsky.record SET \"indexedAt\" = '2020-01-01T00:00:00.000Z' WHERE uri = {post}"),
            vec![("indexedAt", "")],
        ),
        ("DELETE FROM bsky.notification WHERE reason = 'follow'".to_owned(), vec![("missing", "notification")]),
        (
            "INSERT INTO bsky.notification (did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\")
             SELECT did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\" FROM bsky.notification WHERE reason = 'like' LIMIT 1".to_owned(),
            vec![("extra", "notification")],
        ),
        // Its notification is still there, and must not be there twice in the end.
        (format!("DELETE FROM bsky.record WHERE uri = {follow}"), vec![("root", ""), ("stray", "notification")]),
        // A row under another name holds the key of the one that is missing.
        (
            format!("UPDATE bsky.follow SET uri = 'at://did:plc:foreign/app.bsky.graph.follow/x' WHERE uri = {follow}"),
            vec![("missing", "follow"), ("stray", "follow")],
        ),
        (
            "UPDATE bsky.thread_gate SET uri = uri || 'x' WHERE uri = (SELECT min(uri) FROM bsky.thread_gate)".to_owned(),
            vec![("missing", "thread_gate"), ("stray", "thread_gate")],
        ),
        (
            format!("UPDATE bsky.record SET did = (SELECT max(did) FROM bsky.record) WHERE uri = {like}"),
            vec![("root", ""), ("json", ""), ("stray", "like")],
        ),
        (
            "UPDATE bsky.op_thread_reply SET \"rootUri\" = \"rootUri\" || 'x' WHERE uri = (SELECT min(uri) FROM bsky.op_thread_reply)".to_owned(),
            vec![("missing", "op_thread_reply"), ("stray", "op_thread_reply")],
        ),
        // A root may be the account alone.
        (
            "INSERT INTO bsky.op_thread_reply (\"rootUri\", \"parentUri\", uri) SELECT 'at://' || creator, uri, uri || 'x' FROM bsky.post ORDER BY uri COLLATE \"C\" LIMIT 1".to_owned(),
            vec![("stray", "op_thread_reply")],
        ),
        (
            format!("INSERT INTO bsky.quote SELECT uri, cid, subject, \"subjectCid\", \"createdAt\", \"indexedAt\" FROM bsky.\"like\" WHERE uri = {like}"),
            vec![("stray", "quote")],
        ),
        (
            "INSERT INTO bsky.post_embed_image SELECT min(uri) || 'x', '0', 'bafy', '' FROM bsky.post".to_owned(),
            vec![("stray", "post_embed_image")],
        ),
        // Records that JSON does not keep.
        (
            "UPDATE bsky.record SET json = replace(json, '\"odd\":3', '\"odd\":4') WHERE uri = (SELECT min(uri) FROM bsky.record WHERE json LIKE '%\"odd\":3%')".to_owned(),
            vec![("json", "")],
        ),
        (
            "DELETE FROM bsky.follow WHERE uri = (SELECT min(f.uri) FROM bsky.follow f JOIN bsky.record r USING (uri) WHERE json LIKE '%\"odd\":3%')".to_owned(),
            vec![("missing", "follow")],
        ),
        ("DELETE FROM bsky.duplicate_record".to_owned(), vec![("missing", "duplicate_record")]),
        ("UPDATE bsky.actor_sync SET \"repoRev\" = '2222222222222' WHERE did = (SELECT min(did) FROM bsky.actor_sync)".to_owned(), vec![("actor_sync", "")]),
        ("UPDATE skyfill.repo SET commit = '\\x00' WHERE did = (SELECT min(did) FROM skyfill.repo)".to_owned(), vec![("commit", "")]),
        ("UPDATE skyfill.skipped SET list = '\\x00'".to_owned(), vec![("list of skipped records", "")]),
    ]
}

#[test]
fn each_change_is_named_and_repaired() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(91, 9, 900));
    let db = TestDb::migrated();
    let mut again = load(&net, &db);
    let (code, found) = verify(&db, &[]);
    assert_eq!((code, found.len()), (Some(0), 0), "{found:#?}");
    let good = db.dump();
    for (change, wanted) in changes() {
        let changed = db
            .client()
            .execute(&change, &[])
            .unwrap_or_else(|error| panic!("{change}: {error}"));
        assert!(changed > 0, "{change}");
        let (code, found) = verify(&db, &["--repair"]);
        assert_eq!(code, Some(1), "{change}");
        for (what, table) in wanted {
            assert!(
                found
                    .iter()
                    .any(|f| f["what"] == what && (table.is_empty() || f["table"] == table)),
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

/// Each change in a copy of this database is named when the repos are compared one by one, except
/// `but`, and if `whole` when everything is.
fn assert_named(loaded: &TestDb, net: &Net, whole: bool, but: &[&str]) {
    let (code, found) = verify(loaded, &[]);
    assert_eq!((code, found.len()), (Some(0), 0), "{found:#?}");
    let dids = net.dids.iter().flat_map(|did| ["--did", did.as_str()]);
    let dids: Vec<&str> = dids.collect();
    for (change, wanted) in changes() {
        let db = loaded.copied();
        let changed = db.client().execute(&change, &[]).unwrap();
        assert!(changed > 0, "{change}");
        let compare = |args: &[&str]| {
            let (code, found) = verify_with(&db, args);
            assert_eq!(code, Some(1), "{args:?}: {change}");
            for (what, table) in &wanted {
                let is_named =
                    |f: &Value| f["what"] == *what && (table.is_empty() || f["table"] == *table);
                assert!(
                    found.iter().any(is_named),
                    "{args:?}: {change}: {what} {table} in {found:#?}"
                );
            }
        };
        if !but.iter().any(|but| change.starts_with(but)) {
            compare(&dids);
        }
        if whole {
            compare(&["--all"]);
        }
    }
}

#[test]
fn each_change_is_named_one_by_one() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(94, 6, 400));
    let db = TestDb::migrated();
    drop(load(&net, &db));
    // Of one account, nobody looks under the URIs of another one for what names it.
    assert_named(&db, &net, false, &["UPDATE bsky.follow"]);
}

/// Where text sorts in another order than by bytes, rows are found in another way.
#[test]
fn each_change_is_named_in_another_collation() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(94, 6, 400));
    let options =
        "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'";
    let db = TestDb::made_with(options);
    appview::migrate::migrate(&mut db.client(), "bsky").unwrap();
    drop(load(&net, &db));
    // No index leads from an account to rows of these tables that name no record.
    let but = [
        "INSERT INTO bsky.post_embed_image",
        "INSERT INTO bsky.op_thread_reply",
        "UPDATE bsky.op_thread_reply",
        "UPDATE bsky.thread_gate",
    ];
    assert_named(&db, &net, true, &but);
}

/// Killed in its second slice, a comparison of everything goes on there: what was proved is not
/// compared again, what differs in the first slice is named again, and so are rows that belong to
/// none of its repos.
#[test]
fn a_pass_that_was_killed_goes_on_with_the_slices_that_it_had_not_ended() {
    const REPOS: usize = 560;
    // The first slice has so many repos.
    const FIRST: usize = 500;
    let population = simnet::Population::new(4, REPOS, REPOS * 8);
    let cars = (0..REPOS).map(|account| (population.did(account), population.car(account)));
    let net = Net::of_cars(cars);
    let db = TestDb::migrated();
    drop(load(&net, &db));
    let mut dids = net.dids.clone();
    dids.sort();
    let mut client = db.client();
    let mut change = |table: &str, set: &str, which: &str| -> String {
        let sql = format!(
            "UPDATE bsky.\"{table}\" x SET {set} FROM (SELECT uri, creator FROM bsky.\"{table}\" WHERE {which} ORDER BY uri COLLATE \"C\" LIMIT 1) y
             WHERE x.uri = y.uri RETURNING y.creator"
        );
        client.query_one(&sql, &[]).unwrap().get(0)
    };
    // In place: rows that others insert or delete begin a new pass.
    let other = "\"subjectCid\" = 'other'";
    let in_first = format!("creator < '{}'", dids[FIRST]);
    let in_second = format!("creator >= '{}'", dids[FIRST]);
    let unknown = "did:plc:2222222222222222222222222";
    let differs = change("like", other, &in_first);
    let robbed = change(
        "repost",
        &format!("uri = 'at://{unknown}/app.bsky.feed.repost/1', creator = '{unknown}'"),
        &format!("{in_first} AND creator > '{differs}'"),
    );
    let named = change(
        "follow",
        &format!("uri = 'at://{unknown}/app.bsky.graph.follow/1'"),
        &in_second,
    );
    let killed = skyfill()
        .args(["verify", "--all", "--max-db-connections", "1"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .env("SKYFILL_FAILPOINT", format!("compare={}", FIRST + 20))
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{}", told(&killed));
    let hidden = change(
        "like",
        other,
        &format!("{in_first} AND creator > '{robbed}'"),
    );
    let output = skyfill()
        .args(["verify", "--all"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    let text = told(&output);
    assert!(
        text.contains("continuing the comparison that was interrupted"),
        "{text}"
    );
    // Those of the second slice, and two of the first.
    let compared = format!("{} repos compared", REPOS - FIRST + 2);
    assert!(text.contains(&compared), "{compared}: {text}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<(String, String, String)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            (text("did"), text("what"), text("table"))
        })
        .collect();
    found.sort();
    let mut wanted = [
        (differs.as_str(), "extra", "like"),
        (&differs, "missing", "like"),
        (&robbed, "missing", "repost"),
        (unknown, "never loaded", "repost"),
        (&named, "missing", "follow"),
        (&named, "stray", "follow"),
    ]
    .map(|(did, what, table)| (did.to_owned(), what.to_owned(), table.to_owned()));
    wanted.sort();
    assert_eq!(found, wanted);
    // The next pass compares everything.
    let (code, found) = verify(&db, &[]);
    let is_of_hidden = |finding: &Value| finding["did"] == hidden.as_str();
    assert_eq!((code, found.iter().any(is_of_hidden)), (Some(1), true));
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
