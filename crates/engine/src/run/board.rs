//! The board of a run, which all of its stages share: counts, repos in progress, their results, and
//! whether to stop.

use crate::run::held::Held;
use crate::run::stragglers::Progressed;
use archive::ArchiveWriter;
use ledger::identity::DocumentNote;
use ledger::repos::{Moved, Note};
use ledger::states::State;
use load::LoadedRepo;
use load::loading::Settle;
use observe::Counter;
use process::Stop;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The result for a repo that was not stored.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// It has this state.
    Noted(Note),
    /// It lies elsewhere, and is still open.
    Moved(Moved),
}

impl Settled {
    /// The lease under which the repo was handed out.
    pub(crate) fn lease(&self) -> i64 {
        match self {
            Self::Noted(note) => note.lease,
            Self::Moved(moved) => moved.lease,
        }
    }
}

/// A repo that waits for its host.
pub(crate) struct Asking<'b>(&'b Board);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a host gave of the repos that it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostYield {
    /// Stored, or as they were stored.
    pub(crate) good: u64,
    /// Not there, as far as the host says: not found, or not active.
    pub(crate) absent: u64,
    pub(crate) failed: u64,
    /// Records and bytes of what was stored.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Why one failed last.
    pub(crate) trouble: Option<&'static str>,
}

impl HostYield {
    /// Whether the host gives too little for what it lists: most of it is not there or fails. A
    /// failure costs attempts and their time, a host that says that it does not have an account
    /// costs one answer.
    pub(crate) fn is_little(self) -> bool {
        self.absent + self.failed * 10 > FREE + self.good
    }
}

/// So many accounts of a host may not be there, or a tenth as many fail, whatever else it gives.
const FREE: u64 = 1000;

/// All of it.
pub(crate) struct Board {
    pub(crate) done: Counter,
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) inactive: Counter,
    pub(crate) failed: Counter,
    pub(crate) moved: Counter,
    pub(crate) unchanged: Counter,
    /// Repos that a stream has, for consumers to store.
    pub(crate) sent: Counter,
    pub(crate) retried: Counter,
    pub(crate) again: Counter,
    /// Commits of a rev that is stored with another one.
    pub(crate) forks: Counter,
    /// Repos that were handed out, and of which nothing is settled yet.
    under_way: AtomicU64,
    /// Those of them that wait for a host, or for its answer.
    asking: AtomicU64,
    /// What is under way by the leases of their hosts.
    by_lease: Mutex<HashMap<i64, u64>>,
    /// What their hosts gave, by the same.
    yields: Mutex<HashMap<i64, HostYield>>,
    notes: Mutex<Vec<Settled>>,
    documents: Mutex<Vec<DocumentNote>>,
    broken: Mutex<Option<String>>,
    /// The archive that what is fetched is added to.
    pub(crate) keep: Option<Arc<Mutex<ArchiveWriter>>>,
    pub(crate) stop: Stop,
    /// The leases under which hosts are asked.
    pub(crate) held: Held,
}

impl Board {
    pub(crate) fn new(stop: &Stop, keep: Option<Arc<Mutex<ArchiveWriter>>>) -> Self {
        Self {
            done: Counter::rated("repos_done", "repos done"),
            records: Counter::rated("records", "records"),
            bytes: Counter::bytes("bytes"),
            inactive: Counter::counted("repos_inactive", "inactive"),
            failed: Counter::counted("repos_failed", "failed"),
            moved: Counter::counted("repos_moved", "moved"),
            unchanged: Counter::counted("repos_unchanged", "unchanged"),
            sent: Counter::counted("repos_sent", "sent"),
            retried: Counter::counted("retries", "retries"),
            again: Counter::counted("repos_lost", "to fetch again"),
            forks: Counter::counted("forks", "other commits of a stored rev"),
            under_way: AtomicU64::new(0),
            asking: AtomicU64::new(0),
            by_lease: Mutex::default(),
            yields: Mutex::default(),
            notes: Mutex::new(Vec::new()),
            documents: Mutex::default(),
            broken: Mutex::new(None),
            keep,
            stop: stop.clone(),
            held: Held::default(),
        }
    }

    /// For the progress; the first one is measured against the number of pending repos.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        [
            &self.done,
            &self.records,
            &self.bytes,
            &self.inactive,
            &self.failed,
            &self.moved,
            &self.unchanged,
            &self.sent,
            &self.retried,
            &self.again,
            &self.forks,
        ]
        .into_iter()
        .cloned()
        .collect()
    }

    pub(crate) fn on_handed_out(&self, lease: i64) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        *self.lock_leases().entry(lease).or_default() += 1;
    }

    fn lock_leases(&self) -> std::sync::MutexGuard<'_, HashMap<i64, u64>> {
        self.by_lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repos that were handed out under a lease, and of which nothing is settled yet.
    pub(crate) fn under_way_at(&self, lease: i64) -> u64 {
        self.lock_leases().get(&lease).copied().unwrap_or(0)
    }

    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::SeqCst)
    }

    fn settle(&self, lease: i64) {
        let mut by_lease = self.lock_leases();
        if let Some(count) = by_lease.get_mut(&lease) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_lease.remove(&lease);
            }
        }
        drop(by_lease);
        // Never below zero, whatever broke off.
        let less = |under_way: u64| Some(under_way.saturating_sub(1));
        let _before = self
            .under_way
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// A repo waits for a host, until the value is dropped.
    pub(crate) fn start_asking(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::SeqCst);
        Asking(self)
    }

    /// Repos that wait for a host or an archive.
    pub(crate) fn asking(&self) -> u64 {
        self.asking.load(Ordering::SeqCst)
    }

    /// The result of all repos so far.
    pub(crate) fn progressed(&self) -> Progressed {
        let (repos, _) = self.stored_and_failed();
        let asking = self.asking();
        Progressed {
            repos,
            bytes: self.bytes.get(),
            in_work: self.under_way().saturating_sub(asking),
        }
    }

    /// Repos that were stored, or are as they were stored, and those that failed.
    pub(crate) fn stored_and_failed(&self) -> (u64, u64) {
        let stored = self
            .lock_yields()
            .values()
            .map(|yielded| yielded.good)
            .sum();
        (stored, self.failed.get())
    }

    /// What a host gave so far, under its lease.
    pub(crate) fn yield_of(&self, lease: i64) -> HostYield {
        self.lock_yields().get(&lease).copied().unwrap_or_default()
    }

    fn lock_yields(&self) -> std::sync::MutexGuard<'_, HashMap<i64, HostYield>> {
        self.yields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A repo is stored.
    pub(crate) fn on_stored(&self, repo: &LoadedRepo) {
        self.done.add(1);
        self.records.add(repo.records);
        self.bytes.add(repo.car_bytes);
        let mut yields = self.lock_yields();
        let of_host = yields.entry(repo.lease).or_default();
        of_host.good += 1;
        of_host.records += repo.records;
        of_host.bytes += repo.car_bytes;
        drop(yields);
        self.settle(repo.lease);
    }

    /// A stream has a repo of so many records and bytes. It is settled when the ledger knows.
    pub(crate) fn on_sent(&self, did: &str, lease: i64, records: u64, bytes: u64) {
        self.records.add(records);
        self.bytes.add(bytes);
        let mut yields = self.lock_yields();
        let of_host = yields.entry(lease).or_default();
        of_host.records += records;
        of_host.bytes += bytes;
        drop(yields);
        self.note(Note {
            did: did.to_owned(),
            lease,
            state: State::Partial,
            code: None,
            error: None,
            proof: None,
        });
    }

    /// The result of a repo is for the ledger; it is settled when it is there
    /// ([`Board::on_noted`]).
    pub(crate) fn note(&self, note: Note) {
        self.lock_notes().push(Settled::Noted(note));
    }

    /// A repo lies elsewhere; it is settled when the ledger knows.
    pub(crate) fn note_moved(&self, moved: Moved) {
        self.lock_notes().push(Settled::Moved(moved));
    }

    fn lock_notes(&self) -> std::sync::MutexGuard<'_, Vec<Settled>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document was asked for, and is good: the ledger keeps it.
    pub(crate) fn note_document(&self, document: DocumentNote) {
        self.lock_documents().push(document);
    }

    fn lock_documents(&self) -> std::sync::MutexGuard<'_, Vec<DocumentNote>> {
        self.documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents that are to be written to the ledger. What of them is lost is asked for once more.
    pub(crate) fn take_documents(&self) -> Vec<DocumentNote> {
        std::mem::take(&mut *self.lock_documents())
    }

    /// What is to be written to the ledger.
    pub(crate) fn take_notes(&self) -> Vec<Settled> {
        std::mem::take(&mut *self.lock_notes())
    }

    /// Notes that could not be written.
    pub(crate) fn return_notes(&self, notes: Vec<Settled>) {
        self.lock_notes().extend(notes);
    }

    /// Notes are in the ledger.
    pub(crate) fn on_noted(&self, notes: &[Settled]) {
        for note in notes {
            match note {
                Settled::Noted(note) => {
                    self.done.add(1);
                    let mut yields = self.lock_yields();
                    let of_host = yields.entry(note.lease).or_default();
                    match note.state {
                        State::Failed => {
                            of_host.failed += 1;
                            of_host.trouble = note.code.or(of_host.trouble);
                        }
                        State::Loaded | State::Partial => of_host.good += 1,
                        _ => of_host.absent += 1,
                    }
                    drop(yields);
                    match note.state {
                        State::Failed => self.failed.add(1),
                        State::Loaded => self.unchanged.add(1),
                        State::Partial => self.sent.add(1),
                        _ => self.inactive.add(1),
                    }
                    self.settle(note.lease);
                }
                Settled::Moved(moved) => {
                    self.moved.add(1);
                    self.settle(moved.lease);
                }
            }
        }
    }

    /// All repos of a host that is away are noted as failed.
    pub(crate) fn on_host_failed(&self, repos: u64) {
        self.done.add(repos);
        self.failed.add(repos);
    }

    /// A repo was lost on the way: it is still open in the ledger.
    pub(crate) fn on_lost(&self, lease: i64) {
        self.again.add(1);
        self.settle(lease);
    }

    /// Rows were lost that belong to so many repos; which is not known any more.
    pub(crate) fn on_some_lost(&self, repos: u64) {
        self.again.add(repos);
        let less = |under_way: u64| Some(under_way.saturating_sub(repos));
        let _before = self
            .under_way
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// Nothing is under way: whatever is counted by leases is of repos that were lost.
    pub(crate) fn forget_leases(&self) {
        self.lock_leases().clear();
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
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Settle for Board {
    fn stored(&self, repo: &LoadedRepo) {
        Board::on_stored(self, repo);
    }

    fn lost(&self, repo: &LoadedRepo) {
        Board::on_lost(self, repo.lease);
    }

    fn refused(&self, repo: &LoadedRepo, code: &'static str, why: String) {
        self.note(Note {
            did: repo.did.clone(),
            lease: repo.lease,
            state: State::Failed,
            code: Some(code),
            error: Some(why),
            proof: None,
        });
    }

    fn break_off(&self, why: String) {
        Board::break_off(self, why);
    }

    fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    /// What is loaded is in the archive, too, whatever stops the machine.
    fn before_store(&self) -> Result<(), String> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        ArchiveWriter::sync(keep).map_err(|error| error.to_string())
    }
}
