//! Accounts and hosts as they are at a moment, and what leads from one moment to the next.

use super::events::Event;
use super::fault::Fault;
use super::log::{Item, Log};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The state of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Active,
    Deactivated,
    Suspended,
    Takendown,
    Deleted,
}

impl Standing {
    /// Its status in the protocol's words; none if it is active.
    pub(super) fn status(self) -> Option<&'static str> {
        match self {
            Self::Active => None,
            Self::Deactivated => Some("deactivated"),
            Self::Suspended => Some("suspended"),
            Self::Takendown => Some("takendown"),
            Self::Deleted => Some("deleted"),
        }
    }
}

/// Records by key.
pub(super) type Records = Arc<BTreeMap<String, Vec<u8>>>;

/// An account. Its number is its place in the list of all.
pub(super) struct Account {
    pub(super) did: String,
    /// The host that its document names.
    pub(super) host: usize,
    pub(super) standing: Standing,
    /// The time in its rev, in microseconds since 1970.
    pub(super) micros: u64,
    /// Its records, once they are other than those of the population.
    pub(super) records: Option<Records>,
    /// How often its signing key was changed.
    pub(super) key: u32,
    /// The same of the key that signed its commit.
    pub(super) commit_key: u32,
    pub(super) fault: Option<Fault>,
    /// Bad answers that a passing fault still gives.
    pub(super) bad_answers: u32,
    /// Where it goes at the first request for its repo.
    pub(super) moves_to: Option<usize>,
    /// Whether its DID is no more.
    pub(super) is_tombstone: bool,
    /// How often its handle was changed.
    pub(super) renames: u32,
}

/// The handle of the account of a number, which was changed `renames` times.
pub(super) fn handle(number: usize, renames: u32) -> String {
    match renames {
        0 => format!("account{number}.simnet.test"),
        _ => format!("account{number}-{renames}.simnet.test"),
    }
}

/// Number and changes of the handle that begins with `name`, and ends as those of a network.
pub(super) fn of_handle(name: &str) -> Option<(usize, u32)> {
    let name = name.strip_prefix("account")?;
    match name.split_once('-') {
        None => Some((name.parse().ok()?, 0)),
        Some((number, renames)) => Some((number.parse().ok()?, renames.parse().ok()?)),
    }
}

/// What a host says of an account that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It left: listed as deactivated.
    Left,
    /// A lie: listed, and not there.
    Missing,
    /// A lie: listed and served as it was once.
    Old,
    /// A lie: listed as newer than it is, and not there.
    Claimed,
    /// A lie: listed and served as somebody else made it, at the last rev that there is.
    Forged,
}

/// How a host counts requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Counting {
    #[default]
    Not,
    Announced,
    Silent,
    Shared,
}

/// A PDS.
#[derive(Default)]
pub(super) struct Host {
    /// Name and port.
    pub(super) authority: String,
    /// What makes it unusable or hostile.
    pub(super) fault: Option<Fault>,
    /// Another host, on whose address this one is.
    pub(super) beside: Option<usize>,
    pub(super) counting: Counting,
    /// Accounts that it has.
    pub(super) members: BTreeSet<usize>,
    /// Accounts that it lists beside its own.
    pub(super) foreign: BTreeMap<usize, Foreign>,
    /// Whether its list repeats a cursor.
    pub(super) repeats: bool,
    /// What it tells.
    pub(super) log: Log,
}

/// An operation of the PLC.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// Milliseconds since 1970; no two operations have the same.
    pub(super) millis: i64,
    pub(super) account: usize,
    pub(super) host: usize,
    pub(super) key: u32,
    pub(super) renames: u32,
    pub(super) is_tombstone: bool,
}

/// The network at a moment.
pub(super) struct State {
    pub(super) accounts: Vec<Account>,
    pub(super) hosts: Vec<Host>,
    pub(super) by_did: HashMap<String, usize>,
    /// In the order of time.
    pub(super) operations: Vec<Operation>,
    /// What the relay tells.
    pub(super) log: Log,
    /// The network's own time, in microseconds since 1970: the same for the same seed.
    pub(super) micros: u64,
}

/// Time that passes with each event and each operation.
const TICK: u64 = 1_000_000;

impl State {
    /// The next moment, in microseconds since 1970.
    pub(super) fn tick(&mut self) -> u64 {
        self.micros += TICK;
        self.micros
    }

    /// Writes down in the PLC how an account is now.
    pub(super) fn note_operation(&mut self, number: usize) {
        let micros = self.tick();
        let account = &self.accounts[number];
        if account.did.starts_with("did:plc:") {
            self.operations.push(Operation {
                millis: i64::try_from(micros / 1000).unwrap_or(0),
                account: number,
                host: account.host,
                key: account.key,
                renames: account.renames,
                is_tombstone: account.is_tombstone,
            });
        }
    }

    /// Lets the relay and the account's host tell of an event.
    fn tell(&mut self, number: usize, event: Event) {
        let (item, host) = (
            Item::Event(Arc::new(event), None),
            self.accounts[number].host,
        );
        self.hosts[host].log.push(item.clone());
        self.log.push(item);
    }

    /// Tells of an account's document.
    pub(super) fn tell_identity(&mut self, number: usize) {
        let micros = self.tick();
        let account = &self.accounts[number];
        let handle = handle(number, account.renames);
        self.tell(number, Event::identity(&account.did, &handle, micros));
    }

    /// Tells of an account's state.
    pub(super) fn tell_account(&mut self, number: usize) {
        let micros = self.tick();
        let account = &self.accounts[number];
        let status = account.standing.status();
        self.tell(number, Event::account(&account.did, status, micros));
    }

    /// Tells of a commit: its rev and its block in a CAR.
    pub(super) fn tell_sync(&mut self, number: usize, rev: &str, blocks: &[u8]) {
        let micros = self.tick();
        let did = &self.accounts[number].did;
        self.tell(number, Event::sync(did, rev, blocks, micros));
    }

    /// Moves an account. If `leaves_trace`, its old host goes on listing it.
    pub(super) fn relocate(&mut self, number: usize, to: usize, leaves_trace: bool) {
        let from = self.accounts[number].host;
        self.hosts[from].members.remove(&number);
        if leaves_trace {
            self.hosts[from].foreign.insert(number, Foreign::Left);
        }
        self.hosts[to].members.insert(number);
        self.hosts[to].foreign.remove(&number);
        self.accounts[number].host = to;
        self.accounts[number].moves_to = None;
        self.note_operation(number);
        self.tell_identity(number);
    }

    /// Adds an account and its first operation.
    pub(super) fn add(&mut self, account: Account) -> usize {
        let number = self.accounts.len();
        self.by_did.insert(account.did.clone(), number);
        self.hosts[account.host].members.insert(number);
        self.accounts.push(account);
        self.note_operation(number);
        number
    }

    /// Hosts that work and have a list that is their own.
    pub(super) fn good_hosts(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].fault.is_none())
            .collect()
    }
}
