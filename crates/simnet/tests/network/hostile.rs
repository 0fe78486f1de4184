//! Hosts and accounts that mean harm, as a client sees them.

use crate::client::{Got, get, get_repo, header, list, text};
use crate::{check_all, settings};
use serde_json::Value;
use simnet::{Expected, Fault, Network, NetworkSettings, hostile};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The URLs of the hostile hosts of a network of `hosts` good ones.
fn hostile_hosts(network: &Network, hosts: usize) -> Vec<String> {
    network.host_urls().split_off(hosts)
}

fn page(url: &str, cursor: &str) -> Value {
    get(&format!(
        "{url}/xrpc/com.atproto.sync.listRepos?limit=1000&{cursor}"
    ))
    .json()
}

/// The DIDs of all accounts on a host, by its own list.
fn dids(url: &str) -> Vec<String> {
    let rows = list(url, "listRepos", "repos", 1000);
    rows.iter().map(|row| text(&row["did"])).collect()
}

fn rev(body: &[u8], did: &str) -> String {
    atrepo::Repo::open(body, did).unwrap().commit().rev.clone()
}

#[test]
fn accounts_that_mean_harm_are_named_and_whole_where_they_can_be() {
    // A repo with a record of more than 8 MiB is whole as well, but not everybody reads it.
    let readable = |fault: &&Fault| **fault != Fault::LargeRecords;
    let faults: Vec<Fault> = Fault::HOSTILE.iter().filter(readable).copied().collect();
    let network = Network::start(settings(400, 5, &faults));
    let expected = network.expected();
    // One account in 200 has each fault.
    for end in [Expected::Failed, Expected::LoadedOrFailed] {
        let accounts = expected.values().filter(|is| **is == end).count();
        let with_this_end = faults.iter().filter(|fault| fault.end_of_account() == end);
        assert_eq!(accounts, with_this_end.count() * 2, "{end:?}");
    }
    check_all(&network);
    let honest = network.honest();
    let of_accounts = |fault: &&Fault| Fault::OF_HOSTILE_ACCOUNTS.contains(fault);
    let hit = faults.iter().filter(of_accounts).count() * 2;
    let active = expected
        .values()
        .filter(|is| !matches!(is, Expected::State(_)))
        .count();
    assert!(
        honest.len() <= active - hit && honest.len() > 300,
        "{}",
        honest.len()
    );
    assert!(honest.iter().all(|did| expected[did] == Expected::Loaded));
}

#[test]
fn large_records_are_larger_than_any_block_that_pdses_take() {
    let network = Network::start(settings(40, 2, &[Fault::LargeRecords]));
    let sizes = network
        .expected()
        .into_keys()
        .filter_map(|did| network.car(&did));
    let largest = sizes.map(|car| car.len()).max();
    assert!(largest > Some(9 << 20));
}

#[test]
fn what_is_packed_is_small() {
    let faults = [Fault::CommitBomb, Fault::ZstdBomb, Fault::DuplicateSections];
    let network = Network::start(settings(40, 2, &faults));
    let homes: BTreeMap<String, String> = network.dids().into_iter().collect();
    let odd = network
        .expected()
        .into_iter()
        .filter(|(_, is)| matches!(is, Expected::LoadedOrFailed | Expected::Failed));
    let mut seen = Vec::new();
    for (did, _) in odd {
        let got = get_repo(&homes[&did], &did);
        let is_packed = header(&got.head, "content-encoding").is_some();
        seen.push((is_packed, got.body.len() < 200_000));
    }
    // The lasting faults of answers are off.
    assert_eq!(seen, [(true, true); 3]);
}

#[test]
fn hostile_lists_are_what_they_say() {
    let faults = [
        Fault::SlowLister,
        Fault::FalseClaims,
        Fault::ForgedFuture,
        Fault::CircularList,
        Fault::OddLines,
        Fault::PageBomb,
    ];
    let network = Network::start(settings(60, 3, &faults));
    let urls = hostile_hosts(&network, 3);
    assert_eq!(urls.len(), 7);
    let known = network.expected();
    let (slow, claims, forged, circle, odd) = (&urls[0], &urls[1], &urls[2], &urls[3], &urls[4]);

    let started = Instant::now();
    let first = page(slow, "");
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "the list takes its time"
    );
    let second = page(slow, "cursor=1");
    assert_eq!(
        (&first["cursor"], &second["cursor"]),
        (&"1".into(), &"2".into())
    );
    assert_eq!(first["repos"].as_array().unwrap().len(), 10);
    assert_ne!(first["repos"], second["repos"]);

    let claimed = dids(claims);
    assert!(!claimed.is_empty() && claimed.iter().all(|did| known.contains_key(did)));
    for row in page(claims, "")["repos"].as_array().unwrap() {
        let did = text(&row["did"]);
        assert!(text(&row["rev"]) > rev(&network.car(&did).unwrap(), &did));
        assert_eq!(get_repo(claims, &did).error(), "RepoNotFound");
    }

    let forgeries = dids(forged);
    assert!(!forgeries.is_empty());
    for did in &forgeries {
        let got = get_repo(forged, did);
        assert_eq!(rev(&got.body, did), hostile::commit::LAST_REV);
        assert_ne!(Some(got.body), network.car(did));
    }

    let (mut cursors, mut cursor) = (Vec::new(), String::new());
    for _ in 0..6 {
        cursor = format!("cursor={}", text(&page(circle, &cursor)["cursor"]));
        cursors.push(cursor.clone());
    }
    assert_eq!(cursors[..3], cursors[3..]);
    assert_eq!(cursors.iter().collect::<BTreeSet<_>>().len(), 3);

    let lines = page(odd, "")["repos"].clone();
    assert!(
        lines
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["did"] == "not-a-did")
    );
    let hosts = get(&format!(
        "{}/xrpc/com.atproto.sync.listHosts",
        network.relay_url()
    ))
    .json();
    assert!(hosts["hosts"].as_array().unwrap().len() > 10);

    let bombs: Vec<Got> = urls[5..]
        .iter()
        .map(|url| get(&format!("{url}/xrpc/com.atproto.sync.listRepos")))
        .collect();
    assert!(bombs.iter().any(|bomb| bomb.body.len() > 2_000_000));
    assert!(
        bombs
            .iter()
            .any(|bomb| bomb.body.starts_with(br#"{"cursor":"1","repos":[[[[[["#))
    );
}

#[test]
fn evil_names_share_the_address_of_a_good_host() {
    let network = Network::start(settings(60, 4, &[Fault::EvilNames]));
    let evil = hostile_hosts(&network, 4);
    let port = |url: &str| url.rsplit_once(':').unwrap().1.to_owned();
    let good = network.host_urls()[..4]
        .iter()
        .find(|url| port(url) == port(&evil[0]))
        .unwrap()
        .clone();
    assert_eq!(port(&evil[0]), port(&evil[1]));
    let names: BTreeSet<&String> = evil.iter().chain([&good]).collect();
    assert_eq!(names.len(), 3);
    for url in &evil {
        let listed = dids(url);
        assert_eq!(listed.len(), 10);
        let refused = get_repo(url, &listed[0]);
        assert_eq!(refused.status, 429);
        assert_eq!(
            header(&refused.head, "retry-after").as_deref(),
            Some("86400")
        );
    }
    let listed = dids(&good);
    assert!(!listed.is_empty());
    assert_eq!(get_repo(&good, &listed[0]).status, 200);
    network.set_faults(&[]);
    assert_eq!(get_repo(&evil[0], "did:plc:nobody").error(), "RepoNotFound");
}

#[test]
fn with_a_hostile_host_nobody_else_is_hit() {
    for faults in [
        Fault::HOSTILE,
        &[Fault::Html],
        &[Fault::StallingHost],
        &[Fault::LyingList],
    ] {
        let network = Network::start(NetworkSettings {
            hostile_accounts: 20,
            ..settings(50, 5, faults)
        });
        let hostile = network.host_urls()[5].clone();
        let expected = network.expected();
        assert_eq!(expected.len(), 70);
        let homes: BTreeMap<String, String> = network.dids().into_iter().collect();
        let on_hostile: Vec<&String> = homes
            .iter()
            .filter(|(_, url)| **url == hostile)
            .map(|(did, _)| did)
            .collect();
        assert_eq!(on_hostile.len(), 20, "{faults:?}");
        for (did, is) in expected.iter().filter(|(did, _)| !on_hostile.contains(did)) {
            assert!(
                matches!(is, Expected::Loaded | Expected::State(_)),
                "{did}: {is:?}"
            );
        }
    }
}

#[test]
fn escapes_and_credentials_are_where_they_should_be() {
    let faults = [
        Fault::EscapesInErrors,
        Fault::EscapesInHandles,
        Fault::UserInEndpoint,
    ];
    let network = Network::start(settings(60, 3, &faults));
    let hostile = &hostile_hosts(&network, 3)[0];
    let refusal = get(&format!("{hostile}/xrpc/com.atproto.sync.listRepos"));
    assert!(refusal.status == 400 && refusal.error().contains(hostile::ESCAPES));
    let documents: Vec<Value> = network
        .dids()
        .iter()
        .filter(|(did, _)| did.starts_with("did:plc:"))
        .map(|(did, _)| get(&format!("{}/{did}", network.plc_url())).json())
        .collect();
    let with = |what: &str, inside: &dyn Fn(&Value) -> String| {
        documents
            .iter()
            .filter(|document| inside(document).contains(what))
            .count()
    };
    assert!(
        with(hostile::ESCAPES, &|document| text(
            &document["alsoKnownAs"][0]
        )) <= 1
    );
    assert!(
        with("user:password@", &|document| text(
            &document["service"][0]["serviceEndpoint"]
        )) <= 1
    );
    assert_eq!(network.counts()[0].with_credentials, 0);
}
