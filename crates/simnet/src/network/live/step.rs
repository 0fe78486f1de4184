//! What happens at once in a life: changes of the network, and what is told of them.

use super::super::accounts::{Account, Foreign, Standing, State};
use super::super::events::Event;
use super::super::log::Item;
use crate::tree::Write;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of the network. Accounts and hosts are numbers.
pub(super) enum Effect {
    /// A commit at this time, signed with the key of this generation.
    Commit {
        number: usize,
        writes: Vec<Write>,
        micros: u64,
        key: u32,
    },
    /// An account has another state. The document of one that is deleted may go too.
    Stand {
        number: usize,
        standing: Standing,
        is_tombstone: bool,
    },
    /// An account has another handle.
    Rename { number: usize },
    /// An account has another key.
    Rotate { number: usize },
    /// An account moves to a host.
    Move { number: usize, to: usize },
    /// A new account on a host.
    Add { did: String, host: usize },
}

/// What is told, and by whom.
pub(super) struct StepEvents {
    /// The item of the relay.
    pub(super) relay: Option<Item>,
    /// A host and its event.
    pub(super) host: Option<(usize, Arc<Event>)>,
}

/// Changes that happen together, and what is told of them afterwards.
pub(super) struct Step {
    /// The network's time, in microseconds since 1970.
    pub(super) micros: u64,
    pub(super) effects: Vec<Effect>,
    pub(super) told: Vec<StepEvents>,
}

impl Step {
    /// Events of the relay.
    pub(super) fn events(&self) -> usize {
        self.told.iter().filter(|told| told.relay.is_some()).count()
    }

    /// Lets it happen. `now` stands in for the times of its events.
    pub(super) fn happen(self, state: &mut State, now: Option<u64>) {
        state.micros = state.micros.max(self.micros);
        for effect in self.effects {
            effect.happen(state);
        }
        for told in self.told {
            if let Some((host, event)) = told.host {
                state.hosts[host].log.push(Item::Event(event, now));
            }
            match told.relay {
                Some(Item::Event(event, _)) => state.log.push(Item::Event(event, now)),
                Some(other) => state.log.push(other),
                None => {}
            }
        }
    }
}

impl Effect {
    fn happen(self, state: &mut State) {
        match self {
            Self::Commit {
                number,
                writes,
                micros,
                key,
            } => {
                let account = &mut state.accounts[number];
                let records = account.records.get_or_insert_default();
                // Unless somebody reads the repo right now, this is the only one.
                let records: &mut BTreeMap<_, _> = Arc::make_mut(records);
                for write in writes {
                    match write.record {
                        Some(record) => {
                            records.insert(write.key, Arc::unwrap_or_clone(record));
                        }
                        None => _ = records.remove(&write.key),
                    }
                }
                account.micros = micros;
                account.commit_key = key;
            }
            Self::Stand {
                number,
                standing,
                is_tombstone,
            } => stand(state, number, standing, is_tombstone),
            Self::Rename { number } => {
                state.accounts[number].renames += 1;
                state.note_operation(number);
            }
            Self::Rotate { number } => {
                state.accounts[number].key += 1;
                state.note_operation(number);
            }
            Self::Move { number, to } => {
                let from = state.accounts[number].host;
                state.hosts[from].members.remove(&number);
                state.hosts[to].members.insert(number);
                state.hosts[to].foreign.remove(&number);
                state.accounts[number].host = to;
                state.note_operation(number);
            }
            Self::Add { did, host } => {
                let micros = state.micros;
                state.add(Account {
                    did,
                    host,
                    standing: Standing::Active,
                    micros,
                    records: Some(Arc::default()),
                    key: 0,
                    commit_key: 0,
                    fault: None,
                    bad_answers: 0,
                    moves_to: None,
                    is_tombstone: false,
                    renames: 0,
                });
            }
        }
    }
}

fn stand(state: &mut State, number: usize, standing: Standing, is_tombstone: bool) {
    let account = &mut state.accounts[number];
    account.standing = standing;
    if standing != Standing::Deleted {
        return;
    }
    account.is_tombstone = is_tombstone;
    account.moves_to = None;
    let host = account.host;
    state.hosts[host].members.remove(&number);
    for host in &mut state.hosts {
        if host.foreign.get(&number) == Some(&Foreign::Left) {
            host.foreign.remove(&number);
        }
    }
    if is_tombstone {
        state.note_operation(number);
    }
}
