//! Repos are made when they are asked for. What lists say of them is kept, and so are the last
//! CARs.

use super::accounts::{Account, Records};
use crate::Population;
use crate::hostile::commit::{LAST_REV, forged_blocks};
use crate::repo::{build_blocks, build_car};
use atrepo::{Cid, syntax};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// CARs are kept up to so many bytes in all.
const KEPT_BYTES: usize = 256 << 20;
/// How much older an old repo is than the true one, in microseconds.
const AGE: u64 = 3_600_000_000;
/// Collections that generated records are in.
const COLLECTIONS: &[&str] = &[
    "app.bsky.actor.profile",
    "app.bsky.feed.like",
    "app.bsky.feed.post",
    "app.bsky.feed.repost",
    "app.bsky.graph.block",
    "app.bsky.graph.follow",
    "org.example.note",
];

/// The place of a collection among those that there are.
pub(super) fn collection_bit(collection: &str) -> Option<u8> {
    let place = COLLECTIONS.iter().position(|known| *known == collection)?;
    Some(1 << place)
}

/// All that a repo is made from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) number: usize,
    pub(super) did: String,
    /// The time in its rev.
    pub(super) micros: u64,
    key: u32,
    records: Option<Records>,
    version: Version,
}

/// Whether a repo is as its account has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Now,
    Once,
    Forged,
}

/// What lists say of a repo.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) head: Cid,
    pub(super) rev: String,
    /// See [`collection_bit`].
    pub(super) collections: u8,
}

impl Source {
    /// The repo of `account` as it is.
    pub(super) fn of(number: usize, account: &Account) -> Self {
        Self {
            number,
            did: account.did.clone(),
            micros: account.micros,
            key: account.commit_key,
            records: account.records.clone(),
            version: Version::Now,
        }
    }

    /// The repo as it was once: a third of the records was not there yet.
    pub(super) fn once(mut self) -> Self {
        self.micros = self.micros.saturating_sub(AGE);
        self.version = Version::Once;
        self
    }

    /// The repo at a rev that it does not have yet.
    pub(super) fn ahead(mut self) -> Self {
        self.micros += AGE;
        self
    }

    /// The repo as somebody else made it: at the last rev, without a third of the records.
    pub(super) fn forged(mut self) -> Self {
        self.micros = u64::MAX;
        self.version = Version::Forged;
        self
    }

    pub(super) fn rev(&self) -> String {
        match self.version {
            Version::Forged => LAST_REV.to_owned(),
            Version::Now | Version::Once => syntax::tid(self.micros, 1),
        }
    }

    /// The records, sorted by key.
    pub(super) fn records(&self, population: &Population) -> BTreeMap<String, Vec<u8>> {
        let mut records = match &self.records {
            Some(records) => (**records).clone(),
            None => population.records(self.number).into_iter().collect(),
        };
        if self.version != Version::Now {
            let least = (records.len() * 2 / 3).max(1);
            while records.len() > least {
                records.pop_last();
            }
        }
        records
    }

    /// The blocks, the commit last, and the CID of the commit.
    pub(super) fn blocks(&self, population: &Population) -> (Cid, Vec<(Cid, Vec<u8>)>) {
        let records = self.records(population).into_iter().collect();
        match self.version {
            Version::Forged => forged_blocks(&self.did, &self.rev(), records),
            Version::Now | Version::Once => build_blocks(&self.did, self.key, &self.rev(), records),
        }
    }

    fn collections(&self, population: &Population) -> u8 {
        let collection = |key: &str| {
            key.split_once('/')
                .and_then(|(collection, _)| collection_bit(collection))
        };
        match &self.records {
            Some(records) => records
                .keys()
                .filter_map(|key| collection(key))
                .fold(0, |all, bit| all | bit),
            None => self
                .records(population)
                .keys()
                .filter_map(|key| collection(key))
                .fold(0, |all, bit| all | bit),
        }
    }
}

/// Which repo: account and time of the rev.
type Key = (usize, u64);

#[derive(Default)]
struct Kept {
    cars: HashMap<Key, Arc<Vec<u8>>>,
    order: VecDeque<Key>,
    bytes: usize,
    facts: HashMap<Key, Facts>,
}

/// What was made so far.
#[derive(Default)]
pub(super) struct Cars(Mutex<Kept>);

impl Cars {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole CAR.
    pub(super) fn car(&self, source: &Source, population: &Population) -> Arc<Vec<u8>> {
        let kept = self
            .lock()
            .cars
            .get(&(source.number, source.micros))
            .map(Arc::clone);
        kept.unwrap_or_else(|| self.make(source, population).0)
    }

    /// What lists say of it.
    pub(super) fn facts(&self, source: &Source, population: &Population) -> Facts {
        let kept = self
            .lock()
            .facts
            .get(&(source.number, source.micros))
            .cloned();
        kept.unwrap_or_else(|| self.make(source, population).1)
    }

    fn make(&self, source: &Source, population: &Population) -> (Arc<Vec<u8>>, Facts) {
        let (head, blocks) = source.blocks(population);
        let car = Arc::new(build_car(head, &blocks));
        let facts = Facts {
            head,
            rev: source.rev(),
            collections: source.collections(population),
        };
        let key = (source.number, source.micros);
        let mut kept = self.lock();
        kept.facts.insert(key, facts.clone());
        if car.len() <= KEPT_BYTES && kept.cars.insert(key, Arc::clone(&car)).is_none() {
            kept.bytes += car.len();
            kept.order.push_back(key);
            while kept.bytes > KEPT_BYTES {
                let Some(oldest) = kept.order.pop_front() else {
                    break;
                };
                kept.bytes -= kept.cars.remove(&oldest).map_or(0, |car| car.len());
            }
        }
        (car, facts)
    }
}

/// A CAR that holds the commit alone, as events have it.
pub(super) fn commit_car(source: &Source, population: &Population) -> Vec<u8> {
    let (head, mut blocks) = source.blocks(population);
    let commit = blocks.pop().into_iter().collect::<Vec<_>>();
    build_car(head, &commit)
}

/// The CAR as PDSes order it, commit first, cut after two thirds of its blocks.
pub(super) fn cut_car(source: &Source, population: &Population) -> Vec<u8> {
    let (head, mut blocks) = source.blocks(population);
    blocks.reverse();
    blocks.truncate((blocks.len() * 2 / 3).max(1));
    build_car(head, &blocks)
}

/// The CAR with a byte of a record changed, under the record's CID.
pub(super) fn forged_car(source: &Source, population: &Population) -> Vec<u8> {
    let (head, mut blocks) = source.blocks(population);
    // Records come first.
    if let Some(byte) = blocks.first_mut().and_then(|(_, bytes)| bytes.last_mut()) {
        *byte ^= 1;
    }
    build_car(head, &blocks)
}
