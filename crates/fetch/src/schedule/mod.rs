//! Which host is asked next, and when: the scheduler of whole networks.
//!
//! It does no I/O and has no clock of its own: it is told what time it is, what waits, and what came back, and it says who is next. The same
//! code works for a run ([`crate::turns`]) and on paper time, for a simulated network.
//!
//! Each host has its [`pace`] and its [`health`]. Where 429s come although no single name did too much, the names that share the server's address
//! share one pace, too. Of the hosts that may be asked now, the one goes first that has the longest way to go: so that no large host is
//! left alone at the end. Hosts that have not answered yet, or not lately, get a quarter of all slots at most: however many there are, they
//! cost the others nothing.

pub mod health;
pub mod pace;

use health::Health;
use pace::{Announced, Limit, Pace};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
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

/// Requests a second to a host that announces no limit, unless the operator wants another rate: what a Bluesky PDS takes (DESIGN, section 8).
pub const HOST_RATE: f64 = 9.9;
/// A host that wants to be left alone for longer than this counts as away.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// An address that shares a limit is asked at most so many times as often as one host.
const SHARED: f64 = 5.0;
/// Two names that get unexpected 429s within this time share the limit of their address.
const TOGETHER: Duration = Duration::from_secs(60);

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
    /// The server's address.
    pub address: Option<SocketAddr>,
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
    /// Its address, if that has a limit for all of its names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// That limit: most requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_ceiling: Option<f64>,
}

struct Host {
    name: String,
    pace: Pace,
    health: Health,
    address: Option<SocketAddr>,
    /// Requests that wait for their turn.
    waiting: usize,
    /// Requests that are still to be made, as far as is known.
    expected: u64,
    under_way: u32,
    /// When it came last: an unexpected 429.
    surprised_at: Option<Duration>,
    /// Since when it gives nothing but 429s.
    limited_since: Option<Duration>,
    /// Where it stands in the queues.
    queued: Option<Queued>,
    is_new: bool,
}

/// A server's address.
#[derive(Default)]
struct Address {
    /// The hosts that answer there.
    members: Vec<HostId>,
    /// Their common pace, where they share a limit.
    pace: Option<Pace>,
}

#[derive(Clone, Copy)]
enum Queued {
    Timed(Duration),
    Due(Reverse<u64>),
}

impl Host {
    /// It answers, but gives nothing. Limits pass with their windows; where nothing else comes for long, whoever asks is not wanted.
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
    addresses: HashMap<SocketAddr, Address>,
    overall: Option<Pace>,
    timed: BTreeSet<(Duration, HostId)>,
    due: BTreeSet<(Reverse<u64>, HostId)>,
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
            addresses: HashMap::new(),
            overall,
            timed: BTreeSet::new(),
            due: BTreeSet::new(),
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
        self.hosts.push(Host {
            name: name.to_owned(),
            pace: Pace::new(now, self.settings.host_rate),
            health: Health::new(None),
            address: None,
            waiting: 0,
            expected: 0,
            under_way: 0,
            surprised_at: None,
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
    pub fn learn(&mut self, id: HostId, learned: &Learned, now: Duration) {
        let host = &mut self.hosts[id.0];
        if !std::mem::take(&mut host.is_new) {
            return;
        }
        host.pace.learn(learned.limit, learned.ceiling, learned.lessons);
        host.health = Health::new(learned.concurrency);
        if let (Some(address), Some(ceiling)) = (learned.address, learned.address_ceiling) {
            host.address = Some(address);
            let known = self.addresses.entry(address).or_default();
            known.members.push(id);
            if known.pace.is_none() {
                let mut shared = Pace::new(now, self.settings.host_rate * SHARED);
                shared.learn(None, Some(ceiling), 0);
                known.pace = Some(shared);
            }
        }
    }

    /// What was learned of a host.
    #[must_use]
    pub fn learned(&self, id: HostId) -> Learned {
        let host = &self.hosts[id.0];
        let (ceiling, lessons) = host.pace.lessons();
        let shared = host
            .address
            .and_then(|address| Some((address, self.addresses.get(&address)?.pace.as_ref()?)));
        Learned {
            limit: host.pace.limit(),
            ceiling,
            lessons,
            concurrency: Some((host.health.window() * 10.0).round() / 10.0),
            address: shared.map(|(address, _)| address),
            address_ceiling: shared.and_then(|(_, pace)| pace.lessons().0),
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
        self.hosts[id.0].waiting += 1;
        self.queue(id, now);
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
        let shared = self.shared(id).and_then(|shared| shared.next_at(now));
        let next = host.pace.next_at(now).max(shared);
        host.health
            .away_until(now)
            .or(next.filter(|until| *until > now + LONGEST_PAUSE))
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
        let most = u32::try_from(self.settings.slots / 4).unwrap_or(u32::MAX).max(2);
        if host.waiting == 0 || host.under_way >= host.health.room().min(most) {
            return None;
        }
        let mut at = host.pace.next_at(now)?.max(host.health.rest_until());
        if let Some(shared) = self.shared(id) {
            at = at.max(shared.next_at(now)?);
        }
        Some(at)
    }

    fn shared(&self, id: HostId) -> Option<&Pace> {
        self.addresses.get(&self.hosts[id.0].address?)?.pace.as_ref()
    }

    fn shared_mut(&mut self, id: HostId) -> Option<&mut Pace> {
        self.addresses.get_mut(&self.hosts[id.0].address?)?.pace.as_mut()
    }

    /// Puts a host where it belongs in the queues.
    fn queue(&mut self, id: HostId, now: Duration) {
        match self.hosts[id.0].queued.take() {
            Some(Queued::Timed(at)) => _ = self.timed.remove(&(at, id)),
            Some(Queued::Due(left)) => _ = self.due.remove(&(left, id)),
            None => {}
        }
        if let Some(at) = self.next_at(id, now) {
            self.timed.insert((at, id));
            self.hosts[id.0].queued = Some(Queued::Timed(at));
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
        while let Some((at, id)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.timed.remove(&(at, id));
            let left = Reverse(self.millis_left(id));
            self.due.insert((left, id));
            self.hosts[id.0].queued = Some(Queued::Due(left));
        }
        let is_crowded = self.unproven >= (self.settings.slots / 4).max(1);
        let mut moved = Vec::new();
        let mut found = None;
        for (_, id) in &self.due {
            // What shares an address may have to wait for the one before.
            match self.next_at(*id, now) {
                Some(at) if at <= now => {
                    if !is_crowded || self.hosts[id.0].health.is_proven() {
                        found = Some(*id);
                        break;
                    }
                }
                _ => moved.push(*id),
            }
        }
        for id in moved {
            self.queue(id, now);
        }
        let Some(id) = found else {
            return self.timed.first().map_or(Next::Nobody, |(at, _)| Next::At(*at));
        };
        self.asks(id, now);
        Next::Ask(id)
    }

    fn asks(&mut self, id: HostId, now: Duration) {
        let host = &mut self.hosts[id.0];
        host.waiting = host.waiting.saturating_sub(1);
        host.under_way += 1;
        host.pace.sends(now);
        if !host.health.is_proven() {
            self.unproven += 1;
            self.is_unproven[id.0] += 1;
        }
        self.under_way += 1;
        if let Some(shared) = self.shared_mut(id) {
            shared.sends(now);
        }
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

    /// What came of a request to a host. True if the host counts as away from now on: what waits for it should give up.
    pub fn ended(&mut self, id: HostId, now: Duration, outcome: Outcome, seen: &Seen) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(unproven) = self.is_unproven.get_mut(id.0).filter(|count| **count > 0) {
            *unproven -= 1;
            self.unproven = self.unproven.saturating_sub(1);
        }
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
        let mut is_away = false;
        match outcome {
            Outcome::Answered => {
                host.limited_since = None;
                host.pace.passes(now);
                host.health.answered(now, seen.first_byte, is_full);
                if let Some(shared) = self.shared_mut(id) {
                    shared.passes(now);
                }
            }
            Outcome::Limited(wait) => {
                host.health.answered(now, None, false);
                host.is_put_off(now, patience);
                self.limited(id, now, wait, seen.announced.is_some());
                is_away = self.away_until(id, now).is_some();
            }
            Outcome::Busy(wait) => {
                host.health.answered(now, None, false);
                host.is_put_off(now, patience);
                host.pace.is_lost();
                host.pace.pause(now, wait);
                if let Some(shared) = self.shared_mut(id) {
                    shared.is_lost();
                }
                is_away = self.away_until(id, now).is_some();
            }
            Outcome::Failed => {
                host.pace.is_lost();
                is_away = host.health.failed(now, patience);
                if let Some(shared) = self.shared_mut(id) {
                    shared.is_lost();
                }
            }
            Outcome::Unused => {
                host.pace.did_not_send();
                if let Some(shared) = self.shared_mut(id) {
                    shared.did_not_send();
                }
            }
        }
        // What is under way was counted at the address that was known then.
        if let Some(address) = seen.address
            && self.hosts[id.0].under_way == 0
        {
            self.is_at(id, address);
        }
        self.queue(id, now);
        // What this one was waited for by others of its address.
        let members = self.hosts[id.0]
            .address
            .and_then(|address| self.addresses.get(&address));
        if let Some(address) = members.filter(|address| address.pace.is_some()) {
            for member in address.members.clone() {
                if self.hosts[member.0].queued.is_none() {
                    self.queue(member, now);
                }
            }
        }
        is_away
    }

    /// A host answers at this address.
    fn is_at(&mut self, id: HostId, address: SocketAddr) {
        let before = self.hosts[id.0].address.replace(address);
        if before == Some(address) {
            return;
        }
        if let Some(before) = before.and_then(|before| self.addresses.get_mut(&before)) {
            before.members.retain(|member| *member != id);
        }
        self.addresses.entry(address).or_default().members.push(id);
    }

    /// A 429: of the host's own limit, or of its address's.
    fn limited(&mut self, id: HostId, now: Duration, wait: Option<Duration>, is_announced: bool) {
        if let (Some(wait), true) = (wait, is_announced) {
            self.hosts[id.0].pace.is_over(now, wait);
            if let Some(shared) = self.shared_mut(id) {
                shared.is_lost();
            }
            return;
        }
        if let Some(shared) = self.shared_mut(id) {
            shared.is_limited(now, wait, None);
            self.hosts[id.0].pace.passes(now);
            return;
        }
        let host = &mut self.hosts[id.0];
        // One that announces its limit and was not asked too much has this from somewhere else.
        let met = host.pace.measured(now);
        host.pace.is_limited(now, wait, None);
        host.surprised_at = Some(now);
        let Some(address) = host.address else { return };
        let members = self
            .addresses
            .get(&address)
            .map_or_else(Vec::new, |known| known.members.clone());
        let surprised = members.iter().filter(|other| {
            let at = self.hosts[other.0].surprised_at;
            at.is_some_and(|at| now.saturating_sub(at) <= TOGETHER)
        });
        if surprised.count() < 2 {
            return;
        }
        let together: f64 = members
            .iter()
            .filter(|other| **other != id)
            .map(|other| self.hosts[other.0].pace.measured(now))
            .sum::<f64>()
            + met;
        let mut pace = Pace::new(now, self.settings.host_rate * SHARED);
        pace.takes_over(
            members
                .iter()
                .map(|member| self.hosts[member.0].under_way)
                .sum::<u32>()
                + 1,
        );
        pace.is_limited(now, wait, Some(together));
        self.addresses.entry(address).or_default().pace = Some(pace);
        for member in members {
            self.hosts[member.0].pace.is_excused();
            self.queue(member, now);
        }
    }
}

#[cfg(test)]
mod tests;
