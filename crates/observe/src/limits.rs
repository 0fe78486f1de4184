//! What limits the work now, and why that is believed: of the stations of a pipeline, the last one
//! that is always at work. What comes before it waits to hand on, what comes after it waits for
//! something to do.

use crate::meters::LaneSpent;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Threads that work for this share of their time are what limits.
const BUSY: f64 = 0.7;
/// So much of the server's work has to wait for its disk before the disk is named.
const DISK: f64 = 0.5;

/// What limits now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Its name, for programs: of a lane, or `hosts`, or `disk`.
    pub name: &'static str,
    /// For people.
    pub label: String,
    /// What was seen.
    pub why: String,
}

/// What the pipeline begins with, and what was last seen of the server's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    /// Where the work comes from: what limits when all wait for it.
    pub(crate) source: String,
    /// More about that.
    pub(crate) source_detail: String,
    /// Sessions that were seen at work, and how many of them waited for the disk.
    pub(crate) sessions: u64,
    pub(crate) on_disk: u64,
}

/// Compares what lanes had spent some time ago with what they have spent now.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    before: Option<(Instant, Vec<LaneSpent>)>,
    last: Option<Limit>,
}

impl Judge {
    /// What was found last.
    pub(crate) fn last(&self) -> Option<Limit> {
        self.last.clone()
    }

    /// What limited since the last call, if that is some time ago; else what did before.
    pub(crate) fn limit(
        &mut self,
        now: Instant,
        lanes: &[LaneSpent],
        ends: &Ends,
    ) -> Option<Limit> {
        if lanes.is_empty() {
            *self = Self::default();
            return None;
        }
        match &self.before {
            Some((since, before)) if before.len() == lanes.len() => {
                let took = now.saturating_duration_since(*since);
                if took < Duration::from_secs(2) {
                    return self.last.clone();
                }
                self.last = Some(judge(took, before, lanes, ends));
            }
            _ => self.last = None,
        }
        self.before = Some((now, lanes.to_vec()));
        self.last.clone()
    }
}

/// Shares of the time of all threads of a lane.
struct Shares {
    starved: f64,
    blocked: f64,
}

impl Shares {
    #[allow(clippy::cast_precision_loss)]
    fn of(took: Duration, before: &LaneSpent, now: &LaneSpent) -> Self {
        let all = took.as_secs_f64().max(0.001) * now.threads.max(1) as f64;
        let share = |before: Duration, now: Duration| {
            (now.saturating_sub(before).as_secs_f64() / all).clamp(0.0, 1.0)
        };
        Self {
            starved: share(before.starved, now.starved),
            blocked: share(before.blocked, now.blocked),
        }
    }

    fn busy(&self) -> f64 {
        (1.0 - self.starved - self.blocked).max(0.0)
    }
}

fn judge(took: Duration, before: &[LaneSpent], now: &[LaneSpent], ends: &Ends) -> Limit {
    let shares: Vec<Shares> = before
        .iter()
        .zip(now)
        .map(|(before, now)| Shares::of(took, before, now))
        .collect();
    let busiest = now
        .iter()
        .zip(&shares)
        .enumerate()
        .rfind(|(_, (_, shares))| shares.busy() >= BUSY);
    let Some((at, (lane, share))) = busiest else {
        let waits = shares.first().map_or(0.0, |share| share.starved) * 100.0;
        let first = now.first().map_or("", |lane| lane.label);
        let detail = match ends.source_detail.as_str() {
            "" => String::new(),
            detail => format!("; {detail}"),
        };
        return Limit {
            name: "source",
            label: ends.source.clone(),
            why: format!("{first} waits for them {waits:.0} % of its time{detail}"),
        };
    };
    let busy = share.busy() * 100.0;
    let is_last = at + 1 == now.len();
    #[allow(clippy::cast_precision_loss)]
    let on_disk = ends.on_disk as f64 / ends.sessions.max(1) as f64;
    if is_last && on_disk >= DISK {
        return Limit {
            name: "disk",
            label: "disk".to_owned(),
            why: format!(
                "{} works {busy:.0} % of its time, {:.0} % of that on its disk",
                lane.label,
                on_disk * 100.0
            ),
        };
    }
    Limit {
        name: lane.name,
        label: lane.label.to_owned(),
        why: match lane.threads {
            1 => format!("its thread works {busy:.0} % of the time"),
            threads => format!("its {threads} threads work {busy:.0} % of the time"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &'static str, threads: u64, starved: f64, blocked: f64) -> LaneSpent {
        let (name, label) = match name {
            "encode" => (name, "encoding"),
            _ => (name, "PostgreSQL"),
        };
        LaneSpent {
            name,
            label,
            threads,
            starved: Duration::from_secs_f64(starved),
            blocked: Duration::from_secs_f64(blocked),
        }
    }

    /// What limited in ten seconds in which the lanes waited for so long.
    fn limit(encode: (f64, f64), load: f64, on_disk: u64) -> (&'static str, String) {
        let begun = Instant::now();
        let mut judge = Judge::default();
        let ends = Ends {
            source: "hosts".to_owned(),
            source_detail: String::new(),
            sessions: 10,
            on_disk,
        };
        let before = [lane("encode", 4, 5.0, 5.0), lane("load", 2, 5.0, 0.0)];
        assert_eq!(judge.limit(begun, &before, &ends), None);
        let now = [
            lane("encode", 4, 5.0 + encode.0, 5.0 + encode.1),
            lane("load", 2, 5.0 + load, 0.0),
        ];
        let later = begun + Duration::from_secs(10);
        let limit = judge.limit(later, &now, &ends).unwrap();
        // It stays until there is something new to go by.
        assert_eq!(judge.limit(later, &now, &ends), Some(limit.clone()));
        (limit.name, limit.why)
    }

    #[test]
    fn the_last_station_that_is_always_at_work_limits() {
        let said = |name, why: &str| (name, why.to_owned());
        assert_eq!(
            limit((38.0, 0.0), 19.0, 0),
            said("source", "encoding waits for them 95 % of its time")
        );
        assert_eq!(
            limit((2.0, 0.0), 12.0, 0),
            said("encode", "its 4 threads work 95 % of the time")
        );
        assert_eq!(
            limit((0.0, 30.0), 1.0, 2),
            said("load", "its 2 threads work 95 % of the time")
        );
        assert_eq!(
            limit((0.0, 30.0), 1.0, 8),
            said(
                "disk",
                "PostgreSQL works 95 % of its time, 80 % of that on its disk"
            )
        );
    }
}
