//! A producer's connection in the line form: turns lines into batches.

use crate::counts::Counts;
use crate::lines::batch::Batch;
use crate::lines::rejects::Rejects;
use crate::lines::shards::{ShardLost, ShardSenders};
use handoff::account::Account;
use handoff::line::{LineError, Message};
use handoff::lines::{Line, Lines, Step};
use handoff::send::COMMITTED;
use load::Accounts;
use observe::Worker;
use process::Stop;
use rows::{Collection, Record};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Where the records of all connections that send lines go.
#[derive(Clone)]
pub(crate) struct LineStore {
    /// Records per batch.
    pub(crate) batch_size: usize,
    pub(crate) shards: ShardSenders,
    pub(crate) pending: Arc<Pending>,
    pub(crate) counts: Counts,
    pub(crate) rejects: Arc<Rejects>,
    pub(crate) stop: Stop,
}

/// A connection that is read.
pub(crate) struct LineReader {
    store: LineStore,
    /// Unfinished batches, by collection and shard, so that storing them in order keeps all shards
    /// busy.
    batches: BTreeMap<(Collection, usize), Batch>,
    accounts: Accounts,
    /// Since when something is stored and not committed.
    dirty: Option<Instant>,
}

impl Drop for LineReader {
    fn drop(&mut self) {
        // What a connection that broke off leaves behind is gone.
        let left = self.batches.values().map(Batch::bytes).sum();
        self.store.pending.sub(left);
    }
}

impl LineReader {
    pub(crate) fn new(store: LineStore) -> Self {
        Self {
            store,
            batches: BTreeMap::new(),
            accounts: Accounts::default(),
            dirty: None,
        }
    }

    /// Reads a stream, whose first byte was read already, until the producer ends it or somebody
    /// stops it; closes it when all is committed. Calls `speaks` for each line.
    pub(crate) fn read(
        mut self,
        stream: UnixStream,
        first: u8,
        worker: &Worker,
        speaks: &dyn Fn(),
    ) {
        if let Err(error) = stream.set_read_timeout(Some(IDLE)) {
            tracing::warn!("a producer's connection cannot be read: {error}");
        } else if let Err(ShardLost) = self.read_lines(stream, first, worker, speaks) {
            // The thread that is lost reports why.
            self.store.stop.set();
        }
    }

    fn read_lines(
        &mut self,
        stream: UnixStream,
        first: u8,
        worker: &Worker,
        speaks: &dyn Fn(),
    ) -> Result<(), ShardLost> {
        let mut lines = Lines::new(stream, &[first]);
        let mut ended = false;
        while !self.store.stop.is_set() {
            // A producer that drips is never idle, and must not keep a transaction open.
            if self
                .dirty
                .is_some_and(|since| since.elapsed() > LONGEST_OPEN)
            {
                self.commit()?;
            }
            let mut outcome = Ok(());
            let step = lines.step(|line| {
                speaks();
                if outcome.is_ok() {
                    outcome = self.on_line(&line);
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
                    tracing::warn!("a producer's connection failed: {error}");
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

    fn on_line(&mut self, line: &Line<'_>) -> Result<(), ShardLost> {
        self.store.counts.line();
        let line = match line {
            Line::Complete(line) => line,
            Line::TooLong(start) => {
                self.reject(start, &LineError::TooLong.to_string());
                return Ok(());
            }
        };
        self.store.counts.line_bytes(line.len() as u64 + 1);
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
            Some(record) => self.add_record(&record, line),
            None => {
                self.store.counts.not_indexed();
                Ok(())
            }
        }
    }

    fn add_record(&mut self, record: &Record<'_>, line: &[u8]) -> Result<(), ShardLost> {
        let key = (record.collection, self.store.shards.shard_of(record));
        let batch = self
            .batches
            .entry(key)
            .or_insert_with(|| Batch::new(record.collection));
        let before = batch.bytes();
        match batch.add(record) {
            Ok(true) => {}
            Ok(false) => self.store.counts.repeated_record(),
            Err(reject) => {
                self.reject(line, &reject.to_string());
                return Ok(());
            }
        }
        self.store.pending.add(batch.bytes() - before);
        if batch.records() >= self.store.batch_size {
            self.store(key)?;
        }
        while self.store.pending.is_full() {
            let largest = self
                .batches
                .iter()
                .max_by_key(|(_, batch)| batch.bytes())
                .map(|(key, _)| *key);
            let Some(largest) = largest else { break };
            self.store(largest)?;
        }
        Ok(())
    }

    fn add_account(&mut self, account: Account) -> Result<(), ShardLost> {
        self.store.counts.account();
        match account {
            Account::Repo { did, rev, commit } => self.accounts.repo(&did, &rev, &commit),
            Account::Status { did, status } => self.accounts.status(&did, &status),
        }
        if self.accounts.len() >= self.store.batch_size {
            self.store_accounts()?;
        }
        Ok(())
    }

    /// Accounts all go to one connection: lines about the same one come to the database in their
    /// order.
    fn store_accounts(&mut self) -> Result<(), ShardLost> {
        let accounts = std::mem::take(&mut self.accounts);
        if accounts.len() == 0 {
            return Ok(());
        }
        self.dirty.get_or_insert_with(Instant::now);
        self.store.shards.store_accounts(accounts)
    }

    fn store(&mut self, key: (Collection, usize)) -> Result<(), ShardLost> {
        let Some(batch) = self
            .batches
            .remove(&key)
            .filter(|batch| batch.records() > 0)
        else {
            return Ok(());
        };
        self.store.pending.sub(batch.bytes());
        self.dirty.get_or_insert_with(Instant::now);
        self.store.shards.store(key.1, batch)
    }

    fn store_all(&mut self) -> Result<(), ShardLost> {
        let keys: Vec<_> = self.batches.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.store(key))?;
        self.store_accounts()
    }

    /// Stores all that is pending and commits it.
    fn commit(&mut self) -> Result<(), ShardLost> {
        self.store_all()?;
        if self.dirty.take().is_some() {
            self.store.shards.commit()
        } else {
            Ok(())
        }
    }

    fn reject(&self, line: &[u8], reason: &str) {
        self.store.counts.rejected();
        self.store.rejects.add(line, reason);
    }
}
