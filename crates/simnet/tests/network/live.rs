//! Lives of the network: what is told is proved, what is served is what was told, and each fault is
//! what it says.

use crate::settings;
use atrepo::sync::{CheckedCommit, check_commit, check_sync};
use atrepo::{Cid, Repo};
use bytes::Bytes;
use discover::events::{AccountStatus, Decoded, Event, decode};
use futures_util::StreamExt;
use simnet::{Expected, LiveSettings, Network, StreamFault, sign_with};
use std::collections::{BTreeMap, BTreeSet};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// A small reader of a stream: believes what is proved, and fetches no repo, but notes which it
/// would have to fetch.
#[derive(Default)]
struct Reader {
    /// By account, rev and root.
    repos: BTreeMap<String, (String, Cid)>,
    /// Accounts whose repos it would fetch.
    fetches: BTreeSet<String>,
    statuses: BTreeMap<String, Option<AccountStatus>>,
    /// By reason, what was refused.
    refused: BTreeMap<&'static str, u64>,
    /// Commits that were believed.
    believed: u64,
}

/// How often an account's key was changed, at most.
const KEYS: u32 = 30;
/// From then on, revs are in the future.
const FUTURE: &str = "3zzzzzzzzzzzz";

fn is_signed(commit: &atrepo::Commit) -> bool {
    let message = commit.unsigned();
    (0..KEYS).any(|key| sign_with(&commit.did, key, &message) == commit.sig)
}

impl Reader {
    fn of(network: &Network) -> Self {
        let mut reader = Self::default();
        for did in network.expected().into_keys() {
            if let Some(car) = network.car(&did) {
                let repo = Repo::open(&car, &did).unwrap();
                let state = (repo.commit().rev.clone(), repo.commit().data);
                reader.repos.insert(did, state);
            }
        }
        reader
    }

    fn refuse(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
    }

    fn commit(&mut self, event: &discover::events::CommitEvent) {
        let state = self.repos.get(&event.did);
        if state.is_some_and(|(rev, _)| event.rev <= *rev) {
            return self.refuse("old");
        }
        if event.rev.as_str() > FUTURE {
            return self.refuse("future");
        }
        let why = match check_commit(&event.claim()) {
            Err(error) => error.reason(),
            Ok(checked) if !is_signed(&checked.signed) => "signature",
            Ok(checked) => match self.advance(&checked) {
                Ok(()) => return,
                Err(why) => why,
            },
        };
        self.refuse(why);
        if why != "signature" {
            self.fetches.insert(event.did.clone());
        }
    }

    fn advance(&mut self, checked: &CheckedCommit) -> Result<(), &'static str> {
        let did = checked.did().to_owned();
        match self.repos.get(&did) {
            Some((_, data)) if !checked.follows(data) => return Err("gap"),
            None if checked.prev_data.is_some() => return Err("gap"),
            _ => {}
        }
        let state = (checked.rev().to_owned(), checked.data());
        self.repos.insert(did, state);
        self.believed += 1;
        Ok(())
    }

    fn frame(&mut self, frame: Vec<u8>) {
        match decode(&Bytes::from(frame)) {
            Ok(Decoded::Event(Event::Commit(event))) => self.commit(&event),
            Ok(Decoded::Event(Event::Sync(event))) => {
                let (_, commit) = check_sync(&event.did, &event.rev, &event.blocks).unwrap();
                assert!(is_signed(&commit));
                let state = self.repos.get(&event.did);
                if state.is_none_or(|(_, data)| *data != commit.data) {
                    self.fetches.insert(event.did.clone());
                }
                self.repos.insert(event.did, (commit.rev, commit.data));
            }
            Ok(Decoded::Event(Event::Account(event))) => {
                assert_eq!(event.active, event.status.is_none());
                self.statuses.insert(event.did, event.status);
            }
            Ok(Decoded::Event(_)) => {}
            Ok(Decoded::Unknown { .. }) => self.refuse("unknown"),
            Ok(Decoded::Refused { name, .. }) => panic!("{name}"),
            Err(error) => {
                self.fetches.extend(error.did);
                self.refuse("no event");
            }
        }
    }

    /// Asserts that what was believed is what the hosts serve; the accounts that have a repo.
    fn check(&self, network: &Network) -> usize {
        let mut same = 0;
        for (did, expected) in network.expected() {
            let status = self.statuses.get(&did).copied().flatten();
            match expected {
                Expected::State(state) => {
                    assert!(status.is_none_or(|status| status.word() == state), "{did}");
                }
                _ => assert_eq!(status, None, "{did}"),
            }
            let Some(car) = network.car(&did) else {
                continue;
            };
            let repo = Repo::open(&car, &did).unwrap();
            repo.check().unwrap();
            let now = (repo.commit().rev.clone(), repo.commit().data);
            if !self.fetches.contains(&did) {
                assert_eq!(self.repos.get(&did), Some(&now), "{did}");
                same += 1;
            }
        }
        same
    }
}

/// All frames of a server after a number, up to another one.
async fn listen(url: &str, after: u64, to: u64) -> Vec<Vec<u8>> {
    let address = url.replace("http://", "");
    let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos?cursor={after}");
    let (mut stream, _) = client_async(url, socket).await.unwrap();
    let mut frames = Vec::new();
    for _ in after..to {
        match stream.next().await {
            Some(Ok(Message::Binary(frame))) => frames.push(frame.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    frames
}

fn life(seed: u64, events: usize, faults: &[StreamFault]) -> LiveSettings {
    LiveSettings {
        seed,
        events,
        faults: faults.to_vec(),
        fault_every: 8,
        ..LiveSettings::default()
    }
}

#[tokio::test]
async fn a_life_is_proved_event_by_event_and_ends_with_what_is_served() {
    let network = Network::start(settings(40, 3, &[]));
    let (mut reader, begin) = (Reader::of(&network), network.head());
    let hosts: Vec<u64> = (0..3).map(|host| network.host_head(host)).collect();
    let mut live = network.live(&life(1, 1500, &[]));
    let (frames, counts) = (live.frames(), live.counts().clone());
    assert_eq!(frames.len(), live.events_left());
    // Half of it, and then the rest: the repos follow.
    let half = live.play(700);
    for frame in listen(&network.relay_url(), begin, half).await {
        reader.frame(frame);
    }
    assert!(reader.check(&network) > 30);
    let last = live.play_all();
    assert_eq!(last, begin + frames.len() as u64);
    let told = listen(&network.relay_url(), begin, last).await;
    assert!(told == frames, "what is told is what was prepared");
    for frame in told
        .into_iter()
        .skip(usize::try_from(half - begin).unwrap())
    {
        reader.frame(frame);
    }
    assert!(reader.check(&network) > 30);
    assert_eq!(reader.refused, BTreeMap::new());
    let kinds = [
        "commit", "create", "update", "delete", "identity", "account", "sync", "move",
    ];
    for kind in kinds {
        assert!(
            counts.get(kind).is_some_and(|count| *count > 3),
            "{counts:?}"
        );
    }
    // Only a repo that became another one without commits has to be fetched.
    assert_eq!(reader.believed, counts["commit"]);
    assert!(!reader.fetches.is_empty() && reader.fetches.len() < 15);
    // Each PDS tells the same of its accounts, under numbers of its own.
    let mut of_hosts = 0;
    for (host, url) in network.host_urls().iter().enumerate() {
        let mut last = hosts[host];
        for frame in listen(url, hosts[host], network.host_head(host)).await {
            let Ok(Decoded::Event(event)) = decode(&Bytes::from(frame)) else {
                panic!("an event of {url}")
            };
            last += 1;
            assert_eq!(event.seq(), i64::try_from(last).ok());
            of_hosts += 1;
        }
    }
    assert_eq!(of_hosts, frames.len() as u64 + counts["move"]);
}

#[test]
fn the_same_seed_is_the_same_life() {
    let frames = |seed: u64| {
        let network = Network::start(settings(20, 2, &[]));
        network.live(&life(seed, 200, StreamFault::ALL)).frames()
    };
    let one = frames(4);
    assert!(one == frames(4));
    assert!(one != frames(5));
}

/// What a reader refuses of a fault, if anything, and whether it has to fetch repos.
fn traces(fault: StreamFault) -> (Option<&'static str>, bool) {
    match fault {
        StreamFault::SequenceGap => (Some("gap"), true),
        StreamFault::RolledBackRev => (Some("old"), false),
        StreamFault::ForgedSignature => (Some("signature"), false),
        StreamFault::ForgedPrevData | StreamFault::OpLeftOut => (Some("other state before"), true),
        StreamFault::OpMadeUp => (Some("other state before"), true),
        StreamFault::AlteredBlock => (Some("bad slice"), true),
        StreamFault::MissingRecord => (Some("missing record"), true),
        StreamFault::FutureRev => (Some("future"), false),
        StreamFault::NoProof => (None, true),
        StreamFault::TooBig => (Some("too big"), true),
        StreamFault::OversizedFrame | StreamFault::GiantFrame => (Some("no event"), true),
        StreamFault::GarbageFrame => (Some("no event"), false),
        // Frames that come again, and what happens to connections, are seen on sockets alone.
        StreamFault::Replay => (None, false),
        StreamFault::KeyRotated | StreamFault::Drop | StreamFault::Stall => (None, false),
    }
}

#[test]
fn each_fault_is_what_it_says_and_hides_nothing_for_good() {
    for fault in StreamFault::ALL.iter().copied() {
        let network = Network::start(settings(15, 2, &[]));
        let mut reader = Reader::of(&network);
        let mut live = network.live(&LiveSettings {
            commits: 1000,
            ..life(2, 250, &[fault])
        });
        let happened = live.counts().get(fault.word()).copied().unwrap_or(0);
        assert!(happened > 0, "{fault:?}");
        for frame in live.frames() {
            reader.frame(frame);
        }
        live.play_all();
        let same = reader.check(&network);
        let (refused, fetches) = traces(fault);
        let name = fault.word();
        assert_eq!(reader.fetches.is_empty(), !fetches, "{name}");
        assert!(fetches || same == 15, "{name}: {same}");
        if let Some(why) = refused {
            assert!(
                reader.refused.contains_key(why),
                "{name}: {:?}",
                reader.refused
            );
        } else if fault != StreamFault::NoProof {
            assert_eq!(reader.refused, BTreeMap::new(), "{name}");
        }
    }
}

#[tokio::test]
async fn replayed_events_come_under_their_old_numbers() {
    let network = Network::start(settings(15, 2, &[]));
    let (mut reader, begin) = (Reader::of(&network), network.head());
    let mut live = network.live(&life(3, 200, &[StreamFault::Replay]));
    let replays = live.counts()["replay"];
    let last_event = live.frames().pop().unwrap();
    live.play_all();
    let address = network.relay_url().replace("http://", "");
    let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos?cursor={begin}");
    let (mut stream, _) = client_async(url, socket).await.unwrap();
    let mut seen = BTreeMap::new();
    while let Some(Ok(Message::Binary(frame))) = stream.next().await {
        let is_last = frame == last_event;
        reader.frame(frame.to_vec());
        *seen.entry(frame).or_insert(0) += 1;
        if is_last {
            break;
        }
    }
    let again: u64 = seen.values().map(|times| times - 1).sum();
    assert!(replays > 5 && again > replays * 10, "{replays} {again}");
    assert!(reader.refused["old"] > replays);
    assert!(reader.check(&network) > 10);
}
