//! What all framed connections share: the loading threads, the memory for large parts, the parts
//! that are under way, and the producers that wait for an answer.

use crate::counts::Counts;
use crate::frames::answers::Answers;
use fetch::Spool;
use handoff::frames::Answer;
use load::LoadedRepo;
use load::loading::{Loaders, Settle};
use observe::Counter;
use process::{Budget, Stop};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the parts of all framed connections go. It knows which connection waits for which answer.
#[derive(Clone)]
pub(crate) struct PartStore(pub(super) Arc<Shelf>);

/// What is in it.
pub(super) struct Shelf {
    pub(super) url: String,
    pub(super) schema: String,
    pub(super) indexed: Vec<(String, String)>,
    pub(super) loaders: Loaders,
    /// Rows of a chunk, in bytes. The unique keys of a part may take as much.
    pub(super) chunk: usize,
    /// Memory for the unique keys of larger parts: one of them has all of it.
    pub(super) keys: Budget,
    /// For the entries of parts that are not complete.
    pub(super) spool: Spool,
    connections: Mutex<HashMap<i64, Arc<dyn Answers>>>,
    /// Accounts of which a part is on its way to the database.
    under_way: Mutex<HashSet<String>>,
    next: AtomicI64,
    broken: Mutex<Option<String>>,
    pub(super) counts: Counts,
    pub(super) refused: Counter,
    pub(super) part_timeout: Duration,
    pub(super) stop: Stop,
}

/// What parts may take.
pub(crate) struct PartLimits {
    /// Rows of a chunk, in bytes.
    pub(crate) chunk: usize,
    /// Unique keys of the parts that are larger than a chunk, in bytes, over all of them.
    pub(crate) keys: usize,
    /// For the entries of parts that are not complete.
    pub(crate) spool: Spool,
    /// Time in which something of a part has to come.
    pub(crate) timeout: Duration,
}

impl PartStore {
    pub(crate) fn new(
        url: &str,
        schema: &str,
        indexed: Vec<(String, String)>,
        loaders: Loaders,
        limits: PartLimits,
        counts: &Counts,
        stop: &Stop,
    ) -> Self {
        Self(Arc::new(Shelf {
            url: url.to_owned(),
            schema: schema.to_owned(),
            indexed,
            loaders,
            chunk: limits.chunk,
            keys: Budget::new(limits.keys),
            spool: limits.spool,
            connections: Mutex::default(),
            under_way: Mutex::default(),
            next: AtomicI64::new(1),
            broken: Mutex::default(),
            counts: counts.clone(),
            refused: Counter::counted("parts_refused", "refused"),
            part_timeout: limits.timeout,
            stop: stop.clone(),
        }))
    }

    pub(crate) fn loaders(&self) -> &Loaders {
        &self.0.loaders
    }

    /// The spool for the entries of parts.
    pub(crate) fn spool(&self) -> &Spool {
        &self.0.spool
    }

    /// Parts that were refused.
    pub(crate) fn refused_parts(&self) -> u64 {
        self.0.refused.get()
    }

    /// Why storing ended, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        self.0
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn lock_under_way(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves an account for the part at hand; false if another part of it is under way.
    pub(super) fn begin(&self, did: &str) -> bool {
        self.lock_under_way().insert(did.to_owned())
    }

    /// Nothing of an account is under way any more.
    pub(super) fn settle(&self, did: &str) {
        self.lock_under_way().remove(did);
    }

    fn lock_connections(&self) -> MutexGuard<'_, HashMap<i64, Arc<dyn Answers>>> {
        self.0
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, number: i64) -> Option<Arc<dyn Answers>> {
        self.lock_connections().get(&number).cloned()
    }

    /// Whether the consumer was stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.is_set()
    }

    /// An entry of a part has come.
    pub(crate) fn count_entry(&self, bytes: u64) {
        self.0.counts.entry(bytes);
    }

    /// How long next to nothing may come of a part that has begun.
    pub(crate) fn part_timeout(&self) -> Duration {
        self.0.part_timeout
    }

    /// A producer connects; its number.
    pub(crate) fn connect(&self, peer: Arc<dyn Answers>) -> i64 {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.lock_connections().insert(number, peer);
        number
    }

    /// A producer's connection has ended.
    pub(crate) fn disconnect(&self, number: i64) {
        self.lock_connections().remove(&number);
    }
}

impl Settle for PartStore {
    fn stored(&self, repo: &LoadedRepo) {
        self.settle(&repo.did);
        self.0.counts.part_stored(repo);
        if let Some(connection) = self.connection(repo.lease) {
            connection.answer(&Answer::Stored {
                did: repo.did.clone(),
                rev: repo.rev.clone(),
            });
        }
    }

    fn lost(&self, repo: &LoadedRepo) {
        self.settle(&repo.did);
        if let Some(connection) = self.connection(repo.lease) {
            connection.mark_lost();
        }
    }

    fn refused(&self, repo: &LoadedRepo, _: &'static str, why: String) {
        self.settle(&repo.did);
        self.0.refused.add(1);
        if let Some(connection) = self.connection(repo.lease) {
            connection.answer(&Answer::Refused {
                did: repo.did.clone(),
                rev: repo.rev.clone(),
                error: why,
            });
        }
    }

    fn break_off(&self, why: String) {
        self.0
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.0.stop.set();
    }

    fn is_broken(&self) -> bool {
        self.broken().is_some()
    }
}
