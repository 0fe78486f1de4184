//! The scheduler on a virtual clock, against hosts that are a few lines each.

use super::pace::{Announced, Limit};
use super::*;
use std::collections::BTreeMap;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What a host answers, and after which time.
type Server<'s> = Box<dyn FnMut(Duration) -> (RequestResult, Observed, Duration) + 's>;

/// Asks hosts until nothing is left to do or `until`; when each had its last answer, and requests
/// each got.
fn drive(
    scheduler: &mut Scheduler,
    work: &[(&str, u64)],
    servers: &mut BTreeMap<&str, Server<'_>>,
    until: Duration,
) -> BTreeMap<String, (Duration, u64)> {
    let mut now = Duration::ZERO;
    let mut left: BTreeMap<HostId, u64> = BTreeMap::new();
    for (name, requests) in work {
        let id = scheduler.host(name, now);
        scheduler.expect(id, *requests);
        left.insert(id, *requests);
        for _ in 0..*requests {
            scheduler.wait(id, now);
        }
    }
    let mut coming: BTreeSet<(Duration, usize)> = BTreeSet::new();
    let mut asked: Vec<(HostId, RequestResult, Observed)> = Vec::new();
    let mut ends: BTreeMap<String, (Duration, u64)> = BTreeMap::new();
    loop {
        let next = scheduler.next(now);
        if let Next::Ask(id) = next {
            let name = scheduler.name(id).to_owned();
            ends.entry(name.clone()).or_default().1 += 1;
            let (outcome, seen, took) = servers.get_mut(name.as_str()).unwrap()(now);
            coming.insert((now + took, asked.len()));
            asked.push((id, outcome, seen));
            continue;
        }
        let answer = coming.first().copied();
        let wake = match (next, answer) {
            (Next::At(at), Some((came, _))) => at.min(came),
            (Next::At(at), None) => at,
            (_, Some((came, _))) => came,
            _ => break,
        };
        now = now.max(wake);
        if now >= until {
            break;
        }
        if let Some((came, which)) = answer.filter(|(came, _)| *came <= now) {
            coming.remove(&(came, which));
            let (id, outcome, seen) = asked[which];
            let is_away = scheduler.ended(id, now, outcome, &seen);
            if outcome == RequestResult::Answered {
                ends.entry(scheduler.name(id).to_owned()).or_default().0 = now;
            } else if is_away {
                while scheduler.waiting(id) > 0 {
                    scheduler.give_up(id, now);
                }
            } else {
                scheduler.wait(id, now);
            }
        }
    }
    ends
}

fn quick() -> Observed {
    Observed {
        first_byte: Some(50 * MS),
        ..Observed::default()
    }
}

#[test]
fn each_host_is_kept_at_its_limit_and_the_fullest_one_sets_the_time() {
    let announced = Announced {
        limit: 3000,
        window: Some(300 * S),
        ..Announced::default()
    };
    let seen = Observed {
        announced: Some(announced),
        ..quick()
    };
    let mut scheduler = Scheduler::new(Settings::default());
    let names: Vec<String> = (0..50).map(|n| format!("host{n}")).collect();
    let work: Vec<(&str, u64)> = names
        .iter()
        .zip(1u64..)
        .map(|(name, n)| (name.as_str(), 60_000 / n))
        .collect();
    let mut servers: BTreeMap<&str, Server<'_>> = names
        .iter()
        .map(|name| {
            (
                name.as_str(),
                Box::new(move |_| (RequestResult::Answered, seen, 300 * MS)) as Server<'_>,
            )
        })
        .collect();
    let ends = drive(&mut scheduler, &work, &mut servers, S * 100_000);
    let (last, requests) = ends["host0"];
    assert_eq!(requests, 60_000);
    let floor = 6000.0;
    let took = last.as_secs_f64();
    assert!(took < floor * 1.02, "{took} s, floor {floor} s");
    assert!(ends.values().all(|(end, _)| *end <= last));
}

#[test]
fn hosts_that_never_answer_cost_the_others_nothing() {
    let good = |_: Duration| (RequestResult::Answered, quick(), 100 * MS);
    let settings = || Settings {
        slots: 40,
        patience: 60 * S,
        ..Settings::default()
    };
    let names: Vec<String> = (0..200).map(|n| format!("dead{n}")).collect();
    let time_of = |with_dead: bool| {
        let mut scheduler = Scheduler::new(settings());
        let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
        servers.insert("good", Box::new(good));
        let mut work = vec![("good", 2000)];
        for name in names.iter().filter(|_| with_dead) {
            servers.insert(
                name,
                Box::new(|_| (RequestResult::Failed, Observed::default(), 15 * S)),
            );
            work.push((name, 100));
        }
        let ends = drive(&mut scheduler, &work, &mut servers, S * 10_000);
        // Rests, not attempts, take the time of those that are gone.
        assert!(
            names
                .iter()
                .all(|name| ends.get(name).is_none_or(|(_, tries)| *tries < 20))
        );
        ends["good"].0.as_secs_f64()
    };
    let (alone, beside) = (time_of(false), time_of(true));
    assert!(beside < alone * 1.01, "{beside} s instead of {alone} s");
}

#[test]
fn names_that_share_the_limit_of_an_address_each_back_off_until_all_fit_below_it() {
    // 40 requests in 10 seconds for all of them together.
    let window = std::cell::RefCell::new((Duration::ZERO, 0u32));
    let refused = std::cell::RefCell::new(0u32);
    let answer = |now: Duration| {
        let mut window = window.borrow_mut();
        if now >= window.0 + 10 * S {
            *window = (now, 0);
        }
        window.1 += 1;
        let outcome = if window.1 > 40 {
            *refused.borrow_mut() += 1;
            RequestResult::Limited(None)
        } else {
            RequestResult::Answered
        };
        (outcome, quick(), 50 * MS)
    };
    let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
    for name in ["a", "b", "c", "d"] {
        servers.insert(name, Box::new(answer));
    }
    let mut scheduler = Scheduler::new(Settings::default());
    let work = [("a", 3000), ("b", 3000), ("c", 3000), ("d", 3000)];
    let ends = drive(&mut scheduler, &work, &mut servers, S * 3600);
    let total: u64 = ends.values().map(|(_, requests)| *requests).sum();
    let refused = *refused.borrow();
    assert!(refused < 60, "{refused} 429s");
    assert!(total > 3600 * 4 * 6 / 10, "{total} requests in an hour");
    // What was learned holds the next time.
    let learned = scheduler.learned(scheduler.by_name["a"]);
    let mut next = Scheduler::new(Settings::default());
    let id = next.host("a", Duration::ZERO);
    next.learn(id, &learned, Duration::ZERO);
    assert_eq!(next.learned(id).ceiling, learned.ceiling);
}

#[test]
fn schedulers_that_hand_a_host_on_stay_below_its_limit_together() {
    let limit = Limit {
        requests: 100,
        seconds: 10.0,
    };
    let learned = Learned {
        limit: Some(limit),
        ..Learned::default()
    };
    // Each of three has it for a while, again and again.
    let mut schedulers: Vec<Scheduler> = (0..3)
        .map(|_| Scheduler::new(Settings::default()))
        .collect();
    let (mut now, mut sent) = (Duration::ZERO, Vec::new());
    for turn in 0..60u32 {
        let scheduler = &mut schedulers[turn as usize % 3];
        let id = scheduler.host("a", now);
        scheduler.learn(id, &learned, now);
        let until = now + 50 * MS * (1 + turn * 7 % 40);
        while now < until {
            scheduler.wait(id, now);
            match scheduler.next(now) {
                Next::Ask(_) => {
                    sent.push(now);
                    scheduler.ended(id, now, RequestResult::Answered, &quick());
                }
                Next::At(at) => {
                    scheduler.give_up(id, now);
                    now = at.min(until);
                }
                Next::Nobody => panic!("it waits for nothing"),
            }
        }
    }
    let most = (0..sent.len())
        .map(|first| {
            let window = sent[first] + Duration::from_secs_f64(limit.seconds);
            sent[first..].iter().take_while(|at| **at < window).count()
        })
        .max();
    assert!(most <= Some(100), "{most:?} in a window");
    assert!(sent.len() > 300, "{} requests in {now:?}", sent.len());
    // Another one learned more.
    let (scheduler, id) = (&mut schedulers[0], HostId(0));
    let ceiling = Learned {
        ceiling: Some(3.0),
        lessons: 1,
        ..learned.clone()
    };
    scheduler.learn(id, &ceiling, now);
    assert_eq!(scheduler.learned(id).ceiling, Some(3.0));
    // It does not forget that for somebody who knows less.
    scheduler.learn(id, &learned, now);
    assert_eq!(scheduler.learned(id).ceiling, Some(3.0));
    // It leaves the host alone for as long as that asked.
    assert_eq!(scheduler.pause_left(id, now), None);
    scheduler.pause(id, S * 7, now);
    assert_eq!(scheduler.pause_left(id, now), Some(S * 7));
    scheduler.wait(id, now);
    let Next::At(at) = scheduler.next(now) else {
        panic!("it is to wait");
    };
    assert!(at >= now + S * 7, "{at:?} after {now:?}");
}

/// How long it takes ten honest hosts to give all they have, beside others.
fn honest_time(
    others: &[String],
    server: impl Fn(Duration) -> (RequestResult, Observed, Duration) + Copy,
) -> f64 {
    let names: Vec<String> = (0..10).map(|n| format!("pds{n}.example.com")).collect();
    let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
    let mut work = Vec::new();
    for name in &names {
        servers.insert(
            name,
            Box::new(|_| (RequestResult::Answered, quick(), 200 * MS)),
        );
        work.push((name.as_str(), 1000));
    }
    for name in others {
        servers.insert(name, Box::new(server));
        work.push((name, 30_000 / others.len() as u64));
    }
    let mut scheduler = Scheduler::new(Settings {
        slots: 128,
        ..Settings::default()
    });
    let ends = drive(&mut scheduler, &work, &mut servers, 400 * S);
    for name in &names {
        assert_eq!(ends[name].1, 1000, "{name}");
        let id = scheduler.by_name[name];
        assert_eq!(
            scheduler.learned(id).ceiling,
            None,
            "{name} learned from others"
        );
    }
    let last = names
        .iter()
        .map(|name| ends[name].0)
        .max()
        .unwrap_or_default();
    last.as_secs_f64()
}

#[test]
fn whatever_one_host_answers_ten_honest_ones_take_no_longer() {
    let alone = honest_time(&[], |_| (RequestResult::Failed, quick(), S));
    let nonsense = Observed {
        announced: Some(Announced {
            limit: u32::MAX,
            window: Some(S),
            remaining: Some(0),
            reset_in: Some(Duration::MAX),
        }),
        ..quick()
    };
    let faults = [
        (RequestResult::Limited(None), quick(), 10 * MS),
        (RequestResult::Limited(Some(86_400 * S)), quick(), 10 * MS),
        (
            RequestResult::Limited(Some(Duration::MAX)),
            nonsense,
            10 * MS,
        ),
        (RequestResult::Busy(Duration::MAX), quick(), 10 * MS),
        (RequestResult::Failed, quick(), 15 * S),
        (RequestResult::Failed, quick(), MS),
        (RequestResult::Answered, quick(), 59 * S),
        (RequestResult::Answered, nonsense, MS),
    ];
    let others: [Vec<String>; 3] = [
        vec!["evil.example.org".to_owned()],
        // Two names on one address, as far as the server knows.
        vec!["one.example.org".to_owned(), "two.example.net".to_owned()],
        (0..300).map(|n| format!("evil{n}.example.org")).collect(),
    ];
    for names in &others {
        for fault in faults {
            let beside = honest_time(names, |_| fault);
            let many = names.len();
            assert!(
                beside < alone * 1.1,
                "{many} hosts that answer {fault:?}: {beside} s instead of {alone} s"
            );
        }
    }
}

#[test]
fn hosts_that_answer_once_and_then_stall_cost_no_more() {
    let alone = honest_time(&[], |_| (RequestResult::Failed, quick(), S));
    let names: Vec<String> = (0..300).map(|n| format!("evil{n}.example.org")).collect();
    let beside = honest_time(&names, |now| match now.as_millis() % 5 {
        0 => (RequestResult::Answered, quick(), 100 * MS),
        _ => (RequestResult::Failed, quick(), 15 * S),
    });
    assert!(beside < alone * 1.1, "{beside} s instead of {alone} s");
}

#[test]
fn one_rate_for_everything_is_kept() {
    let mut scheduler = Scheduler::new(Settings {
        max_rate: Some(5.0),
        ..Settings::default()
    });
    let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
    for name in ["a", "b", "c"] {
        servers.insert(
            name,
            Box::new(|_| (RequestResult::Answered, quick(), 10 * MS)),
        );
    }
    let ends = drive(
        &mut scheduler,
        &[("a", 500), ("b", 500), ("c", 500)],
        &mut servers,
        100 * S,
    );
    let total: u64 = ends.values().map(|(_, requests)| *requests).sum();
    assert!((480..=500).contains(&total), "{total}");
}

#[test]
fn a_host_that_gives_nothing_but_429s_counts_as_away_in_the_end() {
    for wait in [None, Some(60 * S), Some(500 * S)] {
        let mut scheduler = Scheduler::new(Settings::default());
        let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
        servers.insert(
            "a",
            Box::new(move |_| (RequestResult::Limited(wait), quick(), 10 * MS)),
        );
        let ends = drive(&mut scheduler, &[("a", 100)], &mut servers, 20_000 * S);
        assert!(ends["a"].1 < 40, "{wait:?}: {} requests", ends["a"].1);
        assert_eq!(scheduler.waiting(scheduler.by_name["a"]), 0);
    }
}

#[test]
fn nobody_waits_for_a_host_that_wants_to_be_left_alone_for_a_day() {
    let until_tomorrow = Announced {
        limit: 3000,
        window: Some(86_400 * S),
        remaining: Some(0),
        reset_in: Some(86_000 * S),
    };
    let seen = Observed {
        announced: Some(until_tomorrow),
        ..quick()
    };
    for (outcome, seen) in [
        (RequestResult::Answered, seen),
        (RequestResult::Limited(None), seen),
        (RequestResult::Limited(Some(86_400 * S)), quick()),
        (RequestResult::Busy(86_400 * S), quick()),
    ] {
        let mut scheduler = Scheduler::new(Settings::default());
        let a = scheduler.host("a", Duration::ZERO);
        for _ in 0..5 {
            scheduler.wait(a, Duration::ZERO);
        }
        assert_eq!(scheduler.next(Duration::ZERO), Next::Ask(a));
        assert!(scheduler.ended(a, S, outcome, &seen), "{outcome:?}");
        assert!(scheduler.away_until(a, S).is_some(), "{outcome:?}");
    }
}

#[test]
fn repos_that_stall_do_not_hold_up_the_others_of_their_host() {
    let mut number = 0u32;
    let mut servers: BTreeMap<&str, Server<'_>> = BTreeMap::new();
    servers.insert(
        "a",
        Box::new(|_| {
            number += 1;
            match number % 60 {
                7 => (RequestResult::Failed, quick(), 15 * S),
                20 | 40 => (RequestResult::Failed, quick(), 20 * MS),
                _ => (RequestResult::Answered, quick(), 50 * MS),
            }
        }),
    );
    let mut scheduler = Scheduler::new(Settings::default());
    let ends = drive(&mut scheduler, &[("a", 3000)], &mut servers, 20_000 * S);
    let took = ends["a"].0.as_secs_f64();
    assert!(took < 3000.0 / HOST_RATE * 1.2, "{took} s");
}
