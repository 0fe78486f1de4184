//! Whether and when a request is retried: decided ([`decide`], from the closed error type) and
//! carried out ([`persist`]) only here.

use crate::FetchError;
use crate::hosts::LONGEST_ASKED;
use crate::schedule::RequestResult;
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

/// First wait; it doubles with each attempt.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait that skyfill chooses itself.
const LONGEST: Duration = Duration::from_secs(30);
/// First wait after a 429 that does not say how long to wait: the limit is learned from it, and the
/// same rate is not repeated.
const HEADERLESS_429: Duration = Duration::from_secs(5);

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

/// Who waits when a host asks for a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// The request waits. It fails if the host asks for too long a pause.
    Here,
    /// The request waits, however long: without this host there is nothing to do.
    HoweverLong,
    /// The next turn comes after the pause ([`crate::turns`]). That a host has a limit says nothing
    /// against the request, so it costs no attempt: the scheduler's patience is what ends it.
    Turns,
    /// All requests to the host wait before they are made. A patient one goes on after the pause;
    /// any other fails.
    Shared {
        /// Whether it goes on.
        is_patient: bool,
    },
}

/// How often a request is made, and who waits for its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Maximum attempts.
    pub attempts: u32,
    /// Who waits when the host asks for a pause.
    pub pauses: Pauses,
}

impl Policy {
    /// How long to pause after an error; nothing if it is final.
    fn pause(self, retry: Retry) -> Option<Duration> {
        let pauses = self.pauses;
        match retry {
            Retry::Never => None,
            Retry::After(wait) => Some(wait),
            Retry::AfterHost(wait) | Retry::NeverHost(wait) if pauses == Pauses::HoweverLong => {
                Some(wait)
            }
            Retry::AfterHost(wait) if pauses == Pauses::Here => Some(wait),
            Retry::AfterHost(_) if pauses == Pauses::Turns => Some(Duration::ZERO),
            Retry::AfterHost(_) | Retry::NeverHost(_) => {
                let goes_on = Pauses::Shared { is_patient: true };
                (pauses == goes_on).then_some(Duration::ZERO)
            }
        }
    }
}

/// Makes a request until it is answered, or there is no use in making it again. The one loop of its
/// kind: what to do about an error is decided by [`decide`] and carried out here.
///
/// `on_error` takes each error with what was decided. Pauses end when `stop` does; a request that
/// may be broken off is broken off by whoever makes it.
///
/// # Errors
/// The last error; [`FetchError::Stopped`], if it was stopped.
pub async fn persist<T, R: Future<Output = Result<T, FetchError>>>(
    policy: Policy,
    stop: impl Future<Output = ()>,
    mut request: impl FnMut() -> R,
    mut on_error: impl FnMut(&FetchError, Retry),
) -> Result<T, FetchError> {
    tokio::pin!(stop);
    let mut attempt = 1u32;
    loop {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let retry = decide(&error, attempt, policy.attempts);
        on_error(&error, retry);
        let Some(pause) = policy.pause(retry) else {
            return Err(error);
        };
        let is_free = policy.pauses == Pauses::Turns && matches!(error, FetchError::RateLimited(_));
        attempt = attempt.saturating_add(u32::from(!is_free));
        tokio::select! {
            biased;
            () = &mut stop => return Err(FetchError::Stopped),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Breaks `work` off when `stop` ends.
///
/// # Errors
/// That of `work`; [`FetchError::Stopped`], if it was stopped.
pub async fn unless_stopped<T>(
    stop: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::select! {
        outcome = work => outcome,
        () = stop => Err(FetchError::Stopped),
    }
}

/// What the end of a request shows about its host.
#[must_use]
pub fn outcome(error: Option<&FetchError>) -> RequestResult {
    match error {
        Some(FetchError::RateLimited(wait)) => RequestResult::Limited(*wait),
        Some(FetchError::Server(_, Some(wait))) => RequestResult::Busy(*wait),
        Some(
            FetchError::Server(_, None)
            | FetchError::Connect(_)
            | FetchError::Stalled(_)
            | FetchError::TooSlow(_)
            | FetchError::BrokenBody(_),
        ) => RequestResult::Failed,
        Some(
            FetchError::BadUrl(_)
            | FetchError::Blocked(_)
            | FetchError::HostAway(_)
            | FetchError::NoDocument(_)
            | FetchError::Stopped,
        ) => RequestResult::Unused,
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
        ) => RequestResult::Answered,
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

    /// The result for a request that fails so often with `error`: whether it was answered, how
    /// often it was made, and the seconds that it waited.
    async fn made(policy: Policy, error: FetchError, failures: u32) -> (bool, u32, u64) {
        let (started, times) = (tokio::time::Instant::now(), std::cell::Cell::new(0));
        let request = || async {
            times.set(times.get() + 1);
            if times.get() > failures {
                return Ok(());
            }
            Err(error.clone())
        };
        let made = persist(policy, std::future::pending(), request, |_, _| {});
        let is_ok = made.await.is_ok();
        (is_ok, times.get(), started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_made_as_often_as_it_is_worth_it() {
        let limited = |secs| FetchError::RateLimited(Some(Duration::from_secs(secs)));
        let down = || FetchError::Server(503, None);
        let patient = Pauses::Shared { is_patient: true };
        let impatient = Pauses::Shared { is_patient: false };
        let blocked = FetchError::Blocked(String::new());
        for (pauses, error, failures, made_so) in [
            (Pauses::Here, down(), 2, (true, 3, 1)),
            (Pauses::Here, down(), 9, (false, 3, 1)),
            (Pauses::Here, limited(60), 1, (true, 2, 60)),
            (Pauses::Here, limited(3600), 9, (false, 1, 0)),
            (Pauses::HoweverLong, limited(3600), 2, (true, 3, 7200)),
            (Pauses::HoweverLong, blocked, 9, (false, 1, 0)),
            (Pauses::Turns, limited(60), 50, (true, 51, 0)),
            (Pauses::Turns, limited(3600), 9, (false, 1, 0)),
            (Pauses::Turns, down(), 9, (false, 3, 1)),
            (patient, limited(3600), 2, (true, 3, 0)),
            (impatient, limited(60), 2, (false, 1, 0)),
            (impatient, down(), 2, (true, 3, 1)),
        ] {
            let policy = Policy {
                attempts: 3,
                pauses,
            };
            let text = format!("{pauses:?} {error}");
            assert_eq!(made(policy, error, failures).await, made_so, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_to_stop_does_not_wait() {
        let policy = Policy {
            attempts: 3,
            pauses: Pauses::HoweverLong,
        };
        let limited = || async { Err::<(), _>(FetchError::RateLimited(None)) };
        let stopped = persist(policy, std::future::ready(()), limited, |_, _| {}).await;
        assert_eq!(stopped, Err(FetchError::Stopped));
        let never = std::future::pending::<Result<(), FetchError>>();
        let stopped = unless_stopped(std::future::ready(()), never).await;
        assert_eq!(stopped, Err(FetchError::Stopped));
    }
}
