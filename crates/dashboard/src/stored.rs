//! What the ledger and the server say, asked by two threads of their own: one counts, which may
//! take long, the other looks up what is quick. Both ask only while somebody looks, but for the
//! server's counters, of which a history is kept.
//!
//! Whoever serves takes what is known; nobody waits for the database but for pages of failures and
//! for accounts, and those for a bounded time.

mod hosts;

use crate::history::Reading;
use crate::postgres_side::{self, Session, Table, Totals};
use crate::{give_way, now_millis};
use bytes::Bytes;
pub(crate) use hosts::{HostRow, Order, page as hosts_page};
use ledger::overview::{self, Counts, FailedPage, HostNote, Reason, RunTimes};
use postgres::Client;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What was asked for within so long a time is still of interest, in milliseconds.
const INTEREST: u64 = 60_000;
/// Counts are read again after so many times the time that reading them took,
const REST: u32 = 50;
/// and after this time at the soonest.
const COUNTS: Duration = Duration::from_secs(5);
const SERVER: Duration = Duration::from_secs(5);
const NOTES: Duration = Duration::from_secs(10);
const TABLES: Duration = Duration::from_secs(30);
/// After an error of the database the next try comes after this.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Time limits of statements.
const LONGEST_COUNT: &str = "180s";
const LONGEST_LOOK: &str = "5s";
/// Answers to questions are good for so long.
const FRESH: Duration = Duration::from_secs(5);
/// Answers that are kept, and questions that wait.
const MOST_ANSWERS: usize = 200;
const MOST_QUESTIONS: usize = 32;
/// A question is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hosts that are named, and reasons.
const MOST_HOSTS: i64 = 20_000;
const MOST_REASONS: i64 = 100;
const MOST_RUNS: i64 = 20;
/// Failed repos of a page.
pub(crate) const FAILED_OF_A_PAGE: usize = 50;

/// Something that was read, and when.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) value: Arc<T>,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            at: self.at,
        }
    }
}

impl<T> Kept<T> {
    fn new(value: T) -> Option<Self> {
        Some(Self {
            value: Arc::new(value),
            at: now_millis(),
        })
    }
}

/// What is known of the database.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// Its schema, once there is a database.
    pub(crate) schema: Option<String>,
    /// Why the last statement failed, of each thread.
    pub(crate) troubles: [Option<String>; 2],
    pub(crate) counts: Option<Kept<Counts>>,
    notes: Option<Kept<Vec<HostNote>>>,
    pub(crate) hosts: Option<Kept<Vec<HostRow>>>,
    pub(crate) reasons: Option<Kept<Vec<Reason>>>,
    pub(crate) runs: Option<Kept<Vec<RunTimes>>>,
    pub(crate) totals: Option<Kept<Totals>>,
    pub(crate) sessions: Option<Kept<Vec<Session>>>,
    pub(crate) tables: Option<Kept<Vec<Table>>>,
}

/// Something that is looked up when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// A page of failed repos.
    Failed(FailedPage),
    /// An account.
    Account(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// There is no such thing.
    Unknown,
    /// There is no database yet, it refused, or it takes too long.
    Unavailable(String),
}

struct Ask {
    question: Question,
    reply: oneshot::Sender<Result<Bytes, NoAnswer>>,
}

/// The database, as the dashboard sees it.
#[derive(Default)]
pub(crate) struct Stored {
    known: Mutex<Known>,
    asks: OnceLock<SyncSender<Ask>>,
    viewed: AtomicU64,
}

impl Stored {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now. Cheap: what is large is shared.
    pub(crate) fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Somebody looks.
    pub(crate) fn on_viewed(&self) {
        self.viewed.store(now_millis(), Ordering::Relaxed);
    }

    fn is_viewed(&self) -> bool {
        now_millis().saturating_sub(self.viewed.load(Ordering::Relaxed)) < INTEREST
    }

    /// Looks something up.
    pub(crate) async fn ask(&self, question: Question) -> Result<Bytes, NoAnswer> {
        let unavailable = |why: &str| NoAnswer::Unavailable(why.to_owned());
        let asks = self
            .asks
            .get()
            .ok_or_else(|| unavailable("there is no database yet"))?;
        let (reply, answer) = oneshot::channel();
        asks.try_send(Ask { question, reply })
            .map_err(|_| unavailable("too many questions at once"))?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(unavailable("the database takes too long")),
        }
    }
}

/// Starts the threads that ask this database. A second one is not asked.
pub(crate) fn start(stored: &Arc<Stored>, url: &str, schema: &str) -> io::Result<()> {
    let (sender, asks) = sync_channel(MOST_QUESTIONS);
    if stored.asks.set(sender).is_err() {
        return Ok(());
    }
    stored.lock().schema = Some(schema.to_owned());
    let connection = |longest| Connection {
        url: url.to_owned(),
        schema: schema.to_owned(),
        longest,
        client: None,
        retry_at: Instant::now(),
    };
    let (counting, looking) = (connection(LONGEST_COUNT), connection(LONGEST_LOOK));
    let shared = Arc::clone(stored);
    std::thread::Builder::new()
        .name("dashboard-counts".to_owned())
        .spawn(move || count(&shared, counting))?;
    let shared = Arc::clone(stored);
    std::thread::Builder::new()
        .name("dashboard-looks".to_owned())
        .spawn(move || look(&shared, looking, &asks))?;
    Ok(())
}

/// A session that is made again after trouble.
struct Connection {
    url: String,
    schema: String,
    longest: &'static str,
    client: Option<Client>,
    retry_at: Instant,
}

impl Connection {
    /// Does something in the database; the trouble, if it fails.
    fn run<T>(
        &mut self,
        step: impl FnOnce(&mut Client, &str) -> Result<T, postgres::Error>,
    ) -> Result<T, String> {
        if self.client.is_none() {
            if Instant::now() < self.retry_at {
                return Err("the database is tried again in some seconds".to_owned());
            }
            self.retry_at = Instant::now() + AFTER_TROUBLE;
            let mut client = pg::connect(&self.url).map_err(|error| error.to_string())?;
            client
                .batch_execute(&postgres_side::session(self.longest))
                .map_err(|error| pg::DbError::from(error).to_string())?;
            self.client = Some(client);
        }
        let Some(client) = &mut self.client else {
            return Err("there is no connection".to_owned());
        };
        let outcome = step(client, &self.schema);
        outcome.map_err(|error| {
            if error.is_closed() {
                self.client = None;
                self.retry_at = Instant::now() + AFTER_TROUBLE;
            }
            pg::DbError::from(error).to_string()
        })
    }
}

/// When something is read again.
struct Due {
    at: Instant,
    soonest: Duration,
}

impl Due {
    fn every(soonest: Duration) -> Self {
        Self {
            at: Instant::now(),
            soonest,
        }
    }

    fn is_now(&self) -> bool {
        Instant::now() >= self.at
    }

    /// It was read, from then on.
    fn on_read(&mut self, since: Instant) {
        let rest = since.elapsed().saturating_mul(REST);
        self.at = Instant::now() + rest.max(self.soonest);
    }
}

/// The thread that counts.
fn count(stored: &Stored, mut connection: Connection) {
    give_way();
    let mut due = Due::every(COUNTS);
    loop {
        std::thread::sleep(Duration::from_millis(200));
        if !due.is_now() || !stored.is_viewed() {
            continue;
        }
        let since = Instant::now();
        let outcome = connection.run(|client, schema| {
            let counts = overview::counts(client, schema, MOST_HOSTS)?;
            let reasons = overview::reasons(client, schema, MOST_REASONS)?;
            Ok((counts, reasons))
        });
        due.on_read(since);
        let mut known = stored.lock();
        known.troubles[0] = outcome.as_ref().err().cloned();
        if let Ok((counts, reasons)) = outcome {
            known.counts = Kept::new(counts);
            known.reasons = Kept::new(reasons);
            known.merge_hosts();
        }
    }
}

/// The thread that looks up what is quick.
fn look(stored: &Stored, mut connection: Connection, asks: &Receiver<Ask>) {
    give_way();
    let mut answers = HashMap::new();
    let (mut server, mut notes, mut tables) =
        (Due::every(SERVER), Due::every(NOTES), Due::every(TABLES));
    loop {
        match asks.recv_timeout(Duration::from_millis(200)) {
            Ok(ask) => answer(&mut connection, ask, &mut answers),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let is_viewed = stored.is_viewed();
        let mut outcome = Ok(());
        if server.is_now() {
            outcome = outcome.and(look_at_server(stored, &mut connection, &mut server));
        }
        if notes.is_now() && is_viewed {
            outcome = outcome.and(look_at_hosts(stored, &mut connection, &mut notes));
        }
        if tables.is_now() && is_viewed {
            outcome = outcome.and(look_at_tables(stored, &mut connection, &mut tables));
        }
        match outcome {
            Err(trouble) => stored.lock().troubles[1] = Some(trouble),
            Ok(()) if connection.client.is_some() => stored.lock().troubles[1] = None,
            Ok(()) => {}
        }
    }
}

fn look_at_server(
    stored: &Stored,
    connection: &mut Connection,
    due: &mut Due,
) -> Result<(), String> {
    let since = Instant::now();
    let read = connection.run(|client, schema| {
        let totals = postgres_side::totals(client)?;
        let sessions = postgres_side::sessions(client)?;
        Ok((totals, sessions, overview::runs(client, schema, MOST_RUNS)?))
    });
    due.on_read(since);
    let (totals, sessions, runs) = read?;
    let mut known = stored.lock();
    known.totals = Kept::new(totals);
    known.sessions = Kept::new(sessions);
    known.runs = Kept::new(runs);
    Ok(())
}

fn look_at_hosts(
    stored: &Stored,
    connection: &mut Connection,
    due: &mut Due,
) -> Result<(), String> {
    let since = Instant::now();
    let read = connection.run(|client, schema| overview::hosts(client, schema, MOST_HOSTS));
    due.on_read(since);
    let mut known = stored.lock();
    known.notes = Kept::new(read?);
    known.merge_hosts();
    Ok(())
}

fn look_at_tables(
    stored: &Stored,
    connection: &mut Connection,
    due: &mut Due,
) -> Result<(), String> {
    let since = Instant::now();
    let read = connection.run(postgres_side::tables);
    due.on_read(since);
    stored.lock().tables = Kept::new(read?);
    Ok(())
}

type Answers = HashMap<Question, (Instant, Result<Bytes, NoAnswer>)>;

/// Answers a question; one that was answered just now is not asked again.
fn answer(connection: &mut Connection, ask: Ask, answers: &mut Answers) {
    let Ask { question, reply } = ask;
    if reply.is_closed() {
        return;
    }
    let kept = answers.get(&question);
    if let Some((at, answer)) = kept.filter(|(at, _)| at.elapsed() < FRESH) {
        let _is_fresh = at;
        drop(reply.send(answer.clone()));
        return;
    }
    let found = connection
        .run(|client, schema| answer_of(client, schema, &question))
        .map_err(NoAnswer::Unavailable);
    let answer = found.and_then(|found| {
        let found = found.ok_or(NoAnswer::Unknown)?;
        Ok(Bytes::from(found.to_string()))
    });
    if answers.len() >= MOST_ANSWERS {
        answers.clear();
    }
    answers.insert(question, (Instant::now(), answer.clone()));
    drop(reply.send(answer));
}

fn answer_of(
    client: &mut Client,
    schema: &str,
    question: &Question,
) -> Result<Option<Value>, postgres::Error> {
    match question {
        Question::Account(did) => {
            let account = overview::account(client, schema, did)?;
            Ok(account.map(
                |account| json!({ "did": did, "facts": account.facts, "events": account.events }),
            ))
        }
        Question::Failed(page) => {
            let count = FAILED_OF_A_PAGE + 1;
            let wanted = i64::try_from(count).unwrap_or(i64::MAX);
            let mut repos = overview::failed(client, schema, page, wanted)?;
            let has_more = repos.len() >= count;
            repos.truncate(FAILED_OF_A_PAGE);
            let last = repos.last().filter(|_| has_more);
            let next = last.map(|last| json!({ "time": last.place, "did": last.did }));
            let repos = repos.iter().map(|repo| {
                json!({
                    "did": repo.did,
                    "host": repo.host,
                    "code": repo.code,
                    "error": repo.error,
                    "attempts": repo.attempts,
                    "next_attempt": repo.next_attempt,
                })
            });
            Ok(Some(
                json!({ "repos": repos.collect::<Vec<_>>(), "next": next }),
            ))
        }
    }
}

impl Known {
    fn merge_hosts(&mut self) {
        let notes = self.notes.as_ref().map(|notes| notes.value.as_slice());
        let counts = self.counts.as_ref().map(|counts| counts.value.as_ref());
        self.hosts = Kept::new(hosts::merge(counts, notes.unwrap_or_default()));
    }

    /// The last trouble with the database.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.troubles.iter().flatten().next().map(String::as_str)
    }

    /// Whether the database has answered lately, or there is none to ask.
    pub(crate) fn is_ready(&self) -> bool {
        self.schema.is_some() && self.totals.is_some() && self.troubles[1].is_none()
    }

    /// The server's counters, for the history.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut add = |key: &str, label: &str, (is_bytes, is_total): (bool, bool), value: f64| {
            readings.push(Reading {
                key: format!("server/{key}"),
                label: label.to_owned(),
                is_bytes,
                is_total,
                value,
            });
        };
        if let Some(totals) = &self.totals {
            let totals = &totals.value;
            add("wal_bytes", "WAL", (true, true), totals.wal_bytes as f64);
            let rows = totals.rows_inserted + totals.rows_updated + totals.rows_deleted;
            add("rows", "rows written", (false, true), rows as f64);
            add(
                "database_bytes",
                "database",
                (true, false),
                totals.database_bytes as f64,
            );
            let checkpoints = totals.checkpoints_timed + totals.checkpoints_requested;
            add(
                "checkpoints",
                "checkpoints",
                (false, true),
                checkpoints as f64,
            );
        }
        if let Some(sessions) = &self.sessions {
            let at_work = sessions.value.iter().filter(|session| session.is_at_work());
            let waiting = at_work.clone().filter(|session| !session.wait.is_empty());
            add(
                "sessions",
                "at work",
                (false, false),
                at_work.count() as f64,
            );
            add(
                "waiting",
                "of these, waiting",
                (false, false),
                waiting.count() as f64,
            );
        }
        readings
    }

    /// The runs of the ledger, as stretches of time.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let runs = self.runs.iter().flat_map(|runs| runs.value.iter().rev());
        runs.map(|run| {
            json!({
                "name": format!("run {}", run.id),
                "label": format!("run {} ({}, {})", run.id, run.mode, run.phase),
                "began": run.began,
                "ended": run.ended,
            })
        })
        .collect()
    }

    /// All of it, but for hosts.
    pub(crate) fn json(&self) -> Value {
        let repos = self.counts.as_ref().map(|counts| {
            let states = counts.value.repos.iter();
            let states = states
                .map(|(state, repos)| json!({ "state": state.word(), "term": state.term(), "repos": repos }));
            json!({
                "at": counts.at,
                "states": states.collect::<Vec<_>>(),
                "records": counts.value.records,
                "bytes": counts.value.bytes,
                "hosts": counts.value.hosts,
            })
        });
        let reasons = self.reasons.as_ref().map(|reasons| {
            let list = reasons.value.iter().map(|reason| {
                json!({
                    "code": reason.code,
                    "repos": reason.repos,
                    "hosts": reason.hosts,
                    "due": reason.due,
                    "did": reason.did,
                    "error": reason.error,
                })
            });
            json!({ "at": reasons.at, "list": list.collect::<Vec<_>>() })
        });
        let runs = self.runs.as_ref().map(|runs| {
            let runs = runs.value.iter().map(|run| {
                json!({
                    "id": run.id,
                    "mode": run.mode,
                    "phase": run.phase,
                    "began": run.began,
                    "ended": run.ended,
                })
            });
            runs.collect::<Vec<_>>()
        });
        json!({
            "schema": self.schema,
            "trouble": self.trouble(),
            "repos": repos,
            "failures": reasons,
            "runs": runs,
            "totals": self.totals.as_ref().map(|kept| kept.value.as_ref()),
            "totals_at": self.totals.as_ref().map(|kept| kept.at),
            "sessions": self.sessions.as_ref().map(|kept| kept.value.as_ref()),
            "tables": self.tables.as_ref().map(|kept| kept.value.as_ref()),
        })
    }
}
