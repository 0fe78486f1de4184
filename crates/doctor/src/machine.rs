//! This machine: open files, and its clock beside others.

use crate::{Finding, Level};
use postgres::Client;
use process::{Database, Failure};
use rustix::process::{Resource, getrlimit};
use std::time::{SystemTime, UNIX_EPOCH};

/// Open files that a run with the most concurrent requests by default may need: 2,048 requests,
/// their spools, and the database.
const FILES: u64 = 4352;

/// How many files and connections the process may have.
pub(crate) fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    // skyfill raises its own limit as far as it may.
    match limit.current.max(limit.maximum) {
        Some(most) if most < FILES => Finding::ok("open files", format!("at most {most}"))
            .but(
                Level::Warning,
                "a run makes fewer requests at once: each has a connection and perhaps a file",
            )
            .change(format!(
                "ulimit -n {FILES}; or LimitNOFILE={FILES} in a systemd unit"
            )),
        Some(most) => Finding::ok("open files", format!("at most {most}")),
        None => Finding::ok("open files", "without a limit"),
    }
}

/// The clock of this machine beside the server's.
pub(crate) fn server_clock(
    client: &mut Client,
    database: &Database,
) -> Result<Vec<Finding>, Failure> {
    let before = SystemTime::now();
    let row = client
        .query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[])
        .map_err(|error| database.failure(error))?;
    let between = before + before.elapsed().unwrap_or_default() / 2;
    let ours = between.duration_since(UNIX_EPOCH).unwrap_or_default();
    let apart = ours.as_secs_f64() - row.get::<_, f64>(0);
    Ok(vec![clock("the database server", apart, 0.0)])
}

/// What a difference between two clocks means, beyond what could not be measured.
pub(crate) fn clock(other: &str, apart: f64, unsure: f64) -> Finding {
    let size = apart.abs();
    let found = if size <= unsure.max(1.0) {
        format!("agrees with {other}")
    } else {
        let side = if apart > 0.0 { "ahead of" } else { "behind" };
        format!("{size:.0} s {side} {other}")
    };
    let finding = Finding::ok("clock", found);
    let change = "set this machine's clock by NTP (timedatectl set-ntp true)";
    if size > 300.0 {
        finding
            .but(
                Level::Problem,
                "revs more than five minutes ahead of the clock are refused, and indexedAt would be wrong",
            )
            .change(change)
    } else if size > unsure.max(5.0) {
        finding
            .but(
                Level::Warning,
                "leases and times of records depend on the clock",
            )
            .change(change)
    } else {
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_a_problem() {
        assert_eq!(clock("x", 0.4, 0.0).level, Level::Ok);
        assert_eq!(clock("x", 1.9, 2.0).level, Level::Ok);
        let behind = clock("x", -20.0, 2.0);
        assert_eq!(behind.level, Level::Warning);
        assert!(behind.found.contains("behind x"), "{}", behind.found);
        let ahead = clock("x", 400.0, 2.0);
        assert_eq!(ahead.level, Level::Problem);
        assert!(ahead.found.contains("400 s ahead of x"), "{}", ahead.found);
    }
}
