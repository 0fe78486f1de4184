//! Parts of the network by what people mean: groups of collections, records since a date, accounts
//! around somebody, members of lists, accounts with records of some collections. Each is compared
//! with what the repos themselves say, and `verify` finds no difference.

use crate::network::{FAST, on, settings, states};
use rows::Collection;
use serde_json::Value;
use simnet::{Expected, Network};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use testbed::*;

fn load(network: &Network, db: &TestDb, args: &[&str]) -> Output {
    let mut command = on(network, db, "run");
    run_well(command.args(FAST).args(args))
}

/// The scope of the verdict, after a comparison that found nothing.
fn scope(db: &TestDb) -> Vec<String> {
    let mut command = skyfill();
    command
        .args(["verify", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    let verified = summary(&run_well(&mut command));
    assert_eq!(verified["differences"], 0, "{verified:#}");
    assert_eq!(verified["verdict"], "complete", "{verified:#}");
    let mut command = skyfill();
    command
        .args(["status", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    let status = summary(&run_well(&mut command));
    assert_eq!(status["scope"], verified["scope"]);
    let scope = verified["scope"].as_array().unwrap().iter();
    scope
        .map(|phrase| phrase.as_str().unwrap().to_owned())
        .collect()
}

/// The records of each active account, as JSON, by key.
fn records(network: &Network) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for (did, state) in network.expected() {
        let Some(car) = network.car(&did).filter(|_| state == Expected::Loaded) else {
            continue;
        };
        let of_account = records_of(&car, &did).into_iter().map(|(key, bytes)| {
            let map = atrepo::cbor::check(&bytes).unwrap().as_map().unwrap();
            (
                key,
                serde_json::from_str(&rows::to_json(map).unwrap()).unwrap(),
            )
        });
        all.insert(did.clone(), of_account.collect());
    }
    all
}

/// Keys of records of a collection.
fn of<'r>(
    records: &'r BTreeMap<String, Value>,
    collection: &str,
) -> impl Iterator<Item = (&'r String, &'r Value)> {
    let prefix = format!("{collection}/");
    records
        .iter()
        .filter(move |(key, _)| key.starts_with(&prefix))
}

#[test]
fn collections_are_chosen_by_wildcards_and_groups() {
    let network = Network::start(settings(41, 40, 3));
    let (by_name, by_meaning) = (TestDb::migrated(), TestDb::migrated());
    let relay = network.relay_url();
    let source = ["--discover", "--relay", &relay];
    let of_graph = |collection: &&Collection| collection.nsid().starts_with("app.bsky.graph.");
    let posts = [
        Collection::Post,
        Collection::Threadgate,
        Collection::Postgate,
    ];
    let chosen = Collection::ALL.iter().filter(of_graph).chain(&posts);
    let graph = chosen
        .map(|collection| collection.nsid())
        .collect::<Vec<_>>()
        .join(",");
    load(
        &network,
        &by_name,
        &[&source[..], &["--collections", &graph]].concat(),
    );
    let output = load(
        &network,
        &by_meaning,
        &[&source[..], &["--collections", "app.bsky.graph.*,posts"]].concat(),
    );
    assert!(told(&output).contains("estimate for "), "{}", told(&output));
    assert_eq!(difference(&by_meaning.dump(), &by_name.dump()), None);
    assert!(by_meaning.count("follow") > 0 && by_meaning.count("post") > 0);
    assert_eq!(
        (by_meaning.count("like"), by_meaning.count("profile")),
        (0, 0)
    );
    assert!(scope(&by_meaning)[0].starts_with("only the collections app.bsky.feed.post, "));
    // The same in other words is the same choice; others are refused.
    load(&network, &by_meaning, &["--collections", "graph,posts"]);
    let mut other = on(&network, &by_meaning, "run");
    let refused = other
        .args(FAST)
        .args(source)
        .args(["--collections", "likes"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    let mut unknown = on(&network, &by_meaning, "run");
    let refused = unknown
        .args(["--collections", "app.bsky.graph"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
}

#[test]
fn records_since_a_date_and_all_states() {
    let network = Network::start(settings(42, 40, 3));
    let (whole, part) = (TestDb::migrated(), TestDb::migrated());
    let relay = network.relay_url();
    let source = ["--discover", "--relay", &relay];
    load(&network, &whole, &source);
    load(
        &network,
        &part,
        &[&source[..], &["--since", "2024-09-01"]].concat(),
    );
    let since = "2024-09-01T00:00:00.000Z";
    let records = records(&network);
    for (table, collection) in [
        ("post", "app.bsky.feed.post"),
        ("like", "app.bsky.feed.like"),
        ("repost", "app.bsky.feed.repost"),
    ] {
        let mut uris = BTreeSet::new();
        for (did, all) in &records {
            // Of two about the same subject, the first has the row.
            let mut subjects = BTreeSet::new();
            for (key, value) in of(all, collection) {
                let subject = value["subject"]["uri"].as_str().unwrap_or(key);
                if value["createdAt"].as_str().unwrap() >= since && subjects.insert(subject) {
                    uris.insert(format!("at://{did}/{key}"));
                }
            }
        }
        let stored = part
            .client()
            .query(&format!("SELECT uri FROM bsky.\"{table}\""), &[])
            .unwrap();
        let stored: BTreeSet<String> = stored.iter().map(|row| row.get(0)).collect();
        assert_eq!(stored, uris, "{table}");
        assert!(
            (1..whole.count(table)).contains(&part.count(table)),
            "{table}"
        );
    }
    for table in ["follow", "actor_block", "profile"] {
        assert_eq!(part.count(table), whole.count(table), "{table}");
    }
    assert_eq!(
        scope(&part),
        [format!("posts, gates, likes and reposts since {since}")]
    );
    // It holds for what comes later, without being said again.
    network.change(5, 30);
    let before = part.dump();
    load(&network, &part, &source);
    assert!(difference(&part.dump(), &before).is_some());
    let older = "SELECT count(*) FROM bsky.post WHERE \"indexedAt\" < $1";
    let older: i64 = part.client().query_one(older, &[&since]).unwrap().get(0);
    assert_eq!(older, 0);
    scope(&part);
    let mut other = on(&network, &part, "run");
    let refused = other
        .args(FAST)
        .args(source)
        .args(["--since", "2020-01-01"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
}

#[test]
fn accounts_with_records_of_some_collections() {
    let network = Network::start(settings(43, 60, 3));
    let db = TestDb::migrated();
    let relay = network.relay_url();
    let chosen = ["app.bsky.graph.block", "app.bsky.feed.repost"];
    let args = [
        "--discover",
        "--relay",
        &relay,
        "--collection",
        chosen[0],
        "--collection",
        chosen[1],
    ];
    load(&network, &db, &args);
    let wanted: BTreeSet<String> = records(&network)
        .iter()
        .filter(|(_, all)| {
            chosen
                .iter()
                .any(|collection| of(all, collection).next().is_some())
        })
        .map(|(did, _)| did.clone())
        .collect();
    let loaded: BTreeSet<String> = states(&db).into_keys().collect();
    assert_eq!(loaded, wanted);
    assert!(wanted.len() > 5 && wanted.len() < 60, "{}", wanted.len());
    let phrase = "accounts that were chosen: --collection app.bsky.graph.block --collection app.bsky.feed.repost";
    assert_eq!(scope(&db), [phrase]);
    // When all are looked for, nothing is left out any more.
    load(&network, &db, &["--discover", "--relay", &relay]);
    assert_eq!(states(&db).len(), 60);
    assert!(scope(&db).is_empty());
}

/// The accounts within so many follows of one, as the repos say.
fn around(
    records: &BTreeMap<String, BTreeMap<String, Value>>,
    did: &str,
    hops: usize,
) -> BTreeSet<String> {
    let mut all = BTreeSet::from([did.to_owned()]);
    let mut frontier = all.clone();
    for _ in 0..hops {
        let followed = frontier
            .iter()
            .filter_map(|did| records.get(did))
            .flat_map(|records| {
                of(records, "app.bsky.graph.follow")
                    .map(|(_, value)| value["subject"].as_str().unwrap().to_owned())
            });
        frontier = followed.filter(|did| !all.contains(did)).collect();
        all.extend(frontier.iter().cloned());
    }
    all
}

#[test]
fn accounts_around_somebody_are_loaded_with_one_request_each() {
    let network = Network::start(settings(44, 80, 4));
    let records = records(&network);
    let size = |did: &String, hops| around(&records, did, hops).len();
    // Somebody whose second hop reaches more than the first, and not all.
    let seed = records
        .keys()
        .find(|did| size(did, 1) >= 2 && size(did, 2) > size(did, 1) && size(did, 2) < 75)
        .expect("somebody with friends of friends");
    for (hops, option) in [(1, "1"), (2, "2")] {
        let db = TestDb::migrated();
        network.reset_counts();
        let output = load(&network, &db, &["--followed-by", seed, "--hops", option]);
        let wanted = around(&records, seed, hops);
        let loaded: BTreeSet<String> = states(&db).into_keys().collect();
        assert_eq!(loaded, wanted, "{hops}");
        let asked: u64 = network.counts().iter().map(|host| host.get_repo).sum();
        assert_eq!(asked, wanted.len() as u64, "{hops}");
        let estimate = format!("estimate for {} repos", wanted.len());
        assert!(told(&output).contains(&estimate), "{}", told(&output));
        assert_eq!(
            scope(&db),
            [
                "only the repos that were named: there was no discovery".to_owned(),
                format!("accounts that were chosen: --followed-by {seed} --hops {option}")
            ]
        );
    }
    // More than are wanted are refused before anything is loaded.
    let db = TestDb::migrated();
    let mut command = on(&network, &db, "run");
    let args = ["--followed-by", seed, "--hops", "2", "--most-accounts", "2"];
    let refused = command.args(FAST).args(args).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    assert!(
        told(&refused).contains("more than 2 accounts; nothing was loaded"),
        "{}",
        told(&refused)
    );
    assert!(states(&db).is_empty());
}

#[test]
fn members_of_a_list_are_loaded_with_its_owner() {
    let tangle = simnet::Tangle::new(45, 14, 900);
    let net = Net::of_tangle(&tangle);
    let url = net.server.url();
    for (number, did) in net.dids.iter().enumerate() {
        net.set_document(
            did,
            &simnet::document(did, &format!("user{number}.test"), &url),
        );
    }
    let mut lists: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for did in &net.dids {
        let repo = records_of(&tangle.car(did), did);
        for (key, bytes) in &repo {
            let Some(map) = atrepo::cbor::check(bytes).unwrap().as_map() else {
                continue;
            };
            let text = |name: &str| {
                map.get(name)
                    .and_then(|item| item.as_text())
                    .map(str::to_owned)
            };
            if key.starts_with("app.bsky.graph.list/")
                && rows::check(rows::Collection::List, map).is_ok()
            {
                lists.entry(format!("at://{did}/{key}")).or_default();
            }
            // Only an item of the owner's counts.
            if key.starts_with("app.bsky.graph.listitem/")
                && rows::check(rows::Collection::ListItem, map).is_ok()
            {
                let list = text("list").unwrap();
                if list.starts_with(&format!("at://{did}/")) {
                    lists.entry(list).or_default().extend(text("subject"));
                }
            }
        }
    }
    let is_there = |uri: &str| {
        let (did, key) = uri.trim_start_matches("at://").split_once('/').unwrap();
        records_of(&tangle.car(did), did)
            .iter()
            .any(|(other, _)| other == key)
    };
    let (uri, members) = lists
        .iter()
        .filter(|(uri, members)| is_there(uri) && (2..net.dids.len() - 2).contains(&members.len()))
        .max_by_key(|(_, members)| members.len())
        .expect("a list with members");
    let db = TestDb::migrated();
    let run = |list: &str| {
        let mut command = run_load(&db.url);
        command.args([
            "--plc-url",
            &url,
            "--did-web-server",
            &url,
            "--plc-rate",
            "1000",
            "--list",
            list,
        ]);
        command.output().unwrap()
    };
    let missing = run(&format!("at://{}/app.bsky.graph.list/none", net.dids[0]));
    assert_eq!(missing.status.code(), Some(2), "{}", told(&missing));
    let output = run(uri);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let mut wanted = members.clone();
    wanted.insert(uri.split('/').nth(2).unwrap().to_owned());
    // Accounts that do not exist are known to be gone.
    let known: BTreeSet<String> = states(&db).into_keys().collect();
    assert_eq!(known, wanted);
    let chosen = format!("accounts that were chosen: --list {uri}");
    assert_eq!(scope(&db)[1], chosen);
}
