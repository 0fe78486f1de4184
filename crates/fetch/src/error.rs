//! Everything that a request for a repo can end in, as closed types.

use observe::{printable, units};
use std::fmt;
use std::time::Duration;

/// Maximum ratio of decompressed to compressed size.
pub const MAX_RATIO: u64 = 100;

/// Why an account has no repo to fetch (errors of `com.atproto.sync.getRepo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountState {
    /// `RepoNotFound`: this host does not hold it.
    NotFound,
    /// `RepoDeactivated`: its owner deactivated it.
    Deactivated,
    /// `RepoTakendown`: its host took it down.
    Takendown,
    /// `RepoSuspended`: its host suspended it.
    Suspended,
}

impl AccountState {
    /// The state that an XRPC error name stands for.
    #[must_use]
    pub fn of_error(name: &str) -> Option<Self> {
        match name {
            "RepoNotFound" => Some(Self::NotFound),
            "RepoDeactivated" => Some(Self::Deactivated),
            "RepoTakendown" => Some(Self::Takendown),
            "RepoSuspended" => Some(Self::Suspended),
            _ => None,
        }
    }

    /// One word for summaries.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Deactivated => "deactivated",
            Self::Takendown => "takendown",
            Self::Suspended => "suspended",
        }
    }
}

/// Why a request brought no repo.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// The account has none.
    Account(AccountState),
    /// Status 429, and how long to wait, if the host said so.
    RateLimited(Option<Duration>),
    /// Status 5xx, and how long to wait, if the host said so.
    Server(u16, Option<Duration>),
    /// Any other status than 200, with the name of the error if there is one.
    Refused(u16, String),
    /// The PDS is not an http or https URL with a host.
    BadUrl(String),
    /// The address is private, loopback or otherwise not on the public internet.
    Blocked(String),
    /// The name does not resolve, nobody accepts the connection, or TLS fails.
    Connect(String),
    /// Nothing, or next to nothing, arrived for too long.
    Stalled(Duration),
    /// The request took longer than allowed.
    TooSlow(Duration),
    /// The body is larger than a repo may be, in bytes.
    TooLarge(u64),
    /// The body decompresses to more than its compressed size allows.
    Swollen {
        /// Its compressed size, in bytes.
        packed: u64,
    },
    /// Too many redirects, or one that leads nowhere.
    Redirect(String),
    /// The body broke off or cannot be decoded.
    BrokenBody(String),
    /// The body is not a complete repo; `true` if another attempt may bring one.
    BadRepo(String, bool),
    /// The host did not respond within its patience, or asked for a longer pause than that.
    HostAway(Duration),
    /// Its host no longer has it, and its present host could not be found.
    NoDocument(String),
    /// skyfill was asked to stop first.
    Stopped,
    /// The repo is complete but not trusted: a short name, and the reason.
    Untrusted(&'static str, String),
    /// There is no disk space for the body.
    Spool(String),
}

impl FetchError {
    /// A short name for summaries, the same for all errors of a kind.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Account(state) => state.word(),
            Self::RateLimited(_) => "rate limited",
            Self::Server(..) => "server error",
            Self::Refused(..) => "refused",
            Self::BadUrl(_) => "bad PDS URL",
            Self::Blocked(_) => "blocked address",
            Self::Connect(_) => "no connection",
            Self::Stalled(_) => "stalled",
            Self::TooSlow(_) => "timed out",
            Self::TooLarge(_) | Self::Swollen { .. } => "too large",
            Self::Redirect(_) => "bad redirect",
            Self::BrokenBody(_) => "broken body",
            Self::BadRepo(..) => "bad repo",
            Self::HostAway(_) => "host away",
            Self::NoDocument(_) => "no DID document",
            Self::Stopped => "stopped",
            Self::Untrusted(reason, _) => reason,
            Self::Spool(_) => "no space",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        match self {
            Self::Account(_) | Self::RateLimited(_) | Self::Stopped => write!(f, "{reason}"),
            Self::Server(status, _) => write!(f, "{reason}: status {status}"),
            Self::Refused(status, name) => {
                write!(f, "{reason}: status {status} {}", printable(name))
            }
            Self::BadUrl(why)
            | Self::Connect(why)
            | Self::Redirect(why)
            | Self::BrokenBody(why)
            | Self::BadRepo(why, _)
            | Self::NoDocument(why)
            | Self::Untrusted(_, why)
            | Self::Spool(why) => write!(f, "{reason}: {}", printable(why)),
            Self::Blocked(address) => {
                write!(
                    f,
                    "{reason}: {} is not on the public internet (--allow-private-hosts lets it pass)",
                    printable(address)
                )
            }
            Self::Stalled(time) => write!(
                f,
                "{reason}: nothing, or next to nothing, arrived for {} s",
                time.as_secs()
            ),
            Self::TooSlow(time) => write!(f, "{reason}: not complete after {} s", time.as_secs()),
            Self::HostAway(time) => {
                write!(
                    f,
                    "{reason}: it does not respond, or asked for a pause; retried after {}",
                    units::rough(*time)
                )
            }
            Self::TooLarge(bytes) => write!(f, "{reason}: more than {bytes} bytes"),
            Self::Swollen { packed } => write!(
                f,
                "{reason}: its {packed} bytes decompress to more than {MAX_RATIO} times as many"
            ),
        }
    }
}

impl std::error::Error for FetchError {}
