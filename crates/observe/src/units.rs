//! Numbers, sizes and times for people.

use std::time::Duration;

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 host`, `1,234 hosts`: a number of things. `one` names one of them; its last word is the noun.
#[must_use]
pub fn counted(number: u64, one: &str) -> String {
    let ending = match one {
        _ if number == 1 => "",
        one if one.ends_with(['s', 'x']) || one.ends_with("ch") || one.ends_with("sh") => "es",
        _ => "s",
    };
    format!("{} {one}{ending}", count(number))
}

/// `4.1 GiB`.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut unit = "bytes";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "bytes" => format!("{number} bytes"),
        _ if value < 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// `53`, `0.4`: what comes per second.
#[must_use]
pub fn rate(number: f64) -> String {
    if number > 0.0 && number < 9.95 {
        return format!("{number:.1}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    count(number.round().max(0.0) as u64)
}

/// `4 min 12 s`, with at most two units.
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// How long something took, or lies back: `0.3 s` below a minute, else `4 min 12 s`.
#[must_use]
pub fn span(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if seconds >= 60.0 => time(span),
        _ => format!("{:.1} s", seconds.max(0.0)),
    }
}

/// `1 h 20 min`: an estimate, in steps that do not feign to know.
#[must_use]
pub fn rough(left: Duration) -> String {
    let seconds = left.as_secs();
    let step = match seconds {
        0..60 => 1,
        60..600 => 10,
        600..3600 => 60,
        3600..86_400 => 600,
        _ => 3600,
    };
    let rounded = Duration::from_secs((seconds + step / 2) / step * step);
    let text = time(rounded);
    let text = text.strip_suffix(" 0 s").or(text.strip_suffix(" 0 min"));
    text.map_or_else(|| time(rounded), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_them_at_once() {
        let numbers = [0, 999, 1000, 1_234_567].map(count);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let things = [
            counted(0, "repo"),
            counted(1, "failed repo"),
            counted(1, "index"),
            counted(2000, "index"),
            counted(3, "batch"),
        ];
        assert_eq!(
            things,
            [
                "0 repos",
                "1 failed repo",
                "1 index",
                "2,000 indexes",
                "3 batches"
            ]
        );
        let sizes = [0, 1023, 1024, 4_402_341_478, 20 << 30].map(bytes);
        assert_eq!(
            sizes,
            ["0 bytes", "1023 bytes", "1.0 KiB", "4.1 GiB", "20 GiB"]
        );
        let rates = [0.0, 0.04, 0.44, 9.94, 53.4, 8201.0].map(rate);
        assert_eq!(rates, ["0", "0.0", "0.4", "9.9", "53", "8,201"]);
        assert_eq!(
            [-1.0, 0.32, 42.0, 252.0].map(span),
            ["0.0 s", "0.3 s", "42.0 s", "4 min 12 s"]
        );
        let times = [0, 59, 252, 3600, 4860, 200_000].map(|s| time(Duration::from_secs(s)));
        assert_eq!(
            times,
            [
                "0 s",
                "59 s",
                "4 min 12 s",
                "1 h 0 min",
                "1 h 21 min",
                "2 d 7 h"
            ]
        );
        let roughs = [42, 252, 300, 4860, 3610].map(|s| rough(Duration::from_secs(s)));
        assert_eq!(roughs, ["42 s", "4 min 10 s", "5 min", "1 h 20 min", "1 h"]);
    }
}
