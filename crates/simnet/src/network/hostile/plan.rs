//! Which hostile hosts a network has, and about whom they lie.

use super::super::NetworkSettings;
use super::super::accounts::{Counting, Foreign, Host, State};
use super::super::fault::Fault;
use super::super::plan::{free, pick};

/// Accounts that a hostile host claims, or whose repos it forges, at most.
const FOREIGN: usize = 50;

/// Appends the hostile hosts that are planned. Those of [`Fault::EvilNames`] are names of the
/// address of `neighbor`.
pub(in super::super) fn add_hosts(
    settings: &NetworkSettings,
    neighbor: Option<usize>,
    hosts: &mut Vec<Host>,
) {
    let is_planned = |fault: &&Fault| settings.faults.contains(fault);
    for fault in Fault::OF_HOSTILE_HOSTS.iter().filter(is_planned) {
        hosts.push(Host {
            fault: Some(*fault),
            beside: neighbor.filter(|_| *fault == Fault::EvilNames),
            ..Host::default()
        });
    }
}

/// The good host whose address evil names share, if they are planned. It must have no limit.
pub(in super::super) fn neighbor(settings: &NetworkSettings, hosts: &[Host]) -> Option<usize> {
    if !settings.faults.contains(&Fault::EvilNames) {
        return None;
    }
    let is_good =
        |host: &usize| hosts[*host].fault.is_none() && hosts[*host].counting != Counting::Shared;
    // Of the fuller ones, so that there is something to lose.
    let fuller = (1..hosts.len().div_ceil(2)).filter(is_good);
    let chosen = pick(settings.seed, Fault::EvilNames.word(), fuller, 1);
    chosen.first().copied().or(Some(0))
}

/// Whom the hostile hosts claim, and whose repos they forge.
pub(in super::super) fn choose_foreign(seed: u64, state: &mut State) {
    let few = FOREIGN.min(state.accounts.len().div_ceil(10));
    for host in 0..state.hosts.len() {
        let (fault, lie) = match state.hosts[host].fault {
            Some(fault @ Fault::FalseClaims) => (fault, Foreign::Claimed),
            Some(fault @ Fault::ForgedFuture) => (fault, Foreign::Forged),
            _ => continue,
        };
        for number in pick(seed, fault.word(), free(state), few) {
            state.hosts[host].foreign.insert(number, lie);
        }
    }
}
