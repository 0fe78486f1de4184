//! What a server tells its subscribers: the last events, and what goes wrong on the way.

use super::events::Event;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// What stands under a number. All but events are faults ([`super::live::StreamFault`]).
#[derive(Clone)]
pub(super) enum Item {
    /// An event, and the time that stands in for its own, in microseconds since 1970.
    Event(Arc<Event>, Option<u64>),
    /// Nothing: the number is left out.
    Lost,
    /// A frame of these bytes, whatever they are.
    Raw(Arc<Vec<u8>>),
    /// A frame of text.
    Text(&'static str),
    /// So many events that came before, once more.
    Again(u64),
    /// The connection breaks, once.
    Cut(Arc<AtomicBool>),
    /// Nothing comes any more on this connection, once.
    Stall(Arc<AtomicBool>),
}

impl Item {
    /// Whether something that happens once is still to happen. It is not, from now on.
    pub(super) fn happens(flag: &AtomicBool) -> bool {
        !flag.swap(true, Ordering::SeqCst)
    }
}

/// The last events. Sequence numbers begin at 1.
pub(super) struct Log {
    kept: VecDeque<Item>,
    head: watch::Sender<u64>,
    /// Maximum number of events that are kept.
    window: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(100_000)
    }
}

/// What a subscriber gets next.
pub(super) enum Next {
    /// Items with their numbers, and the number of the last of them.
    Items(Vec<(u64, Item)>, u64),
    /// The next ones are not kept any more. The oldest that is comes after this number.
    Gone(u64),
    /// There is no such number yet.
    Future,
}

/// Items that a subscriber gets at once.
const BATCH: usize = 256;

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

    /// The number before the oldest that is kept.
    fn before_oldest(&self) -> u64 {
        self.head() - self.kept.len() as u64
    }

    /// What comes after event `after`.
    pub(super) fn next(&self, after: u64) -> Next {
        let before_oldest = self.before_oldest();
        if after > self.head() {
            return Next::Future;
        }
        if after < before_oldest {
            return Next::Gone(before_oldest);
        }
        let items = self.range(after, BATCH);
        let last = after + items.len() as u64;
        Next::Items(items, last)
    }

    /// The last `count` items up to number `to`.
    pub(super) fn before(&self, to: u64, count: u64) -> Vec<(u64, Item)> {
        let from = to.saturating_sub(count).max(self.before_oldest());
        self.range(from, usize::try_from(to - from).unwrap_or(0))
    }

    /// Up to `count` items after number `after`.
    fn range(&self, after: u64, count: usize) -> Vec<(u64, Item)> {
        let skipped = usize::try_from(after - self.before_oldest()).unwrap_or(usize::MAX);
        let items = self.kept.range(skipped.min(self.kept.len())..).take(count);
        (after + 1..).zip(items.cloned()).collect()
    }

    pub(super) fn push(&mut self, item: Item) {
        let seq = self.head() + 1;
        self.kept.push_back(item);
        self.head.send_replace(seq);
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Item, Log, Next};
    use std::sync::Arc;

    fn count(next: &Next) -> (usize, u64) {
        match next {
            Next::Items(items, last) => (items.len(), *last),
            Next::Gone(after) => (usize::MAX, *after),
            Next::Future => (usize::MAX, u64::MAX),
        }
    }

    #[test]
    fn the_window_keeps_the_last_events() {
        let mut log = Log::new(3);
        assert_eq!(count(&log.next(0)), (0, 0));
        for _ in 0..5 {
            let event = Event::identity("did:plc:a", "a.test", 0);
            log.push(Item::Event(Arc::new(event), None));
        }
        assert_eq!(log.head(), 5);
        assert_eq!(count(&log.next(1)), (usize::MAX, 2));
        assert_eq!(count(&log.next(2)), (3, 5));
        assert_eq!(count(&log.next(4)), (1, 5));
        assert_eq!(count(&log.next(5)), (0, 5));
        assert_eq!(count(&log.next(6)), (usize::MAX, u64::MAX));
        let numbers =
            |items: Vec<(u64, Item)>| items.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
        assert_eq!(numbers(log.before(4, 1)), [4]);
        assert_eq!(numbers(log.before(5, 9)), [3, 4, 5]);
        log.set_window(0);
        assert_eq!(count(&log.next(4)), (usize::MAX, 5));
        assert_eq!(count(&log.next(5)), (0, 5));
    }
}
