//! What the threads that follow a stream share.

use crate::run::Session;
use observe::Counter;
use process::{Failure, threads};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// A relay of which it is unknown what is missing after the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) relay: String,
    pub(super) cursor: i64,
    pub(super) why: LostWhy,
}

/// Why events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LostWhy {
    /// The relay no longer has all of them.
    Forgotten,
    /// The relay has no event as late as the cursor.
    Renumbered,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relay, cursor) = (&self.relay, self.cursor);
        match self.why {
            LostWhy::Forgotten => write!(f, "{relay} no longer has all events after {cursor}"),
            LostWhy::Renumbered => write!(
                f,
                "{relay} has no event as late as {cursor}: its numbers began anew"
            ),
        }
    }
}

/// What the threads share.
pub(super) struct Following<'s> {
    pub(super) session: &'s Session<'s>,
    /// Whether everything is stored that was asked for.
    pub(super) is_done: AtomicBool,
    /// Rounds in a row in which no repo was behind that had not been tried.
    pub(super) fetched: AtomicU64,
    /// Rounds in a row in which no account was due, and no repo was about to make one due.
    pub(super) looked_up: AtomicU64,
    /// Events that were received and are not verified yet.
    pub(super) received: AtomicU64,
    /// Repos that were compared with their commits, and those that differed.
    pub(super) proved: Counter,
    pub(super) differing: Counter,
    /// Whether all events are stored that will be.
    pub(super) is_stored: AtomicBool,
    /// Whether all derived rows are computed: whoever stores records meanwhile lets that begin
    /// anew.
    pub(super) is_computing: Arc<AtomicBool>,
    /// Events that are lost, if any are: following ends.
    pub(super) lost: OnceLock<Lost>,
}

impl<'s> Following<'s> {
    pub(super) fn new(session: &'s Session<'s>) -> Self {
        Self {
            session,
            is_done: AtomicBool::new(false),
            fetched: AtomicU64::new(0),
            looked_up: AtomicU64::new(0),
            received: AtomicU64::new(0),
            proved: Counter::rated("repos_proved", "repos proved"),
            differing: Counter::counted("repos_differing", "repos that differ"),
            is_stored: AtomicBool::new(false),
            is_computing: Arc::default(),
            lost: OnceLock::new(),
        }
    }

    /// Whether to end.
    pub(super) fn is_over(&self) -> bool {
        self.session.stop.is_set() || self.is_done.load(Ordering::SeqCst)
    }

    /// Ends everything: something cannot go on.
    pub(super) fn break_off(&self) {
        self.session.stop.set();
    }

    /// Does the work of a thread. If that breaks off, everything ends.
    pub(super) fn guarded<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let broke_off = |why: String| tracing::warn!("{why}");
        let done = threads::guarded(what, broke_off, work);
        let done = done.unwrap_or_else(|| Err(Failure::new(format!("{what} broke off"))));
        if done.is_err() {
            self.break_off();
        }
        done
    }

    /// Counts rounds in a row in which nothing was left to do.
    pub(super) fn count(rounds: &AtomicU64, is_quiet: bool) {
        match is_quiet {
            true => drop(rounds.fetch_add(1, Ordering::SeqCst)),
            false => rounds.store(0, Ordering::SeqCst),
        }
    }

    /// Sleeps, not longer than until the end.
    pub(super) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What came of a thread.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
