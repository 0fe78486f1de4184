//! The time of a run: the clock's, or what `--now` says.

use crate::failure::Failure;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn now(given: Option<&str>) -> Result<i64, Failure> {
    match given {
        Some(text) => rows::datetime::parse(text).ok_or_else(|| {
            Failure::usage(format!("--now {text}: not a date and time with a zone"))
                .hint("give it as in --now 2026-11-29T12:00:00Z")
        }),
        None => {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        }
    }
}

/// Time since this machine started, the time that it slept included. No clock that somebody sets
/// changes it.
#[must_use]
pub fn running() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
