//! A whole network on loopback: PDSes, a PLC directory, a relay, and the well-known files of
//! handles and of did:web. Everything follows from a seed, the faults too, so that a test knows
//! what a complete and correct backfill must end with ([`Network::expected`]).
//!
//! Each PDS is a listener of its own, counts its requests and may have a limit. Repos are made when
//! they are asked for.

mod accounts;
mod cars;
mod change;
mod events;
mod expected;
mod fault;
mod hostile;
mod lists;
mod live;
mod loading;
mod log;
mod meter;
mod pds;
mod plan;
mod plc;
mod relay;
mod serve;
mod settings;
mod subscribe;
mod world;

pub use expected::Expected;
pub use fault::Fault;
pub use live::{Burst, Live, LiveSettings, Pace, Playing, StreamFault};
pub use meter::{HostCounts, Limit};
pub use settings::NetworkSettings;

use accounts::{Counting, Standing};
use cars::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use world::World;

/// How often [`Network::change_until`] looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The network. Its servers run until it is dropped.
pub struct Network {
    world: Arc<World>,
    servers: serve::Servers,
}

impl Network {
    /// Starts it on free ports of loopback.
    ///
    /// # Panics
    /// The system gives no sockets or threads.
    #[must_use]
    pub fn start(settings: NetworkSettings) -> Self {
        let (world, servers) = serve::start(settings);
        Self { world, servers }
    }

    /// URL of the relay. Like all of them, without a slash at the end.
    #[must_use]
    pub fn relay_url(&self) -> String {
        self.servers.relay_url()
    }

    /// URL of the PLC directory.
    #[must_use]
    pub fn plc_url(&self) -> String {
        self.servers.plc_url()
    }

    /// URL of the server that has `/.well-known/atproto-did` of handles and `/.well-known/did.json`
    /// of did:web, by the `Host` header.
    #[must_use]
    pub fn well_known_url(&self) -> String {
        self.servers.well_known_url()
    }

    /// URLs of the PDSes, the fullest first, the hostile ones last.
    #[must_use]
    pub fn host_urls(&self) -> Vec<String> {
        let state = self.world.lock();
        (0..state.hosts.len())
            .map(|host| self.world.host_url(&state, host))
            .collect()
    }

    /// The accounts that have a document, and the URLs of the PDSes that it names.
    #[must_use]
    pub fn dids(&self) -> Vec<(String, String)> {
        let state = self.world.lock();
        let known = state
            .accounts
            .iter()
            .filter(|account| !account.is_tombstone);
        known
            .map(|account| {
                (
                    account.did.clone(),
                    self.world.host_url(&state, account.host),
                )
            })
            .collect()
    }

    /// What a complete and correct backfill must end with, by DID. A deleted account whose document
    /// is still there looks to a client that did not ask the relay like one that its host does
    /// not know.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<String, Expected> {
        let state = self.world.lock();
        let is_on = |fault: &Fault| self.world.switches.is_on(*fault);
        let expected = |account: &accounts::Account| {
            let of_host = state.hosts[account.host].fault.filter(is_on);
            let of_account = account.fault.filter(is_on);
            match account.standing.status() {
                Some(status) => Expected::State(status),
                None if of_host.is_some() => Expected::Failed,
                None => of_account.map_or(Expected::Loaded, Fault::end_of_account),
            }
        };
        let all = state.accounts.iter();
        all.map(|account| (account.did.clone(), expected(account)))
            .collect()
    }

    /// The accounts that no host lists, since theirs are of no use now: they are found through the
    /// relay's list of repos or the PLC's export alone.
    #[must_use]
    pub fn unlisted(&self) -> BTreeSet<String> {
        let state = self.world.lock();
        let is_bad = |host: usize| {
            state.hosts[host]
                .fault
                .is_some_and(|fault| self.world.switches.is_on(fault))
        };
        let all = state.accounts.iter();
        all.filter(|account| account.standing != Standing::Deleted && is_bad(account.host))
            .map(|account| account.did.clone())
            .collect()
    }

    /// The active accounts on good hosts that no fault hits, on or off. Nothing that others do may
    /// cost them anything.
    #[must_use]
    pub fn honest(&self) -> BTreeSet<String> {
        let state = self.world.lock();
        let is_honest = |account: &&accounts::Account| {
            account.standing == Standing::Active
                && account.fault.is_none()
                && state.hosts[account.host].fault.is_none()
        };
        let all = state.accounts.iter().filter(is_honest);
        all.map(|account| account.did.clone()).collect()
    }

    /// What each host saw so far, in the order of [`Network::host_urls`].
    #[must_use]
    pub fn counts(&self) -> Vec<HostCounts> {
        let state = self.world.lock();
        let hosts = state.hosts.iter().zip(&self.world.meters);
        hosts
            .map(|(host, meter)| {
                let limit = self.world.limit(host.counting);
                let announces = limit.is_some() && host.counting == Counting::Announced;
                meter.counts(&host.authority, limit, announces)
            })
            .collect()
    }

    /// Forgets the counts so far. Limits go on.
    pub fn reset_counts(&self) {
        self.world.meters.iter().for_each(meter::Meter::reset);
    }

    /// The true CAR of an account now, whatever the faults; none if it is deleted or was never
    /// there.
    #[must_use]
    pub fn car(&self, did: &str) -> Option<Vec<u8>> {
        let source = {
            let state = self.world.lock();
            let number = *state.by_did.get(did)?;
            let account = &state.accounts[number];
            (account.standing != Standing::Deleted).then(|| Source::of(number, account))?
        };
        Some(
            self.world
                .cars
                .car(&source, &self.world.population)
                .to_vec(),
        )
    }

    /// The relay's last sequence number.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.world.lock().log.head()
    }

    /// The last sequence number of a PDS, by its place in [`Network::host_urls`].
    #[must_use]
    pub fn host_head(&self, host: usize) -> u64 {
        self.world.lock().hosts[host].log.head()
    }

    /// Prepares a life of the network from now on, all of it at once: commits, and what happens to
    /// accounts. It happens when it is played. Nothing else may change the network until then.
    #[must_use]
    pub fn live(&self, settings: &LiveSettings) -> Live {
        Live::prepare(&self.world, settings)
    }

    /// Lets the relay keep so many events from now on. What falls out is gone.
    pub fn set_replay_events(&self, n: usize) {
        self.world.lock().log.set_window(n);
    }

    /// Changes the network and lets the relay tell of it: of `changes`, each of a random account,
    /// 70 % are commits, 8 % deletions of accounts, 6 % deactivations or reactivations, 6 %
    /// moves and 10 % new accounts. The same seed does the same to the same network.
    pub fn change(&self, seed: u64, changes: usize) {
        change::change(&self.world, seed, changes);
    }

    /// Changes the network every second, so many times, until it is told to stop.
    pub fn change_until(&self, seed: u64, per_second: usize, is_stopped: impl Fn() -> bool) {
        let (mut changed, mut passes) = (Instant::now(), seed);
        while !is_stopped() {
            std::thread::sleep(LOOK);
            if per_second > 0 && changed.elapsed() > Duration::from_secs(1) {
                passes = passes.wrapping_add(1);
                self.change(passes, per_second);
                changed = Instant::now();
            }
        }
    }

    /// From now on, the network changes so many times before each answer to a request for the list
    /// of a host: a client that lists hosts is never done.
    pub fn change_at_lists(&self, changes: usize) {
        self.world.changes_at_lists.store(changes, Ordering::SeqCst);
    }

    /// Lets the relay drop the next so many subscribers: it says that they are too slow.
    pub fn drop_subscribers(&self, count: usize) {
        self.world.drops.store(count, Ordering::SeqCst);
    }

    /// From now on, requests for repos wait so long for their answers, those that are under way,
    /// too. An hour: a load stands still.
    pub fn delay_repos(&self, by: Duration) {
        self.world.delays.send_modify(|delays| delays.repos = by);
    }

    /// The same of requests for lists. An hour: a pass of discovery stands still.
    pub fn delay_lists(&self, by: Duration) {
        self.world.delays.send_modify(|delays| delays.lists = by);
    }

    /// Switches faults on and off. Those of single answers can be switched on at any time; of the
    /// others, only those that were on at the start have victims. What a fault did to the
    /// network itself, as a move, stays.
    ///
    /// # Panics
    /// The system gives no socket to a host that was dead.
    pub fn set_faults(&self, on: &[Fault]) {
        self.servers.set_faults(&self.world, on);
    }
}
