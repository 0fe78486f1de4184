//! The whole path: adds the named repos, discovers repos, and loads everything that is pending.

use crate::observer::Milestone;
use crate::run::options::{Options, Repos};
use crate::run::pending::{Done, load_pending};
use crate::run::phases;
use crate::run::session::Session;
use crate::run::wanted;
use crate::verify;
use fetch::archive::Archive;
use ledger::repos::{self, RetryFailed};
use ledger::{runs, settings};
use process::Failure;

/// How it ended.
pub enum Ended {
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
pub fn run(session: &Session<'_>, options: Options) -> Result<(Ended, u64), Failure> {
    let (database, observer) = (session.database, session.observer);
    let archive = open_archive(&options.repos)?;
    let mut client = database.connect()?;
    options.new.require_fit(&mut client, database)?;
    observer.reached(Milestone::Accepted)?;
    phases::plan(session.options, options.discovers);
    let (any, bad_lines) = wanted::add_all(session, options.repos, &mut client, archive.as_ref())?;
    observer.reached(Milestone::ReposAdded)?;
    let source = &options.source;
    let mut seq = None;
    if options.discovers {
        match session.discovery(source).pass(false)? {
            Some(pass) => seq = pass.seq,
            None => return Ok((Ended::Stopped, bad_lines)),
        }
    }
    observer.reached(Milestone::Discovered)?;
    let refused = |error: postgres::Error| database.failure(error);
    let which = match options.retry_failed {
        true => RetryFailed::All,
        false => RetryFailed::Due,
    };
    let retried = repos::retry_failed(&mut client, &database.schema, which).map_err(refused)?;
    if retried > 0 {
        observe::log!("{retried} failed repos are retried");
    }
    observer.reached(Milestone::FailuresReopened)?;
    let last = runs::last(&mut client, &database.schema).map_err(refused)?;
    let found = repos::count_open(&mut client, &database.schema).map_err(refused)?;
    if last.is_none() && !any && !options.discovers && found == 0 {
        return Err(
            Failure::usage("there is nothing to continue: no run has begun on this database")
                .hint("say what to load, for example skyfill run dids.jsonl; or the whole network: skyfill run --discover"),
        );
    }
    let counts_relay = options.discovers || source.relay.is_some();
    let relay = counts_relay.then(|| (source.relay(), seq));
    if let Some(done) = load_pending(session, &options.new, archive, relay)? {
        return Ok((Ended::Run(Box::new(done)), bad_lines));
    }
    settings::forget_run(&mut client, &database.schema).map_err(refused)?;
    observe::log!("nothing is pending");
    if let Some(path) = &session.options.certificate
        && verify::after_run(Some(path), database, &session.stop, observer)?.is_none()
    {
        return Ok((Ended::Stopped, bad_lines));
    }
    Ok((Ended::NothingPending, bad_lines))
}

fn open_archive(repos: &Repos) -> Result<Option<Archive>, Failure> {
    let Some(folder) = &repos.from_cars else {
        return Ok(None);
    };
    let archive = Archive::open(folder).map_err(|error| {
        Failure::new(error).hint("name a folder that --keep-cars filled, or one of .car files")
    })?;
    for note in archive.notes() {
        observe::log!("note: {note}");
    }
    Ok(Some(archive))
}
