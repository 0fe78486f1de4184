//! Waiting for the server: one way, for everybody.

use crate::{Connection, DbError, Decision, decide, is_transient};
use postgres::Client;
use std::fmt;
use std::time::{Duration, Instant};

/// Longest time between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(6400);
/// How often a sleeping thread looks whether it is stopped.
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
    /// Sleeps; false if it was stopped before that was over.
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

/// How long a step takes, which says how often it is worth beginning again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Seconds: a statement, a transaction.
    Short,
    /// Up to hours: an index, a comparison of all tables.
    Long,
}

/// A long step that the server cannot do now, because its disk is full, say, is begun so often.
const MOST_LONG_TRIES: u32 = 6;
/// A short step that fails so long after the last failure fails for a new reason: it is waited for
/// as if for the first time.
const NEW_REASON: Duration = Duration::from_secs(60);

/// Does `work`; when the server goes away or cannot do it now, waits and does it again. The one
/// loop of its kind: what to do about an error is decided by [`decide`] and carried out here.
///
/// The policy: whoever is stopped gives up; a server that is away is waited for until then,
/// and so is one that cannot do a short step; a long one is begun a few times.
///
/// # Errors
/// What waiting does not mend; [`crate::DbErrorKind::Stopped`], if it was stopped.
pub fn persist<T, E: Into<DbError>>(
    step: Step,
    waits: Waits<'_>,
    work: impl FnMut() -> Result<T, E>,
) -> Result<T, DbError> {
    persist_with(step, waits, |pause| waits.sleep(pause), work)
}

/// The same, with what pauses and answers whether it came to its end.
fn persist_with<T, E: Into<DbError>>(
    step: Step,
    waits: Waits<'_>,
    sleep: impl Fn(Duration) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, DbError> {
    let mut waiting = Waiting::default();
    loop {
        let error = match work() {
            Ok(done) => return Ok(done),
            Err(error) => error.into(),
        };
        let pause = waiting
            .on_error(&error, step, waits)
            .ok_or_else(|| error.clone())?;
        if !sleep(pause) {
            return Err(DbError::stopped(&format!("the database: {error}")));
        }
        waiting.tried_at = Instant::now();
    }
}

/// A wait that is under way.
struct Waiting {
    since: Instant,
    /// When the last pause was over.
    tried_at: Instant,
    tries: u32,
}

impl Default for Waiting {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            tried_at: now,
            tries: 0,
        }
    }
}

impl Waiting {
    /// After an error that waiting may mend: says so, not too often; how long to pause, a little
    /// longer each time. Nothing after any other error.
    fn on_error(&mut self, error: &DbError, step: Step, waits: Waits<'_>) -> Option<Duration> {
        let decision = decide(error);
        if !is_transient(error) {
            return None;
        }
        if step == Step::Short && self.tried_at.elapsed() > NEW_REASON {
            self.tries = 0;
        }
        if self.tries == 0 {
            self.since = Instant::now();
        }
        self.tries += 1;
        if step == Step::Long && decision == Decision::Wait && self.tries >= MOST_LONG_TRIES {
            return None;
        }
        if self.tries.is_power_of_two() {
            let waited = self.since.elapsed().as_secs();
            (waits.say)(&format!(
                "waiting for the database, try {}, for {waited} s: {error}",
                self.tries
            ));
        }
        let pause = Duration::from_millis(100 << self.tries.min(6)).min(MAX_PAUSE);
        tracing::debug!(%error, tries = self.tries, ?pause, "the database is tried again");
        Some(pause)
    }
}

/// A connection that comes back: steps are done on it, and done again on a new one when the server
/// went away or could not do them now.
pub struct Persistent<'p> {
    url: &'p str,
    setup: Setup<'p>,
    client: Option<Connection>,
    waits: Waits<'p>,
}

/// What a session begins with: settings, and locks that it holds as long as the value lives.
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
    /// See [`persist`].
    pub fn run<T, E: Into<DbError>>(
        &mut self,
        mut step: impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, DbError> {
        let waits = self.waits;
        persist(Step::Short, waits, || {
            let outcome = self.once(&mut step);
            if outcome.is_err()
                && let Some(client) = self.client.take()
            {
                client.close();
            }
            outcome
        })
    }

    fn once<T, E: Into<DbError>>(
        &mut self,
        step: &mut impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, DbError> {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            let mut client = Connection::open(self.url)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DbErrorKind;
    use std::sync::Mutex;

    /// Work that fails so often with this code, and how often it was done.
    fn work<'w>(
        code: &'static str,
        failures: u32,
        done: &'w mut u32,
    ) -> impl FnMut() -> Result<u32, DbError> + 'w {
        move || {
            *done += 1;
            if *done > failures {
                return Ok(*done);
            }
            Err(DbError::of_server(code, "no"))
        }
    }

    #[test]
    fn what_waiting_mends_is_done_again_and_nothing_else() {
        for (code, step, failures, times) in [
            ("57P01", Step::Short, 2, 3),
            ("53100", Step::Short, 2, 3),
            ("57P01", Step::Long, 2, 3),
            ("53100", Step::Long, 2, 3),
            ("42501", Step::Short, 2, 1),
            ("23505", Step::Long, 2, 1),
        ] {
            let mut done = 0;
            let outcome = persist_with(
                step,
                Waits::SILENT,
                |_| true,
                work(code, failures, &mut done),
            );
            assert_eq!(outcome.is_ok(), times > failures, "{code}");
            assert_eq!(done, times, "{code}");
        }
    }

    #[test]
    fn a_long_step_that_the_server_cannot_do_is_begun_a_few_times() {
        let mut done = 0;
        let lines = Mutex::new(Vec::new());
        let waits = Waits {
            stop: &|| true,
            say: &|line: &str| lines.lock().unwrap().push(line.to_owned()),
        };
        let work_of = work("53100", 99, &mut done);
        let error = persist_with(Step::Long, waits, |_| true, work_of).unwrap_err();
        assert_eq!((error.kind, done), (DbErrorKind::Busy, MOST_LONG_TRIES));
        assert_eq!(lines.lock().unwrap().len(), 3);
        // Whoever is stopped does not wait at all.
        let mut done = 0;
        let error = persist(Step::Long, waits, work("57P01", 99, &mut done)).unwrap_err();
        assert_eq!((error.kind, done), (DbErrorKind::Stopped, 1));
    }
}
