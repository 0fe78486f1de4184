//! Which host is asked next, and when: the scheduler of whole networks.
//!
//! It does no I/O and has no clock of its own: it is told what time it is, what waits, and what
//! came back, and it says who is next. The same code works for a run ([`crate::turns`]) and on
//! paper time, for a simulated network.
//!
//! Each host has its own [`pace`] and [`health`], learned from what it answered itself and from
//! nothing else: whoever controls one host changes nothing for another, even if both answer at one
//! address. Names that share the limit of an address each meet it themselves, and each
//! backs off until all of them fit below it.
//!
//! Of the hosts that may be asked now, the one goes first that has the longest way to go, so that
//! no large host is left alone at the end. Slots are what hosts compete for, so nobody holds most
//! of them ([`domains`]): hosts that have not answered yet, or not lately, get a quarter
//! of all slots, those of one domain a quarter of that, a single host a quarter, a domain three
//! quarters. Domains whose requests hold their slots for long come after those whose requests are
//! quick.

mod domains;
pub mod health;
pub mod pace;

use crate::hosts::domain_of;
use domains::{Domain, Parked};
use health::Health;
use pace::{Announced, Limit, Pace};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// A host, as the scheduler numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(usize);

impl HostId {
    /// Its place, counted from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// How all hosts are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests under way at once, to all hosts.
    pub slots: usize,
    /// Most requests a second, to all hosts.
    pub max_rate: Option<f64>,
    /// Most requests a second to a host that announces no limit.
    pub host_rate: f64,
    /// A host that gives no answer for so long counts as away.
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

/// Requests a second to a host that announces no limit, unless the operator wants another rate:
/// what a Bluesky PDS takes (DESIGN, section 8).
pub const HOST_RATE: f64 = 9.9;
/// A host that wants to be left alone for longer than this counts as away.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// An answer, whatever it says about a repo.
    Answered,
    /// 429, with the wait that it asks for.
    Limited(Option<Duration>),
    /// The host asks for a pause, for another reason.
    Busy(Duration),
    /// No answer, or one that broke off.
    Failed,
    /// Nothing was asked after all.
    Unused,
}

/// What was seen of an answer beside its body.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The limit that it announced.
    pub announced: Option<Announced>,
    /// Time until its first byte.
    pub first_byte: Option<Duration>,
    /// When that came, if the body came later.
    pub at: Option<Instant>,
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This host is asked now; it counts as asked.
    Ask(HostId),
    /// Nobody before this time, unless an answer comes.
    At(Duration),
    /// Nobody until an answer comes or something new waits.
    Nobody,
}

/// What was learned of a host, to be kept between runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Learned {
    /// The limit that it announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Most requests a second, as silent 429s taught.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<f64>,
    /// How many such lessons there were.
    pub lessons: u32,
    /// Requests at once that it takes.
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
    /// Requests that are still to be made, as far as is known.
    expected: u64,
    under_way: u32,
    /// Since when it gives nothing but 429s.
    limited_since: Option<Duration>,
    /// Where it stands in the queues.
    queued: Option<Queued>,
    is_new: bool,
}

/// How urgent it is to ask a host: how long requests to its domain hold their slots, then how long
/// a way it has to go, in milliseconds.
type Urgency = (u8, Reverse<u64>);

#[derive(Clone, Copy)]
enum Queued {
    /// It may be asked at this time.
    Timed(Duration),
    /// It may be asked now.
    Due(Urgency, Standing),
    /// It may be asked when its domain gives a slot back.
    Parked(Parked),
}

/// Whether the last thing that was heard of a host was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Proven,
    Unproven,
}

impl Host {
    /// It answers, but gives nothing. Limits pass with their windows; where nothing else comes for
    /// long, whoever asks is not wanted.
    fn is_put_off(&mut self, now: Duration, patience: Duration) {
        let since = *self.limited_since.get_or_insert(now);
        if now.saturating_sub(since) > patience.max(LONGEST_PAUSE) {
            self.limited_since = None;
            self.health.leave(now + health::AWAY);
        }
    }
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

    /// The number of a host; it is added if it is new.
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

    /// Goes on with what was learned of a host before; only the first time that it is named.
    pub fn learn(&mut self, id: HostId, learned: &Learned) {
        let host = &mut self.hosts[id.0];
        if !std::mem::take(&mut host.is_new) {
            return;
        }
        host.pace
            .learn(learned.limit, learned.ceiling, learned.lessons);
        host.health = Health::new(learned.concurrency);
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

    /// Says how many requests to a host are still to be made.
    pub fn expect(&mut self, id: HostId, requests: u64) {
        self.hosts[id.0].expected = requests;
    }

    /// Another request waits for its turn.
    pub fn wait(&mut self, id: HostId, now: Duration) {
        let host = &mut self.hosts[id.0];
        host.waiting += 1;
        // One that is parked keeps its place.
        if !matches!(host.queued, Some(Queued::Parked(_))) {
            self.queue(id, now);
        }
    }

    /// A request does not wait any more.
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

    /// Requests a second that a host may be asked now.
    #[must_use]
    pub fn rate(&self, id: HostId) -> f64 {
        self.hosts[id.0].pace.rate()
    }

    /// Until when a host counts as away, or wants to be left alone for so long that it is the same.
    #[must_use]
    pub fn away_until(&self, id: HostId, now: Duration) -> Option<Duration> {
        let host = &self.hosts[id.0];
        let next = host.pace.next_at(now);
        host.health
            .away_until(now)
            .or(next.filter(|until| *until > now + LONGEST_PAUSE))
    }

    /// Leaves a host alone until then: it counts as away.
    pub fn leave(&mut self, id: HostId, until: Duration, now: Duration) {
        self.hosts[id.0].health.leave(until);
        self.queue(id, now);
    }

    /// Time that is left, going by the host that needs the longest, and which that is.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn slowest(&self, now: Duration) -> Option<(&str, Duration)> {
        let left = |host: &Host| {
            let pause = host
                .pace
                .paused_until(now)
                .map_or(0.0, |until| (until - now).as_secs_f64());
            host.expected as f64 / host.pace.rate() + pause
        };
        let present = self
            .hosts
            .iter()
            .filter(|host| host.expected > 0 && host.health.away_until(now).is_none());
        let slowest = present.max_by(|a, b| left(a).total_cmp(&left(b)))?;
        Some((
            &slowest.name,
            Duration::try_from_secs_f64(left(slowest)).unwrap_or(Duration::MAX),
        ))
    }

    /// When a host may be asked next; nothing as long as answers are awaited, or nothing waits.
    fn next_at(&self, id: HostId, now: Duration) -> Option<Duration> {
        let host = &self.hosts[id.0];
        // No host alone takes all slots.
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

    /// Whether a host's domain has as many slots as it gets.
    fn is_domain_full(&self, id: HostId) -> bool {
        let domain = &self.domains[self.hosts[id.0].domain];
        let most = (self.settings.slots * 3 / 4).max(2);
        let most_unproven = (self.settings.slots / 16).max(1);
        domain.under_way() >= most
            || self.standing(id) == Standing::Unproven && domain.unproven() >= most_unproven
    }

    /// Takes a host out of the queues.
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

    /// Puts a host where it belongs in the queues.
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

    /// Who is asked now.
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
        host.pace.sends(now);
        let is_unproven = !host.health.is_proven();
        if is_unproven {
            self.unproven += 1;
            self.is_unproven[id.0] += 1;
        }
        self.domains[host.domain].takes_slot(now, is_unproven);
        self.under_way += 1;
        if let Some(overall) = &mut self.overall {
            overall.sends(now);
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

    /// What came of a request to a host. True if the host counts as away from now on: what waits
    /// for it should give up.
    pub fn ended(&mut self, id: HostId, now: Duration, outcome: Outcome, seen: &Seen) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let was_unproven = self.is_unproven[id.0] > 0;
        if was_unproven {
            self.is_unproven[id.0] -= 1;
            self.unproven = self.unproven.saturating_sub(1);
        }
        let domain = &mut self.domains[self.hosts[id.0].domain];
        domain.gives_back(now, was_unproven, outcome == Outcome::Answered);
        let freed = domain.first_parked();
        let patience = self.settings.patience;
        let host = &mut self.hosts[id.0];
        let is_full = host.under_way >= host.health.room();
        host.under_way = host.under_way.saturating_sub(1);
        host.expected = host
            .expected
            .saturating_sub(u64::from(outcome == Outcome::Answered));
        let others = host.under_way;
        if let Some(announced) = &seen.announced {
            host.pace.hears(now, announced, others);
        }
        match outcome {
            Outcome::Answered => {
                host.limited_since = None;
                host.pace.passes(now);
                host.health.answered(now, seen.first_byte, is_full);
            }
            Outcome::Limited(wait) => {
                host.health.answered(now, None, false);
                host.is_put_off(now, patience);
                match wait.filter(|_| seen.announced.is_some()) {
                    Some(wait) => host.pace.is_over(now, wait),
                    None => host.pace.is_limited(now, wait),
                }
            }
            Outcome::Busy(wait) => {
                host.health.answered(now, None, false);
                host.is_put_off(now, patience);
                host.pace.is_lost();
                host.pace.pause(now, wait);
            }
            Outcome::Failed => {
                host.pace.is_lost();
                host.health.failed(now, patience);
            }
            Outcome::Unused => host.pace.did_not_send(),
        }
        self.queue(id, now);
        // Whatever the answer was: one that is left alone for long has nobody waiting.
        let is_away = self.away_until(id, now).is_some();
        for parked in freed.into_iter().flatten().filter(|parked| *parked != id) {
            self.queue(parked, now);
        }
        is_away
    }
}

#[cfg(test)]
mod tests;
