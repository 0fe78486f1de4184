//! The connections of producers, each read by its own thread. Their number is bounded; one that has
//! sent nothing whole, no line and no frame, is closed to make place for others.

use crate::frames::{self, PartStore};
use crate::lines::reader::{LineReader, LineStore};
use handoff::account::GREETING;
use handoff::frames::MAGIC;
use handoff::listen::Listener;
use handoff::send::COMMITTED;
use load::loading::Settle;
use observe::Workers;
use process::{Stop, threads};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A connection that has said nothing whole for so long gives way when there is no room for another
/// one.
const SILENT: Duration = Duration::from_secs(5);
/// How often the listener checks whether it is stopped, and the pause after it failed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a connection that waits for its first byte checks the same.
const FIRST_BYTE: Duration = Duration::from_millis(500);

/// The connection, until its first line or frame has come: so long it can be ended from outside.
type Silent = Arc<Mutex<Option<UnixStream>>>;

/// A thread that reads one connection.
struct Reader {
    thread: JoinHandle<()>,
    silent: Silent,
    since: Instant,
}

impl Reader {
    /// Ends the connection if it has said nothing whole for long; whether it did.
    fn end_if_silent(&self) -> bool {
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

/// What accepts connections, and what the threads that read them need.
pub(crate) struct Connections<'c> {
    pub(crate) socket: &'c Path,
    /// Maximum number of concurrent connections.
    pub(crate) most: usize,
    pub(crate) lines: LineStore,
    pub(crate) parts: &'c PartStore,
    pub(crate) workers: &'c Workers,
    pub(crate) stop: &'c Stop,
}

impl Connections<'_> {
    /// Accepts connections until it is stopped, then waits for their ends; whether a thread
    /// broke off.
    pub(crate) fn serve(self, listener: Listener) -> bool {
        let mut readers: Vec<Reader> = Vec::new();
        let mut broke_off = false;
        while !self.stop.is_set() {
            for at in (0..readers.len()).rev() {
                if readers[at].thread.is_finished() {
                    broke_off |= readers.swap_remove(at).thread.join().is_err();
                }
            }
            match listener.accept(LOOK_EVERY) {
                Ok(Some(stream)) if readers.len() >= self.most => {
                    self.turn_away(stream, &readers);
                }
                Ok(Some(stream)) => readers.push(self.start_reading(stream)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("accept on {}: {error}", self.socket.display());
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
        drop(listener);
        for reader in readers {
            broke_off |= reader.thread.join().is_err();
        }
        if broke_off {
            tracing::warn!("a reading thread failed; its producer has to send again");
        }
        broke_off
    }

    /// Ends a connection that there is no room for. Left in the queue of the socket until another
    /// producer ends, it would wait as long, but silently.
    fn turn_away(&self, stream: UnixStream, readers: &[Reader]) {
        // It comes again, and finds the place of one that never said anything.
        let gave_way = readers.iter().any(Reader::end_if_silent);
        tracing::warn!(
            "a producer was refused: {} are connected, the most that --memory allows{}",
            self.most,
            if gave_way {
                "; one that sent nothing whole is disconnected"
            } else {
                ""
            }
        );
        drop(stream);
    }

    /// Greets a producer, and starts the thread that reads what it sends.
    fn start_reading(&self, stream: UnixStream) -> Reader {
        // Here, not in the thread: producers wait for it. It does not matter whether one listens.
        drop((&stream).write_all(GREETING));
        let silent: Silent = Arc::new(Mutex::new(stream.try_clone().ok()));
        let until_it_speaks = Arc::clone(&silent);
        let (lines, parts) = (self.lines.clone(), self.parts.clone());
        let workers = self.workers.clone();
        let thread = std::thread::spawn(move || {
            let broke_off = |why| parts.break_off(why);
            threads::guarded("a reading thread", broke_off, || {
                read(stream, &until_it_speaks, lines, &parts, &workers);
            });
        });
        Reader {
            thread,
            silent,
            since: Instant::now(),
        }
    }
}

/// Reads a connection to its end, in the form that its first byte shows.
fn read(
    stream: UnixStream,
    silent: &Silent,
    lines: LineStore,
    parts: &PartStore,
    workers: &Workers,
) {
    let worker = workers.start("reading lines");
    if let Err(error) = stream.set_read_timeout(Some(FIRST_BYTE)) {
        tracing::warn!("a producer's connection cannot be read: {error}");
        return;
    }
    // Called for each line and frame: only the first one takes the lock.
    let has_spoken = Cell::new(false);
    let speaks = || {
        if !has_spoken.replace(true) {
            drop(silent.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    };
    let Some(first) = first_byte(&stream, &lines.stop) else {
        return speaks();
    };
    if Some(&first) == MAGIC.first() {
        worker.doing("reading frames");
        frames::read(parts, &stream, &[first], &speaks);
    } else {
        LineReader::new(lines).read(stream, first, &worker, &speaks);
    }
    speaks();
}

/// The first byte of a stream. Nothing if none comes.
fn first_byte(mut stream: &UnixStream, stop: &Stop) -> Option<u8> {
    let mut byte = [0];
    while !stop.is_set() {
        match stream.read(&mut byte) {
            Ok(0) => {
                // All of nothing is committed.
                drop(stream.write_all(COMMITTED));
                return None;
            }
            Ok(_) => return Some(byte[0]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return None,
        }
    }
    None
}
