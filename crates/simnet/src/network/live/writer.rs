//! What accounts write: records like those of the real network, and others that get in each
//! other's way, gates and lists among them.

use crate::tangle::Maker;
use crate::tree::{Tree, Write};
use crate::{Mix, Population, Random};
use atrepo::syntax;
use std::collections::BTreeSet;
use std::sync::Arc;

const PROFILE: &str = "app.bsky.actor.profile/self";
const POST: &str = "app.bsky.feed.post/";
const LIKE: &str = "app.bsky.feed.like/";

/// How often something is written that is in the way of something else, in a hundred.
const TANGLED: u64 = 35;
/// Most operations of an event.
const MOST: u64 = 200;

/// Makes the writes of commits.
pub(super) struct Writer<'p> {
    population: &'p Population,
    maker: Maker,
}

impl<'p> Writer<'p> {
    pub(super) fn new(population: &'p Population, seed: u64, dids: Vec<String>) -> Self {
        let random = Random::new(seed ^ 0x7772_6974_6572);
        Self {
            population,
            maker: Maker::new(random, dids, false),
        }
    }

    /// Another account, to be pointed to.
    pub(super) fn add_did(&mut self, did: &str) {
        self.maker.add_did(did);
    }

    /// The profile of an account.
    pub(super) fn profile(&self, number: usize, random: &mut Random) -> Write {
        Write {
            key: PROFILE.to_owned(),
            record: Some(Arc::new(self.population.profile(number, random))),
        }
    }

    /// Writes of a commit of account `number`, to at least `least` keys if that can be: most often
    /// one, now and then as many as an event may have.
    pub(super) fn batch(
        &mut self,
        (number, did): (usize, &str),
        tree: &Tree,
        micros: u64,
        least: u64,
        random: &mut Random,
    ) -> Vec<Write> {
        let count = match random.below(1000) {
            0..850 => 1,
            850..970 => 2 + random.below(3),
            970..997 => 5 + random.below(25),
            _ => MOST,
        };
        let count = count.max(least);
        let (mut keys, mut writes) = (BTreeSet::new(), Vec::new());
        for at in 0..count + 3 {
            let micros = micros - count.saturating_sub(at);
            for write in self.some((number, did), tree, micros, random) {
                let is_new = writes.len() < usize::try_from(count).unwrap_or(1)
                    && keys.insert(write.key.clone());
                if is_new {
                    writes.push(write);
                }
            }
        }
        writes
    }

    fn some(
        &mut self,
        (number, did): (usize, &str),
        tree: &Tree,
        micros: u64,
        random: &mut Random,
    ) -> Vec<Write> {
        match random.below(100) {
            0..72 => self.create(did, micros, random),
            72..90 => {
                let picked = tree.pick(random).map(|(key, _)| key.to_owned());
                picked
                    .into_iter()
                    .map(|key| Write { key, record: None })
                    .collect()
            }
            _ => self.update((number, did), tree, micros, random),
        }
    }

    fn create(&mut self, did: &str, micros: u64, random: &mut Random) -> Vec<Write> {
        if random.percent(TANGLED) {
            let made = self.maker.made_by(did, micros).into_iter();
            return made
                .map(|(key, record)| Write {
                    key,
                    record: Some(Arc::new(record)),
                })
                .collect();
        }
        let roll = random.below(100);
        let (collection, record) = self.population.later_record(micros, roll, random);
        let rkey = syntax::tid(micros, 1);
        let key = format!("{collection}/{rkey}");
        if key.starts_with(POST) {
            self.maker.add_post(did, &rkey, &record);
        }
        vec![Write {
            key,
            record: Some(Arc::new(record)),
        }]
    }

    /// Another record in place of one that is there.
    fn update(
        &mut self,
        (number, did): (usize, &str),
        tree: &Tree,
        micros: u64,
        random: &mut Random,
    ) -> Vec<Write> {
        let picked = tree.pick(random).map(|(key, _)| key.to_owned());
        let roll = match &picked {
            Some(key) if key.starts_with(POST) => Mix::REAL.likes + Mix::REAL.follows,
            Some(key) if key.starts_with(LIKE) && random.percent(20) => 0,
            _ if tree.get(PROFILE).is_some() => return vec![self.profile(number, random)],
            _ => return self.create(did, micros, random),
        };
        let (_, record) = self.population.later_record(micros, roll, random);
        picked
            .into_iter()
            .map(|key| Write {
                key,
                record: Some(Arc::new(record.clone())),
            })
            .collect()
    }
}
