//! A repo that passed every check, shared by the sockets that carry it.

use atrepo::{Repo, RepoSummary};
use discover::did_file::DidLine;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use tokio::sync::OwnedSemaphorePermit;

/// A repo that passed every check. It goes when the last socket is done with it.
pub(crate) struct CheckedRepo {
    pub(crate) line: DidLine,
    pub(crate) repo: Repo<fetch::Body>,
    pub(crate) summary: RepoSummary,
    /// Sockets that have it.
    pub(crate) written: AtomicUsize,
    /// Whether some socket will never have it.
    pub(crate) failed: AtomicBool,
    /// Records that went out, and records that could not be records, over all sockets.
    pub(crate) records: AtomicU64,
    pub(crate) unusable: AtomicU64,
    /// Its share of the buffer, until every socket has it.
    share: Mutex<Option<OwnedSemaphorePermit>>,
    /// The share of its index, which is there as long as the repo.
    _index: OwnedSemaphorePermit,
}

impl CheckedRepo {
    pub(crate) fn new(
        line: DidLine,
        (repo, summary): (Repo<fetch::Body>, RepoSummary),
        (share, index): (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Self {
        Self {
            line,
            repo,
            summary,
            written: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            records: AtomicU64::new(0),
            unusable: AtomicU64::new(0),
            share: Mutex::new(Some(share)),
            _index: index,
        }
    }

    /// Gives its share of the buffer back.
    pub(crate) fn release(&self) {
        self.share
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Size of its CAR in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.repo.car().len() as u64
    }
}
