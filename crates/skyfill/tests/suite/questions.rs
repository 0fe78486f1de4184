//! `explain`, `audit` and `compare`: what they answer is what was done to the network and to the
//! tables.

use crate::network::{FAST, on, settings};
use serde_json::{Value, json};
use simnet::{Answer, Expected, Network};
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use testbed::*;

const ALICE: &str = "did:plc:alicealicealicealicealic";
const BOB: &str = "did:plc:bobbobbobbobbobbobbobbob";
const CAROL: &str = "did:plc:carolcarolcarolcarolcaro";
const DAVE: &str = "did:plc:davedavedavedavedavedave";
const ERIN: &str = "did:plc:erinerinerinerinerinerin";
const FRANK: &str = "did:plc:frankfrankfrankfrankfran";
const HEIDI: &str = "did:plc:heidiheidiheidiheidiheid";

/// The record key of number `n`: a second after the one before.
fn tid(n: u64) -> String {
    atrepo::syntax::tid(1_700_000_000_000_000 + n * 1_000_000, 0)
}

fn at(n: u64) -> String {
    rows::datetime::print(i64::try_from(1_700_000_000_000 + n * 1000).unwrap())
}

fn post_uri(did: &str, n: u64) -> String {
    format!("at://{did}/app.bsky.feed.post/{}", tid(n))
}

fn cid() -> String {
    atrepo::Cid::of(atrepo::Codec::DagCbor, b"whatever").to_string()
}

fn strong(uri: &str) -> Value {
    json!({"uri": uri, "cid": cid()})
}

/// A record of a collection, made at second `n`: its key and DAG-CBOR.
fn record(collection: &str, n: u64, mut fields: Value) -> (String, Vec<u8>) {
    fields["$type"] = collection.into();
    fields["createdAt"] = at(n).into();
    let bytes = rows::from_json(&fields.to_string()).unwrap();
    (format!("{collection}/{}", tid(n)), bytes)
}

fn post(n: u64, more: Value) -> (String, Vec<u8>) {
    let mut fields = json!({"text": format!("post {n}")});
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    record("app.bsky.feed.post", n, fields)
}

fn reply(root: &str, parent: &str) -> Value {
    json!({"reply": {"root": strong(root), "parent": strong(parent)}})
}

fn alice() -> Vec<(String, Vec<u8>)> {
    let gate = json!({"post": post_uri(ALICE, 1), "allow": []});
    let rules = json!([{"$type": "app.bsky.feed.postgate#disableRule"}]);
    let closed = json!({"post": post_uri(ALICE, 2), "embeddingRules": rules});
    vec![
        post(1, json!({})),
        record("app.bsky.feed.threadgate", 1, gate),
        post(2, json!({})),
        record("app.bsky.feed.postgate", 2, closed),
        post(3, json!({})),
        post(4, json!({})),
    ]
}

fn bob() -> Vec<(String, Vec<u8>)> {
    let embed =
        json!({"embed": {"$type": "app.bsky.embed.record", "record": strong(&post_uri(ALICE, 2))}});
    let like = |n, uri: &str| record("app.bsky.feed.like", n, json!({"subject": strong(uri)}));
    let mention = json!([{
        "index": {"byteStart": 0, "byteEnd": 1},
        "features": [{"$type": "app.bsky.richtext.facet#mention", "did": ALICE}],
    }]);
    let mut mentions = reply(&post_uri(ALICE, 3), &post_uri(ALICE, 3));
    mentions["facets"] = mention;
    let long = simnet::hostile::record::long_uri(ALICE, &tid(90), 7, 3500);
    vec![
        post(10, reply(&post_uri(ALICE, 1), &post_uri(ALICE, 1))),
        post(11, embed),
        like(12, &post_uri(ALICE, 3)),
        like(13, &post_uri(ALICE, 3)),
        post(14, reply(&post_uri(ALICE, 99), &post_uri(ALICE, 99))),
        post(15, json!({})),
        like(16, &post_uri(BOB, 15)),
        post(17, mentions),
        record("app.bsky.feed.post", 18, json!({"words": "no text"})),
        record("org.example.note", 19, json!({})),
        (
            format!("app.bsky.feed.post/{}", tid(20)),
            vec![0xa1, 0x61, 0x61, 0x18, 0x01],
        ),
        (
            format!("app.bsky.feed.post/{}", tid(21)),
            simnet::hostile::record::large(1_100_000),
        ),
        (
            format!("app.bsky.feed.post/{}", tid(22)),
            simnet::hostile::record::reply(&long, &long),
        ),
        record("app.bsky.graph.follow", 23, json!({"subject": ALICE})),
        post(24, reply(&post_uri(ALICE, 4), &post_uri(ALICE, 4))),
    ]
}

fn rev() -> String {
    atrepo::syntax::tid(1_760_000_000_000_000, 1)
}

/// A repo whose only key is no `collection/rkey`.
fn with_bad_key(did: &str) -> Vec<u8> {
    use atrepo::cbor::Writer;
    use atrepo::{Cid, Codec};
    let bytes = rows::from_json("{}").unwrap();
    let of = |bytes: &[u8]| Cid::of(Codec::DagCbor, bytes);
    let mut node = Writer::new();
    node.map(2).text("e").list(1).map(4);
    node.text("k")
        .bytes(b"app.bsky.feed.post/..")
        .text("p")
        .unsigned(0)
        .text("t")
        .null();
    node.text("v").cid(&of(&bytes)).text("l").null();
    let node = node.into_bytes();
    let commit = simnet::build_commit(did, &rev(), &of(&node));
    let blocks = [
        (of(&bytes), bytes.clone()),
        (of(&node), node.clone()),
        (of(&commit), commit.clone()),
    ];
    simnet::build_car(of(&commit), &blocks)
}

/// A network in which each fate happens.
fn network() -> Net {
    let net = Net::of_cars([
        (ALICE.to_owned(), simnet::build_repo(ALICE, &rev(), alice())),
        (BOB.to_owned(), simnet::build_repo(BOB, &rev(), bob())),
        (CAROL.to_owned(), with_bad_key(CAROL)),
        (
            HEIDI.to_owned(),
            simnet::build_repo(HEIDI, &rev(), vec![post(70, json!({}))]),
        ),
    ]);
    let url = net.server.url();
    for (number, did) in [ALICE, BOB, CAROL, DAVE, ERIN, HEIDI]
        .into_iter()
        .enumerate()
    {
        net.set_document(
            did,
            &simnet::document(did, &format!("user{number}.test"), &url),
        );
    }
    net.server
        .set(DAVE, Answer::Repo(Arc::new(b"no CAR at all".to_vec())));
    net.server.set(ERIN, Answer::error(400, "RepoDeactivated"));
    net
}

/// `skyfill run` of accounts on a network, with everything that it asks pointed there.
fn run(net: &Net, db: &TestDb, dids: &[&str], args: &[&str]) -> Output {
    let (url, dir) = (net.server.url(), folder());
    let file = did_file(dir.path(), &url, dids.iter().copied());
    let mut command = skyfill();
    command.args([
        "run",
        "--json",
        "--allow-private-hosts",
        "--host-rate",
        "10000",
        "--now",
        NOW,
    ]);
    command.args([
        "--handles",
        "claimed",
        "--timeout",
        "2",
        "--plc-rate",
        "1000",
        "--accept-deletions",
    ]);
    for server in ["--plc-url", "--well-known-server", "--did-web-server"] {
        command.args([server, &url]);
    }
    command.args(["--dns-server", &dns().address().to_string()]);
    command
        .arg(file)
        .args(args)
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    command.output().unwrap()
}

fn explain(db: &TestDb, target: &str, args: &[&str]) -> Value {
    let mut command = skyfill();
    command.args(["explain", "--json", target]).args(args);
    summary(&run_well(command.env("BSKY_DB_POSTGRES_URL", &db.url)))
}

/// The fate of a record, and why.
fn fate(db: &TestDb, uri: &str) -> (String, String) {
    let answer = explain(db, uri, &[]);
    let text = |name: &str| answer["record"][name].as_str().unwrap().to_owned();
    (text("fate"), text("why"))
}

/// The notifications of a record: recipient and reason, and why there is none.
fn notified(answer: &Value) -> Vec<(String, String, Option<String>)> {
    let list = answer["record"]["notifications"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.map(|one| {
        (
            text(&one["did"]).unwrap(),
            text(&one["reason"]).unwrap(),
            text(&one["why"]),
        )
    })
    .collect()
}

#[test]
fn explain_is_right_about_one_record_of_each_fate() {
    let (net, db) = (network(), TestDb::migrated());
    let muted = format!(
        "INSERT INTO bsky.thread_mute (\"rootUri\", \"mutedByDid\", \"createdAt\") VALUES ('{}', '{ALICE}', '{NOW}')",
        post_uri(ALICE, 4)
    );
    db.client().batch_execute(&muted).unwrap();
    let all = [ALICE, BOB, CAROL, DAVE, ERIN, FRANK, HEIDI];
    let output = run(&net, &db, &all, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let of_bob = |collection: &str, n| format!("at://{BOB}/{collection}/{}", tid(n));
    let bobs_post = |n| of_bob("app.bsky.feed.post", n);
    let bobs_like = |n| of_bob("app.bsky.feed.like", n);
    for (uri, wanted, why) in [
        (bobs_post(15), "stored", "all its rows are here"),
        (bobs_like(13), "duplicate", bobs_like(12).as_str()),
        (
            bobs_post(18),
            "skipped",
            "the official indexer refuses it, too: $.text is missing",
        ),
        (
            of_bob("org.example.note", 19),
            "skipped",
            "its collection leaves no row in an AppView",
        ),
        (bobs_post(20), "skipped", "it is not canonical DAG-CBOR"),
        (bobs_post(21), "skipped", "it exceeds a limit"),
        (bobs_post(22), "skipped", "PostgreSQL refuses its rows"),
        (
            bobs_post(77),
            "not in the repo",
            "is loaded as a whole, and has no such record",
        ),
        (post_uri(DAVE, 1), "not loaded", "the repo is failed: "),
        (
            post_uri(ERIN, 1),
            "not loaded",
            "the repo is gone, deactivated",
        ),
        (
            post_uri(FRANK, 1),
            "not loaded",
            "the repo is gone, not found",
        ),
        (
            post_uri("did:plc:ghost", 1),
            "unknown account",
            "the ledger does not know the account",
        ),
    ] {
        let (is, because) = fate(&db, &uri);
        assert_eq!(is, wanted, "{uri}: {because}");
        assert!(because.contains(why), "{uri}: {because}");
    }
    // A key that no URI can name is counted with its account.
    let carol = explain(&db, CAROL, &[]);
    assert_eq!(carol["account"]["repo"]["skipped"], 1, "{carol:#}");
    assert_eq!(carol["account"]["repo"]["proof"], "signed");

    // Flags name the gate that decides, or the parent.
    let gate = |did, collection, n| format!("at://{did}/{collection}/{}", tid(n));
    for (n, flag, by) in [
        (
            10,
            "violatesThreadGate",
            gate(ALICE, "app.bsky.feed.threadgate", 1),
        ),
        (
            11,
            "violatesEmbeddingRules",
            gate(ALICE, "app.bsky.feed.postgate", 2),
        ),
        (14, "invalidReplyRoot", post_uri(ALICE, 99)),
    ] {
        let answer = explain(&db, &bobs_post(n), &[]);
        let flags = answer["record"]["flags"].as_array().unwrap();
        assert_eq!(flags.len(), 1, "{answer:#}");
        assert_eq!(
            (flags[0]["flag"].as_str(), flags[0]["decidedBy"].as_str()),
            (Some(flag), Some(by.as_str()))
        );
    }
    let answer = explain(&db, &post_uri(ALICE, 1), &[]);
    assert_eq!(answer["record"]["flags"][0]["flag"], "hasThreadGate");

    // Who is notified, and who is not.
    let cases = [
        (of_bob("app.bsky.graph.follow", 23), "follow", None),
        (bobs_like(12), "like", None),
        (bobs_like(13), "like", Some("a duplicate of")),
        (bobs_post(10), "reply", Some("does not admit the reply")),
        (bobs_post(11), "quote", Some("lets nobody else embed it")),
        (bobs_post(14), "reply", Some("is not stored")),
        (bobs_post(17), "mention", None),
        (bobs_post(17), "reply", Some("the mention notified already")),
        (bobs_post(24), "reply", Some("muted the thread")),
    ];
    for (uri, reason, why) in cases {
        let list = notified(&explain(&db, &uri, &[]));
        let found = list
            .iter()
            .find(|(did, of, _)| did == ALICE && of == reason);
        let (_, _, not) = found.unwrap_or_else(|| panic!("{uri} {reason}: {list:?}"));
        match (why, not) {
            (None, None) => {}
            (Some(why), Some(not)) => assert!(not.contains(why), "{uri}: {not}"),
            other => panic!("{uri} {reason}: {other:?}"),
        }
    }
    let own = notified(&explain(&db, &bobs_like(16), &[]));
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(
        own[0].0 == BOB && own[0].2.as_ref().unwrap().contains("author's own"),
        "{own:?}"
    );
    the_host_proves_it(&net, &db);
    an_account_that_is_deleted_is_explained(&net, &db);
}

/// What the host says now is proved, with the record or without it.
fn the_host_proves_it(net: &Net, db: &TestDb) {
    let uri = post_uri(BOB, 15);
    let host = |uri: &str| explain(db, uri, &["--fetch"])["host"].clone();
    let good = host(&uri);
    assert_eq!(
        (
            good["by"].as_str(),
            good["proof"].as_str(),
            good["inTree"].as_bool(),
            good["isStoredRecord"].as_bool()
        ),
        (Some("getRecord"), Some("signed"), Some(true), Some(true)),
        "{good:#}"
    );
    let none = host(&post_uri(BOB, 77));
    assert_eq!(
        (none["inTree"].as_bool(), none["isStoredRecord"].as_bool()),
        (Some(false), Some(true)),
        "{none:#}"
    );
    // A host that does not know the question gives the repo.
    let asked = format!("record {BOB} app.bsky.feed.post/{}", tid(15));
    net.server
        .set(&asked, Answer::error(501, "MethodNotImplemented"));
    let whole = host(&uri);
    assert_eq!(
        (whole["by"].as_str(), whole["inTree"].as_bool()),
        (Some("getRepo"), Some(true)),
        "{whole:#}"
    );
    // A proof without a node on the path, and one that somebody else signed, are none.
    let car = simnet::build_repo(BOB, &rev(), bob());
    let (root, index) = atrepo::BlockIndex::build(&car).unwrap();
    let commit = index.get(&root).unwrap().to_vec();
    let cut = simnet::build_car(root, &[(root, commit)]);
    net.server.set(&asked, Answer::Repo(Arc::new(cut)));
    let error = host(&uri)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("its answer is no proof"), "{error}");
    let forged = simnet::build_repo(ALICE, &rev(), bob());
    net.server.set(
        &asked,
        Answer::Repo(Arc::new(simnet::build_proof(
            &forged,
            &format!("app.bsky.feed.post/{}", tid(15)),
        ))),
    );
    let error = host(&uri)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("of another account"), "{error}");
    // People get the same in lines, with the next step.
    let output = run_well(
        skyfill()
            .args(["explain", &post_uri(DAVE, 1)])
            .env("BSKY_DB_POSTGRES_URL", &db.url),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("fate: not loaded") && text.contains("next: skyfill run --retry-failed"),
        "{text}"
    );
    let output = skyfill()
        .args(["explain", "nonsense/"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

fn an_account_that_is_deleted_is_explained(net: &Net, db: &TestDb) {
    assert_eq!(fate(db, &post_uri(HEIDI, 70)).0, "stored");
    net.server.set(HEIDI, Answer::error(400, "RepoNotFound"));
    net.server
        .set(&format!("plc {HEIDI}"), Answer::error(404, "NotFound"));
    run(net, db, &[HEIDI], &[]);
    let (is, why) = fate(db, &post_uri(HEIDI, 70));
    assert_eq!(is, "not loaded", "{why}");
    assert!(why.contains("gone, deleted"), "{why}");
}

#[test]
fn explain_names_what_was_left_out_by_choice() {
    let net = network();
    let (part, since) = (TestDb::migrated(), TestDb::migrated());
    let args = ["--collections", "posts,graph", "--notifications", "none"];
    let output = run(&net, &part, &[ALICE, BOB], &args);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let like = format!("at://{BOB}/app.bsky.feed.like/{}", tid(12));
    let (is, why) = fate(&part, &like);
    assert!(
        is == "skipped" && why.contains("(--collections)"),
        "{is}: {why}"
    );
    let follow = format!("at://{BOB}/app.bsky.graph.follow/{}", tid(23));
    let list = notified(&explain(&part, &follow, &[]));
    assert!(
        list[0].2.as_ref().unwrap().contains("--notifications none"),
        "{list:?}"
    );
    let output = run(&net, &since, &[ALICE, BOB], &["--since", &at(13)]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let (is, why) = fate(&since, &like);
    assert!(is == "skipped" && why.contains("(--since)"), "{is}: {why}");
    // The older like holds no key any more.
    assert_eq!(
        fate(
            &since,
            &format!("at://{BOB}/app.bsky.feed.like/{}", tid(13))
        )
        .0,
        "stored"
    );
    assert_eq!(fate(&since, &follow).0, "stored");
}

/// Deletes all rows of an account, as if nobody had ever indexed it.
fn delete_account(db: &TestDb, did: &str) {
    let mut client = db.client();
    for info in appview::table::ALL {
        let sql = format!(
            "DELETE FROM bsky.\"{}\" WHERE \"{}\" LIKE 'at://{did}/%'",
            info.name, info.uri
        );
        client.execute(&sql, &[]).unwrap();
    }
    client
        .execute("DELETE FROM bsky.actor_sync WHERE did = $1", &[&did])
        .unwrap();
}

fn audit(network: &Network, url: &str, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = skyfill();
    command.args([
        "audit",
        url,
        "--json",
        "--progress",
        "none",
        "--allow-private-hosts",
    ]);
    command.args([
        "--plc-url",
        &network.plc_url(),
        "--did-web-server",
        &network.well_known_url(),
    ]);
    command
        .args(["--plc-rate", "5000", "--host-rate", "10000"])
        .args(args);
    let output = command.output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        told(&output)
    );
    (output.status.code(), summary(&output))
}

fn table<'v>(audited: &'v Value, name: &str) -> &'v Value {
    let tables = audited["tables"].as_array().unwrap();
    tables.iter().find(|table| table["table"] == name).unwrap()
}

#[test]
fn an_audit_finds_what_is_missing_within_its_interval() {
    let network = Network::start(settings(21, 120, 4));
    let db = TestDb::migrated();
    let relay = network.relay_url();
    let mut load = on(&network, &db, "run");
    run_well(load.args(FAST).args(["--discover", "--relay", &relay]));
    // A role that may read the AppView's tables, and nothing of skyfill's.
    let role = format!("auditor_{}", std::process::id());
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA bsky TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA bsky TO {role}"
    );
    db.client().batch_execute(&grant).unwrap();
    let url = db.url.replacen("skyfill@", &format!("{role}@"), 1);
    let all = ["--relay", &relay, "--sample", "1000", "--seed", "1"];
    let (code, whole) = audit(&network, &url, &all);
    assert_eq!(code, Some(0), "{whole:#}");
    let active = network.expected().into_values();
    let active = active.filter(|state| *state == Expected::Loaded).count();
    assert!(active > 100, "{active}");
    for count in [
        &whole["compared"],
        &whole["population"]["accounts"],
        &whole["accounts"]["whole"],
    ] {
        assert_eq!(*count, json!(active), "{whole:#}");
    }
    assert_eq!(table(&whole, "record")["extra"], 0);

    let liked = db.count("like");
    let gone = "DELETE FROM bsky.\"like\" WHERE abs(hashtext(uri)) % 33 = 0";
    assert!(db.client().execute(gone, &[]).unwrap() > 0);
    let sql = "SELECT did FROM bsky.record GROUP BY did HAVING count(*) BETWEEN 10 AND 60 ORDER BY did LIMIT 1";
    let lost: String = db.client().query_one(sql, &[]).unwrap().get(0);
    delete_account(&db, &lost);
    let truth = db.count("like") as f64 / liked as f64;
    let of_records = {
        let records: i64 = whole["tables"]
            .as_array()
            .unwrap()
            .iter()
            .find(|t| t["table"] == "record")
            .unwrap()["expected"]
            .as_i64()
            .unwrap();
        db.count("record") as f64 / records as f64
    };
    assert!((0.9..0.98).contains(&truth), "{truth}");
    // All of the population: exact, and the lost account is named.
    let (code, found) = audit(&network, &url, &all);
    assert_eq!(code, Some(1), "{found:#}");
    let absent = found["accounts"]["absent"].as_array().unwrap();
    assert!(absent.len() == 1 && absent[0]["did"] == lost, "{absent:#?}");
    let likes = table(&found, "like");
    let share = likes["complete"]["share"].as_f64().unwrap();
    assert!((share - truth).abs() < 1e-9, "{share} {truth}");
    assert_eq!(likes["complete"]["low"], likes["complete"]["high"]);
    assert_eq!(likes["missing"].as_i64().unwrap(), liked - db.count("like"));
    // Samples: the truth is in their intervals.
    let (mut in_interval, mut widths) = (0, Vec::new());
    let seeds = 8;
    for seed in 0..seeds {
        let seed = seed.to_string();
        let args = ["--relay", &relay, "--sample", "60", "--seed", &seed];
        let (_, found) = audit(&network, &url, &args);
        assert_eq!(found["sampled"], 60);
        let within = |name: &str, truth: f64| {
            let of = &table(&found, name)["complete"];
            let (low, high) = (of["low"].as_f64().unwrap(), of["high"].as_f64().unwrap());
            ((low..=high).contains(&truth), high - low)
        };
        let (likes, width) = within("like", truth);
        let (records, _) = within("record", of_records);
        in_interval += u32::from(likes) + u32::from(records);
        widths.push(width);
    }
    // Of 16 intervals at 95 %, 15.2 hold on average.
    assert!(in_interval >= 14, "{in_interval}");
    assert!(widths.iter().all(|width| *width < 0.2), "{widths:?}");
    // The same seed draws the same.
    let args = ["--relay", &relay, "--sample", "9", "--seed", "5"];
    assert_eq!(audit(&network, &url, &args), audit(&network, &url, &args));
    // Rows that no repo has are extra.
    db.client()
        .batch_execute(
            "INSERT INTO bsky.\"like\" (uri, cid, creator, subject, \"subjectCid\", via, \"viaCid\", \"createdAt\", \"indexedAt\")
             SELECT uri || 'x', cid, creator, subject || 'x', \"subjectCid\", via, \"viaCid\", \"createdAt\", \"indexedAt\"
             FROM (SELECT uri, cid, creator, subject, \"subjectCid\", via, \"viaCid\", \"createdAt\", \"indexedAt\" FROM bsky.\"like\" ORDER BY uri LIMIT 1) l",
        )
        .unwrap();
    let (_, found) = audit(&network, &url, &all);
    assert_eq!(table(&found, "like")["extra"], 1);
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    db.client().batch_execute(&drop).unwrap();
}

/// A certificate with the list of its repos.
fn certificate(db: &TestDb, path: &std::path::Path) {
    let mut command = skyfill();
    command
        .args(["verify", "--certificate-repos", "--certificate"])
        .arg(path);
    run_well(command.env("BSKY_DB_POSTGRES_URL", &db.url));
}

fn compared(first: &std::path::Path, second: &std::path::Path) -> Output {
    let mut command: Command = skyfill();
    command
        .args(["compare", "--json"])
        .arg(first)
        .arg(second)
        .output()
        .unwrap()
}

#[test]
fn two_certificates_differ_in_one_repo() {
    let tangle = simnet::Tangle::new(31, 9, 300);
    let net = Net::of_tangle(&tangle);
    let (one, two, dir) = (TestDb::migrated(), TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(run_load(&one.url).arg(&file));
    let changed = &net.dids[4];
    let later = later(&tangle.car(changed), changed, &mut simnet::Random::new(3));
    net.server.set(changed, Answer::Repo(Arc::new(later)));
    run_well(run_load(&two.url).arg(&file));
    let paths = ["a.json", "b.json", "c.json"].map(|name| dir.path().join(name));
    certificate(&one, &paths[0]);
    certificate(&one, &paths[1]);
    certificate(&two, &paths[2]);
    let same = compared(&paths[0], &paths[1]);
    assert_eq!(same.status.code(), Some(0), "{}", told(&same));
    let other = compared(&paths[0], &paths[2]);
    assert_eq!(other.status.code(), Some(1), "{}", told(&other));
    let found = summary(&other);
    assert_eq!(found["sameTree"], false);
    let repos = &found["repos"];
    assert_eq!(repos["differing"], 1, "{found:#}");
    assert_eq!(
        (
            repos["named"][0]["did"].as_str(),
            repos["named"][0]["how"].as_str()
        ),
        (Some(changed.as_str()), Some("another rev"))
    );
    assert_eq!(found["hosts"].as_object().unwrap().len(), 1, "{found:#}");
    // The list is read as far as it says what its certificate says.
    let list = dir.path().join("c.json.repos");
    let text = std::fs::read_to_string(&list).unwrap();
    assert_eq!(text.lines().count(), 9);
    std::fs::write(&list, text.replacen(" 3", " 4", 1)).unwrap();
    let refused = compared(&paths[0], &paths[2]);
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    std::fs::write(
        &list,
        text.lines()
            .rev()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
    .unwrap();
    let refused = compared(&paths[0], &paths[2]);
    assert!(
        told(&refused).contains("not in the order of DIDs"),
        "{}",
        told(&refused)
    );
    // Without lists, hosts are named all the same.
    std::fs::remove_file(&list).unwrap();
    let without: BTreeMap<String, Value> =
        serde_json::from_slice(&compared(&paths[0], &paths[2]).stdout).unwrap();
    assert!(
        without["repos"].is_null() && without["sameTree"] == false,
        "{without:#?}"
    );
    let no_certificate = compared(&file, &paths[0]);
    assert_eq!(
        no_certificate.status.code(),
        Some(3),
        "{}",
        told(&no_certificate)
    );
}
