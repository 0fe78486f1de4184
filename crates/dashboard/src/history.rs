//! Samples over time, in a bounded number: when there are too many, every other one goes, and from
//! then on half as many come. So a day is kept in as many samples as a quarter of an hour.
//!
//! Totals are kept, not rates: dropping a sample of a total leaves the mean rate between its
//! neighbors exact.

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept.
const MOST_SAMPLES: usize = 720;
/// Series that are kept; there are about thirty.
const MOST_SERIES: usize = 64;
/// Present rates are those of so many seconds.
const WINDOW: u64 = 10_000;

/// A value at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// `stage/counter` or `server/what`.
    pub(crate) key: String,
    /// For people.
    pub(crate) label: String,
    /// Whether it counts bytes.
    pub(crate) is_bytes: bool,
    /// Whether it only grows, so that its rate is of interest.
    pub(crate) is_total: bool,
    pub(crate) value: f64,
}

/// One thing over time.
struct Series {
    label: String,
    is_bytes: bool,
    is_total: bool,
    values: Vec<Option<f64>>,
    /// What it was at the last reading, and what was counted before it began anew.
    last: f64,
    before: f64,
    recent: VecDeque<(u64, f64)>,
    present: Option<f64>,
}

impl Series {
    fn new(reading: &Reading, samples: usize) -> Self {
        Self {
            label: reading.label.clone(),
            is_bytes: reading.is_bytes,
            is_total: reading.is_total,
            values: vec![None; samples],
            last: 0.0,
            before: 0.0,
            recent: VecDeque::new(),
            present: None,
        }
    }

    fn read(&mut self, now: u64, value: f64) {
        if self.is_total {
            if value < self.last {
                self.before += self.last;
                self.recent.clear();
            }
            self.last = value;
        }
        let value = self.before + value;
        self.present = Some(value);
        self.recent.push_back((now, value));
        while self.recent.len() > 2
            && self
                .recent
                .get(1)
                .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.recent.pop_front();
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> Option<f64> {
        let ((began, first), (ended, last)) = (self.recent.front()?, self.recent.back()?);
        let millis = ended.saturating_sub(*began);
        (millis > 0 && self.is_total).then(|| (last - first) / millis as f64 * 1000.0)
    }
}

/// Samples over time.
#[derive(Default)]
pub(crate) struct History {
    times: Vec<u64>,
    series: BTreeMap<String, Series>,
    /// Readings per sample, less one.
    skipped_per_sample: u64,
    skipped: u64,
}

impl History {
    /// Takes the readings of a moment, in milliseconds since 1970.
    pub(crate) fn read(&mut self, now: u64, readings: &[Reading]) {
        let samples = self.times.len();
        for series in self.series.values_mut() {
            series.present = None;
        }
        for reading in readings {
            if !self.series.contains_key(&reading.key) {
                if self.series.len() >= MOST_SERIES {
                    continue;
                }
                let series = Series::new(reading, samples);
                self.series.insert(reading.key.clone(), series);
            }
            if let Some(series) = self.series.get_mut(&reading.key) {
                series.read(now, reading.value);
            }
        }
        for series in self.series.values_mut() {
            if series.present.is_none() {
                series.recent.clear();
            }
        }
        if self.skipped < self.skipped_per_sample && samples > 0 {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        self.times.push(now);
        for series in self.series.values_mut() {
            series.values.push(series.present);
        }
        if self.times.len() >= MOST_SAMPLES {
            halve(&mut self.times);
            for series in self.series.values_mut() {
                halve(&mut series.values);
            }
            self.skipped_per_sample = self.skipped_per_sample * 2 + 1;
        }
    }

    /// The present rate of a series, per second.
    pub(crate) fn rate(&self, key: &str) -> Option<f64> {
        self.series.get(key)?.rate()
    }

    /// Seconds between samples.
    pub(crate) fn step(&self) -> u64 {
        self.skipped_per_sample + 1
    }

    /// All of it, as the page reads it.
    pub(crate) fn json(&self) -> Value {
        let series = self.series.iter().map(|(key, series)| {
            let values = series.values.iter().map(|value| value.map(short));
            let series = json!({
                "label": series.label,
                "bytes": series.is_bytes,
                "total": series.is_total,
                "values": values.collect::<Vec<_>>(),
            });
            (key.clone(), series)
        });
        json!({
            "step": self.step(),
            "times": self.times,
            "series": series.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Whole numbers without a fraction, which JSON would write.
#[allow(clippy::cast_possible_truncation)]
fn short(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Value::from((value * 1000.0).round() / 1000.0)
}

/// Every other value goes; the first stays.
fn halve<T>(values: &mut Vec<T>) {
    let mut number = 0usize;
    values.retain(|_| {
        number += 1;
        number % 2 == 1
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;

    fn reading(key: &str, value: f64) -> Reading {
        Reading {
            key: key.to_owned(),
            label: key.to_owned(),
            is_bytes: false,
            is_total: true,
            value,
        }
    }

    #[test]
    fn a_day_fits_and_its_rates_stay_right() {
        let mut history = History::default();
        for second in 0..86_400u64 {
            history.read(
                second * 1000,
                &[reading("load/records", second as f64 * 7.0)],
            );
        }
        let json = history.json();
        let times = json["times"].as_array().unwrap();
        let values = json["series"]["load/records"]["values"].as_array().unwrap();
        assert_eq!(times.len(), values.len());
        assert!(times.len() > MOST_SAMPLES / 3 && times.len() < MOST_SAMPLES);
        assert_eq!((&times[0], &values[0]), (&json!(0), &json!(0)));
        for (time, value) in times.iter().zip(values) {
            let seconds = time.as_u64().unwrap() / 1000;
            assert_eq!(value.as_u64().unwrap(), seconds * 7);
        }
        assert!(times.last().unwrap().as_u64().unwrap() > 85_000_000);
        assert_eq!(history.rate("load/records"), Some(7.0));
        assert!(json.to_string().len() < 50_000);
    }

    #[test]
    fn a_stage_that_begins_anew_counts_on_and_one_that_ends_leaves_a_gap() {
        let mut history = History::default();
        for (second, value) in [(0, Some(5.0)), (1, Some(9.0)), (2, None), (3, Some(2.0))] {
            let readings: Vec<Reading> = value
                .map(|value| reading("a/b", value))
                .into_iter()
                .collect();
            history.read(second * 1000, &readings);
        }
        let json = history.json();
        assert_eq!(json["series"]["a/b"]["values"], json!([5, 9, null, 11]));
        // One reading alone has no rate.
        assert_eq!(history.rate("a/b"), None);
    }

    #[test]
    fn names_without_end_are_not_all_kept() {
        let mut history = History::default();
        for number in 0..1000 {
            history.read(number, &[reading(&number.to_string(), 1.0)]);
        }
        assert_eq!(history.series.len(), MOST_SERIES);
    }
}
