//! How far a database is, as its ledger says, of a load that runs or was stopped, from anywhere.
//!
//! [`Status::read`] costs the same for 45 million repos as for a few: repos are counted as they
//! change ([`ledger::tally`]), and of hosts, processes and samples a bounded number is read.
//! [`lines`] is what people read, [`Status::json`] what programs read
//! (docs/reference/status.md); [`restart`] says what a restart would do, [`help`] what helps
//! against a failure.

pub mod account;
pub mod failed;
pub mod help;
pub mod host;
mod json;
pub mod lines;
pub mod restart;

use crate::run::LOOK_UPS_AT_ONCE;
use ::verify::verdict::{self, Compared, Judgment};
use ledger::coverage::Coverage;
use ledger::follow::{self, Followed};
use ledger::history::{self, PhaseTime, Sample};
use ledger::hosts::{self, Chosen};
use ledger::processes::{self, Process};
use ledger::settings::{self, Setting};
use ledger::tally::{self, Stored};
use ledger::workers::{self, Worker};
use ledger::{listing, runs};
use pg::Connection;
use postgres::Client;
use process::stop::PATIENT;
use process::{Database, Failure};
use restart::Restart;
use std::time::{SystemTime, UNIX_EPOCH};

/// Processes that are read.
const PROCESSES: i64 = 50;
/// Of so many of those that work, the progress is read.
const LOOKED_AT: usize = 5;
/// Samples from which rates are computed.
const SAMPLES: i64 = 60;
/// Rates are those of so many seconds.
const WINDOW: f64 = 30.0;

/// How far a database is.
pub struct Status {
    /// The database, as it may be printed.
    pub database: String,
    /// The AppView's schema in it.
    pub schema: String,
    /// Seconds since 1970 when this was read, by this machine's clock.
    pub at: f64,
    /// What is loaded and what is not.
    pub coverage: Coverage,
    /// How much is stored.
    pub stored: Stored,
    /// The one word for it, by the last comparison.
    pub judgment: Judgment,
    /// Indexes and constraints that are dropped.
    pub dropped_indexes: u64,
    /// What is remembered of earlier commands.
    pub settings: Vec<Setting>,
    /// When the run began and ended, in seconds since 1970.
    pub run_times: (Option<f64>, Option<f64>),
    /// Processes that work, else the one that worked last.
    pub processes: Vec<Process>,
    /// The workers of the last run that had some.
    pub workers: Vec<Worker>,
    /// The phases of the run so far.
    pub phases: Vec<PhaseTime>,
    /// How far the process is that works.
    pub pace: Option<Pace>,
    /// The hosts on which most is to be done.
    pub hosts: Vec<hosts::Known>,
    /// How many hosts there are.
    pub all_hosts: u64,
    /// What a restart would do.
    pub restart: Restart,
    /// How the event stream is followed, if it ever was.
    pub followed: Option<Followed>,
}

/// How far a process was lately, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// The last sample.
    pub last: Sample,
    /// Repos, records, bytes and rows per second lately.
    pub per_second: [f64; 4],
}

impl Status {
    /// Reads it, with at most `most_hosts` hosts.
    ///
    /// # Errors
    /// The database cannot be read, or skyfill has not worked on it.
    pub fn read(database: &Database, most_hosts: i64) -> Result<Self, Failure> {
        let mut client = open(database)?;
        let refused = |error| database.failure(error);
        read(&mut client, database, most_hosts).map_err(refused)
    }

    /// How long it takes to verify the handles that are stored as claimed, at the pace that a plan
    /// assumes, in seconds.
    #[must_use]
    pub fn seconds_of_handles(&self) -> f64 {
        plan::seconds_of_handles(self.coverage.handles.claimed, LOOK_UPS_AT_ONCE)
    }

    /// The process that works, if one does.
    #[must_use]
    pub fn at_work(&self) -> Option<&Process> {
        self.processes.iter().find(|process| process.is_alive)
    }
}

/// A connection to a ledger that is up to date.
///
/// # Errors
/// The database cannot be read, or skyfill has not worked on it.
pub(crate) fn open(database: &Database) -> Result<Connection, Failure> {
    let mut client = database.connect()?;
    database.require_ledger(&mut client)?;
    database.require_trusted(&mut client)?;
    ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
    Ok(client)
}

fn read(
    client: &mut Client,
    database: &Database,
    most_hosts: i64,
) -> Result<Status, postgres::Error> {
    let schema = &database.schema;
    tally::compact(client, schema)?;
    let (coverage, stored) = Coverage::kept(client, schema)?;
    let missing = load::indexes::missing(client, schema)?;
    let dropped_indexes = missing.len() as u64;
    let (run_times, phases) = match &coverage.run {
        Some(run) => (
            runs::times(client, run.id)?,
            history::phases_of_run(client, schema, run.id)?,
        ),
        None => ((None, None), Vec::new()),
    };
    let mut processes = processes::latest(client, schema, PROCESSES)?;
    match processes.iter().any(|process| process.is_alive) {
        true => processes.retain(|process| process.is_alive),
        false => processes.truncate(1),
    }
    let mut paces = Vec::new();
    for process in processes.iter().take(LOOKED_AT) {
        paces.extend(pace(&history::latest(client, process.id, SAMPLES)?));
    }
    // Of several, one that is at something, not one that waits for another.
    let busy = paces.iter().position(|pace| pace.last.done.is_some());
    let pace = match paces.is_empty() {
        true => None,
        false => Some(paces.swap_remove(busy.unwrap_or(0))),
    };
    let (hosts, all_hosts) = hosts::known(client, schema, Chosen::First(most_hosts))?;
    let settings = settings::all(client, schema)?;
    let unended = listing::unended(client, schema)?;
    let restart = restart::read(
        client,
        schema,
        &coverage,
        &settings,
        dropped_indexes,
        unended,
    )?;
    Ok(Status {
        database: database.shown(),
        schema: schema.clone(),
        at: now(),
        judgment: verdict::judge(&coverage, &Compared::before(&coverage)),
        coverage,
        stored,
        dropped_indexes,
        settings,
        run_times,
        processes,
        workers: workers::of_last_run(client, schema)?,
        phases,
        pace,
        hosts,
        all_hosts,
        restart,
        followed: follow::followed(client, schema)?,
    })
}

/// Rates from samples of one process, the latest first.
#[allow(clippy::cast_precision_loss)]
fn pace(samples: &[Sample]) -> Option<Pace> {
    let last = samples.first()?.clone();
    let before = samples
        .iter()
        .take_while(|sample| sample.phase == last.phase && last.at - sample.at <= WINDOW)
        .last()?;
    let seconds = last.at - before.at;
    let rate = |pick: fn(&Sample) -> u64| match seconds > 0.0 {
        true => pick(&last).saturating_sub(pick(before)) as f64 / seconds,
        false => 0.0,
    };
    let per_second = [
        rate(|sample| sample.repos),
        rate(|sample| sample.records),
        rate(|sample| sample.bytes),
        rate(|sample| sample.rows),
    ];
    Some(Pace { last, per_second })
}

/// The present time, in seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A time as ISO 8601, from seconds since 1970.
#[allow(clippy::cast_possible_truncation)]
#[must_use]
pub fn iso(seconds: f64) -> String {
    rows::datetime::print((seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_half_minute_of_a_phase() {
        let sample = |at: f64, phase: &str, records: u64| Sample {
            at,
            phase: phase.to_owned(),
            records,
            ..Sample::default()
        };
        let samples = vec![
            sample(100.0, "load", 1000),
            sample(90.0, "load", 900),
            sample(75.0, "load", 500),
            sample(60.0, "load", 0),
        ];
        let found = pace(&samples).unwrap();
        assert!((found.per_second[1] - 20.0).abs() < 0.01, "{found:?}");
        let samples = vec![sample(100.0, "vacuum", 1000), sample(90.0, "load", 900)];
        assert!(pace(&samples).unwrap().per_second[1].abs() < 0.01);
        assert_eq!(pace(&[]), None);
    }
}
