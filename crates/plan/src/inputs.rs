//! What a plan is calculated from, beside the costs: the work, the machine, and how large a load
//! is.

use crate::costs::to_float;

/// Repos per page of a host's list, which counts as a request of that host.
const PAGE: u64 = 1000;

/// Requests per second that a host of Bluesky's answers: 3,000 in five minutes.
pub const HOST_RATE: f64 = 10.0;

/// The full network, as it was counted in 2026 (DESIGN.md, section 10).
pub const FULL_NETWORK: Counts = Counts {
    repos: 45_000_000,
    records: 20_000_000_000,
    hosts: 3200,
    fullest: 500_000,
};

/// How much there is of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Repos.
    pub repos: u64,
    /// Their records.
    pub records: u64,
    /// Hosts that have them.
    pub hosts: u64,
    /// Repos of the fullest host.
    pub fullest: u64,
}

/// The host that has the most of the repos.
#[derive(Clone, Debug, PartialEq)]
pub struct Fullest {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Its repos.
    pub repos: u64,
    /// Requests per second that it answers.
    pub rate: f64,
}

impl Fullest {
    /// Seconds that it takes: a request for each repo, and one for each page of its list.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let requests = self.repos.saturating_add(self.repos.div_ceil(PAGE));
        to_float(requests) / self.rate.max(f64::MIN_POSITIVE)
    }
}

/// Where the numbers of the work come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing is known: the full network.
    FullNetwork,
    /// The operator gave repos or records; the rest is as in the full network.
    Given,
    /// Repos that the ledger has as pending, with so many records per repo as the full network has.
    Ledger,
    /// The same, with so many records per repo as those have that are loaded.
    LedgerAndLoaded,
    /// The lines of a DID file, or the repos of an archive.
    Named,
}

/// What is to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Repos.
    pub repos: u64,
    /// Their records.
    pub records: u64,
    /// Hosts that have them.
    pub hosts: u64,
    /// The fullest of them; nothing, if no host is asked.
    pub fullest: Option<Fullest>,
    /// Where these numbers come from.
    pub basis: Basis,
}

impl Work {
    /// The full network.
    #[must_use]
    pub fn full_network() -> Self {
        let Counts {
            repos,
            records,
            hosts,
            fullest,
        } = FULL_NETWORK;
        Self {
            repos,
            records,
            hosts,
            fullest: Some(Fullest {
                name: None,
                repos: fullest,
                rate: HOST_RATE,
            }),
            basis: Basis::FullNetwork,
        }
    }

    /// So many repos, so many records or both; what is not given is in proportion to the full
    /// network.
    #[must_use]
    pub fn given(repos: Option<u64>, records: Option<u64>) -> Self {
        let full = FULL_NETWORK;
        let (repos, records) = match (repos, records) {
            (None, None) => return Self::full_network(),
            (Some(repos), None) => (repos, in_proportion(repos, full.records, full.repos)),
            (None, Some(records)) => (
                in_proportion(records, full.repos, full.records).max(1),
                records,
            ),
            (Some(repos), Some(records)) => (repos, records),
        };
        let fullest = in_proportion(repos, full.fullest, full.repos);
        Self {
            repos,
            records,
            hosts: full.hosts.min(repos),
            fullest: Some(Fullest {
                name: None,
                repos: fullest.max(1),
                rate: HOST_RATE,
            }),
            basis: Basis::Given,
        }
    }
}

/// Records of so many repos, if they have as many as those of the full network.
#[must_use]
pub fn average_records(repos: u64) -> u64 {
    in_proportion(repos, FULL_NETWORK.records, FULL_NETWORK.repos)
}

/// `number * of / all`, whatever they are.
#[must_use]
pub fn in_proportion(number: u64, of: u64, all: u64) -> u64 {
    let product = u128::from(number) * u128::from(of) / u128::from(all.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// The machine of skyfill and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory: u64,
    /// Free disk where the database lies, in bytes, if it is known.
    pub free: Option<u64>,
    /// What the disk takes and gives in one stream, in bytes per second, if it is known.
    pub disk_rate: Option<u64>,
    /// Whether skyfill and PostgreSQL share its cores. Else each has as many.
    pub is_shared: bool,
}

/// How large a load is, by its arguments and the server's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Threads that check and encode.
    pub threads: usize,
    /// Connections that load, and that the later phases work on.
    pub connections: usize,
    /// Concurrent requests.
    pub slots: usize,
    /// Memory of skyfill, in bytes.
    pub memory: u64,
    /// Index builds at once.
    pub builds: usize,
    /// Their memory, in bytes.
    pub build_memory: u64,
    /// Processes that sort for them.
    pub build_processes: usize,
    /// PostgreSQL's `shared_buffers`, in bytes.
    pub shared_buffers: u64,
    /// PostgreSQL's `max_wal_size`, in bytes.
    pub max_wal: u64,
    /// A load freezes a table when it has grown by so many bytes,
    pub freeze_step: u64,
    /// and by this part of its own size.
    pub freeze_part: u64,
    /// Connections that compare the tables with the commits.
    pub verifiers: usize,
    /// Accounts that are looked up at once.
    pub look_ups: usize,
    /// Requests per second to the PLC directory.
    pub directory_rate: f64,
    /// Accounts from which on their documents come from the directory's export, beside the load.
    pub export_from: u64,
    /// Accounts from which on [`Handles::Auto`] stores handles as claimed first.
    pub claims_from: u64,
}

/// What is done about handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handles {
    /// Those of many accounts are stored as claimed and verified later; others are verified.
    Auto,
    /// They are verified, in a phase of their own.
    Verified,
    /// They are stored as claimed, to be verified later.
    Claimed,
    /// The accounts are left alone.
    Skipped,
}

/// What a load leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is done about handles.
    pub handles: Handles,
    /// Whether the tables are compared with the signed commits at the end.
    pub verifies: bool,
    /// Whether notifications are stored.
    pub notifies: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// What is to be loaded.
    pub work: Work,
    /// Where.
    pub machine: Machine,
    /// How.
    pub sizes: Sizes,
    /// What of it.
    pub choice: Choice,
}

impl Inputs {
    /// Whether handles are verified after all phases, beside an AppView that serves.
    #[must_use]
    pub fn verifies_later(&self) -> bool {
        match self.choice.handles {
            Handles::Auto => self.work.repos >= self.sizes.claims_from,
            Handles::Claimed => true,
            Handles::Verified | Handles::Skipped => false,
        }
    }

    /// An example, for tests and for whoever tries out a change: the full network on a machine with
    /// 64 cores, 256 GiB of memory and 1 TiB of free disk.
    #[must_use]
    pub fn example() -> Self {
        Self {
            work: Work::full_network(),
            machine: Machine {
                cores: 64,
                memory: 256 << 30,
                free: Some(1 << 40),
                disk_rate: None,
                is_shared: true,
            },
            sizes: Sizes {
                threads: 64,
                connections: 16,
                slots: 2048,
                memory: 16 << 30,
                builds: 16,
                build_memory: 62 << 30,
                build_processes: 24,
                shared_buffers: 8 << 30,
                max_wal: 8 << 30,
                freeze_step: 512 << 20,
                freeze_part: 400,
                verifiers: 8,
                look_ups: 32,
                directory_rate: 20.0,
                export_from: 300_000,
                claims_from: 300_000,
            },
            choice: Choice {
                handles: Handles::Auto,
                verifies: true,
                notifies: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_in_proportion_to_the_full_network() {
        let whole = Work::given(Some(FULL_NETWORK.repos), None);
        assert_eq!(
            (whole.records, whole.hosts),
            (FULL_NETWORK.records, FULL_NETWORK.hosts)
        );
        let tenth = Work::given(None, Some(2_000_000_000));
        assert_eq!(tenth.repos, 4_500_000);
        assert_eq!(tenth.fullest.map(|host| host.repos), Some(50_000));
        let both = Work::given(Some(10), Some(7));
        assert_eq!((both.repos, both.records, both.hosts), (10, 7, 10));
        assert_eq!(Work::given(None, None), Work::full_network());
        // Whatever is given.
        assert_eq!(Work::given(Some(0), None).records, 0);
        assert!(Work::given(Some(u64::MAX), None).records > 0);
        assert_eq!(average_records(90), 40_000);
    }
}
