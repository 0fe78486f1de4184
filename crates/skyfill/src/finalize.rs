//! `skyfill finalize`.

use crate::cli::FinalizeArgs;
use crate::signals;
use crate::told;
use finalize::{Finalize, FinalizeError, Outcome, Report, STAGES};
use load::Notifications;
use observe::{Counter, Progress, Workers};
use process::Database;
use process::Stop;
use process::stop::PATIENT;
use process::{Ended, Failure};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a stage took.
struct Taken {
    stage: &'static str,
    slices: u64,
    since: Instant,
    seconds: f64,
}

pub(crate) fn run(args: &FinalizeArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&args.database.target())?;
    let stop = signals::listen(Workers::default())?;
    work(args, &database, &stop, false)
}

/// The same, as a part of a run. Another one that finalizes (it may be the server process of one
/// that was killed) is waited for if `patient`.
pub(crate) fn work(
    args: &FinalizeArgs,
    database: &Database,
    stop: &Stop,
    patient: bool,
) -> Result<Ended, Failure> {
    let notifications = notifications(args, database)?;
    let slices = Counter::with_rate("slices");
    let progress: Mutex<Option<Progress>> = Mutex::new(None);
    let taken: Mutex<Vec<Taken>> = Mutex::new(Vec::new());
    let say = |text: &str| match &*progress.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(progress) => progress.say(text),
        None => observe::log!("{text}"),
    };
    let report = |report: Report<'_>| match report {
        Report::GoingOn => say("going on where the last run stopped"),
        Report::Vacuum(table) => say(&format!("vacuuming and analyzing {table}")),
        Report::Slices(total) => {
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress::start(
                vec![slices.clone()],
                Some(total),
                Duration::from_secs(args.output.logging_interval),
            ));
        }
        Report::Stage(stage, planned, done) => {
            slices.add(done);
            let number = STAGES
                .iter()
                .position(|s| s.name == stage.name)
                .unwrap_or(0)
                + 1;
            let left = planned - done;
            let plural = if left == 1 { "" } else { "s" };
            say(&format!(
                "stage {number} of {}, {}: {} ({left} slice{plural})",
                STAGES.len(),
                stage.name,
                stage.about
            ));
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(Taken {
                stage: stage.name,
                slices: 0,
                since: Instant::now(),
                seconds: 0.0,
            });
        }
        Report::Slice(_) => {
            slices.add(1);
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(last) = taken.last_mut() {
                last.slices += 1;
                last.seconds = last.since.elapsed().as_secs_f64();
            }
        }
    };
    let started = Instant::now();
    let mut told = false;
    let outcome = loop {
        let outcome = Finalize {
            url: database.url.clone(),
            schema: database.schema.clone(),
            connections: usize::from(args.max_db_connections),
            slice_rows: args.slice_rows,
            restart: args.restart,
            notifications: notifications.clone(),
            report: &report,
            say: &say,
            stop: &|| stop.is_set(),
        }
        .run();
        match outcome {
            Err(FinalizeError::Busy) if patient && !stop.is_set() => {
                if !std::mem::replace(&mut told, true) {
                    say("another skyfill finalizes in this database; waiting");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            outcome => break outcome,
        }
    };
    drop(
        progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
    let outcome = outcome.map_err(|error| failure(database, &error))?;
    if args.output.json {
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let stages: Vec<_> = taken
            .iter()
            .map(
                |t| serde_json::json!({"stage": t.stage, "slices": t.slices, "seconds": t.seconds}),
            )
            .collect();
        let done = outcome == Outcome::Done;
        observe::data!("{}", serde_json::json!({ "done": done, "stages": stages }));
    }
    match outcome {
        Outcome::Done => {
            let seconds = started.elapsed().as_secs_f64();
            observe::log!(
                "schema {} of {} is finalized, in {seconds:.1} s",
                database.schema,
                database.shown()
            );
            Ok(Ended::Well)
        }
        Outcome::Stopped => {
            told::done(&["restart"]);
            observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
            Ok(Ended::Stopped)
        }
        Outcome::OutOfDate => {
            observe::log!("rows were loaded meanwhile; run it again when that has ended");
            Ok(Ended::WithFailures)
        }
    }
}

/// The notifications that are stored: those that the loads took. Others would make a mixture,
/// because what a record's own row brings is stored by the load alone.
fn notifications(args: &FinalizeArgs, database: &Database) -> Result<Notifications, Failure> {
    let mut client = database.connect()?;
    let refused = |error| database.failure(error);
    database.require_trusted(&mut client)?;
    ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
    let run = ledger::runs::last(&mut client, &database.schema).map_err(refused)?;
    let loaded = run.and_then(|run| Notifications::parse(&run.notifications));
    match (&args.notifications, loaded) {
        (Some(given), Some(loaded)) if *given != loaded => Err(Failure::usage(format!(
            "--notifications {}: the rows of schema {} of {} were loaded with notifications {}, and those of likes, \
             follows and mentions stay so",
            given.text(),
            database.schema,
            database.shown(),
            loaded.text()
        ))
        .hint(format!(
            "leave out --notifications; for others load everything again: skyfill migrate --recreate-schema, then \
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
        FinalizeError::Busy => {
            failure.hint("wait until it ends; what it has done is not done twice")
        }
        FinalizeError::Indexes(_) => failure.hint("run: skyfill indexes restore"),
        FinalizeError::Database(_) => {
            failure.hint("what is done stays done; mend this, then run it again")
        }
    }
}
