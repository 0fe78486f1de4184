//! Where a dashboard listens, and what that needs.

use crate::guard::Guard;
use crate::keys::{Keys, Token};
use crate::live::Live;
use crate::made::Made;
use crate::origin::Origin;
use crate::shared::Served;
use crate::stored::Stored;
use crate::{serve, stored};
use process::Failure;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How a dashboard is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks one that is free.
    pub address: SocketAddr,
    /// What whoever asks has to know. Needed unless only this machine can ask.
    pub token: Option<Token>,
    /// Names under which browsers reach it, besides `localhost` and addresses.
    pub names: Vec<String>,
    /// Where its data comes from.
    pub origin: Origin,
}

/// Why a dashboard cannot be served.
#[derive(Debug)]
pub enum ListenError {
    /// Other machines can reach the address, and there is no token.
    NeedsToken(SocketAddr),
    /// The system refused the address.
    Refused(SocketAddr, io::Error),
    /// The system gave no thread.
    NoThread(io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsToken(address) => write!(
                f,
                "a dashboard on {address} can be reached from other machines, and needs a token"
            ),
            Self::Refused(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::NoThread(error) => write!(f, "cannot start the dashboard's thread: {error}"),
        }
    }
}

impl std::error::Error for ListenError {}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::NeedsToken(_) => Failure::usage(error).hint(
                "set SKYFILL_LISTEN_TOKEN or --listen-token-file, or listen at 127.0.0.1 and use an SSH tunnel",
            ),
            ListenError::Refused(..) => Failure::new(error)
                .hint("name another address or port with --listen; port 0 picks one that is free"),
            ListenError::NoThread(_) => Failure::new(error),
        }
    }
}

/// A dashboard that is served until the process ends.
pub struct Dashboard {
    address: SocketAddr,
    shared: Arc<Served>,
}

impl Dashboard {
    /// Listens, and serves from a thread of its own.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn start(options: &Options) -> Result<Self, ListenError> {
        let wanted = options.address;
        if !wanted.ip().is_loopback() && options.token.is_none() {
            return Err(ListenError::NeedsToken(wanted));
        }
        let refused = |error| ListenError::Refused(wanted, error);
        let listener = TcpListener::bind(wanted).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let names = options.names.iter();
        let shared = Arc::new(Served {
            origin: options.origin,
            guard: Guard {
                names: names.map(|name| name.to_ascii_lowercase()).collect(),
                keys: Keys::new(options.token.clone()),
                cookie: format!("skyfill_{}", address.port()),
            },
            live: Mutex::new(Live::new(options.origin)),
            stored: Arc::new(Stored::default()),
            made: Made::default(),
        });
        serve::start(listener, &shared).map_err(ListenError::NoThread)?;
        Ok(Self { address, shared })
    }

    /// From now on it shows this database, too. Only the first one counts.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn shows(&self, url: &str, schema: &str) -> io::Result<()> {
        stored::start(&self.shared.stored, url, schema, self.shared.origin)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The link to open: with a key that is good once, where a token is needed.
    #[must_use]
    pub fn link(&self) -> String {
        let page = format!("http://{}/", self.address);
        if self.shared.guard.keys.is_open() {
            return page;
        }
        match self.shared.guard.keys.make_link(Instant::now()) {
            Some(key) => format!("{page}sign-in?key={key}"),
            None => page,
        }
    }
}
