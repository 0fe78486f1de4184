//! What is measured: counters, and lanes, which tell how threads spend their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
}

/// Something that is counted. Clones share the value.
#[derive(Clone, Debug)]
pub struct Counter {
    /// For programs, in snake case: it stays as it is.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
    /// Whether its rate is of interest, not only its value.
    pub(crate) has_rate: bool,
    value: Arc<AtomicU64>,
}

impl Counter {
    /// A counter whose rate is shown.
    #[must_use]
    pub fn rated(name: &'static str, label: &'static str) -> Self {
        Self {
            name,
            label,
            unit: Unit::Count,
            has_rate: true,
            value: Arc::default(),
        }
    }

    /// A counter of bytes, whose rate is shown.
    #[must_use]
    pub fn bytes(name: &'static str) -> Self {
        Self {
            unit: Unit::Bytes,
            ..Self::rated(name, "bytes")
        }
    }

    /// A counter whose value alone is shown, once it is not zero.
    #[must_use]
    pub fn counted(name: &'static str, label: &'static str) -> Self {
        Self {
            has_rate: false,
            ..Self::rated(name, label)
        }
    }

    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Time that several threads spend in one kind of wait, those that wait now included.
#[derive(Debug)]
struct Waits {
    since: Instant,
    /// Nanoseconds; of those who wait now, the time at which they began is taken off.
    nanos: AtomicI64,
    waiting: AtomicI64,
}

impl Waits {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            nanos: AtomicI64::new(0),
            waiting: AtomicI64::new(0),
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    fn begin(&self) {
        self.nanos.fetch_sub(self.now(), Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.nanos.fetch_add(self.now(), Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Time so far, of all threads together.
    fn total(&self) -> Duration {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let open = waiting.saturating_mul(self.now());
        let nanos = self.nanos.load(Ordering::Relaxed).saturating_add(open);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

/// A station of a pipeline: threads that take something, work on it and hand it on. What they do
/// not spend waiting, they work.
#[derive(Clone, Debug)]
pub struct Lane(Arc<LaneInner>);

#[derive(Debug)]
struct LaneInner {
    name: &'static str,
    label: &'static str,
    threads: u64,
    starved: Waits,
    blocked: Waits,
}

impl Lane {
    /// A station of `threads` threads; `label` says what limits when they are always at work.
    #[must_use]
    pub fn new(name: &'static str, label: &'static str, threads: usize) -> Self {
        Self(Arc::new(LaneInner {
            name,
            label,
            threads: threads as u64,
            starved: Waits::new(),
            blocked: Waits::new(),
        }))
    }

    /// Waits for something to do.
    pub fn starved<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.0.starved.begin();
        let _until = Until(&self.0.starved);
        wait()
    }

    /// Waits until what was done can be handed on.
    pub fn blocked<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.0.blocked.begin();
        let _until = Until(&self.0.blocked);
        wait()
    }

    /// How its threads spent their time so far.
    pub(crate) fn spent(&self) -> LaneSpent {
        LaneSpent {
            name: self.0.name,
            label: self.0.label,
            threads: self.0.threads,
            starved: self.0.starved.total(),
            blocked: self.0.blocked.total(),
        }
    }
}

/// Ends a wait, however it ends.
struct Until<'w>(&'w Waits);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How the threads of a lane spent their time so far, together.
#[derive(Clone, Debug)]
pub(crate) struct LaneSpent {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) threads: u64,
    pub(crate) starved: Duration,
    pub(crate) blocked: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_not_over_counts_already() {
        let lane = Lane::new("encode", "encoding", 2);
        let (send, receive) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let waiting = &lane;
            scope.spawn(move || waiting.starved(|| receive.recv()));
            while lane.spent().starved < Duration::from_millis(20) {
                std::thread::yield_now();
            }
            assert_eq!(lane.spent().blocked, Duration::ZERO);
            send.send(()).unwrap();
        });
        let spent = lane.spent();
        assert!(spent.starved >= Duration::from_millis(20));
        // Nobody waits any more.
        assert_eq!(spent.starved, lane.spent().starved);
    }
}
