//! The network at its beginning: which host is what, who lives where, and whom the faults hit. All
//! of it follows from the settings.

use super::accounts::{Account, Counting, Foreign, Host, Standing, State};
use super::fault::Fault;
use super::hostile;
use super::log::Log;
use super::settings::NetworkSettings;
use crate::{Population, Random};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Inactive accounts at the beginning of a list.
const INACTIVE_PAGE: usize = 60;
/// Accounts that a host lies about, at most.
const LIES: usize = 20;
/// Hosts from which on some are unusable, share an address, lie.
const HOSTS_FOR_UNUSABLE: usize = 20;
const HOSTS_FOR_SHARED: usize = 5;
const HOSTS_FOR_LIES: usize = 4;

/// A number of `word` and `index` that looks random.
fn hash(seed: u64, word: &str, index: usize) -> u64 {
    let word = word.bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = Random::new(seed ^ word).next_u64();
    Random::new(mixed ^ (index as u64).wrapping_mul(0xa076_1d64_78bd_642f)).next_u64()
}

/// `count` of the candidates, those whose hashes are least.
pub(super) fn pick(
    seed: u64,
    word: &str,
    candidates: impl Iterator<Item = usize>,
    count: usize,
) -> Vec<usize> {
    let mut all: Vec<usize> = candidates.collect();
    all.sort_by_cached_key(|index| hash(seed, word, *index));
    all.truncate(count);
    all
}

/// One in `share` of `all`, but somebody if there is anybody.
fn one_in(share: usize, all: usize) -> usize {
    (all / share).max(1)
}

/// Accounts of each host but those of hostile ones that have none.
pub(super) fn sizes(settings: &NetworkSettings) -> Vec<usize> {
    let mut sizes = good_sizes(settings.repos, settings.hosts, settings.fullest_share);
    if settings.hostile_accounts > 0 {
        sizes.push(settings.hostile_accounts);
    }
    sizes
}

/// Accounts of each host: the first has its share, or somewhat more than the average if that is
/// less; the others fall off like 1/rank, below the first one. Nobody goes without, if there are
/// enough.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn good_sizes(repos: usize, hosts: usize, fullest_share: f64) -> Vec<usize> {
    let hosts = hosts.max(1);
    if repos <= hosts {
        return (0..hosts).map(|host| usize::from(host < repos)).collect();
    }
    let others = hosts - 1;
    if others == 0 {
        return vec![repos];
    }
    let share = fullest_share.max(1.2 / hosts as f64).min(1.0);
    let first = ((repos as f64 * share).round() as usize).clamp(1, repos - others);
    let left = repos - first - others;
    // Ranks that begin later make the largest of the others smaller.
    let mut shift = 0.0;
    let weights = loop {
        let weights: Vec<f64> = (1..=others)
            .map(|rank| 1.0 / (rank as f64 + shift))
            .collect();
        let largest = left as f64 * weights[0] / weights.iter().sum::<f64>() + 1.0;
        if largest <= first as f64 * 0.9 || shift > 1e6 {
            break weights;
        }
        shift = shift * 1.5 + 0.5;
    };
    let total: f64 = weights.iter().sum();
    let mut sizes = vec![first];
    sizes.extend(
        weights
            .iter()
            .map(|weight| 1 + (left as f64 * weight / total) as usize),
    );
    // What rounding left over.
    let mut missing = repos - sizes.iter().sum::<usize>();
    let mut host = 1;
    while missing > 0 {
        sizes[host] += 1;
        missing -= 1;
        host = 1 + host % others;
    }
    sizes
}

/// The hosts, without names and members yet.
pub(super) fn hosts(settings: &NetworkSettings, sizes: &[usize]) -> Vec<Host> {
    let mut hosts: Vec<Host> = sizes.iter().map(|_| Host::default()).collect();
    if settings.hostile_accounts == 0 {
        give_faults(settings, sizes, &mut hosts);
    } else if let Some(host) = hosts.last_mut() {
        give_all_faults(settings, host);
    }
    let neighbor = hostile::neighbor(settings, &hosts);
    if let Some(neighbor) = neighbor {
        hosts[neighbor].counting = Counting::Not;
    }
    hostile::add_hosts(settings, neighbor, &mut hosts);
    hosts
}

/// Gives one host what is planned for hosts.
fn give_all_faults(settings: &NetworkSettings, host: &mut Host) {
    let is_planned = |fault: &Fault| settings.faults.contains(fault);
    host.fault = Fault::OF_HOSTS.iter().copied().find(is_planned);
    host.counting = if is_planned(&Fault::Limits429) {
        Counting::Announced
    } else if is_planned(&Fault::Silent429) {
        Counting::Silent
    } else {
        Counting::Not
    };
}

/// Gives some hosts what is planned for hosts.
fn give_faults(settings: &NetworkSettings, sizes: &[usize], hosts: &mut [Host]) {
    let seed = settings.seed;
    let is_planned = |fault: Fault| settings.faults.contains(&fault);
    if hosts.len() >= HOSTS_FOR_UNUSABLE {
        for fault in Fault::OF_HOSTS.iter().filter(|fault| is_planned(**fault)) {
            let small = (hosts.len() / 2..hosts.len())
                .filter(|host| hosts[*host].fault.is_none() && sizes[*host] > 0);
            for host in pick(seed, fault.word(), small, 1) {
                hosts[host].fault = Some(*fault);
            }
        }
    }
    if hosts.len() >= HOSTS_FOR_SHARED && is_planned(Fault::SharedAddress) {
        let good = (1..hosts.len()).filter(|host| hosts[*host].fault.is_none());
        for host in pick(seed, Fault::SharedAddress.word(), good, 3) {
            hosts[host].counting = Counting::Shared;
        }
    }
    let others = (1..hosts.len())
        .filter(|host| hosts[*host].fault.is_none() && hosts[*host].counting == Counting::Not);
    let others = pick(seed, "limits", others, usize::MAX);
    // Three in five of all announce, the fullest among them; of the rest, one in four of all is
    // silent.
    let (announcing, silent) = ((hosts.len() * 3 / 5).max(1) - 1, one_in(4, hosts.len()));
    let announcing = announcing.min(others.len());
    if is_planned(Fault::Limits429) {
        hosts[0].counting = Counting::Announced;
        for host in &others[..announcing] {
            hosts[*host].counting = Counting::Announced;
        }
    }
    if is_planned(Fault::Silent429) {
        for host in others[announcing..].iter().take(silent) {
            hosts[*host].counting = Counting::Silent;
        }
    }
}

/// The network on these hosts.
pub(super) fn state(
    settings: &NetworkSettings,
    population: &Population,
    sizes: &[usize],
    hosts: Vec<Host>,
) -> State {
    let (seed, repos) = (settings.seed, population.len());
    let mut homes: Vec<usize> = sizes
        .iter()
        .enumerate()
        .flat_map(|(host, size)| std::iter::repeat_n(host, *size))
        .collect();
    let mut random = Random::new(hash(seed, "homes", 0));
    // Those of a hostile host are the last.
    for last in (1..settings.repos.min(homes.len())).rev() {
        homes.swap(last, random.index(last + 1));
    }
    let webs: BTreeSet<usize> = pick(seed, "did:web", 0..repos, one_in(50, repos))
        .into_iter()
        .collect();
    let mut state = State {
        accounts: Vec::with_capacity(repos),
        hosts,
        by_did: HashMap::with_capacity(repos),
        operations: Vec::with_capacity(repos),
        log: Log::new(settings.replay_events),
        micros: Population::END + repos as u64,
    };
    for (number, host) in homes.into_iter().enumerate() {
        let did = if webs.contains(&number) {
            format!("did:web:account{number}.web.test")
        } else {
            population.did(number)
        };
        state.add(Account {
            did,
            host,
            standing: Standing::Active,
            micros: Population::END + number as u64,
            records: None,
            key: 0,
            commit_key: 0,
            fault: None,
            bad_answers: 0,
            moves_to: None,
            is_tombstone: false,
            renames: 0,
        });
    }
    make_inactive(settings, &mut state);
    choose_victims(settings, population, &mut state);
    if settings.faults.contains(&Fault::LyingList) && sizes.len() >= HOSTS_FOR_LIES {
        make_lies(settings, &mut state);
    }
    hostile::choose_foreign(seed, &mut state);
    state
}

/// Active accounts without a fault, on hosts without one.
pub(super) fn free(state: &State) -> impl Iterator<Item = usize> + '_ {
    (0..state.accounts.len()).filter(|number| {
        let account = &state.accounts[*number];
        let host = &state.hosts[account.host];
        account.standing == Standing::Active && account.fault.is_none() && host.fault.is_none()
    })
}

/// The host that has all faults, and those of its accounts that it is free to choose among.
fn hostile_host(settings: &NetworkSettings, state: &State) -> Option<usize> {
    let is_hostile = |account: &&Account| settings.hostile_accounts > 0 && account.host > 0;
    state
        .accounts
        .last()
        .filter(is_hostile)
        .map(|account| account.host)
}

fn make_inactive(settings: &NetworkSettings, state: &mut State) {
    const STANDINGS: [Standing; 3] = [
        Standing::Deactivated,
        Standing::Suspended,
        Standing::Takendown,
    ];
    let (repos, hostile) = (state.accounts.len(), hostile_host(settings, state));
    let usual = free(state).filter(|number| Some(state.accounts[*number].host) != hostile);
    let few = pick(settings.seed, "inactive", usual, one_in(40, repos));
    for (n, number) in few.into_iter().enumerate() {
        state.accounts[number].standing = STANDINGS[n % 3];
    }
    if settings.faults.contains(&Fault::InactivePage) {
        let host = hostile.unwrap_or_else(|| middle_host(state));
        let first: Vec<usize> = state.hosts[host]
            .members
            .iter()
            .take(INACTIVE_PAGE)
            .copied()
            .collect();
        for (n, number) in first.into_iter().enumerate() {
            state.accounts[number].standing = STANDINGS[n % 3];
        }
    }
}

/// Of the hosts with more than a page of accounts, the one in the middle; else the fullest beside
/// the first one.
fn middle_host(state: &State) -> usize {
    let mut good = state.good_hosts();
    good.sort_by_key(|host| state.hosts[*host].members.len());
    let large = good
        .iter()
        .filter(|host| **host > 0 && state.hosts[**host].members.len() > INACTIVE_PAGE);
    let large: Vec<usize> = large.copied().collect();
    let others = good.iter().rev().find(|host| **host > 0).copied();
    large.get(large.len() / 2).copied().or(others).unwrap_or(0)
}

/// The faults that accounts have, each with the share of all accounts that has it.
fn faults_of_accounts(settings: &NetworkSettings) -> Vec<(Fault, usize)> {
    let is_planned = |(fault, _): &(Fault, usize)| settings.faults.contains(fault);
    let with = |share: usize| move |fault: &Fault| (*fault, share);
    let always = Fault::LASTING.iter().map(with(200));
    let always = always.chain(Fault::PASSING.iter().map(with(60)));
    let always = always.filter(|fault| settings.hostile_accounts == 0 || is_planned(fault));
    let planned = Fault::OF_IDENTITY.iter().map(with(100));
    let planned = planned.chain(Fault::OF_HOSTILE_ACCOUNTS.iter().map(with(200)));
    always.chain(planned.filter(is_planned)).collect()
}

fn choose_victims(settings: &NetworkSettings, population: &Population, state: &mut State) {
    let (seed, repos) = (settings.seed, state.accounts.len());
    let hostile = hostile_host(settings, state);
    let all = faults_of_accounts(settings);
    let good = state.good_hosts();
    for (fault, share) in &all {
        let (fault, share) = (*fault, *share);
        // A did:web keeps no log of older keys.
        let may_have_it = |number: &usize| {
            let account = &state.accounts[*number];
            (fault != Fault::RotatedKey || account.did.starts_with("did:plc:"))
                && hostile.is_none_or(|host| account.host == host)
        };
        let count = match hostile {
            Some(_) => settings.hostile_accounts.div_ceil(all.len()),
            None => one_in(share, repos),
        };
        for number in pick(seed, fault.word(), free(state).filter(may_have_it), count) {
            let roll = hash(seed, fault.word(), number) >> 7;
            let from = state.accounts[number].host;
            let elsewhere: Vec<usize> = good.iter().copied().filter(|host| *host != from).collect();
            let other = Random::new(roll).index(elsewhere.len());
            let other = elsewhere.get(other).copied();
            if matches!(fault, Fault::Moved | Fault::MovesDuringRun) && other.is_none() {
                continue;
            }
            let account = &mut state.accounts[number];
            account.fault = Some(fault);
            match fault {
                Fault::Stall => account.bad_answers = 1,
                fault if Fault::PASSING.contains(&fault) => {
                    account.bad_answers = 1 + u32::from(roll & 1 == 1);
                }
                Fault::MovesDuringRun => account.moves_to = other,
                Fault::Moved => state.relocate(number, other.unwrap_or(from), true),
                Fault::RotatedKey => {
                    account.key = 1;
                    state.note_operation(number);
                }
                _ => add_records(population, number, account),
            }
        }
    }
}

/// Gives an account the records that its fault is about, if it is about records.
fn add_records(population: &Population, number: usize, account: &mut Account) {
    let Some(fault) = account.fault else { return };
    let hostile = hostile::records(fault, &account.did, Population::END);
    if hostile.is_empty() {
        return;
    }
    let mut records: BTreeMap<String, Vec<u8>> = population.records(number).into_iter().collect();
    records.extend(hostile);
    account.records = Some(Arc::new(records));
}

fn make_lies(settings: &NetworkSettings, state: &mut State) {
    let seed = settings.seed;
    let good = state.good_hosts().into_iter().filter(|host| *host > 0);
    let word = Fault::LyingList.word();
    let mut chosen = pick(
        seed,
        word,
        good.filter(|host| !state.hosts[*host].members.is_empty()),
        usize::MAX,
    );
    if let Some(host) = hostile_host(settings, state) {
        chosen = vec![host];
    }
    let Some(&liar) = chosen.first() else { return };
    let strangers = free(state).filter(|number| state.accounts[*number].host != liar);
    let strangers = pick(
        seed,
        word,
        strangers,
        LIES.min(one_in(10, state.accounts.len()) * 2),
    );
    for (n, number) in strangers.into_iter().enumerate() {
        let lie = if n % 2 == 0 {
            Foreign::Missing
        } else {
            Foreign::Old
        };
        state.hosts[liar].foreign.insert(number, lie);
    }
    // Two pages hold up to 2000 accounts.
    let repeats = chosen[1..]
        .iter()
        .find(|host| (2..=1000).contains(&state.hosts[**host].members.len()));
    if let Some(&host) = repeats {
        state.hosts[host].repeats = true;
    }
}

#[cfg(test)]
mod tests {
    use super::good_sizes;

    #[test]
    fn the_first_host_is_the_fullest_and_nobody_is_lost() {
        for (repos, hosts, share) in [
            (50, 1, 0.2),
            (3, 5, 0.2),
            (1000, 20, 0.1),
            (100, 2, 0.2),
            (25, 20, 0.2),
            (10_000, 40, 0.5),
        ] {
            let sizes = good_sizes(repos, hosts, share);
            assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (hosts, repos));
            assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
            assert!(sizes.iter().all(|size| *size > 0) || repos < hosts);
        }
        assert_eq!(good_sizes(1000, 20, 0.1)[0], 100);
    }
}
