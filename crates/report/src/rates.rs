//! Rates over time, from samples.

use ledger::history::Sample;

/// What came per second between a sample and the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Seconds since 1970 at the end of that time.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    /// The phase.
    pub phase: String,
    /// Repos, records, bytes and rows per second.
    pub per_second: [f64; 4],
    /// What limited.
    pub limit: Option<String>,
}

/// The points of samples, which are in the order of time. Counts of different processes are not
/// compared: each begins at nothing.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn points(samples: &[Sample]) -> Vec<Point> {
    let mut points = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        let earlier = samples.get(..at).unwrap_or_default();
        let before = earlier
            .iter()
            .rev()
            .take(16)
            .find(|earlier| earlier.process == sample.process);
        let Some(before) = before else {
            continue;
        };
        let seconds = sample.at - before.at;
        if seconds <= 0.0 {
            continue;
        }
        let rate =
            |pick: fn(&Sample) -> u64| pick(sample).saturating_sub(pick(before)) as f64 / seconds;
        points.push(Point {
            at: sample.at,
            seconds,
            phase: sample.phase.clone(),
            per_second: [
                rate(|sample| sample.repos),
                rate(|sample| sample.records),
                rate(|sample| sample.bytes),
                rate(|sample| sample.rows),
            ],
            limit: sample.limit.clone(),
        });
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_different_processes_are_not_compared() {
        let sample = |process: i32, at: f64, records: u64| Sample {
            process,
            at,
            records,
            ..Sample::default()
        };
        let samples = [
            sample(1, 0.0, 0),
            sample(1, 10.0, 100),
            sample(2, 12.0, 0),
            sample(1, 20.0, 300),
            sample(2, 22.0, 50),
        ];
        let rates: Vec<f64> = points(&samples)
            .iter()
            .map(|point| point.per_second[1])
            .collect();
        assert_eq!(rates, [10.0, 20.0, 5.0]);
    }
}
