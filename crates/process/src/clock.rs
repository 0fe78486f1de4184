//! The time of a run: the clock's, or what `--now` says.

use crate::failure::Failure;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn now(given: Option<&str>) -> Result<i64, Failure> {
    match given {
        Some(text) => rows::datetime::parse(text).ok_or_else(|| {
            Failure::usage(format!("--now {text}: not a date and time with a zone"))
        }),
        None => {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        }
    }
}
