//! The scheduler for whole networks: decides which host gets the next request, and when.
//!
//! It does no I/O and has no clock. The caller passes the time, the waiting requests and the
//! results; the scheduler returns the next host. The same code serves a run ([`crate::turns`]) and
//! a simulation on virtual time.
//!
//! Each host has its own `pace` and `health`, learned only from its own responses. So whoever
//! controls one host changes nothing for another, even if both have the same address. Hosts that
//! share the limit of an address each run into it, and each slows down until all of them fit below
//! it.
//!
//! Of the hosts that may get a request now, the one with the most work left comes first, so that no
//! large host is left over at the end. Hosts compete for slots, so nobody gets most of them
//! (`domains`). Hosts that have not responded yet, or not recently, share a quarter of all slots;
//! those of one domain get a quarter of that; a single host gets a quarter of all slots, a domain
//! three quarters. Domains whose requests hold their slots for long come after those whose requests
//! are quick.

mod domains;
pub mod health;
mod host_id;
pub mod pace;

pub use host_id::HostId;

use crate::hosts::domain_of;
use domains::{Domain, Parked};
use health::Health;
use pace::{Announced, Limit, Pace};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// The limits for all hosts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum concurrent requests, over all hosts.
    pub slots: usize,
    /// Maximum rate over all hosts, in requests per second.
    pub max_rate: Option<f64>,
    /// Maximum rate per host that announces no limit, in requests per second.
    pub host_rate: f64,
    /// Time without a response after which a host counts as down.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 512,
            max_rate: None,
            host_rate: HOST_RATE,
            patience: Duration::from_secs(600),
        }
    }
}

/// Default rate for a host that announces no limit, in requests per second: what a Bluesky PDS
/// accepts (about 3,000 requests in 5 minutes).
pub const HOST_RATE: f64 = 9.9;
/// If a host asks for a longer pause than this, it counts as down.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RequestResult {
    /// A response, whatever it says about a repo.
    Answered,
    /// Status 429, with the wait that it asks for.
    Limited(Option<Duration>),
    /// The host asks for a pause for another reason.
    Busy(Duration),
    /// No response, or one that broke off.
    Failed,
    /// The request was not sent after all.
    Unused,
}

/// What a response shows apart from its body.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// The limit that it announced.
    pub announced: Option<Announced>,
    /// Time until its first byte.
    pub first_byte: Option<Duration>,
    /// The time of that, if the body arrived later.
    pub at: Option<Instant>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send a request to this host; it is counted already.
    Ask(HostId),
    /// Nothing before this time, unless a response arrives.
    At(Duration),
    /// Nothing until a response arrives or a new request waits.
    Nobody,
}

/// What was learned of a host, to be kept between runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Learned {
    /// The limit that it announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Maximum rate learned from unannounced 429s, in requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<f64>,
    /// Number of those 429s.
    pub lessons: u32,
    /// Concurrent requests that it can take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<f64>,
}

struct Host {
    name: String,
    pace: Pace,
    health: Health,
    /// The number of its domain.
    domain: usize,
    /// Requests that wait for their turn.
    waiting: usize,
    /// Requests that are still to be made, as far as known.
    expected: u64,
    under_way: u32,
    /// Time since which it responds with nothing but 429s.
    limited_since: Option<Duration>,
    /// Its place in the queues.
    queued: Option<Queued>,
    is_new: bool,
}

/// How urgent a request to a host is: the cost class of its domain, then the time that its
/// remaining work takes, in milliseconds.
type Urgency = (u8, Reverse<u64>);

#[derive(Clone, Copy)]
enum Queued {
    /// It may get a request at this time.
    Timed(Duration),
    /// It may get a request now.
    Due(Urgency, Standing),
    /// It may get a request when its domain returns a slot.
    Parked(Parked),
}

/// Whether the last request to a host got a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Proven,
    Unproven,
}

impl Host {
    /// Seconds until all requests to it are made, at its present pace.
    #[allow(clippy::cast_precision_loss)]
    fn seconds_left(&self, now: Duration) -> f64 {
        let pause = self
            .pace
            .paused_until(now)
            .map_or(0.0, |until| (until - now).as_secs_f64());
        self.expected as f64 / self.pace.rate() + pause
    }

    /// It responds, but refuses. Limits pass with their windows; if it does nothing else for
    /// `patience`, its repos are put off.
    fn on_refused(&mut self, now: Duration, patience: Duration) {
        let since = *self.limited_since.get_or_insert(now);
        if now.saturating_sub(since) > patience.max(LONGEST_PAUSE) {
            self.limited_since = None;
            self.health.leave(now + health::AWAY);
        }
    }
}

/// Tells a pace how a request ended, with what its response showed and how many others were in
/// flight.
pub(crate) fn teach(
    pace: &mut Pace,
    now: Duration,
    outcome: RequestResult,
    (seen, others): (&Observed, u32),
) {
    if let Some(announced) = &seen.announced {
        pace.on_announced(now, announced, others);
    }
    match outcome {
        RequestResult::Answered => pace.on_answered(now),
        RequestResult::Limited(wait) => match wait.filter(|_| seen.announced.is_some()) {
            Some(wait) => pace.on_limit_reached(now, wait),
            None => pace.on_rate_limited(now, wait),
        },
        RequestResult::Busy(wait) => {
            pace.on_lost();
            pace.pause(now, wait);
        }
        RequestResult::Failed => pace.on_lost(),
        RequestResult::Unused => pace.on_not_sent(),
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// How much is under way, and how much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests that may be under way at once.
    pub slots: usize,
    /// Requests that are under way.
    pub under_way: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
}

/// The scheduler.
pub struct Scheduler {
    settings: Settings,
    hosts: Vec<Host>,
    by_name: HashMap<String, HostId>,
    domains: Vec<Domain>,
    domain_by_name: HashMap<String, usize>,
    overall: Option<Pace>,
    timed: BTreeSet<(Duration, HostId)>,
    due: BTreeSet<(Urgency, HostId)>,
    due_unproven: BTreeSet<(Urgency, HostId)>,
    under_way: usize,
    /// Of those, to hosts that have not answered lately.
    unproven: usize,
    is_unproven: Vec<u32>,
}

impl Scheduler {
    /// A scheduler that knows no hosts yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let overall = settings.max_rate.map(|rate| {
            let mut pace = Pace::new(Duration::ZERO, rate);
            let requests = (rate * 60.0).clamp(1.0, 1e9);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let requests = requests as u32;
            let seconds = f64::from(requests) / rate;
            pace.learn(Some(Limit { requests, seconds }), None, 0);
            pace
        });
        Self {
            settings,
            hosts: Vec::new(),
            by_name: HashMap::new(),
            domains: Vec::new(),
            domain_by_name: HashMap::new(),
            overall,
            timed: BTreeSet::new(),
            due: BTreeSet::new(),
            due_unproven: BTreeSet::new(),
            under_way: 0,
            unproven: 0,
            is_unproven: Vec::new(),
        }
    }

    /// The number of a host, which is added if it is new.
    pub fn host(&mut self, name: &str, now: Duration) -> HostId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = HostId(self.hosts.len());
        self.by_name.insert(name.to_owned(), id);
        let domain = domain_of(name);
        let domain = *self.domain_by_name.entry(domain).or_insert_with(|| {
            self.domains.push(Domain::default());
            self.domains.len() - 1
        });
        self.hosts.push(Host {
            name: name.to_owned(),
            pace: Pace::new(now, self.settings.host_rate),
            health: Health::new(None),
            domain,
            waiting: 0,
            expected: 0,
            under_way: 0,
            limited_since: None,
            queued: None,
            is_new: true,
        });
        self.is_unproven.push(0);
        id
    }

    /// The name of a host.
    #[must_use]
    pub fn name(&self, id: HostId) -> &str {
        &self.hosts[id.0].name
    }

    /// Restores what was learned of a host before, by this scheduler or another one. Of a host that
    /// is known already, only what another one learned since counts: a limit, or more lessons.
    pub fn learn(&mut self, id: HostId, learned: &Learned, now: Duration) {
        let host = &mut self.hosts[id.0];
        let (_, lessons) = host.pace.lessons();
        let is_new = std::mem::take(&mut host.is_new);
        if is_new {
            host.health = Health::new(learned.concurrency);
        }
        if is_new || learned.lessons > lessons || learned.limit != host.pace.limit() {
            host.pace
                .learn(learned.limit, learned.ceiling, learned.lessons);
        }
        host.pace.begin_empty(now);
    }

    /// Leaves a host alone for so long, as whoever asked it before would have.
    pub fn pause(&mut self, id: HostId, pause: Duration, now: Duration) {
        self.hosts[id.0].pace.pause(now, pause);
        self.queue(id, now);
    }

    /// How long a host is still to be left alone by its own word: it asked for a pause, or its
    /// window is used up. That it does not respond counts only here and now.
    #[must_use]
    pub fn pause_left(&self, id: HostId, now: Duration) -> Option<Duration> {
        self.hosts[id.0].pace.pause_left(now)
    }

    /// What was learned of a host.
    #[must_use]
    pub fn learned(&self, id: HostId) -> Learned {
        let host = &self.hosts[id.0];
        let (ceiling, lessons) = host.pace.lessons();
        Learned {
            limit: host.pace.limit(),
            ceiling,
            lessons,
            concurrency: Some((host.health.window() * 10.0).round() / 10.0),
        }
    }

    /// All hosts that were named.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len()).map(HostId)
    }

    /// Sets the number of requests to a host that are still to be made.
    pub fn expect(&mut self, id: HostId, requests: u64) {
        self.hosts[id.0].expected = requests;
    }

    /// Adds a request that waits for its turn.
    pub fn wait(&mut self, id: HostId, now: Duration) {
        let host = &mut self.hosts[id.0];
        host.waiting += 1;
        // A parked host keeps its place.
        if !matches!(host.queued, Some(Queued::Parked(_))) {
            self.queue(id, now);
        }
    }

    /// Removes a request that waited for its turn.
    pub fn give_up(&mut self, id: HostId, now: Duration) {
        let host = &mut self.hosts[id.0];
        host.waiting = host.waiting.saturating_sub(1);
        self.queue(id, now);
    }

    /// Requests that wait for their turn at a host.
    #[must_use]
    pub fn waiting(&self, id: HostId) -> usize {
        self.hosts[id.0].waiting
    }

    /// The rate at which a host may get requests now, in requests per second.
    #[must_use]
    pub fn rate(&self, id: HostId) -> f64 {
        self.hosts[id.0].pace.rate()
    }

    /// The time until which a host counts as down, or has asked for a pause that is just as long.
    #[must_use]
    pub fn away_until(&self, id: HostId, now: Duration) -> Option<Duration> {
        let host = &self.hosts[id.0];
        let next = host.pace.next_at(now);
        host.health
            .away_until(now)
            .or(next.filter(|until| *until > now + LONGEST_PAUSE))
    }

    /// Until when a host that does not answer is not asked, if that is so.
    #[must_use]
    pub fn rest_until(&self, id: HostId, now: Duration) -> Option<Duration> {
        let until = self.hosts[id.0].health.rest_until();
        (until > now).then_some(until)
    }

    /// Makes a host count as down until then.
    pub fn leave(&mut self, id: HostId, until: Duration, now: Duration) {
        self.hosts[id.0].health.leave(until);
        self.queue(id, now);
    }

    /// The host that needs the longest, and the time that it needs.
    #[must_use]
    pub fn slowest(&self, now: Duration) -> Option<(&str, Duration)> {
        let present = self.present(now).map(|host| (host, host.seconds_left(now)));
        let (host, left) = present.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Some((&host.name, duration(left)))
    }

    /// The hosts that need the longest, `count` of them: how long, and at which rate.
    #[must_use]
    pub fn slowest_hosts(&self, now: Duration, count: usize) -> Vec<(&str, Duration, f64)> {
        let mut present: Vec<(&Host, f64)> = self
            .present(now)
            .map(|host| (host, host.seconds_left(now)))
            .collect();
        present.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        present.truncate(count);
        let hosts = present.into_iter();
        hosts
            .map(|(host, left)| (host.name.as_str(), duration(left), host.pace.rate()))
            .collect()
    }

    /// Hosts that still have requests to come, and are not down.
    fn present(&self, now: Duration) -> impl Iterator<Item = &Host> {
        self.hosts
            .iter()
            .filter(move |host| host.expected > 0 && host.health.away_until(now).is_none())
    }

    /// How much is under way, and how much waits.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            slots: self.settings.slots,
            under_way: self.under_way,
            waiting: self.hosts.iter().map(|host| host.waiting).sum(),
        }
    }

    /// The time of the next request to a host; `None` while responses are awaited or nothing waits.
    fn next_at(&self, id: HostId, now: Duration) -> Option<Duration> {
        let host = &self.hosts[id.0];
        // No host alone gets all slots.
        let most = u32::try_from(self.settings.slots / 4)
            .unwrap_or(u32::MAX)
            .max(2);
        if host.waiting == 0 || host.under_way >= host.health.room().min(most) {
            return None;
        }
        Some(host.pace.next_at(now)?.max(host.health.rest_until()))
    }

    fn standing(&self, id: HostId) -> Standing {
        if self.hosts[id.0].health.is_proven() {
            Standing::Proven
        } else {
            Standing::Unproven
        }
    }

    /// Whether a host's domain has all the slots that it gets.
    fn is_domain_full(&self, id: HostId) -> bool {
        let domain = &self.domains[self.hosts[id.0].domain];
        let most = (self.settings.slots * 3 / 4).max(2);
        let most_unproven = (self.settings.slots / 16).max(1);
        domain.under_way() >= most
            || self.standing(id) == Standing::Unproven && domain.unproven() >= most_unproven
    }

    /// Removes a host from the queues.
    fn dequeue(&mut self, id: HostId) {
        match self.hosts[id.0].queued.take() {
            Some(Queued::Timed(at)) => _ = self.timed.remove(&(at, id)),
            Some(Queued::Due(urgency, Standing::Proven)) => _ = self.due.remove(&(urgency, id)),
            Some(Queued::Due(urgency, Standing::Unproven)) => {
                _ = self.due_unproven.remove(&(urgency, id));
            }
            Some(Queued::Parked(place)) => self.domains[self.hosts[id.0].domain].unpark(place),
            None => {}
        }
    }

    /// Puts a host at its place in the queues.
    fn queue(&mut self, id: HostId, now: Duration) {
        self.dequeue(id);
        if let Some(at) = self.next_at(id, now) {
            self.timed.insert((at, id));
            self.hosts[id.0].queued = Some(Queued::Timed(at));
        }
    }

    /// Moves the hosts whose time has come to those that are due.
    fn collect_due(&mut self, now: Duration) {
        while let Some((at, id)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.timed.remove(&(at, id));
            let standing = self.standing(id);
            let cost = self.domains[self.hosts[id.0].domain].cost_class(now);
            let urgency = (cost, Reverse(self.millis_left(id)));
            match standing {
                Standing::Proven => self.due.insert((urgency, id)),
                Standing::Unproven => self.due_unproven.insert((urgency, id)),
            };
            self.hosts[id.0].queued = Some(Queued::Due(urgency, standing));
        }
    }

    /// Decides the next step.
    pub fn next(&mut self, now: Duration) -> Next {
        if self.under_way >= self.settings.slots {
            return Next::Nobody;
        }
        if let Some(overall) = &self.overall
            && let Some(at) = overall.next_at(now).filter(|at| *at > now)
        {
            return Next::At(at);
        }
        self.collect_due(now);
        loop {
            let is_crowded = self.unproven >= (self.settings.slots / 4).max(1);
            let proven = self.due.first();
            let unproven = self.due_unproven.first().filter(|_| !is_crowded);
            let first = match (proven, unproven) {
                (Some(proven), Some(unproven)) => Some(proven.min(unproven)),
                (proven, unproven) => proven.or(unproven),
            };
            let Some((_, id)) = first.copied() else {
                return self
                    .timed
                    .first()
                    .map_or(Next::Nobody, |(at, _)| Next::At(*at));
            };
            self.dequeue(id);
            if self.is_domain_full(id) {
                let is_unproven = self.standing(id) == Standing::Unproven;
                let place = self.domains[self.hosts[id.0].domain].park(id, is_unproven);
                self.hosts[id.0].queued = Some(Queued::Parked(place));
                continue;
            }
            self.asks(id, now);
            return Next::Ask(id);
        }
    }

    fn asks(&mut self, id: HostId, now: Duration) {
        let host = &mut self.hosts[id.0];
        host.waiting = host.waiting.saturating_sub(1);
        host.under_way += 1;
        host.pace.on_sent(now);
        let is_unproven = !host.health.is_proven();
        if is_unproven {
            self.unproven += 1;
            self.is_unproven[id.0] += 1;
        }
        self.domains[host.domain].takes_slot(now, is_unproven);
        self.under_way += 1;
        if let Some(overall) = &mut self.overall {
            overall.on_sent(now);
        }
        self.queue(id, now);
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    fn millis_left(&self, id: HostId) -> u64 {
        let host = &self.hosts[id.0];
        (host.expected.max(host.waiting as u64) as f64 / host.pace.rate() * 1000.0) as u64
    }

    /// Records the result of a request. Returns true if the host counts as down from now on, so
    /// that tasks that wait for it should give up.
    pub fn ended(
        &mut self,
        id: HostId,
        now: Duration,
        outcome: RequestResult,
        seen: &Observed,
    ) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let was_unproven = self.is_unproven[id.0] > 0;
        if was_unproven {
            self.is_unproven[id.0] -= 1;
            self.unproven = self.unproven.saturating_sub(1);
        }
        let domain = &mut self.domains[self.hosts[id.0].domain];
        domain.gives_back(now, was_unproven, outcome == RequestResult::Answered);
        let freed = domain.first_parked();
        let patience = self.settings.patience;
        let host = &mut self.hosts[id.0];
        let is_full = host.under_way >= host.health.room();
        host.under_way = host.under_way.saturating_sub(1);
        host.expected = host
            .expected
            .saturating_sub(u64::from(outcome == RequestResult::Answered));
        let others = host.under_way;
        teach(&mut host.pace, now, outcome, (seen, others));
        match outcome {
            RequestResult::Answered => {
                host.limited_since = None;
                host.health.answered(now, seen.first_byte, is_full);
            }
            RequestResult::Limited(_) | RequestResult::Busy(_) => {
                host.health.answered(now, None, false);
                host.on_refused(now, patience);
            }
            RequestResult::Failed => {
                host.health.failed(now, patience);
            }
            RequestResult::Unused => {}
        }
        self.queue(id, now);
        // Whatever the response was, nobody waits for a host that is down.
        let is_away = self.away_until(id, now).is_some();
        for parked in freed.into_iter().flatten().filter(|parked| *parked != id) {
            self.queue(parked, now);
        }
        is_away
    }
}

#[cfg(test)]
mod tests;
