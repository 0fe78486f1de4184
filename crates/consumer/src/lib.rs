//! The engine of `skyfill consumer`: reads frames or lines from a socket, or frames from a stream
//! of NATS JetStream, and stores rows in the database.
//!
//! One thread per connection reads (`connections`), or one per shard of the stream (`stream`).
//! Frames become chunks of whole parts of repos (`frames`), which are loaded as in a run. Lines
//! become batches ([`lines`]), which one thread per database connection stores. Records that can
//! collide go to the same database connection. So of two the first one sent wins, and no two
//! connections wait for each other's rows. When a producer ends its stream, its connection is
//! closed only after everything that arrived over it is committed.

mod connections;
mod counts;
mod frames;
pub mod lines;
mod stream;

pub use counts::Summary;
pub use stream::Options as StreamOptions;

use connections::Connections;
use counts::Counts;
use fetch::Spool;
use frames::{PartLimits, PartStore};
use handoff::listen::Listener;
use ledger::runs::Mode;
use lines::driver::DriverKind;
use lines::reader::{LineStore, Pending};
use lines::rejects::Rejects;
use lines::shards::Shards;
use lines::writer::WriterOptions;
use load::loading::{Loaders, Loading, Settle};
use load::{LoaderOptions, fresh};
use observe::{Lane, Progress, Workers};
use process::{Database, Ended, Failure, Stop, Target, checks, threads};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stream::Streaming;

/// Where records come from.
#[derive(Clone)]
pub enum Source {
    /// The socket to listen on.
    Socket(PathBuf),
    /// A stream of NATS JetStream.
    Stream(StreamOptions),
}

/// How a consumer works.
#[derive(Clone)]
pub struct Options {
    /// Where records come from.
    pub source: Source,
    /// The database.
    pub target: Target,
    /// Records of a collection per COPY, of those that come as lines.
    pub batch_size: usize,
    /// Memory of the whole process, in bytes.
    pub memory: u64,
    /// Maximum records per transaction, of those that come as lines.
    pub transaction_records: usize,
    /// Connections to the database for lines, and as many for frames.
    pub connections: usize,
    /// What writes lines.
    pub driver: DriverKind,
    /// How long next to nothing may come of a part that has begun.
    pub part_timeout: Duration,
    /// For the entries of parts that are not complete.
    pub spool: Spool,
    /// The file that refused lines are added to.
    pub rejects: PathBuf,
}

/// How the memory of the consumer is shared out, in bytes.
struct Memory {
    /// What all open transactions together hold, to write it again when a connection is lost.
    transactions: usize,
    /// Rows of batches that are not full, over all producers.
    pending: usize,
    /// Rows of a chunk.
    chunk: usize,
    /// Messages of a stream that have come and are not read.
    messages: usize,
    /// Unique keys of parts that are large.
    keys: usize,
    /// Maximum number of concurrent producers: each has a buffer for the longest frame or line, and
    /// rows that are not stored yet.
    producers: usize,
}

/// Messages of a stream that are requested, in bytes, however much memory there is. A NATS server
/// ends a connection to which it has to send more than `max_pending`, 64 MiB by default.
const MESSAGES: usize = 32 << 20;
/// Maximum number of concurrent producers, however much memory there is.
const MAX_PRODUCERS: usize = 64;
/// Memory for each.
const PRODUCER: usize = 64 << 20;

impl Memory {
    fn share(total: u64) -> Self {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Self {
            transactions: (total / 8).min(128 << 20),
            pending: (total / 8).min(64 << 20),
            chunk: (total / 128).clamp(1 << 20, 8 << 20),
            messages: (total / 8).min(MESSAGES),
            keys: total / 4,
            producers: (total / PRODUCER).clamp(2, MAX_PRODUCERS),
        }
    }
}

/// A consumer whose database and socket are there. Producers that connect now wait until it runs.
pub struct Consumer {
    options: Options,
    database: Database,
    listener: Option<Listener>,
    memory: Memory,
}

/// What a consumer did, and how that ended.
pub struct Consumed {
    /// What it did.
    pub summary: Summary,
    /// How it ended.
    pub outcome: Result<Ended, Failure>,
}

impl Consumer {
    /// Checks what can be checked before work begins, opens the database, and begins to listen.
    pub fn open(options: Options) -> Result<Self, Failure> {
        checks::require_writable("--rejects", &options.rejects)?;
        let database = Database::open_to_work(&options.target)?;
        let listener = match &options.source {
            Source::Socket(path) => Some(Listener::bind(path).map_err(Failure::new)?),
            Source::Stream(_) => None,
        };
        let memory = Memory::share(options.memory);
        Ok(Self {
            options,
            database,
            listener,
            memory,
        })
    }

    /// The database that it stores in.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Stores what producers send until it is stopped, or until it cannot store any more.
    pub fn run(self, workers: &Workers, stop: &Stop) -> Result<Consumed, Failure> {
        let Self {
            options,
            database,
            listener,
            memory,
        } = self;
        let rejects = Arc::new(Rejects::new(&options.rejects));
        let counts = Counts::new();
        let shards = Shards::start(
            options.connections,
            &writing(&options, &database, &memory),
            &counts,
            &rejects,
            workers,
            stop,
        )?;
        let (parts, loading) = start_loading(&options, &database, &memory, &counts, workers, stop)?;
        let target = format!("storing in {}", place(&database));
        let progress = Progress::begin("consumer", counts.shown(), None);
        let started = Instant::now();
        let mut streamed = Ok(());
        let mut broke_off = false;
        match (&options.source, listener) {
            (Source::Socket(socket), Some(listener)) => {
                observe::log!("listening on {}, {target}", socket.display());
                let lines = LineStore {
                    batch_size: options.batch_size,
                    shards: shards.senders(),
                    pending: Arc::new(Pending::new(memory.pending)),
                    counts: counts.clone(),
                    rejects: Arc::clone(&rejects),
                    stop: stop.clone(),
                };
                let connections = Connections {
                    socket,
                    most: memory.producers,
                    lines,
                    parts: &parts,
                    workers,
                    stop,
                };
                broke_off = connections.serve(listener);
            }
            (Source::Stream(stream), _) => {
                let streaming = Streaming {
                    options: stream,
                    memory: memory.messages,
                    parts: &parts,
                    counts: &counts,
                    rejects: &rejects,
                    url: &database.url,
                    workers,
                    stop,
                };
                streamed = streaming.run(&target);
            }
            (Source::Socket(_), None) => {}
        }
        let stored = shards.finish();
        parts.loaders().end();
        for thread in loading {
            broke_off |= thread.join().is_err();
        }
        progress.finish();
        let summary = counts.summary(started.elapsed(), &rejects);
        let outcome = streamed
            .and_then(|()| stored.map_err(|error| lines_not_stored(&database, &error)))
            .and_then(|()| match parts.broken() {
                Some(why) => Err(parts_not_stored(&database, &why)),
                None => Ok(()),
            });
        let is_well = rejects.count() == 0 && !broke_off && parts.refused_parts() == 0;
        Ok(Consumed {
            summary,
            outcome: outcome.map(|()| Ended::well_if(is_well)),
        })
    }
}

/// How the lines of a connection are written.
fn writing(options: &Options, database: &Database, memory: &Memory) -> WriterOptions {
    WriterOptions {
        url: database.url.clone(),
        schema: database.schema.clone(),
        driver: options.driver,
        transaction_records: options.transaction_records,
        transaction_bytes: (memory.transactions / options.connections).max(1 << 20),
    }
}

fn lines_not_stored(database: &Database, why: &impl Display) -> Failure {
    not_stored(database, why)
        .hint("what was committed is stored; fix this, then send the same lines again")
}

fn parts_not_stored(database: &Database, why: &impl Display) -> Failure {
    not_stored(database, why).hint(
        "what was acknowledged is stored; fix this, then restart it: the producer sends the rest",
    )
}

fn not_stored(database: &Database, why: &impl Display) -> Failure {
    Failure::new(format!("{}: {why}", place(database)))
}

/// The database, for people.
fn place(database: &Database) -> String {
    format!("schema {} of {}", database.schema, database.shown())
}

/// Starts what stores parts that come in frames: as many connections as for lines, opened when they
/// are needed.
fn start_loading(
    options: &Options,
    database: &Database,
    memory: &Memory,
    counts: &Counts,
    workers: &Workers,
    stop: &Stop,
) -> Result<(PartStore, Vec<JoinHandle<()>>), Failure> {
    let mut client = database.connect()?;
    let refused = |error: postgres::Error| database.failure(error);
    fresh::prepare_probes(&mut client, &database.schema, stop.waits())
        .map_err(|error| database.db_failure(&error))?;
    let indexed = fresh::indexed_columns(&mut client, &database.schema).map_err(refused)?;
    let (loaders, ends) = Loaders::new(options.connections, memory.chunk);
    let lane = Lane::new("load", "PostgreSQL", options.connections);
    let parts = PartStore::new(
        &database.url,
        &database.schema,
        indexed,
        loaders,
        PartLimits {
            chunk: memory.chunk,
            keys: memory.keys,
            spool: options.spool.clone(),
            timeout: options.part_timeout,
        },
        counts,
        stop,
    );
    let threads = ends
        .into_iter()
        .enumerate()
        .map(|(number, messages)| {
            let loading = Loading {
                options: LoaderOptions {
                    worker: None,
                    url: database.url.clone(),
                    schema: database.schema.clone(),
                    run: 0,
                    mode: Mode::Merge,
                    durable: true,
                },
                settle: parts.clone(),
                workers: workers.clone(),
                lane: lane.clone(),
            };
            let parts = parts.clone();
            std::thread::spawn(move || {
                let work = || loading.work(number, &messages, parts.loaders());
                threads::guarded("a loading thread", |why| parts.break_off(why), work);
            })
        })
        .collect();
    Ok((parts, threads))
}
