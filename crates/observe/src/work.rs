//! The state of a piece of work that is under way.

use crate::meters::Counter;
use crate::snapshot::{Part, SlowHost, Stage, Value};
use crate::waiting::Waiting;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many reasons of failures are told apart; all others are counted together.
pub(crate) const REASONS: usize = 50;
/// What those are called.
pub(crate) const OTHERS: &str = "other reasons";

/// A piece of work under way.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) counters: Vec<Counter>,
    pub(crate) begun: Instant,
    pub(crate) state: Mutex<WorkState>,
    pub(crate) waiting: Mutex<Waiting>,
}

#[derive(Default)]
pub(crate) struct WorkState {
    pub(crate) total: Option<u64>,
    /// What was done when it began.
    pub(crate) before: u64,
    pub(crate) floor: Option<(String, Instant)>,
    pub(crate) doing: Option<String>,
    pub(crate) parts: Vec<Part>,
    pub(crate) hosts: Vec<SlowHost>,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Work {
    pub(crate) fn lock(&self) -> MutexGuard<'_, WorkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
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
}
