//! What the ledger and the server say, asked by a thread of its own: only while somebody looks, but
//! for the server's counters, of which a history is kept.
//!
//! Counts of repos are those that the ledger keeps ([`ledger::tally`]), and hosts say themselves
//! what they gave, so that nothing here goes over all repos: each statement is bounded, whether
//! there are thousands of them or 45 million. Whoever serves takes what is known; nobody waits for
//! the database but for pages of failures and for accounts, and those for a bounded time.

mod hosts;
mod past;

use crate::history::Reading;
use crate::origin::Origin;
use crate::postgres_side::{self, Session, Table, Totals};
use crate::{give_way, now_millis};
use bytes::Bytes;
pub(crate) use hosts::{HostRow, Order, page as hosts_page};
use ledger::coverage::Coverage;
use ledger::failures::{self, Group};
use ledger::follow::{self, Followed};
use ledger::hosts::Chosen;
use ledger::overview::{self, FailedPage, RunTimes};
use ledger::tally::Stored as StoredCounts;
use ledger::{history, processes};
use past::Past;
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
/// Something is read again after so many times the time that reading it took,
const REST: u32 = 50;
/// and after this time at the soonest.
const COUNTS: Duration = Duration::from_secs(2);
const SERVER: Duration = Duration::from_secs(5);
const HOSTS: Duration = Duration::from_secs(5);
const REASONS: Duration = Duration::from_secs(5);
const PAST: Duration = Duration::from_secs(10);
const TABLES: Duration = Duration::from_secs(15);
/// After an error of the database the next try comes after this.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Time limit of statements.
const LONGEST: &str = "5s";
/// Answers to questions are good for so long.
const FRESH: Duration = Duration::from_secs(5);
/// Answers that are kept, and questions that wait.
const MOST_ANSWERS: usize = 200;
const MOST_QUESTIONS: usize = 32;
/// A question is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hosts, runs and processes that are read.
const MOST_HOSTS: i64 = 20_000;
const MOST_RUNS: i64 = 20;
const MOST_PROCESSES: i64 = 10;
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
    /// Why the last round of statements failed.
    trouble: Option<String>,
    pub(crate) counts: Option<Kept<(Coverage, StoredCounts)>>,
    /// How the event stream is followed, if it ever was.
    pub(crate) followed: Option<Followed>,
    pub(crate) hosts: Option<Kept<Vec<HostRow>>>,
    /// Hosts in all, those that are not named too.
    all_hosts: u64,
    pub(crate) reasons: Option<Kept<Vec<Group>>>,
    pub(crate) runs: Option<Kept<Vec<RunTimes>>>,
    pub(crate) past: Option<Kept<Past>>,
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

/// Starts the thread that asks this database. A second one is not asked. What processes wrote down
/// is read where this one does not work itself.
pub(crate) fn start(
    stored: &Arc<Stored>,
    url: &str,
    schema: &str,
    origin: Origin,
) -> io::Result<()> {
    let (sender, asks) = sync_channel(MOST_QUESTIONS);
    if stored.asks.set(sender).is_err() {
        return Ok(());
    }
    stored.lock().schema = Some(schema.to_owned());
    let connection = Connection {
        url: url.to_owned(),
        schema: schema.to_owned(),
        client: None,
        retry_at: Instant::now(),
        trouble: String::new(),
    };
    let shared = Arc::clone(stored);
    std::thread::Builder::new()
        .name("dashboard-looks".to_owned())
        .spawn(move || look(&shared, connection, &asks, origin))?;
    Ok(())
}

/// A session that is made again after trouble.
struct Connection {
    url: String,
    schema: String,
    client: Option<Client>,
    retry_at: Instant,
    /// Why there is none.
    trouble: String,
}

impl Connection {
    /// Does something in the database; the trouble, if it fails.
    fn run<T>(
        &mut self,
        step: impl FnOnce(&mut Client, &str) -> Result<T, postgres::Error>,
    ) -> Result<T, String> {
        if self.client.is_none() {
            if Instant::now() < self.retry_at {
                return Err(self.trouble.clone());
            }
            self.retry_at = Instant::now() + AFTER_TROUBLE;
            match self.connect() {
                Ok(client) => self.client = Some(client),
                Err(trouble) => self.trouble = trouble,
            }
        }
        let Some(client) = &mut self.client else {
            return Err(self.trouble.clone());
        };
        let outcome = step(client, &self.schema);
        outcome.map_err(|error| {
            let is_closed = error.is_closed();
            let trouble = pg::DbError::from(error).to_string();
            if is_closed {
                self.client = None;
                self.retry_at = Instant::now() + AFTER_TROUBLE;
                self.trouble.clone_from(&trouble);
            }
            trouble
        })
    }

    fn connect(&self) -> Result<Client, String> {
        let mut client = pg::connect(&self.url).map_err(|error| error.to_string())?;
        client
            .batch_execute(&postgres_side::session(LONGEST))
            .map_err(|error| pg::DbError::from(error).to_string())?;
        Ok(client)
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

/// The thread that looks.
fn look(stored: &Stored, mut connection: Connection, asks: &Receiver<Ask>, origin: Origin) {
    give_way();
    let mut answers = HashMap::new();
    let mut server = Due::every(SERVER);
    let mut others: Vec<(Due, Read)> = vec![
        (Due::every(COUNTS), read_counts as Read),
        (Due::every(HOSTS), read_hosts as Read),
        (Due::every(REASONS), read_reasons as Read),
        (Due::every(TABLES), read_tables as Read),
    ];
    if origin == Origin::Ledger {
        others.push((Due::every(PAST), read_past));
    }
    loop {
        match asks.recv_timeout(Duration::from_millis(200)) {
            Ok(ask) => answer(&mut connection, ask, &mut answers),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let mut outcome = None;
        if server.is_now() {
            outcome = Some(read(stored, &mut connection, &mut server, read_server));
        }
        for (due, what) in &mut others {
            if due.is_now() && stored.is_viewed() {
                let found = read(stored, &mut connection, due, *what);
                outcome = Some(outcome.unwrap_or(Ok(())).and(found));
            }
        }
        if let Some(outcome) = outcome {
            stored.lock().trouble = outcome.err();
        }
    }
}

/// Reads something; what comes back puts it among what is known.
type Read = fn(&mut Client, &str) -> Result<Put, postgres::Error>;
type Put = Box<dyn FnOnce(&mut Known)>;

fn read(
    stored: &Stored,
    connection: &mut Connection,
    due: &mut Due,
    what: Read,
) -> Result<(), String> {
    let since = Instant::now();
    let found = connection.run(what);
    due.on_read(since);
    found?(&mut stored.lock());
    Ok(())
}

fn read_server(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let totals = Kept::new(postgres_side::totals(client)?);
    let sessions = Kept::new(postgres_side::sessions(client)?);
    let runs = Kept::new(overview::runs(client, schema, MOST_RUNS)?);
    Ok(Box::new(|known| {
        known.totals = totals;
        known.sessions = sessions;
        known.runs = runs;
    }))
}

fn read_counts(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let counts = Kept::new(Coverage::kept(client, schema)?);
    let followed = follow::followed(client, schema)?;
    Ok(Box::new(|known| {
        known.counts = counts;
        known.followed = followed;
    }))
}

fn read_hosts(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let (hosts, all) = ledger::hosts::known(client, schema, Chosen::First(MOST_HOSTS))?;
    let rows = Kept::new(hosts::rows(hosts));
    Ok(Box::new(move |known| {
        known.hosts = rows;
        known.all_hosts = all;
    }))
}

fn read_reasons(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let reasons = Kept::new(failures::by_reason(client, schema, None)?);
    Ok(Box::new(|known| known.reasons = reasons))
}

fn read_tables(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let tables = Kept::new(postgres_side::tables(client, schema)?);
    Ok(Box::new(|known| known.tables = tables))
}

/// Of the last run that a process worked on, else of the last process.
fn read_past(client: &mut Client, schema: &str) -> Result<Put, postgres::Error> {
    let latest = processes::latest(client, schema, MOST_PROCESSES)?;
    let at_work = latest.iter().find(|process| process.is_alive);
    let worker = at_work.or(latest.first()).cloned();
    let mut past = Past::default();
    match (&worker, worker.as_ref().and_then(|worker| worker.run)) {
        (_, Some(run)) => {
            past.samples = history::of_run(client, schema, run)?;
            past.phases = history::phases_of_run(client, schema, run)?;
        }
        (Some(worker), None) => past.samples = history::of_process(client, worker.id)?,
        (None, None) => {}
    }
    past.worker = worker;
    let past = Kept::new(past);
    Ok(Box::new(|known| known.past = past))
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
    /// The last trouble with the database.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether the database has answered lately.
    pub(crate) fn is_ready(&self) -> bool {
        self.totals.is_some() && self.trouble.is_none()
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

    /// The phases of the last run, else the runs of the ledger, as stretches of time.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let phases = self.past.as_ref().map(|past| past.value.spans());
        if let Some(phases) = phases.filter(|phases| !phases.is_empty()) {
            return phases;
        }
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

    fn repos_json(&self) -> Option<Value> {
        let counts = self.counts.as_ref()?;
        let (coverage, stored) = counts.value.as_ref();
        let states = coverage.repos.iter();
        let states = states.map(
            |(state, repos)| json!({ "state": state.word(), "term": state.term(), "repos": repos }),
        );
        Some(json!({
            "at": counts.at,
            "states": states.collect::<Vec<_>>(),
            "records": stored.records,
            "bytes": stored.bytes,
            "hosts": self.all_hosts,
        }))
    }

    fn reasons_json(&self) -> Option<Value> {
        let reasons = self.reasons.as_ref()?;
        let list = reasons.value.iter().map(|reason| {
            let example = reason.examples.first();
            json!({
                "code": reason.code,
                "repos": reason.repos,
                "hosts": reason.hosts,
                "due": reason.due,
                "did": example.map(|example| &example.did),
                "error": example.map(|example| &example.error),
            })
        });
        Some(json!({ "at": reasons.at, "list": list.collect::<Vec<_>>() }))
    }

    fn worker_json(&self) -> Option<Value> {
        let worker = self.past.as_ref()?.value.worker.as_ref()?;
        Some(json!({
            "command": worker.command,
            "machine": worker.machine,
            "pid": worker.pid,
            "phase": worker.phase,
            "is_alive": worker.is_alive,
        }))
    }

    /// All of it, but for hosts.
    pub(crate) fn json(&self) -> Value {
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
            "repos": self.repos_json(),
            "failures": self.reasons_json(),
            "worker": self.worker_json(),
            "runs": runs,
            "totals": self.totals.as_ref().map(|kept| kept.value.as_ref()),
            "totals_at": self.totals.as_ref().map(|kept| kept.at),
            "sessions": self.sessions.as_ref().map(|kept| kept.value.as_ref()),
            "tables": self.tables.as_ref().map(|kept| kept.value.as_ref()),
        })
    }
}
