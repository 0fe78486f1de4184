//! What comes after loading: indexes, vacuum, identities, finalize, verify. Each can be stopped and
//! gone on with; the ledger knows which is next.

use crate::cli::{FinalizeArgs, HandleMode, IdentitiesArgs, LoadArgs, OutputArgs, RunHandles};
use crate::run::NewRun;
use crate::{finalize, identities, told, verify};
use ledger::failpoint;
use ledger::identity::Again;
use ledger::locks::{self, Hold, Lock};
use ledger::runs::{self, Mode, Phase, Run};
use load::fresh::{self, RebuildError, Rebuilding};
use load::{DbError, Decision, decide};
use observe::{Counter, Progress};
use pg::{DbErrorKind, Persistent, Waiting};
use postgres::Client;
use process::Database;
use process::Stop;
use process::{Ended, Failure};
use std::time::Duration;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do; how many differences the proof found.
    Done { differences: u64 },
    /// It was told to stop.
    Stopped,
}

/// How what comes after loading ended.
pub(crate) enum Finish {
    Ended(Outcome),
    /// So many repos were found that are not their accounts' word: they are open again.
    LoadAgain(u64),
}

/// An index that the server cannot make now, because its disk is full, say, is begun again so
/// often: each try may take hours.
const MAX_TRIES: u32 = 5;

/// Does `step` on a connection; when the server goes away, waits for it and does it again.
fn persist<T>(
    database: &Database,
    stop: &Stop,
    step: impl FnMut(&mut Client) -> Result<T, DbError>,
) -> Result<T, Failure> {
    Persistent::new(&database.url, stop.waits())
        .run(step)
        .map_err(|error| {
            database.db_failure(&error).hint(format!(
                "what is done stays done; mend this, then go on with: {}",
                told::line_to_go_on_with()
            ))
        })
}

/// Moves the run on; if somebody else has moved it meanwhile, to where it is now.
fn advance(database: &Database, run: &mut Run, to: Phase, stop: &Stop) -> Result<(), Failure> {
    failpoint::pass("phase");
    let from = run.phase;
    run.phase = persist(database, stop, |client| {
        if runs::advance(client, run.id, from, to)? {
            return Ok(to);
        }
        let last = runs::last(client, &database.schema)?;
        Ok(last
            .filter(|last| last.id == run.id)
            .map_or(to, |last| last.phase))
    })?;
    Ok(())
}

/// Notes that all is loaded. The commit is the first one that waits for the disk, and with it for
/// all before it.
pub(crate) fn loaded(database: &Database, mut run: Run) -> Result<Run, Failure> {
    advance(database, &mut run, Phase::Indexes, &Stop::default())?;
    Ok(run)
}

/// Waits until this process is the only one that does what comes after loading; false if it was
/// told to stop.
fn lock(client: &mut Client, database: &Database, stop: &Stop) -> Result<bool, Failure> {
    match locks::take(client, Lock::AfterLoad, Hold::Session, stop.waits()) {
        Err(error) if error.kind == DbErrorKind::Stopped => Ok(false),
        taken => taken
            .map(|()| true)
            .map_err(|error| database.db_failure(&error)),
    }
}

/// Makes the indexes of a fresh load before more is loaded; false if it was told to stop.
pub(crate) fn indexes_first(
    args: &LoadArgs,
    database: &Database,
    stop: &Stop,
) -> Result<bool, Failure> {
    let mut client = database.connect()?;
    Ok(lock(&mut client, database, stop)? && indexes(args, database, stop)?)
}

/// Does what is left to do. Of two processes one does it, the other waits, and goes on from where
/// that one has come.
pub(crate) fn finish(
    args: &LoadArgs,
    database: &Database,
    run: &mut Run,
    stop: &Stop,
    may_load_again: bool,
) -> Result<Finish, Failure> {
    let mut client = database.connect()?;
    if !lock(&mut client, database, stop)? {
        return Ok(Finish::Ended(Outcome::Stopped));
    }
    let last =
        runs::last(&mut client, &database.schema).map_err(|error| database.failure(error))?;
    if let Some(last) = last.filter(|last| last.id == run.id && last.phase > run.phase) {
        run.phase = last.phase;
    }
    let mut differences = 0;
    while run.phase != Phase::Done {
        if stop.is_set() {
            return Ok(Finish::Ended(Outcome::Stopped));
        }
        let (ended, next) = match run.phase {
            Phase::Load => {
                observe::log!("another skyfill loads more; what comes after loading is left to it");
                return Ok(Finish::Ended(Outcome::Done { differences }));
            }
            Phase::Indexes => (indexes(args, database, stop)?, Phase::Vacuum),
            Phase::Vacuum => (vacuum(args, database, run, stop)?, Phase::Identities),
            Phase::Identities => match look_up(args, database, run, stop)? {
                None => (false, Phase::Finalize),
                Some(repos @ 1..) if may_load_again => return Ok(Finish::LoadAgain(repos)),
                Some(_) => (true, Phase::Finalize),
            },
            Phase::Finalize => (finalize(args, database, run, stop)?, Phase::Verify),
            Phase::Verify | Phase::Done => {
                if !args.no_verify {
                    match verify::after_run(args, database, stop)? {
                        Some(found) => differences = found,
                        None => return Ok(Finish::Ended(Outcome::Stopped)),
                    }
                }
                (true, Phase::Done)
            }
        };
        if !ended {
            return Ok(Finish::Ended(Outcome::Stopped));
        }
        advance(database, run, next, stop)?;
    }
    Ok(Finish::Ended(Outcome::Done { differences }))
}

/// Makes all that is missing again.
fn indexes(args: &LoadArgs, database: &Database, stop: &Stop) -> Result<bool, Failure> {
    let mut waiting = Waiting::default();
    loop {
        let missing = persist(database, stop, |client| {
            let missing = load::indexes::missing(client, &database.schema)?;
            Ok(fresh::in_order(client, &database.schema, missing)?)
        })?;
        if missing.is_empty() {
            return Ok(true);
        }
        let made = Counter::with_rate("indexes and constraints made");
        let progress = Progress::start(
            vec![made.clone()],
            Some(missing.len() as u64),
            Duration::from_secs(args.output.logging_interval),
        );
        let watch = IndexWatch::start(
            database,
            &progress,
            Duration::from_secs(args.output.logging_interval),
        );
        let report = |what: Rebuilding<'_>| {
            if matches!(what, Rebuilding::Done(_)) {
                made.add(1);
                failpoint::pass("rebuild");
            }
        };
        let outcome = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.run());
            let outcome = fresh::rebuild(
                &database.url,
                &database.schema,
                &missing,
                usize::from(args.max_db_connections),
                &report,
                &|| stop.is_set(),
            );
            watch.stop();
            drop(watching.join());
            outcome
        });
        progress.finish();
        let RebuildError { at, error } = match outcome {
            Ok(all) => return Ok(all),
            Err(failed) => failed,
        };
        if waiting.tries() >= MAX_TRIES && decide(&error) == Decision::Wait {
            return Err(not_made(database, at.as_deref(), &error));
        }
        if let Err(error) = waiting.pause(error, stop.waits()) {
            return Err(not_made(database, at.as_deref(), &error));
        }
    }
}

/// Why an index could not be made, and what mends it.
fn not_made(database: &Database, at: Option<&(String, String)>, error: &DbError) -> Failure {
    if error.kind == DbErrorKind::Stopped {
        return database.db_failure(error);
    }
    let which = at.map_or_else(String::new, |(name, table)| format!("{name} on {table}: "));
    let failure = Failure::new(format!(
        "make indexes in schema {} of {}: {which}{error}",
        database.schema,
        database.shown()
    ));
    if error.sqlstate.as_deref() == Some("23505") {
        return failure.hint(format!("a row that skyfill did not write breaks the constraint; remove it (the message names its key), then go on with: {}", told::line_to_go_on_with()));
    }
    failure.hint(format!(
        "what was made stays; mend this, then go on with: {}",
        told::line_to_go_on_with()
    ))
}

/// Tells how far the indexes that are being made have come.
struct IndexWatch<'w> {
    database: &'w Database,
    progress: &'w Progress,
    every: Duration,
    done: Stop,
}

impl<'w> IndexWatch<'w> {
    fn start(database: &'w Database, progress: &'w Progress, every: Duration) -> Self {
        Self {
            database,
            progress,
            every,
            done: Stop::default(),
        }
    }

    fn stop(&self) {
        self.done.set();
    }

    fn run(&self) {
        let mut client: Option<Client> = None;
        let mut waited = Duration::ZERO;
        while !self.done.is_set() {
            std::thread::sleep(Duration::from_millis(100));
            waited += Duration::from_millis(100);
            if waited < self.every {
                continue;
            }
            waited = Duration::ZERO;
            if client.is_none() {
                client = pg::connect(&self.database.url).ok();
            }
            let told = client.as_mut().map(load::indexes::progress);
            match told {
                Some(Ok(lines)) => lines.iter().for_each(|line| self.progress.say(line)),
                _ => client = None,
            }
        }
    }
}

fn vacuum(args: &LoadArgs, database: &Database, run: &Run, stop: &Stop) -> Result<bool, Failure> {
    // A merge leaves that to the server: a running AppView has its own pace.
    if run.mode == Mode::Merge {
        return Ok(true);
    }
    observe::log!("vacuuming and analyzing");
    persist(database, stop, |_| {
        fresh::vacuum(
            &database.url,
            &database.schema,
            usize::from(args.max_db_connections),
            &|| stop.is_set(),
        )
    })
}

/// Looks up accounts, and proves what was stored unproved; how many repos are to be fetched anew
/// for that, or nothing if it was told to stop.
fn look_up(
    args: &LoadArgs,
    database: &Database,
    run: &Run,
    stop: &Stop,
) -> Result<Option<u64>, Failure> {
    let handles = match args.handles {
        RunHandles::Skip => return Ok(Some(0)),
        RunHandles::Verified => HandleMode::Verified,
        RunHandles::Claimed => HandleMode::Claimed,
    };
    observe::log!("looking up accounts");
    let args = identities_args(args, handles, Some(run.now.clone()), false);
    if identities::look_up_due(&args, database, stop, true)? == Ended::Stopped {
        return Ok(None);
    }
    let proved = identities::prove(&args, database, stop)?;
    Ok((!proved.is_stopped).then_some(proved.opened))
}

fn identities_args(
    args: &LoadArgs,
    handles: HandleMode,
    now: Option<String>,
    plc_export: bool,
) -> IdentitiesArgs {
    IdentitiesArgs {
        database: args.database.clone(),
        handles,
        plc_export,
        retry: false,
        recheck: false,
        dids: None,
        now,
        directory: args.directory.clone(),
        caller: args.caller.clone(),
        concurrency: 32,
        allow_private_hosts: args.fetch.allow_private_hosts,
        memory: args.remember,
        output: quiet(args),
    }
}

/// Before a pass of catching up: accounts whose documents changed since the first load, as the
/// PLC's export tells, and those of did:web, which nothing tells of, are looked at again. False if
/// it was told to stop.
pub(crate) fn look_at_changed(
    args: &LoadArgs,
    database: &Database,
    new: &NewRun,
    stop: &Stop,
) -> Result<bool, Failure> {
    let handles = match args.handles {
        RunHandles::Skip => return Ok(true),
        RunHandles::Verified => HandleMode::Verified,
        RunHandles::Claimed => HandleMode::Claimed,
    };
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    if let Some(began) = runs::first_began(&mut client, &database.schema).map_err(refused)? {
        identities::export_from(&mut client, database, &args.directory, &began)?;
    }
    ledger::identity::look_again(&mut client, &database.schema, Again::Web).map_err(refused)?;
    drop(client);
    observe::log!("looking up accounts that changed");
    let args = identities_args(args, handles, Some(rows::datetime::print(new.now)), true);
    if identities::look_up_due(&args, database, stop, true)? == Ended::Stopped {
        return Ok(false);
    }
    Ok(!identities::prove(&args, database, stop)?.is_stopped)
}

fn finalize(args: &LoadArgs, database: &Database, run: &Run, stop: &Stop) -> Result<bool, Failure> {
    loop {
        let args = FinalizeArgs {
            database: args.database.clone(),
            max_db_connections: args.max_db_connections,
            slice_rows: 200_000,
            restart: false,
            notifications: load::Notifications::parse(&run.notifications),
            output: quiet(args),
        };
        match finalize::work(&args, database, stop, true)? {
            Ended::Well => return Ok(true),
            Ended::Stopped => return Ok(false),
            // Somebody loaded rows meanwhile.
            Ended::WithFailures => {}
        }
    }
}

/// The same output, without the summaries of the parts.
fn quiet(args: &LoadArgs) -> OutputArgs {
    OutputArgs {
        logging_interval: args.output.logging_interval,
        json: false,
    }
}
