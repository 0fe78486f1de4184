//! Decides how many requests a host gets concurrently, and whether it works at all.
//!
//! Concurrency follows what the host can take. It grows while responses arrive (it doubles at
//! first, then grows by one per round), and halves when requests fail or become much slower. A host
//! that fails repeatedly rests, longer each time, and one request at a time checks whether it is
//! back. After the operator's patience it counts as down.

use std::time::Duration;

/// Minimum concurrency of a host that responds.
const LEAST: u32 = 4;
/// Maximum concurrency of a host.
const MOST: f64 = 64.0;
/// Failures in a row after which a host is left alone: less for one that never answered.
const FAILURES: u32 = 5;
const FAILURES_AT_FIRST: u32 = 2;
/// First and longest time of rest.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Time after which a host that counts as down is retried.
pub const AWAY: Duration = Duration::from_secs(3600);

/// The state of one host.
#[derive(Clone, Debug)]
pub struct Health {
    window: f64,
    /// Whether there was a failure; until then the window doubles.
    had_trouble: bool,
    /// Failures since the last response.
    failures: u32,
    /// Whether the last request got a response.
    is_proven: bool,
    has_answered: bool,
    rests: u32,
    rest_until: Duration,
    /// Time since which it does not respond.
    failing_since: Option<Duration>,
    away_until: Option<Duration>,
    /// Time to the first byte, in seconds: of the fastest responses, and of the last ones.
    fastest: Option<f64>,
    lately: f64,
    cut_at: Duration,
}

impl Health {
    /// A host of which nothing is known except, perhaps, its concurrency in an earlier run.
    #[must_use]
    pub fn new(window: Option<f64>) -> Self {
        Self {
            window: window
                .filter(|w| w.is_finite())
                .unwrap_or(1.0)
                .clamp(1.0, MOST),
            had_trouble: false,
            failures: 0,
            is_proven: false,
            has_answered: false,
            rests: 0,
            rest_until: Duration::ZERO,
            failing_since: None,
            away_until: None,
            fastest: None,
            lately: 0.0,
            cut_at: Duration::ZERO,
        }
    }

    /// Concurrent requests that it can take.
    #[must_use]
    pub fn window(&self) -> f64 {
        self.window
    }

    /// Concurrent requests that it gets now: one until its first response, then at least a few, so
    /// that repos that stall do not hold up all others.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn room(&self) -> u32 {
        if self.has_answered {
            (self.window as u32).max(LEAST)
        } else {
            1
        }
    }

    /// Whether the last request got a response.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// The time from which on it may get requests.
    #[must_use]
    pub fn rest_until(&self) -> Duration {
        self.rest_until
    }

    /// The time until which it counts as down.
    #[must_use]
    pub fn away_until(&self, now: Duration) -> Option<Duration> {
        self.away_until.filter(|until| *until > now)
    }

    /// A response arrived; `first_byte` is the time to its first byte, and `is_full` whether the
    /// host had all the requests that it gets.
    pub fn answered(&mut self, now: Duration, first_byte: Option<Duration>, is_full: bool) {
        self.failures = 0;
        self.rests = 0;
        self.is_proven = true;
        self.has_answered = true;
        self.failing_since = None;
        self.away_until = None;
        if is_full {
            self.window += if self.had_trouble {
                1.0 / self.window
            } else {
                1.0
            };
            self.window = self.window.min(MOST);
        }
        let Some(took) = first_byte.map(|took| took.as_secs_f64()) else {
            return;
        };
        // The fastest times fade slowly, because networks change.
        let fastest = self
            .fastest
            .map_or(took, |fastest| took.min(fastest * 1.001));
        self.fastest = Some(fastest);
        self.lately = if self.lately == 0.0 {
            took
        } else {
            self.lately * 0.9 + took * 0.1
        };
        let is_slow = self.lately > fastest * 4.0 + 0.5;
        if is_slow
            && self.window > 2.0
            && (now.saturating_sub(self.cut_at)).as_secs_f64() > self.lately * 2.0
        {
            self.had_trouble = true;
            self.window = (self.window * 0.8).max(1.0);
            self.cut_at = now;
        }
    }

    /// A request got no response, or one that broke off. Returns true if the host counts as down
    /// from now on, because it did not respond for `patience`.
    pub fn failed(&mut self, now: Duration, patience: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.had_trouble = true;
        let never_answered = !self.has_answered;
        self.is_proven = false;
        if self.failures >= 2 {
            self.window = (self.window / 2.0).max(1.0);
        }
        let since = *self.failing_since.get_or_insert(now);
        let most = if never_answered {
            FAILURES_AT_FIRST
        } else {
            FAILURES
        };
        if self.failures < most || now < self.rest_until {
            return false;
        }
        if now.saturating_sub(since) >= patience && self.away_until(now).is_none() {
            self.away_until = Some(now + AWAY);
            self.rest_until = now + AWAY;
            self.failing_since = None;
            self.rests = 0;
            return true;
        }
        let rest = FIRST_REST
            .saturating_mul(1 << self.rests.min(10))
            .min(LONGEST_REST);
        // Not longer than the patience that is left, so that its end is noticed in time.
        let left = patience
            .saturating_sub(now.saturating_sub(since))
            .max(Duration::from_secs(1));
        self.rests = self.rests.saturating_add(1);
        self.rest_until = now + rest.min(left);
        false
    }

    /// Makes it count as down until then, whatever its responses were.
    pub fn leave(&mut self, until: Duration) {
        self.away_until = Some(until);
        self.rest_until = self.rest_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_host_that_answers_gets_more_at_once_and_one_that_fails_less() {
        let mut health = Health::new(None);
        assert_eq!(health.room(), 1);
        for second in 0..10u32 {
            health.answered(S * second, Some(S / 10), true);
        }
        assert_eq!(health.room(), 11);
        health.failed(S * 11, S * 600);
        assert_eq!((health.room(), health.is_proven()), (11, false));
        health.failed(S * 11, S * 600);
        health.answered(S * 12, Some(S / 10), false);
        assert_eq!((health.room(), health.is_proven()), (5, true));
        for second in 12..100u32 {
            health.answered(S * second, Some(S * 8), false);
        }
        assert!(
            health.room() <= LEAST,
            "slow answers make it less: {}",
            health.window()
        );
    }

    #[test]
    fn a_host_that_is_gone_rests_longer_and_longer_and_then_counts_as_away() {
        let mut health = Health::new(None);
        let (mut now, mut tries, patience) = (Duration::ZERO, 0, S * 120);
        while !health.failed(now, patience) {
            now = now.max(health.rest_until()) + S;
            tries += 1;
            assert!(tries < 20);
        }
        assert!(now >= patience && now < patience + S * 30, "{now:?}");
        assert!(tries < 12, "{tries} tries");
        assert!(health.away_until(now).is_some());
        assert!(health.rest_until() >= now + AWAY);
        // An hour later it is asked again, and is back.
        health.answered(now + AWAY, None, false);
        assert_eq!(health.away_until(now), None);
    }
}
