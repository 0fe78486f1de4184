//! The one thread of a run that talks to the ledger: it leases hosts, hands out their open repos, and writes down what became of those that
//! were not stored.
//!
//! What is in memory is only a copy. When everything that was handed out is settled, the ledger is asked again; a repo that was lost on the
//! way, with a connection or a server, is open there still, and comes again.

use crate::run::board::{Board, wait_for_database};
use ledger::repos::{self, Leased, Open};
use load::{DbError, Decision, decide};
use postgres::{Client, NoTls};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Hosts that a run leases at once.
const HOSTS: usize = 256;
/// Repos of a host that are read from the ledger at once.
const PAGE: i64 = 500;
/// Leases are renewed this often: three times in the time that one lasts.
const RENEW: Duration = Duration::from_secs(20);

/// A repo to be loaded.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) open: Open,
    pub(crate) host: String,
    pub(crate) lease: i64,
}

/// A leased host and its repos that were read, but not handed out.
struct Queue {
    leased: Leased,
    page: VecDeque<Open>,
    /// The last repo that was read.
    cursor: String,
    /// Whether there is nothing after that.
    at_end: bool,
}

pub(crate) struct Feeder<'f> {
    pub(crate) url: &'f str,
    pub(crate) schema: &'f str,
    pub(crate) board: &'f Board,
    pub(crate) jobs: Sender<Job>,
    /// The host that is next.
    pub(crate) next: AtomicUsize,
}

/// How feeding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// No repo is open.
    All,
    /// It was told to stop.
    Stopped,
}

impl Feeder<'_> {
    /// Feeds until no repo is open. When the server goes away, it is waited for.
    ///
    /// # Errors
    /// Something that waiting does not mend.
    pub(crate) fn run(self) -> Result<Fed, DbError> {
        let mut queues: Vec<Queue> = Vec::new();
        let mut client: Option<Client> = None;
        let mut tries = 0;
        loop {
            let outcome = match &mut client {
                Some(client) => self.feed(client, &mut queues),
                None => Client::connect(self.url, NoTls)
                    .map_err(DbError::from)
                    .and_then(|mut connected| {
                        connected.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0")?;
                        client = Some(connected);
                        Ok(None)
                    }),
            };
            match outcome {
                Ok(Some(fed)) => return Ok(fed),
                Ok(None) => {}
                Err(error) => match decide(&error) {
                    Decision::Reconnect | Decision::Wait if !(self.board.stop.is_set() && tries > 8) => {
                        client = None;
                        tries += 1;
                        wait_for_database(&error, tries);
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Feeds until it is done, or an error.
    fn feed(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<Option<Fed>, DbError> {
        let mut renewed = Instant::now();
        let mut waiting_for_others = 0u32;
        loop {
            self.write_notes(client)?;
            if renewed.elapsed() > RENEW {
                self.renew(client, queues)?;
                renewed = Instant::now();
            }
            if self.board.stop.is_set() {
                if self.board.under_way() == 0 || self.board.broken().is_some() {
                    return self.end(client, queues, Fed::Stopped);
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if self.hand_out(client, queues)? {
                continue;
            }
            if self.board.under_way() > 0 {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            // All is settled: what does the ledger say?
            if queues.len() < HOSTS {
                let more = repos::lease(
                    client,
                    self.schema,
                    i64::try_from(HOSTS - queues.len()).unwrap_or(0),
                )?;
                queues.extend(more.into_iter().map(|leased| Queue {
                    leased,
                    page: VecDeque::new(),
                    cursor: String::new(),
                    at_end: false,
                }));
            }
            let mut any = false;
            for queue in &mut *queues {
                queue.page.clear();
                queue.cursor.clear();
                self.read(client, queue)?;
                any |= !queue.page.is_empty();
            }
            if any {
                continue;
            }
            let done: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
            repos::release(client, self.schema, &done)?;
            queues.clear();
            let open = repos::count_open(client, self.schema)?;
            if open == 0 {
                return self.end(client, queues, Fed::All);
            }
            if waiting_for_others.is_multiple_of(30) {
                eprintln!("{open} repos are left to another skyfill that works on this database; waiting");
            }
            waiting_for_others += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn end(&self, client: &mut Client, queues: &[Queue], fed: Fed) -> Result<Option<Fed>, DbError> {
        self.write_notes(client)?;
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        repos::release(client, self.schema, &leases)?;
        Ok(Some(fed))
    }

    /// Hands out one repo of each host; whether anything was handed out.
    fn hand_out(&self, client: &mut Client, queues: &mut [Queue]) -> Result<bool, DbError> {
        let mut any = false;
        // Where it stopped the last time, so that no host keeps the others waiting.
        let next = self
            .next
            .swap(0, Ordering::Relaxed)
            .checked_rem(queues.len())
            .unwrap_or(0);
        queues.rotate_left(next);
        for (at, queue) in queues.iter_mut().enumerate() {
            if queue.page.is_empty() && !queue.at_end {
                self.read(client, queue)?;
            }
            let Some(open) = queue.page.pop_front() else {
                continue;
            };
            let job = Job {
                open,
                host: queue.leased.host.clone(),
                lease: queue.leased.lease,
            };
            self.board.handed_out();
            match self.jobs.try_send(job) {
                Ok(()) => any = true,
                Err(TrySendError::Full(job) | TrySendError::Closed(job)) => {
                    queue.page.push_front(job.open);
                    self.board.not_handed_out();
                    self.next.store(at, Ordering::Relaxed);
                    break;
                }
            }
        }
        Ok(any)
    }

    /// Reads the next page of a host.
    fn read(&self, client: &mut Client, queue: &mut Queue) -> Result<(), DbError> {
        let page = repos::open(client, self.schema, &queue.leased.host, &queue.cursor, PAGE)?;
        queue.at_end = page.is_empty();
        if let Some(last) = page.last() {
            queue.cursor.clone_from(&last.did);
        }
        queue.page.extend(page);
        Ok(())
    }

    /// Renews all leases; the hosts of those that are lost are somebody else's now.
    fn renew(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<(), DbError> {
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        let held = repos::renew(client, self.schema, &leases)?;
        queues.retain(|queue| held.contains(&queue.leased.lease));
        Ok(())
    }

    fn write_notes(&self, client: &mut Client) -> Result<(), DbError> {
        let notes = self.board.take_notes();
        if notes.is_empty() {
            return Ok(());
        }
        // A repo whose rev its PDS confirmed is of an active account.
        let states: Vec<(&str, Option<&str>)> = notes
            .iter()
            .filter(|note| note.state == "loaded" || handoff::account::STATUSES.contains(&note.state))
            .map(|note| {
                (
                    note.did.as_str(),
                    Some(note.state).filter(|state| *state != "loaded"),
                )
            })
            .collect();
        let write = |client: &mut Client| -> Result<(), DbError> {
            let mut txn = client.transaction()?;
            repos::note(&mut txn, self.schema, &notes)?;
            load::store_states(&mut txn, self.schema, &states)?;
            txn.commit()?;
            Ok(())
        };
        match write(client) {
            Ok(()) => {
                self.board.noted(&notes);
                Ok(())
            }
            Err(error) => {
                self.board.give_back(notes);
                Err(error)
            }
        }
    }
}
