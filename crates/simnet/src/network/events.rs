//! The relay's log of events, as frames of `com.atproto.sync.subscribeRepos`
//! (<https://atproto.com/specs/event-stream>): two objects in DAG-CBOR, a header and a body.

use atrepo::cbor::Writer;
use rows::datetime;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// A message of the stream.
pub(super) type Frame = Arc<Vec<u8>>;

/// The last events. Sequence numbers begin at 1.
pub(super) struct Log {
    kept: VecDeque<(u64, Frame)>,
    head: watch::Sender<u64>,
    /// Maximum number of events that are kept.
    window: usize,
}

/// What a subscriber gets next.
pub(super) enum Next {
    /// Frames, and the number of the last of them.
    Frames(Vec<Frame>, u64),
    /// The next ones are not kept any more. The oldest that is comes after this number.
    Gone(u64),
    /// There is no such number yet.
    Future,
}

/// Frames that a subscriber gets at once.
const BATCH: usize = 100;

impl Log {
    pub(super) fn new(window: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            head: watch::Sender::new(0),
            window,
        }
    }

    /// The last sequence number.
    pub(super) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Receives each new event.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Maximum number of events that are kept.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Keeps so many events from now on.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window;
        self.trim();
    }

    fn trim(&mut self) {
        while self.kept.len() > self.window {
            self.kept.pop_front();
        }
    }

    /// What comes after event `after`.
    pub(super) fn next(&self, after: u64) -> Next {
        let head = self.head();
        let before_oldest = self.kept.front().map_or(head, |(seq, _)| seq - 1);
        if after > head {
            return Next::Future;
        }
        if after < before_oldest {
            return Next::Gone(before_oldest);
        }
        let skipped = usize::try_from(after - before_oldest).unwrap_or(usize::MAX);
        let taken = self.kept.iter().skip(skipped).take(BATCH);
        let frames: Vec<Frame> = taken.map(|(_, frame)| Arc::clone(frame)).collect();
        let last = after + frames.len() as u64;
        Next::Frames(frames, last)
    }

    fn push(&mut self, kind: &str, micros: u64, body: impl FnOnce(&mut Writer, i64, &str)) {
        let seq = self.head() + 1;
        let time = datetime::print(i64::try_from(micros / 1000).unwrap_or(0));
        let mut w = header(kind);
        body(&mut w, i64::try_from(seq).unwrap_or(i64::MAX), &time);
        self.kept.push_back((seq, Arc::new(w.into_bytes())));
        self.trim();
        self.head.send_replace(seq);
    }

    /// The repo of `did` is at `rev`; `blocks` is a CAR with its commit.
    pub(super) fn sync(&mut self, did: &str, rev: &str, blocks: &[u8], micros: u64) {
        self.push("#sync", micros, |w, seq, time| {
            w.map(5)
                .text("did")
                .text(did)
                .text("rev")
                .text(rev)
                .text("seq")
                .integer(seq);
            w.text("time").text(time).text("blocks").bytes(blocks);
        });
    }

    /// `did` is active, or has this status.
    pub(super) fn account(&mut self, did: &str, status: Option<&str>, micros: u64) {
        self.push("#account", micros, |w, seq, time| {
            w.map(4 + u64::from(status.is_some()))
                .text("did")
                .text(did)
                .text("seq")
                .integer(seq);
            w.text("time")
                .text(time)
                .text("active")
                .bool(status.is_none());
            if let Some(status) = status {
                w.text("status").text(status);
            }
        });
    }

    /// The document of `did` changed.
    pub(super) fn identity(&mut self, did: &str, handle: &str, micros: u64) {
        self.push("#identity", micros, |w, seq, time| {
            w.map(4).text("did").text(did).text("seq").integer(seq);
            w.text("time").text(time).text("handle").text(handle);
        });
    }
}

fn header(kind: &str) -> Writer {
    let mut w = Writer::new();
    w.map(2).text("t").text(kind).text("op").integer(1);
    w
}

/// A frame that informs the subscriber.
pub(super) fn info(name: &str, message: &str) -> Vec<u8> {
    let mut w = header("#info");
    w.map(2)
        .text("name")
        .text(name)
        .text("message")
        .text(message);
    w.into_bytes()
}

/// A frame that ends the stream.
pub(super) fn error(name: &str, message: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(1).text("op").integer(-1);
    w.map(2)
        .text("error")
        .text(name)
        .text("message")
        .text(message);
    w.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{Log, Next};

    fn count(next: &Next) -> (usize, u64) {
        match next {
            Next::Frames(frames, last) => (frames.len(), *last),
            Next::Gone(after) => (usize::MAX, *after),
            Next::Future => (usize::MAX, u64::MAX),
        }
    }

    #[test]
    fn the_window_keeps_the_last_events() {
        let mut log = Log::new(3);
        assert_eq!(count(&log.next(0)), (0, 0));
        for _ in 0..5 {
            log.identity("did:plc:a", "a.test", 0);
        }
        assert_eq!(log.head(), 5);
        assert_eq!(count(&log.next(1)), (usize::MAX, 2));
        assert_eq!(count(&log.next(2)), (3, 5));
        assert_eq!(count(&log.next(4)), (1, 5));
        assert_eq!(count(&log.next(5)), (0, 5));
        assert_eq!(count(&log.next(6)), (usize::MAX, u64::MAX));
        log.set_window(0);
        assert_eq!(count(&log.next(4)), (usize::MAX, 5));
        assert_eq!(count(&log.next(5)), (0, 5));
    }
}
