//! A status as lines for people.

use super::{Status, host};
use ledger::history::PhaseTime;
use ledger::processes::Process;
use ledger::runs::{Phase, Run};
use ledger::settings::Setting;
use observe::printable;
use observe::units::{bytes, count, rate, rough, time};
use process::shell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Width of the words at the left.
const LEFT: usize = 12;
/// So many processes are named.
const SHOWN: usize = 5;
/// A process that wrote nothing for so many seconds may hang.
const SILENT: f64 = 60.0;

/// The lines.
#[must_use]
pub fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "schema {} of {}",
        status.schema,
        printable(&status.database)
    )];
    let mut add = |left: &str, text: String| lines.push(format!("{left:<LEFT$}{text}"));
    match &status.coverage.run {
        Some(run) => add("run", of_run(status, run)),
        None => add("run", "none yet".to_owned()),
    }
    for (left, process) in word_once("process", status.processes.iter().take(SHOWN)) {
        add(left, of_process(status, process));
    }
    let more = status.processes.len().saturating_sub(SHOWN);
    if more > 0 {
        add("", format!("and {more} more"));
    }
    if let Some(run) = &status.coverage.run {
        for (left, phase) in word_once("phases", of_phases(run, &status.phases)) {
            add(left, phase);
        }
    }
    add_pace(status, &mut add);
    let repos = status.coverage.repos.iter();
    let repos: Vec<String> = repos
        .map(|(state, repos)| format!("{} {}", count(*repos), state.term()))
        .collect();
    add(
        "repos",
        match repos.is_empty() {
            true => "none".to_owned(),
            false => repos.join("; "),
        },
    );
    let stored = status.stored;
    add(
        "stored",
        format!(
            "{} records from repos of {}",
            count(stored.records),
            bytes(stored.bytes)
        ),
    );
    let proofs = &status.coverage.proofs;
    let proofs: Vec<String> = [
        ("signed by the key of their document", proofs.signed),
        ("signed by an older key", proofs.older_key),
        ("unproved", proofs.unchecked),
        ("forged", proofs.forged),
    ]
    .into_iter()
    .filter(|(_, repos)| *repos > 0)
    .map(|(what, repos)| format!("{} {what}", count(repos)))
    .collect();
    if !proofs.is_empty() {
        add("proof", proofs.join("; "));
    }
    if !status.settings.is_empty() {
        let words: Vec<String> = status.settings.iter().flat_map(Setting::words).collect();
        add("set", printable(&shell::line(&words)).into_owned());
    }
    if status.dropped_indexes > 0 {
        add(
            "dropped",
            format!("{} indexes", count(status.dropped_indexes)),
        );
    }
    add_verdict(status, &mut add);
    let phrases = status.restart.phrases();
    if let Some(command) = status.restart.command {
        add("on restart", format!("skyfill {command}"));
        for phrase in phrases {
            add("", phrase);
        }
    }
    lines.extend(of_hosts(status));
    lines
}

/// Items, the first one with the word at its left.
fn word_once<T>(
    word: &'static str,
    items: impl IntoIterator<Item = T>,
) -> impl Iterator<Item = (&'static str, T)> {
    let words = std::iter::once(word).chain(std::iter::repeat(""));
    words.zip(items)
}

fn of_run(status: &Status, run: &Run) -> String {
    let (began, ended) = status.run_times;
    let span = match (began, ended) {
        (Some(began), Some(ended)) => format!("; it took {}", span(ended - began)),
        (Some(began), None) => format!("; begun {} ago", span(status.at - began)),
        _ => String::new(),
    };
    let mut text = format!(
        "{}, a {} load dated {}: {}{span}",
        run.id,
        run.mode.word(),
        run.now,
        match run.phase {
            Phase::Done => "done".to_owned(),
            phase => format!("in phase {}", phase.label()),
        }
    );
    if let Some(collections) = &run.collections {
        text += &format!("; only {}", collections.join(", "));
    }
    if run.notifications != "all" {
        text += &format!("; notifications {}", run.notifications);
    }
    text
}

/// A time between two moments, for people.
fn span(seconds: f64) -> String {
    time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn of_process(status: &Status, process: &Process) -> String {
    let who = format!(
        "skyfill {} on {} (process {})",
        printable(&process.command),
        printable(&process.machine),
        process.pid
    );
    let silent = status.at - process.seen;
    match (process.is_alive, process.ended) {
        (true, _) => {
            let silent = match silent > SILENT {
                true => format!("; it has written nothing for {}", span(silent)),
                false => String::new(),
            };
            format!(
                "{who} works since {}{silent}",
                span(status.at - process.began)
            )
        }
        (false, Some(ended)) => format!("none; {who} ended {} ago", span(status.at - ended)),
        (false, None) => format!(
            "none; {who} was killed or lost its connection, {} ago",
            span(silent)
        ),
    }
}

/// The phases of a run in order, a line each, with its time and what limited it.
fn of_phases(run: &Run, times: &[PhaseTime]) -> Vec<String> {
    let mut phases: Vec<(&str, &str, bool)> = Vec::new();
    if times.iter().any(|time| time.phase == "discover") {
        phases.push(("discover", "discovery", false));
    }
    let of_run = Phase::ALL.into_iter().filter(|phase| *phase != Phase::Done);
    phases.extend(of_run.map(|phase| (phase.word(), phase.label(), phase == run.phase)));
    let of_phase = |(name, label, is_open): (&str, &str, bool)| {
        let (seconds, limit) = time_of(name, times);
        let time = match (seconds == 0.0, is_open) {
            (true, false) => "-".to_owned(),
            _ => span(seconds),
        };
        let limit = limit.map_or_else(String::new, |limit| format!("limited by {limit}"));
        let now = if is_open { "now" } else { "" };
        format!("{label:<10} {time:>10}  {now:<3}  {}", printable(&limit))
            .trim_end()
            .to_owned()
    };
    phases.into_iter().map(of_phase).collect()
}

/// How long a phase took over all processes, and what limited it for the longest time.
#[must_use]
pub fn time_of(phase: &str, times: &[PhaseTime]) -> (f64, Option<String>) {
    let mut limits: BTreeMap<&str, f64> = BTreeMap::new();
    let mut seconds = 0.0;
    for time in times.iter().filter(|time| time.phase == phase) {
        seconds += time.seconds;
        for (limit, share) in &time.limits {
            *limits.entry(limit).or_default() += share;
        }
    }
    let longest = limits.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    (seconds, longest.map(|(limit, _)| limit.to_owned()))
}

/// How far the process is that works, and how fast.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn add_pace(status: &Status, add: &mut impl FnMut(&str, String)) {
    let (Some(pace), Some(_)) = (&status.pace, status.at_work()) else {
        return;
    };
    let last = &pace.last;
    if let (Some(done), Some(total)) = (last.done, last.total.filter(|total| *total > 0)) {
        let share = (done as f64 / total as f64 * 100.0).min(100.0);
        let left = last.seconds_left.filter(|left| *left >= 1.0);
        let left = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
        let left = left.map_or_else(String::new, |left| format!(", about {} left", rough(left)));
        add(
            "progress",
            format!(
                "{} of {} in phase {}: {share:.0} %{left}",
                count(done),
                count(total),
                printable(&last.phase)
            ),
        );
    }
    let [repos, records, read, rows] = pace.per_second;
    if repos + records + rows > 0.0 {
        add(
            "per second",
            format!(
                "{} repos, {} records, {}, {} rows",
                rate(repos),
                rate(records),
                bytes(read as u64),
                rate(rows)
            ),
        );
    }
    if let (Some(limit), Some(why)) = (&last.limit, &last.why) {
        add("limit", format!("{}: {}", printable(limit), printable(why)));
    }
}

fn add_verdict(status: &Status, add: &mut impl FnMut(&str, String)) {
    let judgment = &status.judgment;
    let mut text = judgment.verdict.word().to_owned();
    if !judgment.missing.is_empty() {
        text += &format!(": {}", printable(&judgment.missing.join("; ")));
    }
    add("verdict", text);
    if !judgment.scope.is_empty() {
        let scope = judgment.scope.join("; ");
        add("", format!("left out by choice: {}", printable(&scope)));
    }
    if status
        .coverage
        .repos
        .contains_key(&ledger::states::State::Failed)
    {
        add(
            "failed",
            "skyfill status --failed says why, and what helps".to_owned(),
        );
    }
}

fn of_hosts(status: &Status) -> Vec<String> {
    if status.hosts.is_empty() {
        return Vec::new();
    }
    let shown = status.hosts.len() as u64;
    let mut lines = vec![String::new()];
    if shown < status.all_hosts {
        lines.push(format!(
            "{} of {} hosts, those with the most to do first (--hosts N or --hosts all)",
            count(shown),
            count(status.all_hosts)
        ));
    }
    lines.extend(host::table(&status.hosts));
    lines
}
