//! `skyfill run`.

use crate::cli::{LoadArgs, LoadMode, RunArgs};
use crate::commands::watch::Watch;
use crate::commands::{judged, stopped};
use crate::{fetch_args, signals, told};
use engine::certificate;
use engine::recorder::Recorder;
use engine::run::{self, Around, Done, NewRun, Options, Outcome, Repos, Requested, Session};
use ledger::coverage::Coverage;
use ledger::runs::Mode;
use observe::Workers;
use process::{Database, DidFile, Ended, Failure, clock};
use std::time::Instant;

pub(crate) fn run(given: &RunArgs) -> Result<Ended, Failure> {
    let started = Instant::now();
    let did_file = given.what.did_file.as_deref().map(DidFile::open);
    let did_file = did_file.transpose()?;
    let database = open_database(given)?;
    let _recorder = Recorder::start(&database);
    let forget = given.load.remember.forget_settings;
    let args: RunArgs = told::complete(&database, forget)?;
    crate::listening::shows(&database);
    let options = options(&args, did_file)?;
    let load = fetch_args::load(&args.load, &options.source, &database)?;
    super::doctor::warn(&database, load.scale.connections);
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let watch = Watch {
        database: &database,
        forget,
    };
    let session = Session::open(&database, &load, &watch, workers, stop)?;
    let (ended, bad_lines) = run::run(&session, options)?;
    if matches!(ended, run::Ended::Stopped) {
        return Ok(stopped());
    }
    let coverage = certificate::coverage(&database)?;
    if let run::Ended::Run(done) = ended {
        summary(&args.load, &database, &coverage, &done, started);
        if done.is_stopped() {
            return Ok(Ended::Stopped);
        }
    }
    Ok(judged::ended(
        &database,
        &coverage,
        bad_lines,
        args.load.no_verify,
        false,
    ))
}

/// Whether the arguments ask to look for repos.
fn discovers(args: &RunArgs) -> bool {
    args.what.discover || args.source.names_repos()
}

/// The database; the private one is made only if there is something to load into it.
fn open_database(args: &RunArgs) -> Result<Database, Failure> {
    let what = &args.what;
    let names_any = what.did_file.is_some()
        || what.from_cars.is_some()
        || !what.did.is_empty()
        || !what.handle.is_empty()
        || !what.followed_by.is_empty()
        || !what.list.is_empty();
    if names_any || discovers(args) {
        return Database::open_to_work(&args.load.database.target());
    }
    Database::open_to_go_on(&args.load.database.target())
}

fn options(args: &RunArgs, did_file: Option<DidFile>) -> Result<Options, Failure> {
    let what = &args.what;
    let collections: Vec<rows::Collection> = what
        .collections
        .iter()
        .flat_map(|meant| meant.0.iter().copied())
        .collect();
    let choice = Requested::new(
        &collections,
        what.notifications.as_ref(),
        what.since.as_deref(),
    );
    Ok(Options {
        repos: Repos {
            did_file,
            dids: what.did.clone(),
            handles: what.handle.clone(),
            from_cars: what.from_cars.clone(),
            around: Around {
                followed_by: what.followed_by.clone(),
                hops: what.hops,
                lists: what.list.clone(),
                most: what.most_accounts,
            },
        },
        discovers: discovers(args),
        source: fetch_args::source(&args.source)?,
        retry_failed: what.retry_failed,
        new: NewRun {
            now: clock::now(what.now.as_deref())?,
            mode: match what.mode {
                LoadMode::Auto => None,
                LoadMode::Fresh => Some(Mode::Fresh),
                LoadMode::Merge => Some(Mode::Merge),
            },
            choice: Some(choice),
        },
    })
}

/// Reports what a run did, and what the database holds now.
fn summary(
    args: &LoadArgs,
    database: &Database,
    coverage: &Coverage,
    done: &Done,
    started: Instant,
) {
    let run = &done.run;
    let states = certificate::words(&coverage.repos);
    let seconds = started.elapsed().as_secs_f64();
    if args.output.json {
        observe::data!("{}", done.json(coverage, seconds));
    }
    let listed: Vec<String> = states
        .iter()
        .map(|(state, repos)| format!("{repos} {state}"))
        .collect();
    observe::log!("repos: {}; {seconds:.1} s", listed.join(", "));
    match done.outcome {
        Outcome::Stopped => _ = stopped(),
        Outcome::Done { differences: 0 } => observe::log!(
            "run {} is done: schema {} of {}",
            run.id,
            database.schema,
            database.shown()
        ),
        Outcome::Done { .. } => observe::log!("the tables differ from the commits"),
    }
    if !done.is_stopped() {
        observe::log!("a page about it: {}", told::line_of("report"));
    }
}
