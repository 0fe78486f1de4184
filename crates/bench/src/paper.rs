//! The full network on paper time: the real scheduler ([`fetch::schedule`]) on a virtual clock,
//! against hosts that are a few numbers each.
//!
//! Sizes and limits are those of DESIGN, section 8: Bluesky's hosts hold up to 500,000 repos and
//! answer 3,000 requests in five minutes, in fixed windows that begin with a request; some of them
//! do not say so. Beside them are thousands of self-hosted ones, some of which are away, or stall.
//! What loading costs is not in it: the question is what the network alone takes. [`crate::clock`]
//! adds the phases after it.

use crate::clock;
use fetch::schedule::pace::Announced;
use fetch::schedule::{HostId, Next, Observed, RequestResult, Scheduler, Settings};
use plan::Costs;
use simnet::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Repos of the fullest host.
const FULLEST: u64 = 500_000;
/// Self-hosted PDSes.
const SELF_HOSTED: usize = 3000;
const LIMIT: u32 = 3000;
const WINDOW: Duration = Duration::from_secs(300);
/// Repos a page of `listRepos`; listing counts against the same limit.
const PAGE: u64 = 1000;
/// Requests that wait at a host at most: as many as a run lets wait.
const WAITING: u64 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Announcing,
    Silent,
    SelfHosted,
    Stalling,
    Away,
}

impl Class {
    const ALL: [Self; 5] = [
        Self::Announcing,
        Self::Silent,
        Self::SelfHosted,
        Self::Stalling,
        Self::Away,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Announcing => "Bluesky's, limit announced",
            Self::Silent => "Bluesky's, limit not announced",
            Self::SelfHosted => "self-hosted",
            Self::Stalling => "self-hosted, stalling",
            Self::Away => "self-hosted, away",
        }
    }
}

struct Host {
    class: Class,
    repos: u64,
    /// Requests that are not offered to the scheduler yet, and those that came to nothing.
    left: u64,
    window: (Duration, u32),
    answered: u64,
    limited: u64,
    asked: u64,
    ended: Duration,
}

/// The report.
pub(crate) fn run(repos: u64, costs: &Costs) -> String {
    let started = Instant::now();
    let mut random = Random::new(1);
    let mut hosts = network(repos, &mut random);
    let fullest = hosts.iter().map(|host| host.left).max().unwrap_or(0);
    let now = simulate(&mut hosts, &mut random);
    let rate = f64::from(LIMIT) / WINDOW.as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let floor = fullest as f64 / rate;
    let hours = |seconds: f64| seconds / 3600.0;
    let mut out = String::new();
    let total: u64 = hosts.iter().map(|host| host.repos).sum();
    let _ = writeln!(out, "### The full network on paper time\n");
    let _ = writeln!(
        out,
        "{total} repos on {} hosts, listed and fetched: {:.2} h; floor (the fullest host at its limit): {:.2} h; {:.1} % above it. {:.0} s of real time.\n",
        hosts.len(),
        hours(now.as_secs_f64()),
        hours(floor),
        (now.as_secs_f64() / floor - 1.0) * 100.0,
        started.elapsed().as_secs_f64()
    );
    let _ = writeln!(
        out,
        "| hosts | number | repos | last answer, h | use of the limit until then: least, mean | 429s |\n|---|---|---|---|---|---|"
    );
    for class in Class::ALL {
        let of: Vec<&Host> = hosts.iter().filter(|host| host.class == class).collect();
        let last = of.iter().map(|host| host.ended).max().unwrap_or_default();
        // A host that is done within some windows says nothing.
        #[allow(clippy::cast_precision_loss)]
        let uses: Vec<f64> = of
            .iter()
            .filter(|host| host.ended > WINDOW * 12)
            .map(|host| host.answered as f64 / (host.ended.as_secs_f64() * rate))
            .collect();
        let least = uses.iter().copied().fold(f64::INFINITY, f64::min);
        #[allow(clippy::cast_precision_loss)]
        let mean = uses.iter().sum::<f64>() / uses.len() as f64;
        let uses = if uses.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.1} %, {:.1} %", least * 100.0, mean * 100.0)
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.2} | {uses} | {} |",
            class.name(),
            of.len(),
            of.iter().map(|host| host.repos).sum::<u64>(),
            hours(last.as_secs_f64()),
            of.iter().map(|host| host.limited).sum::<u64>()
        );
    }
    out.push_str(&clock::report(total, now, costs));
    out
}

/// Hosts whose repos are `repos` in all.
fn network(repos: u64, random: &mut Random) -> Vec<Host> {
    let host = |class, repos: u64| Host {
        class,
        repos,
        left: repos + repos.div_ceil(PAGE),
        window: (Duration::ZERO, 0),
        answered: 0,
        limited: 0,
        asked: 0,
        ended: Duration::ZERO,
    };
    let mut hosts = Vec::new();
    // Sizes of self-hosted ones fall off as 1/rank: the largest has some thousand, most have a
    // handful.
    for rank in 1..=SELF_HOSTED as u64 {
        let class = match random.below(100) {
            0..10 => Class::Away,
            10..12 => Class::Stalling,
            _ => Class::SelfHosted,
        };
        hosts.push(host(class, (5000 / rank).max(1)));
    }
    let rest = repos.saturating_sub(hosts.iter().map(|host| host.repos).sum());
    let fullest = FULLEST.min(rest);
    // From the fullest one down in even steps.
    let count = (2 * rest).checked_div(fullest).unwrap_or(0).max(1);
    for number in 0..count {
        let class = if number % 10 == 4 {
            Class::Silent
        } else {
            Class::Announcing
        };
        hosts.push(host(class, (fullest - fullest * number / count).max(1)));
    }
    hosts
}

/// Lists and fetches all of it; the time of the last answer.
fn simulate(hosts: &mut [Host], random: &mut Random) -> Duration {
    let mut scheduler = Scheduler::new(Settings {
        slots: clock::scale().slots,
        ..Settings::default()
    });
    let mut now = Duration::ZERO;
    let ids: Vec<HostId> = (0..hosts.len())
        .map(|n| scheduler.host(&format!("host{n}"), now))
        .collect();
    for (host, id) in hosts.iter_mut().zip(&ids) {
        scheduler.expect(*id, host.left);
        for _ in 0..host.left.min(WAITING) {
            host.left -= 1;
            scheduler.wait(*id, now);
        }
    }
    let mut coming: BinaryHeap<Reverse<(Duration, usize, u8, Duration)>> = BinaryHeap::new();
    let mut last = now;
    loop {
        let next = scheduler.next(now);
        if let Next::Ask(id) = next {
            let (what, took) = hosts[id.index()].answer(now, random);
            coming.push(Reverse((now + took, id.index(), what, took)));
            continue;
        }
        let answer = coming.peek().map(|Reverse((at, ..))| *at);
        now = match (next, answer) {
            (Next::At(at), Some(came)) if at < came => at,
            (_, Some(came)) => came,
            (Next::At(at), None) => at,
            _ => return last,
        };
        if answer != Some(now) {
            continue;
        }
        let Some(Reverse((_, number, what, took))) = coming.pop() else {
            return last;
        };
        let (id, host) = (ids[number], &mut hosts[number]);
        let outcome = [
            RequestResult::Answered,
            RequestResult::Limited(None),
            RequestResult::Failed,
        ][usize::from(what)];
        let announced = (host.class == Class::Announcing).then(|| Announced {
            limit: LIMIT,
            window: Some(WINDOW),
            remaining: Some(LIMIT.saturating_sub(host.window.1)),
            reset_in: Some(
                (host.window.0 + WINDOW)
                    .saturating_sub(now)
                    .max(Duration::from_secs(1)),
            ),
        });
        let seen = Observed {
            announced,
            first_byte: Some(took / 2),
            ..Observed::default()
        };
        let is_away = scheduler.ended(id, now, outcome, &seen);
        if is_away {
            host.left = 0;
            while scheduler.waiting(id) > 0 {
                scheduler.give_up(id, now);
            }
            continue;
        }
        match outcome {
            RequestResult::Answered => {
                host.answered += 1;
                (host.ended, last) = (now, now);
                if host.left > 0 {
                    host.left -= 1;
                    scheduler.wait(id, now);
                }
            }
            _ => scheduler.wait(id, now),
        }
    }
}

impl Host {
    /// What a request gets (an answer, a 429, nothing), and after which time.
    fn answer(&mut self, now: Duration, random: &mut Random) -> (u8, Duration) {
        self.asked += 1;
        if now >= self.window.0 + WINDOW {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        let is_limited =
            matches!(self.class, Class::Announcing | Class::Silent) && self.window.1 > LIMIT;
        if is_limited {
            self.limited += 1;
            return (1, Duration::from_millis(30));
        }
        match self.class {
            Class::Away => (
                2,
                Duration::from_secs(if random.percent(50) { 15 } else { 1 }),
            ),
            Class::Stalling => (2, Duration::from_secs(15)),
            // Mostly a fraction of a second; one repo in fifty is large and takes many.
            _ if random.percent(2) => (0, Duration::from_millis(2000 + random.below(20_000))),
            _ => (0, Duration::from_millis(100 + random.below(500))),
        }
    }
}
