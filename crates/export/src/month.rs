//! The months by which records are partitioned.

use rows::datetime;
use std::fmt;

/// First month with a folder of its own. Records have times as their authors please; older ones
/// share a folder, so that the number of folders is bounded.
const FIRST_YEAR: i32 = 2000;

/// A month, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Month {
    /// The record has no time that could be read.
    Unknown,
    /// Before the year 2000.
    Early,
    /// Months since the year 0.
    Of(i32),
    /// After the time of the export.
    Late,
    /// Of any month: there are too many partitions already.
    Mixed,
}

/// Milliseconds of a time that can be printed.
pub(crate) fn in_range(millis: i64) -> bool {
    const YEAR_0: i64 = -62_167_219_200_000;
    (YEAR_0..=datetime::LATEST).contains(&millis)
}

fn number(millis: i64) -> Option<i32> {
    let text = datetime::print(millis);
    let year: i32 = text.get(0..4)?.parse().ok()?;
    let month: i32 = text.get(5..7)?.parse().ok()?;
    Some(year * 12 + month - 1)
}

impl Month {
    /// The month of a time; `latest` is the time of the export.
    pub(crate) fn of(millis: Option<i64>, latest: i64) -> Self {
        let Some(month) = millis.filter(|millis| in_range(*millis)).and_then(number) else {
            return Self::Unknown;
        };
        if month < FIRST_YEAR * 12 {
            return Self::Early;
        }
        match number(latest.min(datetime::LATEST)) {
            Some(last) if month > last => Self::Late,
            _ => Self::Of(month),
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Early => f.write_str("before-2000"),
            Self::Late => f.write_str("later"),
            Self::Mixed => f.write_str("mixed"),
            Self::Of(month) => write!(f, "{:04}-{:02}", month / 12, month % 12 + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_months_and_the_number_of_months_is_bounded() {
        let latest = datetime::parse("2026-11-15T00:00:00Z").unwrap();
        let of = |text| Month::of(datetime::parse(text), latest).to_string();
        for (text, month) in [
            ("2024-01-31T23:59:59.999Z", "2024-01"),
            ("2024-12-01T00:00:00.000Z", "2024-12"),
            ("2000-01-01T00:00:00.000Z", "2000-01"),
            ("1999-12-31T23:59:59.999Z", "before-2000"),
            ("0000-01-01T00:00:00.000Z", "before-2000"),
            ("2026-11-30T00:00:00.000Z", "2026-11"),
            ("2026-12-01T00:00:00.000Z", "later"),
            ("9999-12-31T23:59:59.999Z", "later"),
            ("no time", "unknown"),
        ] {
            assert_eq!(of(text), month, "{text}");
        }
        assert_eq!(Month::of(Some(i64::MAX), latest), Month::Unknown);
    }
}
