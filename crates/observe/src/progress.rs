//! A piece of work that is under way: counters, how much there is in all, what it waits for. It is
//! in the registry until it ends.

use crate::meters::Counter;
use crate::registry::{Part, SlowHost, Stage, Value, registry};
use crate::screen;
use crate::waiting::Waiting;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many reasons of failures are told apart; all others are counted together.
const REASONS: usize = 50;
/// What those are called.
const OTHERS: &str = "other reasons";

/// A piece of work under way.
pub(crate) struct Work {
    name: &'static str,
    counters: Vec<Counter>,
    begun: Instant,
    state: Mutex<WorkState>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct WorkState {
    total: Option<u64>,
    /// What was done when it began.
    before: u64,
    floor: Option<(String, Instant)>,
    doing: Option<String>,
    parts: Vec<Part>,
    hosts: Vec<SlowHost>,
    failures: BTreeMap<String, u64>,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, WorkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, for programs.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// As it stands.
    pub(crate) fn stage(&self) -> Stage {
        let state = self.lock();
        let elapsed = self.begun.elapsed();
        let done = self.counters.first().map_or(0, Counter::get);
        let estimate = state.total.and_then(|total| {
            estimate(
                done.saturating_sub(state.before),
                total.saturating_sub(state.before),
                elapsed,
            )
        });
        let (left, slowest) = later(estimate, state.floor.as_ref(), Instant::now());
        let mut failures: Vec<_> = state.failures.clone().into_iter().collect();
        failures.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let (waiting, awaited) = self.waiting().awaited();
        Stage {
            name: self.name,
            seconds: elapsed.as_secs_f64(),
            total: state.total,
            seconds_left: left.map(|left| left.as_secs_f64()),
            slowest,
            counters: self.counters.iter().map(Value::of).collect(),
            doing: state.doing.clone(),
            parts: state.parts.clone(),
            waiting,
            awaited,
            hosts: state.hosts.clone(),
            failures,
        }
    }
}

/// The time that is left, going by the time so far; nothing before something is done.
#[allow(clippy::cast_precision_loss)]
fn estimate(done: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    if done == 0 || total == 0 {
        return None;
    }
    let share = (done as f64 / total as f64).min(1.0);
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok()
}

/// The estimate, or what one thing alone needs, where that is longer.
fn later(
    estimate: Option<Duration>,
    floor: Option<&(String, Instant)>,
    now: Instant,
) -> (Option<Duration>, Option<String>) {
    if let Some((name, end)) = floor {
        let left = end.saturating_duration_since(now);
        if left.as_secs() >= 2 && left > estimate.unwrap_or_default() {
            return (Some(left), Some(name.clone()));
        }
    }
    (estimate, None)
}

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
    fn an_estimate_goes_by_the_time_so_far() {
        let secs = Duration::from_secs;
        assert_eq!(estimate(0, 10, secs(5)), None);
        assert_eq!(estimate(2, 10, secs(30)), Some(secs(120)));
        assert_eq!(estimate(12, 10, secs(30)), Some(secs(0)));
        // What one host needs alone counts where it is longer.
        let now = Instant::now();
        let floor = ("pds.example".to_owned(), now + secs(600));
        let named = Some("pds.example".to_owned());
        assert_eq!(
            later(Some(secs(120)), Some(&floor), now),
            (Some(secs(600)), named)
        );
        assert_eq!(
            later(Some(secs(900)), Some(&floor), now),
            (Some(secs(900)), None)
        );
        assert_eq!(later(None, None, now), (None, None));
    }

    #[test]
    fn it_is_in_the_registry_until_it_ends() {
        let counter = Counter::rated("things", "things");
        let progress = Progress::begin("test_of_progress", vec![counter.clone()], Some(10));
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
