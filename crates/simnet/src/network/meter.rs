//! Limits of hosts, and the count of what clients asked them for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// So many requests in a window of time that begins with the first of them; each client has its
/// own. As PDSes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Requests in a window.
    pub requests: u32,
    /// Length of a window.
    pub window: Duration,
}

impl FromStr for Limit {
    type Err = &'static str;

    /// `REQUESTS/SECONDS`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(requests, seconds)| {
            let (requests, seconds) = (requests.parse().ok()?, seconds.parse::<u32>().ok()?);
            (requests > 0 && seconds > 0).then(|| Self {
                requests,
                window: Duration::from_secs(seconds.into()),
            })
        });
        parsed.ok_or("expected requests and seconds, for example 3000/300")
    }
}

/// What a host saw. See [`crate::Network::counts`].
#[derive(Clone, Debug)]
pub struct HostCounts {
    /// Its name and port, as in URLs.
    pub host: String,
    /// Requests, with those that were turned away.
    pub requests: u64,
    /// Requests for repos among them.
    pub get_repo: u64,
    /// Answers of status 429.
    pub limited: u64,
    /// Maximum number of requests in any stretch of time as long as the limit's window (without a
    /// limit: that of the settings, or 5 minutes). Hosts that share a limit are counted together.
    pub most_in_window: u64,
    /// Whether its answers say what its limit is.
    pub announces: bool,
    /// Its limit.
    pub limit: Option<Limit>,
    /// For hosts that do not announce: for each lesson that clients were given, their requests a
    /// second over the last 5 seconds before it (or since the first one). All answers of
    /// status 429 up to another one are one lesson.
    pub episodes: Vec<f64>,
    /// From the first request to the last.
    pub busy: Duration,
    /// Requests for a repo that had been given whole and well already, at the same rev.
    pub repeated: u64,
    /// Requests with a user and a password, which nobody has a reason to send.
    pub with_credentials: u64,
}

/// What a request is told about limits.
pub(super) struct Verdict {
    /// Lines for the head of the answer.
    pub(super) headers: String,
    /// Whether it is turned away.
    pub(super) is_refused: bool,
}

/// What shares a limit.
#[derive(Default)]
struct Gate {
    /// By client, when the window began and its requests so far.
    windows: HashMap<IpAddr, (Instant, u32)>,
    recent: VecDeque<Instant>,
    most: u64,
}

#[derive(Default)]
struct ClientRequests {
    requests: u64,
    get_repo: u64,
    limited: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Requests of the last [`LESSON`].
    recent: VecDeque<Instant>,
    in_lesson: bool,
    episodes: Vec<f64>,
    /// Repos given whole: account and time of the rev.
    given: HashSet<(usize, u64)>,
    repeated: u64,
    with_credentials: u64,
}

/// Time before a lesson over which the rate is taken.
const LESSON: Duration = Duration::from_secs(5);
/// The window of PDSes.
const USUAL_WINDOW: Duration = Duration::from_secs(300);

/// Counts the requests of a host.
pub(super) struct Meter {
    gate: Arc<Mutex<Gate>>,
    seen: Mutex<ClientRequests>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            gate: Arc::default(),
            seen: Mutex::default(),
        }
    }

    /// Another host with the same limit.
    pub(super) fn beside(&self) -> Self {
        Self {
            gate: Arc::clone(&self.gate),
            seen: Mutex::default(),
        }
    }

    /// Counts a request and holds it against `limit`. `window` is the length of time of
    /// [`HostCounts::most_in_window`].
    pub(super) fn take(
        &self,
        client: IpAddr,
        limit: Option<Limit>,
        announces: bool,
        window: Duration,
    ) -> Verdict {
        self.take_at(Instant::now(), client, limit, announces, window)
    }

    fn take_at(
        &self,
        now: Instant,
        client: IpAddr,
        limit: Option<Limit>,
        announces: bool,
        window: Duration,
    ) -> Verdict {
        let mut verdict = Verdict {
            headers: String::new(),
            is_refused: false,
        };
        {
            let mut gate = lock(&self.gate);
            gate.recent.push_back(now);
            while gate
                .recent
                .front()
                .is_some_and(|at| now.duration_since(*at) >= window)
            {
                gate.recent.pop_front();
            }
            gate.most = gate.most.max(gate.recent.len() as u64);
            if let Some(limit) = limit {
                let entry = gate.windows.entry(client).or_insert((now, 0));
                if now.duration_since(entry.0) >= limit.window {
                    *entry = (now, 0);
                }
                entry.1 = entry.1.saturating_add(1);
                verdict.is_refused = entry.1 > limit.requests;
                if announces {
                    verdict.headers =
                        headers(limit, entry.1, limit.window - now.duration_since(entry.0));
                }
            }
        }
        self.note(now, verdict.is_refused, announces);
        verdict
    }

    fn note(&self, now: Instant, is_refused: bool, announces: bool) {
        let mut seen = lock(&self.seen);
        let first = *seen.first.get_or_insert(now);
        seen.last = Some(now);
        seen.requests += 1;
        while seen
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) > LESSON)
        {
            seen.recent.pop_front();
        }
        if is_refused {
            seen.limited += 1;
            if !seen.in_lesson && !announces {
                // Of requests that come all at once, a rate has to be finite too.
                let time = now
                    .duration_since(first)
                    .min(LESSON)
                    .as_secs_f64()
                    .max(0.001);
                let before = u32::try_from(seen.recent.len()).unwrap_or(u32::MAX);
                seen.episodes.push(f64::from(before) / time);
            }
        }
        seen.in_lesson = is_refused;
        seen.recent.push_back(now);
    }

    /// Counts a request for the repo of an account, at the rev of a time.
    pub(super) fn note_get_repo(&self, repo: Option<(usize, u64)>) {
        let mut seen = lock(&self.seen);
        seen.get_repo += 1;
        if repo.is_some_and(|repo| seen.given.contains(&repo)) {
            seen.repeated += 1;
        }
    }

    /// A request came with a user and a password.
    pub(super) fn note_credentials(&self) {
        lock(&self.seen).with_credentials += 1;
    }

    /// A repo was given whole.
    pub(super) fn note_given(&self, repo: (usize, u64)) {
        lock(&self.seen).given.insert(repo);
    }

    /// The counts so far.
    pub(super) fn counts(&self, host: &str, limit: Option<Limit>, announces: bool) -> HostCounts {
        let most_in_window = lock(&self.gate).most;
        let seen = lock(&self.seen);
        HostCounts {
            host: host.to_owned(),
            requests: seen.requests,
            get_repo: seen.get_repo,
            limited: seen.limited,
            most_in_window,
            announces,
            limit,
            episodes: seen.episodes.clone(),
            busy: seen
                .last
                .zip(seen.first)
                .map_or(Duration::ZERO, |(last, first)| last - first),
            repeated: seen.repeated,
            with_credentials: seen.with_credentials,
        }
    }

    /// Forgets what was counted. Windows of limits go on.
    pub(super) fn reset(&self) {
        let mut gate = lock(&self.gate);
        gate.recent.clear();
        gate.most = 0;
        *lock(&self.seen) = ClientRequests::default();
    }
}

/// The window over which requests are counted at a host.
pub(super) fn window(limit: Option<Limit>) -> Duration {
    limit.map_or(USUAL_WINDOW, |limit| limit.window)
}

/// What announcing hosts say. As of PDSes, the reset is cut to whole seconds.
fn headers(limit: Limit, taken: u32, left: Duration) -> String {
    let reset = (SystemTime::now() + left)
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (requests, window) = (limit.requests, limit.window.as_secs().max(1));
    let remaining = requests.saturating_sub(taken);
    format!(
        "ratelimit-limit: {requests}\r\nratelimit-remaining: {remaining}\r\nratelimit-reset: {reset}\r\n\
         ratelimit-policy: {requests};w={window}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_limit_is_parsed_from_requests_and_seconds() {
        let limit = Limit {
            requests: 3000,
            window: Duration::from_secs(300),
        };
        assert_eq!("3000/300".parse(), Ok(limit));
        for text in ["", "5", "0/5", "5/0", "-1/5", "5/5/5"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_holds_for_its_window_and_each_lesson_counts_once() {
        let limit = Limit {
            requests: 3,
            window: Duration::from_millis(200),
        };
        let (meter, other) = (Meter::new(), Meter::new().beside());
        let beside = meter.beside();
        let refused = |meter: &Meter, now: Instant| {
            meter
                .take_at(now, CLIENT, Some(limit), false, limit.window)
                .is_refused
        };
        let begin = Instant::now();
        let first: Vec<bool> = (0..5).map(|_| refused(&meter, begin)).collect();
        assert_eq!(first, [false, false, false, true, true]);
        assert!(refused(&beside, begin) && !refused(&other, begin));
        let next = begin + limit.window;
        let second: Vec<bool> = (0..4).map(|_| refused(&meter, next)).collect();
        assert_eq!(second, [false, false, false, true]);
        let counts = meter.counts("h", Some(limit), false);
        assert_eq!(
            (counts.requests, counts.limited, counts.episodes.len()),
            (9, 3, 2)
        );
        assert!(
            counts.episodes[0] > counts.episodes[1],
            "{:?}",
            counts.episodes
        );
        assert_eq!(counts.most_in_window, 6);
        assert_eq!(beside.counts("h", None, false).requests, 1);
    }

    #[test]
    fn what_was_given_is_given_again() {
        let meter = Meter::new();
        meter.note_get_repo(Some((1, 1)));
        meter.note_given((1, 1));
        meter.note_get_repo(Some((1, 2)));
        meter.note_get_repo(Some((1, 1)));
        let counts = meter.counts("h", None, false);
        assert_eq!((counts.get_repo, counts.repeated), (3, 1));
        meter.reset();
        assert_eq!(meter.counts("h", None, false).get_repo, 0);
    }
}
