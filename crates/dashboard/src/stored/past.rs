//! What processes that work or worked on a run wrote down of it ([`ledger::history`]): their
//! samples as series, and their phases as stretches of time.

use ledger::history::{PhaseTime, Sample};
use ledger::processes::Process;
use serde_json::{Value, json};

/// Samples and phases of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) samples: Vec<Sample>,
    pub(crate) phases: Vec<PhaseTime>,
    /// The process that works, else the one that worked last.
    pub(crate) worker: Option<Process>,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn millis(seconds: f64) -> u64 {
    // What is negative or no number becomes 0.
    (seconds * 1000.0) as u64
}

impl Past {
    /// Series as the page reads them. Counts begin anew with each process, with a gap between.
    pub(crate) fn series(&self) -> Value {
        let mut times = Vec::with_capacity(self.samples.len());
        let picks: [fn(&Sample) -> u64; 4] = [
            |sample| sample.repos,
            |sample| sample.records,
            |sample| sample.bytes,
            |sample| sample.rows,
        ];
        let mut values: [Vec<Option<u64>>; 4] = Default::default();
        let mut before: Option<&Sample> = None;
        for sample in &self.samples {
            if before.is_some_and(|before| before.process != sample.process) {
                times.push(millis(sample.at).saturating_sub(1));
                values.iter_mut().for_each(|values| values.push(None));
            }
            times.push(millis(sample.at));
            for (values, pick) in values.iter_mut().zip(picks) {
                values.push(Some(pick(sample)));
            }
            before = Some(sample);
        }
        let names = ["repos", "records", "bytes", "rows"];
        let labels = ["repos", "records", "bytes", "rows written"];
        let series = names
            .iter()
            .zip(labels)
            .zip(values)
            .map(|((name, label), values)| {
                let series = json!({
                    "label": label, "bytes": *name == "bytes", "total": true, "values": values,
                });
                (format!("past/{name}"), series)
            });
        json!({ "times": times, "series": series.collect::<serde_json::Map<_, _>>() })
    }

    /// Phases as stretches of time. One that was interrupted ends when it was last seen.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let spans = self.phases.iter().map(|phase| {
            let at_work = self.worker.as_ref().filter(|worker| worker.is_alive);
            let is_open = !phase.is_done
                && at_work.is_some_and(|worker| {
                    worker.id == phase.process && worker.phase.as_ref() == Some(&phase.phase)
                });
            let ended = (!is_open).then(|| millis(phase.began + phase.seconds));
            let label = match phase.bound_by() {
                Some(limit) => format!("{}, limited by {limit}", phase.phase),
                None => phase.phase.clone(),
            };
            json!({ "name": phase.phase, "label": label, "began": millis(phase.began), "ended": ended })
        });
        spans.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_counts_from_its_own_beginning() {
        let sample = |process, at: u32, records| Sample {
            process,
            at: f64::from(at),
            records,
            ..Sample::default()
        };
        let past = Past {
            samples: vec![sample(1, 10, 0), sample(1, 20, 50), sample(2, 60, 5)],
            ..Past::default()
        };
        let json = past.series();
        assert_eq!(json["times"], json!([10_000, 20_000, 59_999, 60_000]));
        assert_eq!(
            json["series"]["past/records"]["values"],
            json!([0, 50, null, 5])
        );
        let phase = |phase: &str, began: u32, is_done| PhaseTime {
            process: 1,
            number: 1,
            phase: phase.to_owned(),
            began: f64::from(began),
            seconds: 2.5,
            is_done,
            limits: vec![("hosts".to_owned(), 2.0)],
        };
        let past = Past {
            phases: vec![phase("load", 10, true), phase("verify", 20, false)],
            ..Past::default()
        };
        let spans = past.spans();
        assert_eq!(spans[0]["ended"], 12_500);
        assert_eq!(spans[0]["label"], "load, limited by hosts");
        // Nobody works any more.
        assert_eq!(spans[1]["ended"], 22_500);
    }
}
