//! The producer's side of a framed connection: what it is told, and whether it listens.

use handoff::frames::Answer;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A producer that takes no answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// With so many bytes of answers untaken, nothing more is read from a producer.
const MAX_UNTAKEN: usize = 256 << 10;

/// A producer. Answers wait in memory until it takes them, so that no thread that stores rows waits
/// for it.
pub(crate) struct Peer {
    stream: UnixStream,
    /// Parts that are not settled.
    open: AtomicI64,
    /// Whether something was lost: the producer has to come again.
    lost: AtomicBool,
    untaken: Mutex<Untaken>,
}

#[derive(Default)]
struct Untaken {
    bytes: Vec<u8>,
    /// Since when it takes nothing.
    since: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            open: AtomicI64::new(0),
            lost: AtomicBool::new(false),
            untaken: Mutex::default(),
        }
    }

    /// A part has come that will be answered.
    pub(crate) fn expect_answer(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether every part is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.open.load(Ordering::SeqCst) <= 0
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Something was lost: the producer has to come again.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// Answers a part; does not wait for the producer to take it.
    pub(crate) fn answer(&self, answer: &Answer) {
        self.say(&answer.line());
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Says something; does not wait.
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.send();
    }

    /// Whether the producer has taken so little of what it was told that nothing more is read from
    /// it.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().bytes.len() > MAX_UNTAKEN
    }

    /// Whether it has taken all that it was told.
    pub(crate) fn has_taken_all(&self) -> bool {
        self.lock().bytes.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Untaken> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the producer takes now. One that is gone, or takes nothing for long, comes again
    /// and asks again.
    pub(crate) fn send(&self) {
        let mut untaken = self.lock();
        let mut sent = 0;
        while let Some(rest) = untaken.bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(
                &self.stream,
                rest,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.give_up(&mut untaken),
            }
        }
        untaken.bytes.drain(..sent);
        if sent > 0 || untaken.bytes.is_empty() {
            untaken.since = None;
        }
        if !untaken.bytes.is_empty()
            && untaken.since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
        {
            self.give_up(&mut untaken);
        }
    }

    fn give_up(&self, untaken: &mut Untaken) {
        untaken.bytes.clear();
        self.lose();
        drop(self.stream.shutdown(Shutdown::Both));
    }
}
