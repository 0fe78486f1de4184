//! `skyfill run`: the whole way in one process.
//!
//! The ledger in the database says what is to be done ([`feeder`]) and how far the run has come ([`phases`]). Between are stages over bounded
//! channels: tasks fetch ([`fetching`]), threads check and encode ([`encoding`]), threads load ([`loading`]). What waits between them counts
//! against `--memory`.

pub(crate) mod board;
mod encoding;
mod feeder;
mod fetching;
pub(crate) mod loading;
mod phases;
mod wanted;

use crate::cli::{LoadMode, RunArgs};
use crate::clock;
use crate::database::Database;
use crate::exit::{Ended, Failure};
use crate::fetch_args;
use crate::signals::{self, Stop};
use board::{Board, Budget};
use encoding::Encoding;
use feeder::{Fed, Feeder};
use fetch::archive::{Archive, ArchiveWriter};
use fetch::hosts::Hosts;
use fetching::Fetching;
use ledger::repos;
use ledger::runs::{self, Mode, Phase, Run};
use load::fresh::{self, FreshError};
use load::{Choice, DbError, LoaderOptions, Notifications};
use loading::{Loaders, Loading};
use observe::{Progress, Workers};
use postgres::Client;
use rows::Collection;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Tasks for each repo that is fetched: those that wait for a host do not keep others from working.
const TASKS_PER_SLOT: usize = 8;

pub(crate) fn run(args: &RunArgs) -> Result<Ended, Failure> {
    let started = Instant::now();
    let given_now = clock::now(args.now.as_deref())?;
    let archive = open_archive(args)?;
    let keep = match &args.keep_cars {
        Some(folder) => {
            let writer = ArchiveWriter::open(folder).map_err(|error| {
                Failure::new(error).hint("name a folder that can be written to, with --keep-cars")
            })?;
            Some(Arc::new(Mutex::new(writer)))
        }
        None => None,
    };
    let database = Database::open(&args.database)?;
    database.require_current()?;
    database.prepare_ledger()?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("start threads: {error}")))?;
    let mut client = database.connect()?;
    let (any, bad_lines) = wanted::add_all(args, &runtime, &mut client, &database, archive.as_ref())?;
    let refused = |error: postgres::Error| database.failure(error);
    let retried = repos::retry_failed(&mut client, &database.schema, args.retry_failed).map_err(refused)?;
    if retried > 0 {
        eprintln!("{retried} repos that failed are tried again");
    }
    let open = repos::count_open(&mut client, &database.schema).map_err(refused)?;
    // Of two that begin at once, the second one goes on with the run of the first.
    runs::lock_begin(&mut client).map_err(refused)?;
    let last = runs::last(&mut client, &database.schema).map_err(refused)?;
    if last.is_none() && !any {
        return Err(
            Failure::usage("there is nothing to go on with: no run has begun on this database")
                .hint("name what to load, for example: skyfill run dids.jsonl"),
        );
    }
    let run = current_run(args, given_now, &mut client, &database, last.as_ref(), open)?;
    runs::unlock_begin(&mut client).map_err(refused)?;
    let Some(mut run) = run else {
        eprintln!("nothing is open; all is done");
        return Ok(Ended::Well);
    };
    if open > 0 && run.phase > Phase::Load {
        // Repos were added after it had loaded: they are merged, once the tables have their indexes.
        if run.mode == Mode::Fresh
            && run.phase == Phase::Indexes
            && !phases::indexes_first(args, &database, &stop)?
        {
            eprintln!("stopped; go on with: skyfill run");
            return Ok(Ended::Stopped);
        }
        runs::load_again(&mut client, run.id).map_err(refused)?;
        (run.phase, run.mode) = (Phase::Load, Mode::Merge);
    }
    drop(client);
    let mut counts = None;
    if run.phase == Phase::Load {
        let stages = Stages {
            args,
            database: &database,
            run: &run,
            stop: &stop,
            workers: &workers,
            runtime: &runtime,
        };
        let (fed, board) = stages.load(archive, keep.as_ref(), open)?;
        counts = Some(board);
        if fed == Fed::Stopped {
            eprintln!("stopped; go on with: skyfill run");
            return Ok(Ended::Stopped);
        }
        run = phases::loaded(&database, run)?;
    }
    let outcome = phases::finish(args, &database, &mut run, &stop)?;
    summary(args, &database, &run, counts.as_deref(), &outcome, started)?;
    Ok(match outcome {
        phases::Outcome::Stopped => Ended::Stopped,
        phases::Outcome::Done { differences: 0 } if bad_lines == 0 => {
            let unfinished = states_of(&database)?
                .iter()
                .any(|(state, _)| matches!(state.as_str(), "failed" | "open"));
            if unfinished {
                Ended::WithFailures
            } else {
                Ended::Well
            }
        }
        phases::Outcome::Done { .. } => Ended::WithFailures,
    })
}

fn open_archive(args: &RunArgs) -> Result<Option<Archive>, Failure> {
    let Some(folder) = &args.from_cars else {
        return Ok(None);
    };
    let archive = Archive::open(folder).map_err(|error| {
        Failure::new(error).hint("name a folder that --keep-cars filled, or one of .car files")
    })?;
    for note in archive.notes() {
        eprintln!("note: {note}");
    }
    Ok(Some(archive))
}

/// The run to go on with, or a new one; nothing if there is nothing to do.
fn current_run(
    args: &RunArgs,
    now: i64,
    client: &mut Client,
    database: &Database,
    last: Option<&Run>,
    open: u64,
) -> Result<Option<Run>, Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let collections: Option<Vec<String>> = (!args.collections.is_empty())
        .then(|| args.collections.iter().map(|c| c.nsid().to_owned()).collect());
    if let Some(run) = last.filter(|run| run.phase != Phase::Done) {
        eprintln!(
            "going on with run {} of {}, a {} load, in phase {}",
            run.id,
            run.now,
            run.mode.word(),
            run.phase.word()
        );
        let asked = args.notifications.text();
        if (collections.is_some() && collections != run.collections)
            || (args.notifications != Notifications::All && asked != run.notifications)
        {
            return Err(Failure::usage(format!(
                "run {} loads collections {} and notifications {}",
                run.id,
                run.collections.as_ref().map_or("all".to_owned(), |c| c.join(",")),
                run.notifications
            ))
            .hint("end it first with: skyfill run"));
        }
        return Ok(Some(run.clone()));
    }
    if open == 0 {
        return Ok(None);
    }
    let mode = match args.mode {
        LoadMode::Merge => Mode::Merge,
        LoadMode::Fresh => Mode::Fresh,
        LoadMode::Auto => match fresh::filled_table(client, &database.schema).map_err(refused)? {
            Some(_) => Mode::Merge,
            None => Mode::Fresh,
        },
    };
    if mode == Mode::Merge {
        same_choice(args, collections.as_ref(), last, database)?;
    }
    let mut run = Run {
        id: 0,
        now: rows::datetime::print(now),
        mode,
        phase: Phase::Load,
        collections,
        notifications: args.notifications.text(),
    };
    run.id = begin(client, database, &mut run, args.mode == LoadMode::Auto)?;
    eprintln!("run {} of {}: a {} load", run.id, run.now, run.mode.word());
    Ok(Some(run))
}

/// Makes sure that a merge takes what was taken before: what is left out of a repo counts as gone from it, and a repo whose rev is loaded is not
/// looked at again.
fn same_choice(
    args: &RunArgs,
    collections: Option<&Vec<String>>,
    last: Option<&Run>,
    database: &Database,
) -> Result<(), Failure> {
    let (before, notifications) = last.map_or((None, "all"), |run| {
        (run.collections.as_ref(), run.notifications.as_str())
    });
    if collections == before && args.notifications.text() == notifications {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "schema {} of {} was loaded with collections {} and notifications {notifications}; a merge cannot take others",
        database.schema,
        database.shown(),
        before.map_or("all".to_owned(), |list| list.join(","))
    ))
    .hint("give the same --collections and --notifications, or begin anew: skyfill migrate --recreate-schema"))
}

/// Begins a run.
fn begin(client: &mut Client, database: &Database, run: &mut Run, may_merge: bool) -> Result<i64, Failure> {
    match fresh::begin(client, &database.schema, run) {
        Ok(id) => Ok(id),
        Err(FreshError::NotEmpty(_)) if may_merge => {
            run.mode = Mode::Merge;
            fresh::begin(client, &database.schema, run).map_err(|error| failure(database, &error))
        }
        Err(error) => Err(failure(database, &error)),
    }
}

fn failure(database: &Database, error: &FreshError) -> Failure {
    let failure = Failure::new(format!(
        "schema {} of {}: {error}",
        database.schema,
        database.shown()
    ));
    match error {
        FreshError::NotEmpty(_) => {
            failure.hint("load with --mode merge, or empty it: skyfill migrate --recreate-schema")
        }
        FreshError::InUse(_) => {
            failure.hint("stop whatever reads or writes these tables, or load with --mode merge")
        }
        FreshError::Database(_) => failure.hint(
            "a fresh load drops and makes indexes: the user must own the tables; or load with --mode merge",
        ),
    }
}

fn states_of(database: &Database) -> Result<Vec<(String, u64)>, Failure> {
    let mut client = database.connect()?;
    repos::states(&mut client, &database.schema).map_err(|error| database.failure(error))
}

/// What the stages of loading work with.
struct Stages<'r> {
    args: &'r RunArgs,
    database: &'r Database,
    run: &'r Run,
    stop: &'r Stop,
    workers: &'r Workers,
    runtime: &'r Runtime,
}

/// How the memory is shared out.
struct Memory {
    /// Bodies that are fetched and wait.
    bodies: usize,
    /// What one body may take before it goes to a file.
    body: u32,
    /// Indexes of blocks and unique keys of the repos that are encoded.
    indexes: usize,
    /// A chunk of rows.
    chunk: usize,
}

impl Memory {
    /// A sixteenth is for the process itself; each chunk exists up to four times for a connection: one that is filled, one that waits, one that is
    /// sent, and in the driver.
    fn share(total: u64, concurrency: usize, threads: usize, connections: usize) -> Self {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let copies = threads + 4 * connections;
        let chunk = (total / 4 / copies).clamp(1 << 20, 8 << 20);
        let bodies = total / 4;
        let body = (bodies / (2 * concurrency)).clamp(64 << 10, 4 << 20);
        Self {
            bodies,
            body: u32::try_from(body).unwrap_or(u32::MAX),
            indexes: total / 3,
            chunk,
        }
    }
}

impl Stages<'_> {
    /// Loads all that is open.
    fn load(
        &self,
        archive: Option<Archive>,
        keep: Option<&Arc<Mutex<ArchiveWriter>>>,
        open: u64,
    ) -> Result<(Fed, Arc<Board>), Failure> {
        let (args, database) = (self.args, self.database);
        let board = Arc::new(Board::new(self.stop));
        let threads = args.threads.map_or_else(
            || std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            usize::from,
        );
        let connections = usize::from(args.max_db_connections);
        let concurrency = args.fetch.concurrency as usize;
        let memory = Memory::share(args.memory, concurrency, threads, connections);
        let choice = choice(self.run);
        let indexed = {
            let mut client = database.connect()?;
            fresh::indexed_columns(&mut client, &database.schema).map_err(|error| database.failure(error))?
        };
        if indexed.is_empty() {
            return Err(Failure::new("skyfill's own copies of the tables are gone from schema skyfill")
                .hint("put the indexes back and begin anew: skyfill indexes restore, skyfill migrate --recreate-schema"));
        }
        let options = LoaderOptions {
            url: database.url.clone(),
            schema: database.schema.clone(),
            run: self.run.id,
            mode: self.run.mode,
            durable: false,
        };
        let (encode, encodes) = crossbeam_channel::unbounded();
        let (loaders, ends) = Loaders::new(connections);
        let (jobs, next_jobs) = tokio::sync::mpsc::channel(concurrency);
        let fetching = Arc::new(Fetching {
            client: fetch_args::client(&args.fetch)?.with_memory(memory.body as usize),
            hosts: Hosts::default(),
            slots: Semaphore::new(concurrency),
            memory: Arc::new(Semaphore::new(memory.bodies)),
            body_bytes: memory.body,
            max_attempts: args.fetch.max_attempts,
            skip_hosts: args.fetch.skip_host.clone(),
            archive,
            mode: self.run.mode,
            encode,
            board: Arc::clone(&board),
            workers: self.workers.clone(),
        });
        let encoding = Encoding {
            url: database.url.clone(),
            schema: database.schema.clone(),
            choice,
            now: clock::now(Some(&self.run.now))?,
            chunk_bytes: memory.chunk,
            indexed,
            memory: Budget::new(memory.indexes),
            keep: keep.cloned(),
            board: Arc::clone(&board),
            workers: self.workers.clone(),
        };
        let loading = Loading {
            options,
            settle: Arc::clone(&board),
            workers: self.workers.clone(),
            keep: keep.cloned(),
        };
        let progress = Progress::start(
            board.counters(),
            Some(open),
            Duration::from_secs(args.output.logging_interval),
        );
        let fed = std::thread::scope(|scope| {
            let (loading, encoding, loaders) = (&loading, &encoding, &loaders);
            for (number, messages) in ends.into_iter().enumerate() {
                scope.spawn(move || loading.work(number, &messages, loaders));
            }
            let encoders: Vec<_> = (0..threads)
                .map(|number| {
                    let encodes = encodes.clone();
                    scope.spawn(move || encoding::work(encoding, number, &encodes, loaders))
                })
                .collect();
            let fetched = self.runtime.spawn(fetching::fetch_all(
                fetching,
                next_jobs,
                concurrency * TASKS_PER_SLOT,
            ));
            let feeder = Feeder {
                url: &database.url,
                schema: &database.schema,
                board: &board,
                jobs,
                next: AtomicUsize::new(0),
            };
            let fed = feeder.run();
            if fed.is_err() {
                board.stop.set();
            }
            // Its end closes the way to the encoders, theirs the way to the loaders.
            drop(self.runtime.block_on(fetched));
            for encoder in encoders {
                drop(encoder.join());
            }
            loaders.end();
            fed
        });
        progress.finish();
        if let Some(why) = board.broken() {
            return Err(self.broke_off(&why));
        }
        let fed = fed.map_err(|error: DbError| self.broke_off(&error.to_string()))?;
        Ok((fed, board))
    }

    fn broke_off(&self, why: &str) -> Failure {
        Failure::new(format!(
            "schema {} of {}: {why}",
            self.database.schema,
            self.database.shown()
        ))
        .hint("what is loaded stays loaded; mend this, then go on with: skyfill run")
    }
}

/// What the run takes.
fn choice(run: &Run) -> Choice {
    Choice {
        collections: run
            .collections
            .as_ref()
            .map(|list| list.iter().filter_map(|nsid| Collection::parse(nsid)).collect()),
        notifications: Notifications::parse(&run.notifications).unwrap_or_default(),
    }
}

fn summary(
    args: &RunArgs,
    database: &Database,
    run: &Run,
    board: Option<&Board>,
    outcome: &phases::Outcome,
    started: Instant,
) -> Result<(), Failure> {
    let states = states_of(database)?;
    let seconds = started.elapsed().as_secs_f64();
    let differences = match outcome {
        phases::Outcome::Done { differences } => Some(*differences),
        phases::Outcome::Stopped => None,
    };
    if args.output.json {
        let repos: serde_json::Map<String, serde_json::Value> = states
            .iter()
            .map(|(state, repos)| (state.clone(), (*repos).into()))
            .collect();
        println!(
            "{}",
            serde_json::json!({
                "run": run.id,
                "now": run.now,
                "mode": run.mode.word(),
                "phase": run.phase.word(),
                "repos": repos,
                "records": board.map_or(0, |b| b.records.get()),
                "bytes": board.map_or(0, |b| b.bytes.get()),
                "unchanged": board.map_or(0, |b| b.unchanged.get()),
                "fetchedAgain": board.map_or(0, |b| b.again.get()),
                "differences": differences,
                "seconds": seconds,
            })
        );
    }
    let listed: Vec<String> = states
        .iter()
        .map(|(state, repos)| format!("{repos} {state}"))
        .collect();
    eprintln!("repos: {}; {seconds:.1} s", listed.join(", "));
    if states.iter().any(|(state, _)| state == "failed") {
        eprintln!("why repos failed is in skyfill.repo; try them again with: skyfill run --retry-failed");
    }
    match outcome {
        phases::Outcome::Stopped => eprintln!("stopped; go on with: skyfill run"),
        phases::Outcome::Done { differences: 0 } => {
            eprintln!(
                "run {} is done: schema {} of {}",
                run.id,
                database.schema,
                database.shown()
            );
        }
        phases::Outcome::Done { .. } => {
            eprintln!(
                "the tables differ from the commits: skyfill verify names what, skyfill verify --repair marks it to be fetched again"
            );
        }
    }
    Ok(())
}
