//! Derived rows: the stages of `finalize`, with their progress.

pub use ::finalize::FinalizeEnd;

use ::finalize::{Finalize, FinalizeError, Report, Stage};
use load::Notifications;
use observe::units::{counted, span};
use observe::{Counter, Progress};
use process::stop::PATIENT;
use process::{Database, Failure, Stop};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What people are told when rows were loaded while they were computed.
pub const OUT_OF_DATE: &str = "rows were loaded meanwhile; run it again after that";

/// How derived rows are computed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Database connections that work concurrently.
    pub connections: usize,
    /// Rows of a slice, about.
    pub slice_rows: u64,
    /// Whether everything is computed from the start, even if changes are known or an earlier run
    /// can be continued.
    pub restart: bool,
    /// Whether only what depends on noted changes is computed, whoever else writes to the tables.
    pub is_beside: bool,
    /// Which notifications are stored; without it, those that the loads stored.
    pub notifications: Option<Notifications>,
    /// Whether another one that finalizes is waited for (it may be the server process of one that
    /// was killed); without it, it is an error.
    pub is_patient: bool,
}

/// The result of it.
#[derive(Debug)]
pub struct Summary {
    /// How it ended.
    pub outcome: FinalizeEnd,
    /// The stages that it came to.
    pub stages: Vec<StageTime>,
}

impl Summary {
    /// The summary as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let stages = self
            .stages
            .iter()
            .map(|t| json!({"stage": t.stage, "slices": t.slices, "seconds": t.seconds}));
        json!({
            "done": self.outcome == FinalizeEnd::Done,
            "stages": stages.collect::<Vec<_>>(),
        })
    }
}

/// What a stage took.
#[derive(Clone, Debug)]
pub struct StageTime {
    /// Its name.
    pub stage: &'static str,
    /// Slices that were done.
    pub slices: u64,
    since: Instant,
    /// Seconds until the last of them was done.
    pub seconds: f64,
}

/// What is shown while stages go on.
struct Shown {
    slices: Counter,
    progress: Mutex<Option<Progress>>,
    stages: Mutex<Vec<StageTime>>,
}

impl Shown {
    fn new() -> Self {
        Self {
            slices: Counter::rated("slices_done", "slices"),
            progress: Mutex::default(),
            stages: Mutex::default(),
        }
    }

    fn lock_progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_stages(&self) -> MutexGuard<'_, Vec<StageTime>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, report: &Report<'_>) {
        match *report {
            Report::GoingOn => observe::log!("continuing where the last run stopped"),
            Report::Unchanged => observe::log!("nothing changed since the last time"),
            Report::Changes(changes) => {
                let changes = counted(changes, "change");
                observe::step!("computing what depends on {changes} since the last time");
            }
            Report::Foreign => observe::log!(
                "another program wrote to the tables since the last time; everything is computed"
            ),
            Report::Everything => {}
            Report::Vacuum(table) => observe::step!("vacuuming and analyzing {table}"),
            Report::Slices(total) => {
                let counters = vec![self.slices.clone()];
                let progress = Progress::begin("finalize", counters, Some(total));
                *self.lock_progress() = Some(progress);
            }
            Report::Stage {
                stage,
                number,
                planned,
                done,
            } => self.begin_stage(stage, number, (planned, done)),
            Report::Slice(_) => {
                self.slices.add(1);
                if let Some(last) = self.lock_stages().last_mut() {
                    last.slices += 1;
                    last.seconds = last.since.elapsed().as_secs_f64();
                }
            }
        }
    }

    fn begin_stage(&self, stage: &Stage, (number, stages): (usize, usize), slices: (u64, u64)) {
        let (planned, done) = slices;
        self.slices.add(done);
        if let Some(progress) = &*self.lock_progress() {
            progress.done_before(done);
            progress.doing(format!("{}: {}", stage.name, stage.about));
        }
        observe::step!(
            "stage {number} of {stages}, {}: {} ({})",
            stage.name,
            stage.about,
            counted(planned - done, "slice")
        );
        self.lock_stages().push(StageTime {
            stage: stage.name,
            slices: 0,
            since: Instant::now(),
            seconds: 0.0,
        });
    }
}

/// Computes the derived rows.
///
/// # Errors
/// The database cannot be used, or somebody else finalizes.
pub fn finalize(options: &Options, database: &Database, stop: &Stop) -> Result<Summary, Failure> {
    let notifications = notifications(options, database)?;
    let shown = Shown::new();
    let (report, say) = (
        |report: Report<'_>| shown.report(&report),
        |text: &str| observe::log!("{text}"),
    );
    let started = Instant::now();
    let mut has_said = false;
    let outcome = loop {
        let outcome = Finalize {
            url: database.url.clone(),
            schema: database.schema.clone(),
            connections: options.connections,
            slice_rows: options.slice_rows,
            restart: options.restart,
            is_beside: options.is_beside,
            is_once: false,
            notifications: notifications.clone(),
            report: &report,
            say: &say,
            stop: &|| stop.is_set(),
        }
        .run();
        match outcome {
            Err(FinalizeError::Busy) if options.is_patient && !stop.is_set() => {
                if !std::mem::replace(&mut has_said, true) {
                    say("another skyfill finalizes in this database; waiting");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            outcome => break outcome,
        }
    };
    drop(shown.lock_progress().take());
    let outcome = outcome.map_err(|error| failure(database, &error))?;
    if outcome == FinalizeEnd::Done {
        let time = span(started.elapsed().as_secs_f64());
        let (schema, shown) = (&database.schema, database.shown());
        match options.is_beside {
            true => observe::log!(
                "what depends on the changes in schema {schema} of {shown} is computed, in {time}"
            ),
            false => observe::log!("schema {schema} of {shown} is finalized, in {time}"),
        }
    }
    let stages = shown
        .stages
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(Summary { outcome, stages })
}

/// The notifications that are stored: those that the loads took. Others would make a mixture,
/// because what a record's own row brings is stored by the load alone.
fn notifications(options: &Options, database: &Database) -> Result<Notifications, Failure> {
    let mut client = database.connect()?;
    let refused = |error| database.failure(error);
    database.require_trusted(&mut client)?;
    ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
    // A load by producers has no phases, and its notifications are stored all the same.
    let run = ledger::runs::last(&mut *client, &database.schema).map_err(refused)?;
    let loaded = match run {
        Some(run) => Some(run.notifications),
        None => ledger::runs::all(&mut *client, &database.schema)
            .map_err(refused)?
            .pop()
            .map(|run| run.notifications),
    };
    let loaded = loaded.and_then(|words| Notifications::parse(&words));
    match (&options.notifications, loaded) {
        (Some(given), Some(loaded)) if *given != loaded => Err(Failure::usage(format!(
            "--notifications {}: schema {} of {} was loaded with notifications {}, and those of likes, \
             follows and mentions are stored accordingly",
            given.text(),
            database.schema,
            database.shown(),
            loaded.text()
        ))
        .hint(format!(
            "leave out --notifications; to store others, load everything again: skyfill migrate --recreate-schema, then \
             skyfill run --notifications {}",
            given.text()
        ))),
        (_, Some(loaded)) => Ok(loaded),
        (given, None) => Ok(given.clone().unwrap_or_default()),
    }
}

fn failure(database: &Database, error: &FinalizeError) -> Failure {
    let failure = Failure::new(format!(
        "finalize schema {} of {}: {error}",
        database.schema,
        database.shown()
    ));
    match error {
        FinalizeError::Busy => failure.hint("wait until it ends; its work is not done twice"),
        FinalizeError::Indexes(_) => failure.hint_to_run("run", "indexes restore"),
        FinalizeError::Database(_) => {
            failure.hint("what is done stays done; fix this, then run it again")
        }
    }
}
