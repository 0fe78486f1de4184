//! What gates ask for changes, step by step: follows, lists, mentions, the gates themselves. After
//! each step the derived rows are those that computing everything gives.

use serde_json::{Value, json};
use simnet::Answer;
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use tempfile::TempDir;
use testbed::*;

const CID: &str = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const OWNER: &str = "did:plc:ownerownerownerownerowne";
const REPLIER: &str = "did:plc:replierreplierreplierrep";
const LISTER: &str = "did:plc:listerlisterlisterlister";

/// Accounts and their records, which change one by one.
struct Threads {
    net: Net,
    db: TestDb,
    records: BTreeMap<&'static str, BTreeMap<String, Value>>,
    commits: u64,
}

impl Threads {
    fn put(&mut self, did: &'static str, key: &str, mut record: Value) {
        let collection = key.split('/').next().unwrap();
        record["$type"] = json!(collection);
        record["createdAt"] = json!("2024-01-01T00:00:00.000Z");
        self.records
            .entry(did)
            .or_default()
            .insert(key.to_owned(), record);
    }

    fn remove(&mut self, did: &str, key: &str) {
        let gone = self.records.get_mut(did).unwrap().remove(key);
        assert!(gone.is_some(), "{key}");
    }

    /// Serves what accounts have now; the command that loads it, and computes what depends on it.
    fn loading(&mut self, dids: &[&'static str]) -> (TempDir, Command) {
        for did in dids {
            self.commits += 1;
            let rev = atrepo::syntax::tid(1_700_000_000_000_000 + self.commits * 1_000_000, 1);
            let records = self.records[did].iter();
            let records = records.map(|(key, record)| {
                let bytes = rows::from_stored_json(&record.to_string()).unwrap();
                (key.clone(), bytes)
            });
            let car = simnet::build_repo(did, &rev, records.collect());
            self.net.server.set(did, Answer::Repo(Arc::new(car)));
        }
        let dir = folder();
        let file = did_file(dir.path(), &self.net.server.url(), dids.iter().copied());
        let mut command = run_load(&self.db.url);
        command.arg(file);
        (dir, command)
    }

    fn load(&mut self, dids: &[&'static str]) -> Output {
        let (_dir, mut command) = self.loading(dids);
        run_well(&mut command)
    }

    /// Loads it; the posts that violate a gate, replies by their rkeys. All derived rows are those
    /// of everything.
    fn shut_after(&mut self, step: &str, did: &'static str) -> Vec<String> {
        let loaded = self.load(&[did]);
        let said = told(&loaded);
        assert!(!said.contains("another program wrote"), "{step}: {said}");
        let followed = self.db.dump();
        // The difference would be told by what comes next, too: everything is computed in a copy.
        let copy = self.db.copied();
        run_well(finalize(&copy).arg("--restart"));
        if let Some(difference) = difference(&followed, &copy.dump()) {
            panic!("{step}: {difference}");
        }
        let sql =
            "SELECT split_part(uri, '/', 5) FROM bsky.post WHERE \"violatesThreadGate\" ORDER BY 1";
        let rows = self.db.client().query(sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn flags(&self, rkey: &str) -> (Option<bool>, Option<bool>) {
        let sql = "SELECT \"invalidReplyRoot\", \"violatesEmbeddingRules\" FROM bsky.post WHERE split_part(uri, '/', 5) = $1";
        let row = self.db.client().query_one(sql, &[&rkey]).unwrap();
        (row.get(0), row.get(1))
    }
}

fn uri(did: &str, key: &str) -> String {
    format!("at://{did}/{key}")
}

fn post_of_owner(rkey: &str) -> String {
    uri(OWNER, &format!("app.bsky.feed.post/{rkey}"))
}

fn reply(root: &str, parent: &str) -> Value {
    let strong = |uri: &str| json!({"uri": uri, "cid": CID});
    json!({"text": "r", "reply": {"root": strong(root), "parent": strong(parent)}})
}

fn gate(rkey: &str, rules: &[&str]) -> Value {
    let list = uri(LISTER, "app.bsky.graph.list/list");
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| json!({"$type": format!("app.bsky.feed.threadgate#{rule}"), "list": list}))
        .collect();
    json!({"post": post_of_owner(rkey), "allow": rules})
}

fn threads() -> Threads {
    let mut threads = Threads {
        net: Net::of_cars(Vec::new()),
        db: TestDb::migrated(),
        records: BTreeMap::new(),
        commits: 0,
    };
    for (rkey, rule) in [
        ("followers", "followerRule"),
        ("followed", "followingRule"),
        ("listed", "listRule"),
        ("mentioned", "mentionRule"),
    ] {
        let post = format!("app.bsky.feed.post/{rkey}");
        threads.put(OWNER, &post, json!({"text": "root"}));
        threads.put(
            OWNER,
            &format!("app.bsky.feed.threadgate/{rkey}"),
            gate(rkey, &[rule]),
        );
        let root = post_of_owner(rkey);
        let key = format!("app.bsky.feed.post/to-{rkey}");
        threads.put(REPLIER, &key, reply(&root, &root));
        // A stray: its parent is nowhere.
        let nowhere = uri(REPLIER, &format!("app.bsky.feed.post/nowhere-{rkey}"));
        let key = format!("app.bsky.feed.post/stray-{rkey}");
        threads.put(REPLIER, &key, reply(&root, &nowhere));
        let below = format!("app.bsky.feed.post/below-{rkey}");
        threads.put(REPLIER, &below, reply(&root, &uri(REPLIER, &key)));
    }
    threads.put(OWNER, "app.bsky.feed.post/open", json!({"text": "root"}));
    let open = post_of_owner("open");
    threads.put(REPLIER, "app.bsky.feed.post/to-open", reply(&open, &open));
    let embed =
        |uri: String| json!({"$type": "app.bsky.embed.record", "record": {"uri": uri, "cid": CID}});
    threads.put(
        REPLIER,
        "app.bsky.feed.post/quote",
        json!({"text": "q", "embed": embed(open)}),
    );
    threads.put(
        LISTER,
        "app.bsky.graph.list/list",
        json!({"name": "l", "purpose": "app.bsky.graph.defs#curatelist"}),
    );
    threads.load(&[OWNER, REPLIER, LISTER]);
    threads
}

/// The replies to the thread of this name, sorted.
fn all_to(names: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = ["below", "stray", "to"]
        .iter()
        .flat_map(|kind| names.iter().map(move |name| format!("{kind}-{name}")))
        .collect();
    all.sort();
    all
}

#[test]
fn who_may_reply_follows_follows_lists_and_mentions() {
    let mut threads = threads();
    let shut = threads.shut_after("nothing", LISTER);
    assert_eq!(
        shut,
        all_to(&["followers", "followed", "listed", "mentioned"])
    );
    let follow = "app.bsky.graph.follow/f";
    threads.put(REPLIER, follow, json!({"subject": OWNER}));
    let shut = threads.shut_after("the replier follows", REPLIER);
    assert_eq!(shut, all_to(&["followed", "listed", "mentioned"]));
    threads.remove(REPLIER, follow);
    let shut = threads.shut_after("the replier follows no more", REPLIER);
    assert_eq!(
        shut,
        all_to(&["followers", "followed", "listed", "mentioned"])
    );
    threads.put(OWNER, follow, json!({"subject": REPLIER}));
    let shut = threads.shut_after("the owner follows", OWNER);
    assert_eq!(shut, all_to(&["followers", "listed", "mentioned"]));
    let item = "app.bsky.graph.listitem/i";
    let list = uri(LISTER, "app.bsky.graph.list/list");
    threads.put(LISTER, item, json!({"subject": REPLIER, "list": list}));
    let shut = threads.shut_after("the replier is listed", LISTER);
    assert_eq!(shut, all_to(&["followers", "mentioned"]));
    threads.remove(LISTER, item);
    let shut = threads.shut_after("the replier is listed no more", LISTER);
    assert_eq!(shut, all_to(&["followers", "listed", "mentioned"]));
    let mention = json!({"$type": "app.bsky.richtext.facet#mention", "did": REPLIER});
    let facet = json!({"index": {"byteStart": 0, "byteEnd": 1}, "features": [mention]});
    threads.put(
        OWNER,
        "app.bsky.feed.post/mentioned",
        json!({"text": "root", "facets": [facet]}),
    );
    let shut = threads.shut_after("the root mentions the replier", OWNER);
    assert_eq!(shut, all_to(&["followers", "listed"]));
    // A gate that is gone opens its thread, the strays, too.
    threads.remove(OWNER, "app.bsky.feed.threadgate/listed");
    let shut = threads.shut_after("a gate is gone", OWNER);
    assert_eq!(shut, all_to(&["followers"]));
    threads.put(
        OWNER,
        "app.bsky.feed.threadgate/listed",
        gate("listed", &[]),
    );
    let shut = threads.shut_after("a gate lets nobody in", OWNER);
    assert_eq!(shut, all_to(&["followers", "listed"]));
}

#[test]
fn validity_and_embeds_follow_what_is_replied_to_and_gated() {
    let mut threads = threads();
    assert_eq!(threads.flags("below-listed"), (Some(true), None));
    // What was nowhere is there: all below it is valid.
    let root = post_of_owner("listed");
    threads.put(
        REPLIER,
        "app.bsky.feed.post/nowhere-listed",
        reply(&root, &root),
    );
    threads.shut_after("the parent of a stray", REPLIER);
    assert_eq!(threads.flags("below-listed"), (Some(false), None));
    let rule = json!({"$type": "app.bsky.feed.postgate#disableRule"});
    threads.put(
        OWNER,
        "app.bsky.feed.postgate/open",
        json!({"post": post_of_owner("open"), "embeddingRules": [rule]}),
    );
    threads.shut_after("a post gate", OWNER);
    assert_eq!(threads.flags("quote"), (None, Some(true)));
    threads.remove(OWNER, "app.bsky.feed.postgate/open");
    threads.shut_after("no post gate", OWNER);
    assert_eq!(threads.flags("quote"), (None, None));
    // The root is gone, and comes back.
    threads.remove(OWNER, "app.bsky.feed.post/open");
    threads.shut_after("no root", OWNER);
    assert_eq!(threads.flags("to-open"), (Some(true), None));
    threads.put(OWNER, "app.bsky.feed.post/open", json!({"text": "again"}));
    threads.shut_after("a root", OWNER);
    assert_eq!(threads.flags("to-open"), (None, None));
    // The reply and its root reply to each other.
    let to_open = uri(REPLIER, "app.bsky.feed.post/to-open");
    threads.put(OWNER, "app.bsky.feed.post/open", reply(&to_open, &to_open));
    threads.shut_after("a cycle", OWNER);
    assert_eq!(threads.flags("to-open"), (Some(true), None));
    threads.put(
        OWNER,
        "app.bsky.feed.post/open",
        json!({"text": "once more"}),
    );
    threads.shut_after("no cycle", OWNER);
    assert_eq!(threads.flags("to-open"), (None, None));
}

/// Of a cycle in a thread, one member is judged by a follow; what it sees depends on all of them.
#[test]
fn a_cycle_stays_one_if_one_member_is_judged_again() {
    let mut threads = threads();
    let root = post_of_owner("followers");
    let members = [
        (LISTER, "a", uri(OWNER, "app.bsky.feed.post/m")),
        (OWNER, "m", uri(REPLIER, "app.bsky.feed.post/z")),
        (REPLIER, "z", uri(LISTER, "app.bsky.feed.post/a")),
    ];
    for (did, rkey, parent) in members {
        let key = format!("app.bsky.feed.post/{rkey}");
        threads.put(did, &key, reply(&root, &parent));
        threads.shut_after(rkey, did);
    }
    let follow = "app.bsky.graph.follow/f";
    threads.put(REPLIER, follow, json!({"subject": OWNER}));
    threads.shut_after("the replier follows", REPLIER);
    threads.remove(REPLIER, follow);
    threads.shut_after("the replier follows no more", REPLIER);
    assert_eq!(threads.flags("z").0, Some(true));
}

/// The last post to embed another names the CID by which its quotes are counted, also where it is
/// the second that it embeds.
#[test]
fn quotes_are_counted_by_the_last_embed() {
    const OTHER: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
    const THIRD: &str = "bafyreib4pff766vhpbxbhjbqqnsh5emeznvujayjj4z2iu533cprgbz23m";
    let mut threads = threads();
    let quotes = |threads: &Threads| -> i64 {
        let sql = "SELECT \"quoteCount\" FROM bsky.post_agg WHERE uri = $1";
        let row = threads
            .db
            .client()
            .query_one(sql, &[&post_of_owner("open")]);
        row.unwrap().get(0)
    };
    assert_eq!(quotes(&threads), 1);
    let record = |rkey: &str, cid: &str| {
        let strong = json!({"uri": post_of_owner(rkey), "cid": cid});
        json!({"$type": "app.bsky.embed.record", "record": strong})
    };
    let both = json!({
        "$type": "app.bsky.embed.recordWithMedia", "record": record("listed", THIRD), "media": record("open", OTHER),
    });
    let later = "app.bsky.feed.post/zz";
    threads.put(LISTER, later, json!({"text": "two", "embed": both}));
    threads.shut_after("a second embed of another CID", LISTER);
    // Nobody quotes that CID.
    assert_eq!(quotes(&threads), 0);
    threads.put(
        LISTER,
        "app.bsky.feed.post/other",
        json!({"text": "q", "embed": record("mentioned", OTHER)}),
    );
    threads.shut_after("a quote of that CID elsewhere", LISTER);
    assert_eq!(quotes(&threads), 1);
    threads.remove(LISTER, later);
    threads.shut_after("no second embed", LISTER);
    assert_eq!(quotes(&threads), 1);
}

/// A reply that comes while a computation is under way is judged by it, before its coming is
/// counted. That its parent has fewer replies than none until then means nothing.
#[test]
fn a_reply_that_is_shut_before_it_is_counted_makes_nothing_anew() {
    let mut threads = threads();
    threads.put(OWNER, "app.bsky.feed.post/alone", json!({"text": "root"}));
    threads.shut_after("a post", OWNER);
    let key = "app.bsky.feed.threadgate/alone";
    threads.put(OWNER, key, gate("alone", &[]));
    let (_dir, mut killed) = threads.loading(&[OWNER]);
    let killed = killed.env("SKYFILL_FAILPOINT", "slice=1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", told(&killed));
    let alone = post_of_owner("alone");
    let key = "app.bsky.feed.post/to-alone";
    threads.put(REPLIER, key, reply(&alone, &alone));
    let shut = threads.shut_after("a reply meanwhile", REPLIER);
    assert!(shut.contains(&"to-alone".to_owned()), "{shut:?}");
}
