//! What the stages of a run share: counts, repos under way, what became of them, whether to stop.

use crate::run::loading::Settle;
use crate::signals::Stop;
use ledger::repos::Note;
use load::{DbError, LoadedRepo};
use observe::Counter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// All of it.
pub(crate) struct Board {
    pub(crate) done: Counter,
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) inactive: Counter,
    pub(crate) failed: Counter,
    pub(crate) unchanged: Counter,
    pub(crate) retried: Counter,
    pub(crate) again: Counter,
    /// Repos that were handed out, and of which nothing is settled yet.
    under_way: AtomicU64,
    notes: Mutex<Vec<Note>>,
    broken: Mutex<Option<String>>,
    pub(crate) stop: Stop,
}

impl Board {
    pub(crate) fn new(stop: &Stop) -> Self {
        Self {
            done: Counter::with_rate("repos done"),
            records: Counter::with_rate("records"),
            bytes: Counter::with_rate("bytes"),
            inactive: Counter::plain("inactive"),
            failed: Counter::plain("failed"),
            unchanged: Counter::plain("unchanged"),
            retried: Counter::plain("retries"),
            again: Counter::plain("to be fetched again"),
            under_way: AtomicU64::new(0),
            notes: Mutex::new(Vec::new()),
            broken: Mutex::new(None),
            stop: stop.clone(),
        }
    }

    /// For the progress; the first one is measured against the number of open repos.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        [
            &self.done,
            &self.records,
            &self.bytes,
            &self.inactive,
            &self.failed,
            &self.unchanged,
            &self.retried,
            &self.again,
        ]
        .into_iter()
        .cloned()
        .collect()
    }

    pub(crate) fn handed_out(&self) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::SeqCst)
    }

    fn settled(&self, repos: u64) {
        // Never below zero, whatever broke off.
        let less = |under_way: u64| Some(under_way.saturating_sub(repos));
        let _before = self
            .under_way
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// A repo is stored.
    pub(crate) fn stored(&self, records: u64, bytes: u64) {
        self.done.add(1);
        self.records.add(records);
        self.bytes.add(bytes);
        self.settled(1);
    }

    /// What came of a repo is for the ledger; it is settled when it is there ([`Board::noted`]).
    pub(crate) fn note(&self, note: Note) {
        self.lock_notes().push(note);
    }

    fn lock_notes(&self) -> std::sync::MutexGuard<'_, Vec<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written to the ledger.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.lock_notes())
    }

    /// Notes that could not be written.
    pub(crate) fn give_back(&self, notes: Vec<Note>) {
        self.lock_notes().extend(notes);
    }

    /// Notes are in the ledger.
    pub(crate) fn noted(&self, notes: &[Note]) {
        for note in notes {
            self.done.add(1);
            match note.state {
                "failed" => self.failed.add(1),
                "loaded" => self.unchanged.add(1),
                _ => self.inactive.add(1),
            }
        }
        self.settled(notes.len() as u64);
    }

    /// A repo that was counted could not be handed out after all.
    pub(crate) fn not_handed_out(&self) {
        self.settled(1);
    }

    /// Repos were lost on the way: they are still open in the ledger.
    pub(crate) fn lost(&self, repos: u64) {
        self.again.add(repos);
        self.settled(repos);
    }

    /// Something that waiting does not mend: everything stops.
    pub(crate) fn break_off(&self, why: impl Into<String>) {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why.into());
        self.stop.set();
    }

    /// Why it broke off, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Settle for Arc<Board> {
    fn stored(&self, repo: &LoadedRepo) {
        Board::stored(self, repo.records, repo.car_bytes);
    }

    fn lost(&self, _: &LoadedRepo) {
        Board::lost(self, 1);
    }

    fn refused(&self, repo: &LoadedRepo, code: &'static str, why: String) {
        self.note(Note {
            did: repo.did.clone(),
            lease: repo.lease,
            state: "failed",
            code: Some(code),
            error: Some(why),
        });
    }

    fn break_off(&self, why: String) {
        Board::break_off(self, why);
    }

    fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    fn is_stopping(&self) -> bool {
        self.stop.is_set()
    }
}

/// Tells of a wait for the database, not too often, and waits.
pub(crate) fn wait_for_database(error: &DbError, tries: u32) {
    if tries.is_power_of_two() {
        eprintln!("waiting for the database, try {tries}: {error}");
    }
    std::thread::sleep(Duration::from_millis(100u64 << tries.min(6)));
}

/// A number of bytes that threads share.
pub(crate) struct Budget {
    total: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// A part of a budget, until it is dropped.
pub(crate) struct Share<'b>(&'b Budget, usize);

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            free: Mutex::new(total),
            freed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free; more than there are count as all there are.
    pub(crate) fn take(&self, bytes: usize) -> Share<'_> {
        let bytes = bytes.min(self.total);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Share(self, bytes)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += self.1;
        self.0.freed.notify_all();
    }
}
