//! A status as lines for people.

use super::{Status, host};
use ledger::follow::Followed;
use ledger::handles::HandleCounts;
use ledger::history::PhaseTime;
use ledger::processes::Process;
use ledger::runs::{Phase, Run};
use ledger::settings::Setting;
use ledger::workers::Worker;
use observe::printable;
use observe::units::{bytes, count, counted, rate, rough, span};
use process::shell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Width of the words at the left.
const LEFT: usize = 12;
/// So many processes are named.
const SHOWN: usize = 5;
/// So many workers are named.
const SHOWN_WORKERS: usize = 40;
/// What is said of accounts whose document cannot be used, so that no handle of theirs is known.
const NO_DOCUMENT: &str = "without a usable document";
/// An option that skyfill sets itself, and that no help names: the URLs that an operator named.
const INTERNAL: &str = "named";
/// A process that wrote nothing for so many seconds may hang.
const SILENT: f64 = 60.0;

/// How the event stream is followed.
fn of_followed(followed: &Followed) -> Vec<String> {
    let relay = printable(&followed.relay);
    let cursor = followed.cursor.unwrap_or(0);
    let first = match (followed.is_alive, followed.lag) {
        (true, Some(lag)) => format!(
            "{relay} up to {cursor}, {} behind; {} waiting; {} per second",
            span(lag),
            counted(followed.waiting, "event"),
            rate(followed.per_second)
        ),
        (true, None) => format!("{relay} up to {cursor}"),
        (false, _) => format!(
            "{relay} up to {cursor}; ended {} ago",
            span(followed.seen_ago)
        ),
    };
    let second = format!(
        "{}: {} stored, {} stored before, {} refused; {} fetched, {} behind; {} of relay",
        counted(followed.events, "event"),
        counted(followed.commits, "commit"),
        count(followed.repeated),
        count(followed.refused),
        counted(followed.fetched, "repo"),
        count(followed.behind),
        counted(followed.fallbacks, "change")
    );
    let proved = (followed.proved > 0).then(|| {
        format!(
            "{} proved beside it, {} differed; {} over all repos done",
            counted(followed.proved, "repo"),
            count(followed.differed),
            counted(followed.rounds, "round")
        )
    });
    [first, second].into_iter().chain(proved).collect()
}

/// Handles by state, and what verifies those that are claimed.
fn of_handles(status: &Status, handles: &HandleCounts) -> Vec<String> {
    let counts = [
        ("verified", handles.verified),
        ("claimed, not verified yet", handles.claimed),
        ("not confirmed", handles.mismatch),
        ("not reached", handles.unreachable),
        (NO_DOCUMENT, handles.without_document),
    ];
    let shown = counts.iter().filter(|(_, accounts)| *accounts > 0);
    let shown: Vec<String> = shown
        .map(|(what, accounts)| match *what {
            NO_DOCUMENT => format!("{} {what}", counted(*accounts, "account")),
            _ => format!("{} {what}", count(*accounts)),
        })
        .collect();
    let mut lines = vec![shown.join("; ")];
    if handles.claimed > 0 {
        let time = Duration::try_from_secs_f64(status.seconds_of_handles()).unwrap_or_default();
        lines.push(format!(
            "skyfill identities verifies them, in about {} at 0.15 s each",
            rough(time)
        ));
    }
    lines
}

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
    for (left, worker) in word_once("workers", of_workers(&status.workers)) {
        add(left, worker);
    }
    if let Some(run) = &status.coverage.run {
        for (left, phase) in word_once("phases", of_phases(run, &status.phases)) {
            add(left, phase);
        }
    }
    add_pace(status, &mut add);
    if let Some(followed) = &status.followed {
        for (left, line) in word_once("follow", of_followed(followed)) {
            add(left, line);
        }
    }
    add_repos(status, &mut add);
    let handles = &status.coverage.handles;
    if !handles.is_empty() {
        for (left, line) in word_once("handles", of_handles(status, handles)) {
            add(left, line);
        }
    }
    let shown = status.settings.iter().filter(|set| set.name != INTERNAL);
    let words: Vec<String> = shown.flat_map(Setting::words).collect();
    if !words.is_empty() {
        add("set", printable(&shell::line(&words)).into_owned());
    }
    if status.dropped_indexes > 0 {
        add("dropped", counted(status.dropped_indexes, "index"));
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

/// The repos by state, what is stored of them, and who vouches for it.
fn add_repos(status: &Status, add: &mut impl FnMut(&str, String)) {
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
            "{} from repos of {}",
            counted(stored.records, "record"),
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

/// The workers that live, a line each, with those that were lost. One alone is shown as a process.
fn of_workers(workers: &[Worker]) -> Vec<String> {
    let of_interest = |worker: &&Worker| worker.is_alive || !worker.has_left;
    let shown: Vec<&Worker> = workers.iter().filter(of_interest).collect();
    if !shown.iter().any(|worker| worker.is_alive) || workers.len() < 2 {
        return Vec::new();
    }
    let mut lines: Vec<String> = shown
        .iter()
        .take(SHOWN_WORKERS)
        .map(|w| of_worker(w))
        .collect();
    let more = shown.len().saturating_sub(SHOWN_WORKERS);
    if more > 0 {
        lines.push(format!("and {more} more (--json has all)"));
    }
    let left: Vec<&Worker> = workers.iter().filter(|worker| worker.has_left).collect();
    if !left.is_empty() {
        let repos = left.iter().map(|worker| worker.report.repos).sum();
        lines.push(format!(
            "{} left, with {} stored",
            left.len(),
            counted(repos, "repo")
        ));
    }
    lines
}

fn of_worker(worker: &Worker) -> String {
    let report = &worker.report;
    let who = format!(
        "{} ({}, process {})",
        printable(&worker.name),
        printable(&worker.machine),
        worker.pid
    );
    if !worker.is_alive {
        return format!(
            "{who} was not heard of for {}: killed, stopped, or without the database; it stored {}",
            span(worker.seen_ago),
            counted(report.repos, "repo")
        );
    }
    let mut line = format!(
        "{who}: {} with {}; {} stored, {} repos and {} records per second; {} of {}",
        counted(worker.hosts, "host"),
        counted(report.pending, "pending repo"),
        count(report.repos),
        rate(report.repos_per_second),
        rate(report.records_per_second),
        count(report.under_way),
        counted(worker.slots, "request")
    );
    if report.failed > 0 {
        line += &format!("; {} failed", count(report.failed));
    }
    if report.leases_lost > 0 {
        line += &format!("; lost {}", counted(report.leases_lost, "lease"));
    }
    line
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
    for phrase in &judgment.outside {
        add("", format!("not covered: {}", printable(phrase)));
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
    // Repos that came from a producer were not asked for by this ledger's runs.
    if !status.hosts.iter().any(host::is_of_runs) {
        return Vec::new();
    }
    let shown = status.hosts.len() as u64;
    let mut lines = vec![String::new()];
    if shown < status.all_hosts {
        lines.push(format!(
            "{} of {}, those with the most to do first (--hosts N or --hosts all)",
            count(shown),
            counted(status.all_hosts, "host")
        ));
    }
    lines.extend(host::table(&status.hosts));
    lines
}
