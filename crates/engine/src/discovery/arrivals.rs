//! What a pass of discovery tells the load that runs beside it: that repos were stored, and when
//! no more will come.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The news of a pass, as far as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether it has begun: the position of the relay is known, if it can be.
    pub(crate) has_begun: bool,
    /// Whether another process runs it: what it stores is not told here.
    pub(crate) is_elsewhere: bool,
    /// Grows with each page that was stored.
    pub(crate) pages: u64,
    /// Whether the pass is over, however it ended: no repo comes any more.
    pub(crate) is_over: bool,
    /// The relay's sequence number before the pass began, once that is known.
    pub(crate) seq: Option<i64>,
}

/// Where a pass leaves its news.
#[derive(Default)]
pub(crate) struct Arrivals {
    news: Mutex<News>,
    changed: Condvar,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The pass begins; where the relay is.
    pub(crate) fn begin(&self, seq: Option<i64>) {
        self.change(|news| {
            (news.has_begun, news.is_elsewhere, news.seq) = (true, false, seq);
        });
    }

    /// The pass of another process is waited for, which may store something at any time.
    pub(crate) fn join(&self) {
        self.change(|news| (news.has_begun, news.is_elsewhere) = (true, true));
    }

    /// A page was stored.
    pub(crate) fn stored(&self) {
        self.change(|news| news.pages += 1);
    }

    /// The pass is over.
    pub(crate) fn end(&self) {
        self.change(|news| news.is_over = true);
    }

    /// The news so far.
    pub(crate) fn news(&self) -> News {
        *self.lock()
    }

    /// Waits for other news than `known`, but not for longer than `most`.
    pub(crate) fn wait(&self, known: News, most: Duration) {
        let same = |news: &mut News| *news == known;
        drop(self.changed.wait_timeout_while(self.lock(), most, same));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hears_of_pages_and_of_the_end() {
        let arrivals = Arrivals::default();
        let before = arrivals.news();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                arrivals.begin(Some(7));
                arrivals.stored();
                arrivals.end();
            });
            while !arrivals.news().is_over {
                arrivals.wait(before, Duration::from_secs(60));
            }
        });
        let after = News {
            has_begun: true,
            is_elsewhere: false,
            pages: 1,
            is_over: true,
            seq: Some(7),
        };
        assert_eq!(arrivals.news(), after);
        // Without news it ends all the same.
        arrivals.wait(after, Duration::ZERO);
    }
}
