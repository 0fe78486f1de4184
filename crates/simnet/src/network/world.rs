//! What all servers of a network look at.

use super::accounts::{Counting, State};
use super::cars::Cars;
use super::fault::{Fault, Switches};
use super::meter::{Limit, Meter};
use super::settings::NetworkSettings;
use crate::Population;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long PDSes wait before they answer.
#[derive(Clone, Copy, Default)]
pub(super) struct Delays {
    pub(super) lists: Duration,
    pub(super) repos: Duration,
}

/// The network behind its servers.
pub(super) struct World {
    pub(super) population: Population,
    pub(super) switches: Switches,
    pub(super) cars: Cars,
    /// One for each host.
    pub(super) meters: Vec<Meter>,
    /// Held while the network is changed on purpose.
    pub(super) changing: Mutex<()>,
    /// Changes that happen before each answer to a request for a host's list.
    pub(super) changes_at_lists: AtomicUsize,
    /// How often that was the case.
    pub(super) lists: AtomicU64,
    /// Subscribers that the relay still drops as too slow.
    pub(super) drops: AtomicUsize,
    pub(super) delays: watch::Sender<Delays>,
    pub(super) state: Mutex<State>,
    pub(super) settings: NetworkSettings,
}

impl World {
    /// The network as it is now.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// URL of a host.
    pub(super) fn host_url(&self, state: &State, host: usize) -> String {
        let host = &state.hosts[host];
        let is_https =
            host.fault == Some(Fault::TlsFailure) && self.switches.is_on(Fault::TlsFailure);
        format!(
            "http{}://{}",
            if is_https { "s" } else { "" },
            host.authority
        )
    }

    /// Waits as long as a request of this kind is to wait, even if that changes meanwhile.
    pub(super) async fn delay(&self, of: impl Fn(&Delays) -> Duration) {
        let (began, mut delays) = (Instant::now(), self.delays.subscribe());
        loop {
            let left = of(&delays.borrow_and_update()).saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            drop(tokio::time::timeout(left, delays.changed()).await);
        }
    }

    /// The limit of hosts that count in this way.
    pub(super) fn limit(&self, counting: Counting) -> Option<Limit> {
        let (fault, times) = match counting {
            Counting::Not => return None,
            Counting::Announced => (Fault::Limits429, 1),
            Counting::Silent => (Fault::Silent429, 1),
            Counting::Shared => (Fault::SharedAddress, 2),
        };
        let limit = self.settings.limit.filter(|_| self.switches.is_on(fault))?;
        Some(Limit {
            requests: limit.requests.saturating_mul(times),
            ..limit
        })
    }
}
