//! Whose handle is asked for next, while many wait.
//!
//! Anybody can have five million accounts with handles of one domain whose hosts stall, answer
//! slowly, or refuse. Such a domain costs its own accounts only: domains that answer quickly come
//! first, in turn. A slow one gets what they leave, and keeps few accounts in memory. One that
//! stalls or asks for fewer requests is *put off*: none of its accounts is asked for until some
//! time has passed, and then one shows whether it answers again. Accounts that find no place are
//! *passed over*: they stay claimed, and are read again in the next round.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A domain whose requests take longer on average is slow.
const SLOW: Duration = Duration::from_secs(1);
/// Accounts of a slow domain that wait at most.
const SLOW_WAIT: usize = 256;
/// Concurrent requests to a domain that has not answered yet.
const UNKNOWN_AT_ONCE: usize = 4;
/// Requests in a row without a response after which a domain is put off.
const SILENT: u32 = 16;
/// First time for which a domain is put off that was silent, or that asked for fewer requests, and
/// the longest. The time doubles until it answers.
const OF_SILENT: Duration = Duration::from_secs(600);
const OF_LIMITED: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
/// A domain that did not answer for so long, and so many times in a row, is given up for now.
const HOPELESS: (Duration, u32) = (Duration::from_secs(10 * 3600), 6);
/// Answers after which a domain that asked for fewer requests gets one more at once.
const MORE_AFTER: u32 = 100;
/// Domains that are remembered although nothing of theirs waits.
const MOST: usize = 100_000;

/// What became of an account that was to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<A> {
    /// It waits.
    Waits,
    /// It found no place.
    PassedOver,
    /// Its domain is given up: it counts as not reached.
    Hopeless(A),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// There was an answer.
    Answered,
    /// There was none.
    Silent,
    /// The host asks for fewer requests.
    Limited,
}

/// Accounts that wait, by domain.
#[derive(Debug)]
pub(super) struct Turns<A> {
    domains: HashMap<Arc<str>, Domain<A>>,
    /// Domains that may be asked: how slow, when last, which.
    ready: BTreeSet<(u32, u64, Arc<str>)>,
    waiting: usize,
    turn: u64,
}

#[derive(Debug)]
struct Domain<A> {
    waiting: VecDeque<A>,
    in_flight: usize,
    /// Concurrent requests.
    most: usize,
    mean: Duration,
    answers: u32,
    silent: u32,
    put_off: Option<PutOff>,
    /// Its place in [`Turns::ready`].
    place: Option<(u32, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    since: Instant,
    until: Instant,
    wait: Duration,
    times: u32,
    is_tried: bool,
}

impl<A> Default for Turns<A> {
    fn default() -> Self {
        Self {
            domains: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: 0,
            turn: 0,
        }
    }
}

impl<A> Default for Domain<A> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: 0,
            most: UNKNOWN_AT_ONCE,
            mean: Duration::ZERO,
            answers: 0,
            silent: 0,
            put_off: None,
            place: None,
        }
    }
}

impl<A> Domain<A> {
    /// 0 for one that answers quickly, 1 for one that takes up to twice as long, and so on.
    fn slowness(&self) -> u32 {
        let times = self.mean.as_millis() / SLOW.as_millis();
        times.checked_ilog2().map_or(0, |log| log + 1)
    }

    /// Whether there is nothing to remember.
    fn is_plain(&self) -> bool {
        self.slowness() == 0
            && self.silent == 0
            && self.put_off.is_none()
            && [UNKNOWN_AT_ONCE, usize::MAX].contains(&self.most)
    }

    fn is_put_off(&self, now: Instant) -> bool {
        let put_off = self.put_off;
        put_off.is_some_and(|put_off| put_off.until > now && !put_off.is_tried)
    }

    /// Puts it off for the first time, or for twice as long as before.
    fn put_off(&mut self, first: Duration, now: Instant) {
        if self.is_put_off(now) {
            return;
        }
        let before = self.put_off;
        let wait = before.map_or(first, |before| before.wait.saturating_mul(2).min(LONGEST));
        self.silent = 0;
        self.put_off = Some(PutOff {
            since: before.map_or(now, |before| before.since),
            until: now.checked_add(wait).unwrap_or(now),
            wait,
            times: before.map_or(1, |before| before.times.saturating_add(1)),
            is_tried: false,
        });
    }
}

impl<A> Turns<A> {
    /// Accounts that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets an account wait for its domain, if it finds a place.
    pub(super) fn push(&mut self, domain: &str, account: A, now: Instant) -> Pushed<A> {
        let name = match self.domains.get_key_value(domain) {
            Some((name, _)) => Arc::clone(name),
            None => {
                self.forget_some();
                Arc::from(domain)
            }
        };
        let one = self.domains.entry(Arc::clone(&name)).or_default();
        if let Some(put_off) = &mut one.put_off {
            let may_try = put_off.until <= now && !put_off.is_tried && one.in_flight == 0;
            if !may_try {
                let is_long = now.saturating_duration_since(put_off.since) >= HOPELESS.0;
                return match is_long && put_off.times >= HOPELESS.1 {
                    true => Pushed::Hopeless(account),
                    false => Pushed::PassedOver,
                };
            }
            put_off.is_tried = true;
        }
        if one.slowness() > 0 && one.waiting.len() >= SLOW_WAIT {
            return Pushed::PassedOver;
        }
        one.waiting.push_back(account);
        self.waiting += 1;
        self.place(&name);
        Pushed::Waits
    }

    /// The account that is asked for next, with its domain.
    pub(super) fn next(&mut self) -> Option<(Arc<str>, A)> {
        let (_, _, name) = self.ready.first()?.clone();
        let one = self.domains.get_mut(&name)?;
        let account = one.waiting.pop_front()?;
        one.in_flight += 1;
        self.waiting -= 1;
        // It goes behind the others that are as quick.
        if let Some((slowness, turn)) = one.place.take() {
            self.ready.remove(&(slowness, turn, Arc::clone(&name)));
        }
        self.place(&name);
        Some((name, account))
    }

    /// A request for an account of this domain ended; how many accounts are passed over for that.
    pub(super) fn ended(
        &mut self,
        name: &Arc<str>,
        ended: RequestEnd,
        took: Duration,
        now: Instant,
    ) -> usize {
        let Some(one) = self.domains.get_mut(name) else {
            return 0;
        };
        one.in_flight = one.in_flight.saturating_sub(1);
        one.mean = match one.mean {
            Duration::ZERO => took,
            mean => (mean.saturating_mul(7).saturating_add(took)) / 8,
        };
        match ended {
            RequestEnd::Answered => {
                (one.silent, one.put_off) = (0, None);
                if one.most == UNKNOWN_AT_ONCE && one.answers == 0 {
                    one.most = usize::MAX;
                }
                one.answers = one.answers.saturating_add(1);
                if one.most < usize::MAX && one.answers.is_multiple_of(MORE_AFTER) {
                    one.most += 1;
                }
            }
            RequestEnd::Silent => {
                one.silent = one.silent.saturating_add(1);
                let is_tried = one.put_off.is_some_and(|put_off| put_off.is_tried);
                if one.silent >= SILENT || is_tried {
                    one.put_off(OF_SILENT, now);
                }
            }
            RequestEnd::Limited => {
                // Requests that were in flight when it was put off teach nothing.
                if !one.is_put_off(now) {
                    one.most = (one.in_flight / 2).max(1);
                    one.answers = one.answers.max(1);
                }
                one.put_off(OF_LIMITED, now);
            }
        }
        let is_put_off = one.is_put_off(now);
        let passed_over = match is_put_off {
            true => std::mem::take(&mut one.waiting).len(),
            false => 0,
        };
        self.waiting -= passed_over;
        self.place(name);
        passed_over
    }

    /// When the first domain that is put off may be tried again.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        let put_off = self.domains.values().filter_map(|one| one.put_off);
        put_off.map(|put_off| put_off.until).min()
    }

    /// Puts a domain where it belongs in the order, or forgets it.
    fn place(&mut self, name: &Arc<str>) {
        let Some(one) = self.domains.get_mut(name) else {
            return;
        };
        let is_ready = !one.waiting.is_empty() && one.in_flight < one.most;
        let slowness = one.slowness();
        if let Some((before, turn)) = one.place {
            if is_ready && before == slowness {
                return;
            }
            one.place = None;
            self.ready.remove(&(before, turn, Arc::clone(name)));
        }
        if is_ready {
            self.turn += 1;
            one.place = Some((slowness, self.turn));
            self.ready.insert((slowness, self.turn, Arc::clone(name)));
        } else if one.waiting.is_empty() && one.in_flight == 0 && one.is_plain() {
            self.domains.remove(name);
        }
    }

    /// Makes room for one more domain: first those are forgotten that are not put off.
    fn forget_some(&mut self) {
        if self.domains.len() < MOST {
            return;
        }
        let is_busy = |one: &Domain<A>| !one.waiting.is_empty() || one.in_flight > 0;
        self.domains
            .retain(|_, one| is_busy(one) || one.put_off.is_some());
        if self.domains.len() >= MOST {
            self.domains.retain(|_, one| is_busy(one));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(150);
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Asks until nothing waits, `at_once` at once, on a clock of its own; `answer` says how a
    /// request to a domain ends, and after which time. When each domain was done, and the order in
    /// which domains were asked.
    struct Asked {
        at: Duration,
        last: HashMap<String, Duration>,
        order: Vec<String>,
    }

    fn ask(
        turns: &mut Turns<u32>,
        start: Instant,
        at_once: usize,
        answer: impl Fn(&str) -> (RequestEnd, Duration),
    ) -> Asked {
        let mut flying: BTreeSet<(Duration, u64, Arc<str>)> = BTreeSet::new();
        let mut asked = Asked {
            at: Duration::ZERO,
            last: HashMap::new(),
            order: Vec::new(),
        };
        let mut number = 0;
        loop {
            while flying.len() < at_once {
                let Some((name, _)) = turns.next() else { break };
                number += 1;
                asked.order.push(name.to_string());
                flying.insert((asked.at + answer(&name).1, number, name));
            }
            let Some((at, _, name)) = flying.pop_first() else {
                return asked;
            };
            asked.at = at;
            let (ended, took) = answer(&name);
            turns.ended(&name, ended, took, start + at);
            asked.last.insert(name.to_string(), at);
        }
    }

    fn push_all(turns: &mut Turns<u32>, domain: &str, count: u32, now: Instant) -> (u32, u32, u32) {
        let (mut waits, mut passed, mut hopeless) = (0, 0, 0);
        for account in 0..count {
            *match turns.push(domain, account, now) {
                Pushed::Waits => &mut waits,
                Pushed::PassedOver => &mut passed,
                Pushed::Hopeless(_) => &mut hopeless,
            } += 1;
        }
        (waits, passed, hopeless)
    }

    #[test]
    fn quick_domains_come_first_and_a_slow_one_gets_what_they_leave() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        push_all(&mut turns, "slow.example", 500, start);
        push_all(&mut turns, "bsky.social", 20_000, start);
        push_all(&mut turns, "alone.example", 1, start);
        let answer = |name: &str| {
            let took = if name == "slow.example" {
                TIMEOUT
            } else {
                QUICK
            };
            (RequestEnd::Answered, took)
        };
        let asked = ask(&mut turns, start, 32, answer);
        assert_eq!(asked.order.len(), 20_501);
        assert!(asked.last["alone.example"] < Duration::from_secs(1));
        // 20,000 at 28 at once, and then at 32: the slow one holds four slots until it is known.
        let all_quick = QUICK * 20_000 / 32;
        assert!(
            asked.last["bsky.social"] < all_quick + TIMEOUT,
            "{:?}, {all_quick:?}",
            asked.last
        );
        assert!(asked.last["slow.example"] > asked.last["bsky.social"]);
        assert_eq!((turns.waiting(), turns.ready.len()), (0, 0));
        // Now it is known as slow, and few of its accounts wait.
        let (waits, passed, _) = push_all(&mut turns, "slow.example", 1000, start);
        assert_eq!((waits, passed), (256, 744));
        // Nothing is remembered of those that answer.
        assert_eq!(turns.domains.len(), 1);
    }

    #[test]
    fn a_domain_that_stalls_is_put_off_tried_now_and_then_and_given_up_after_hours() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        push_all(&mut turns, "evil.example", 5000, start);
        push_all(&mut turns, "good.example", 5000, start);
        let answer = |name: &str| match name {
            "evil.example" => (RequestEnd::Silent, TIMEOUT),
            _ => (RequestEnd::Answered, QUICK),
        };
        let asked = ask(&mut turns, start, 32, answer);
        let to_evil = asked.order.iter().filter(|name| *name == "evil.example");
        // 16, and those that were in flight then.
        assert!((16..20).contains(&to_evil.count()));
        assert!(asked.last["good.example"] < QUICK * 5000 / 28 + TIMEOUT);
        // It is tried once after each time, and then for longer.
        let (mut now, mut trials) = (start + asked.at, 0);
        loop {
            now += Duration::from_secs(60);
            match push_all(&mut turns, "evil.example", 10, now) {
                (0, 10, 0) => {}
                (1, 9, 0) => {
                    trials += 1;
                    ask(&mut turns, now, 32, answer);
                }
                (0, 0, 10) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(trials, 5);
        assert!(now >= start + HOPELESS.0);
        // An answer forgives all.
        let later = now + LONGEST;
        assert_eq!(push_all(&mut turns, "evil.example", 1, later), (1, 0, 0));
        ask(&mut turns, later, 1, |_| (RequestEnd::Answered, QUICK));
        assert_eq!(push_all(&mut turns, "evil.example", 9, later), (9, 0, 0));
    }

    #[test]
    fn a_domain_that_asks_for_fewer_requests_gets_half_of_them_later() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        push_all(&mut turns, "bsky.social", 1000, start);
        let (name, _) = turns.next().unwrap();
        turns.ended(&name, RequestEnd::Answered, QUICK, start);
        let flying = (0..32).filter(|_| turns.next().is_some()).count();
        assert_eq!(flying, 32);
        assert_eq!(turns.ended(&name, RequestEnd::Limited, QUICK, start), 967);
        for _ in 1..32 {
            turns.ended(&name, RequestEnd::Limited, QUICK, start);
        }
        assert_eq!(push_all(&mut turns, "bsky.social", 9, start), (0, 9, 0));
        assert_eq!(turns.next_trial(), Some(start + OF_LIMITED));
        // One shows whether it answers again.
        let later = start + OF_LIMITED;
        assert_eq!(push_all(&mut turns, "bsky.social", 9, later), (1, 8, 0));
        assert_eq!(turns.next().map(|(_, account)| account), Some(0));
        turns.ended(&name, RequestEnd::Answered, QUICK, later);
        push_all(&mut turns, "bsky.social", 100, later);
        let flying = (0..32).filter(|_| turns.next().is_some()).count();
        assert_eq!(flying, 15);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        for number in 0..MOST + 10 {
            let name = format!("evil{number}.example");
            turns.push(&name, 0, start);
            let (name, _) = turns.next().unwrap();
            turns.ended(&name, RequestEnd::Silent, TIMEOUT, start);
        }
        assert!(turns.domains.len() <= MOST);
    }
}
