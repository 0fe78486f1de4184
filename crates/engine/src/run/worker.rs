//! What a run is as one of the workers on its database.

use ledger::workers::{self, Joining, Report};
use process::{Database, Failure};
use std::time::{Duration, Instant};

/// Leases are renewed so often in the time that one lasts, and at least this often.
const RENEWALS: u32 = 6;
const RENEW: Duration = Duration::from_secs(10);
/// Rates are those of the last such time.
const RATED: Duration = Duration::from_secs(5);

/// How a run is a worker.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its name, for people.
    pub name: String,
    /// How long its leases last without being renewed.
    pub lease: Duration,
}

impl WorkerOptions {
    /// How often it renews its leases.
    pub(crate) fn renew_every(&self) -> Duration {
        (self.lease / RENEWALS).min(RENEW)
    }
}

/// What a worker said of itself, and what it counts beside the board.
pub(crate) struct Said {
    pub(crate) report: Report,
    /// Since when its present rates are counted, with repos and records then.
    since: (Instant, u64, u64),
    /// Workers that lived when it looked last.
    pub(crate) workers: u64,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            report: Report::default(),
            since: (Instant::now(), 0, 0),
            workers: 1,
        }
    }
}

impl Said {
    /// What is to be said now.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn update(&mut self, (repos, failed): (u64, u64), (records, bytes): (u64, u64)) {
        let (since, repos_then, records_then) = self.since;
        let seconds = since.elapsed().as_secs_f64();
        let report = &mut self.report;
        if since.elapsed() >= RATED {
            report.repos_per_second = repos.saturating_sub(repos_then) as f64 / seconds;
            report.records_per_second = records.saturating_sub(records_then) as f64 / seconds;
            self.since = (Instant::now(), repos, records);
        }
        (report.repos, report.failed) = (repos, failed);
        (report.records, report.bytes) = (records, bytes);
    }
}

/// Joins the workers on a database; this one's number.
pub(crate) fn join(
    worker: &WorkerOptions,
    database: &Database,
    run: i64,
    slots: usize,
) -> Result<i32, Failure> {
    let joining = Joining {
        name: &worker.name,
        machine: &process::host_name(),
        pid: std::process::id(),
        run,
        slots,
    };
    let mut client = database.connect()?;
    workers::join(&mut *client, &database.schema, &joining, worker.lease)
        .map_err(|error| database.failure(error))
}
