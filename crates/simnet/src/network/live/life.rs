//! Makes a life: who does what when, and what of it the relay tells.

use super::super::accounts::{Standing, State, handle};
use super::super::cars::Source;
use super::super::events::{CommitParts, Event};
use super::super::log::Item;
use super::super::world::World;
use super::fault::StreamFault;
use super::settings::LiveSettings;
use super::step::{Effect, Step, StepEvents};
use super::writer::Writer;
use crate::Random;
use crate::keys::Signer;
use crate::repo::{build_car, build_commit_fields};
use crate::tree::{Changed, Tree, Write};
use atrepo::{Cid, Codec, syntax};
use std::collections::BTreeMap;
use std::sync::Arc;

mod faults;

/// Time between two steps, in microseconds.
const STEP: u64 = 50_000;
/// Accounts that do a third of all.
const BUSY: usize = 20;
/// 2100-01-01, in microseconds since 1970.
const FAR: u64 = 4_102_444_800_000_000;
/// Whose key signs what is forged.
const FORGER: &str = "did:plc:forger";
/// Events that come again.
const AGAIN: u64 = 20;
/// Bytes of a field that makes a frame too large, and far too large.
const OVERSIZED: usize = 6 << 20;
const GIANT: usize = 20 << 20;

/// A life.
pub(super) struct Made {
    pub(super) steps: Vec<Step>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// An account of the life.
struct Being {
    did: String,
    host: usize,
    standing: Standing,
    /// Its repo, once it is needed.
    tree: Option<Tree>,
    /// Time and key of its last commit; none if there is no commit.
    last: Option<u64>,
    key: u32,
    signer: Option<(u32, Signer)>,
    renames: u32,
    /// The event of its last commit.
    told: Option<CommitParts>,
    /// Whether the relay has hidden what it did last.
    is_hidden: bool,
}

/// A commit that was made.
struct Commit {
    parts: CommitParts,
    writes: Vec<Write>,
    changed: Changed,
    /// The commit itself.
    block: Vec<u8>,
    micros: u64,
}

struct Life<'w> {
    world: &'w World,
    settings: &'w LiveSettings,
    random: Random,
    writer: Writer<'w>,
    beings: Vec<Option<Being>>,
    active: Vec<usize>,
    asleep: Vec<usize>,
    hosts: Vec<usize>,
    micros: u64,
    events: usize,
    made: Made,
}

/// See [`super::Live`]. Whoever changes the network waits.
pub(super) fn make(world: &World, settings: &LiveSettings) -> Made {
    let mut state = world.lock();
    own_records(world, &mut state);
    let mut life = Life::new(world, &state, settings);
    drop(state);
    if life.hosts.is_empty() {
        return life.made;
    }
    while life.events < settings.events {
        life.go_on();
    }
    life.settle();
    life.made
}

/// Whether an account takes part: it has no fault, and neither has its host.
fn takes_part(state: &State, number: usize) -> bool {
    let account = &state.accounts[number];
    account.fault.is_none() && state.hosts[account.host].fault.is_none()
}

/// Gives the accounts that may change records of their own, which are what they have.
fn own_records(world: &World, state: &mut State) {
    for number in 0..state.accounts.len() {
        if takes_part(state, number) && state.accounts[number].records.is_none() {
            let source = Source::of(number, &state.accounts[number]);
            let records = source.records(&world.population);
            state.accounts[number].records = Some(Arc::new(records));
        }
    }
}

impl<'w> Life<'w> {
    fn new(world: &'w World, state: &State, settings: &'w LiveSettings) -> Self {
        let seed = settings.seed ^ 0x6c69_7665;
        let (mut beings, mut active, mut asleep) = (Vec::new(), Vec::new(), Vec::new());
        for (number, account) in state.accounts.iter().enumerate() {
            let being = takes_part(state, number).then(|| Being {
                did: account.did.clone(),
                host: account.host,
                standing: account.standing,
                tree: None,
                last: Some(account.micros),
                key: account.key,
                signer: None,
                renames: account.renames,
                told: None,
                is_hidden: false,
            });
            match being.as_ref().map(|being| being.standing) {
                Some(Standing::Active) => active.push(number),
                Some(Standing::Deactivated | Standing::Suspended | Standing::Takendown) => {
                    asleep.push(number);
                }
                Some(Standing::Deleted) | None => {}
            }
            beings.push(being);
        }
        let dids = active.iter().filter_map(|number| beings[*number].as_ref());
        let dids = dids.map(|being| being.did.clone()).collect();
        Self {
            world,
            settings,
            random: Random::new(seed),
            writer: Writer::new(&world.population, seed, dids),
            beings,
            active,
            asleep,
            hosts: state.good_hosts(),
            micros: state.micros,
            events: 0,
            made: Made {
                steps: Vec::new(),
                counts: BTreeMap::new(),
            },
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.made.counts.entry(what).or_default() += 1;
    }

    /// The account that does something next.
    fn somebody(&mut self) -> usize {
        let all = self.active.len();
        let among = if self.random.percent(33) {
            all.min(BUSY)
        } else {
            all
        };
        self.active[self.random.index(among)]
    }

    fn being(&mut self, number: usize) -> &mut Being {
        self.beings[number]
            .as_mut()
            .expect("an account of the life")
    }

    /// Adds a step at the present time.
    fn step(&mut self, effects: Vec<Effect>, told: Vec<StepEvents>) {
        let step = Step {
            micros: self.micros,
            effects,
            told,
        };
        self.events += step.events();
        self.made.steps.push(step);
    }

    /// An event that the relay and a host tell of.
    fn both(&self, host: usize, event: Event) -> StepEvents {
        let event = Arc::new(event);
        StepEvents {
            relay: Some(Item::Event(Arc::clone(&event), None)),
            host: Some((host, event)),
        }
    }

    fn go_on(&mut self) {
        self.micros += STEP;
        let roll = self.random.below(1000);
        if self.active.is_empty() {
            return self.appear();
        }
        let number = self.somebody();
        let commits = self.settings.commits;
        if roll < commits {
            return self.commit_somehow(number);
        }
        match (roll - commits) * 70 / (1000 - commits) {
            0..15 => self.rename(number),
            15..22 => self.rotate(number),
            22..40 => self.toggle(number),
            40..45 if self.active.len() > BUSY => self.delete(number),
            45..55 => self.relocate(number),
            55..60 => self.reset(number),
            _ => self.appear(),
        }
    }

    fn identity(&mut self, number: usize) -> StepEvents {
        self.count("identity");
        let micros = self.micros;
        let being = self.being(number);
        let name = handle(number, being.renames);
        let (host, event) = (being.host, Event::identity(&being.did, &name, micros));
        self.both(host, event)
    }

    fn account(&mut self, number: usize) -> StepEvents {
        self.count("account");
        let micros = self.micros;
        let being = self.being(number);
        let status = being.standing.status();
        let (host, event) = (being.host, Event::account(&being.did, status, micros));
        self.both(host, event)
    }

    fn rename(&mut self, number: usize) {
        // The document of a did:web is not changed.
        if self.being(number).did.starts_with("did:web:") {
            return;
        }
        self.being(number).renames += 1;
        let told = vec![self.identity(number)];
        self.step(vec![Effect::Rename { number }], told);
    }

    fn rotate(&mut self, number: usize) {
        if self.being(number).did.starts_with("did:web:") {
            return;
        }
        self.being(number).key += 1;
        let told = vec![self.identity(number)];
        self.step(vec![Effect::Rotate { number }], told);
        // Its repo is signed anew with its next commit.
        let commit = self.commit(number, Vec::new());
        self.tell_plainly(number, commit, Vec::new());
    }

    /// An account sleeps, or one that sleeps wakes up.
    fn toggle(&mut self, number: usize) {
        if !self.asleep.is_empty() && self.random.percent(50) {
            let place = self.random.index(self.asleep.len());
            let number = self.asleep.swap_remove(place);
            self.active.push(number);
            self.being(number).standing = Standing::Active;
            let mut told = vec![self.account(number), self.identity(number)];
            told.push(self.sync(number));
            return self.step(vec![Self::stands(number, Standing::Active)], told);
        }
        self.active.retain(|other| *other != number);
        self.asleep.push(number);
        let standing = match self.random.below(3) {
            0 => Standing::Takendown,
            1 => Standing::Suspended,
            _ => Standing::Deactivated,
        };
        self.being(number).standing = standing;
        let told = vec![self.account(number)];
        self.step(vec![Self::stands(number, standing)], told);
    }

    fn stands(number: usize, standing: Standing) -> Effect {
        Effect::Stand {
            number,
            standing,
            is_tombstone: false,
        }
    }

    fn delete(&mut self, number: usize) {
        self.active.retain(|other| *other != number);
        let is_web = self.being(number).did.starts_with("did:web:");
        let is_tombstone = is_web || self.random.percent(50);
        self.being(number).standing = Standing::Deleted;
        let told = vec![self.account(number)];
        let effect = Effect::Stand {
            number,
            standing: Standing::Deleted,
            is_tombstone,
        };
        self.step(vec![effect], told);
    }

    /// An account moves to another host, with another key if it can have one.
    fn relocate(&mut self, number: usize) {
        let from = self.being(number).host;
        let others: Vec<usize> = self
            .hosts
            .iter()
            .copied()
            .filter(|to| *to != from)
            .collect();
        let Some(&to) = others.get(self.random.index(others.len())) else {
            return self.commit_somehow(number);
        };
        let (micros, mut effects) = (self.micros, vec![Effect::Move { number, to }]);
        let being = self.being(number);
        being.host = to;
        if being.did.starts_with("did:plc:") {
            being.key += 1;
            effects.push(Effect::Rotate { number });
        }
        let left = Event::account(&being.did, Some("deactivated"), micros);
        let commit = self.commit(number, Vec::new());
        effects.push(self.effect(number, &commit));
        let mut told = vec![self.identity(number), self.account(number)];
        told.push(self.sync(number));
        told.push(StepEvents {
            relay: None,
            host: Some((from, Arc::new(left))),
        });
        self.count("move");
        self.step(effects, told);
    }

    /// An account's repo is another one, and no commits say how it came about.
    fn reset(&mut self, number: usize) {
        let writes = if self.random.percent(50) {
            Vec::new()
        } else {
            self.writes(number, 1)
        };
        let commit = self.commit(number, writes);
        let effects = vec![self.effect(number, &commit)];
        let told = vec![self.sync(number)];
        self.step(effects, told);
    }

    fn appear(&mut self) {
        let host = self.hosts[self.random.index(self.hosts.len())];
        let number = self.beings.len();
        let did = self.world.population.did(number);
        self.writer.add_did(&did);
        self.beings.push(Some(Being {
            did: did.clone(),
            host,
            standing: Standing::Active,
            tree: Some(Tree::default()),
            last: None,
            key: 0,
            signer: None,
            renames: 0,
            told: None,
            is_hidden: false,
        }));
        let told = vec![self.identity(number), self.account(number)];
        self.step(vec![Effect::Add { did, host }], told);
        self.micros += STEP;
        let profile = self.writer.profile(number, &mut self.random);
        let commit = self.commit(number, vec![profile]);
        let also = if self.random.percent(50) {
            vec![self.sync(number)]
        } else {
            Vec::new()
        };
        self.tell_plainly(number, commit, also);
        self.active.push(number);
    }

    /// The repo of an account as a tree.
    fn tree(&mut self, number: usize) -> &mut Tree {
        if self.being(number).tree.is_none() {
            let records = {
                let state = self.world.lock();
                Source::of(number, &state.accounts[number]).records(&self.world.population)
            };
            let entries = records
                .iter()
                .map(|(key, record)| (key.as_str(), Cid::of(Codec::DagCbor, record)));
            self.being(number).tree = Some(Tree::new(entries));
        }
        self.being(number).tree.get_or_insert_default()
    }

    /// Writes of an account, to at least `least` keys if that can be.
    fn writes(&mut self, number: usize, least: u64) -> Vec<Write> {
        self.tree(number);
        let being = self.beings[number].as_ref().expect("an account");
        let tree = being.tree.as_ref().expect("its tree");
        let who = (number, being.did.as_str());
        let mut writes = self
            .writer
            .batch(who, tree, self.micros, least, &mut self.random);
        writes.retain(|write| match &write.record {
            Some(record) => tree.get(&write.key) != Some(Cid::of(Codec::DagCbor, record)),
            None => tree.get(&write.key).is_some(),
        });
        writes
    }

    /// The block of a commit over `data`, signed with the account's key.
    fn signed(&mut self, number: usize, micros: u64, data: &Cid) -> Vec<u8> {
        let being = self.being(number);
        if being
            .signer
            .as_ref()
            .is_none_or(|(key, _)| *key != being.key)
        {
            being.signer = Some((being.key, Signer::of(&being.did, being.key)));
        }
        let rev = syntax::tid(micros, 1);
        let (_, signer) = being.signer.as_ref().expect("a signer");
        build_commit_fields(&being.did, &rev, data, 0, |message| signer.sign(message))
    }

    /// Lets an account commit writes.
    fn commit(&mut self, number: usize, writes: Vec<Write>) -> Commit {
        self.micros += 1;
        let micros = self.micros;
        let changed = self.tree(number).apply(&writes);
        let block = self.signed(number, micros, &changed.data);
        let being = self.being(number);
        let last = being.last.replace(micros);
        let parts = parts_of(&being.did, micros, last, &changed, block.clone());
        Commit {
            parts,
            writes,
            changed,
            block,
            micros,
        }
    }

    fn effect(&mut self, number: usize, commit: &Commit) -> Effect {
        Effect::Commit {
            number,
            writes: commit.writes.clone(),
            micros: commit.micros,
            key: self.being(number).key,
        }
    }

    /// The state of an account's repo, as a sync event has it.
    fn sync(&mut self, number: usize) -> StepEvents {
        self.count("sync");
        let data = self.tree(number).root();
        let micros = self.being(number).last.unwrap_or(self.micros);
        let commit = self.signed(number, micros, &data);
        let root = Cid::of(Codec::DagCbor, &commit);
        let blocks = build_car(root, &[(root, commit)]);
        let now = self.micros;
        let being = self.being(number);
        let rev = syntax::tid(micros, 1);
        let (host, event) = (being.host, Event::sync(&being.did, &rev, &blocks, now));
        self.both(host, event)
    }

    /// Tells of a commit as it is, and of `also` after it.
    fn tell_plainly(&mut self, number: usize, commit: Commit, also: Vec<StepEvents>) {
        self.tell_as(number, commit, |_, _, event| vec![event], also);
    }

    /// Tells of a commit: a host as it is, the relay as `relay` says.
    fn tell_as(
        &mut self,
        number: usize,
        commit: Commit,
        relay: impl FnOnce(&mut Self, &Commit, Item) -> Vec<Item>,
        also: Vec<StepEvents>,
    ) {
        self.count("commit");
        for op in &commit.parts.ops {
            self.count(op.action.word());
        }
        let effects = vec![self.effect(number, &commit)];
        let host = self.being(number).host;
        let event = Arc::new(Event::commit(&commit.parts, self.micros));
        let items = relay(self, &commit, Item::Event(Arc::clone(&event), None));
        let mut told: Vec<StepEvents> = items
            .into_iter()
            .map(|item| StepEvents {
                relay: Some(item),
                host: None,
            })
            .collect();
        told.push(StepEvents {
            relay: None,
            host: Some((host, event)),
        });
        told.extend(also);
        self.being(number).told = Some(commit.parts);
        self.step(effects, told);
    }

    /// A commit of an account, with a fault on the way to the relay's subscribers now and then.
    fn commit_somehow(&mut self, number: usize) {
        let faults = &self.settings.faults;
        let fault = if !faults.is_empty() && self.random.below(self.settings.fault_every) == 0 {
            faults.get(self.random.index(faults.len())).copied()
        } else {
            None
        };
        match fault {
            None => {
                let writes = self.writes(number, 1);
                let commit = self.commit(number, writes);
                self.being(number).is_hidden = false;
                self.tell_plainly(number, commit, Vec::new());
            }
            Some(fault) => self.commit_with(number, fault),
        }
    }

    /// Every account about which the relay has hidden something commits once more.
    fn settle(&mut self) {
        let active = self.active.clone();
        for number in active {
            if self.being(number).is_hidden {
                self.micros += STEP;
                let profile = self.writer.profile(number, &mut self.random);
                let commit = self.commit(number, vec![profile]);
                self.being(number).is_hidden = false;
                self.tell_plainly(number, commit, Vec::new());
            }
        }
    }
}

/// What the event of a commit says.
fn parts_of(
    did: &str,
    micros: u64,
    last: Option<u64>,
    changed: &Changed,
    block: Vec<u8>,
) -> CommitParts {
    let commit = Cid::of(Codec::DagCbor, &block);
    CommitParts {
        did: did.to_owned(),
        rev: syntax::tid(micros, 1),
        since: last.map(|last| syntax::tid(last, 1)),
        commit,
        // The first commit has no tree before it.
        prev_data: last.map(|_| changed.prev_data),
        ops: changed.ops.clone(),
        blocks: slice(commit, block, changed, |_| true),
        too_big: false,
        padding: 0,
    }
}

/// The CAR of an event, with those of the blocks that are wanted.
fn slice(commit: Cid, block: Vec<u8>, changed: &Changed, wanted: impl Fn(&Cid) -> bool) -> Vec<u8> {
    let others = changed.blocks.iter().filter(|(cid, _)| wanted(cid));
    let mut blocks = vec![(commit, block)];
    blocks.extend(others.map(|(cid, block)| (*cid, block.to_vec())));
    build_car(commit, &blocks)
}
