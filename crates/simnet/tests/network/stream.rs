//! The relay's stream, and what changes.

use crate::client::{get, listed};
use crate::{check_all, export, settings};
use futures_util::StreamExt;
use simnet::{Expected, Network, NetworkSettings};
use std::collections::BTreeSet;
use tokio_tungstenite::{client_async, tungstenite::Message};

/// What a frame says: its kind (or the error), its sequence number, its DID, and whether it is a
/// CAR of a commit of that DID.
#[derive(Debug, PartialEq)]
struct Event {
    kind: String,
    seq: u64,
    did: String,
    status: String,
}

fn read(frame: &[u8]) -> Event {
    // The header is a small map: where it ends is where both parts are well-formed.
    let (header, body) = (1..frame.len())
        .map(|at| frame.split_at(at))
        .find_map(|(header, body)| {
            Some((
                atrepo::cbor::check(header).ok()?,
                atrepo::cbor::check(body).ok()?,
            ))
        })
        .unwrap();
    let (header, body) = (header.as_map().unwrap(), body.as_map().unwrap());
    let text = |key: &str| {
        let value = body.get(key).and_then(|item| item.as_text());
        value.unwrap_or_default().to_owned()
    };
    let kind = header
        .get("t")
        .and_then(|item| item.as_text())
        .unwrap_or("error")
        .to_owned();
    let seq = match body.get("seq").map(|item| item.value()) {
        Some(atrepo::cbor::Value::Unsigned(seq)) => seq,
        _ => 0,
    };
    let did = match kind.as_str() {
        "#info" => text("name"),
        "error" => text("error"),
        "#commit" => text("repo"),
        _ => text("did"),
    };
    if let Some(atrepo::cbor::Value::Bytes(blocks)) = body.get("blocks").map(|item| item.value()) {
        let commit = atrepo::Repo::open(blocks, &did).unwrap();
        assert_eq!(commit.commit().rev, text("rev"));
    }
    let status = text("status");
    Event {
        kind,
        seq,
        did,
        status,
    }
}

/// Events after `cursor` (none: those that come from now on) up to the relay's last one, or to the
/// end of the stream.
async fn follow(network: &Network, cursor: Option<u64>, during: impl FnOnce()) -> Vec<Event> {
    let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
    let mut last = cursor.unwrap_or_else(|| network.head());
    let address = network.relay_url().replace("http://", "");
    let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos{query}");
    let (mut stream, _) = client_async(url, socket).await.unwrap();
    during();
    let mut events = Vec::new();
    while last != network.head() {
        let Some(Ok(Message::Binary(frame))) = stream.next().await else {
            break;
        };
        let event = read(&frame);
        last = last.max(event.seq);
        events.push(event);
    }
    events
}

#[tokio::test]
async fn the_stream_replays_and_says_what_it_lost() {
    let network = Network::start(NetworkSettings {
        replay_events: 200,
        ..settings(80, 3, &[])
    });
    assert_eq!(network.head(), 50);
    let seqs = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    let first = follow(&network, Some(10), || ()).await;
    assert_eq!(seqs(&first), (11..=50).collect::<Vec<_>>());
    assert!(first.iter().all(|event| event.kind == "#sync"));
    let live = follow(&network, None, || network.change(1, 20)).await;
    assert_eq!(seqs(&live), (51..=network.head()).collect::<Vec<_>>());
    let again = follow(&network, Some(50), || ()).await;
    assert_eq!(again, live);
    let future = follow(&network, Some(5000), || ()).await;
    assert_eq!((future.len(), future[0].did.as_str()), (1, "FutureCursor"));
    network.set_replay_events(5);
    let lost = follow(&network, Some(10), || ()).await;
    assert_eq!(
        (lost[0].kind.as_str(), lost[0].did.as_str()),
        ("#info", "OutdatedCursor")
    );
    let head = network.head();
    assert_eq!(seqs(&lost[1..]), (head - 4..=head).collect::<Vec<_>>());
    let address = format!(
        "{}/xrpc/com.atproto.sync.subscribeRepos",
        network.relay_url()
    );
    assert_eq!(get(&address).status, 426);
}

#[tokio::test]
async fn changes_are_seen_everywhere() {
    let network = Network::start(settings(80, 4, &[]));
    let (before, homes, head) = (network.expected(), network.dids(), network.head());
    let cars: Vec<_> = before.keys().map(|did| network.car(did).unwrap()).collect();
    network.change(77, 150);
    let after = network.expected();
    let events = follow(&network, Some(head), || ()).await;
    let told = |kind: &str| {
        events
            .iter()
            .filter(|event| event.kind == kind)
            .map(|event| event.did.clone())
            .collect::<BTreeSet<_>>()
    };
    let (commits, identities) = (told("#sync"), told("#identity"));
    let new: BTreeSet<_> = after
        .keys()
        .filter(|did| !before.contains_key(*did))
        .cloned()
        .collect();
    assert!(new.len() > 5 && new.is_subset(&commits) && new.is_subset(&identities));
    let mut kinds = [0; 4];
    for ((did, was), car) in before.iter().zip(&cars) {
        let now = network.car(did);
        match (was, &after[did]) {
            (_, Expected::State("deleted")) => {
                assert!(now.is_none());
                kinds[0] += 1;
            }
            (Expected::Loaded, Expected::State("deactivated")) => kinds[1] += 1,
            (Expected::Loaded, Expected::Loaded) if now.as_ref() != Some(car) => {
                assert!(commits.contains(did));
                let (then, now) = (
                    atrepo::Repo::open(car, did).unwrap(),
                    atrepo::Repo::open(now.unwrap(), did).unwrap(),
                );
                now.check().unwrap();
                assert!(now.commit().rev > then.commit().rev);
                kinds[2] += 1;
            }
            (was, now) if was != now => assert_eq!(was, &Expected::State("deactivated")),
            _ => {}
        }
    }
    let homes_now = network.dids();
    for (did, url) in &homes {
        if homes_now.iter().any(|(of, now)| of == did && now != url) {
            assert!(identities.contains(did));
            kinds[3] += 1;
        }
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    // The last that was said of an account is how it is.
    for (did, expected) in &after {
        let last = events
            .iter()
            .rfind(|event| event.kind == "#account" && event.did == *did);
        match (last, expected) {
            (Some(event), Expected::State(status)) => assert_eq!(event.status, *status),
            (Some(event), _) => assert_eq!(event.status, ""),
            (None, expected) => assert_eq!(Some(expected), before.get(did)),
        }
    }
    let relay = listed(&network.relay_url());
    assert_eq!(relay.len(), after.len());
    let hosts: BTreeSet<String> = network
        .host_urls()
        .iter()
        .flat_map(|url| listed(url).into_keys())
        .collect();
    let living = after
        .iter()
        .filter(|(_, expected)| **expected != Expected::State("deleted"));
    assert_eq!(hosts, living.map(|(did, _)| did.clone()).collect());
    check_all(&network);
    assert!(export(&network).len() > 80);
}
