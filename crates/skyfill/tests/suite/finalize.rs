//! `skyfill finalize`: the same rows whatever the way in, whatever stopped it, whatever was wrong
//! before.

use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::Stdio;
use testbed::*;

fn tangle(seed: u64) -> simnet::Tangle {
    simnet::Tangle::new(seed, 9, 900)
}

/// A database with a tangle in it that is not finalized.
fn loaded(tangle: &simnet::Tangle) -> (Net, TestDb) {
    let (net, db, dir) = (Net::of_tangle(tangle), TestDb::migrated(), folder());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    (net, db)
}

#[test]
fn order_connections_batches_and_sockets_do_not_matter() {
    let tangle = tangle(5);
    let net = Net::of_tangle(&tangle);
    let mut random = simnet::Random::new(99);
    let mut first: Option<BTreeMap<String, Vec<String>>> = None;
    for (sockets, connections, batch) in [
        (1, "1", "100000"),
        (1, "2", "7"),
        (3, "8", "1"),
        (3, "2", "7"),
    ] {
        let (db, dir) = (TestDb::migrated(), folder());
        let mut dids = net.dids.clone();
        for at in (1..dids.len()).rev() {
            dids.swap(at, random.index(at + 1));
        }
        let args = ["--max-db-connections", connections, "--batch-size", batch];
        net.load(&db, dir.path(), &dids, sockets, &args);
        run_well(&mut net.identities(&db));
        run_well(finalize(&db).args(["--max-db-connections", connections]));
        let dump = db.dump();
        let first = first.get_or_insert_with(|| dump.clone());
        if let Some(difference) = difference(&dump, first) {
            panic!(
                "{sockets} sockets, {connections} connections, batches of {batch}: {difference}"
            );
        }
    }
    let first = first.expect("a dump");
    for table in [
        "post_agg",
        "profile_agg",
        "notification",
        "duplicate_record",
        "actor",
        "thread_gate",
    ] {
        assert!(
            !first[table].is_empty(),
            "{table} is empty: the test says nothing about it"
        );
    }
}

/// Stops in the transaction of a slice of each stage, after its work and before its commit, is
/// killed there, and goes on.
#[test]
fn killed_in_each_stage_and_run_again() {
    let tangle = tangle(6);
    let (net, db) = loaded(&tangle);
    drop(net);
    let before = db.dump();
    run_well(&mut finalize(&db));
    let wanted = db.dump();
    assert!(difference(&before, &wanted).is_some());
    let mut client = db.client();
    for stage in finalize::Extent::Everything.stages() {
        // As it was before; the flags are a part of post.
        client
            .batch_execute(
                "TRUNCATE bsky.post_agg, bsky.profile_agg;
                 DELETE FROM bsky.notification WHERE reason IN ('quote', 'reply');
                 UPDATE bsky.post SET \"invalidReplyRoot\" = NULL, \"violatesThreadGate\" = NULL,
                   \"violatesEmbeddingRules\" = NULL, \"hasThreadGate\" = NULL, \"hasPostGate\" = NULL",
            )
            .expect("undo");
        client
            .batch_execute(&format!(
                "CREATE OR REPLACE FUNCTION skyfill.pause() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.stage = '{}' AND NEW.done THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$;
                 CREATE OR REPLACE TRIGGER pause BEFORE UPDATE ON skyfill.finalize_slice
                 FOR EACH ROW EXECUTE FUNCTION skyfill.pause()",
                stage.name
            ))
            .expect("make it pause");
        let mut child = finalize(&db)
            .args(["--max-db-connections", "1", "--restart"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start finalize");
        let sleeping = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        let mut pid: i32 = 0;
        wait_until(stage.name, || {
            let row = client.query_opt(sleeping, &[]).expect("look");
            pid = row.as_ref().map_or(0, |row| row.get(0));
            let has_ended = child.try_wait().expect("wait").is_some();
            assert!(
                row.is_some() || !has_ended,
                "finalize ended before {}",
                stage.name
            );
            row.is_some()
        });
        send_signal(child.id(), Signal::KILL);
        child.wait().expect("wait");
        // Its other server processes, which hold the lock of the whole, end when they notice.
        let others = "SELECT count(*) FROM pg_stat_activity
           WHERE datname = current_database() AND pid NOT IN ($1, pg_backend_pid())";
        wait_until("the end of its other connections", || {
            client
                .query_one(others, &[&pid])
                .expect("look")
                .get::<_, i64>(0)
                == 0
        });
        // Not by dropping the trigger: that would wait for the process that sleeps.
        client
            .batch_execute(
                "CREATE OR REPLACE FUNCTION skyfill.pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
            )
            .expect("pause no more");
        // Its server process does not know yet that it is alone. The next run waits for it.
        let mut next = finalize(&db);
        let next = next
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start again");
        let waiting = "SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        wait_until("a wait for the slice", || {
            !client.query(waiting, &[&pid]).expect("look").is_empty()
        });
        client
            .execute("SELECT pg_terminate_backend($1)", &[&pid])
            .expect("end the orphan");
        let output = next.wait_with_output().expect("wait");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {}",
            stage.name,
            told(&output)
        );
        assert!(
            told(&output).contains("continuing where"),
            "{}: {}",
            stage.name,
            told(&output)
        );
        client
            .batch_execute("DROP FUNCTION IF EXISTS skyfill.pause CASCADE")
            .expect("tidy up");
        if let Some(difference) = difference(&db.dump(), &wanted) {
            panic!("killed in {}: {difference}", stage.name);
        }
    }
    let filled: i64 = client
        .query_one("SELECT count(*) FROM pg_class WHERE relname LIKE 'finalize\\_%' AND relkind = 'r' AND relname <> 'finalize_slice' AND pg_relation_size(oid) > 0", &[])
        .expect("look")
        .get(0);
    assert_eq!(filled, 0, "rows were left in work tables");
}

/// A load that commits while finalize is at work is noticed.
#[test]
fn a_load_at_the_same_time_is_told() {
    let tangle = tangle(9);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let (some, rest) = net.dids.split_at(4);
    net.load(&db, dir.path(), some, 1, &[]);
    // It pauses for as long as this session holds a lock.
    let mut holder = db.client();
    holder
        .batch_execute("SELECT pg_advisory_lock(41)")
        .expect("hold the lock");
    db.client()
        .batch_execute(
            "CREATE FUNCTION skyfill.pause() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.stage = 'flags' AND NEW.done THEN PERFORM pg_advisory_xact_lock(41); END IF; RETURN NEW; END $$;
             CREATE TRIGGER pause BEFORE UPDATE ON skyfill.finalize_slice FOR EACH ROW EXECUTE FUNCTION skyfill.pause()",
        )
        .expect("make it slow");
    let child = finalize_in_slices(&db, "100000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start finalize");
    let paused =
        "SELECT pid FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    let mut finalizing: i32 = 0;
    wait_until("the stage of the flags", || {
        let row = holder.query_opt(paused, &[]).expect("look");
        finalizing = row.as_ref().map_or(0, |row| row.get(0));
        row.is_some()
    });
    std::thread::scope(|scope| {
        scope.spawn(|| net.load(&db, dir.path(), rest, 1, &[]));
        // A load that commits now takes back the slice that finalize works on.
        let waiting = "SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        wait_until("a load that commits", || {
            !holder
                .query(waiting, &[&finalizing])
                .expect("look")
                .is_empty()
        });
        holder
            .batch_execute("SELECT pg_advisory_unlock(41)")
            .expect("let finalize go on");
    });
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("rows were loaded meanwhile"),
        "{}",
        told(&output)
    );
    db.client()
        .batch_execute("DROP FUNCTION skyfill.pause CASCADE")
        .expect("no more pauses");
    run_well(&mut finalize(&db));
    let whole = TestDb::migrated();
    net.load(&whole, dir.path(), &net.dids, 1, &[]);
    run_well(&mut finalize(&whole));
    if let Some(difference) = difference(&db.dump(), &whole.dump()) {
        panic!("{difference}");
    }
}

#[test]
fn what_is_wrong_heals_and_what_is_not_ours_stays() {
    let tangle = tangle(7);
    let (_net, db) = loaded(&tangle);
    run_well(&mut finalize(&db));
    let wanted = db.dump();
    let mut client = db.client();
    client
        .batch_execute(
            "UPDATE bsky.post SET \"invalidReplyRoot\" = true, \"violatesThreadGate\" = false WHERE \"replyRoot\" IS NULL;
             UPDATE bsky.post SET \"hasThreadGate\" = NULL, \"violatesEmbeddingRules\" = true;
             INSERT INTO bsky.notification (did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\")
               SELECT did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\" FROM bsky.notification
               WHERE reason = 'reply';
             UPDATE bsky.notification SET \"reasonSubject\" = 'at://did:plc:x/app.bsky.feed.post/x' WHERE reason = 'quote';
             UPDATE bsky.post_agg SET \"likeCount\" = \"likeCount\" + 1;
             DELETE FROM bsky.profile_agg;
             INSERT INTO bsky.post_agg (uri, \"likeCount\", \"bookmarkCount\") VALUES ('at://did:plc:x/app.bsky.feed.post/kept', 3, 5);
             INSERT INTO bsky.post_agg (uri, \"likeCount\") VALUES ('at://did:plc:x/app.bsky.feed.post/gone', 3)",
        )
        .expect("damage");
    run_well(finalize(&db).arg("--restart"));
    let kept = client
        .query_one(
            "DELETE FROM bsky.post_agg WHERE uri LIKE '%/kept' RETURNING \"likeCount\", \"bookmarkCount\"",
            &[],
        )
        .expect("the bookmarked post");
    assert_eq!((kept.get::<_, i64>(0), kept.get::<_, i64>(1)), (0, 5));
    if let Some(difference) = difference(&db.dump(), &wanted) {
        panic!("{difference}");
    }
}

#[test]
fn a_load_in_between_begins_anew_and_a_muted_thread_stays_silent() {
    let tangle = tangle(8);
    let net = Net::of_tangle(&tangle);
    let (db, whole, dir) = (TestDb::migrated(), TestDb::migrated(), folder());
    net.load(&whole, dir.path(), &net.dids, 1, &[]);
    run_well(&mut finalize(&whole));
    let (some, rest) = net.dids.split_at(4);
    net.load(&db, dir.path(), some, 1, &[]);
    // An earlier run that stopped after the flags of fewer posts.
    ledger_with_stages_done(&db);
    net.load(&db, dir.path(), rest, 1, &[]);
    let output = run_well(&mut finalize(&db));
    assert!(
        !told(&output).contains("continuing where"),
        "{}",
        told(&output)
    );
    if let Some(difference) = difference(&db.dump(), &whole.dump()) {
        panic!("{difference}");
    }
    let muted = "SELECT did, coalesce(p.\"replyRoot\", p.uri) FROM bsky.notification n JOIN bsky.post p ON p.uri = n.\"reasonSubject\"
         WHERE n.reason IN ('quote', 'reply') LIMIT 1";
    let mut client = db.client();
    let row = client.query_one(muted, &[]).expect("a notification");
    let (did, root): (String, String) = (row.get(0), row.get(1));
    client
        .execute(
            "INSERT INTO bsky.thread_mute (\"mutedByDid\", \"rootUri\", \"createdAt\") VALUES ($1, $2, '')",
            &[&did, &root],
        )
        .expect("mute");
    // What was told stays; what is told from now on is filtered.
    let told_before = db.count("notification");
    run_well(finalize(&db).arg("--restart"));
    assert_eq!(db.count("notification"), told_before);
    client
        .batch_execute("DELETE FROM bsky.notification WHERE reason IN ('quote', 'reply')")
        .expect("forget");
    run_well(finalize(&db).arg("--restart"));
    assert!(db.count("notification") < told_before);
}

/// Makes the ledger say that the first stages are done.
fn ledger_with_stages_done(db: &TestDb) {
    let stages: Vec<&str> = finalize::Extent::Everything
        .stages()
        .iter()
        .take(8)
        .map(|stage| stage.name)
        .collect();
    db.client()
        .execute(
            "INSERT INTO skyfill.finalize_slice (schema_name, stage, number, done) SELECT 'bsky', s, 0, true FROM unnest($1::text[]) s",
            &[&stages],
        )
        .expect("pretend");
}

/// Replies in circles, and a chain of replies that were written backwards: each comes before its
/// parent.
#[test]
fn circles_and_long_chains_end() {
    let db = TestDb::migrated();
    let mut client = db.client();
    let insert = |client: &mut postgres::Client, key: &str, parent: Option<&str>, root: &str| {
        let uri = |key: &str| format!("at://did:plc:a/app.bsky.feed.post/{key}");
        client
            .execute(
                "WITH r AS (INSERT INTO bsky.record (uri, cid, did, json, \"indexedAt\") VALUES ($1, 'c', 'did:plc:a', '{}', ''))
                 INSERT INTO bsky.post (uri, cid, creator, text, \"replyParent\", \"replyRoot\", \"createdAt\", \"indexedAt\")
                 VALUES ($1, 'c', 'did:plc:a', '', $2, $3, '', '')",
                &[&uri(key), &parent.map(uri), &parent.map(|_| uri(root))],
            )
            .expect("a post");
    };
    insert(&mut client, "root", None, "");
    // In a circle, and below it.
    for (key, parent) in [
        ("c1", "c3"),
        ("c2", "c1"),
        ("c3", "c2"),
        ("below", "c2"),
        ("self", "self"),
    ] {
        insert(&mut client, key, Some(parent), "root");
    }
    const LENGTH: usize = 3000;
    for n in 0..LENGTH {
        let parent = if n + 1 == LENGTH {
            "root".to_owned()
        } else {
            format!("n{:05}", n + 1)
        };
        insert(&mut client, &format!("n{n:05}"), Some(&parent), "root");
    }
    let mut rows_read = || -> i64 {
        let sql = "SELECT tup_returned FROM pg_stat_database WHERE datname = current_database()";
        client.query_one(sql, &[]).expect("look").get(0)
    };
    let before = rows_read();
    run_well(&mut finalize_in_slices(&db, "500"));
    let read = rows_read() - before;
    // Each post of the chain once for each other one would be nine million.
    assert!(
        read < 3_000_000,
        "{read} rows were read for a chain of {LENGTH}"
    );
    let invalid: Vec<String> = client
        .query(
            "SELECT split_part(uri, '/', 5) FROM bsky.post WHERE \"invalidReplyRoot\" ORDER BY 1",
            &[],
        )
        .expect("look")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(invalid, ["below", "c1", "c2", "c3"]);
}

#[test]
fn two_at_once_and_dropped_indexes_are_told() {
    let db = TestDb::migrated();
    let mut client = db.client();
    let (lock, hold) = (ledger::locks::Lock::Finalize, ledger::locks::Hold::Session);
    assert!(ledger::locks::try_acquire(&mut client, lock, hold).expect("lock"));
    let output = finalize(&db).output().expect("run");
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("another skyfill"),
        "{}",
        told(&output)
    );
    drop(client);
    let mut migrate = skyfill();
    run_well(
        migrate
            .args(["migrate", "--drop-follow-indexes"])
            .env("BSKY_DB_POSTGRES_URL", &db.url),
    );
    let output = finalize(&db).output().expect("run");
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("skyfill indexes restore"),
        "{}",
        told(&output)
    );
}

/// Rows written by hand: whatever a record may hold, with nothing in between that would refuse it.
struct Hand(postgres::Client);

impl Hand {
    fn record(&mut self, uri: &str, json: &str) {
        self.0
            .execute(
                "INSERT INTO bsky.record (uri, cid, did, json, \"indexedAt\") VALUES ($1::text, 'c', split_part($1::text, '/', 3), $2, '')",
                &[&uri, &json],
            )
            .expect("a record");
    }

    fn post(&mut self, uri: &str, reply: Option<(&str, &str)>) {
        self.record(uri, "{}");
        let (root, parent) = reply.unzip();
        self.0
            .execute(
                "INSERT INTO bsky.post (uri, cid, creator, text, \"replyRoot\", \"replyParent\", \"createdAt\", \"indexedAt\")
                 VALUES ($1::text, 'c', split_part($1::text, '/', 3), '', $2, $3, '', '')",
                &[&uri, &root, &parent],
            )
            .expect("a post");
    }

    fn thread_gate(&mut self, uri: &str, json: &str) {
        self.record(uri, json);
        self.0
            .execute(
                "INSERT INTO bsky.thread_gate (uri, cid, creator, \"postUri\", \"createdAt\", \"indexedAt\")
                 VALUES ($1::text, 'c', split_part($1::text, '/', 3), replace($1::text, 'threadgate', 'post'), '', '')",
                &[&uri],
            )
            .expect("a thread gate");
    }

    /// The posts for which `condition` holds, by rkey.
    fn posts(&mut self, condition: &str) -> Vec<String> {
        let sql =
            format!("SELECT split_part(uri, '/', 5) FROM bsky.post WHERE {condition} ORDER BY 1");
        let rows = self.0.query(&sql, &[]).expect("look");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Text that no index entry takes: 2,704 bytes are the most, and this does not compress.
fn too_long_for_an_index(random: &mut simnet::Random) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..4000)
        .map(|_| char::from(LETTERS[random.index(LETTERS.len())]))
        .collect()
}

/// What records name may have any length, and JSON may be none that PostgreSQL takes apart.
#[test]
fn no_record_stops_a_stage() {
    let db = TestDb::migrated();
    let mut random = simnet::Random::new(3);
    let mut long = || too_long_for_an_index(&mut random);
    let mut hand = Hand(db.client());
    let post = |key: &str| format!("at://did:plc:a/app.bsky.feed.post/{key}");
    let gate = |key: &str| format!("at://did:plc:a/app.bsky.feed.threadgate/{key}");
    for key in ["root", "halved", "broken", "deep"] {
        hand.post(&post(key), None);
    }
    let reply = |key: &str| format!("at://did:plc:b/app.bsky.feed.post/{key}");
    for (key, root) in [
        ("seen", "root"),
        ("in-halved", "halved"),
        ("in-broken", "broken"),
        ("in-deep", "deep"),
    ] {
        hand.post(&reply(key), Some((&post(root), &post(root))));
    }
    hand.thread_gate(
        &gate("root"),
        &format!(
            r#"{{"allow":[],"hiddenReplies":["{}","{}"]}}"#,
            long(),
            reply("seen")
        ),
    );
    hand.thread_gate(
        &gate("halved"),
        r#"{"a":"\ud800","b":"\\\ud800\u0000","c":"\uDFFF","d":"\ud83d\ude00","allow":[]}"#,
    );
    hand.thread_gate(&gate("broken"), r#"{"allow":["#);
    hand.thread_gate(
        &gate("deep"),
        &format!(
            r#"{{"x":{}{},"allow":[]}}"#,
            "[".repeat(300_000),
            "]".repeat(300_000)
        ),
    );
    // A root that is stored nowhere.
    let nowhere = format!("at://did:plc:a/com.example.thing/{}", long());
    hand.post(&reply("nowhere"), Some((&nowhere, &post("missing"))));
    // A list that is replied to, with fields of other records.
    let list = "at://did:plc:a/app.bsky.graph.list/list";
    let mention = |did: &str| {
        format!(r#"{{"features":[{{"$type":"app.bsky.richtext.facet#mention","did":"{did}"}}]}}"#)
    };
    hand.record(
        list,
        &format!(
            r#"{{"allow":[{{"$type":"app.bsky.feed.threadgate#mentionRule"}}],"facets":[{},{}],"hiddenReplies":["{}"]}}"#,
            mention(&long()),
            mention("did:plc:b"),
            long()
        ),
    );
    hand.post(&reply("mentioned"), Some((list, list)));
    hand.post(
        "at://did:plc:c/app.bsky.feed.post/stranger",
        Some((list, list)),
    );
    // A quote of a CID that has no end.
    hand.post(&reply("quotes"), None);
    hand.0
        .execute(
            "INSERT INTO bsky.quote (uri, cid, subject, \"subjectCid\", \"createdAt\", \"indexedAt\") VALUES ($1, 'c', $2, $3, '', '')",
            &[&reply("quotes"), &post("root"), &long()],
        )
        .expect("a quote");
    run_well(&mut finalize_in_slices(&db, "3"));
    assert_eq!(
        hand.posts("\"violatesThreadGate\""),
        ["in-halved", "seen", "stranger"]
    );
    assert_eq!(hand.posts("\"invalidReplyRoot\""), ["nowhere"]);
    let quotes: i64 = hand
        .0
        .query_one(
            "SELECT \"quoteCount\" FROM bsky.post_agg WHERE uri = $1",
            &[&post("root")],
        )
        .expect("counts")
        .get(0);
    assert_eq!(quotes, 1);
}

/// A root that is its own gate may name any number of lists.
#[test]
fn a_gate_of_many_lists_lets_in_who_is_on_one() {
    let db = TestDb::migrated();
    let mut hand = Hand(db.client());
    let list = |n: usize| format!("at://did:plc:a/app.bsky.graph.list/{n}");
    let root = "at://did:plc:a/app.bsky.graph.list/root";
    let rules: Vec<String> = (0..10_000)
        .map(|n| {
            format!(
                r#"{{"$type":"app.bsky.feed.threadgate#listRule","list":"{}"}}"#,
                list(n)
            )
        })
        .collect();
    hand.record(root, &format!(r#"{{"allow":[{}]}}"#, rules.join(",")));
    for (did, on) in [("did:plc:b", 9_999), ("did:plc:c", 10_000)] {
        hand.post(
            &format!("at://{did}/app.bsky.feed.post/on-{on}"),
            Some((root, root)),
        );
        hand.0
            .execute(
                "INSERT INTO bsky.list_item (uri, cid, creator, \"subjectDid\", \"listUri\", \"createdAt\", \"indexedAt\")
                 VALUES ('at://did:plc:a/app.bsky.graph.listitem/' || $3::text, 'c', 'did:plc:a', $1, $2, '', '')",
                &[&did, &list(on), &on.to_string()],
            )
            .expect("a list item");
    }
    run_well(&mut finalize(&db));
    assert_eq!(hand.posts("\"violatesThreadGate\""), ["on-10000"]);
}

/// A thread under an invalid reply may have any number of replies, in any shape.
#[test]
fn a_wide_and_a_deep_thread_are_walked_to_their_ends() {
    let db = TestDb::migrated();
    let mut hand = Hand(db.client());
    let uri = |key: &str| format!("at://did:plc:a/app.bsky.feed.post/{key}");
    hand.post(&uri("root"), None);
    hand.post(&uri("gone"), Some((&uri("root"), &uri("missing"))));
    for (key, parent) in [
        ("w' || n || '", "gone"),
        ("d' || n || '", "d' || n - 1 || '"),
    ] {
        hand.0
            .batch_execute(&format!(
                "INSERT INTO bsky.post (uri, cid, creator, text, \"replyRoot\", \"replyParent\", \"createdAt\", \"indexedAt\")
                 SELECT '{}', 'c', 'did:plc:a', '', '{}', '{}', '', '' FROM generate_series(1, 5000) n",
                uri(key),
                uri("root"),
                uri(parent),
            ))
            .expect("replies");
    }
    hand.post(&uri("d0"), Some((&uri("root"), &uri("w7"))));
    run_well(&mut finalize_in_slices(&db, "1000"));
    assert_eq!(hand.posts("\"invalidReplyRoot\"").len(), 10_002);
    assert_eq!(hand.posts("\"invalidReplyRoot\" IS NULL"), ["root"]);
}
