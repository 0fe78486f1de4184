//! The threads that store batches, one per database connection.

use crate::counts::Counts;
use crate::lines::batch::Batch;
use crate::lines::rejects::Rejects;
use crate::lines::writer::{Refused, Writer, WriterOptions};
use load::Accounts;
use observe::Workers;
use pg::DbError;
use process::stop::UNTIL_HURRIED;
use process::{Failure, Stop, threads};
use rows::Record;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Batches that wait for a connection; the intake waits when there are more.
const WAITING: usize = 2;

/// What a thread is given to do.
enum Job {
    Store(Batch),
    StoreAccounts(Accounts),
    /// Commit; answer when it is done.
    Commit(SyncSender<()>),
}

/// All of them.
pub(crate) struct Shards {
    senders: ShardSenders,
    threads: Vec<JoinHandle<Result<(), DbError>>>,
}

/// The way to them.
#[derive(Clone)]
pub(crate) struct ShardSenders(Vec<SyncSender<Job>>);

/// A thread has ended: its database cannot be written to.
#[derive(Debug)]
pub(crate) struct ShardLost;

impl ShardSenders {
    /// Which one stores `record`. Records of an account and collection go the same way: only they
    /// can collide, so the first one sent wins, and no two connections wait for each other's
    /// rows.
    pub(crate) fn shard_of(&self, record: &Record<'_>) -> usize {
        let mut hasher = DefaultHasher::new();
        (record.did, record.collection).hash(&mut hasher);
        usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or(0)
    }

    /// Gives a batch to thread `shard`; waits while it has enough.
    pub(crate) fn store(&self, shard: usize, batch: Batch) -> Result<(), ShardLost> {
        self.0[shard].send(Job::Store(batch)).map_err(|_| ShardLost)
    }

    /// Gives accounts to the first thread.
    pub(crate) fn store_accounts(&self, accounts: Accounts) -> Result<(), ShardLost> {
        self.0[0]
            .send(Job::StoreAccounts(accounts))
            .map_err(|_| ShardLost)
    }

    /// Commits what all threads were given so far, and waits for it.
    pub(crate) fn commit(&self) -> Result<(), ShardLost> {
        let mut answers = Vec::new();
        for sender in &self.0 {
            let (done, answer) = sync_channel(1);
            sender.send(Job::Commit(done)).map_err(|_| ShardLost)?;
            answers.push(answer);
        }
        answers
            .iter()
            .try_for_each(|answer| answer.recv().map_err(|_| ShardLost))
    }
}

impl Shards {
    /// Starts `count` threads and connects each, so that what is wrong shows now.
    pub(crate) fn start(
        count: usize,
        options: &WriterOptions,
        counts: &Counts,
        rejects: &Arc<Rejects>,
        workers: &Workers,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let mut writer = new_writer(options.clone(), Arc::clone(rejects), counts.clone());
            writer.connect().map_err(Failure::new)?;
            let (sender, jobs) = sync_channel(WAITING);
            let (counts, workers, stop) = (counts.clone(), workers.clone(), stop.clone());
            threads.push(std::thread::spawn(move || {
                let mut why = String::new();
                let store = || work(&mut writer, &jobs, &counts, &workers, number);
                let outcome = threads::guarded("a writing thread", |panic| why = panic, store);
                let outcome = outcome.unwrap_or_else(|| Err(DbError::other(why)));
                if outcome.is_err() {
                    stop.set();
                }
                outcome
            }));
            senders.push(sender);
        }
        Ok(Self {
            senders: ShardSenders(senders),
            threads,
        })
    }

    /// The way to all threads.
    pub(crate) fn senders(&self) -> ShardSenders {
        self.senders.clone()
    }

    /// Ends all threads, each after committing. The first error, if any.
    pub(crate) fn finish(self) -> Result<(), DbError> {
        drop(self.senders);
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = thread.join();
            outcome = outcome.and(
                ended.unwrap_or_else(|_| Err(DbError::other("a writing thread failed".to_owned()))),
            );
        }
        outcome
    }
}

fn work(
    writer: &mut Writer<'_>,
    jobs: &Receiver<Job>,
    counts: &Counts,
    workers: &Workers,
    number: usize,
) -> Result<(), DbError> {
    let worker = workers.start("waiting for records");
    for job in jobs {
        match job {
            Job::Store(batch) => {
                let (records, collection) = (batch.records(), batch.collection().nsid());
                worker.doing(format!(
                    "connection {number}: storing {records} records of {collection}"
                ));
                writer.write(batch)?;
                counts.stored(&writer.drain_report());
            }
            Job::StoreAccounts(accounts) => {
                worker.doing(format!(
                    "connection {number}: storing {} accounts",
                    accounts.len()
                ));
                writer.write_accounts(accounts)?;
                counts.stored(&writer.drain_report());
            }
            Job::Commit(done) => {
                worker.doing(format!("connection {number}: committing"));
                writer.commit()?;
                counts.stored(&writer.drain_report());
                // Whoever asked may be gone; the commit stands.
                let _ = done.send(());
            }
        }
        worker.doing("waiting for records");
    }
    writer.commit()?;
    counts.stored(&writer.drain_report());
    Ok(())
}

fn new_writer(options: WriterOptions, rejects: Arc<Rejects>, counts: Counts) -> Writer<'static> {
    let refused = move |refused: Refused| {
        let Refused {
            uri,
            cid,
            indexed_at,
            json,
            reason,
        } = refused;
        let collection = uri.split('/').nth(3).unwrap_or_default().to_owned();
        let object: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let data =
            serde_json::json!({ "uri": uri, "cid": cid, "timestamp": indexed_at, "obj": object });
        let line = serde_json::json!({ "type": "commit", "collection": collection, "data": data });
        rejects.add(line.to_string().as_bytes(), &reason);
        counts.rejected();
    };
    Writer::new(options, refused, UNTIL_HURRIED)
}
