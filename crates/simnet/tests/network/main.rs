//! The practice network as a client sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod hostile;
mod live;
mod stream;
mod tree;

use client::{get, get_as, get_repo, header, list, listed, text, try_get};
use serde_json::Value;
use simnet::{Expected, Fault, Limit, Network, NetworkSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn settings(repos: usize, hosts: usize, faults: &[Fault]) -> NetworkSettings {
    NetworkSettings {
        seed: 5,
        repos,
        records: repos * 12,
        hosts,
        faults: faults.to_vec(),
        ..NetworkSettings::default()
    }
}

const LIMIT: Limit = Limit {
    requests: 5,
    window: Duration::from_secs(60),
};

/// Fetches each account until it is as expected, and looks at what came.
fn check_all(network: &Network) {
    let homes: BTreeMap<String, String> = network.dids().into_iter().collect();
    for (did, expected) in network.expected() {
        let Expected::Loaded = expected else { continue };
        let mut attempts = 0;
        let got = loop {
            attempts += 1;
            // Bad answers pass, and a busy machine is slow.
            assert!(attempts < 100, "{did}");
            let pds = network
                .dids()
                .into_iter()
                .find(|(of, _)| *of == did)
                .unwrap()
                .1;
            match try_get(
                &format!("{pds}/xrpc/com.atproto.sync.getRepo?did={did}"),
                None,
            ) {
                Ok(got) if got.status == 200 => break got,
                _ => {}
            }
        };
        assert!(
            Some(&got.body) == network.car(&did).as_ref(),
            "{did} at {}",
            homes[&did]
        );
        let repo = atrepo::Repo::open(&got.body, &did).unwrap();
        repo.check()
            .unwrap_or_else(|error| panic!("{did}: {error}"));
    }
}

#[test]
fn a_good_network_is_whole_and_every_list_says_the_same() {
    let network = Network::start(settings(60, 6, &[]));
    let expected = network.expected();
    assert_eq!(expected.len(), 60);
    assert!(expected.keys().any(|did| did.starts_with("did:web:")));
    let mut all = BTreeMap::new();
    let sizes: Vec<usize> = network
        .host_urls()
        .iter()
        .map(|url| {
            let listed = listed(url);
            for did in listed.keys() {
                assert!(
                    network.dids().contains(&(did.clone(), url.clone())),
                    "{did}"
                );
            }
            let size = listed.len();
            all.extend(listed);
            size
        })
        .collect();
    assert!(
        sizes[0] == *sizes.iter().max().unwrap() && sizes.iter().sum::<usize>() == 60,
        "{sizes:?}"
    );
    for (did, status) in &all {
        let state = status.as_deref().map_or("", |status| status);
        match expected[did] {
            Expected::Loaded => assert_eq!(state, ""),
            Expected::State(expected) => assert_eq!(state, expected),
            Expected::Failed | Expected::LoadedOrFailed => panic!("{did} fails in a good network"),
        }
    }
    assert!(all.values().any(Option::is_some));
    assert_eq!(listed(&network.relay_url()), all);
    assert!(network.unlisted().is_empty());
    check_all(&network);

    let (relay, plc) = (network.relay_url(), network.plc_url());
    let hosts = list(&relay, "listHosts", "hosts", 4);
    let names: Vec<String> = hosts
        .iter()
        .map(|host| format!("http://{}", text(&host["hostname"])))
        .collect();
    assert_eq!(names, network.host_urls());
    let likes = list(
        &relay,
        "listReposByCollection?collection=app.bsky.feed.like",
        "repos",
        3,
    );
    let likers: BTreeSet<String> = likes.iter().map(|row| text(&row["did"])).collect();
    for (did, expected) in &expected {
        let car = network.car(did).unwrap();
        let likes = car.windows(18).any(|bytes| bytes == b"app.bsky.feed.like");
        assert_eq!(
            likers.contains(did),
            likes && *expected == Expected::Loaded,
            "{did}"
        );
    }
    for (did, pds) in network.dids() {
        let document = match did.strip_prefix("did:web:") {
            Some(host) => get_as(
                &format!("{}/.well-known/did.json", network.well_known_url()),
                Some(host),
            ),
            None => get(&format!("{plc}/{did}")),
        };
        let document = document.json();
        assert_eq!(document["id"], did.as_str());
        assert_eq!(document["service"][0]["serviceEndpoint"], pds.as_str());
        let handle = text(&document["alsoKnownAs"][0]).replace("at://", "");
        let leads_to = get_as(
            &format!("{}/.well-known/atproto-did", network.well_known_url()),
            Some(&handle),
        );
        assert_eq!(leads_to.body, did.as_bytes());
    }
    assert_eq!(get(&format!("{plc}/did:plc:unknown")).status, 404);
    let pds = &network.host_urls()[0];
    assert_eq!(get_repo(pds, "did:plc:\"unknown").error(), "RepoNotFound");
    assert_eq!(
        get(&format!("{pds}/xrpc/com.atproto.repo.getRecord")).status,
        501
    );
    assert!(
        get(&format!("{pds}/xrpc/com.atproto.server.describeServer")).json()["did"].is_string()
    );
    for (did, pds) in network.dids() {
        let ask = |method: &str| get(&format!("{pds}/xrpc/com.atproto.sync.{method}?did={did}"));
        let (latest, status) = (ask("getLatestCommit"), ask("getRepoStatus").json());
        if expected[&did] == Expected::Loaded {
            assert_eq!(
                (latest.status, &status["rev"]),
                (200, &latest.json()["rev"])
            );
        } else {
            assert!(latest.status == 400 && latest.error().starts_with("Repo"));
            assert_eq!(
                Expected::State(status["status"].as_str().unwrap().to_owned().leak()),
                expected[&did]
            );
        }
    }
}

/// The lines of the PLC's export, by pages of 9.
fn export(network: &Network) -> Vec<Value> {
    let (mut lines, mut after): (Vec<Value>, String) = (Vec::new(), String::new());
    loop {
        let page = get(&format!(
            "{}/export?count=9&after={after}",
            network.plc_url()
        ));
        let before = lines.len();
        let page = String::from_utf8(page.body).unwrap();
        lines.extend(
            page.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
        if lines.len() == before {
            return lines;
        }
        after = text(&lines[lines.len() - 1]["createdAt"]).replace(':', "%3A");
    }
}

#[test]
fn the_export_ends_where_the_documents_are() {
    let network = Network::start(settings(100, 5, &[Fault::Moved, Fault::RotatedKey]));
    network.change(3, 60);
    let lines = export(&network);
    let times: BTreeSet<String> = lines.iter().map(|line| text(&line["createdAt"])).collect();
    assert_eq!(times.len(), lines.len(), "no two operations at one time");
    let last: BTreeMap<String, &Value> = lines
        .iter()
        .map(|line| (text(&line["did"]), line))
        .collect();
    assert!(lines.len() > last.len(), "there are moves");
    for (did, line) in &last {
        let document = get(&format!("{}/{did}", network.plc_url()));
        let operation = &line["operation"];
        if operation["type"] == "plc_tombstone" {
            assert_eq!(document.status, 410);
            assert_eq!(network.expected()[did], Expected::State("deleted"));
            continue;
        }
        let document = document.json();
        assert_eq!(
            operation["services"]["atproto_pds"]["endpoint"],
            document["service"][0]["serviceEndpoint"]
        );
        let key = format!(
            "did:key:{}",
            text(&document["verificationMethod"][0]["publicKeyMultibase"])
        );
        assert_eq!(operation["verificationMethods"]["atproto"], key);
        let log = get(&format!("{}/{did}/log/audit", network.plc_url())).json();
        assert_eq!(log.as_array().unwrap().last().unwrap(), *line);
    }
    let is_rotated = |did: &&String| {
        let log = get(&format!("{}/{did}/log/audit", network.plc_url())).json();
        let key = |line: &Value| text(&line["operation"]["verificationMethods"]["atproto"]);
        log[1].is_object()
            && log[1]["operation"]["type"] != "plc_tombstone"
            && key(&log[0]) != key(&log[1])
    };
    assert_eq!(last.keys().filter(is_rotated).count(), 1);
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let make = |seed: u64| {
        let network = Network::start(NetworkSettings {
            seed,
            ..settings(120, 20, Fault::ALL)
        });
        network.change(9, 40);
        let hosts = network.host_urls();
        let place = |url: &String| hosts.iter().position(|host| host == url);
        let dids: Vec<_> = network
            .dids()
            .iter()
            .map(|(did, url)| (did.clone(), place(url)))
            .collect();
        let cars: Vec<_> = network
            .expected()
            .keys()
            .map(|did| network.car(did))
            .collect();
        (
            dids,
            network.expected(),
            network.unlisted(),
            network.head(),
            cars,
        )
    };
    let (one, two, other) = (make(1), make(1), make(2));
    assert!(one == two);
    assert!(one.0 != other.0 && one.4 != other.4);
}

#[test]
fn limits_are_kept_with_a_word_and_without() {
    let faults = [Fault::Limits429, Fault::Silent429, Fault::SharedAddress];
    let network = Network::start(NetworkSettings {
        limit: Some(LIMIT),
        ..settings(60, 12, &faults)
    });
    let urls = network.host_urls();
    let counts = network.counts();
    let of = |announces: bool, requests: u32| {
        let limit = Some(Limit { requests, ..LIMIT });
        let found = counts.iter().enumerate();
        found
            .filter(|(_, host)| host.announces == announces && host.limit == limit)
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    };
    let (announcing, silent, shared) = (of(true, 5), of(false, 5), of(false, 10));
    assert_eq!((announcing.len(), silent.len(), shared.len()), (7, 2, 3));
    assert_eq!(announcing[0], 0, "the fullest host announces");
    let ask = |host: usize| get(&format!("{}/xrpc/com.atproto.sync.listRepos", urls[host]));
    for n in 0..8 {
        for host in [announcing[0], silent[0]] {
            let got = ask(host);
            assert_eq!(got.status, if n < 5 { 200 } else { 429 });
            let remaining = header(&got.head, "ratelimit-remaining");
            let left = 4u32.saturating_sub(n).to_string();
            assert_eq!(remaining, (host == announcing[0]).then_some(left));
        }
        let got = ask(shared[n as usize % 3]);
        assert_eq!(got.status, 200);
        assert!(!got.head.contains("ratelimit"));
    }
    let refused = ask(announcing[0]);
    assert_eq!(refused.error(), "RateLimitExceeded");
    assert_eq!(
        header(&refused.head, "ratelimit-policy").as_deref(),
        Some("5;w=60")
    );
    let reset: u64 = header(&refused.head, "ratelimit-reset")
        .unwrap()
        .parse()
        .unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    assert!((now + 50..=now + 60).contains(&reset));
    let statuses: Vec<u16> = (0..4).map(|n| ask(shared[n % 3]).status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let counts = network.counts();
    let of = |host: usize| {
        (
            counts[host].requests,
            counts[host].limited,
            counts[host].episodes.len(),
        )
    };
    assert_eq!((of(announcing[0]), of(silent[0])), ((9, 4, 0), (8, 3, 1)));
    assert_eq!(counts[shared[0]].most_in_window, 12);
    network.reset_counts();
    assert_eq!(network.counts()[0].requests, 0);
    assert_eq!(ask(announcing[0]).status, 429, "windows go on");
    network.set_faults(&[]);
    assert_eq!(ask(announcing[0]).status, 200);
}

#[test]
fn faults_do_what_they_say_and_end_when_switched_off() {
    let on: Vec<Fault> = Fault::ORDINARY
        .iter()
        .copied()
        .filter(|fault| *fault != Fault::InactivePage)
        .collect();
    let network = Network::start(settings(400, 20, &on));
    let expected = network.expected();
    let urls = network.host_urls();
    let homes: BTreeMap<String, String> = network.dids().into_iter().collect();
    let unlisted = network.unlisted();
    let failed: BTreeSet<&String> = expected
        .iter()
        .filter(|(_, expected)| **expected == Expected::Failed)
        .map(|(did, _)| did)
        .collect();
    assert!(!unlisted.is_empty() && unlisted.iter().all(|did| failed.contains(did)));
    // One account in 200 has each fault that lasts.
    let ends_failed = |fault: &&Fault| fault.end_of_account() == Expected::Failed;
    let lasting = on.iter().filter(ends_failed).count();
    assert_eq!(failed.len() - unlisted.len(), lasting * 2);
    assert_eq!(
        urls.iter()
            .filter(|url| url.starts_with("https://"))
            .count(),
        1
    );
    assert_eq!(
        urls.iter()
            .filter(|url| url.contains(".localhost:"))
            .count(),
        3
    );
    // One account of each host that is of no use is enough.
    let mut tried = BTreeSet::new();
    for did in failed {
        if unlisted.contains(did) && !tried.insert(&homes[did]) {
            continue;
        }
        let Ok(got) = try_get(
            &format!("{}/xrpc/com.atproto.sync.getRepo?did={did}", homes[did]),
            None,
        ) else {
            continue;
        };
        if got.status != 200 || got.head.contains("gzip") {
            continue;
        }
        let whole = atrepo::Repo::open(&got.body, did).and_then(|repo| repo.check());
        assert!(whole.is_err(), "{did} {}", got.head);
    }
    // Lists: at most one host gives the same cursor again and again.
    let mut claims: BTreeMap<String, Vec<(String, Option<String>)>> = BTreeMap::new();
    let mut repeating = 0;
    let useless: BTreeSet<&String> = unlisted.iter().map(|did| &homes[did]).collect();
    for url in urls.iter().filter(|url| !useless.contains(url)) {
        let mut cursor = String::new();
        loop {
            let got = get(&format!(
                "{url}/xrpc/com.atproto.sync.listRepos?limit=1000{cursor}"
            ));
            let page = got.json();
            for row in page["repos"].as_array().unwrap() {
                let claim = (url.clone(), row["status"].as_str().map(str::to_owned));
                claims.entry(text(&row["did"])).or_default().push(claim);
            }
            match page["cursor"]
                .as_str()
                .map(|next| format!("&cursor={next}"))
            {
                Some(next) if next == cursor => {
                    repeating += 1;
                    break;
                }
                Some(next) => cursor = next,
                None => break,
            }
        }
    }
    assert_eq!(repeating, 1);
    assert_eq!(claims.len() + unlisted.len(), expected.len());
    // Accounts that several hosts list: those that left, and lies.
    let (mut left, mut missing, mut old) = (0, 0, 0);
    for (did, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        for (url, status) in claims.iter().filter(|(url, _)| *url != homes[did]) {
            let got = get_repo(url, did);
            match (got.status, status.as_deref()) {
                (400, Some("deactivated")) if got.error() == "RepoDeactivated" => left += 1,
                (400, None) if got.error() == "RepoNotFound" => missing += 1,
                (200, None) => {
                    let then = atrepo::Repo::open(&got.body, did).unwrap();
                    then.check().unwrap();
                    let car = network.car(did).unwrap();
                    assert!(
                        then.commit().rev < atrepo::Repo::open(&car, did).unwrap().commit().rev
                    );
                    old += 1;
                }
                other => panic!("{did} at {url}: {other:?}"),
            }
        }
    }
    assert_eq!((left, missing, old), (4, 10, 10));
    check_all(&network);
    let moved = network
        .dids()
        .into_iter()
        .filter(|(did, url)| homes[did] != *url)
        .count();
    assert_eq!(moved, 4, "those that move while they are asked for");
    let handles: usize = (0..400)
        .filter(|n| {
            let handle = format!("account{n}.simnet.test");
            let url = format!("{}/.well-known/atproto-did", network.well_known_url());
            let did = String::from_utf8(get_as(&url, Some(&handle)).body).unwrap();
            did != network.dids()[*n].0
        })
        .count();
    assert_eq!(handles, 4);

    network.set_faults(&[]);
    assert!(network.unlisted().is_empty());
    assert!(
        network
            .expected()
            .values()
            .all(|expected| *expected != Expected::Failed)
    );
    assert!(
        network
            .host_urls()
            .iter()
            .all(|url| url.starts_with("http://"))
    );
    check_all(&network);
    let all: BTreeSet<String> = network
        .host_urls()
        .iter()
        .flat_map(|url| listed(url).into_keys())
        .collect();
    assert_eq!(all.len(), 400);
}

#[test]
fn a_page_of_inactive_accounts_begins_a_list() {
    let network = Network::start(NetworkSettings {
        records: 600,
        ..settings(600, 6, &[Fault::InactivePage])
    });
    let pages = network.host_urls();
    let is_inactive = |url: &&String| {
        let page = get(&format!("{url}/xrpc/com.atproto.sync.listRepos?limit=61")).json();
        let rows = page["repos"].as_array().unwrap();
        rows.len() == 61 && rows[..60].iter().all(|row| row["active"] == false)
    };
    assert_eq!(pages.iter().filter(is_inactive).count(), 1);
}

#[test]
fn repeated_requests_are_counted() {
    let network = Network::start(settings(30, 1, &[]));
    let expected = network.expected();
    let (did, _) = expected
        .iter()
        .find(|(_, expected)| **expected == Expected::Loaded)
        .unwrap();
    let url = &network.host_urls()[0];
    (0..3).for_each(|_| assert_eq!(get_repo(url, did).status, 200));
    get_repo(url, "did:plc:nobody");
    let counts = &network.counts()[0];
    assert_eq!(
        (counts.requests, counts.get_repo, counts.repeated),
        (4, 4, 2)
    );
    assert!(counts.most_in_window == 4 && !counts.announces && counts.limit.is_none());
    assert_eq!(format!("http://{}", counts.host), *url);
}

#[test]
fn networks_of_every_size_start_and_change() {
    for (seed, (repos, hosts)) in [(0, 0), (0, 3), (1, 1), (2, 6), (30, 2), (40, 25), (200, 22)]
        .into_iter()
        .enumerate()
    {
        let network = Network::start(NetworkSettings {
            seed: seed as u64,
            limit: Some(LIMIT),
            ..settings(repos, hosts, Fault::ALL)
        });
        // Hostile hosts stand beside the others.
        let all_hosts = hosts.max(1) + Fault::OF_HOSTILE_HOSTS.len();
        assert_eq!(
            (network.expected().len(), network.host_urls().len()),
            (repos, all_hosts)
        );
        network.change(1, 30);
        assert!(network.expected().len() > repos);
        network.set_faults(&[]);
        network.set_faults(Fault::ALL);
        let failed = network
            .expected()
            .into_values()
            .filter(|expected| *expected == Expected::Failed)
            .count();
        // Four hosts, since one that was dead lives.
        assert!(
            failed >= network.unlisted().len() && (network.unlisted().len() >= 4) == (hosts >= 20)
        );
    }
}
