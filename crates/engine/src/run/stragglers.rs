//! Decides when a run stops waiting for hosts that deliver almost nothing.
//!
//! A host that responds to each request, but slowly, never counts as down. Its half a million repos
//! would keep all others from their indexes for weeks. So the run counts the time in which it only
//! waits for hosts and gets less than one repo per second, or less than the bytes of an average
//! one. After the operator's patience it continues without the repos that are left; a later run
//! fetches them.

use std::time::Duration;

/// Bytes that are worth as much as a repo.
const REPO: u64 = 128 << 10;
/// Repos that a run has to have, and how many per second on average, before it calls anything slow:
/// else it may be its own network that is.
const ENOUGH: u64 = 100;
const QUICK: u64 = 2;

/// What a run got so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progressed {
    pub(crate) repos: u64,
    pub(crate) bytes: u64,
    /// Repos that are on their way from the network to the database.
    pub(crate) in_work: u64,
}

/// The time that a run lost.
#[derive(Debug)]
pub(crate) struct Stragglers {
    patience: Duration,
    before: Progressed,
    working: Duration,
    lost: Duration,
}

impl Stragglers {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            before: Progressed::default(),
            working: Duration::ZERO,
            lost: Duration::ZERO,
        }
    }

    /// Weighs what came in `passed`, since the last check. True if the run should not wait any
    /// longer.
    pub(crate) fn check(&mut self, passed: Duration, got: Progressed) -> bool {
        let repos = got.repos.saturating_sub(self.before.repos);
        let bytes = got.bytes.saturating_sub(self.before.bytes);
        self.before = got;
        let worth = Duration::from_secs(repos + bytes / REPO);
        if worth >= passed || got.in_work > 0 && self.lost.is_zero() {
            self.working += passed;
            self.lost = self.lost.saturating_sub(worth.max(passed));
            return false;
        }
        // While something is in work, hosts are not what is waited for; but what they give now and
        // then does not make up for the rest.
        if got.in_work == 0 {
            self.lost += passed - worth;
        }
        let is_quick = got.repos >= ENOUGH && got.repos >= QUICK * self.working.as_secs().max(1);
        if self.lost < self.patience || !is_quick {
            return false;
        }
        self.lost = Duration::ZERO;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Checks each second what `got` says of it; the second in which the run stopped to wait.
    fn run(seconds: u64, mut got: impl FnMut(u64) -> (u64, u64, u64)) -> Option<u64> {
        let mut stragglers = Stragglers::new(600 * S);
        let mut so_far = Progressed::default();
        (1..=seconds).find(|second| {
            let (repos, bytes, in_work) = got(*second);
            so_far = Progressed {
                repos: so_far.repos + repos,
                bytes: so_far.bytes + bytes,
                in_work,
            };
            stragglers.check(S, so_far)
        })
    }

    #[test]
    fn a_host_that_hardly_gives_anything_ends_the_wait_and_nothing_else_does() {
        let quick = |second: u64| second <= 100;
        // A repo every ten seconds, for ever.
        let drip = |second| {
            if quick(second) {
                50
            } else {
                u64::from(second % 10 == 0)
            }
        };
        let ended = run(100_000, |second| (drip(second), 0, 0));
        assert!(
            ended.is_some_and(|at| (700..900).contains(&at)),
            "{ended:?}"
        );
        // Now and then one of them is in work.
        let ended = run(100_000, |second| {
            (drip(second), 0, u64::from(second % 7 == 0))
        });
        assert!(ended.is_some_and(|at| at < 1200), "{ended:?}");
        // The fullest host goes on at its limit; large repos come; the database is slow; all is
        // slow from the start.
        assert_eq!(
            run(50_000, |second| (if quick(second) { 50 } else { 2 }, 0, 0)),
            None
        );
        assert_eq!(
            run(50_000, |second| (
                if quick(second) { 50 } else { 0 },
                200 << 10,
                0
            )),
            None
        );
        assert_eq!(
            run(50_000, |second| (if quick(second) { 50 } else { 0 }, 0, 9)),
            None
        );
        assert_eq!(
            run(50_000, |second| (u64::from(second % 10 == 0), 0, 0)),
            None
        );
        // A host that restarts for five minutes.
        let restarts = |second| u64::from(!(200..500).contains(&second)) * 9;
        assert_eq!(run(50_000, |second| (restarts(second), 0, 0)), None);
    }
}
