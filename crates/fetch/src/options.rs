//! How an operator wants hosts to be asked: who asks, the limits of a request, the pace, and who is
//! left out.

use crate::error::FetchError;
use crate::get_repo::{Client, Limits, Redirects};
use crate::guard::Private;
use crate::opt_out::OptOut;
use crate::schedule::Settings;
use std::time::Duration;

/// How hosts are asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The User-Agent of all requests.
    pub user_agent: String,
    /// Maximum concurrent requests, over all hosts; without it, each command has its own number.
    pub concurrency: Option<usize>,
    /// Most requests per second, to all hosts.
    pub max_rate: Option<f64>,
    /// Most requests per second to a host that announces no limit.
    pub host_rate: f64,
    /// For so long a host that does not answer is tried again, and a run waits for hosts that
    /// hardly give anything.
    pub patience: Duration,
    /// Time for one attempt at a repo.
    pub total: Duration,
    /// Time without a byte after which a host counts as stalled.
    pub stall: Duration,
    /// Attempts at a repo before it has failed.
    pub max_attempts: u32,
    /// Largest repo, in bytes after decompression.
    pub max_repo_bytes: u64,
    /// Whether all hosts may lie on private networks and on this machine.
    pub allow_private_hosts: bool,
    /// URLs of the hosts that the operator names: these may lie there in any case.
    pub named: Vec<String>,
    /// Hosts and accounts that are left out.
    pub opt_out: OptOut,
}

impl Options {
    /// Which hosts may lie on private networks.
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

    /// How hosts are paced, with `slots` concurrent requests unless the operator wants another
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
