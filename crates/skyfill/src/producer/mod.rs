//! `skyfill producer`: a DID file, repos from their PDSes, records to sockets.
//!
//! The file is read line by line; each line becomes a task that fetches its repo ([`job`]), as many
//! at once as `--concurrency` allows. A repo that has passed every check waits, within a bound in
//! bytes, for the threads that write to the sockets ([`parcel`]). What fails goes to the file of
//! failures ([`tally`]).

mod job;
mod parcel;
mod tally;

use crate::cli::{Form, ProducerArgs};
use crate::fetch_args;
use crate::run::wanted::DidFile;
use crate::signals;
use discover::did_file::{self, DidLine};
use fetch::Redirects;
use fetch::turns::Turns;
use handoff::send::{Event, Finished, Opened, Sender};
use handoff::send_frames::FramedSender;
use job::{Indexes, Shared};
use observe::{Progress, Workers};
use parcel::{FramedParcel, Handed, Parcel};
use process::Stop;
use process::checks;
use process::clock;
use process::threads;
use process::{Ended, Failure};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks for each repo that is fetched: those that wait for a host or a consumer do not keep others
/// from working.
const TASKS_PER_SLOT: usize = 8;
/// Requests at once, unless the arguments say otherwise: as the original.
const CONCURRENCY: usize = 16;
/// Seconds: lines are taken in order, so that a host that is away holds up others.
const PATIENCE: u64 = 60;

/// How the memory of the producer is shared out, in bytes.
struct Memory {
    /// What one body may take before it goes to a file.
    body: usize,
    /// Bodies that are decompressed at once, 16 MiB each.
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

pub(crate) fn run(args: &ProducerArgs) -> Result<Ended, Failure> {
    if !matches!(args.sockets.len(), 1 | 3) {
        return Err(Failure::usage(format!(
            "{} socket paths given; it takes one or three",
            args.sockets.len()
        )));
    }
    for path in &args.sockets {
        pgbox::socket::check_path(path).map_err(Failure::usage)?;
    }
    let now = clock::now(args.now.as_deref())?;
    let path = args.did_file.display();
    let same = |a: &Path, b: &Path| {
        a.canonicalize()
            .ok()
            .is_some_and(|a| b.canonicalize().ok() == Some(a))
    };
    if same(&args.did_file, &args.failures) {
        return Err(
            Failure::usage(format!("{path} would be read and added to at once"))
                .hint("name another file for what fails now: --failures still-failing.jsonl"),
        );
    }
    checks::require_writable("--failures", &args.failures)?;
    // Looked at, not taken from.
    drop(DidFile::open(&args.did_file)?);
    let open = || {
        File::open(&args.did_file).map_err(|error| Failure::new(format!("open {path}: {error}")))
    };
    let total = lines_to_take(args, open()?)
        .map_err(|error| Failure::new(format!("read {path}: {error}")))?;
    let file = open()?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let tally = Arc::new(Tally::new(&args.failures));
    let fetch = fetch_args::options(&args.fetch, &args.caller, PATIENCE)?;
    let pace = fetch.pace(CONCURRENCY);
    let concurrency = pace.slots;
    let memory = Memory::share(args.memory, concurrency);
    let client = fetch
        .client(Redirects::Any)
        .map_err(Failure::new)?
        .with_spool(fetch_args::spool(&args.spool)?)
        .with_memory(memory.body)
        .with_decoders(memory.decoders);
    let buffer_bytes = args.buffer_bytes.min(memory.buffer);
    let runtime = threads::start()?;
    let interval = Duration::from_secs(args.output.logging_interval);
    let progress = Progress::start(tally.counters(), Some(total), interval);
    let started = Instant::now();
    let (senders, threads) = start_senders(args, now, &tally, &stop);
    let turns = {
        let _within = runtime.enter();
        Turns::start(pace)
    };
    let shared = Arc::new(Shared {
        client,
        turns,
        slots: Semaphore::new(concurrency),
        buffer: Arc::new(Semaphore::new(buffer_bytes as usize)),
        buffer_bytes,
        indexes: Indexes::new(memory.indexes),
        max_attempts: fetch.max_attempts,
        opt_out: fetch.opt_out,
        senders,
        tally: Arc::clone(&tally),
        workers,
        stop: stop.clone(),
    });
    let next = runtime.block_on(fetch_all(args, file, shared, &tally, &stop, concurrency));
    drop(runtime);
    // Every sender ends when all of its parcels are written and the consumer has committed them.
    let broken = Finished {
        losses: 1,
        acknowledged: false,
        greeted_late: false,
    };
    let ends: Vec<Finished> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or(broken))
        .collect();
    let losses: u32 = ends.iter().map(|end| end.losses).sum();
    let acknowledged = ends.iter().all(|end| end.acknowledged);
    progress.finish();
    let greeted_late = ends.iter().any(|end| end.greeted_late);
    if greeted_late {
        observe::log!(
            "a consumer was too slow to say that it takes lines about accounts, and got none; send all of it again"
        );
    }
    let next = next?;
    tally.summary(args, started.elapsed(), losses, acknowledged, next);
    Ok(if next.is_some() {
        Ended::Stopped
    } else if tally.has_failures() || losses > 0 || !acknowledged || greeted_late {
        Ended::WithFailures
    } else {
        Ended::Well
    })
}

/// How many lines the run takes: what the progress bar is measured against.
fn lines_to_take(args: &ProducerArgs, file: File) -> std::io::Result<u64> {
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
    let end = if args.ending_line == 0 {
        lines
    } else {
        lines.min(args.ending_line)
    };
    Ok(end.saturating_sub(args.starting_line))
}

/// Reads the file and starts a task for each line. Answers the next line if it was stopped before
/// the end.
async fn fetch_all(
    args: &ProducerArgs,
    file: File,
    shared: Arc<Shared>,
    tally: &Tally,
    stop: &Stop,
    concurrency: usize,
) -> Result<Option<u64>, Failure> {
    let room = Arc::new(Semaphore::new(concurrency * TASKS_PER_SLOT));
    let mut tasks = JoinSet::new();
    let mut lines = HashMap::new();
    let mut stopped_at = None;
    for line in did_file::read(BufReader::new(file), args.starting_line, args.ending_line) {
        let line: Result<DidLine, _> = line
            .map_err(|error| Failure::new(format!("read {}: {error}", args.did_file.display())))?;
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
        let shared = Arc::clone(&shared);
        let copy = line.clone();
        let task = tasks.spawn(async move {
            job::process(&shared, line).await;
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
        tally.failed(&line, "broke off", "skyfill's own work on it broke off");
    }
}

/// A thread for each socket.
fn start_senders(
    args: &ProducerArgs,
    now: i64,
    tally: &Arc<Tally>,
    stop: &Stop,
) -> (
    Vec<UnboundedSender<Handed>>,
    Vec<std::thread::JoinHandle<Finished>>,
) {
    let sockets = args.sockets.len();
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for (socket, path) in args.sockets.iter().enumerate() {
        // Unbounded in number, bounded in bytes: each repo in it holds a share of the buffer.
        let (sender, mut receiver) = mpsc::unbounded_channel::<Handed>();
        senders.push(sender);
        let (path, tally, stop, form) = (path.clone(), Arc::clone(tally), stop.clone(), args.form);
        threads.push(std::thread::spawn(move || {
            let socket = Socket {
                path: &path,
                number: socket,
                of: sockets,
                now,
                form,
                tally: &tally,
                stop: &stop,
            };
            socket.send_all(&mut receiver)
        }));
    }
    (senders, threads)
}

/// One of the sockets, and what is sent to it.
struct Socket<'s> {
    path: &'s Path,
    number: usize,
    of: usize,
    now: i64,
    form: Form,
    tally: &'s Arc<Tally>,
    stop: &'s Stop,
}

impl Socket<'_> {
    /// Sends all that comes, in the form that the consumer takes.
    fn send_all(&self, handed: &mut UnboundedReceiver<Handed>) -> Finished {
        let Some(first) = handed.blocking_recv() else {
            return Finished {
                losses: 0,
                acknowledged: true,
                greeted_late: false,
            };
        };
        let mut on_event = |event: Event<'_>| tell(&event, self.stop);
        match Opened::wait_for(self.path, &mut on_event) {
            Ok(opened) if opened.takes_frames() && self.form == Form::Auto => {
                self.send_frames(opened, first, handed)
            }
            Ok(opened) => self.send_lines(opened, first, handed),
            Err(_) => {
                let mut next = Some(first);
                while let Some(handed_over) = next {
                    self.not_sent(handed_over);
                    next = handed.blocking_recv();
                }
                NOT_ACKNOWLEDGED
            }
        }
    }

    fn not_sent(&self, handed: Handed) {
        if let Handed::Repo(checked) = handed {
            self.tally.not_sent(&checked);
        }
    }

    fn send_frames(
        &self,
        opened: Opened,
        first: Handed,
        handed: &mut UnboundedReceiver<Handed>,
    ) -> Finished {
        let mut sender = FramedSender::new(self.path, opened, |event| tell(&event, self.stop));
        let mut next = Some(first);
        let mut given_up = false;
        while let Some(handed_over) = next {
            if given_up {
                self.not_sent(handed_over);
            } else {
                let parcel = FramedParcel {
                    handed: handed_over,
                    socket: self.number,
                    sockets: self.of,
                    now: self.now,
                    tally: Arc::clone(self.tally),
                };
                given_up = sender.send(parcel).is_err();
            }
            next = loop {
                match handed.try_recv() {
                    Ok(handed_over) => break Some(handed_over),
                    Err(TryRecvError::Disconnected) => break None,
                    // Meanwhile, what is acknowledged makes room for more.
                    Err(TryRecvError::Empty) if given_up => break handed.blocking_recv(),
                    Err(TryRecvError::Empty) => {
                        given_up = sender.listen().is_err();
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            };
        }
        match sender.finish() {
            // What a consumer lost was sent again, and acknowledged.
            Ok(_) if !given_up => Finished {
                losses: 0,
                acknowledged: true,
                greeted_late: false,
            },
            _ => NOT_ACKNOWLEDGED,
        }
    }

    fn send_lines(
        &self,
        opened: Opened,
        first: Handed,
        handed: &mut UnboundedReceiver<Handed>,
    ) -> Finished {
        let mut sender = Sender::over(self.path, opened, |event| tell(&event, self.stop));
        let mut next = Some(first);
        let mut given_up = false;
        while let Some(handed_over) = next {
            let parcel = Parcel::new(&handed_over, self.number, self.of, self.now);
            let outcome = if given_up {
                Err(ErrorKind::Interrupted.into())
            } else {
                sender.send(parcel)
            };
            given_up |= matches!(&outcome, Err(error) if error.kind() == ErrorKind::Interrupted);
            if let Handed::Repo(checked) = handed_over {
                match outcome {
                    Ok(()) => self.tally.written(&checked, self.of),
                    Err(_) => self.tally.not_sent(&checked),
                }
            }
            next = handed.blocking_recv();
        }
        match sender.finish() {
            Ok(finished) if !given_up => finished,
            Ok(finished) => Finished {
                acknowledged: false,
                ..finished
            },
            Err(_) => NOT_ACKNOWLEDGED,
        }
    }
}

/// The wait for the consumer was given up.
const NOT_ACKNOWLEDGED: Finished = Finished {
    losses: 0,
    acknowledged: false,
    greeted_late: false,
};

/// Says what happens to a socket, not too often. Goes on until somebody stops it.
fn tell(event: &Event<'_>, stop: &Stop) -> bool {
    match event {
        Event::Away(path, tries, error) => {
            if tries.is_power_of_two() {
                observe::log!("waiting for the consumer on {}: {error}", path.display());
            }
            // Also when stopping, a consumer that is only slow gets a few seconds.
            !(stop.is_set() && *tries > 6)
        }
        Event::Back(path, parcels) => {
            observe::log!(
                "the consumer on {} is back; {parcels} repos are sent again from their start",
                path.display()
            );
            true
        }
    }
}
