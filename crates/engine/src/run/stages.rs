//! The stages of loading, from the ledger to the tables: how they divide the memory, start and end.

use crate::discovery::Beside;
use crate::run::board::Board;
use crate::run::choice::choice_of;
use crate::run::encoding::{self, Encode, Encoding};
use crate::run::feeder::{self, Fed, Feeder, Job};
use crate::run::fetching::{self, Fetching};
use crate::run::in_order::InOrderFeed;
use crate::run::memory::Memory;
use crate::run::sending::Sending;
use crate::run::server_watch::ServerWatch;
use crate::run::session::Session;
use crate::run::worker;
use archive::{Archive, ArchiveWriter, Place};
use crossbeam_channel::{Receiver, Sender};
use fetch::Redirects;
use fetch::turns::Turns;
use ledger::open::Which;
use ledger::runs::{Mode, Phase, Run};
use load::freeze::Freezer;
use load::loading::{Loaders, Loading, Message};
use load::{LoaderOptions, fresh};
use nats::NatsError;
use observe::{Lane, Progress, registry};
use process::{Budget, Database, Failure, clock, threads};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

/// Loads all repos that are pending, of which there are about `open`, and those that a pass beside
/// it finds.
pub(crate) fn load(
    session: &Session<'_>,
    run: &Run,
    archive: Option<Arc<Archive>>,
    open: u64,
    beside: Option<Beside<'_>>,
) -> Result<(Fed, Arc<Board>), Failure> {
    let board = Arc::new(Board::new(&session.stop, session.keep.clone()));
    let is_stream = beside.is_some_and(|beside| beside.is_stream);
    let read = archive.as_ref().or(session.second.get());
    let is_paused = beside.and_then(|beside| beside.is_paused);
    let waits = (is_stream, is_paused);
    let stages = Stages::new(session, run, &board, waits, read.map(Arc::as_ref))?;
    registry().enter(Phase::Load.word());
    let source = if archive.is_some() {
        "archive"
    } else {
        "hosts"
    };
    let lanes = [&stages.encoding.lane, &stages.loading.lane];
    registry().pipeline(source, lanes.map(Lane::clone).to_vec());
    // While a pass runs beside it, nobody knows how many there will be.
    let total = beside.is_none().then_some(open);
    let progress = Progress::begin("load", board.counters(), total);
    let watch = ServerWatch::start(session.database, &progress);
    let is_fresh = run.mode == Mode::Fresh;
    let freezer = is_fresh.then(|| Freezer::start(&session.database.url, &session.database.schema));
    let fed = stages.work(archive, &progress, beside);
    drop(freezer);
    watch.finish();
    progress.finish();
    registry().pipeline("", Vec::new());
    if let Some(why) = board.broken() {
        return Err(broke_off(session.database, &why));
    }
    Ok((fed?, board))
}

/// What the stages have in common.
struct Stages<'s> {
    session: &'s Session<'s>,
    run: &'s Run,
    board: &'s Arc<Board>,
    threads: usize,
    slots: usize,
    memory: Memory,
    /// The number of this process as a worker.
    worker: i32,
    encoding: Encoding,
    loading: Loading<Arc<Board>>,
}

impl<'s> Stages<'s> {
    fn new(
        session: &'s Session<'s>,
        run: &'s Run,
        board: &'s Arc<Board>,
        (is_stream, is_paused): (bool, Option<&Arc<AtomicBool>>),
        archive: Option<&Archive>,
    ) -> Result<Self, Failure> {
        let (options, database) = (session.options, session.database);
        let scale = options.scale;
        let (threads, slots) = (scale.threads, scale.slots);
        // What archives take is not for others.
        let of_archives = |place: &Place| ArchiveWriter::memory(place, scale.memory);
        let of_archives = options.keep_cars.as_ref().map_or(0, of_archives)
            + archive.map_or(0, |archive| archive.memory(scale.memory));
        let memory = scale.memory.saturating_sub(of_archives);
        let memory = Memory::share(memory, slots, threads, scale.connections);
        let worker = worker::join(&options.worker, database, run.id, slots)?;
        let encoding = Encoding {
            url: database.url.clone(),
            schema: database.schema.clone(),
            choice: choice_of(run),
            now: clock::now(Some(&run.now))?,
            is_stream,
            is_paused: is_paused.cloned(),
            chunk_bytes: memory.chunk,
            indexed: indexed_columns(database)?,
            indexes: Budget::new(memory.indexes),
            keys: Budget::new(memory.keys),
            board: Arc::clone(board),
            workers: session.workers.clone(),
            lane: Lane::new("encode", "encoding", threads),
        };
        let loading = Loading {
            options: LoaderOptions {
                worker: Some(worker),
                url: database.url.clone(),
                schema: database.schema.clone(),
                run: run.id,
                mode: run.mode,
                durable: false,
            },
            settle: Arc::clone(board),
            workers: session.workers.clone(),
            lane: Lane::new("load", "PostgreSQL", scale.connections),
        };
        Ok(Self {
            session,
            run,
            board,
            threads,
            slots,
            memory,
            worker,
            encoding,
            loading,
        })
    }

    /// Runs all stages until nothing is pending or it is stopped.
    fn work(
        &self,
        archive: Option<Arc<Archive>>,
        progress: &Progress,
        beside: Option<Beside<'_>>,
    ) -> Result<Fed, Failure> {
        let (session, board) = (self.session, self.board);
        let turns = match beside {
            Some(beside) => beside.turns.clone(),
            None => {
                let _within = session.runtime.enter();
                Turns::start(session.options.fetch.pace(self.slots))
            }
        };
        let (jobs, next_jobs) = tokio::sync::mpsc::unbounded_channel();
        let (encode, encodes) = crossbeam_channel::unbounded();
        let (loaders, ends) = Loaders::new(session.options.scale.connections, self.memory.chunk);
        let in_order = archive.clone().filter(|archive| archive.has_order());
        let from_network = archive.is_none();
        let fetching = Arc::new(self.fetching(archive, &turns, encode)?);
        let sending = self.open_stream()?;
        let fed = std::thread::scope(|scope| {
            let loaders = &loaders;
            let broke_off = move |why: String| board.break_off(why);
            self.start_loaders(scope, ends, loaders);
            let encoders = match &sending {
                Some(sending) => self.start_senders(scope, encodes, sending),
                None => self.start_encoders(scope, encodes, loaders),
            };
            let fetched = session
                .runtime
                .spawn(fetching::fetch_all(fetching, next_jobs));
            let feeder = Feeder {
                arrivals: beside.map(|beside| beside.arrivals),
                in_order: Mutex::new(in_order.map(InOrderFeed::new)),
                ..self.feeder(jobs, turns, from_network, progress)
            };
            let feed = || feeder.run();
            let fed = threads::guarded("the thread that reads the ledger", broke_off, feed);
            if !matches!(fed, Some(Ok(_))) {
                board.stop.set();
            }
            // Its end closes the way to the encoders, theirs the way to the loaders.
            drop(session.runtime.block_on(fetched));
            for encoder in encoders {
                drop(encoder.join());
            }
            loaders.end();
            fed
        });
        if let Some(Err(error)) = sending.map(Sending::finish)
            && error != NatsError::Stopped
        {
            return Err(error.into());
        }
        fed.unwrap_or(Ok(Fed::Stopped))
            .map_err(|error| broke_off(session.database, &error.to_string()))
    }

    fn fetching(
        &self,
        archive: Option<Arc<Archive>>,
        turns: &Turns,
        encode: Sender<Encode>,
    ) -> Result<Fetching, Failure> {
        let (session, options, memory) = (self.session, self.session.options, &self.memory);
        let client = options
            .fetch
            .client(Redirects::Never)
            .map_err(Failure::new)?
            .with_memory(memory.body as usize)
            .with_decoders(memory.decoders)
            .with_spool(options.spool.clone());
        Ok(Fetching {
            client,
            turns: turns.clone(),
            documents: options.directory.documents(options.fetch.max_attempts)?,
            memory: Arc::new(Semaphore::new(memory.waiting_bodies)),
            body_bytes: memory.body,
            spool: options.spool.clone(),
            max_attempts: options.fetch.max_attempts,
            opt_out: options.fetch.opt_out.clone(),
            archive,
            walked: session.walked.get().cloned(),
            second: session.second.get().cloned(),
            unusable: AtomicU64::new(0),
            accept_deletions: options.accept_deletions,
            encode,
            board: Arc::clone(self.board),
            workers: session.workers.clone(),
            is_stream: self.encoding.is_stream,
        })
    }

    fn start_loaders<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        ends: Vec<Receiver<Message>>,
        loaders: &'scope Loaders,
    ) {
        for (number, messages) in ends.into_iter().enumerate() {
            let broke_off = |why: String| self.board.break_off(why);
            let work = move || self.loading.work(number, &messages, loaders);
            scope.spawn(move || threads::guarded("a loading thread", broke_off, work));
        }
    }

    /// When the last of them is gone, what waits for it learns so.
    fn start_encoders<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        encodes: Receiver<Encode>,
        loaders: &'scope Loaders,
    ) -> Vec<std::thread::ScopedJoinHandle<'scope, Option<()>>> {
        let start = |number| {
            let encodes = encodes.clone();
            let broke_off = |why: String| self.board.break_off(why);
            let work = move || encoding::work(&self.encoding, number, &encodes, loaders);
            scope.spawn(move || threads::guarded("an encoding thread", broke_off, work))
        };
        let started = (0..self.threads).map(start).collect();
        drop(encodes);
        started
    }

    /// The stream that repos are sent to, if consumers store them.
    fn open_stream(&self) -> Result<Option<Sending>, Failure> {
        let transport = self.session.options.transport.as_ref();
        let opened = transport.map(|transport| Sending::open(transport, &self.session.stop));
        Ok(opened.transpose()?)
    }

    /// The same for threads that send repos instead.
    fn start_senders<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        encodes: Receiver<Encode>,
        sending: &'scope Sending,
    ) -> Vec<std::thread::ScopedJoinHandle<'scope, Option<()>>> {
        let start = |_| {
            let encodes = encodes.clone();
            let broke_off = |why: String| self.board.break_off(why);
            let work = move || sending.work(&self.encoding, &encodes);
            scope.spawn(move || threads::guarded("a sending thread", broke_off, work))
        };
        let started = (0..self.threads).map(start).collect();
        drop(encodes);
        started
    }

    fn feeder<'f>(
        &'f self,
        jobs: UnboundedSender<Job>,
        turns: Turns,
        from_network: bool,
        progress: &'f Progress,
    ) -> Feeder<'f> {
        let (options, database) = (self.session.options, self.session.database);
        Feeder {
            url: &database.url,
            schema: &database.schema,
            worker: &options.worker,
            worker_id: self.worker,
            said: Mutex::default(),
            slots: self.slots,
            board: self.board,
            jobs,
            turns,
            from_network,
            is_stream: self.encoding.is_stream,
            arrivals: None,
            in_order: Mutex::default(),
            which: match self.run.mode {
                Mode::Fresh => Which::New,
                Mode::Merge => Which::All,
            },
            most_under_way: feeder::most_under_way(self.slots),
            progress,
            accept_deletions: options.accept_deletions,
            deletions: Mutex::default(),
            patience: options.fetch.patience,
        }
    }
}

pub(crate) fn indexed_columns(database: &Database) -> Result<Vec<(String, String)>, Failure> {
    let mut client = database.connect()?;
    let indexed = fresh::indexed_columns(&mut client, &database.schema)
        .map_err(|error| database.failure(error))?;
    if indexed.is_empty() {
        return Err(
            Failure::new("skyfill's own copies of the tables are missing from schema skyfill").hint(
                "rebuild the indexes and start over: skyfill indexes restore, skyfill migrate --recreate-schema",
            ),
        );
    }
    Ok(indexed)
}

fn broke_off(database: &Database, why: &str) -> Failure {
    Failure::new(format!(
        "schema {} of {}: {why}",
        database.schema,
        database.shown()
    ))
    .hint_to_go_on("what is loaded stays loaded; fix this, then")
}
