//! The phases after loading: indexes, vacuum, identities, finalize, verify. Each can be stopped and
//! continued; the ledger knows which is next.

use crate::identities::{self, Bulk, HandleMode, LookUp};
use crate::run::left::Left;
use crate::run::options::LoadOptions;
use crate::run::scale::LOOK_UPS_AT_ONCE;
use crate::run::server_watch::ServerWatch;
use crate::run::session::Session;
use crate::{finalize, indexes, verify};
use ledger::failpoint;
use ledger::identity::Again;
use ledger::locks::{self, Hold, Lock};
use ledger::open::Which;
use ledger::repos;
use ledger::runs::{self, Mode, Phase, Run};
use load::freeze::{self, Work};
use load::indexes::{Conflicts, Rebuilding};
use observe::registry::PhaseName;
use observe::{Counter, Progress, registry};
use pg::{DbError, DbErrorKind, Persistent};
use postgres::Client;
use process::{Database, Failure, Stop, clock};

/// Rows of a slice, about.
const SLICE_ROWS: u64 = 200_000;

/// The phase after the last one of a run, if the event stream is followed then.
pub(crate) const FOLLOWING: PhaseName = PhaseName {
    name: "follow",
    label: "following",
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Nothing is left to do.
    Done {
        /// Differences between the tables and the commits.
        differences: u64,
    },
    /// It was stopped.
    Stopped,
}

/// How what comes after loading ended.
pub(crate) enum Finish {
    Ended(RunOutcome),
    /// So many repos are open again: they are not their accounts' word, or had to wait for the
    /// indexes.
    LoadAgain(u64),
    /// Another process loads again; this one takes part.
    JoinLoad,
}

/// Publishes the phases to come. What is not asked for is left out.
pub(crate) fn plan(options: &LoadOptions, discovers: bool) {
    let wanted = Phase::ALL.into_iter().filter(|phase| match phase {
        Phase::Identities => options.handles.is_some(),
        Phase::Verify => options.verifies,
        Phase::Done => false,
        Phase::Load | Phase::Indexes | Phase::Vacuum | Phase::Finalize => true,
    });
    let name = |phase: Phase| PhaseName {
        name: phase.word(),
        label: match phase {
            Phase::Load if discovers => "discovery and loading",
            phase => phase.label(),
        },
    };
    let mut phases: Vec<PhaseName> = wanted.map(name).collect();
    phases.extend(options.follows.then_some(FOLLOWING));
    registry().plan(&phases);
    if discovers {
        registry().enter(Phase::Load.word());
    }
}

/// Does `step` on a connection; when the server goes away, waits for it and does it again.
fn persist<T>(
    database: &Database,
    stop: &Stop,
    step: impl FnMut(&mut Client) -> Result<T, DbError>,
) -> Result<T, Failure> {
    Persistent::new(&database.url, stop.waits())
        .run(step)
        .map_err(|error| {
            database
                .db_failure(&error)
                .hint_to_go_on("what is done stays done; fix this, then")
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
    match locks::acquire(client, Lock::AfterLoad, Hold::Session, stop.waits()) {
        Err(error) if error.kind == DbErrorKind::Stopped => Ok(false),
        taken => taken
            .map(|()| true)
            .map_err(|error| database.db_failure(&error)),
    }
}

/// Rebuilds the indexes of a fresh load before more is loaded; false if it was stopped.
pub(crate) fn rebuild_indexes_first(session: &Session<'_>) -> Result<bool, Failure> {
    let (database, stop) = (session.database, &session.stop);
    let mut client = database.connect()?;
    Ok(lock(&mut client, database, stop)? && rebuild_indexes(session)?)
}

/// Does what is left to do. Only one process does it; others wait, then continue from where it is.
pub(crate) fn finish(
    session: &Session<'_>,
    run: &mut Run,
    may_load_again: bool,
) -> Result<Finish, Failure> {
    let (options, database, stop) = (session.options, session.database, &session.stop);
    let mut client = database.connect()?;
    if !lock(&mut client, database, stop)? {
        return Ok(Finish::Ended(RunOutcome::Stopped));
    }
    let last =
        runs::last(&mut *client, &database.schema).map_err(|error| database.failure(error))?;
    if let Some(last) = last.filter(|last| last.id == run.id) {
        (run.phase, run.mode) = (last.phase, last.mode);
    }
    let left = Left::of(session, run)?;
    let mut differences = 0;
    while run.phase != Phase::Done {
        if stop.is_set() {
            return Ok(Finish::Ended(RunOutcome::Stopped));
        }
        registry().enter(run.phase.word());
        left.log(run.phase);
        let (ended, next) = match run.phase {
            // Whoever had the lock before went back to it.
            Phase::Load => return Ok(Finish::JoinLoad),
            Phase::Indexes => (
                freeze(session, run)? && rebuild_indexes(session)?,
                Phase::Vacuum,
            ),
            Phase::Vacuum => (vacuum(session, run)?, Phase::Identities),
            Phase::Identities => match look_up(session, run)? {
                None => (false, Phase::Finalize),
                Some(_) => match left_open(session, run)? {
                    repos @ 1.. if may_load_again => return Ok(Finish::LoadAgain(repos)),
                    _ => (true, Phase::Finalize),
                },
            },
            Phase::Finalize => (finalize(session, run)?, Phase::Verify),
            Phase::Verify | Phase::Done => {
                if options.verifies {
                    let path = options.certificate.as_deref();
                    match verify::after_run(path, database, stop, session.observer)? {
                        Some(found) => differences = found,
                        None => return Ok(Finish::Ended(RunOutcome::Stopped)),
                    }
                }
                (true, Phase::Done)
            }
        };
        if !ended {
            return Ok(Finish::Ended(RunOutcome::Stopped));
        }
        advance(database, run, next, stop)?;
    }
    registry().close();
    Ok(Finish::Ended(RunOutcome::Done { differences }))
}

/// Rebuilds every index and constraint that is still missing; false if it was stopped.
fn rebuild_indexes(session: &Session<'_>) -> Result<bool, Failure> {
    let (database, stop) = (session.database, &session.stop);
    let resources = session.options.scale.indexes;
    indexes::rebuild(database, resources, Conflicts::Name, stop, |missing, go| {
        let made = Counter::rated("indexes_built", "indexes and constraints built");
        let total = missing.len() as u64;
        let progress = Progress::begin("indexes", vec![made.clone()], Some(total));
        let watch = ServerWatch::start(database, &progress);
        let outcome = go(&|what| match what {
            Rebuilding::Begins(_) => {}
            Rebuilding::Alone(what, error) => indexes::warn_alone(&what.name, error),
            Rebuilding::Done(_) => {
                made.add(1);
                failpoint::pass("rebuild");
            }
        });
        watch.finish();
        progress.finish();
        outcome
    })
}

/// Freezes what a fresh load has not frozen yet, before an index build reads it. False if it was
/// stopped.
fn freeze(session: &Session<'_>, run: &Run) -> Result<bool, Failure> {
    if run.mode == Mode::Merge {
        return Ok(true);
    }
    let (database, stop) = (session.database, &session.stop);
    persist(database, stop, |_| {
        freeze::vacuum(
            &database.url,
            &database.schema,
            Work::Freeze,
            session.options.scale.indexes,
            &|| (),
            &|| stop.is_set(),
        )
    })
}

fn vacuum(session: &Session<'_>, run: &Run) -> Result<bool, Failure> {
    let (database, stop) = (session.database, &session.stop);
    // A merge leaves that to the server: a running AppView has its own pace.
    if run.mode == Mode::Merge {
        return Ok(true);
    }
    observe::step!("vacuuming and analyzing");
    let tables = Counter::rated("tables_vacuumed", "tables vacuumed");
    let total = freeze::vacuumed().count() as u64;
    let progress = Progress::begin("vacuum", vec![tables.clone()], Some(total));
    let watch = ServerWatch::start(database, &progress);
    let ended = persist(database, stop, |_| {
        freeze::vacuum(
            &database.url,
            &database.schema,
            Work::FreezeAndAnalyze,
            session.options.scale.indexes,
            &|| tables.add(1),
            &|| stop.is_set(),
        )
    });
    watch.finish();
    ended
}

/// Looks up accounts, and proves what was stored unproved; how many repos are to be fetched again
/// for that, or nothing if it was stopped.
fn look_up(session: &Session<'_>, run: &Run) -> Result<Option<u64>, Failure> {
    let Some(handles) = session.options.handles else {
        return Ok(Some(0));
    };
    observe::step!("looking up accounts");
    let now = clock::now(Some(&run.now))?;
    let database = session.database;
    let settles = handles == HandleMode::Verified;
    let bulk = persist(database, &session.stop, |client| {
        let options = session.options;
        let place = (&options.directory, database);
        Ok(options.documents.of_due(client, place, settles)?)
    })?;
    look_up_and_prove(session, &identities_options(session, handles, now, bulk))
}

/// Repos that are open when all was loaded.
fn left_open(session: &Session<'_>, run: &Run) -> Result<u64, Failure> {
    persist(session.database, &session.stop, |client| {
        let open = repos::count_open(client, &session.database.schema, Which::All)?;
        tracing::debug!(run = run.id, open, "repos are open after loading");
        Ok(open)
    })
}

/// The same, with these options.
fn look_up_and_prove(
    session: &Session<'_>,
    options: &identities::Options,
) -> Result<Option<u64>, Failure> {
    let (database, stop) = (session.database, &session.stop);
    match identities::look_up(options, database, stop, session.observer)? {
        LookUp::Stopped(_) => Ok(None),
        LookUp::Done(summary) => {
            if summary.unreachable > 0 {
                observe::log!("{}", identities::RETRIED_LATER);
            }
            let proved = identities::prove(&options.directory, database, stop)?;
            Ok((!proved.is_stopped).then_some(proved.opened))
        }
    }
}

fn identities_options(
    session: &Session<'_>,
    handles: HandleMode,
    now: i64,
    bulk: Bulk,
) -> identities::Options {
    identities::Options {
        handles,
        settles: handles == HandleMode::Verified,
        bulk,
        retry: false,
        recheck: false,
        dids: None,
        now,
        directory: session.options.directory.clone(),
        concurrency: LOOK_UPS_AT_ONCE,
    }
}

/// Before a pass of catching up: accounts whose documents changed since the first load, as the PLC
/// export says, and those of did:web, of which nothing says so, are looked up again. `now` is the
/// time of the pass. False if it was stopped.
pub(crate) fn look_up_changed(session: &Session<'_>, now: i64) -> Result<bool, Failure> {
    let Some(handles) = session.options.handles else {
        return Ok(true);
    };
    let database = session.database;
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    if let Some(began) = runs::first_began(&mut *client, &database.schema).map_err(refused)? {
        identities::export_from(&mut client, database, &session.options.directory, &began)?;
    }
    ledger::identity::look_again(&mut *client, &database.schema, Again::Web).map_err(refused)?;
    drop(client);
    observe::log!("looking up accounts that changed");
    let options = identities_options(session, handles, now, Bulk::Known);
    Ok(look_up_and_prove(session, &options)?.is_some())
}

/// Computes the derived rows; false if it was stopped.
fn finalize(session: &Session<'_>, run: &Run) -> Result<bool, Failure> {
    let options = finalize::Options {
        connections: session.options.scale.connections,
        slice_rows: SLICE_ROWS,
        restart: false,
        is_beside: false,
        notifications: load::Notifications::parse(&run.notifications),
        is_patient: true,
    };
    loop {
        match finalize::finalize(&options, session.database, &session.stop)?.outcome {
            finalize::FinalizeEnd::Done => return Ok(true),
            finalize::FinalizeEnd::Stopped => return Ok(false),
            finalize::FinalizeEnd::OutOfDate => observe::log!("{}", finalize::OUT_OF_DATE),
        }
    }
}
