//! The engine of `skyfill producer`: reads a DID file, fetches repos from their PDSes, and sends
//! records to sockets, or to a stream of NATS JetStream.
//!
//! The file is read line by line. Each line becomes a task that fetches its repo (`job`), with as
//! many requests at the same time as there are slots. A repo that passed every check waits as a
//! `parcel`, within a bound in bytes, for the threads that write to the sockets (`sockets`), or the
//! one that sends to the stream (`stream`). Failed repos go to the file of failures (`tally`).

mod checked;
mod form;
mod job;
mod parcel;
mod sockets;
mod stream;
mod tally;

pub use form::Form;
pub use stream::StreamOptions;
pub use tally::Summary;

use discover::did_file::{self, DidLine};
use fetch::turns::Turns;
use fetch::{Client, Redirects, Spool};
use handoff::send::Finished;
use job::{Indexes, Jobs};
use observe::units::counted;
use observe::{Progress, Workers};
use parcel::ToSend;
use process::{DidFile, Ended, Failure, Stop, checks, threads};
use sockets::{Ends, start_senders};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use stream::Sending;
use tally::Tally;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks for each repo that is fetched: those that wait for a host or a consumer do not keep others
/// from working.
const TASKS_PER_SLOT: usize = 8;
/// Maximum concurrent requests, unless the options have another number: as the original.
const CONCURRENCY: usize = 16;

/// Where repos go.
pub enum Destination {
    /// Sockets of consumers: one, or three, which share the collections; and the form on them.
    Sockets(Vec<PathBuf>, Form),
    /// A stream.
    Stream(StreamOptions),
}

/// How a producer works.
pub struct Options {
    /// Its DID file.
    pub did_file: PathBuf,
    /// Where repos go.
    pub destination: Destination,
    /// First line of the DID file that counts, from 0.
    pub starting_line: u64,
    /// First line that does not count any more; 0 means to the end.
    pub ending_line: u64,
    /// How hosts are asked.
    pub fetch: fetch::Options,
    /// Where bodies wait that are too large for memory.
    pub spool: Spool,
    /// Memory of the whole process, in bytes.
    pub memory: u64,
    /// Maximum number of bytes of checked repos that wait for the consumers; a quarter of the
    /// memory at most.
    pub buffer_bytes: u32,
    /// The file that failed repos are added to.
    pub failures: PathBuf,
    /// The time of the run, in milliseconds since 1970.
    pub now: i64,
}

/// The ways to where repos go.
struct Outlet {
    senders: Vec<UnboundedSender<ToSend>>,
    ways: Ways,
}

/// What sends.
enum Ways {
    Sockets(Vec<JoinHandle<Finished>>),
    Stream(Sending),
}

impl Outlet {
    fn open(options: &Options, tally: &Arc<Tally>, stop: &Stop) -> Result<Self, Failure> {
        match &options.destination {
            Destination::Sockets(paths, form) => {
                let (senders, threads) = start_senders(paths, *form, options.now, tally, stop);
                let ways = Ways::Sockets(threads);
                Ok(Self { senders, ways })
            }
            Destination::Stream(to) => {
                let (sender, sending) = stream::start(to, options.now, tally, stop)?;
                Ok(Self {
                    senders: vec![sender],
                    ways: Ways::Stream(sending),
                })
            }
        }
    }
}

impl Ways {
    /// Waits until all that was handed over is where it is to go, or given up.
    fn wait(self) -> Result<Ends, Failure> {
        match self {
            Self::Sockets(threads) => Ok(Ends::wait_for(threads)),
            Self::Stream(sending) => {
                let shown = sending.shown.clone();
                sending.wait()?;
                Ok(Ends {
                    losses: 0,
                    acknowledged: true,
                    greeted_late: false,
                    stream: Some(shown),
                })
            }
        }
    }
}

/// How the memory of the producer is shared out, in bytes.
struct Memory {
    /// What one body may take before it goes to a file.
    body: usize,
    /// Bodies that are decompressed concurrently, 16 MiB each.
    decoders: usize,
    /// Checked repos that wait, beside their indexes.
    buffer: u32,
    /// Indexes of blocks, from the check until every socket has the repo.
    indexes: usize,
}

impl Memory {
    /// Of `total`, a quarter goes to bodies that come in, of which there are `concurrency` and as
    /// many that are checked, a quarter to those that wait, a quarter to indexes, and an eighth
    /// to decompressing. The rest is for the process itself.
    fn share(total: u64, concurrency: usize) -> Self {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Self {
            body: (total / 4 / (2 * concurrency.max(1))).clamp(16 << 10, 4 << 20),
            decoders: (total / 8 / (16 << 20)).clamp(1, 16),
            buffer: u32::try_from(total / 4).unwrap_or(u32::MAX),
            indexes: total / 4,
        }
    }
}

/// A producer whose options were checked.
pub struct Producer {
    options: Options,
    client: Client,
    /// Lines that count.
    total: u64,
    file: File,
}

impl Producer {
    /// Checks what can be checked before work begins.
    pub fn open(options: Options) -> Result<Self, Failure> {
        if let Destination::Sockets(sockets, _) = &options.destination {
            check_sockets(sockets)?;
        }
        let path = options.did_file.display();
        let same = |a: &Path, b: &Path| {
            a.canonicalize()
                .ok()
                .is_some_and(|a| b.canonicalize().ok() == Some(a))
        };
        if same(&options.did_file, &options.failures) {
            return Err(Failure::usage(format!(
                "{path} would be read and appended to at the same time"
            ))
            .hint("name another file for the new failures: --failures still-failing.jsonl"));
        }
        checks::require_writable("--failures", &options.failures)?;
        // Its first lines are checked, not consumed.
        drop(DidFile::open(&options.did_file)?);
        let open = || {
            File::open(&options.did_file)
                .map_err(|error| Failure::new(format!("cannot open {path}: {error}")))
        };
        let total = count_lines(&options, open()?)
            .map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
        let file = open()?;
        let client = options
            .fetch
            .client(Redirects::Any)
            .map_err(Failure::new)?
            .with_spool(options.spool.clone());
        Ok(Self {
            options,
            client,
            total,
            file,
        })
    }

    /// Fetches and sends until the end of the file, or until it is stopped.
    pub fn run(self, workers: &Workers, stop: &Stop) -> Result<(Summary, Ended), Failure> {
        let Self {
            options,
            client,
            total,
            file,
        } = self;
        let tally = Arc::new(Tally::new(&options.failures));
        let pace = options.fetch.pace(CONCURRENCY);
        let concurrency = pace.slots;
        let memory = Memory::share(options.memory, concurrency);
        let buffer_bytes = options.buffer_bytes.min(memory.buffer);
        let runtime = threads::start()?;
        let outlet = Outlet::open(&options, &tally, stop)?;
        let progress = Progress::begin("producer", tally.counters(), Some(total));
        let started = Instant::now();
        let Outlet { senders, ways } = outlet;
        let turns = {
            let _within = runtime.enter();
            Turns::start(pace)
        };
        let jobs = Arc::new(Jobs {
            client: client
                .with_memory(memory.body)
                .with_decoders(memory.decoders),
            turns,
            slots: Semaphore::new(concurrency),
            buffer: Arc::new(Semaphore::new(buffer_bytes as usize)),
            buffer_bytes,
            indexes: Indexes::new(memory.indexes),
            max_attempts: options.fetch.max_attempts,
            opt_out: options.fetch.opt_out,
            senders,
            tally: Arc::clone(&tally),
            workers: workers.clone(),
            stop: stop.clone(),
        });
        let lines = Lines {
            path: &options.did_file,
            file,
            from: options.starting_line,
            to: options.ending_line,
        };
        let next = runtime.block_on(fetch_all(lines, jobs, &tally, stop, concurrency));
        drop(runtime);
        // Every sender ends when all of its parcels are written and the consumer has committed
        // them, or the stream has them.
        let ends = ways.wait();
        progress.finish();
        let ends = ends?;
        if ends.greeted_late {
            observe::log!(
                "a consumer announced too late that it knows lines about accounts, and got none; send everything again"
            );
        }
        let next = next?;
        let mut summary = tally.summary(started.elapsed(), ends.losses, ends.acknowledged, next);
        summary.stream = ends.stream;
        let ended = if summary.next.is_some() {
            Ended::Stopped
        } else if tally.has_failures() || ends.losses > 0 || !ends.acknowledged || ends.greeted_late
        {
            Ended::WithFailures
        } else {
            Ended::Well
        };
        Ok((summary, ended))
    }
}

fn check_sockets(sockets: &[PathBuf]) -> Result<(), Failure> {
    if !matches!(sockets.len(), 1 | 3) {
        let count = sockets.len();
        let what = format!("{count} socket paths given; give one or three");
        return Err(Failure::usage(what));
    }
    for path in sockets {
        pgbox::socket::check_path(path).map_err(Failure::usage)?;
    }
    Ok(())
}

/// How many lines count: what the progress bar is measured against.
fn count_lines(options: &Options, file: File) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut lines = 0u64;
    let mut ends_open = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        lines += buffer.iter().filter(|b| **b == b'\n').count() as u64;
        ends_open = buffer.last() != Some(&b'\n');
        let used = buffer.len();
        reader.consume(used);
    }
    lines += u64::from(ends_open);
    if lines < options.starting_line {
        let (file, from) = (options.did_file.display(), options.starting_line);
        observe::log!(
            "note: {file} has {}: none is left from --starting-line {from} on",
            counted(lines, "line")
        );
    }
    let end = if options.ending_line == 0 {
        lines
    } else {
        lines.min(options.ending_line)
    };
    Ok(end.saturating_sub(options.starting_line))
}

/// The lines of the DID file that count.
struct Lines<'p> {
    path: &'p Path,
    file: File,
    from: u64,
    to: u64,
}

/// Reads the file and starts a task for each line. Returns the next line if it was stopped before
/// the end.
async fn fetch_all(
    from: Lines<'_>,
    jobs: Arc<Jobs>,
    tally: &Tally,
    stop: &Stop,
    concurrency: usize,
) -> Result<Option<u64>, Failure> {
    let room = Arc::new(Semaphore::new(concurrency * TASKS_PER_SLOT));
    let mut tasks = JoinSet::new();
    let mut lines = HashMap::new();
    let mut stopped_at = None;
    for line in did_file::read(BufReader::new(from.file), from.from, from.to) {
        let line: Result<DidLine, _> = line.map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", from.path.display()))
        })?;
        let line = match line {
            Ok(line) => line,
            Err(bad) => {
                tally.bad_line(&bad);
                continue;
            }
        };
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit.ok(),
            () = stop.wait() => None,
        };
        let Some(permit) = permit.filter(|_| !stop.is_set()) else {
            stopped_at = Some(line.number);
            break;
        };
        let jobs = Arc::clone(&jobs);
        let copy = line.clone();
        let task = tasks.spawn(async move {
            job::produce(&jobs, line).await;
            drop(permit);
        });
        lines.insert(task.id(), copy);
        while let Some(ended) = tasks.try_join_next_with_id() {
            settle(ended, &mut lines, tally);
        }
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        settle(ended, &mut lines, tally);
    }
    Ok(stopped_at)
}

/// A task that broke off has failed its line.
fn settle(ended: Result<(Id, ()), JoinError>, lines: &mut HashMap<Id, DidLine>, tally: &Tally) {
    let (id, failed) = match ended {
        Ok((id, ())) => (id, false),
        Err(error) => (error.id(), true),
    };
    if let (Some(line), true) = (lines.remove(&id), failed) {
        tally.failed(
            &line,
            "failed in skyfill",
            "skyfill's own work on it failed",
        );
    }
}
