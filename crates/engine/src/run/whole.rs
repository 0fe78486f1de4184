//! The whole path: adds the named repos, discovers repos, and loads everything that is pending.
//!
//! Loading begins with the first page that discovery stores, in the same run. Only accounts that
//! two hosts list wait until the pass has asked for their documents. Both ask each host at one
//! pace.

use crate::archives;
use crate::discovery::arrivals::Arrivals;
use crate::discovery::{Beside, Pass, Source};
use crate::observer::Milestone;
use crate::run::choice::Requested;
use crate::run::estimate::Estimate;
use crate::run::memory::pages_of;
use crate::run::new_run::NewRun;
use crate::run::options::{Options, Repos};
use crate::run::pending::{Done, load_pending};
use crate::run::phases;
use crate::run::session::Session;
use crate::run::wanted;
use crate::verify;
use archive::{Archive, OpenOptions};
use fetch::turns::Turns;
use ledger::open::Which;
use ledger::repos::{self, RetryFailed};
use ledger::{hosts, runs, settings, workers};
use observe::units::counted;
use postgres::Client;
use process::{Database, Failure, threads};
use std::sync::Arc;
use std::time::Duration;

/// It is checked at least this often whether it is to stop.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// How it ended.
pub enum RunEnd {
    /// A run came to an end, or was stopped.
    Run(Box<Done>),
    /// Nothing was pending.
    NothingPending,
    /// It was stopped before a run began.
    Stopped,
}

/// Goes the whole way. Beside how it ended: how many lines and names led to no repo.
///
/// # Errors
/// The database, the network or a file cannot be used, or what is asked for does not go with what
/// is in the database.
pub fn run(session: &Session<'_>, options: Options) -> Result<(RunEnd, u64), Failure> {
    let (database, observer) = (session.database, session.observer);
    let mut archive = open_archive(session, &options.repos)?.map(Arc::new);
    let mut client = database.connect()?;
    let is_joining = has_other_workers(database)?;
    options.new.require_fit(&mut client, database, is_joining)?;
    note_collation(&mut client, database)?;
    observer.reached(Milestone::Accepted)?;
    phases::plan(session.options, options.discovers);
    let choice = options.new.choice.as_ref();
    let is_part = choice.is_some_and(Requested::narrows);
    let estimate = Estimate {
        is_chosen: is_part
            || options.repos.around.names_any()
            || !options.source.collections.is_empty(),
        is_part,
        notifies: choice.is_none_or(Requested::notifies),
        is_forced: options.is_forced,
    };
    let fetches_missing = options.repos.fetches_missing;
    let (any, bad_lines) = wanted::add_all(session, options.repos, archive.as_deref())?;
    if fetches_missing && let Some(archive) = archive.take() {
        drop(session.second.set(archive));
    }
    observer.reached(Milestone::ReposAdded)?;
    reopen_failed(session, &mut client, options.retry_failed)?;
    let refused = |error: postgres::Error| database.failure(error);
    let source = &options.source;
    let done = if options.discovers {
        // Of several workers, the first one asks: what it has loaded since takes room.
        if source.is_full_network() && !is_joining {
            estimate.of_full_network(session)?;
        }
        match discover_and_load(session, &options.new, source, &mut archive, estimate)? {
            Discovered::Loaded(done) => Some(*done),
            Discovered::Nothing => None,
            Discovered::Stopped => return Ok((RunEnd::Stopped, bad_lines)),
        }
    } else {
        observer.reached(Milestone::Discovered)?;
        let last = runs::last(&mut *client, &database.schema).map_err(refused)?;
        let found =
            repos::count_open(&mut *client, &database.schema, Which::All).map_err(refused)?;
        if last.is_none() && !any && found == 0 {
            return Err(Failure::usage(
                "there is nothing to continue: no run has begun on this database",
            )
            .hint_to_run(
                "say what to load, for example skyfill run dids.jsonl; or the whole network",
                "run --discover",
            ));
        }
        estimate.of_pending(session, is_joining)?;
        let relay = source.relay.is_some().then(|| (source.relay(), None));
        load_pending(session, &options.new, &mut archive, relay, None)?
    };
    if let Some(done) = done {
        return Ok((RunEnd::Run(Box::new(done)), bad_lines));
    }
    settings::forget_run(&mut *client, &database.schema).map_err(refused)?;
    observe::log!("nothing is pending");
    if let Some(path) = &session.options.certificate
        && verify::after_run(Some(path), database, &session.stop, observer)?.is_none()
    {
        return Ok((RunEnd::Stopped, bad_lines));
    }
    Ok((RunEnd::NothingPending, bad_lines))
}

/// Whether other workers load into the database already.
///
/// # Errors
/// The database cannot be used.
pub fn has_other_workers(database: &Database) -> Result<bool, Failure> {
    workers::any_loads(&mut *database.connect()?, &database.schema)
        .map_err(|error| database.failure(error))
}

/// Names a collation that makes the keys slow, before the first run.
fn note_collation(client: &mut Client, database: &Database) -> Result<(), Failure> {
    let last = runs::last(client, &database.schema).map_err(|error| database.failure(error))?;
    let note = database.require_fit(client)?.collation_note();
    if let (None, Some(note)) = (last, note) {
        observe::log!("note: {note}");
    }
    Ok(())
}

/// Opens repos that failed: those whose time has come, or all of them.
fn reopen_failed(session: &Session<'_>, client: &mut Client, all: bool) -> Result<(), Failure> {
    let which = match all {
        true => RetryFailed::All,
        false => RetryFailed::Due,
    };
    let database = session.database;
    let retried = repos::retry_failed(client, &database.schema, which)
        .map_err(|error| database.failure(error))?;
    if all {
        hosts::forget_pauses(client, &database.schema).map_err(|error| database.failure(error))?;
    }
    if retried > 0 {
        observe::log!("retrying {}", counted(retried, "failed repo"));
    }
    session.observer.reached(Milestone::FailuresReopened)
}

/// How discovery and the load beside it ended.
enum Discovered {
    /// A run came to an end, or was stopped.
    Loaded(Box<Done>),
    /// Nothing was pending.
    Nothing,
    /// It was stopped before a run began.
    Stopped,
}

/// Runs a pass of discovery, and loads what it finds meanwhile. At the end of the pass, an estimate
/// is logged of what is pending, if that is much or was chosen.
fn discover_and_load(
    session: &Session<'_>,
    new: &NewRun,
    source: &Source,
    archive: &mut Option<Arc<Archive>>,
    estimate: Estimate,
) -> Result<Discovered, Failure> {
    let turns = {
        let _within = session.runtime.enter();
        Turns::start(session.options.fetch.pace(session.options.scale.slots))
    };
    let arrivals = Arrivals::default();
    let beside = Beside {
        arrivals: &arrivals,
        turns: &turns,
        pages: pages_of(session.options.scale.memory),
        is_stream: false,
        is_paused: None,
    };
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| discover(session, source, beside, estimate));
        let loaded = load_beside(session, new, archive, source.relay(), beside);
        if loaded.is_err() {
            // What it could not do stops the pass, too.
            session.stop.set();
        }
        let pass = pass
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What kept the pass from its end stopped the load.
        let is_whole = pass?.is_some();
        match loaded? {
            Some(done) => Ok(Discovered::Loaded(Box::new(done))),
            None if is_whole => Ok(Discovered::Nothing),
            None => Ok(Discovered::Stopped),
        }
    })
}

/// The pass. If it fails, the load beside it is stopped: the next run continues both.
fn discover(
    session: &Session<'_>,
    source: &Source,
    beside: Beside<'_>,
    estimate: Estimate,
) -> Result<Option<Pass>, Failure> {
    /// Tells the load, whatever ends the pass.
    struct Over<'o>(&'o Arrivals);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let broke_off = |_: String| session.stop.set();
    let work = || {
        let _over = Over(beside.arrivals);
        let pass = session.discovery(source).pass_beside(beside)?;
        if pass.is_some() {
            session.observer.reached(Milestone::Discovered)?;
            estimate.of_pending(session, true)?;
        }
        Ok(pass)
    };
    let pass = threads::guarded("the thread that discovers repos", broke_off, work)
        .unwrap_or_else(|| Err(Failure::new("discovery broke off")));
    if pass.is_err() {
        session.stop.set();
    }
    pass
}

/// Loads what is pending as soon as something is; nothing if there is nothing, or if it was stopped
/// before.
fn load_beside(
    session: &Session<'_>,
    new: &NewRun,
    archive: &mut Option<Arc<Archive>>,
    relay: &str,
    beside: Beside<'_>,
) -> Result<Option<Done>, Failure> {
    let database = session.database;
    let mut patient = database.patient(&session.stop);
    loop {
        let news = beside.arrivals.news();
        if session.stop.is_set() {
            return Ok(None);
        }
        let schema = &database.schema;
        let open = patient.run(|client| repos::count_open(client, schema, Which::All))?;
        if news.is_over || news.has_begun && open > 0 {
            // Where the pass did not learn it, the relay is not asked once more.
            let relay = news.seq.map(|seq| (relay, Some(seq)));
            let done = load_pending(session, new, archive, relay, Some(beside))?;
            // What was open may be contested by now.
            if done.is_some() || news.is_over {
                return Ok(done);
            }
        }
        beside.arrivals.wait(news, CHECK_EVERY);
    }
}

fn open_archive(session: &Session<'_>, repos: &Repos) -> Result<Option<Archive>, Failure> {
    let Some(place) = &repos.from_cars else {
        return Ok(None);
    };
    let options = OpenOptions {
        access: session.options.access.clone(),
        spool: session.options.spool.clone(),
        memory: session.options.scale.memory,
    };
    let archive = archives::open(place, &options)?;
    for note in archive.notes() {
        observe::log!("note: {}", observe::printable(&note));
    }
    Ok(Some(archive))
}
