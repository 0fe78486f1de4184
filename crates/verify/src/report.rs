//! The result of a comparison, by host.

use ledger::states::State;
use std::collections::BTreeMap;

/// Counts for one host.
#[derive(Clone, Debug, Default)]
pub struct HostCounts {
    /// Repos by their state.
    pub states: BTreeMap<State, u64>,
    /// Repos that were compared.
    pub verified: u64,
    /// Of those, repos with findings.
    pub differing: u64,
    /// Stored records in the trees of compared repos.
    pub records: u64,
    /// Skipped records in those trees, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By host.
    pub hosts: BTreeMap<String, HostCounts>,
    /// Number of differences between tables and commits.
    pub differences: u64,
    /// Accounts with differences.
    pub differing: Vec<String>,
    /// Rows of accounts that skyfill never loaded, by account.
    pub never_loaded: BTreeMap<String, u64>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

impl HostCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (state, repos) in &other.states {
            *self.states.entry(*state).or_default() += repos;
        }
        for (reason, records) in &other.skipped {
            *self.skipped.entry(reason.clone()).or_default() += records;
        }
        self.verified += other.verified;
        self.differing += other.differing;
        self.records += other.records;
    }
}
