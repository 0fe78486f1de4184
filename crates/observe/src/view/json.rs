//! Progress as events for programs: an object of JSON per line on stdout, each with `event` and
//! `time`.
//!
//! `phase` comes when a phase opens, `progress` every so often, and once more at the end.

use super::shown::Shown;
use crate::logging::now;
use crate::registry::{PhaseName, Stage, registry};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// What was printed last.
#[derive(Default)]
pub(super) struct Events {
    at: Option<Instant>,
}

impl Events {
    /// Prints what is due.
    pub(super) fn print(&mut self, at: Instant, interval: Duration, is_over: bool, seen: &Shown) {
        for (number, name) in registry().take_entered() {
            crate::data!("{}", phase(seen, number, name));
        }
        let since = *self.at.get_or_insert(at);
        if is_over || at.duration_since(since) >= interval {
            self.at = Some(at);
            crate::data!("{}", progress(seen));
        }
    }
}

/// The event of a phase that opened.
pub(super) fn phase(seen: &Shown, number: usize, phase: PhaseName) -> Value {
    json!({
        "event": "phase",
        "time": now(),
        "command": seen.snapshot.command,
        "phase": phase.name,
        "number": number,
        "of": seen.snapshot.phases.len(),
    })
}

/// All that is known now.
pub(super) fn progress(seen: &Shown) -> Value {
    let stages = seen.snapshot.stages.iter();
    json!({
        "event": "progress",
        "time": now(),
        "command": seen.snapshot.command,
        "seconds": seen.snapshot.seconds,
        "phase": seen.snapshot.open_phase().map(|(_, phase)| phase.name),
        "phases": seen.snapshot.phases,
        "stages": stages.map(|stage| of_stage(seen, stage)).collect::<Vec<_>>(),
        "limit": seen.limit,
    })
}

fn of_stage(seen: &Shown, stage: &Stage) -> Value {
    let mut counters = Map::new();
    for counter in &stage.counters {
        let rate = match counter.has_rate {
            true => seen.rates.rate(stage.name, counter.name),
            false => None,
        };
        let value = match rate {
            Some(rate) => json!({ "value": counter.value, "rate": (rate * 10.0).round() / 10.0 }),
            None => json!({ "value": counter.value }),
        };
        counters.insert(counter.name.to_owned(), value);
    }
    let failures = stage.failures.iter();
    let failures: Map<String, Value> = failures
        .map(|(reason, times)| (reason.clone(), (*times).into()))
        .collect();
    json!({
        "stage": stage.name,
        "seconds": stage.seconds,
        "total": stage.total,
        "seconds_left": stage.seconds_left,
        "slowest": stage.slowest,
        "counters": counters,
        "doing": stage.doing,
        "parts": stage.parts,
        "waiting": stage.waiting,
        "awaited": stage.awaited,
        "hosts": stage.hosts,
        "failures": failures,
    })
}
