//! How a practice network is made.

use super::fault::Fault;
use super::meter::Limit;
use std::net::{IpAddr, Ipv4Addr};

/// What a network is made from.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// The same seed gives the same network.
    pub seed: u64,
    /// Accounts in all.
    pub repos: usize,
    /// Records in all, about.
    pub records: usize,
    /// PDSes, at least 1.
    pub hosts: usize,
    /// Which kinds of fault are on. None of them: a good network.
    pub faults: Vec<Fault>,
    /// Accounts of one more host, which means harm. If there are any, the faults hit that host and
    /// its accounts, and nobody else.
    pub hostile_accounts: usize,
    /// The limit of hosts that have one, announced or not ([`Fault::Limits429`],
    /// [`Fault::Silent429`], [`Fault::SharedAddress`]).
    pub limit: Option<Limit>,
    /// Share of all repos that the first host holds; at least 1.2 times the average, so that it is
    /// the fullest. The sizes of the others fall off like 1/rank.
    pub fullest_share: f64,
    /// Events that the relay keeps for subscribers.
    pub replay_events: usize,
    /// Maximum number of lines of a page of a list.
    pub page: usize,
    /// Whether the relay tells a subscriber that its cursor is too old. Not all relays do.
    pub tells_outdated: bool,
    /// The address at which everything listens.
    pub address: IpAddr,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            repos: 50,
            records: 20_000,
            hosts: 1,
            faults: Vec::new(),
            hostile_accounts: 0,
            limit: None,
            fullest_share: 0.2,
            replay_events: 100_000,
            page: 1000,
            tells_outdated: true,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}
