//! `skyfill consumer`: lines from a socket, rows to the database.
//!
//! A thread for each connection reads lines and builds batches ([`intake`]); a thread for each database connection
//! stores them ([`shards`]). Records that can collide go to the same database connection, so that of two the first one
//! sent wins, and no two connections wait for each other's rows. When a producer ends its stream, its connection is
//! closed only after everything that came over it is committed.

mod intake;
mod rejects;
mod shards;

use crate::cli::ConsumerArgs;
use crate::database::Database;
use crate::exit::{Ended, Failure};
use crate::signals;
use handoff::account::GREETING;
use handoff::listen::Listener;
use intake::{Counts, Intake};
use load::{DriverKind, WriterOptions};
use observe::{Progress, Workers};
use rejects::Rejects;
use shards::Shards;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most bytes that all open transactions together hold in memory, to write them again when a connection is lost.
const TRANSACTION_BYTES: usize = 128 << 20;
/// Most producers at once.
const MAX_PRODUCERS: usize = 64;

pub(crate) fn run(args: &ConsumerArgs) -> Result<Ended, Failure> {
    if let Some(test) = &args.db_test {
        return crate::db_test::run(args, test);
    }
    let Some(socket) = &args.socket else {
        return Err(Failure::usage("no socket path given"));
    };
    let driver = driver(args)?;
    let database = Database::open(&args.database)?;
    database.require_current()?;
    database.prepare_ledger()?;
    let listener = Listener::bind(socket).map_err(Failure::new)?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let rejects = Arc::new(Rejects::new(&args.rejects));
    let counts = Counts::new();
    let connections = args.max_db_connections as usize;
    let options = WriterOptions {
        url: database.url.clone(),
        schema: database.schema.clone(),
        driver,
        transaction_records: args.transaction_size as usize,
        transaction_bytes: (TRANSACTION_BYTES / connections).max(1 << 20),
    };
    let shards = Shards::start(connections, &options, &counts, &rejects, &workers, &stop)?;
    eprintln!(
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
    let mut readers: Vec<std::thread::JoinHandle<()>> = Vec::new();
    let mut broke_off = false;
    while !stop.is_set() {
        for at in (0..readers.len()).rev() {
            if readers[at].is_finished() {
                broke_off |= readers.swap_remove(at).join().is_err();
            }
        }
        match listener.accept(Duration::from_millis(200)) {
            // Left in the queue of the socket until another producer ends would be as good, but is silent.
            Ok(Some(stream)) if readers.len() >= MAX_PRODUCERS => {
                progress.say(&format!(
                    "a producer was turned away: {MAX_PRODUCERS} are connected"
                ));
                drop(stream);
            }
            Ok(Some(stream)) => {
                // Here, not in the thread: producers wait for it. One that does not listen is told nothing.
                drop((&stream).write_all(GREETING));
                let intake = Intake::new(
                    args.batch_size as usize,
                    shards.handles(),
                    &counts,
                    &rejects,
                    &stop,
                    &workers,
                );
                readers.push(std::thread::spawn(move || intake.run(stream)));
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
        broke_off |= reader.join().is_err();
    }
    if broke_off {
        progress.say("a reader broke off; its producer has to send again");
    }
    let outcome = shards.finish();
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
    Ok(if rejects.count() > 0 || broke_off {
        Ended::WithFailures
    } else {
        Ended::Well
    })
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
        Failure::usage("--pg-native: this skyfill was built without libpq")
            .hint("build it with: cargo build --release --features pg-native (Debian: libpq-dev is needed)"),
    )
}
