//! The stop flag: work that looks at it ends well, and after [`hurry`] nothing is waited for any
//! more.

use pg::{Halt, Waits};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A thread that waits looks this often whether there is a hurry.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether the process is to end now.
static HURRIED: AtomicBool = AtomicBool::new(false);

/// How much of a hurry there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hurry {
    No,
    /// What is under way may end.
    Stop,
    /// Nothing is waited for any more.
    Now,
}

/// Whether to stop.
#[derive(Clone, Default)]
pub struct Stop(Arc<Flag>);

struct Flag {
    hurry: watch::Sender<Hurry>,
    /// Flags of parts of the work, which are set with this one.
    parts: Mutex<Vec<Weak<Flag>>>,
}

impl Default for Flag {
    fn default() -> Self {
        Self {
            hurry: watch::channel(Hurry::No).0,
            parts: Mutex::default(),
        }
    }
}

impl Flag {
    fn at_least(&self, hurry: Hurry) {
        self.hurry.send_if_modified(|now| {
            let is_more = hurry > *now;
            *now = hurry.max(*now);
            is_more
        });
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| match part.upgrade() {
            Some(part) => {
                part.at_least(hurry);
                true
            }
            None => false,
        });
    }
}

impl Stop {
    /// Whether somebody asked to stop.
    pub fn is_set(&self) -> bool {
        *self.0.hurry.borrow() >= Hurry::Stop
    }

    /// Asks to stop, for the process's own reasons.
    pub fn set(&self) {
        self.0.at_least(Hurry::Stop);
    }

    /// The flag of a part of the work: whoever sets it ends that part alone, and whoever sets this
    /// one ends the part, too.
    #[must_use]
    pub fn part(&self) -> Self {
        let part = Self::default();
        let mut parts = (self.0.parts.lock()).unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part.0));
        drop(parts);
        // It may have been set before the part was among its parts.
        part.0.at_least(*self.0.hurry.borrow());
        part
    }

    /// Comes back when somebody asked to stop.
    pub async fn wait(&self) {
        self.wait_for(Hurry::Stop).await;
    }

    /// Comes back when nothing is waited for any more.
    pub async fn wait_until_urgent(&self) {
        self.wait_for(Hurry::Now).await;
    }

    async fn wait_for(&self, hurry: Hurry) {
        // The sender is this value's own: it is there as long as this waits.
        drop(self.0.hurry.subscribe().wait_for(|now| *now >= hurry).await);
    }
}

/// Whether the process is to end now: nothing is retried, and an error may come from that.
pub fn is_hurried() -> bool {
    HURRIED.load(Ordering::SeqCst)
}

/// Ends all waiting: from now on [`is_hurried`] holds.
pub fn hurry(stop: &Stop) {
    HURRIED.store(true, Ordering::SeqCst);
    stop.0.at_least(Hurry::Now);
}

/// Sleeps, not longer than until the process is to end.
pub fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !is_hurried() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

impl Halt for Stop {
    fn is_set(&self) -> bool {
        Self::is_set(self)
    }
}

impl Stop {
    /// A wait that ends when somebody asks to stop, and says on stderr what it waits for.
    pub fn waits(&self) -> Waits<'_> {
        Waits {
            stop: self,
            ..PATIENT
        }
    }
}

/// A wait that says on stderr what it waits for; before there is a [`Stop`], a signal ends the
/// process.
pub const PATIENT: Waits<'static> = Waits {
    stop: &|| false,
    say: &|line| tracing::warn!("{line}"),
};

/// A wait that goes on after somebody asked to stop, until [`hurry`]: for work that has to end
/// well.
pub const UNTIL_HURRIED: Waits<'static> = Waits {
    stop: &is_hurried,
    say: &|line| tracing::warn!("{line}"),
};

#[cfg(test)]
mod tests {
    use super::Stop;

    #[test]
    fn a_part_ends_with_the_whole_and_not_the_other_way_round() {
        let whole = Stop::default();
        let (first, second) = (whole.part(), whole.part());
        first.set();
        assert!(first.is_set() && !whole.is_set() && !second.is_set());
        whole.set();
        assert!(second.is_set() && whole.part().is_set());
    }
}
