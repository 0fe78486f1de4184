//! How fast counters grow: over the last seconds, so that what is shown is steady.

use crate::registry::Snapshot;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Rates are those of so long a time.
const WINDOW: Duration = Duration::from_secs(10);

/// What counters were, some time ago and lately, by stage and counter.
#[derive(Debug, Default)]
pub(crate) struct Rates(BTreeMap<(&'static str, &'static str), VecDeque<(Instant, u64)>>);

impl Rates {
    /// Takes note of what they are now.
    pub(crate) fn see(&mut self, now: Instant, snapshot: &Snapshot) {
        for stage in &snapshot.stages {
            for counter in stage.counters.iter().filter(|counter| counter.has_rate) {
                let seen = self.0.entry((stage.name, counter.name)).or_default();
                if seen.back().is_some_and(|(_, last)| *last > counter.value) {
                    // A stage of the same name began anew.
                    seen.clear();
                }
                seen.push_back((now, counter.value));
                while seen.len() > 2
                    && seen
                        .get(1)
                        .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
                {
                    seen.pop_front();
                }
            }
        }
        let is_there = |stage: &str| snapshot.stages.iter().any(|other| other.name == stage);
        self.0.retain(|(stage, _), _| is_there(stage));
    }

    /// What comes per second, if that is known.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn rate(&self, stage: &'static str, counter: &'static str) -> Option<f64> {
        let seen = self.0.get(&(stage, counter))?;
        let ((began, first), (ended, last)) = (seen.front()?, seen.back()?);
        let seconds = ended.duration_since(*began).as_secs_f64();
        (seconds > 0.0).then(|| last.saturating_sub(*first) as f64 / seconds)
    }
}
