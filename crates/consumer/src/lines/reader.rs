//! One producer's connection: lines to batches.

use crate::connections::Silent;
use crate::counts::Counts;
use crate::frames::PartStore;
use crate::lines::batch::Batch;
use crate::lines::rejects::Rejects;
use crate::lines::shards::{Gone, Handles};
use handoff::account::Account;
use handoff::frames::MAGIC;
use handoff::line::{LineError, Message};
use handoff::lines::{Line, Lines, Step};
use handoff::send::COMMITTED;
use load::Accounts;
use observe::Workers;
use process::Stop;
use rows::{Collection, Record};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What is stored is committed after so long at the latest, whatever comes meanwhile: it is in a
/// transaction of the AppView's database, and other producers' rows are in the same one.
const LONGEST_OPEN: Duration = Duration::from_secs(10);
/// Without a line for so long, what is pending is stored and committed.
const IDLE: Duration = Duration::from_millis(500);

/// Bytes of rows that the unfinished batches of all producers hold; past the most, whoever adds to
/// them stores its largest as it is.
pub(crate) struct Pending {
    bytes: AtomicUsize,
    most: usize,
}

impl Pending {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            most,
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most
    }
}

/// Reads one connection.
pub(crate) struct LineReader {
    batch_size: usize,
    shards: Handles,
    /// Unfinished batches, by collection and shard, so that storing them in order keeps all shards
    /// busy.
    pending: BTreeMap<(Collection, usize), Batch>,
    all_pending: Arc<Pending>,
    accounts: Accounts,
    /// Since when something is stored and not committed.
    dirty: Option<Instant>,
    counts: Counts,
    rejects: Arc<Rejects>,
    stop: Stop,
    workers: Workers,
    parts: PartStore,
}

impl Drop for LineReader {
    fn drop(&mut self) {
        // What a connection that broke off leaves behind is gone.
        self.all_pending
            .sub(self.pending.values().map(Batch::bytes).sum());
    }
}

/// The first byte of a stream; it tells which form it is in. Nothing if none comes.
fn first_byte(mut stream: &UnixStream, stop: &Stop) -> Option<u8> {
    let mut byte = [0];
    while !stop.is_set() {
        match stream.read(&mut byte) {
            Ok(0) => {
                // All of nothing is committed.
                drop(stream.write_all(COMMITTED));
                return None;
            }
            Ok(_) => return Some(byte[0]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return None,
        }
    }
    None
}

impl LineReader {
    pub(crate) fn new(
        batch_size: usize,
        (shards, all_pending): (Handles, &Arc<Pending>),
        counts: &Counts,
        rejects: &Arc<Rejects>,
        stop: &Stop,
        workers: &Workers,
        parts: &PartStore,
    ) -> Self {
        Self {
            batch_size,
            shards,
            pending: BTreeMap::new(),
            all_pending: Arc::clone(all_pending),
            accounts: Accounts::default(),
            dirty: None,
            counts: counts.clone(),
            rejects: Arc::clone(rejects),
            stop: stop.clone(),
            workers: workers.clone(),
            parts: parts.clone(),
        }
    }

    /// Reads until the producer ends its stream, or somebody stops it; closes the stream when all
    /// is committed.
    pub(crate) fn run(mut self, stream: UnixStream, silent: &Silent) {
        let worker = self.workers.start("reading lines");
        let outcome = self.read(stream, silent, &worker);
        if let Err(Gone) = outcome {
            // The thread that is gone tells why.
            self.stop.set();
        }
    }

    fn read(
        &mut self,
        stream: UnixStream,
        silent: &Silent,
        worker: &observe::Worker,
    ) -> Result<(), Gone> {
        if let Err(error) = stream.set_read_timeout(Some(IDLE)) {
            observe::log!("a producer's connection cannot be read: {error}");
            return Ok(());
        }
        let first = first_byte(&stream, &self.stop);
        drop(silent.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(first) = first else {
            return Ok(());
        };
        if Some(&first) == MAGIC.first() {
            worker.doing("reading frames");
            self.parts.read_from(&stream, &[first]);
            return Ok(());
        }
        let mut lines = Lines::new(stream, &[first]);
        let mut ended = false;
        while !self.stop.is_set() {
            // A producer that drips is never idle, and must not keep a transaction open.
            if self
                .dirty
                .is_some_and(|since| since.elapsed() > LONGEST_OPEN)
            {
                self.commit()?;
            }
            let mut outcome = Ok(());
            let step = lines.step(|line| {
                if outcome.is_ok() {
                    outcome = self.take(&line);
                }
            });
            outcome?;
            match step {
                Ok(Step::Read) => {}
                Ok(Step::Idle) => {
                    worker.doing("waiting for lines");
                    self.commit()?;
                }
                Ok(Step::End) => {
                    ended = true;
                    break;
                }
                Err(error) => {
                    observe::log!("a producer's connection broke: {error}");
                    break;
                }
            }
        }
        worker.doing("committing what was read");
        self.commit()?;
        if ended {
            // A producer that is gone does not need it; the commit stands.
            drop(lines.stream().write_all(COMMITTED));
        }
        Ok(())
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), Gone> {
        self.counts.line();
        let line = match line {
            Line::Complete(line) => line,
            Line::TooLong(start) => {
                self.reject(start, &LineError::TooLong.to_string());
                return Ok(());
            }
        };
        self.counts.line_bytes(line.len() as u64 + 1);
        if let Some(account) = Account::parse(line) {
            match account {
                Ok(account) => return self.add_account(account),
                Err(error) => {
                    self.reject(line, &error);
                    return Ok(());
                }
            }
        }
        let message = match Message::parse(line) {
            Ok(message) => message,
            Err(error) => {
                self.reject(line, &error.to_string());
                return Ok(());
            }
        };
        match message.record() {
            Some(record) => self.add(&record, line),
            None => {
                self.counts.not_indexed();
                Ok(())
            }
        }
    }

    fn add(&mut self, record: &Record<'_>, line: &[u8]) -> Result<(), Gone> {
        let key = (record.collection, self.shards.of(record));
        let batch = self
            .pending
            .entry(key)
            .or_insert_with(|| Batch::new(record.collection));
        let before = batch.bytes();
        match batch.add(record) {
            Ok(true) => {}
            Ok(false) => self.counts.repeated_record(),
            Err(reject) => {
                self.reject(line, &reject.to_string());
                return Ok(());
            }
        }
        self.all_pending.add(batch.bytes() - before);
        if batch.records() >= self.batch_size {
            self.store(key)?;
        }
        while self.all_pending.is_full() {
            let largest = self
                .pending
                .iter()
                .max_by_key(|(_, batch)| batch.bytes())
                .map(|(key, _)| *key);
            let Some(largest) = largest else { break };
            self.store(largest)?;
        }
        Ok(())
    }

    fn add_account(&mut self, account: Account) -> Result<(), Gone> {
        self.counts.account();
        match account {
            Account::Repo { did, rev, commit } => self.accounts.repo(&did, &rev, &commit),
            Account::Status { did, status } => self.accounts.status(&did, &status),
        }
        if self.accounts.len() >= self.batch_size {
            self.store_accounts()?;
        }
        Ok(())
    }

    /// Accounts all go to one connection: lines about the same one come to the database in their
    /// order.
    fn store_accounts(&mut self) -> Result<(), Gone> {
        let accounts = std::mem::take(&mut self.accounts);
        if accounts.len() == 0 {
            return Ok(());
        }
        self.dirty.get_or_insert_with(Instant::now);
        self.shards.store_accounts(accounts)
    }

    fn store(&mut self, key: (Collection, usize)) -> Result<(), Gone> {
        let Some(batch) = self
            .pending
            .remove(&key)
            .filter(|batch| batch.records() > 0)
        else {
            return Ok(());
        };
        self.all_pending.sub(batch.bytes());
        self.dirty.get_or_insert_with(Instant::now);
        self.shards.store(key.1, batch)
    }

    fn store_all(&mut self) -> Result<(), Gone> {
        let keys: Vec<_> = self.pending.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.store(key))?;
        self.store_accounts()
    }

    /// Stores all that is pending and commits it.
    fn commit(&mut self) -> Result<(), Gone> {
        self.store_all()?;
        if self.dirty.take().is_some() {
            self.shards.commit()
        } else {
            Ok(())
        }
    }

    fn reject(&self, line: &[u8], reason: &str) {
        self.counts.rejected();
        self.rejects.add(line, reason);
    }
}
