//! Puts off domains that stall.
//!
//! Handles and `did:web` accounts lead to hosts that anybody can name. The owner of a domain can
//! name five million hosts of it, each of which lets a request time out. So a domain is put off
//! when many requests in a row got no response: nobody waits for its other names until some time
//! has passed. A domain that responds gets all the requests that there is reason for, however many
//! names it has.

use fetch::hosts::domain_of;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A request that failed faster than this did not stall: it cost next to nothing.
const QUICK: Duration = Duration::from_secs(1);
/// Number of stalls in a row after which a domain is put off.
const STALLS: u32 = 16;
/// First and longest time for which a domain is put off. The time doubles; one request in between
/// shows whether the domain responds again.
const FIRST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(86_400);
/// Maximum number of domains that are kept, all of which stalled. Beyond it, first those that are
/// not put off are dropped, then all.
const MOST: usize = 100_000;

/// The state of domains that stalled.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    stalled: Mutex<HashMap<String, Stalled>>,
}

#[derive(Debug, Default)]
struct Stalled {
    in_a_row: u32,
    put_off: Option<(Instant, Duration)>,
}

impl Domains {
    /// Why the domain of `host` gets no request now; `None` if it does get one.
    pub(crate) fn put_off(&self, host: &str) -> Option<String> {
        let domain = domain_of(host);
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, wait) = stalled.get_mut(&domain)?.put_off.as_mut()?;
        let now = Instant::now();
        if *until <= now {
            // This request shows whether the domain responds again; the others wait for its result.
            *until = later(now, *wait);
            return None;
        }
        let left = until.saturating_duration_since(now).as_secs();
        Some(format!(
            "{domain} is put off for {left} s: {STALLS} requests in a row got no response"
        ))
    }

    /// Records the result of a request to `host`, and how long it took.
    pub(crate) fn asked(&self, host: &str, has_answered: bool, took: Duration) {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        let domain = domain_of(host);
        if has_answered {
            stalled.remove(&domain);
            return;
        }
        if took < QUICK {
            return;
        }
        if stalled.len() >= MOST && !stalled.contains_key(&domain) {
            stalled.retain(|_, one| one.put_off.is_some());
            if stalled.len() >= MOST {
                stalled.clear();
            }
        }
        let one = stalled.entry(domain).or_default();
        one.in_a_row = one.in_a_row.saturating_add(1);
        if one.in_a_row < STALLS {
            return;
        }
        one.in_a_row = 0;
        // Requests that were in flight when the domain was put off add nothing.
        let now = Instant::now();
        let wait = match one.put_off {
            Some((until, _)) if until > now => return,
            Some((_, wait)) => wait.saturating_mul(2).min(LONGEST),
            None => FIRST,
        };
        one.put_off = Some((later(now, wait), wait));
    }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_domain_that_stalls_is_put_off_and_one_that_answers_never() {
        let domains = Domains::default();
        let (mut asked, mut put_off) = (0, 0);
        for number in 0..5000 {
            let evil = format!("u{number}.evil.example");
            if domains.put_off(&evil).is_none() {
                asked += 1;
                tokio::time::advance(TIMEOUT / 32).await;
                domains.asked(&evil, false, TIMEOUT);
            } else {
                put_off += 1;
            }
            // Ten million handles of a domain that mostly answers.
            let good = format!("u{number}.bsky.social");
            assert_eq!(domains.put_off(&good), None);
            domains.asked(&good, number % 10 == 0, TIMEOUT);
            // Nobody there costs no time.
            let gone = format!("u{number}.gone.example");
            assert_eq!(domains.put_off(&gone), None);
            domains.asked(&gone, false, Duration::from_millis(20));
        }
        assert_eq!((asked, put_off), (16, 4984));
        // Later one question is let through, and an answer forgives all.
        tokio::time::advance(FIRST + TIMEOUT).await;
        assert_eq!(domains.put_off("a.evil.example"), None);
        assert!(domains.put_off("b.evil.example").is_some());
        domains.asked("a.evil.example", true, TIMEOUT);
        assert_eq!(domains.put_off("b.evil.example"), None);
    }
}
