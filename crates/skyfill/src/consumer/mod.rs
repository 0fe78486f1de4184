//! `skyfill consumer`: frames or lines from a socket, rows to the database.
//!
//! A thread for each connection reads. Frames become chunks of whole parts of repos ([`frames`]),
//! which are loaded as a run does it. Lines become batches ([`intake`]); a thread for each database
//! connection stores them ([`shards`]). Records that can collide go to the same database
//! connection, so that of two the first one sent wins, and no two connections wait for each other's
//! rows. When a producer ends its stream, its connection is closed only after everything that came
//! over it is committed.

mod frames;
mod intake;
mod peer;
mod rejects;
mod shards;
mod spool;

use crate::cli::ConsumerArgs;
use crate::signals;
use frames::{Framed, PartLimits};
use handoff::account::GREETING;
use handoff::listen::Listener;
use intake::{Counts, Intake, Pending};
use ledger::runs::Mode;
use load::fresh;
use load::loading::{Loaders, Loading, Settle};
use load::{DriverKind, LoaderOptions, WriterOptions};
use observe::{Progress, Workers};
use process::Database;
use process::Stop;
use process::checks;
use process::threads;
use process::{Ended, Failure};
use rejects::Rejects;
use shards::Shards;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the memory of the consumer is shared out, in bytes.
struct Memory {
    /// What all open transactions together hold, to write it again when a connection is lost.
    transactions: usize,
    /// Rows of batches that are not full, over all producers.
    pending: usize,
    /// Rows of a chunk.
    chunk: usize,
    /// Unique keys of parts that are large.
    keys: usize,
    /// Most producers at once: each has a buffer for the longest frame or line, and rows that are
    /// not stored yet.
    producers: usize,
}

/// Most producers at once, however much memory there is.
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
            keys: total / 4,
            producers: (total / PRODUCER).clamp(2, MAX_PRODUCERS),
        }
    }
}

/// A connection that has said nothing for so long gives way when there is no room for another one.
const SILENT: Duration = Duration::from_secs(5);

/// A thread that reads one connection.
struct Reader {
    thread: std::thread::JoinHandle<()>,
    silent: Silent,
    since: Instant,
}

/// The connection, until its first byte has come: so long it can be ended from outside.
pub(crate) type Silent = Arc<Mutex<Option<UnixStream>>>;

impl Reader {
    /// Ends the connection if it has said nothing for long; whether it did.
    fn gives_way(&self) -> bool {
        if self.since.elapsed() < SILENT {
            return false;
        }
        let silent = self
            .silent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // One that is closed already is as good.
        silent.is_some_and(|stream| stream.shutdown(Shutdown::Both).is_ok())
    }
}

pub(crate) fn run(args: &ConsumerArgs) -> Result<Ended, Failure> {
    if let Some(test) = &args.db_test {
        return crate::db_test::run(args, test);
    }
    let Some(socket) = &args.socket else {
        return Err(Failure::usage("no socket path given"));
    };
    let driver = driver(args)?;
    checks::require_writable("--rejects", &args.rejects)?;
    let database = Database::open_to_work(&args.database.target())?;
    let listener = Listener::bind(socket).map_err(Failure::new)?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let rejects = Arc::new(Rejects::new(&args.rejects));
    let counts = Counts::new();
    let connections = args.max_db_connections as usize;
    let memory = Memory::share(args.memory);
    let pending = Arc::new(Pending::new(memory.pending));
    let options = WriterOptions {
        url: database.url.clone(),
        schema: database.schema.clone(),
        driver,
        transaction_records: args.transaction_size as usize,
        transaction_bytes: (memory.transactions / connections).max(1 << 20),
    };
    let shards = Shards::start(connections, &options, &counts, &rejects, &workers, &stop)?;
    let framed = start_framed(args, &database, &memory, &counts, &workers, &stop)?;
    observe::log!(
        "listening on {}, storing in schema {} of {}",
        socket.display(),
        database.schema,
        database.shown()
    );
    let progress = Progress::start(
        counts.shown(),
        None,
        Duration::from_secs(args.output.logging_interval),
    );
    let started = Instant::now();
    let mut readers: Vec<Reader> = Vec::new();
    let mut broke_off = false;
    while !stop.is_set() {
        for at in (0..readers.len()).rev() {
            if readers[at].thread.is_finished() {
                broke_off |= readers.swap_remove(at).thread.join().is_err();
            }
        }
        match listener.accept(Duration::from_millis(200)) {
            // Left in the queue of the socket until another producer ends would be as good, but is
            // silent.
            Ok(Some(stream)) if readers.len() >= memory.producers => {
                // It comes again, and finds the place of one that never said anything.
                let gave_way = readers.iter().any(Reader::gives_way);
                progress.say(&format!(
                    "a producer was turned away: {} are connected, which is what --memory has room for{}",
                    memory.producers,
                    if gave_way {
                        "; one that said nothing gives way"
                    } else {
                        ""
                    }
                ));
                drop(stream);
            }
            Ok(Some(stream)) => {
                // Here, not in the thread: producers wait for it. One that does not listen is told
                // nothing.
                drop((&stream).write_all(GREETING));
                let intake = Intake::new(
                    args.batch_size as usize,
                    (shards.handles(), &pending),
                    &counts,
                    &rejects,
                    &stop,
                    &workers,
                    &framed.0,
                );
                let framed = framed.0.clone();
                let silent: Silent = Arc::new(Mutex::new(stream.try_clone().ok()));
                let until_it_speaks = Arc::clone(&silent);
                let thread = std::thread::spawn(move || {
                    let broke_off = |why| framed.break_off(why);
                    threads::guarded("a reading thread", broke_off, || {
                        intake.run(stream, &until_it_speaks);
                    });
                });
                readers.push(Reader {
                    thread,
                    silent,
                    since: Instant::now(),
                });
            }
            Ok(None) => {}
            Err(error) => {
                progress.say(&format!("accept on {}: {error}", socket.display()));
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    drop(listener);
    for reader in readers {
        broke_off |= reader.thread.join().is_err();
    }
    if broke_off {
        progress.say("a reader broke off; its producer has to send again");
    }
    let outcome = shards.finish();
    framed.0.loaders().end();
    for thread in framed.1 {
        broke_off |= thread.join().is_err();
    }
    progress.finish();
    counts.summary(args, started.elapsed(), &rejects);
    outcome.map_err(|error| {
        Failure::new(format!(
            "schema {} of {}: {error}",
            database.schema,
            database.shown()
        ))
        .hint("what was committed is stored; mend this, then send the same lines again")
    })?;
    if let Some(why) = framed.0.broken() {
        return Err(Failure::new(format!(
            "schema {} of {}: {why}",
            database.schema,
            database.shown()
        ))
        .hint(
            "what was acknowledged is stored; mend this, then start it again: the producer sends the rest",
        ));
    }
    Ok(
        if rejects.count() > 0 || broke_off || framed.0.refused_parts() > 0 {
            Ended::WithFailures
        } else {
            Ended::Well
        },
    )
}

/// What stores parts that come in frames: as many connections as for lines, opened when they are
/// needed.
fn start_framed(
    args: &ConsumerArgs,
    database: &Database,
    memory: &Memory,
    counts: &Counts,
    workers: &Workers,
    stop: &Stop,
) -> Result<(Framed, Vec<std::thread::JoinHandle<()>>), Failure> {
    let mut client = database.connect()?;
    let refused = |error: postgres::Error| database.failure(error);
    fresh::prepare_probes(&mut client, &database.schema, stop.waits())
        .map_err(|error| database.db_failure(&error))?;
    let indexed = fresh::indexed_columns(&mut client, &database.schema).map_err(refused)?;
    let (loaders, ends) = Loaders::new(args.max_db_connections as usize, memory.chunk);
    let framed = Framed::new(
        &database.url,
        &database.schema,
        indexed,
        loaders,
        &PartLimits {
            chunk: memory.chunk,
            keys: memory.keys,
            timeout: Duration::from_secs(args.part_timeout),
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
                    url: database.url.clone(),
                    schema: database.schema.clone(),
                    run: 0,
                    mode: Mode::Merge,
                    durable: true,
                },
                settle: framed.clone(),
                workers: workers.clone(),
            };
            let framed = framed.clone();
            std::thread::spawn(move || {
                let work = || loading.work(number, &messages, framed.loaders());
                threads::guarded("a loading thread", |why| framed.break_off(why), work);
            })
        })
        .collect();
    Ok((framed, threads))
}

/// The driver of the arguments, if this build has it.
pub(crate) fn driver(args: &ConsumerArgs) -> Result<DriverKind, Failure> {
    let driver = if args.pg_native {
        DriverKind::Native
    } else {
        DriverKind::Rust
    };
    if driver.is_built_in() {
        return Ok(driver);
    }
    Err(
        Failure::usage("libpq was asked for, by --pg-native or CONSUMER_PG_NATIVE, and this skyfill was built without it").hint(
            "leave that away: the driver that is built in does the same; or build skyfill with: cargo build --release --features pg-native \
             (Debian: libpq-dev is needed)",
        ),
    )
}
