//! Verifies the events of a stream: operations and signatures of commits, on several threads. What
//! does not verify is refused, or its repo is fetched.
//!
//! The events of a repo stay in their order. If the key of an account is not known, or did not sign
//! a commit, its events wait for the document. That may take seconds; the cursor of the stream
//! waits with them, events of other accounts do not.

use super::keys::{Key, Keys};
use super::reading::Read;
use atrepo::sync::{self, CheckedCommit};
use atrepo::{Cid, Commit};
use discover::events::{self, AccountStatus, Decoded, Event};
use identity::signature;
use ledger::follow::Behind;
use ledger::identity::DocumentNote;
use load::live::{LiveCommit, LiveOp};
use load::revs;
use rows::datetime;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// So long events wait for a document.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events that wait for documents, over all accounts.
const MOST_HELD: usize = 20_000;
/// Events of one account that wait.
const MOST_OF_ONE: usize = 200;
/// A repo whose commits are forged is looked at this often.
const LOOK_AT_FORGED: Duration = Duration::from_secs(600);
/// Accounts whose last look is remembered.
const FORGED_KEPT: usize = 100_000;

/// Events that were verified, in the order of their repos.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) relay: String,
    pub(super) commits: Vec<LiveCommit>,
    pub(super) behind: Vec<Behind>,
    /// Accounts of which something changed.
    pub(super) changed: Vec<String>,
    /// Documents that were requested.
    pub(super) documents: Vec<DocumentNote>,
    /// When all of this is stored, all up to here is.
    pub(super) cursor: Option<i64>,
    /// The time of its earliest event.
    pub(super) first_time: Option<String>,
    /// The time that half of its events are not later than. A host that dates its events as it
    /// likes, and even one that floods, must not hide how far behind the stream is.
    pub(super) time: Option<String>,
    pub(super) events: u64,
    pub(super) refused: u64,
    /// Events that wait for documents.
    pub(super) held: u64,
    /// Shares of the memory, given back when the batch is stored.
    pub(super) memory: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    /// Whether there is nothing to store but perhaps a cursor.
    pub(super) fn is_empty(&self) -> bool {
        self.events + self.refused == 0
            && self.commits.is_empty()
            && self.behind.is_empty()
            && self.changed.is_empty()
            && self.documents.is_empty()
    }
}

/// An event, as far as it can be judged without a key.
struct Examined {
    seq: i64,
    did: String,
    /// As `indexedAt` has times.
    time: String,
    /// Size of its frame.
    bytes: usize,
    kind: Kind,
}

enum Kind {
    Commit(Box<CheckedCommit>),
    /// The repo is at this commit, whatever was told before.
    Sync(Box<Commit>),
    /// A commit that does not show what it did: its rev, and why.
    Broken(String, &'static str),
    Identity,
    /// The account changed; whether its host says that it is deleted.
    Account(bool),
}

/// What a frame is.
enum Frame {
    Event(Box<Examined>),
    /// It names nobody; its place in the stream.
    Nothing(Option<i64>),
    Refused(Option<i64>),
}

/// Events of an account that wait for its document.
struct Held {
    since: Instant,
    events: Vec<Examined>,
}

/// Verifies.
pub(super) struct Verifier {
    pub(super) keys: Keys,
    pub(super) threads: usize,
    /// Whether an account or its host is left out by the operator.
    pub(super) opt_out: fetch::OptOut,
    /// Memory of the frames of events that wait for documents, in bytes.
    most_held_bytes: usize,
    held: HashMap<String, Held>,
    held_events: usize,
    held_bytes: usize,
    /// Events that wait no longer, because their documents came.
    released: Vec<Examined>,
    /// Events that wait no longer, because their stream ended.
    dropped: Vec<Examined>,
    forged: HashMap<String, Instant>,
}

impl Verifier {
    pub(super) fn new(
        keys: Keys,
        threads: usize,
        opt_out: fetch::OptOut,
        most_held_bytes: usize,
    ) -> Self {
        Self {
            most_held_bytes,
            keys,
            threads,
            opt_out,
            held: HashMap::new(),
            held_events: 0,
            held_bytes: 0,
            released: Vec::new(),
            dropped: Vec::new(),
            forged: HashMap::new(),
        }
    }

    /// Whether anything waits for a document.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Verifies frames. `last` is the cursor before them; `read` adds to the keys what the ledger
    /// knows of accounts.
    pub(super) fn verify<E>(
        &mut self,
        frames: Vec<Read>,
        last: &mut Option<i64>,
        mut read: impl FnMut(&mut Keys, &[&str]) -> Result<(), E>,
    ) -> Result<Batch, E> {
        let mut batch = Batch::default();
        self.take_answers(&mut batch);
        let mut bytes = Vec::new();
        for frame in frames {
            if let Read::Frame(frame, share) = frame {
                bytes.push(frame);
                batch.memory.push(share);
            }
        }
        batch.events = bytes.len() as u64;
        let mut events = std::mem::take(&mut self.released);
        for frame in in_parallel(&bytes, self.threads, examine) {
            match frame {
                Frame::Event(event) => {
                    *last = (*last).max(Some(event.seq));
                    events.push(*event);
                }
                Frame::Nothing(seq) => *last = (*last).max(seq),
                Frame::Refused(seq) => {
                    *last = (*last).max(seq);
                    batch.refused += 1;
                }
            }
        }
        let unknown: HashSet<&str> = events
            .iter()
            .filter(|event| event.asks_for_key() && self.keys.get(&event.did).is_none())
            .map(|event| event.did.as_str())
            .filter(|did| !self.keys.is_asked(did))
            .collect();
        if !unknown.is_empty() {
            read(&mut self.keys, &unknown.into_iter().collect::<Vec<_>>())?;
        }
        let signed = {
            let keys = &self.keys;
            in_parallel(&events, self.threads, |event| event.is_signed(keys))
        };
        (batch.first_time, batch.time) = first_and_middle(&events);
        for (event, is_signed) in events.into_iter().zip(signed) {
            self.settle(event, is_signed, &mut batch);
        }
        let first_held = self.held.values().flat_map(|held| &held.events);
        let first_held = first_held.map(|event| event.seq).min();
        batch.cursor = match (first_held, *last) {
            (Some(first), Some(last)) => Some(last.min(first.saturating_sub(1))),
            (_, last) => last,
        };
        batch.held = self.held_events as u64;
        Ok(batch)
    }

    /// Another stream begins, with numbers of its own: nothing of the one before waits any longer.
    pub(super) fn begin_stream(&mut self) {
        let held = self.held.drain().flat_map(|(_, held)| held.events);
        self.dropped.extend(held);
        (self.held_events, self.held_bytes) = (0, 0);
    }

    /// Lets events go whose documents came, or did not come for too long.
    fn take_answers(&mut self, batch: &mut Batch) {
        give_up(
            std::mem::take(&mut self.dropped),
            "its relay does not answer",
            batch,
        );
        for answer in self.keys.answers() {
            let Some(held) = self.let_go(&answer.did) else {
                batch.documents.push(answer.note);
                continue;
            };
            if answer.is_good {
                self.released.extend(held);
            } else {
                give_up(held, "its document cannot be read", batch);
            }
            batch.documents.push(answer.note);
        }
        let late: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| held.since.elapsed() > PATIENCE)
            .map(|(did, _)| did.clone())
            .collect();
        for did in late {
            if let Some(held) = self.let_go(&did) {
                give_up(held, "its document does not come", batch);
            }
        }
    }

    /// The events of an account that wait.
    fn let_go(&mut self, did: &str) -> Option<Vec<Examined>> {
        let held = self.held.remove(did)?;
        self.held_events -= held.events.len();
        self.held_bytes -= held.events.iter().map(|event| event.bytes).sum::<usize>();
        Some(held.events)
    }

    /// Decides what becomes of an event.
    fn settle(&mut self, event: Examined, is_signed: Option<bool>, batch: &mut Batch) {
        let did = &event.did;
        if let Some(key) = self.keys.get(did)
            && self.opt_out.has(did, &key.at.1)
        {
            return;
        }
        let is_held = self.held.contains_key(did);
        match &event.kind {
            Kind::Identity => {
                self.keys.forget(did);
                batch.changed.push(event.did);
            }
            Kind::Account(is_deleted) => batch.behind.push(Behind {
                is_deleted: *is_deleted,
                ..unsigned(did, "", "its account changed", false)
            }),
            Kind::Broken(rev, why) => match revs::refuse(rev) {
                Some(_) => batch.refused += 1,
                None => {
                    batch.refused += 1;
                    batch.behind.push(unsigned(did, rev, why, true));
                }
            },
            Kind::Commit(_) | Kind::Sync(_) => match (is_signed, self.keys.get(did).cloned()) {
                // An account whose key is not known waits as a whole.
                (Some(true), Some(key)) => accept(event, &key, batch),
                (Some(false), Some(key)) if key.is_fresh() && !is_held => {
                    self.refuse(&event, batch);
                }
                _ => self.hold(event, batch),
            },
        }
    }

    /// Lets an event wait for the document of its account.
    fn hold(&mut self, event: Examined, batch: &mut Batch) {
        let of_it = self
            .held
            .get(&event.did)
            .map_or(0, |held| held.events.len());
        let is_full = of_it >= MOST_OF_ONE
            || self.held_events >= MOST_HELD
            || self.held_bytes >= self.most_held_bytes;
        if is_full || !self.keys.ask(&event.did) {
            give_up(vec![event], "its signature cannot be checked now", batch);
            return;
        }
        let held = self.held.entry(event.did.clone()).or_insert(Held {
            since: Instant::now(),
            events: Vec::new(),
        });
        self.held_bytes += event.bytes;
        held.events.push(event);
        self.held_events += 1;
    }

    /// Refuses an event that no key of its account signed. Now and then the repo is looked at.
    fn refuse(&mut self, event: &Examined, batch: &mut Batch) {
        batch.refused += 1;
        let (rev, did) = (event.rev(), &event.did);
        tracing::debug!(did, rev, "an event is not signed by the account's key");
        let is_known = self
            .forged
            .get(did)
            .is_some_and(|at| at.elapsed() < LOOK_AT_FORGED);
        if is_known {
            return;
        }
        if self.forged.len() >= FORGED_KEPT {
            self.forged.clear();
        }
        self.forged.insert(did.clone(), Instant::now());
        batch
            .behind
            .push(unsigned(did, "", "a commit of it was forged", false));
    }
}

/// Takes what an account signed.
fn accept(event: Examined, key: &Key, batch: &mut Batch) {
    let at = (key.at.0.to_string(), key.at.1.to_string());
    match event.kind {
        Kind::Commit(commit) => batch.commits.push(live(*commit, event.time, at)),
        Kind::Sync(commit) => match revs::refuse(&commit.rev) {
            Some(_) => batch.refused += 1,
            // Who says so again and again has it fetched ever more rarely.
            None => batch.behind.push(Behind {
                is_signed: true,
                at: Some(at),
                ..unsigned(&event.did, &commit.rev, "its host says so", true)
            }),
        },
        Kind::Broken(..) | Kind::Identity | Kind::Account(_) => {}
    }
}

/// Leaves events to a merge.
fn give_up(events: Vec<Examined>, why: &'static str, batch: &mut Batch) {
    for event in events {
        let rev = event.rev();
        if revs::refuse(rev).is_none() {
            batch.behind.push(unsigned(&event.did, rev, why, false));
        } else {
            batch.refused += 1;
        }
    }
}

/// A repo of which something was said that its account did not sign, or not as far as is known.
fn unsigned(did: &str, rev: &str, reason: &'static str, is_fall: bool) -> Behind {
    Behind {
        did: did.to_owned(),
        rev: rev.to_owned(),
        is_signed: false,
        reason,
        is_fall,
        is_deleted: false,
        at: None,
    }
}

fn live(checked: CheckedCommit, time: String, at: (String, String)) -> LiveCommit {
    let op = |op: sync::CheckedOp| LiveOp {
        key: format!("{}/{}", op.collection, op.rkey),
        existed: op.prev.is_some(),
        now: op.cid.zip(op.record),
    };
    let data: Cid = checked.data();
    LiveCommit {
        did: checked.signed.did,
        rev: checked.signed.rev,
        commit_cid: checked.commit,
        commit: checked.signed.block,
        data,
        prev_data: checked.prev_data.unwrap_or_else(sync::empty_root),
        time,
        ops: checked.ops.into_iter().map(op).collect(),
        at,
    }
}

impl Examined {
    /// Whether it is signed, or says that the key may be another one.
    fn asks_for_key(&self) -> bool {
        matches!(self.kind, Kind::Commit(_) | Kind::Sync(_) | Kind::Identity)
    }

    fn rev(&self) -> &str {
        match &self.kind {
            Kind::Commit(checked) => checked.rev(),
            Kind::Sync(commit) => &commit.rev,
            Kind::Broken(rev, _) => rev,
            Kind::Identity | Kind::Account(_) => "",
        }
    }

    /// Whether the key of its account signed it; nothing if that is not known. Takes some 30
    /// to 60 microseconds.
    fn is_signed(&self, keys: &Keys) -> Option<bool> {
        let commit = match &self.kind {
            Kind::Commit(checked) => &checked.signed,
            Kind::Sync(commit) => commit,
            _ => return None,
        };
        let key = keys.get(&self.did)?;
        Some(signature::check(&key.key, commit).is_ok())
    }
}

/// Reads a frame, and checks what it claims as far as that goes without a key.
fn examine(frame: &bytes::Bytes) -> Frame {
    let event = match events::decode(frame) {
        Ok(Decoded::Event(event)) => event,
        Ok(Decoded::Unknown { seq, .. }) => return Frame::Nothing(seq),
        Ok(Decoded::Refused { .. }) => return Frame::Nothing(None),
        Err(error) => {
            // Whoever it is about has to be looked at.
            return match (error.seq, error.did) {
                (Some(seq), Some(did)) => Frame::Event(Box::new(Examined {
                    seq,
                    did,
                    time: now(),
                    bytes: frame.len(),
                    kind: Kind::Broken(String::new(), "an event of it cannot be read"),
                })),
                (seq, _) => Frame::Refused(seq),
            };
        }
    };
    let time = event.time().map_or_else(now, at);
    let (seq, kind) = match &event {
        Event::Commit(commit) => (commit.seq, of_commit(commit)),
        Event::Sync(event) => {
            let checked = sync::check_sync(&event.did, &event.rev, &event.blocks);
            let broken = || Kind::Broken(event.rev.clone(), "a sync event of it is wrong");
            (
                event.seq,
                checked.map_or_else(|_| broken(), |(_, commit)| Kind::Sync(Box::new(commit))),
            )
        }
        Event::Identity(event) => (event.seq, Kind::Identity),
        Event::Account(event) => match event.status {
            // They say something about the relay.
            Some(AccountStatus::Desynchronized | AccountStatus::Throttled) => {
                return Frame::Nothing(Some(event.seq));
            }
            status => {
                let is_deleted = !event.active && status == Some(AccountStatus::Deleted);
                (event.seq, Kind::Account(is_deleted))
            }
        },
        Event::Info(_) => return Frame::Nothing(None),
    };
    let did = event.did().unwrap_or_default().to_owned();
    Frame::Event(Box::new(Examined {
        seq,
        did,
        time,
        bytes: frame.len(),
        kind,
    }))
}

fn of_commit(event: &events::CommitEvent) -> Kind {
    match sync::check_commit(&event.claim()) {
        Ok(checked) => Kind::Commit(Box::new(checked)),
        Err(error) => {
            tracing::debug!(did = event.did, rev = event.rev, %error, "a commit does not verify");
            Kind::Broken(event.rev.clone(), error.reason())
        }
    }
}

/// The time of the earliest event, and that in the middle.
fn first_and_middle(events: &[Examined]) -> (Option<String>, Option<String>) {
    let mut times: Vec<&String> = events.iter().map(|event| &event.time).collect();
    let first = times.iter().min().map(|time| (*time).clone());
    let middle = times.len() / 2;
    let time = (middle < times.len()).then(|| times.select_nth_unstable(middle).1.clone());
    (first, time)
}

/// The time of an event as `indexedAt` has it: no time of the future, and none that cannot be
/// read.
fn at(time: &str) -> String {
    let now = clock();
    match datetime::parse(time).filter(|millis| (0..=now).contains(millis)) {
        Some(millis) => datetime::print(millis),
        None => datetime::print(now),
    }
}

fn now() -> String {
    datetime::print(clock())
}

fn clock() -> i64 {
    process::clock::now(None).unwrap_or(0)
}

/// Does `work` for each item, on so many threads; the results in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let share = items.len().div_ceil(threads.max(1)).max(16);
    if items.len() <= share {
        return items.iter().map(work).collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let shares: Vec<_> = items
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<R>>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        shares.into_iter().flat_map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_does_not_say_how_far_the_stream_is() {
        let event = |time: &str| Examined {
            seq: 1,
            did: String::new(),
            time: time.to_owned(),
            bytes: 0,
            kind: Kind::Identity,
        };
        let events: Vec<Examined> = ["2026-11-01", "2026-11-03", "2026-11-02", "2026-12-01"]
            .map(event)
            .into();
        let of = |count: usize| first_and_middle(&events[..count]);
        let texts = |first: &str, middle: &str| (Some(first.to_owned()), Some(middle.to_owned()));
        assert_eq!(of(4), texts("2026-11-01", "2026-11-03"));
        assert_eq!(of(3), texts("2026-11-01", "2026-11-02"));
        assert_eq!(of(0), (None, None));
    }
}
