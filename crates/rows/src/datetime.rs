//! Dates and times as JavaScript's `Date` reads and prints them, for `createdAt` and `indexedAt`.

use std::borrow::Cow;

/// Milliseconds since 1970 of `text`, an ISO date and time with a zone, read as JavaScript's `Date`
/// does: a fraction is cut to milliseconds, days up to 31 roll over into the next month, `24:00:00`
/// is the next midnight. `None` if it has another form, or if `Date` would refuse it.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0i64, |sum, b| {
            b.is_ascii_digit().then(|| {
                sum.wrapping_mul(10)
                    .wrapping_add(i64::from(b.wrapping_sub(b'0')))
            })
        })
    };
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let mut rest = bytes.get(19..)?;
    let (mut millis, mut fraction_is_zero) = (0i64, true);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().position(|b| !b.is_ascii_digit())?;
        let (digits, after) = fraction.split_at_checked(length)?;
        if digits.is_empty() {
            return None;
        }
        millis = milliseconds(digits);
        fraction_is_zero = digits.iter().all(|b| *b == b'0');
        rest = after;
    }
    let offset_minutes = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let two = |a: &u8, b: &u8| -> Option<i64> {
                (a.is_ascii_digit() && b.is_ascii_digit()).then(|| {
                    i64::from(a.wrapping_sub(b'0'))
                        .wrapping_mul(10)
                        .wrapping_add(i64::from(b.wrapping_sub(b'0')))
                })
            };
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = hours.wrapping_mul(60).wrapping_add(minutes);
            if *sign == b'-' {
                total.wrapping_neg()
            } else {
                total
            }
        }
        _ => return None,
    };
    let end_of_day = hour == 24 && minute == 0 && second == 0 && fraction_is_zero;
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || minute > 59
        || second > 59
        || !(hour < 24 || end_of_day)
    {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // All parts are small: the sums stay far inside 64 bits.
    let minutes = days
        .wrapping_mul(24)
        .wrapping_add(hour)
        .wrapping_mul(60)
        .wrapping_add(minute)
        .wrapping_sub(offset_minutes);
    Some(
        minutes
            .wrapping_mul(60)
            .wrapping_add(second)
            .wrapping_mul(1000)
            .wrapping_add(millis),
    )
}

/// The milliseconds of a fraction of a second, as V8 reads them (`dateparser`). Leading zeros are
/// skipped, nine digits of the rest are kept, and that number is scaled down as if it had the
/// length of the fraction, but at most nine digits. For up to nine digits these are the first
/// three; for more, leading zeros shift the result.
fn milliseconds(digits: &[u8]) -> i64 {
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    let mut value = digits.iter().skip(zeros).take(9).fold(0i64, |sum, b| {
        sum.wrapping_mul(10)
            .wrapping_add(i64::from(b.wrapping_sub(b'0')))
    });
    for _ in digits.len()..3 {
        value = value.wrapping_mul(10);
    }
    for _ in 3..digits.len().min(9) {
        value = value.div_euclid(10);
    }
    value
}

/// Milliseconds at which the year 0 begins.
const YEAR_0: i64 = -62_167_219_200_000;
/// Milliseconds at which the year 9999 ends, the latest time that can be printed.
pub const LATEST: i64 = 253_402_300_799_999;

/// `createdAt` as the official code stores it: checked as the lexicons' `datetime` (a zone, not
/// `-00:00`, at most 64 characters, years 0 to 9999 in UTC), printed as `toISOString` prints it.
#[must_use]
pub fn normalize(text: &str) -> Option<Cow<'_, str>> {
    if is_plain(text) {
        return Some(Cow::Borrowed(text));
    }
    if text.len() > 64 || text.ends_with("-00:00") {
        return None;
    }
    parse(text)
        .filter(|millis| (YEAR_0..=LATEST).contains(millis))
        .map(|millis| Cow::Owned(print(millis)))
}

/// Whether `text` is certainly what [`print()`] would print for it: the usual form, with a day that
/// cannot roll over. This is fast.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    let &[
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        b'.',
        f1,
        f2,
        f3,
        b'Z',
    ] = text.as_bytes()
    else {
        return false;
    };
    [
        y1, y2, y3, y4, o1, o2, d1, d2, h1, h2, m1, m2, s1, s2, f1, f2, f3,
    ]
    .iter()
    .all(u8::is_ascii_digit)
        && matches!([o1, o2], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2'])
        && matches!(
            [d1, d2],
            [b'0', b'1'..=b'9'] | [b'1', _] | [b'2', b'0'..=b'8']
        )
        && matches!([h1, h2], [b'0' | b'1', _] | [b'2', b'0'..=b'3'])
        && m1 < b'6'
        && s1 < b'6'
}

/// Prints milliseconds since 1970, years 0 to 9999, as `toISOString` does.
#[must_use]
pub fn print(millis: i64) -> String {
    let mut out = String::with_capacity(24);
    append(millis, &mut out);
    out
}

/// Appends what [`print()`] prints.
pub fn append(millis: i64, out: &mut String) {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (
        of_day.div_euclid(3_600_000),
        of_day.div_euclid(60_000).rem_euclid(60),
    );
    let (second, milli) = (
        of_day.div_euclid(1000).rem_euclid(60),
        of_day.rem_euclid(1000),
    );
    let digit = |number: i64, unit: i64| {
        let digit = number.div_euclid(unit).rem_euclid(10);
        b'0'.wrapping_add(u8::try_from(digit).unwrap_or(0))
    };
    let two = |number: i64| [digit(number, 10), digit(number, 1)];
    let ([y1, y2], [y3, y4]) = (two(year.div_euclid(100)), two(year));
    let ([o1, o2], [d1, d2], [h1, h2]) = (two(month), two(day), two(hour));
    let ([m1, m2], [s1, s2], [f2, f3]) = (two(minute), two(second), two(milli));
    let f1 = digit(milli, 100);
    let text = [
        y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.',
        f1, f2, f3, b'Z',
    ];
    // Digits and signs are always text.
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// `indexedAt` of a record: its `createdAt` if that is an ISO time with a zone (the epoch itself
/// and times before the year 0 do not count), else the time in a TID rkey, else `now`; never later
/// than `now`. In milliseconds since 1970.
#[must_use]
pub fn indexed_at(created_at: Option<&str>, rkey: &str, now: i64) -> i64 {
    let created = created_at
        .and_then(parse)
        .filter(|millis| *millis != 0 && *millis >= YEAR_0);
    let from_rkey = || {
        let micros = atrepo::syntax::tid_micros(rkey)?;
        i64::try_from(micros.div_euclid(1000)).ok()
    };
    created.or_else(from_rkey).unwrap_or(now).min(now)
}

/// Days since 1970-01-01 of a day in the proleptic Gregorian calendar; days past the month's end
/// roll over.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one; eras have 400 years.
    let y = if month <= 2 {
        year.wrapping_sub(1)
    } else {
        year
    };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let month = if month > 2 {
        month.wrapping_sub(3)
    } else {
        month.wrapping_add(9)
    };
    let of_year = month
        .wrapping_mul(153)
        .wrapping_add(2)
        .div_euclid(5)
        .wrapping_add(day)
        .wrapping_sub(1);
    let leap = of_era.div_euclid(4).wrapping_sub(of_era.div_euclid(100));
    let days = of_era
        .wrapping_mul(365)
        .wrapping_add(leap)
        .wrapping_add(of_year);
    era.wrapping_mul(146_097)
        .wrapping_add(days)
        .wrapping_sub(719_468)
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days.wrapping_add(719_468);
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let leap = of_era
        .div_euclid(1460)
        .wrapping_sub(of_era.div_euclid(36_524))
        .wrapping_add(of_era.div_euclid(146_096));
    let year_of_era = of_era.wrapping_sub(leap).div_euclid(365);
    let before = year_of_era
        .wrapping_mul(365)
        .wrapping_add(year_of_era.div_euclid(4))
        .wrapping_sub(year_of_era.div_euclid(100));
    let of_year = of_era.wrapping_sub(before);
    let month = of_year.wrapping_mul(5).wrapping_add(2).div_euclid(153);
    let day = of_year
        .wrapping_sub(month.wrapping_mul(153).wrapping_add(2).div_euclid(5))
        .wrapping_add(1);
    let month = if month < 10 {
        month.wrapping_add(3)
    } else {
        month.wrapping_sub(9)
    };
    let year = era.wrapping_mul(400).wrapping_add(year_of_era);
    (
        if month <= 2 {
            year.wrapping_add(1)
        } else {
            year
        },
        month,
        day,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_javascript_reads_them() {
        let printed = |text: &str| parse(text).map(print);
        for (text, iso) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05.000Z"),
            (
                "2024-01-02T03:04:05.123456789+02:30",
                "2024-01-02T00:34:05.123Z",
            ),
            ("2023-02-31T00:00:00Z", "2023-03-03T00:00:00.000Z"),
            ("2024-02-30T00:00:00.9Z", "2024-03-01T00:00:00.900Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("2024-12-31T24:00:00Z", "2025-01-01T00:00:00.000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("2024-01-01T00:00:00-00:00", "2024-01-01T00:00:00.000Z"),
            ("2024-01-01T00:00:00.012345678Z", "2024-01-01T00:00:00.012Z"),
            (
                "2024-01-01T00:00:00.0123456789Z",
                "2024-01-01T00:00:00.123Z",
            ),
            (
                "2024-01-01T00:00:00.0067993123Z",
                "2024-01-01T00:00:00.067Z",
            ),
            (
                "2024-01-01T00:00:00.0000000001Z",
                "2024-01-01T00:00:00.000Z",
            ),
        ] {
            assert_eq!(printed(text).as_deref(), Some(iso), "{text}");
        }
        for bad in [
            "2024-01-01T00:00:60Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01T24:00:01Z",
            "2024-12-31T24:00:00.0001Z",
            "2024-01-01T00:00:00+24:00",
            "2024-13-01T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01",
            "",
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
        ] {
            assert_eq!(printed(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_a_thousand_years_goes_both_ways() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn indexed_at_falls_from_created_at_to_the_rkey_to_now() {
        let now = parse("2026-11-01T00:00:00Z").unwrap();
        let at = |created, rkey| print(indexed_at(created, rkey, now));
        assert_eq!(
            at(Some("2024-01-02T03:04:05Z"), "self"),
            "2024-01-02T03:04:05.000Z"
        );
        assert_eq!(
            at(Some("2030-01-02T03:04:05Z"), "self"),
            "2026-11-01T00:00:00.000Z"
        );
        let tid = atrepo::syntax::tid(1_700_000_000_123_456, 0);
        for useless in [
            None,
            Some(""),
            Some("1970-01-01T00:00:00.000Z"),
            Some("2024-01-02"),
        ] {
            assert_eq!(at(useless, &tid), "2023-11-14T22:13:20.123Z");
            assert_eq!(at(useless, "self"), "2026-11-01T00:00:00.000Z");
        }
    }

    #[test]
    fn created_at_obeys_the_lexicon() {
        assert_eq!(normalize("2024-01-02T03:04:05-00:00"), None);
        assert_eq!(normalize("0000-01-01T00:00:00+01:00"), None);
        assert_eq!(
            normalize("9999-12-31T23:59:59.999Z").as_deref(),
            Some("9999-12-31T23:59:59.999Z")
        );
    }
}
