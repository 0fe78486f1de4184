//! Commits of which the relay's subscribers get something else than their host said.

use super::{
    AGAIN, Commit, CommitParts, FAR, FORGER, GIANT, Item, Life, OVERSIZED, StreamFault, parts_of,
    slice,
};
use crate::keys::Signer;
use crate::network::events::{self, Event};
use crate::network::live::step::Effect;
use crate::repo::{build_car, build_commit_fields};
use atrepo::sync::{Action, Op};
use atrepo::{Cid, Codec, syntax};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Faults of this kind in one life, at most: what they cost is memory, or time of whoever listens.
fn most(fault: StreamFault) -> u64 {
    match fault {
        StreamFault::OversizedFrame | StreamFault::GiantFrame | StreamFault::Stall => 3,
        StreamFault::Drop => 20,
        _ => u64::MAX,
    }
}

impl Life<'_> {
    /// A commit with a fault. Where the fault has no place, it is a plain one.
    pub(super) fn commit_with(&mut self, number: usize, fault: StreamFault) {
        let so_far = self.made.counts.get(fault.word()).copied().unwrap_or(0);
        let is_web = self.being(number).did.starts_with("did:web:");
        let fits = so_far < most(fault)
            && match fault {
                StreamFault::RolledBackRev => self.being(number).told.is_some(),
                StreamFault::KeyRotated => !is_web,
                _ => true,
            };
        let before = self.being(number).told.clone();
        let made_up = match fault {
            StreamFault::ForgedSignature | StreamFault::FutureRev if fits => {
                Some(self.made_up(number, fault))
            }
            _ => None,
        };
        let mut also = Vec::new();
        if fits && fault == StreamFault::KeyRotated {
            self.being(number).key += 1;
            self.step(vec![Effect::Rotate { number }], Vec::new());
            also.push(self.identity(number));
        }
        let least = if fault == StreamFault::OpLeftOut {
            2
        } else {
            1
        };
        let writes = self.writes(number, least);
        let commit = self.commit(number, writes);
        let fits = fits
            && match fault {
                StreamFault::OpLeftOut => commit.parts.ops.len() >= 2,
                StreamFault::MissingRecord => commit.parts.ops.iter().any(|op| op.cid.is_some()),
                _ => true,
            };
        self.being(number).is_hidden =
            fits && matches!(fault, StreamFault::SequenceGap | StreamFault::GiantFrame);
        if !fits {
            return self.tell_plainly(number, commit, also);
        }
        self.count(fault.word());
        let relay = |life: &mut Self, commit: &Commit, event: Item| match fault {
            StreamFault::SequenceGap => vec![Item::Lost],
            StreamFault::Replay => vec![event, Item::Again(AGAIN)],
            StreamFault::ForgedSignature | StreamFault::FutureRev => {
                made_up.into_iter().chain([event]).collect()
            }
            StreamFault::RolledBackRev => {
                let old = before.map(|parts| life.item(&parts));
                [event].into_iter().chain(old).collect()
            }
            StreamFault::KeyRotated => vec![event],
            StreamFault::GarbageFrame => vec![life.garbage(commit), event],
            StreamFault::Drop => vec![event, Item::Cut(Arc::new(AtomicBool::new(false)))],
            StreamFault::Stall => vec![event, Item::Stall(Arc::new(AtomicBool::new(false)))],
            _ => {
                let spoiled = life.spoiled(commit, fault);
                vec![life.item(&spoiled)]
            }
        };
        self.tell_as(number, commit, relay, also);
    }

    fn item(&self, parts: &CommitParts) -> Item {
        Item::Event(Arc::new(Event::commit(parts, self.micros)), None)
    }

    /// A CID of nothing.
    fn some_cid(&mut self) -> Cid {
        Cid::of(Codec::DagCbor, &self.random.next_u64().to_be_bytes())
    }

    /// A commit that would follow what the account has, but that it never made, or takes back.
    fn made_up(&mut self, number: usize, fault: StreamFault) -> Item {
        let writes = self.writes(number, 1);
        let changed = self.tree(number).clone().apply(&writes);
        self.micros += 1;
        let (micros, block) = if fault == StreamFault::FutureRev {
            let micros = FAR + self.micros % 1_000_000_000;
            (micros, self.signed(number, micros, &changed.data))
        } else {
            let (micros, signer) = (self.micros, Signer::of(FORGER, 0));
            let (did, rev) = (&self.being(number).did, syntax::tid(micros, 1));
            let sign = |message: &[u8]| signer.sign(message);
            (
                micros,
                build_commit_fields(did, &rev, &changed.data, 0, sign),
            )
        };
        let being = self.being(number);
        let parts = parts_of(&being.did, micros, being.last, &changed, block);
        self.item(&parts)
    }

    /// What is told of a commit instead of it.
    fn spoiled(&mut self, commit: &Commit, fault: StreamFault) -> CommitParts {
        let mut parts = commit.parts.clone();
        match fault {
            StreamFault::ForgedPrevData => parts.prev_data = Some(self.some_cid()),
            StreamFault::OpLeftOut => {
                let at = self.random.index(parts.ops.len());
                parts.ops.remove(at);
            }
            StreamFault::OpMadeUp => parts.ops.push(Op {
                action: Action::Delete,
                collection: "app.bsky.feed.post".to_owned(),
                rkey: syntax::tid(commit.micros, 9),
                cid: None,
                prev: Some(self.some_cid()),
            }),
            StreamFault::AlteredBlock => {
                if let Some(byte) = parts.blocks.last_mut() {
                    *byte ^= 1;
                }
            }
            StreamFault::MissingRecord => {
                let missing = parts.ops.iter().find_map(|op| op.cid);
                parts.blocks = slice(parts.commit, commit.block.clone(), &commit.changed, |cid| {
                    Some(*cid) != missing
                });
            }
            StreamFault::NoProof => {
                parts.prev_data = None;
                parts.ops.iter_mut().for_each(|op| op.prev = None);
            }
            StreamFault::TooBig => {
                parts.too_big = true;
                parts.ops.clear();
                parts.blocks = build_car(parts.commit, &[(parts.commit, commit.block.clone())]);
            }
            StreamFault::OversizedFrame => parts.padding = OVERSIZED,
            StreamFault::GiantFrame => parts.padding = GIANT,
            // The others do not change what is told of a commit.
            _ => {}
        }
        parts
    }

    /// A frame that is no event.
    fn garbage(&mut self, commit: &Commit) -> Item {
        let whole = Event::commit(&commit.parts, self.micros).frame(1, None);
        let bytes = match self.random.below(6) {
            0 => (0..64)
                .map(|_| self.random.next_u64().to_be_bytes()[0])
                .collect(),
            1 => return Item::Text("not an event"),
            2 => whole[..whole.len() / 2].to_vec(),
            3 => Vec::new(),
            4 => whole[..20].to_vec(),
            _ => events::unknown(&commit.parts.did),
        };
        Item::Raw(Arc::new(bytes))
    }
}
