//! The operator's choices for requests to hosts: the User-Agent, the limits of a request, the pace,
//! and who is left out.

use crate::client::{Client, Limits, Redirects};
use crate::error::FetchError;
use crate::guard::Private;
use crate::opt_out::OptOut;
use crate::schedule::Settings;
use std::time::Duration;

/// The options of requests to hosts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The User-Agent of all requests.
    pub user_agent: String,
    /// Maximum concurrent requests, over all hosts; `None` means the default of the command.
    pub concurrency: Option<usize>,
    /// Maximum rate over all hosts, in requests per second.
    pub max_rate: Option<f64>,
    /// Maximum rate per host that announces no limit, in requests per second.
    pub host_rate: f64,
    /// Time for which a host that does not respond is retried, and for which a run waits for hosts
    /// that deliver almost nothing.
    pub patience: Duration,
    /// Maximum time of one attempt at a repo.
    pub total: Duration,
    /// Time without a byte after which a response counts as stalled.
    pub stall: Duration,
    /// Attempts per repo before it counts as failed.
    pub max_attempts: u32,
    /// Maximum size of a repo, in bytes after decompression.
    pub max_repo_bytes: u64,
    /// Whether all hosts may be on private networks and on this machine.
    pub allow_private_hosts: bool,
    /// URLs of the hosts that the operator named, which may be there in any case.
    pub named: Vec<String>,
    /// Hosts and accounts that are left out.
    pub opt_out: OptOut,
}

impl Options {
    /// Hosts that may be on private networks.
    #[must_use]
    pub fn private(&self) -> Private {
        Private::named(self.named.iter().map(String::as_str)).or_all(self.allow_private_hosts)
    }

    /// The limits of a request for a body of at most `bytes`.
    #[must_use]
    pub fn limits(&self, bytes: u64, redirects: Redirects) -> Limits {
        Limits {
            total: self.total,
            stall: self.stall,
            bytes,
            private: self.private(),
            redirects,
        }
    }

    /// A client for repos.
    ///
    /// # Errors
    /// See [`Client::new`].
    pub fn client(&self, redirects: Redirects) -> Result<Client, FetchError> {
        Client::new(
            &self.user_agent,
            self.limits(self.max_repo_bytes, redirects),
        )
    }

    /// The pace of hosts, with `slots` concurrent requests unless the operator chose another
    /// number.
    #[must_use]
    pub fn pace(&self, slots: usize) -> Settings {
        Settings {
            slots: self.concurrency.unwrap_or(slots),
            max_rate: self.max_rate,
            host_rate: self.host_rate,
            patience: self.patience,
        }
    }
}
