//! A piece of work that is under way: counters, how much there is in all, what it waits for. It is
//! in the registry until it ends.

use crate::meters::Counter;
use crate::registry::registry;
use crate::screen;
use crate::snapshot::{Part, SlowHost};
use crate::waiting::Waiting;
use crate::work::{OTHERS, REASONS, Work, WorkState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Publishes a piece of work until it is finished or dropped.
pub struct Progress(Arc<Work>);

impl Progress {
    /// Publishes `counters`; with an estimate if `total`, what the first one will be at the end, is
    /// known.
    #[must_use]
    pub fn begin(name: &'static str, counters: Vec<Counter>, total: Option<u64>) -> Self {
        let work = Arc::new(Work {
            name,
            counters,
            begun: Instant::now(),
            state: Mutex::new(WorkState {
                total,
                ..WorkState::default()
            }),
            waiting: Mutex::default(),
        });
        registry().add(&work);
        Self(work)
    }

    /// What the first counter will be at the end, where that became known only now.
    pub fn expects(&self, total: u64) {
        self.0.lock().total = Some(total);
    }

    /// So much of the first counter was done before it began: it says nothing about the pace.
    pub fn done_before(&self, count: u64) {
        self.0.lock().before += count;
    }

    /// Also shows what is waited for.
    pub fn shows(&self, waiting: &Waiting) {
        *self.0.waiting() = waiting.clone();
    }

    /// Says what alone takes how long from now on, whatever the rest does: the end is not earlier.
    pub fn needs_at_least(&self, slowest: Option<(String, Duration)>) {
        let end = slowest.and_then(|(name, left)| Some((name, Instant::now().checked_add(left)?)));
        self.0.lock().floor = end;
    }

    /// Says what is done now.
    pub fn doing(&self, doing: impl Into<String>) {
        self.0.lock().doing = Some(doing.into());
    }

    /// Nothing in particular is done any more.
    pub fn doing_nothing_special(&self) {
        self.0.lock().doing = None;
    }

    /// Where another thread publishes its parts that are under way.
    #[must_use]
    pub fn parts_of(&self) -> Parts {
        Parts(Arc::clone(&self.0))
    }

    /// The hosts that take the longest, the slowest first.
    pub fn slow_hosts(&self, hosts: Vec<SlowHost>) {
        self.0.lock().hosts = hosts;
    }

    /// So many things failed, for a reason in a few words.
    pub fn failed(&self, reason: &str, times: u64) {
        if times == 0 {
            return;
        }
        let failures = &mut self.0.lock().failures;
        let is_known = failures.contains_key(reason) || failures.len() < REASONS;
        let reason = if is_known { reason } else { OTHERS };
        *failures.entry(reason.to_owned()).or_default() += times;
    }

    /// Ends it; nothing more is shown.
    pub fn finish(self) {}
}

/// The parts of a piece of work.
pub struct Parts(Arc<Work>);

impl Parts {
    /// Those that are under way now.
    pub fn set(&self, parts: Vec<Part>) {
        self.0.lock().parts = parts;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if registry().remove(&self.0) {
            // What comes next may write to the same terminal.
            screen::draw(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_in_the_registry_until_it_ends() {
        let counter = Counter::rated("things", "things");
        let progress = Progress::begin("test_of_progress", vec![counter.clone()], None);
        progress.expects(10);
        let stage = || {
            let stages = registry().snapshot().stages;
            stages
                .into_iter()
                .find(|stage| stage.name == "test_of_progress")
        };
        counter.add(4);
        progress.done_before(4);
        for reason in 0..60 {
            progress.failed(&format!("reason {reason}"), 1);
            progress.failed("reason 3", 1);
        }
        let shown = stage().unwrap();
        assert_eq!((shown.counters[0].value, shown.total), (4, Some(10)));
        assert_eq!(shown.seconds_left, None, "{shown:?}");
        assert_eq!(shown.failures.len(), REASONS + 1);
        assert_eq!(shown.failures[0], ("reason 3".to_owned(), 61));
        assert_eq!(shown.failures[1], (OTHERS.to_owned(), 10));
        let total = || {
            let totals = registry().totals();
            totals.get(&("test_of_progress", "things")).copied()
        };
        assert_eq!(total(), Some(4));
        progress.finish();
        assert!(stage().is_none());
        // What it came to is known all the same.
        assert_eq!(total(), Some(4));
    }
}
