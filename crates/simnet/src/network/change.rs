//! Changes to a network that runs: commits, deletions, deactivations, moves, new accounts.

use super::accounts::{Account, Foreign, Records, Standing, State};
use super::cars::{Source, commit_car};
use super::fault::Fault;
use super::world::World;
use crate::{Mix, Random};
use atrepo::syntax;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

const PROFILE: &str = "app.bsky.actor.profile/self";
const POST: &str = "app.bsky.feed.post/";

/// Whom changes can happen to.
struct Cast {
    /// Active accounts on good hosts.
    active: Vec<usize>,
    /// Deactivated ones.
    sleeping: Vec<usize>,
    hosts: Vec<usize>,
}

/// See [`super::Network::change`].
pub(super) fn change(world: &World, seed: u64, changes: usize) {
    let _changing = world
        .changing
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut random = Random::new(seed ^ 0x5851_f42d_4c95_7f2d);
    let mut cast = Cast::of(&world.lock());
    if cast.hosts.is_empty() {
        return;
    }
    for _ in 0..changes {
        let roll = random.below(100);
        if roll >= 90 || cast.active.is_empty() {
            appear(world, &mut cast, &mut random);
            continue;
        }
        let place = random.index(cast.active.len());
        let number = cast.active[place];
        match roll {
            0..70 => commit(world, number, &mut random),
            70..78 => {
                cast.active.swap_remove(place);
                delete(world, number, &mut random);
            }
            78..84 => toggle(world, &mut cast, place, &mut random),
            _ => relocate(world, &cast, number, &mut random),
        }
    }
}

impl Cast {
    fn of(state: &State) -> Self {
        let hosts = state.good_hosts();
        let all = |standing: Standing| {
            let numbers = 0..state.accounts.len();
            let chosen = numbers.filter(|number| {
                let account = &state.accounts[*number];
                account.standing == standing && state.hosts[account.host].fault.is_none()
            });
            chosen.collect()
        };
        Self {
            active: all(Standing::Active),
            sleeping: all(Standing::Deactivated),
            hosts,
        }
    }
}

/// A commit of one to four changes to records.
fn commit(world: &World, number: usize, random: &mut Random) {
    let source = Source::of(number, &world.lock().accounts[number]);
    let mut records = source.records(&world.population);
    for _ in 0..=random.below(4) {
        let micros = world.lock().tick();
        let some_key = records
            .keys()
            .nth(random.index(records.len()))
            .cloned()
            .unwrap_or_default();
        match random.below(10) {
            0..6 => create(world, &mut records, micros, random),
            6..8 if some_key.starts_with(POST) => {
                let post = Mix::REAL.likes + Mix::REAL.follows;
                let (_, bytes) = world.population.later_record(micros, post, random);
                records.insert(some_key, bytes);
            }
            6..8 => {
                records.insert(PROFILE.to_owned(), world.population.profile(number, random));
            }
            _ if some_key == PROFILE => create(world, &mut records, micros, random),
            _ => _ = records.remove(&some_key),
        }
    }
    set_records(world, number, Arc::new(records));
}

fn create(
    world: &World,
    records: &mut BTreeMap<String, Vec<u8>>,
    micros: u64,
    random: &mut Random,
) {
    let roll = random.below(100);
    let (collection, bytes) = world.population.later_record(micros, roll, random);
    records.insert(format!("{collection}/{}", syntax::tid(micros, 1)), bytes);
}

/// Commits these records and lets the relay tell of it.
fn set_records(world: &World, number: usize, records: Records) {
    let source = {
        let mut state = world.lock();
        let micros = state.tick();
        let account = &mut state.accounts[number];
        account.micros = micros;
        account.records = Some(records);
        account.commit_key = account.key;
        Source::of(number, account)
    };
    tell_sync(world, &source);
}

fn tell_sync(world: &World, source: &Source) {
    let blocks = commit_car(source, &world.population);
    world
        .lock()
        .tell_sync(source.number, &source.rev(), &blocks);
}

/// Deletes an account. Half of the documents go too.
fn delete(world: &World, number: usize, random: &mut Random) {
    let mut state = world.lock();
    let host = state.accounts[number].host;
    state.hosts[host].members.remove(&number);
    for host in &mut state.hosts {
        if host.foreign.get(&number) == Some(&Foreign::Left) {
            host.foreign.remove(&number);
        }
    }
    let account = &mut state.accounts[number];
    account.standing = Standing::Deleted;
    account.moves_to = None;
    // The document of a did:web goes with its host.
    account.is_tombstone = random.percent(50) || account.did.starts_with("did:web:");
    if account.is_tombstone {
        state.note_operation(number);
    }
    state.tell_account(number);
}

/// Deactivates the active account at `place`, or reactivates one that sleeps.
fn toggle(world: &World, cast: &mut Cast, place: usize, random: &mut Random) {
    let wakes = !cast.sleeping.is_empty() && random.percent(50);
    let (from, to, place, standing) = if wakes {
        let place = random.index(cast.sleeping.len());
        (
            &mut cast.sleeping,
            &mut cast.active,
            place,
            Standing::Active,
        )
    } else {
        (
            &mut cast.active,
            &mut cast.sleeping,
            place,
            Standing::Deactivated,
        )
    };
    let number = from.swap_remove(place);
    to.push(number);
    let source = {
        let mut state = world.lock();
        state.accounts[number].standing = standing;
        state.tell_account(number);
        Source::of(number, &state.accounts[number])
    };
    if wakes {
        tell_sync(world, &source);
    }
}

/// Moves an account to another good host, if there is one.
fn relocate(world: &World, cast: &Cast, number: usize, random: &mut Random) {
    let leaves_trace = world.switches.is_on(Fault::Moved);
    let mut state = world.lock();
    let from = state.accounts[number].host;
    let others: Vec<usize> = cast
        .hosts
        .iter()
        .copied()
        .filter(|host| *host != from)
        .collect();
    if let Some(to) = others.get(random.index(others.len())) {
        state.relocate(number, *to, leaves_trace);
        return;
    }
    drop(state);
    commit(world, number, random);
}

/// A new account with a few records.
fn appear(world: &World, cast: &mut Cast, random: &mut Random) {
    let host = cast.hosts[random.index(cast.hosts.len())];
    let (number, micros) = {
        let mut state = world.lock();
        (state.accounts.len(), state.tick())
    };
    let profile = world.population.profile(number, random);
    let mut records = BTreeMap::from([(PROFILE.to_owned(), profile)]);
    for _ in 0..=random.below(5) {
        let micros = world.lock().tick();
        create(world, &mut records, micros, random);
    }
    {
        let mut state = world.lock();
        state.add(Account {
            did: world.population.did(number),
            host,
            standing: Standing::Active,
            micros,
            records: None,
            key: 0,
            commit_key: 0,
            fault: None,
            bad_answers: 0,
            moves_to: None,
            is_tombstone: false,
            renames: 0,
        });
        state.accounts[number].records = Some(Arc::default());
        state.tell_identity(number);
        state.tell_account(number);
    }
    set_records(world, number, Arc::new(records));
    cast.active.push(number);
}
