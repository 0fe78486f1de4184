//! The producer's side of a framed connection: the responses to it, and whether it reads them.

use crate::frames::answers::Answers;
use handoff::frames::Answer;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A producer that reads no answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// With so many bytes of unread answers, nothing more is read from a producer.
const MAX_UNREAD: usize = 256 << 10;

/// A producer. Answers wait in memory until it reads them, so that no thread that stores rows waits
/// for it.
pub(crate) struct Peer {
    stream: UnixStream,
    /// Parts that are not settled.
    open: AtomicI64,
    /// Whether something was lost: the producer has to reconnect.
    lost: AtomicBool,
    unread: Mutex<Unread>,
}

#[derive(Default)]
struct Unread {
    bytes: Vec<u8>,
    /// Since when it reads nothing.
    since: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            open: AtomicI64::new(0),
            lost: AtomicBool::new(false),
            unread: Mutex::default(),
        }
    }

    /// Whether every part is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.open.load(Ordering::SeqCst) <= 0
    }

    /// Queues bytes for the producer, and sends what it reads now.
    pub(crate) fn queue(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.send();
    }

    /// Whether so many answers are unread that nothing more is read from the producer.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().bytes.len() > MAX_UNREAD
    }

    /// Whether it has read all answers.
    pub(crate) fn has_read_all(&self) -> bool {
        self.lock().bytes.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, unread: &mut Unread) {
        unread.bytes.clear();
        self.mark_lost();
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

impl Answers for Peer {
    fn expect_answer(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn answer(&self, answer: &Answer) {
        self.queue(&answer.line());
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn mark_lost(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Sends what the producer reads now. One that is gone, or reads nothing for long, is given up.
    fn send(&self) {
        let mut unread = self.lock();
        let mut sent = 0;
        while let Some(rest) = unread.bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(
                &self.stream,
                rest,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.give_up(&mut unread),
            }
        }
        unread.bytes.drain(..sent);
        if sent > 0 || unread.bytes.is_empty() {
            unread.since = None;
        }
        if !unread.bytes.is_empty()
            && unread.since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
        {
            self.give_up(&mut unread);
        }
    }
}
