//! What this process does, by the registry of `observe`: sampled once per second, whoever looks.
//!
//! A sample costs some microseconds: the registry is a handful of counters behind a lock that those
//! who work take when a phase or a piece of work begins or ends.

use crate::history::{History, Reading};
use crate::now_millis;
use crate::origin::Origin;
use crate::stored::Known;
use observe::registry::{Phase, PhaseState, Snapshot, Stage};
use observe::{Limit, LimitWatch, Unit, registry};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// Stretches of time that are kept; the oldest go.
const MOST_SPANS: usize = 300;

/// A stretch of time that a phase was open.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    label: String,
    began: u64,
    ended: Option<u64>,
}

/// What was seen so far.
pub(crate) struct Live {
    origin: Origin,
    pub(crate) history: History,
    limits: LimitWatch,
    limit: Option<Limit>,
    spans: VecDeque<Span>,
    snapshot: Snapshot,
}

impl Live {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            history: History::default(),
            limits: LimitWatch::default(),
            limit: None,
            spans: VecDeque::new(),
            snapshot: Snapshot::default(),
        }
    }

    /// Takes a sample; `now` in milliseconds since 1970.
    pub(crate) fn take_sample(&mut self, now: u64, known: &Known) {
        let mut readings = known.readings();
        if self.origin == Origin::Process {
            self.snapshot = registry().snapshot();
            self.limit = self.limits.limit();
            readings.extend(self.snapshot.stages.iter().flat_map(readings_of));
            self.note_span(now);
        }
        self.history.read(now, &readings);
    }

    /// A phase that opens begins a stretch of time and ends the one before. A command without
    /// phases has stages.
    fn note_span(&mut self, now: u64) {
        let open = match self.snapshot.open_phase() {
            Some((_, phase)) => Some((phase.name, phase.label)),
            None if self.snapshot.phases.is_empty() => {
                let stage = self.snapshot.stages.first();
                stage.map(|stage| (stage.name, stage.name))
            }
            None => None,
        };
        let last = self.spans.back_mut().filter(|span| span.ended.is_none());
        if let Some(last) = last {
            if open.is_some_and(|(name, _)| name == last.name) {
                return;
            }
            last.ended = Some(now);
        }
        self.add_missed(now);
        if let Some((name, label)) = open {
            self.add_span(name, label, (now, None));
        }
    }

    /// A phase that was over within a sample has its time all the same.
    fn add_missed(&mut self, now: u64) {
        let is_missed = |phase: &&Phase| {
            phase.state == PhaseState::Done
                && phase.seconds > 0.0
                && self.spans.iter().all(|span| span.name != phase.name)
        };
        let phases = self.snapshot.phases.iter();
        let missed: Vec<Phase> = phases.filter(is_missed).cloned().collect();
        for phase in missed {
            let millis = Duration::try_from_secs_f64(phase.seconds).unwrap_or_default();
            let millis = u64::try_from(millis.as_millis()).unwrap_or(0);
            let began = now.saturating_sub(millis);
            self.add_span(phase.name, phase.label, (began, Some(now)));
        }
    }

    fn add_span(&mut self, name: &str, label: &str, (began, ended): (u64, Option<u64>)) {
        if self.spans.len() >= MOST_SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(Span {
            name: name.to_owned(),
            label: label.to_owned(),
            began,
            ended,
        });
    }

    /// What was seen last.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What limits, as far as known.
    pub(crate) fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// All that the page shows of the present, but for hosts and failures.
    pub(crate) fn json(&self, known: &Known) -> Value {
        let spans = self.spans.iter().map(|span| {
            json!({ "name": span.name, "label": span.label, "began": span.began, "ended": span.ended })
        });
        let spans: Vec<Value> = match self.origin {
            Origin::Process => spans.collect(),
            Origin::Ledger => known.spans(),
        };
        let stages = self.snapshot.stages.iter();
        json!({
            "now": now_millis(),
            "version": env!("CARGO_PKG_VERSION"),
            "origin": match self.origin { Origin::Process => "process", Origin::Ledger => "ledger" },
            "command": self.snapshot.command,
            "seconds": self.snapshot.seconds,
            "phases": self.snapshot.phases,
            "is_open": self.snapshot.phases.iter().any(|phase| phase.state == PhaseState::Open),
            "spans": spans,
            "stages": stages.map(|stage| self.stage_json(stage)).collect::<Vec<_>>(),
            "limit": self.limit,
            "step": self.history.step(),
            "database": known.json(),
        })
    }

    fn stage_json(&self, stage: &Stage) -> Value {
        let counters = stage.counters.iter().map(|counter| {
            json!({
                "name": counter.name,
                "label": counter.label,
                "value": counter.value,
                "bytes": counter.unit == Unit::Bytes,
                "rate": self.history.rate(&key(stage, counter.name)),
            })
        });
        json!({
            "name": stage.name,
            "seconds": stage.seconds,
            "total": stage.total,
            "seconds_left": stage.seconds_left,
            "slowest": stage.slowest,
            "doing": stage.doing,
            "parts": stage.parts,
            "waiting": stage.waiting,
            "awaited": stage.awaited,
            "hosts": stage.hosts,
            "failures": stage.failures,
            "counters": counters.collect::<Vec<_>>(),
        })
    }
}

fn key(stage: &Stage, counter: &str) -> String {
    format!("{}/{counter}", stage.name)
}

#[allow(clippy::cast_precision_loss)]
fn readings_of(stage: &Stage) -> Vec<Reading> {
    let rated = stage.counters.iter().filter(|counter| counter.has_rate);
    rated
        .map(|counter| Reading {
            key: key(stage, counter.name),
            label: counter.label.to_owned(),
            is_bytes: counter.unit == Unit::Bytes,
            is_total: true,
            value: counter.value as f64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(open: usize) -> Vec<Phase> {
        let names = [("load", "fetching"), ("indexes", "building indexes")];
        let phase = |(number, (name, label)): (usize, (&'static str, &'static str))| Phase {
            name,
            label,
            state: match number.cmp(&open) {
                std::cmp::Ordering::Less => PhaseState::Done,
                std::cmp::Ordering::Equal => PhaseState::Open,
                std::cmp::Ordering::Greater => PhaseState::Pending,
            },
            seconds: 0.0,
        };
        names.into_iter().enumerate().map(phase).collect()
    }

    #[test]
    fn each_time_that_a_phase_is_open_is_a_stretch() {
        let mut live = Live::new(Origin::Process);
        for (now, open) in [(1, 0), (2, 0), (3, 1), (4, 0), (5, 2)] {
            live.snapshot.phases = phases(open);
            live.note_span(now);
        }
        let spans: Vec<(&str, u64, Option<u64>)> = live
            .spans
            .iter()
            .map(|span| (span.name.as_str(), span.began, span.ended))
            .collect();
        let expected = [
            ("load", 1, Some(3)),
            ("indexes", 3, Some(4)),
            ("load", 4, Some(5)),
        ];
        assert_eq!(spans, expected);
        // One that no sample saw.
        let mut quick = Live::new(Origin::Process);
        quick.snapshot.phases = phases(1);
        quick.snapshot.phases[0].seconds = 0.2;
        quick.note_span(1000);
        let missed = &quick.spans[0];
        assert_eq!((missed.began, missed.ended), (800, Some(1000)));
        for round in 0..2000usize {
            live.snapshot.phases = phases(round % 2);
            live.note_span(round as u64);
        }
        assert_eq!(live.spans.len(), MOST_SPANS);
    }
}
