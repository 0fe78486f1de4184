//! `skyfill run`: the whole way in one process.
//!
//! The ledger in the database says what is to be done ([`feeder`]) and how far the run has come
//! ([`phases`]). Between are stages over bounded channels: tasks fetch ([`fetching`]), threads
//! check and encode ([`encoding`]), threads load ([`loading`]). What waits between them counts
//! against `--memory`.

pub(crate) mod board;
mod choice;
mod encoding;
mod feeder;
mod fetching;
mod memory;
pub(crate) mod phases;
mod stragglers;
pub(crate) mod trust;
pub(crate) mod wanted;

use crate::certificate::{self, Place};
use crate::cli::{LoadArgs, LoadMode, RunArgs, WhatArgs};
use crate::discovery;
use crate::fetch_args;
use crate::signals;
use crate::told;
use crate::verify;
use ::verify::verdict::{self, Compared, Verdict};
use board::Board;
use encoding::Encoding;
use feeder::{Fed, Feeder};
use fetch::archive::{Archive, ArchiveWriter};
use fetch::turns::Turns;
use fetch::{Redirects, Spool};
use fetching::Fetching;
use ledger::coverage::Coverage;
use ledger::locks::{self, Hold, Lock};
use ledger::repos::{self, RetryFailed};
use ledger::runs::{self, Mode, Phase, Run};
use ledger::settings;
use ledger::states::State;
use load::fresh::{self, FreshError};
use load::loading::{Loaders, Loading};
use load::{Choice, DbError, LoaderOptions, Notifications};
use memory::Memory;
use observe::{Progress, Workers};
use pg::{DbErrorKind, Waits};
use postgres::Client;
use process::clock;
use process::threads;
use process::{Budget, Database, DidFile, Stop};
use process::{Ended, Failure};
use rows::Collection;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Requests at once, unless the arguments say otherwise.
pub(crate) const CONCURRENCY: usize = 512;
/// Seconds.
pub(crate) const PATIENCE: u64 = 600;
/// So often a run loads what it found to be forged: what it brings then is proved at once or fails,
/// so that once is nearly always enough.
const MOST_ROUNDS: u32 = 3;

pub(crate) fn run(given: &RunArgs) -> Result<Ended, Failure> {
    let started = Instant::now();
    let did_file = given
        .what
        .did_file
        .as_deref()
        .map(DidFile::open)
        .transpose()?;
    let database = open_database(given)?;
    let forget = given.load.remember.forget_settings;
    let args: RunArgs = told::complete(&database, forget)?;
    let (what, load) = (
        &args.what,
        &fetch_args::load_naming(&args.load, &args.source)?,
    );
    let new = NewRun {
        now: clock::now(what.now.as_deref())?,
        mode: what.mode,
        choice: Some(choice::Wanted::of(what)),
    };
    let archive = open_archive(what)?;
    let set = Setting::new(database, load)?;
    let mut client = set.database.connect()?;
    new.require_fit(&mut client, &set.database)?;
    told::remember(&set.database, forget)?;
    let (any, bad_lines) = wanted::add_all(
        (what, did_file),
        load,
        &set.runtime,
        &mut client,
        &set.database,
        archive.as_ref(),
    )?;
    told::done(&["did_file", "did", "handle"]);
    let discovers = discovers(&args);
    let mut seq = None;
    if discovers {
        match discovery::pass(&set, &args.source, load, false)? {
            Some(pass) => seq = pass.seq,
            None => return Ok(set.stopped()),
        }
    }
    told::done(&[
        "discover",
        "relay_repos",
        "pds",
        "pds_file",
        "plc_export",
        "collection",
    ]);
    let refused = |error: postgres::Error| set.database.failure(error);
    let which = if what.retry_failed {
        RetryFailed::All
    } else {
        RetryFailed::Due
    };
    let retried = repos::retry_failed(&mut client, &set.database.schema, which).map_err(refused)?;
    if retried > 0 {
        observe::log!("{retried} repos that failed are tried again");
    }
    told::done(&["retry_failed"]);
    let last = runs::last(&mut client, &set.database.schema).map_err(refused)?;
    let found = repos::count_open(&mut client, &set.database.schema).map_err(refused)?;
    if last.is_none() && !any && !discovers && found == 0 {
        return Err(
            Failure::usage("there is nothing to go on with: no run has begun on this database")
                .hint("name what to load, for example: skyfill run dids.jsonl, or the whole network: skyfill run --discover"),
        );
    }
    let relay = match &args.source.relay {
        Some(relay) => Some(relay.clone()),
        None if discovers => Some(discovery::relay_of(&args.source)?),
        None => None,
    };
    let Some(done) = set.load_open(
        load,
        &new,
        archive,
        relay.as_deref().map(|relay| (relay, seq)),
    )?
    else {
        settings::forget_run(&mut client, &set.database.schema).map_err(refused)?;
        observe::log!("nothing is open");
        if load.certificate.is_some()
            && verify::after_run(load, &set.database, &set.stop)?.is_none()
        {
            return Ok(set.stopped());
        }
        let coverage = certificate::coverage(&set.database)?;
        return Ok(set.judged(load, &coverage, bad_lines));
    };
    set.ended(load, &done, bad_lines, started)
}

/// What every command that loads works with.
pub(crate) struct Setting {
    pub(crate) database: Database,
    pub(crate) runtime: Runtime,
    pub(crate) workers: Workers,
    pub(crate) stop: Stop,
    keep: Option<Arc<Mutex<ArchiveWriter>>>,
    spool: Spool,
}

/// How a run begins, if a new one is to begin.
pub(crate) struct NewRun {
    /// Its time, in milliseconds since 1970.
    pub(crate) now: i64,
    pub(crate) mode: LoadMode,
    /// What it takes; nothing means what the last one took.
    pub(crate) choice: Option<choice::Wanted>,
}

impl NewRun {
    /// How a new run loads, where `filled` is a table with rows.
    fn mode_over(&self, filled: Option<&str>) -> Mode {
        match self.mode {
            LoadMode::Merge => Mode::Merge,
            LoadMode::Fresh => Mode::Fresh,
            LoadMode::Auto if filled.is_some() => Mode::Merge,
            LoadMode::Auto => Mode::Fresh,
        }
    }

    /// What a new run takes, if it may.
    fn taken(
        &self,
        mode: Mode,
        last: Option<&Run>,
        database: &Database,
    ) -> Result<choice::Taken, Failure> {
        let Some(wanted) = &self.choice else {
            return Ok(last.map_or((None, Notifications::All.text()), choice::taken_by));
        };
        if mode == Mode::Merge {
            wanted.require_same(last, database)?;
        }
        Ok(wanted.taken(mode, last))
    }

    /// Makes sure, before any repo is opened, that what is asked for goes with what is there.
    fn require_fit(&self, client: &mut Client, database: &Database) -> Result<(), Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let last = runs::last(client, &database.schema).map_err(refused)?;
        if let Some(run) = last.as_ref().filter(|run| run.phase != Phase::Done) {
            return self
                .choice
                .as_ref()
                .map_or(Ok(()), |wanted| wanted.require_of(run));
        }
        let filled = fresh::filled_table(client, &database.schema).map_err(refused)?;
        match (self.mode_over(filled), filled) {
            (Mode::Fresh, Some(table)) => {
                Err(failure(database, &FreshError::NotEmpty(table.to_owned())))
            }
            (mode, _) => self.taken(mode, last.as_ref(), database).map(drop),
        }
    }
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
        || !what.handle.is_empty();
    if names_any || discovers(args) {
        return Database::open_to_work(&args.load.database.target());
    }
    Database::open_to_go_on(&args.load.database.target())
}

/// A run that came to an end.
pub(crate) struct Done {
    run: Run,
    board: Option<Arc<Board>>,
    outcome: phases::Outcome,
}

impl Setting {
    pub(crate) fn new(database: Database, args: &LoadArgs) -> Result<Self, Failure> {
        fetch_args::opt_out(&args.fetch)?;
        // Before any work: the place is claimed for good when the comparison is near.
        args.certificate.as_deref().map(Place::claim).transpose()?;
        let keep = match &args.keep_cars {
            Some(folder) => {
                let writer = ArchiveWriter::open(folder).map_err(|error| {
                    Failure::new(error)
                        .hint("name a folder that can be written to, with --keep-cars")
                })?;
                Some(Arc::new(Mutex::new(writer)))
            }
            None => None,
        };
        let spool = fetch_args::spool(&args.spool)?;
        let workers = Workers::default();
        let stop = signals::listen(workers.clone())?;
        let runtime = threads::start()?;
        Ok(Self {
            database,
            runtime,
            workers,
            stop,
            keep,
            spool,
        })
    }

    fn stopped(&self) -> Ended {
        observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
        Ended::Stopped
    }

    /// Reports how a run ended: what was done, and what the database holds now.
    pub(crate) fn ended(
        &self,
        args: &LoadArgs,
        done: &Done,
        bad_lines: u64,
        started: Instant,
    ) -> Result<Ended, Failure> {
        let coverage = certificate::coverage(&self.database)?;
        summary(args, &self.database, &coverage, done, started);
        if done.is_stopped() {
            return Ok(Ended::Stopped);
        }
        Ok(self.judged(args, &coverage, bad_lines))
    }

    /// Reports the one word for what the database holds. Whoever asked for no comparison with the
    /// commits is told that there was none, and that is no failure.
    pub(crate) fn judged(&self, args: &LoadArgs, coverage: &Coverage, bad_lines: u64) -> Ended {
        let compared = Compared {
            bad_lines,
            ..Compared::before(coverage)
        };
        let judgment = verdict::judge(coverage, &compared);
        certificate::print_judgment(&judgment);
        match judgment.verdict {
            Verdict::Complete => Ended::Well,
            Verdict::Unverified if args.no_verify => Ended::Well,
            _ => Ended::WithFailures,
        }
    }

    /// Loads what is open and does what comes after that, in the run that is not done or a new one;
    /// nothing if there is nothing to do.
    pub(crate) fn load_open(
        &self,
        args: &LoadArgs,
        new: &NewRun,
        archive: Option<Archive>,
        relay: Option<(&str, Option<i64>)>,
    ) -> Result<Option<Done>, Failure> {
        let database = &self.database;
        let mut client = database.connect()?;
        let refused = |error: postgres::Error| database.failure(error);
        let open = repos::count_open(&mut client, &database.schema).map_err(refused)?;
        // Of two that begin at once, the second one goes on with the run of the first.
        locks::take(&mut client, Lock::Begin, Hold::Session, self.stop.waits())
            .map_err(|error| database.db_failure(&error))?;
        let last = runs::last(&mut client, &database.schema).map_err(refused)?;
        let waits = self.stop.waits();
        let run = current_run(new, &mut client, database, last.as_ref(), open, waits)?;
        locks::unlock(&mut client, Lock::Begin).map_err(refused)?;
        let Some(mut run) = run else {
            return Ok(None);
        };
        if open > 0 && run.phase > Phase::Load {
            // Repos were added after it had loaded: they are merged, once the tables have their
            // indexes.
            if run.mode == Mode::Fresh
                && run.phase == Phase::Indexes
                && !phases::indexes_first(args, database, &self.stop)?
            {
                return Ok(Some(Done::stopped(run, None)));
            }
            runs::load_again(&mut client, run.id).map_err(refused)?;
            (run.phase, run.mode) = (Phase::Load, Mode::Merge);
        }
        if run.phase == Phase::Load
            && let Some(relay) = relay
        {
            discovery::note_seq(self, args, &mut client, run.id, relay)?;
        }
        drop(client);
        let mut counts = None;
        let (mut archive, mut open, mut rounds) = (archive, open, 1);
        loop {
            if run.phase == Phase::Load {
                let stages = Stages {
                    args,
                    set: self,
                    run: &run,
                };
                let (fed, board) = stages.load(archive.take(), open)?;
                if fed == Fed::Stopped {
                    return Ok(Some(Done::stopped(run, Some(board))));
                }
                counts.get_or_insert(board);
                run = phases::loaded(database, run)?;
            }
            match phases::finish(args, database, &mut run, &self.stop, rounds < MOST_ROUNDS)? {
                phases::Finish::Ended(outcome) => {
                    return Ok(Some(Done {
                        run,
                        board: counts,
                        outcome,
                    }));
                }
                phases::Finish::LoadAgain(repos) => {
                    observe::log!(
                        "{repos} repos are not their accounts' word: they are fetched from where their documents say"
                    );
                    let mut client = database.connect()?;
                    runs::load_again(&mut client, run.id).map_err(refused)?;
                    (run.phase, run.mode, open) = (Phase::Load, Mode::Merge, repos);
                    rounds += 1;
                }
            }
        }
    }
}

impl Done {
    fn stopped(run: Run, board: Option<Arc<Board>>) -> Self {
        Self {
            run,
            board,
            outcome: phases::Outcome::Stopped,
        }
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.outcome == phases::Outcome::Stopped
    }
}

fn open_archive(what: &WhatArgs) -> Result<Option<Archive>, Failure> {
    let Some(folder) = &what.from_cars else {
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

/// The run to go on with, or a new one; nothing if there is nothing to do.
fn current_run(
    new: &NewRun,
    client: &mut Client,
    database: &Database,
    last: Option<&Run>,
    open: u64,
    waits: Waits<'_>,
) -> Result<Option<Run>, Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let begun = || told::done(&["mode", "now", "collections", "notifications"]);
    if let Some(run) = last.filter(|run| run.phase != Phase::Done) {
        observe::log!(
            "going on with run {} of {}, a {} load, in phase {}",
            run.id,
            run.now,
            run.mode.word(),
            run.phase.word()
        );
        if let Some(wanted) = &new.choice {
            wanted.require_of(run)?;
        }
        begun();
        return Ok(Some(run.clone()));
    }
    if open == 0 {
        return Ok(None);
    }
    let filled = fresh::filled_table(client, &database.schema).map_err(refused)?;
    let mode = new.mode_over(filled);
    let (collections, notifications) = new.taken(mode, last, database)?;
    let mut run = Run {
        id: 0,
        now: rows::datetime::print(new.now),
        mode,
        phase: Phase::Load,
        collections,
        notifications,
    };
    run.id = begin(
        client,
        database,
        &mut run,
        new.mode == LoadMode::Auto,
        waits,
    )?;
    begun();
    // The run before it, which this command may have ended, took what goes with a run along.
    told::remember(database, false)?;
    observe::log!("run {} of {}: a {} load", run.id, run.now, run.mode.word());
    Ok(Some(run))
}

/// Begins a run.
fn begin(
    client: &mut Client,
    database: &Database,
    run: &mut Run,
    may_merge: bool,
    waits: Waits<'_>,
) -> Result<i64, Failure> {
    match fresh::begin(client, &database.schema, run, waits) {
        Ok(id) => Ok(id),
        Err(FreshError::NotEmpty(_)) if may_merge => {
            run.mode = Mode::Merge;
            fresh::begin(client, &database.schema, run, waits)
                .map_err(|error| failure(database, &error))
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
        FreshError::Database(error) if error.kind == DbErrorKind::Stopped => failure.stopped(),
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

/// What the stages of loading work with.
struct Stages<'r> {
    args: &'r LoadArgs,
    set: &'r Setting,
    run: &'r Run,
}

impl Stages<'_> {
    /// Loads all that is open.
    fn load(&self, archive: Option<Archive>, open: u64) -> Result<(Fed, Arc<Board>), Failure> {
        let (args, set, database) = (self.args, self.set, &self.set.database);
        let board = Arc::new(Board::new(&set.stop, set.keep.clone()));
        let threads = args.threads.map_or_else(
            || std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            usize::from,
        );
        let connections = usize::from(args.max_db_connections);
        let fetch = fetch_args::options(&args.fetch, &args.caller, PATIENCE)?;
        let pace = fetch.pace(CONCURRENCY);
        let (concurrency, patience) = (pace.slots, pace.patience);
        let memory = Memory::share(args.memory, concurrency, threads, connections);
        let choice = choice(self.run);
        let indexed = {
            let mut client = database.connect()?;
            fresh::indexed_columns(&mut client, &database.schema)
                .map_err(|error| database.failure(error))?
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
        let (loaders, ends) = Loaders::new(connections, memory.chunk);
        let (jobs, next_jobs) = tokio::sync::mpsc::unbounded_channel();
        let turns = {
            let _within = set.runtime.enter();
            Turns::start(pace)
        };
        let from_network = archive.is_none();
        let fetching = Arc::new(Fetching {
            client: fetch
                .client(Redirects::Never)
                .map_err(Failure::new)?
                .with_memory(memory.body as usize)
                .with_decoders(memory.decoders)
                .with_spool(set.spool.clone()),
            turns: turns.clone(),
            documents: fetch_args::documents(
                &args.directory,
                &args.caller,
                args.fetch.allow_private_hosts,
                args.fetch.max_attempts,
            )?,
            memory: Arc::new(Semaphore::new(memory.waiting_bodies)),
            body_bytes: memory.body,
            spool: set.spool.clone(),
            max_attempts: args.fetch.max_attempts,
            opt_out: fetch.opt_out,
            archive,
            accept_deletions: args.accept_deletions,
            mode: self.run.mode,
            encode,
            board: Arc::clone(&board),
            workers: set.workers.clone(),
        });
        let encoding = Encoding {
            url: database.url.clone(),
            schema: database.schema.clone(),
            choice,
            now: clock::now(Some(&self.run.now))?,
            chunk_bytes: memory.chunk,
            indexed,
            indexes: Budget::new(memory.indexes),
            keys: Budget::new(memory.keys),
            board: Arc::clone(&board),
            workers: set.workers.clone(),
        };
        let loading = Loading {
            options,
            settle: Arc::clone(&board),
            workers: set.workers.clone(),
        };
        let progress = Progress::start(
            board.counters(),
            Some(open),
            Duration::from_secs(args.output.logging_interval),
        );
        let fed = std::thread::scope(|scope| {
            let (loading, encoding, loaders) = (&loading, &encoding, &loaders);
            let broke_off = move |why: String| encoding.board.break_off(why);
            for (number, messages) in ends.into_iter().enumerate() {
                let work = move || loading.work(number, &messages, loaders);
                scope.spawn(move || threads::guarded("a loading thread", broke_off, work));
            }
            let encoders: Vec<_> = (0..threads)
                .map(|number| {
                    let encodes = encodes.clone();
                    let work = move || encoding::work(encoding, number, &encodes, loaders);
                    scope.spawn(move || threads::guarded("an encoding thread", broke_off, work))
                })
                .collect();
            // When the last of them is gone, what waits for it is told so.
            drop(encodes);
            let fetched = set.runtime.spawn(fetching::fetch_all(fetching, next_jobs));
            let feeder = Feeder {
                url: &database.url,
                schema: &database.schema,
                board: &board,
                jobs,
                turns,
                from_network,
                most_under_way: feeder::most_under_way(concurrency),
                progress: &progress,
                accept_deletions: args.accept_deletions,
                deletions: Mutex::default(),
                patience,
            };
            let fed = threads::guarded("the thread that reads the ledger", broke_off, || {
                feeder.run()
            });
            if !matches!(fed, Some(Ok(_))) {
                board.stop.set();
            }
            // Its end closes the way to the encoders, theirs the way to the loaders.
            drop(set.runtime.block_on(fetched));
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
        let fed = fed
            .unwrap_or(Ok(Fed::Stopped))
            .map_err(|error: DbError| self.broke_off(&error.to_string()))?;
        Ok((fed, board))
    }

    fn broke_off(&self, why: &str) -> Failure {
        Failure::new(format!(
            "schema {} of {}: {why}",
            self.set.database.schema,
            self.set.database.shown()
        ))
        .hint(format!(
            "what is loaded stays loaded; mend this, then go on with: {}",
            told::line_to_go_on_with()
        ))
    }
}

/// What the run takes.
fn choice(run: &Run) -> Choice {
    Choice {
        collections: run.collections.as_ref().map(|list| {
            list.iter()
                .filter_map(|nsid| Collection::parse(nsid))
                .collect()
        }),
        notifications: Notifications::parse(&run.notifications).unwrap_or_default(),
    }
}

fn summary(
    args: &LoadArgs,
    database: &Database,
    coverage: &Coverage,
    done: &Done,
    started: Instant,
) {
    let Done {
        run,
        board,
        outcome,
    } = done;
    let board = board.as_deref();
    let states = certificate::words(&coverage.repos);
    let seconds = started.elapsed().as_secs_f64();
    let differences = match outcome {
        phases::Outcome::Done { differences } => Some(*differences),
        phases::Outcome::Stopped => None,
    };
    if args.output.json {
        observe::data!(
            "{}",
            serde_json::json!({
                "run": run.id,
                "now": run.now,
                "mode": run.mode.word(),
                "phase": run.phase.word(),
                "repos": states,
                "records": board.map_or(0, |b| b.records.get()),
                "bytes": board.map_or(0, |b| b.bytes.get()),
                "unchanged": board.map_or(0, |b| b.unchanged.get()),
                "fetchedAgain": board.map_or(0, |b| b.again.get()),
                "forks": board.map_or(0, |b| b.forks.get()),
                "unproved": coverage.proofs.unproved(),
                "differences": differences,
                "seconds": seconds,
            })
        );
    }
    let listed: Vec<String> = states
        .iter()
        .map(|(state, repos)| format!("{repos} {state}"))
        .collect();
    observe::log!("repos: {}; {seconds:.1} s", listed.join(", "));
    if coverage.repos.contains_key(&State::Failed) {
        observe::log!(
            "why repos failed is in skyfill.repo; try them again with: {}",
            told::line_of("run --retry-failed")
        );
    }
    match outcome {
        phases::Outcome::Stopped => {
            observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
        }
        phases::Outcome::Done { differences: 0 } => {
            observe::log!(
                "run {} is done: schema {} of {}",
                run.id,
                database.schema,
                database.shown()
            );
        }
        phases::Outcome::Done { .. } => {
            observe::log!(
                "the tables differ from the commits: skyfill verify names what, skyfill verify --repair marks it to be fetched again"
            );
        }
    }
}
