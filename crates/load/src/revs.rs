//! Decides which revs are accepted. A rev is the time of a commit, and nobody commits in the
//! future. A rev in the future would make every later true one an older one.

use atrepo::syntax;
use rows::datetime;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the clocks of hosts may be ahead of this machine's.
pub const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Microseconds since 1970, by the clock of this machine. `--now` dates rows; it does not change
/// the time.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The greatest rev that is accepted now.
#[must_use]
pub fn newest_believed() -> String {
    let ahead = u64::try_from(AHEAD.as_micros()).unwrap_or(u64::MAX);
    syntax::tid(now().saturating_add(ahead), 1023)
}

/// Why `rev` is not accepted; `None` if it is.
#[must_use]
pub fn refuse(rev: &str) -> Option<String> {
    if rev <= newest_believed().as_str() {
        return None;
    }
    let time = |micros: u64| datetime::print(i64::try_from(micros / 1000).unwrap_or(i64::MAX));
    let of_rev = syntax::tid_micros(rev).map_or_else(|| "no time".to_owned(), time);
    Some(format!(
        "rev {rev} is dated {of_rev}, which is in the future: this machine's clock says {}",
        time(now())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_begins_after_a_few_minutes() {
        let ahead = |seconds: u64| syntax::tid(now() + seconds * 1_000_000, 0);
        assert_eq!(refuse(&ahead(0)), None);
        assert_eq!(refuse(&ahead(200)), None);
        let why = refuse(&ahead(1000)).unwrap();
        assert!(why.contains("in the future"), "{why}");
        let why = refuse("jzzzzzzzzzzzz").unwrap();
        assert!(why.contains("jzzzzzzzzzzzz is dated 2540-"), "{why}");
    }
}
