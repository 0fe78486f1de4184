//! The live block: where a command is, how far, how fast, what limits it, what is wrong. Lines for
//! a terminal of any width from 40 columns on.

use super::shown::Shown;
use crate::printable::printable;
use crate::registry::{Part, Phase, PhaseState, Stage, Value};
use crate::{Unit, units};
use console::{measure_text_width, truncate_str};
use std::time::Duration;

/// Width of the words at the left.
const LEFT: usize = 11;
/// A bar is at least and at most so wide.
const BAR: (usize, usize) = (10, 60);
/// Lines of a list, and of parts.
const LIST: usize = 2;
const PARTS: usize = 6;
/// Lines about what limits: it is a sentence, and on a narrow terminal a long one.
const LIMIT: usize = 4;
/// So many hosts and reasons are named.
const NAMED: usize = 4;

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) colors: bool,
    /// Whether there is more than ASCII.
    pub(super) unicode: bool,
}

/// What a text means, where colors can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Plain,
    /// What is under way.
    Bold,
    /// What is over or not begun.
    Dim,
    /// What is wrong.
    Red,
}

/// A text that is not broken.
type Item = (String, Paint);

impl Style {
    /// As the terminal of stderr, and its environment, want it.
    pub(super) fn of_terminal() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Self {
            height: 24,
            width: 80,
            colors: console::colors_enabled_stderr(),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub(super) fn sized(self, (height, width): (usize, usize)) -> Self {
        Self {
            height,
            width,
            ..self
        }
    }

    /// Columns that are used: a full line would wrap on some terminals.
    fn columns(&self) -> usize {
        self.width.saturating_sub(1).max(20)
    }

    fn dot(&self) -> &'static str {
        if self.unicode { " · " } else { ", " }
    }

    fn paint(&self, text: &str, paint: Paint) -> String {
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Plain => return text.to_owned(),
        };
        match self.colors {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    fn cut(&self, text: &str, width: usize) -> String {
        let more = if self.unicode { "…" } else { "..." };
        truncate_str(text, width, more).into_owned()
    }

    /// Items one after the other, broken between them, under a word at the left. What does not fit
    /// in `most` lines is left out.
    fn flow(&self, left: &str, items: &[Item], separator: &str, most: usize) -> Vec<String> {
        let indent = if left.is_empty() { 0 } else { LEFT };
        let room = self.columns() - indent;
        let mut lines: Vec<String> = vec![String::new()];
        let mut used = 0;
        for (text, paint) in items {
            let text = self.cut(text, room);
            let width = measure_text_width(&text);
            let mut gap = if used == 0 { "" } else { separator };
            if used > 0 && used + measure_text_width(gap) + width > room {
                if lines.len() == most {
                    break;
                }
                lines.push(String::new());
                (used, gap) = (0, "");
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(gap);
                line.push_str(&self.paint(&text, *paint));
            }
            used += measure_text_width(gap) + width;
        }
        let first = self.paint(&format!("{left:<indent$}"), Paint::Dim);
        let line = |(at, line): (usize, String)| match at {
            0 => format!("{first}{line}"),
            _ => format!("{:indent$}{line}", ""),
        };
        lines.into_iter().enumerate().map(line).collect()
    }

    fn bar(&self, share: f64, width: usize) -> String {
        let (full, empty) = if self.unicode {
            ("━", "╌")
        } else {
            ("=", "-")
        };
        let filled = filled(share, width);
        let empty = self.paint(&empty.repeat(width - filled), Paint::Dim);
        format!("{}{empty}", full.repeat(filled))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn filled(share: f64, width: usize) -> usize {
    ((share.clamp(0.0, 1.0) * width as f64) as usize).min(width)
}

/// The lines of the block; none if nothing is under way.
pub(super) fn block(seen: &Shown, style: &Style) -> Vec<String> {
    let snapshot = &seen.snapshot;
    // Between two phases it may wait for another process.
    let is_pending = |phase: &Phase| phase.state == PhaseState::Pending;
    let waits = snapshot.phases.iter().any(is_pending);
    if snapshot.stages.is_empty() && snapshot.open_phase().is_none() && !waits {
        return Vec::new();
    }
    let mut lines = vec![String::new()];
    lines.extend(head(seen, style));
    for stage in &snapshot.stages {
        lines.push(String::new());
        lines.extend(of_stage(seen, stage, style));
    }
    if let Some(limit) = &seen.limit {
        let mut words: Vec<Item> = vec![(format!("{}:", limit.label), Paint::Bold)];
        words.extend(
            limit
                .why
                .split(' ')
                .map(|word| (word.to_owned(), Paint::Plain)),
        );
        lines.extend(style.flow("limit", &words, " ", LIMIT));
    }
    // What scrolls out of the screen cannot be drawn over.
    lines.truncate(style.height.saturating_sub(1));
    lines
}

/// The command, the open phase, the time; and all phases.
fn head(seen: &Shown, style: &Style) -> Vec<String> {
    let snapshot = &seen.snapshot;
    let time = units::time(Duration::from_secs_f64(snapshot.seconds.max(0.0)));
    let mut words: Vec<Item> = vec![(format!("skyfill {}", snapshot.command), Paint::Bold)];
    if let Some((number, phase)) = snapshot.open_phase() {
        let of = snapshot.phases.len();
        let full = format!("{number} of {of}, {}", phase.label);
        let dots = 2 * measure_text_width(style.dot());
        let others = measure_text_width(&words[0].0) + measure_text_width(&time) + dots;
        // The line of phases names it, too; the time is nowhere else.
        let fits = others + measure_text_width(&full) <= style.columns();
        let shown = if fits {
            full
        } else {
            format!("{number} of {of}")
        };
        words.push((shown, Paint::Bold));
    }
    words.push((time, Paint::Plain));
    let mut lines = style.flow("", &words, style.dot(), 1);
    if snapshot.phases.len() > 1 {
        let phases: Vec<Item> = snapshot
            .phases
            .iter()
            .map(|phase| of_phase(phase, style))
            .collect();
        lines.extend(style.flow("", &phases, "  ", LIST));
    }
    lines
}

fn of_phase(phase: &Phase, style: &Style) -> Item {
    let (mark, paint) = match (phase.state, style.unicode) {
        (PhaseState::Done, true) => ("✓ ", Paint::Dim),
        (PhaseState::Done, false) => ("+ ", Paint::Dim),
        (PhaseState::Open, true) => ("▸ ", Paint::Bold),
        (PhaseState::Open, false) => ("> ", Paint::Bold),
        (PhaseState::Pending, _) => ("", Paint::Dim),
    };
    (format!("{mark}{}", phase.label), paint)
}

fn of_stage(seen: &Shown, stage: &Stage, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(progress_line(stage, style));
    if let Some(doing) = &stage.doing {
        lines.push(style.cut(&printable(doing), style.columns()));
    }
    lines.extend(
        stage
            .parts
            .iter()
            .take(PARTS)
            .map(|part| of_part(part, style)),
    );
    lines.extend(table(seen, stage, style));
    let counts: Vec<Item> = stage
        .counters
        .iter()
        .filter(|counter| !counter.has_rate && counter.value > 0)
        .map(|counter| {
            let is_failure = counter.name.contains("fail") || counter.name.contains("differ");
            let paint = if is_failure { Paint::Red } else { Paint::Plain };
            (
                format!("{} {}", units::count(counter.value), counter.label),
                paint,
            )
        })
        .collect();
    lines.extend(list("also", &counts, style));
    let failures: Vec<Item> = stage
        .failures
        .iter()
        .take(NAMED)
        .map(|(reason, times)| {
            (
                format!("{} {}", units::count(*times), printable(reason)),
                Paint::Red,
            )
        })
        .collect();
    lines.extend(list("failed", &failures, style));
    let hosts: Vec<Item> = stage
        .hosts
        .iter()
        // Others are as good as done.
        .filter(|host| host.seconds_left >= 1.0)
        .take(NAMED)
        .map(|host| {
            let left = seconds(host.seconds_left).map_or_else(String::new, units::rough);
            let (name, rate) = (printable(&host.name), units::rate(host.rate));
            (format!("{name} {left} at {rate}/s"), Paint::Plain)
        })
        .collect();
    lines.extend(list("slowest", &hosts, style));
    let mut awaited: Vec<Item> = stage
        .awaited
        .iter()
        .map(|awaited| {
            let paint = awaited
                .trouble
                .as_ref()
                .map_or(Paint::Plain, |_| Paint::Red);
            (printable(&awaited.text()).into_owned(), paint)
        })
        .collect();
    if let Some(more) = stage
        .waiting
        .checked_sub(stage.awaited.len())
        .filter(|more| *more > 0)
    {
        awaited.push((format!("{} more", units::count(more as u64)), Paint::Plain));
    }
    lines.extend(list("waiting", &awaited, style));
    lines
}

fn list(left: &str, items: &[Item], style: &Style) -> Vec<String> {
    match items {
        [] => Vec::new(),
        items => style.flow(left, items, style.dot(), LIST),
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// `━━━━━━╌╌╌╌╌╌  53 %  about 1 h 20 min left`, if it is known how much there is.
#[allow(clippy::cast_precision_loss)]
fn progress_line(stage: &Stage, style: &Style) -> Option<String> {
    let total = stage.total.filter(|total| *total > 0)?;
    let done = stage.counters.first().map_or(0, |counter| counter.value);
    let share = (done as f64 / total as f64).min(1.0);
    let left = stage.seconds_left.and_then(seconds);
    let left = left.filter(|left| left.as_secs() > 0).map(units::rough);
    // The list of hosts names it, too.
    let slowest = stage.slowest.as_ref().filter(|_| stage.hosts.is_empty());
    let left = left.map_or_else(String::new, |left| match slowest {
        Some(name) => format!("  about {left} left for {}", printable(name)),
        None => format!("  about {left} left"),
    });
    let percent = format!("  {:>3} %", filled(share, 100));
    let tail = style.cut(
        &format!("{percent}{left}"),
        style.columns().saturating_sub(BAR.0),
    );
    let width = (style.columns() - measure_text_width(&tail)).clamp(BAR.0, BAR.1);
    // The time that is left differs in length; the bar should not.
    let width = width.min(style.columns().saturating_sub(32).max(BAR.0));
    Some(format!("{}{tail}", style.bar(share, width)))
}

/// `post_pkey  ━━━━━━╌╌╌╌  45 %  loading tuples`.
fn of_part(part: &Part, style: &Style) -> String {
    let name = printable(&part.label);
    let name_width = (style.columns() / 3).clamp(LEFT, 32);
    let name = format!("{:<name_width$}", style.cut(&name, name_width));
    let bar = part.share.map_or_else(String::new, |share| {
        format!("  {}  {:>3} %", style.bar(share, BAR.0), filled(share, 100))
    });
    let room = style
        .columns()
        .saturating_sub(measure_text_width(&name) + measure_text_width(&bar) + 2);
    format!("{name}{bar}  {}", style.cut(&printable(&part.doing), room))
}

/// A row for each counter that has a rate: its label, its value, how much comes per second.
fn table(seen: &Shown, stage: &Stage, style: &Style) -> Vec<String> {
    let rated: Vec<&Value> = stage.counters.iter().filter(|c| c.has_rate).collect();
    let shown = |counter: &Value| match counter.unit {
        Unit::Bytes => units::bytes(counter.value),
        Unit::Count => units::count(counter.value),
    };
    let rows: Vec<[String; 3]> = rated
        .iter()
        .enumerate()
        .map(|(at, counter)| {
            let value = match stage.total.filter(|_| at == 0) {
                Some(total) => format!("{} of {}", shown(counter), units::count(total)),
                None => shown(counter),
            };
            let rate = seen.rates.rate(stage.name, counter.name);
            let rate = rate.map_or_else(String::new, |rate| match counter.unit {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                Unit::Bytes => format!("{}/s", units::bytes(rate as u64)),
                Unit::Count => format!("{}/s", units::rate(rate)),
            });
            [counter.label.to_owned(), value, rate]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (label, value, rate) = (width(0).max(LEFT - 2), width(1), width(2));
    rows.iter()
        .map(|row| {
            let line = format!("{:<label$}  {:>value$}  {:>rate$}", row[0], row[1], row[2]);
            style.cut(line.trim_end(), style.columns())
        })
        .collect()
}
