//! What is shown, as snapshots, for a few states of a registry.

use super::*;
use crate::Unit;
use crate::limits::Limit;
use crate::registry::{
    Awaited, Part, Phase, PhaseName, PhaseState, SlowHost, Snapshot, Stage, Value,
};
use crate::units::count;

const PHASES: [(&str, &str); 7] = [
    ("discover", "discovery"),
    ("load", "loading"),
    ("indexes", "indexes"),
    ("vacuum", "vacuum"),
    ("identities", "accounts"),
    ("finalize", "finalize"),
    ("verify", "verify"),
];

fn value(name: &'static str, label: &'static str, value: u64, has_rate: bool) -> Value {
    Value {
        name,
        label,
        value,
        unit: if name == "bytes" {
            Unit::Bytes
        } else {
            Unit::Count
        },
        has_rate,
    }
}

fn stage(name: &'static str, total: Option<u64>, counters: Vec<Value>) -> Stage {
    Stage {
        name,
        seconds: 252.0,
        total,
        seconds_left: None,
        slowest: None,
        counters,
        doing: None,
        parts: Vec::new(),
        waiting: 0,
        awaited: Vec::new(),
        hosts: Vec::new(),
        failures: Vec::new(),
    }
}

/// A run in phase number `open`, with one stage whose rated counters grew by a tenth in the last
/// ten seconds.
fn seen(open: usize, stage: Stage) -> Shown {
    let phases = PHASES.iter().enumerate().map(|(at, (name, label))| Phase {
        name,
        label,
        state: match at.cmp(&open) {
            std::cmp::Ordering::Less => PhaseState::Done,
            std::cmp::Ordering::Equal => PhaseState::Open,
            std::cmp::Ordering::Greater => PhaseState::Pending,
        },
        seconds: 60.0,
    });
    let snapshot = Snapshot {
        command: "run".to_owned(),
        seconds: 4252.0,
        phases: phases.collect(),
        stages: vec![stage],
    };
    let mut before = snapshot.clone();
    for counter in &mut before.stages[0].counters {
        counter.value -= counter.value / 10;
    }
    let (now, mut rates) = (Instant::now(), Rates::default());
    rates.see(now, &before);
    rates.see(now + Duration::from_secs(10), &snapshot);
    Shown {
        snapshot,
        rates,
        limit: None,
    }
}

fn loading() -> Shown {
    let counters = vec![
        value("repos_done", "repos done", 12_345, true),
        value("records", "records", 1_830_222, true),
        value("bytes", "bytes", 4_402_341_478, true),
        value("inactive", "inactive", 12, false),
        value("failed", "failed", 1203, false),
        value("moved", "moved", 0, false),
        value("retries", "retries", 40, false),
    ];
    let host = |name: &str, seconds_left: f64, rate: f64| SlowHost {
        name: name.to_owned(),
        seconds_left,
        rate,
    };
    let mut stage = stage("load", Some(23_456), counters);
    stage.seconds_left = Some(4812.0);
    stage.slowest = Some("pds.slow.example".to_owned());
    stage.hosts = vec![
        host("pds.slow.example", 4812.0, 3.0),
        host("morel.us-east.host.bsky.network", 1203.0, 9.9),
        host("a.example", 60.0, 0.4),
    ];
    stage.failures = vec![
        ("timed out".to_owned(), 1100),
        ("status 400 InvalidRequest".to_owned(), 101),
        ("\u{1b}[2J bad\nCAR".to_owned(), 2),
    ];
    let mut seen = seen(1, stage);
    seen.limit = Some(Limit {
        name: "source",
        label: "hosts".to_owned(),
        why: "encoding waits for them 93 % of its time; 512 of 512 requests are under way"
            .to_owned(),
    });
    seen
}

fn indexes() -> Shown {
    let part = |label: &str, doing: &str, share: Option<f64>| Part {
        label: label.to_owned(),
        doing: doing.to_owned(),
        share,
    };
    let counters = vec![value("indexes_built", "indexes built", 17, true)];
    let mut stage = stage("indexes", Some(62), counters);
    stage.seconds_left = Some(600.0);
    stage.parts = vec![
        part("post_creator_idx", "loading tuples in tree", Some(0.45)),
        part(
            "notification_did_sortat_idx_with_a_long_name",
            "waiting for writers",
            None,
        ),
    ];
    seen(2, stage)
}

fn discovery() -> Shown {
    let counters = vec![
        value("repos_listed", "repos listed", 120_000, true),
        value("hosts_done", "hosts done", 7, false),
    ];
    let mut stage = stage("discover", None, counters);
    stage.waiting = 12;
    stage.awaited = ["a.example", "b.example", "c.example"]
        .map(|name| Awaited {
            name: name.to_owned(),
            trouble: (name == "a.example").then(|| "timed out".to_owned()),
        })
        .to_vec();
    seen(0, stage)
}

fn style(width: usize, colors: bool, unicode: bool) -> live::Style {
    live::Style {
        height: 24,
        width,
        colors,
        unicode,
    }
}

/// The block at some widths. No line fills or exceeds its terminal, and none acts on it.
fn blocks(seen: &Shown) -> String {
    let mut text = String::new();
    for width in [60, 80, 160] {
        text += &format!("-- {width} columns {}\n", "-".repeat(width - 15));
        for line in live::block(seen, &style(width, false, true)) {
            assert!(console::measure_text_width(&line) < width, "{line}");
            assert_eq!(line, crate::printable::shown(&line));
            text += &line;
            text.push('\n');
        }
    }
    text
}

#[test]
fn a_live_block_of_each_kind_at_three_widths() {
    insta::assert_snapshot!("live_loading", blocks(&loading()));
    insta::assert_snapshot!("live_indexes", blocks(&indexes()));
    insta::assert_snapshot!("live_discovery", blocks(&discovery()));
}

#[test]
fn colors_mean_something_and_ascii_does_without_signs() {
    let ascii = live::block(&loading(), &style(80, false, false)).join("\n");
    assert!(ascii.is_ascii(), "{ascii}");
    let colored = live::block(&loading(), &style(80, true, true)).join("\n");
    assert!(colored.contains(&format!("\u{1b}[31m{} failed\u{1b}[0m", count(1203))));
    assert!(
        colored.contains("\u{1b}[1m2 of 7, loading\u{1b}[0m"),
        "{colored:?}"
    );
    let plain = live::block(&loading(), &style(80, false, true)).join("\n");
    assert_eq!(console::strip_ansi_codes(&colored), plain);
}

#[test]
fn a_low_terminal_gets_what_fits_and_nothing_is_shown_of_nothing() {
    let style = live::Style {
        height: 6,
        ..style(80, false, true)
    };
    assert_eq!(live::block(&loading(), &style).len(), 5);
    let idle = Shown {
        snapshot: Snapshot::default(),
        rates: Rates::default(),
        limit: None,
    };
    assert!(live::block(&idle, &style).is_empty());
}

#[test]
fn a_plain_line_shows_rates_and_leaves_out_what_did_not_happen() {
    let seen = loading();
    let stage = &seen.snapshot.stages[0];
    let line = plain::line(stage, &[12_000, 1_800_000], 2.0, seen.limit.as_ref());
    insta::assert_snapshot!("plain_loading", line);
    let seen = discovery();
    let line = plain::line(&seen.snapshot.stages[0], &[], 10.0, None);
    insta::assert_snapshot!("plain_discovery", line);
}

#[test]
fn programs_get_an_event_when_a_phase_opens_and_all_numbers_by_name() {
    let seen = loading();
    let (name, label) = PHASES[1];
    let mut phase = json::phase(&seen, 2, PhaseName { name, label });
    phase["time"] = "TIME".into();
    let mut progress = json::progress(&seen);
    progress["time"] = "TIME".into();
    let progress = serde_json::to_string_pretty(&progress).unwrap();
    insta::assert_snapshot!("json_loading", format!("{phase}\n{progress}"));
}
