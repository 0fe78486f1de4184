//! Decides whether and when a repo is retried: only here, and from the closed error type.

use crate::FetchError;
use crate::schedule::Outcome;
use std::time::Duration;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Give up: the repo is skipped or failed.
    Never,
    /// Retry after this time.
    After(Duration),
    /// Retry after this time, and pause the whole host for as long.
    AfterHost(Duration),
    /// Give up on this repo, and pause the whole host for this time.
    NeverHost(Duration),
}

/// The attempts at one request that waits for its turns ([`crate::turns`]).
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    made: u32,
    most: u32,
}

impl Attempts {
    /// No attempt yet, of at most `most`.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { made: 1, most }
    }

    /// After an attempt that failed: how long to wait before the next turn is asked for; nothing if
    /// another attempt is of no use.
    pub fn retry_after(&mut self, error: &FetchError) -> Option<Duration> {
        let wait = match decide(error, self.made, self.most) {
            Retry::Never | Retry::NeverHost(_) => return None,
            Retry::After(wait) => wait,
            // The next turn comes after that.
            Retry::AfterHost(_) => Duration::ZERO,
        };
        // That a host has a limit says nothing against a repo: the scheduler's patience is what
        // ends it.
        self.made += u32::from(!matches!(error, FetchError::RateLimited(_)));
        Some(wait)
    }
}

/// First wait; it doubles with each attempt.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait that skyfill chooses itself.
const LONGEST: Duration = Duration::from_secs(30);
/// First wait after a 429 that does not say how long to wait: the limit is learned from it, and the
/// same rate is not repeated.
const HEADERLESS_429: Duration = Duration::from_secs(5);
/// If a host asks for a longer wait than this, the repo fails instead: PDSes count in windows of
/// five minutes.
pub const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Decides after attempt number `attempt` (from 1) of at most `attempts`. A wait that the host
/// asked for is not the repo's fault, so 429s are retried twice as often.
#[must_use]
pub fn decide(error: &FetchError, attempt: u32, attempts: u32) -> Retry {
    let own = || {
        FIRST
            .saturating_mul(1 << attempt.saturating_sub(1).min(16))
            .min(LONGEST)
    };
    match error {
        FetchError::RateLimited(asked) if attempt < attempts.saturating_mul(2) => match asked {
            Some(wait) if *wait > LONGEST_ASKED => Retry::NeverHost(*wait),
            Some(wait) => Retry::AfterHost(*wait),
            None => Retry::AfterHost(
                HEADERLESS_429
                    .saturating_mul(1 << attempt.saturating_sub(1).min(5))
                    .min(LONGEST * 10),
            ),
        },
        FetchError::Server(_, Some(wait)) if attempt < attempts && *wait <= LONGEST_ASKED => {
            Retry::AfterHost(*wait)
        }
        FetchError::Server(_, None)
        | FetchError::Connect(_)
        | FetchError::Stalled(_)
        | FetchError::BrokenBody(_)
        | FetchError::Spool(_)
            if attempt < attempts =>
        {
            Retry::After(own())
        }
        // A CAR that is cut off is complete the next time, or is cut off at its source.
        FetchError::BadRepo(_, true) if attempt < attempts.min(2) => Retry::After(own()),
        FetchError::Account(_)
        | FetchError::RateLimited(_)
        | FetchError::Server(..)
        | FetchError::Refused(..)
        | FetchError::BadUrl(_)
        | FetchError::Blocked(_)
        | FetchError::Connect(_)
        | FetchError::Stalled(_)
        | FetchError::TooSlow(_)
        | FetchError::TooLarge(_)
        | FetchError::Swollen { .. }
        | FetchError::Redirect(_)
        | FetchError::BrokenBody(_)
        | FetchError::BadRepo(..)
        | FetchError::Untrusted(..)
        | FetchError::HostAway(_)
        | FetchError::NoDocument(_)
        | FetchError::Stopped
        | FetchError::Spool(_) => Retry::Never,
    }
}

/// What the end of a request shows about its host.
#[must_use]
pub fn outcome(error: Option<&FetchError>) -> Outcome {
    match error {
        Some(FetchError::RateLimited(wait)) => Outcome::Limited(*wait),
        Some(FetchError::Server(_, Some(wait))) => Outcome::Busy(*wait),
        Some(
            FetchError::Server(_, None)
            | FetchError::Connect(_)
            | FetchError::Stalled(_)
            | FetchError::TooSlow(_)
            | FetchError::BrokenBody(_),
        ) => Outcome::Failed,
        Some(
            FetchError::BadUrl(_)
            | FetchError::Blocked(_)
            | FetchError::HostAway(_)
            | FetchError::NoDocument(_)
            | FetchError::Stopped,
        ) => Outcome::Unused,
        // An answer, whatever it says of a repo.
        None
        | Some(
            FetchError::Account(_)
            | FetchError::Refused(..)
            | FetchError::TooLarge(_)
            | FetchError::Swollen { .. }
            | FetchError::Redirect(_)
            | FetchError::BadRepo(..)
            | FetchError::Untrusted(..)
            | FetchError::Spool(_),
        ) => Outcome::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountState;

    #[test]
    fn a_host_that_says_how_long_is_believed_within_reason() {
        let asked = |secs| FetchError::RateLimited(Some(Duration::from_secs(secs)));
        assert_eq!(
            decide(&asked(7), 1, 4),
            Retry::AfterHost(Duration::from_secs(7))
        );
        assert_eq!(
            decide(&asked(7), 7, 4),
            Retry::AfterHost(Duration::from_secs(7))
        );
        assert_eq!(decide(&asked(7), 8, 4), Retry::Never);
        assert_eq!(
            decide(&asked(3600), 1, 4),
            Retry::NeverHost(Duration::from_secs(3600))
        );
        assert_eq!(
            decide(&FetchError::RateLimited(None), 1, 4),
            Retry::AfterHost(Duration::from_secs(5))
        );
        assert_eq!(
            decide(&FetchError::RateLimited(None), 2, 4),
            Retry::AfterHost(Duration::from_secs(10))
        );
    }

    #[test]
    fn what_is_final_is_not_asked_again() {
        for error in [
            FetchError::Account(AccountState::Takendown),
            FetchError::Blocked(String::new()),
            FetchError::TooLarge(1),
            FetchError::BadRepo(String::new(), false),
        ] {
            assert_eq!(decide(&error, 1, 4), Retry::Never, "{error}");
        }
        assert_eq!(
            decide(&FetchError::Server(500, None), 1, 4),
            Retry::After(Duration::from_millis(500))
        );
        assert_eq!(
            decide(&FetchError::Server(500, None), 3, 4),
            Retry::After(Duration::from_secs(2))
        );
        assert_eq!(decide(&FetchError::Server(500, None), 4, 4), Retry::Never);
    }
}
