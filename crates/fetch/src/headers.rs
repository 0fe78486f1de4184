//! What the headers of a response say: the limit that a host announces, and the pause that it asks
//! for.

use crate::schedule::Observed;
use crate::schedule::pace::Announced;
use reqwest::Response;
use reqwest::header::HeaderMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Records what a response shows apart from its body.
pub(crate) fn observe(seen: &mut Observed, response: &Response, asked: Instant) {
    seen.first_byte = Some(asked.elapsed());
    seen.at = Some(Instant::now());
    seen.announced = announced(response.headers(), SystemTime::now());
}

/// The limit that the headers announce: `RateLimit-Limit`, `-Remaining`, `-Reset` and `-Policy` as
/// PDSes send them (`packages/xrpc-server/src/rate-limiter.ts`).
fn announced(headers: &HeaderMap, now: SystemTime) -> Option<Announced> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let limit = u32::try_from(number("ratelimit-limit")?).ok()?;
    let window = text("ratelimit-policy").and_then(|policy| {
        let window = policy
            .split(';')
            .find_map(|part| part.trim().strip_prefix("w="))?;
        Some(Duration::from_secs(window.parse().ok()?))
    });
    Some(Announced {
        limit,
        window,
        remaining: number("ratelimit-remaining")
            .map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
        reset_in: until_reset(headers, now),
    })
}

/// The server's time if it sends it, else ours.
fn server_time(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    date.and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(now)
}

/// A smaller number is not a present unix time, but seconds from now, as later drafts of the
/// headers define it.
const FIRST_UNIX_SECOND: u64 = 1_000_000_000;

/// Time until `RateLimit-Reset`, which PDSes send in unix seconds.
fn until_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let seconds: u64 = headers
        .get("ratelimit-reset")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // A reset in the past still means that the next request must wait.
    let least = Duration::from_secs(1);
    if seconds < FIRST_UNIX_SECOND {
        return Some(Duration::from_secs(seconds).max(least));
    }
    let reset = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(
        reset
            .duration_since(server_time(headers, now))
            .unwrap_or_default()
            .max(least),
    )
}

/// `Retry-After`, in seconds or as a date, or the time until `RateLimit-Reset`.
pub(crate) fn wait_asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let after = headers
        .get("retry-after")
        .and_then(|after| after.to_str().ok())
        .map(str::trim);
    let least = Duration::from_secs(1);
    if let Some(seconds) = after.and_then(|after| after.parse().ok()) {
        return Some(Duration::from_secs(seconds).max(least));
    }
    if let Some(date) = after.and_then(|after| httpdate::parse_http_date(after).ok()) {
        return Some(
            date.duration_since(server_time(headers, now))
                .unwrap_or_default()
                .max(least),
        );
    }
    until_reset(headers, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_from_both_headers() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let wait = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            wait_asked_for(&headers, now).map(|d| d.as_secs())
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(7));
        assert_eq!(wait(&[("ratelimit-reset", "1700000042")]), Some(42));
        assert_eq!(wait(&[("ratelimit-reset", "1699999999")]), Some(1));
        assert_eq!(wait(&[("ratelimit-reset", "60")]), Some(60));
        assert_eq!(wait(&[("ratelimit-reset", "18446744073709551615")]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(
            wait(&[("retry-after", "Tue, 14 Nov 2023 22:13:40 GMT")]),
            Some(20)
        );
        // By the server's clock, which is an hour ahead.
        let ahead = [
            ("date", "Tue, 14 Nov 2023 23:13:20 GMT"),
            ("ratelimit-reset", "1700003620"),
        ];
        assert_eq!(wait(&ahead), Some(20));
        assert_eq!(wait(&[]), None);
    }
}
