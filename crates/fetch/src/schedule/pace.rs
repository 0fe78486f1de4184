//! Paces the requests to one host by the limit that its own responses show.
//!
//! A host that announces its limit is used evenly, slightly below it, so that no window of its
//! length has more requests than allowed, wherever the host's own window begins. The announced
//! remainder of its window counts as well, because somebody else may send requests from the same
//! address. A host that announces nothing gets requests slowly, then faster (additive increase). An
//! unannounced 429 is a lesson: a fifth below the rate at that time is the ceiling from then on.
//! Times are counted from any fixed moment, so that a virtual clock can drive this.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// A limit that a host announces, and the remainder of its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Requests per window.
    pub limit: u32,
    /// Length of the window, if the host says it.
    pub window: Option<Duration>,
    /// Requests left in the present window.
    pub remaining: Option<u32>,
    /// Time until that window ends.
    pub reset_in: Option<Duration>,
}

/// A known limit: a number of requests per time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Requests.
    pub requests: u32,
    /// Length of the window, in seconds.
    pub seconds: f64,
}

impl Limit {
    /// Requests that may be sent at once; the rest is spread evenly. No window of any phase then
    /// has more than the limit.
    fn burst(self) -> f64 {
        (f64::from(self.requests) / 200.0).max(1.0)
    }

    /// The limit, if it is plausible; at most [`MOST_RATE`], whatever a host announces.
    fn sound(self) -> Option<Self> {
        if self.requests == 0 || !(1.0..=LONGEST_WINDOW).contains(&self.seconds) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let most = (MOST_RATE * self.seconds) as u32;
        Some(Self {
            requests: self.requests.min(most),
            ..self
        })
    }

    /// Requests per second: a five-hundredth below what burst and rate together may be, because
    /// clocks and networks are not exact.
    #[must_use]
    pub fn rate(self) -> f64 {
        let even = (f64::from(self.requests) * 0.998 - self.burst()) / self.seconds;
        // A limit of one request allows no burst.
        even.max(0.5 * f64::from(self.requests) / self.seconds)
    }
}

/// First rate at a host that announces nothing, as a share of its maximum rate.
const FIRST_RATE: f64 = 0.2;
/// Increase of the rate per second of use, as a share of the same.
const INCREASE: f64 = 0.05;
/// Share of the rate at the time of a lesson that remains as the ceiling.
const CEILING: f64 = 0.8;
/// Lowest rate, in requests per second.
const LOWEST_RATE: f64 = 0.001;
/// Time over which the rate at a lesson is measured.
const MEASURED: Duration = Duration::from_secs(5);
/// First wait after a 429 that does not say how long.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest such wait: PDSes count in windows of five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Longest window that is accepted, in seconds.
const LONGEST_WINDOW: f64 = 86_400.0;
/// Highest rate that is accepted, in requests per second: a hundred times what PDSes allow.
const MOST_RATE: f64 = 1000.0;

/// The pace at one host or address.
#[derive(Clone, Debug)]
pub struct Pace {
    limit: Option<Limit>,
    /// Requests left in the host's window, and the time at which it ends.
    left: Option<(u32, Duration)>,
    rate: f64,
    /// Maximum rate if no limit is announced, in requests per second.
    most: f64,
    ceiling: Option<f64>,
    lessons: u32,
    tokens: f64,
    counted_at: Duration,
    raised_at: Duration,
    paused_until: Duration,
    /// Number of unannounced 429s in a row.
    silent: u32,
    /// Whether the one request that is allowed after such a 429 is in flight.
    probing: bool,
    under_way: u32,
    sent: VecDeque<Duration>,
}

impl Pace {
    /// The pace at a host of which nothing is known: at most `most` requests per second, unless it
    /// announces more.
    #[must_use]
    pub fn new(now: Duration, most: f64) -> Self {
        Self {
            limit: None,
            left: None,
            rate: FIRST_RATE * most,
            most,
            ceiling: None,
            lessons: 0,
            tokens: 1.0,
            counted_at: now,
            raised_at: now,
            paused_until: Duration::ZERO,
            silent: 0,
            probing: false,
            under_way: 0,
            sent: VecDeque::new(),
        }
    }

    /// The same for a server whose operator, or ours, chose the rate: it begins there.
    #[must_use]
    pub fn at_most(now: Duration, most: f64) -> Self {
        Self {
            rate: most,
            ..Self::new(now, most)
        }
    }

    /// Restores what was learned before, as far as it is plausible: it comes from a database.
    pub fn learn(&mut self, limit: Option<Limit>, ceiling: Option<f64>, lessons: u32) {
        self.limit = limit.and_then(Limit::sound);
        self.ceiling = ceiling
            .filter(|ceiling| ceiling.is_finite() && *ceiling > 0.0)
            .map(|ceiling| ceiling.clamp(LOWEST_RATE, MOST_RATE));
        self.lessons = lessons;
        if let Some(ceiling) = self.ceiling {
            self.rate = self.rate.max(ceiling / 2.0).min(ceiling);
        }
    }

    /// Begins with nothing to spend at a host whose limit is known: whoever asked it until now may
    /// have spent all that it allows at this moment.
    pub fn begin_empty(&mut self, now: Duration) {
        if self.limit.is_some() {
            self.tokens = self.tokens.min(0.0);
            self.counted_at = self.counted_at.max(now);
        }
    }

    /// The announced limit.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// What unannounced 429s taught: the ceiling in requests per second, and their number.
    #[must_use]
    pub fn lessons(&self) -> (Option<f64>, u32) {
        (self.ceiling, self.lessons)
    }

    /// The rate that is allowed now, in requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        match (self.limit, self.ceiling) {
            (None, _) => self.rate,
            (Some(limit), None) => limit.rate(),
            // An announced limit, and a lower one that is not announced.
            (Some(limit), Some(_)) => limit.rate().min(self.rate),
        }
    }

    fn burst(&self) -> f64 {
        self.limit.map_or(1.0, Limit::burst)
    }

    fn count_up(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted_at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate()).min(self.burst());
        self.counted_at = self.counted_at.max(now);
    }

    /// The time of the next request. After an unannounced 429 nothing is sent until all requests in
    /// flight are back, then one at a time.
    #[must_use]
    pub fn next_at(&self, now: Duration) -> Option<Duration> {
        if self.silent > 0 && self.under_way > 0 {
            return None;
        }
        let passed = now.saturating_sub(self.counted_at).as_secs_f64();
        let tokens = (self.tokens + passed * self.rate()).min(self.burst());
        let mut at = now.max(self.paused_until);
        if tokens < 1.0 {
            at = at.max(now + seconds((1.0 - tokens) / self.rate()));
        }
        if let Some((0, reset)) = self.left {
            at = at.max(reset);
        }
        Some(at)
    }

    /// A request is sent.
    pub fn on_sent(&mut self, now: Duration) {
        if self.silent == 0 && (self.limit.is_none() || self.ceiling.is_some()) {
            self.raise(now);
        }
        self.count_up(now);
        self.tokens -= 1.0;
        self.probing = self.silent > 0;
        self.under_way = self.under_way.saturating_add(1);
        match &mut self.left {
            Some((_, reset)) if *reset <= now => self.left = None,
            Some((left, _)) => *left = left.saturating_sub(1),
            None => {}
        }
        self.sent.push_back(now);
        self.forget(now);
    }

    fn forget(&mut self, now: Duration) {
        while self
            .sent
            .front()
            .is_some_and(|at| now.saturating_sub(*at) > MEASURED)
        {
            self.sent.pop_front();
        }
    }

    /// A request that was counted was not sent after all.
    pub fn on_not_sent(&mut self) {
        self.on_ended();
        self.tokens = (self.tokens + 1.0).min(self.burst());
        self.sent.pop_back();
    }

    /// A request ended. Returns whether it was the one that is allowed after an unannounced 429.
    fn on_ended(&mut self) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        std::mem::take(&mut self.probing)
    }

    /// A request ended without a response.
    pub fn on_lost(&mut self) {
        self.on_ended();
    }

    /// Additive increase, as long as the rate is the bottleneck.
    fn raise(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.raised_at).as_secs_f64();
        self.count_up(now);
        // If requests are far apart, something else is the bottleneck.
        if passed * self.rate <= 3.0 {
            let most = self.ceiling.unwrap_or(self.most).min(self.most);
            self.rate = (self.rate + passed * INCREASE * self.most)
                .clamp(LOWEST_RATE, most.max(LOWEST_RATE));
        }
        self.raised_at = now;
    }

    /// The rate over the last seconds, in requests per second.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn measured(&mut self, now: Duration) -> f64 {
        self.forget(now);
        let first = self.sent.front().copied().unwrap_or(now);
        let span = now.saturating_sub(first).as_secs_f64().max(1.0);
        self.sent.len() as f64 / span
    }

    /// A response announced a limit; `others` requests are in flight beside it.
    pub fn on_announced(&mut self, now: Duration, announced: &Announced, others: u32) {
        let reset_in = announced
            .reset_in
            .filter(|reset| reset.as_secs_f64() <= LONGEST_WINDOW);
        // If a host does not state the length of its window, it is at least the rest of it.
        let known = self.limit.map_or(0.0, |limit| limit.seconds);
        let window = announced
            .window
            .map(|window| window.as_secs_f64())
            .or_else(|| reset_in.map(|reset| reset.as_secs_f64().max(known)));
        let limit = window.and_then(|seconds| {
            let requests = announced.limit;
            Limit { requests, seconds }.sound()
        });
        if limit.is_none() {
            return;
        }
        self.count_up(now);
        self.limit = limit;
        self.tokens = self.tokens.min(self.burst());
        if let (Some(remaining), Some(reset_in)) = (announced.remaining, reset_in) {
            // Servers round the time down to whole seconds.
            let reset = now + reset_in + Duration::from_secs(1);
            let unseen = remaining.saturating_sub(others);
            self.left = match self.left {
                // Resets come in whole seconds.
                Some((left, old)) if reset <= old + Duration::from_secs(2) => {
                    // A response that took long describes a window that is over.
                    let is_of_it = reset + Duration::from_secs(2) >= old;
                    Some((if is_of_it { left.min(remaining) } else { left }, old))
                }
                _ => Some((unseen, reset)),
            };
        }
    }

    /// A response that is not a 429 arrived.
    pub fn on_answered(&mut self, now: Duration) {
        if self.on_ended() {
            self.silent = 0;
            self.raised_at = now;
            self.tokens = self.tokens.min(1.0);
            self.counted_at = now;
        }
    }

    /// A 429 arrived whose response also announced the limit, and so the time to wait.
    pub fn on_limit_reached(&mut self, now: Duration, wait: Duration) {
        self.on_ended();
        self.pause(now, wait);
    }

    /// A 429 arrived without an announced limit: a lesson, with the wait that it asks for, if it
    /// does. Further 429s before the next good response belong to the same lesson.
    pub fn on_rate_limited(&mut self, now: Duration, wait: Option<Duration>) {
        let was_probe = self.on_ended();
        if self.silent == 0 {
            let met = self.measured(now).min(self.rate());
            let ceiling = (met * CEILING)
                .min(self.ceiling.unwrap_or(f64::MAX))
                .max(LOWEST_RATE);
            self.ceiling = Some(ceiling.max(LOWEST_RATE));
            self.lessons = self.lessons.saturating_add(1);
            self.rate = (ceiling / 2.0).max(LOWEST_RATE);
            self.silent = 1;
        } else if was_probe {
            self.silent = self.silent.saturating_add(1);
        } else if wait.is_none() {
            return;
        }
        let own = FIRST_WAIT.saturating_mul(1 << self.silent.saturating_sub(1).min(10));
        self.pause(now, wait.unwrap_or(own.min(LONGEST_WAIT)));
    }

    /// How long nothing may be sent for the sake of the host: it asked for that, or its window is
    /// used up.
    #[must_use]
    pub fn pause_left(&self, now: Duration) -> Option<Duration> {
        let used_up = self.left.filter(|(left, _)| *left == 0);
        let until = used_up.map_or(self.paused_until, |(_, reset)| reset.max(self.paused_until));
        (until > now).then(|| until.saturating_sub(now))
    }

    /// Sends nothing for `wait`.
    pub fn pause(&mut self, now: Duration, wait: Duration) {
        let wait = wait.min(Duration::from_secs(86_400));
        self.paused_until = self.paused_until.max(now + wait);
    }

    /// The end of the pause, if it is later than `now`.
    #[must_use]
    pub fn paused_until(&self, now: Duration) -> Option<Duration> {
        (self.paused_until > now).then_some(self.paused_until)
    }
}

/// That many seconds; a day if the number is not plausible.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).unwrap_or(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends all that `pace` allows for `span`, answering each request at once.
    fn send_for(
        pace: &mut Pace,
        now: &mut Duration,
        span: Duration,
        mut answer: impl FnMut(&mut Pace, Duration),
    ) {
        let end = *now + span;
        while let Some(at) = pace.next_at(*now).filter(|at| *at < end) {
            *now = at.max(*now);
            pace.on_sent(*now);
            answer(pace, *now);
        }
        *now = end;
    }

    #[test]
    fn an_announced_limit_is_used_and_never_passed_in_any_window() {
        for requests in [2u32, 10, 100, 3000] {
            let window = Duration::from_secs(300);
            let mut now = Duration::ZERO;
            let mut pace = Pace::new(now, 10.0);
            let mut times = Vec::new();
            send_for(&mut pace, &mut now, window * 10, |pace, at| {
                times.push(at);
                pace.on_answered(at);
                let announced = Announced {
                    limit: requests,
                    window: Some(window),
                    ..Announced::default()
                };
                pace.on_announced(at, &announced, 0);
            });
            let limit = requests as usize;
            assert!(
                times
                    .windows(limit + 1)
                    .all(|some| some[limit] - some[0] >= window),
                "{requests}"
            );
            let share = times.len() as f64 / f64::from(requests * 10);
            assert!(share > 0.985 || requests < 1000, "{requests}: {share}");
        }
    }

    #[test]
    fn what_is_left_of_a_window_that_others_use_is_believed() {
        let mut now = Duration::from_secs(50);
        let mut pace = Pace::new(now, 10.0);
        pace.on_sent(now);
        let announced = Announced {
            limit: 100,
            window: Some(Duration::from_secs(10)),
            remaining: Some(3),
            reset_in: Some(Duration::from_secs(8)),
        };
        pace.on_announced(now, &announced, 0);
        pace.on_answered(now);
        let mut sent = 0;
        send_for(
            &mut pace,
            &mut now,
            Duration::from_millis(7900),
            |pace, at| {
                sent += 1;
                pace.on_answered(at);
            },
        );
        assert_eq!(sent, 3);
        assert_eq!(pace.next_at(now), Some(Duration::from_secs(59)));
    }

    #[test]
    fn a_silent_limit_is_met_at_lower_and_lower_rates_until_it_is_not_met() {
        let (limit, window) = (30u32, Duration::from_secs(10));
        let mut now = Duration::ZERO;
        let mut pace = Pace::new(now, 10.0);
        let (mut began, mut count) = (Duration::ZERO, 0);
        let mut lessons = Vec::new();
        let mut good = 0;
        send_for(
            &mut pace,
            &mut now,
            Duration::from_secs(3600),
            |pace, at| {
                if at >= began + window {
                    (began, count) = (at, 0);
                }
                count += 1;
                if count > limit {
                    let before = pace.lessons().1;
                    let rate = pace.measured(at);
                    pace.on_rate_limited(at, None);
                    if pace.lessons().1 > before {
                        lessons.push(rate);
                    }
                } else {
                    good += 1;
                    pace.on_answered(at);
                }
            },
        );
        assert!((1..=6).contains(&lessons.len()), "{lessons:?}");
        assert!(lessons.windows(2).all(|two| two[1] < two[0]), "{lessons:?}");
        // Within a fifth of the limit in the long run.
        assert!(good > 3600 * 3 * 3 / 4, "{good}");
    }

    #[test]
    fn nonsense_is_not_believed() {
        let now = Duration::from_secs(1);
        let mut pace = Pace::new(now, 10.0);
        for announced in [
            Announced {
                limit: 0,
                window: Some(Duration::from_secs(10)),
                ..Announced::default()
            },
            Announced {
                limit: 1,
                window: Some(MS),
                ..Announced::default()
            },
            Announced {
                limit: 5,
                window: Some(Duration::from_secs(u64::MAX)),
                ..Announced::default()
            },
            Announced {
                limit: 5,
                ..Announced::default()
            },
        ] {
            pace.on_announced(now, &announced, 3);
            assert_eq!(pace.limit(), None);
        }
        pace.learn(
            Some(Limit {
                requests: 5,
                seconds: f64::NAN,
            }),
            Some(f64::INFINITY),
            1,
        );
        assert_eq!(pace.limit(), None);
        pace.learn(None, Some(1e-300), 1);
        assert!(pace.rate() >= LOWEST_RATE / 2.0);
        let boundless = Announced {
            limit: u32::MAX,
            window: Some(Duration::from_secs(1)),
            remaining: Some(0),
            reset_in: Some(Duration::from_secs(u64::MAX)),
        };
        pace.on_announced(now, &boundless, 0);
        assert!(pace.limit().is_some_and(|limit| limit.rate() <= MOST_RATE));
        assert!(
            pace.next_at(now)
                .is_some_and(|at| at < now + Duration::from_secs(86_400))
        );
        pace.pause(now, Duration::MAX);
        assert!(pace.next_at(now).is_some());
    }
}
