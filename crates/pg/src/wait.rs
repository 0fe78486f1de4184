//! Waiting for the server: one way, for everybody.

use crate::{DbError, Decision, connect, decide};
use postgres::Client;
use std::fmt;
use std::time::{Duration, Instant};

/// Longest time between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(6400);
/// How often a sleeping thread looks whether it is told to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What tells whoever waits to stop.
pub trait Halt: Sync {
    /// Whether to stop.
    fn is_set(&self) -> bool;
}

impl<F: Fn() -> bool + Sync> Halt for F {
    fn is_set(&self) -> bool {
        self()
    }
}

/// Whoever waits: what tells it to stop, and where it says what it waits for.
#[derive(Clone, Copy)]
pub struct Waits<'w> {
    /// Whether to stop.
    pub stop: &'w dyn Halt,
    /// Takes a line for people.
    pub say: &'w (dyn Fn(&str) + Sync),
}

impl Waits<'static> {
    /// Waits for ever, and says nothing: for tests, and for work that ends by itself.
    pub const SILENT: Self = Self {
        stop: &|| false,
        say: &|_| {},
    };
}

impl Waits<'_> {
    /// Sleeps; false if it was told to stop before that was over.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.stop.is_set() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

impl fmt::Debug for Waits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

/// A wait that is under way: how long, and for how many tries.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    since: Instant,
    tries: u32,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            tries: 0,
        }
    }
}

impl Waiting {
    /// How often it was tried.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// After an error that waiting may mend: says so, not too often, and pauses, a little longer
    /// each time.
    ///
    /// # Errors
    /// `error`, if waiting does not mend it; [`crate::DbErrorKind::Stopped`], if it is told to
    /// stop.
    pub fn pause(&mut self, error: DbError, waits: Waits<'_>) -> Result<(), DbError> {
        if !matches!(decide(&error), Decision::Reconnect | Decision::Wait) {
            return Err(error);
        }
        if self.tries == 0 {
            self.since = Instant::now();
        }
        self.tries += 1;
        if self.tries.is_power_of_two() {
            let waited = self.since.elapsed().as_secs();
            (waits.say)(&format!(
                "waiting for the database, try {}, for {waited} s: {error}",
                self.tries
            ));
        }
        let pause = Duration::from_millis(100 << self.tries.min(6)).min(MAX_PAUSE);
        tracing::debug!(%error, tries = self.tries, ?pause, "the database is tried again");
        if waits.sleep(pause) {
            Ok(())
        } else {
            Err(DbError::stopped(&format!("the database: {error}")))
        }
    }
}

/// A connection that comes back: steps are done on it, and done again on a new one when the server
/// went away or could not do them now.
pub struct Persistent<'p> {
    url: &'p str,
    setup: Setup<'p>,
    client: Option<Client>,
    waits: Waits<'p>,
}

/// What a new session begins with: settings, and locks that it holds as long as it lives.
type Setup<'p> = Box<dyn FnMut(&mut Client) -> Result<(), DbError> + Send + 'p>;

impl<'p> Persistent<'p> {
    /// Connects when it is needed.
    #[must_use]
    pub fn new(url: &'p str, waits: Waits<'p>) -> Self {
        Self {
            url,
            setup: Box::new(|_| Ok(())),
            client: None,
            waits,
        }
    }

    /// Does `setup` in each new session.
    #[must_use]
    pub fn with_setup(
        mut self,
        setup: impl FnMut(&mut Client) -> Result<(), DbError> + Send + 'p,
    ) -> Self {
        self.setup = Box::new(setup);
        self
    }

    /// Does `step`; when the server goes away or is busy, waits and does it again, until it is told
    /// to stop.
    ///
    /// # Errors
    /// What waiting does not mend; or the last error, if it was told to stop.
    pub fn run<T, E: Into<DbError>>(
        &mut self,
        mut step: impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, DbError> {
        let mut waiting = Waiting::default();
        loop {
            let error = match self.once(&mut step) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            self.client = None;
            waiting.pause(error, self.waits)?;
        }
    }

    fn once<T, E: Into<DbError>>(
        &mut self,
        step: &mut impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, DbError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = connect(self.url)?;
            (self.setup)(&mut client)?;
            self.client = Some(client);
        }
        let client = self
            .client
            .as_mut()
            .ok_or_else(|| DbError::lost("not connected"))?;
        step(client).map_err(Into::into)
    }
}
