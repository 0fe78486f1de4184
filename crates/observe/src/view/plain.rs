//! Progress as plain lines: `12000 repos done (53/s), 1830222 records (8201/s), 3 failed; 40%,
//! about 1 min 30 s left`.

use crate::limits::Limit;
use crate::registry::Stage;
use crate::units;
use crate::waiting::listed;
use crate::work::Work;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was printed last of each piece of work.
#[derive(Default)]
pub(super) struct Lines {
    known: Vec<Known>,
}

struct Known {
    work: Arc<Work>,
    at: Instant,
    values: Vec<u64>,
}

impl Lines {
    /// The pieces of work of which a line is due: `interval` after the last one, or after they
    /// began.
    pub(super) fn due(
        &mut self,
        now: Instant,
        interval: Duration,
        all: &[Arc<Work>],
    ) -> Vec<Arc<Work>> {
        self.known
            .retain(|known| all.iter().any(|work| Arc::ptr_eq(work, &known.work)));
        let mut due = Vec::new();
        for work in all {
            let known = self
                .known
                .iter()
                .find(|known| Arc::ptr_eq(work, &known.work));
            match known {
                Some(known) if now.duration_since(known.at) >= interval => {
                    due.push(Arc::clone(work));
                }
                Some(_) => {}
                None => self.known.push(Known {
                    work: Arc::clone(work),
                    at: now,
                    values: Vec::new(),
                }),
            }
        }
        due
    }

    /// Their lines.
    pub(super) fn lines(
        &mut self,
        now: Instant,
        due: &[Arc<Work>],
        limit: Option<&Limit>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for known in &mut self.known {
            if !due.iter().any(|work| Arc::ptr_eq(work, &known.work)) {
                continue;
            }
            let stage = known.work.stage();
            let seconds = now.duration_since(known.at).as_secs_f64();
            lines.push(line(&stage, &known.values, seconds, limit));
            lines.extend(stage.parts.iter().map(|part| {
                let share = part.share.map(|share| format!(", {:.0} %", share * 100.0));
                format!(
                    "  {}: {}{}",
                    part.label,
                    part.doing,
                    share.unwrap_or_default()
                )
            }));
            known.values = stage.counters.iter().map(|counter| counter.value).collect();
            known.at = now;
        }
        lines
    }
}

/// The line of a piece of work; `before` is what its counters were `seconds` ago.
#[allow(clippy::cast_precision_loss)]
pub(super) fn line(stage: &Stage, before: &[u64], seconds: f64, limit: Option<&Limit>) -> String {
    let mut text = String::new();
    for (at, counter) in stage.counters.iter().enumerate() {
        if !counter.has_rate && counter.value == 0 {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        // A text takes all that is written to it.
        let _ = write!(text, "{separator}{} {}", counter.value, counter.label);
        if counter.has_rate {
            let before = before.get(at).copied().unwrap_or(0);
            let rate = counter.value.saturating_sub(before) as f64 / seconds.max(0.001);
            let _ = write!(text, " ({rate:.0}/s)");
        }
    }
    let done = stage.counters.first().map_or(0, |counter| counter.value);
    if let Some(total) = stage.total.filter(|total| *total > 0 && done > 0) {
        let _ = write!(
            text,
            "; {:.0}%",
            (done as f64 / total as f64).min(1.0) * 100.0
        );
    }
    let left = stage.seconds_left.map(Duration::try_from_secs_f64);
    if let Some(Ok(left)) = left {
        let _ = write!(text, ", about {} left", units::rough(left));
        if let Some(name) = &stage.slowest {
            let _ = write!(text, " for {name}");
        }
    }
    if let Some(limit) = limit {
        let _ = write!(text, "; limited by {}", limit.label);
    }
    if stage.waiting > 0 {
        let awaited = listed(stage.waiting, &stage.awaited);
        let _ = write!(text, "; waiting for {awaited}");
    }
    text
}
