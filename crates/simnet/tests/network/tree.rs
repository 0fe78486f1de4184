//! What a PDS sends of a commit is proved by `atrepo::sync`, and nothing else is: whatever a relay
//! takes away or changes is refused, or found out by the root that comes before.

use atrepo::cbor::Writer;
use atrepo::sync::{
    Action, Claim, Op, OpFault, SyncError, check_commit, check_sync, empty_root, root_before,
};
use atrepo::{Cid, Codec, RootBuilder, syntax};
use bytes::Bytes;
use simnet::{Changed, Random, Tree, Write, build_car, build_commit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

/// A commit event in parts, so that each can be changed.
#[derive(Clone)]
struct Sent {
    did: String,
    rev: String,
    since: Option<String>,
    commit: Cid,
    prev_data: Option<Cid>,
    ops: Vec<Op>,
    blocks: Vec<(Cid, Vec<u8>)>,
}

impl Sent {
    fn of(changed: &Changed, micros: u64) -> Self {
        let rev = syntax::tid(micros, 1);
        let commit = build_commit(DID, &rev, &changed.data);
        let root = Cid::of(Codec::DagCbor, &commit);
        let mut blocks = vec![(root, commit)];
        blocks.extend(
            changed
                .blocks
                .iter()
                .map(|(cid, block)| (*cid, block.to_vec())),
        );
        Self {
            did: DID.to_owned(),
            rev,
            since: Some(syntax::tid(micros - 1, 1)),
            commit: root,
            prev_data: Some(changed.prev_data).filter(|root| *root != empty_root()),
            ops: changed.ops.clone(),
            blocks,
        }
    }

    fn check(&self) -> Result<atrepo::sync::CheckedCommit, SyncError> {
        let root = self.blocks.first().map_or(self.commit, |(cid, _)| *cid);
        let blocks = Bytes::from(build_car(root, &self.blocks));
        check_commit(&Claim {
            did: &self.did,
            rev: &self.rev,
            since: self.since.as_deref(),
            commit: self.commit,
            prev_data: self.prev_data,
            ops: &self.ops,
            blocks: &blocks,
            too_big: false,
        })
    }
}

fn record(n: u64) -> Arc<Vec<u8>> {
    let mut w = Writer::new();
    w.map(1).text("n").unsigned(n);
    Arc::new(w.into_bytes())
}

/// Writes to keys out of `keys`, each once; some delete what is not there.
fn batch(random: &mut Random, keys: u64, most: u64, round: u64) -> Vec<Write> {
    let count = 1 + random.below(most);
    let chosen: BTreeSet<u64> = (0..count).map(|_| random.below(keys)).collect();
    let collections = [
        "app.bsky.feed.like",
        "app.bsky.feed.post",
        "org.example.note",
    ];
    chosen
        .into_iter()
        .map(|n| Write {
            key: format!(
                "{}/{}",
                collections[(n % 3) as usize],
                syntax::tid(n * 977, 0)
            ),
            record: random.percent(60).then(|| record(round * 1000 + n)),
        })
        .collect()
}

/// The tree stays that of its keys, however it came about.
#[test]
fn a_tree_that_changed_is_the_tree_of_its_keys() {
    let (mut random, mut tree) = (Random::new(3), Tree::default());
    let mut keys = BTreeMap::new();
    for round in 0..300 {
        let writes = batch(&mut random, 80, 6, round);
        for write in &writes {
            match &write.record {
                Some(record) => {
                    keys.insert(write.key.clone(), Cid::of(Codec::DagCbor, record));
                }
                None => _ = keys.remove(&write.key),
            }
        }
        let changed = tree.apply(&writes);
        let mut builder = RootBuilder::default();
        for (key, cid) in &keys {
            assert!(builder.add(key.as_bytes(), *cid));
        }
        assert_eq!(changed.data, builder.root(), "round {round}");
        let again = Tree::new(keys.iter().map(|(key, cid)| (key.as_str(), *cid)));
        assert_eq!(again.root(), changed.data);
    }
}

/// Commits of trees of all sizes, from the first record on.
fn commits(seed: u64, mut each: impl FnMut(&Changed, Sent, &mut Random)) {
    let mut random = Random::new(seed);
    for (keys, most, rounds) in [(6, 3, 60), (40, 4, 60), (400, 12, 60), (3000, 60, 20)] {
        let mut tree = Tree::default();
        for round in 0..rounds {
            let changed = tree.apply(&batch(&mut random, keys, most, round));
            let sent = Sent::of(&changed, 1_700_000_000_000_000 + round);
            each(&changed, sent, &mut random);
        }
        // Down to nothing.
        while let Some((key, _)) = tree.pick(&mut random) {
            let write = Write {
                key: key.to_owned(),
                record: None,
            };
            let changed = tree.apply(&[write]);
            if random.percent(20) || changed.data == empty_root() {
                let sent = Sent::of(&changed, 1_800_000_000_000_000);
                each(&changed, sent, &mut random);
            }
        }
    }
}

#[test]
fn what_a_pds_sends_is_proved() {
    let (mut ops, mut empty) = (0, 0);
    commits(1, |changed, sent, _| {
        let checked = sent.check().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((checked.did(), checked.rev()), (DID, sent.rev.as_str()));
        assert_eq!(checked.data(), changed.data);
        assert!(checked.follows(&changed.prev_data));
        assert!(!checked.follows(&changed.data) || changed.ops.is_empty());
        assert_eq!(checked.ops.len(), changed.ops.len());
        for (op, made) in checked.ops.iter().zip(&changed.ops) {
            assert_eq!((op.action, &op.rkey), (made.action, &made.rkey));
            assert_eq!((op.cid, op.prev), (made.cid, made.prev));
            let record = op.cid.map(|cid| changed.blocks[&cid].to_vec());
            assert_eq!(op.record.as_ref().map(|record| record.to_vec()), record);
            ops += 1;
        }
        empty += usize::from(changed.prev_data == empty_root() || changed.data == empty_root());
    });
    assert!(ops > 600 && empty >= 6, "{ops} {empty}");
}

#[test]
fn whatever_is_taken_away_or_changed_is_refused() {
    let other = Cid::of(Codec::DagCbor, b"other");
    let (mut refused, mut spared) = (0, 0);
    commits(2, |changed, sent, random| {
        if !random.percent(25) || changed.ops.is_empty() {
            return;
        }
        let honest = sent.check().expect("a commit of a PDS");
        let mut must_fail = |what: &str, change: &dyn Fn(&mut Sent)| {
            let mut forged = sent.clone();
            change(&mut forged);
            assert!(forged.check().is_err(), "{what}");
            refused += 1;
        };
        must_fail("another account", &|sent| sent.did.push('b'));
        must_fail("another rev", &|sent| sent.rev = syntax::tid(5, 1));
        must_fail("a rev before", &|sent| sent.since = Some(sent.rev.clone()));
        must_fail("another commit", &|sent| sent.commit = other);
        must_fail("another state before", &|sent| sent.prev_data = Some(other));
        if sent.prev_data.is_some() {
            must_fail("no state before", &|sent| sent.prev_data = None);
        }
        let at = random.index(sent.ops.len());
        must_fail("an operation left out", &|sent| _ = sent.ops.remove(at));
        must_fail("an operation twice", &|sent| {
            let op = sent.ops[at].clone();
            sent.ops.push(op);
        });
        must_fail("another record", &|sent| sent.ops[at].cid = Some(other));
        must_fail("another record before", &|sent| {
            sent.ops[at].prev = Some(other);
        });
        must_fail("another key", &|sent| sent.ops[at].rkey.push('x'));
        must_fail("another action", &|sent| {
            sent.ops[at].action = match sent.ops[at].action {
                Action::Create => Action::Update,
                Action::Update => Action::Delete,
                Action::Delete => Action::Create,
            };
        });
        must_fail("a record made up", &|sent| {
            let mut op = sent.ops[at].clone();
            op.action = Action::Delete;
            op.rkey = "3zzzzzzzzzzz2".to_owned();
            (op.cid, op.prev) = (None, Some(other));
            sent.ops.push(op);
        });
        for block in 0..sent.blocks.len() {
            must_fail("a block changed", &|sent| {
                let bytes = &mut sent.blocks[block].1;
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            });
        }
        for block in 0..sent.blocks.len() {
            let mut less = sent.clone();
            less.blocks.remove(block);
            match less.check() {
                Err(_) => refused += 1,
                // An event has more blocks than the proof needs.
                Ok(checked) => {
                    assert_eq!(checked.ops, honest.ops);
                    spared += 1;
                }
            }
        }
    });
    assert!(refused > 1000 && spared < refused / 4, "{refused} {spared}");
}

/// A relay that leaves an operation out and adapts the state before gets a proof of something, but
/// not of what follows the state that was.
#[test]
fn what_is_left_out_whole_does_not_follow() {
    let mut tried = 0;
    commits(3, |changed, mut sent, random| {
        if changed.ops.len() < 2 {
            return;
        }
        sent.ops.remove(random.index(sent.ops.len()));
        let blocks = &changed.blocks;
        let get = |cid: &Cid| blocks.get(cid).map(|block| &block[..]);
        let Ok(before) = root_before(changed.data, &sent.ops, get) else {
            return;
        };
        sent.prev_data = Some(before);
        if let Ok(checked) = sent.check() {
            assert!(!checked.follows(&changed.prev_data));
            tried += 1;
        }
    });
    assert!(tried > 20, "{tried}");
}

#[test]
fn operations_that_contradict_themselves_are_named() {
    let mut tree = Tree::default();
    let key = "app.bsky.feed.post/3jzfcijpj2z2a";
    let write = |n: Option<u64>| Write {
        key: key.to_owned(),
        record: n.map(record),
    };
    tree.apply(&[write(Some(1))]);
    let sent = Sent::of(&tree.apply(&[write(Some(2))]), 1_700_000_000_000_000);
    let fault = |change: &dyn Fn(&mut Op)| {
        let mut forged = sent.clone();
        change(&mut forged.ops[0]);
        match forged.check() {
            Err(SyncError::Op { key: of, fault }) => {
                assert_eq!(of, key);
                fault
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(&|op| op.prev = None), OpFault::NoPrev);
    assert_eq!(fault(&|op| op.cid = None), OpFault::NoCid);
    assert_eq!(
        fault(&|op| op.action = Action::Create),
        OpFault::CreatesOverPrev
    );
    assert_eq!(
        fault(&|op| op.action = Action::Delete),
        OpFault::DeletesToCid
    );
    assert_eq!(
        fault(&|op| (op.action, op.cid) = (Action::Delete, None)),
        OpFault::StillInTree
    );
}

#[test]
fn commits_without_changes_and_sync_events_hold_the_commit_alone() {
    let mut tree = Tree::default();
    let key = "app.bsky.feed.post/3jzfcijpj2z2a".to_owned();
    let record = Some(record(1));
    tree.apply(&[Write { key, record }]);
    let mut sent = Sent::of(&tree.apply(&[]), 1_700_000_000_000_000);
    assert_eq!(sent.blocks.len(), 1);
    let checked = sent.check().expect("a commit without changes");
    assert!(checked.ops.is_empty() && checked.follows(&tree.root()));
    let blocks = Bytes::from(build_car(sent.commit, &sent.blocks));
    let (cid, commit) = check_sync(DID, &sent.rev, &blocks).expect("a sync event");
    assert_eq!((cid, commit.data), (sent.commit, tree.root()));
    assert!(check_sync("did:plc:b", &sent.rev, &blocks).is_err());
    assert!(check_sync(DID, "3jzfcijpj2z2a", &blocks).is_err());
    sent.prev_data = Some(empty_root());
    assert!(matches!(sent.check(), Err(SyncError::OtherPrevData { .. })));
}

/// A block of a megabyte that two hundred operations write would be two hundred records.
#[test]
fn operations_do_not_write_more_than_the_slice_has() {
    let large = |bytes: usize| {
        let mut w = Writer::new();
        w.map(1).text("n").text(&"x".repeat(bytes));
        Arc::new(w.into_bytes())
    };
    let written = |record: &Arc<Vec<u8>>, times: u64| {
        let writes: Vec<Write> = (0..times)
            .map(|n| Write {
                key: format!("org.example.note/{}", syntax::tid(n * 977, 0)),
                record: Some(Arc::clone(record)),
            })
            .collect();
        Sent::of(&Tree::default().apply(&writes), 1_700_000_000_000_000).check()
    };
    assert_eq!(written(&large(100), 3).unwrap().ops.len(), 3);
    let refused = written(&large(100_000), 50).unwrap_err();
    assert!(
        matches!(refused, SyncError::Shared { bytes } if bytes > 5_000_000),
        "{refused}"
    );
}
