//! Writes down how the work goes, for `skyfill status`, the report and the dashboard: who works,
//! how far it is, and what limits each phase ([`ledger::processes`], [`ledger::history`]).
//!
//! A thread with a connection of its own looks at the registry every second or so, and stores what
//! it sees every ten seconds, more often in the first minutes. That is one small transaction that
//! does not wait for the disk. If the server goes away, what happened meanwhile is not recorded; if
//! it does not answer, that is reported (`silence`).

use crate::silence::{self, Asked};
use ledger::history::{self, PhaseTime, Sample};
use ledger::processes::{self, Entering};
use ledger::tally;
use load::indexes;
use observe::registry::{PhaseState, Snapshot};
use observe::{LimitWatch, registry};
use postgres::{Client, Error};
use process::Database;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The registry is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Samples are stored this often, at most and at least; in between, a hundred times in the time so
/// far.
const STORE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Samples are thinned after so many.
const THIN_EVERY: u64 = 100;
/// The end of a command does not wait longer for the last sample.
const LAST: Duration = Duration::from_secs(2);

/// A thread that records until it is dropped.
pub struct Recorder {
    /// Its end is the sign to stop.
    recorded: Option<Sender<()>>,
    ended: Receiver<()>,
    /// Its end is the sign to look no longer whether the server answers.
    _silence: Sender<()>,
}

impl Recorder {
    /// Begins to record what this process does on `database`. Without a thread or a connection,
    /// nothing is recorded.
    #[must_use]
    pub fn start(database: &Database) -> Self {
        let (recorded, over) = channel();
        let (end, ended) = channel();
        let (url, schema) = (database.url.clone(), database.schema.clone());
        let asked = Asked::default();
        let silence = silence::report(database.shown(), asked.clone());
        let name = "recorder".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let mut recording = Recording::new(schema);
            recording.run(&url, &asked, &over);
            // Nobody may be there any more.
            _ = end.send(());
        });
        drop(thread);
        Self {
            recorded: Some(recorded),
            ended,
            _silence: silence,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.recorded.take());
        // A server that does not answer keeps no command from ending.
        _ = self.ended.recv_timeout(LAST);
    }
}

/// What was seen of a phase.
struct Open {
    number: i16,
    began: f64,
    seconds: f64,
    is_done: bool,
    limits: BTreeMap<String, f64>,
    is_new: bool,
}

/// What is recorded, and what was recorded so far.
struct Recording {
    schema: String,
    begun: Instant,
    /// The number of the process in the ledger.
    process: Option<i32>,
    /// Rows that the server had counted before.
    rows_before: u64,
    phases: BTreeMap<String, Open>,
    limits: LimitWatch,
    /// What limited, and why, as it was last seen.
    limit: Option<(String, String)>,
    samples: u64,
}

impl Recording {
    fn new(schema: String) -> Self {
        Self {
            schema,
            begun: Instant::now(),
            process: None,
            rows_before: 0,
            phases: BTreeMap::new(),
            limits: LimitWatch::default(),
            limit: None,
            samples: 0,
        }
    }

    fn run(&mut self, url: &str, asked: &Asked, over: &Receiver<()>) {
        let mut client: Option<Client> = None;
        let (mut looked, mut stored) = (Instant::now(), None::<Instant>);
        let mut wait = Duration::ZERO;
        loop {
            let is_over = over.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
            wait = LOOK;
            if client.is_none() {
                client = asked.during(|| {
                    let mut client = pg::connect(url).ok()?;
                    self.enter(&mut client).ok().map(|()| client)
                });
            }
            let Some(connected) = client.as_mut() else {
                if is_over {
                    return;
                }
                continue;
            };
            let took = looked.elapsed();
            looked = Instant::now();
            let snapshot = registry().snapshot();
            let every = (self.begun.elapsed() / 100).clamp(STORE.0, STORE.1);
            let is_due = stored.is_none_or(|at| at.elapsed() >= every) || is_over;
            let recorded = asked.during(|| {
                self.look(connected, &snapshot, took)?;
                if is_due {
                    stored = Some(Instant::now());
                    return self.store(connected, &snapshot, is_over);
                }
                Ok(())
            });
            if is_over {
                return;
            }
            if recorded.is_err() {
                client = None;
            }
        }
    }

    /// Says that this process works, on a new connection.
    fn enter(&mut self, client: &mut Client) -> Result<(), Error> {
        client.batch_execute("SET synchronous_commit = off")?;
        if let Some(process) = self.process {
            return processes::lock(client, process);
        }
        let machine = process::host_name();
        let command = registry().snapshot().command;
        let entering = Entering {
            command: &command,
            machine: &machine,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
        };
        self.rows_before = history::rows_inserted(client, &self.schema)?;
        self.process = Some(processes::enter(client, &self.schema, &entering)?);
        Ok(())
    }

    /// Sees what is open, and what limits it.
    fn look(
        &mut self,
        client: &mut Client,
        snapshot: &Snapshot,
        took: Duration,
    ) -> Result<(), Error> {
        let now = seconds_now();
        self.limit = match self.limits.limit() {
            Some(limit) => Some((limit.label, limit.why)),
            // Its first seconds.
            None if snapshot.stages.iter().any(|stage| stage.name == "load") => None,
            None => outside_of_a_pipeline(client, &phase_of(snapshot))?,
        };
        for (number, phase) in (1i16..).zip(&snapshot.phases) {
            if phase.seconds == 0.0 && phase.state != PhaseState::Open {
                continue;
            }
            let open = self.phases.entry(phase.name.to_owned()).or_insert(Open {
                number,
                began: now - phase.seconds,
                seconds: 0.0,
                is_done: false,
                limits: BTreeMap::new(),
                is_new: true,
            });
            let is_done = phase.state == PhaseState::Done;
            open.is_new |= open.seconds < phase.seconds || open.is_done != is_done;
            (open.seconds, open.is_done) = (phase.seconds, is_done);
            if phase.state == PhaseState::Open
                && let Some((limit, _)) = &self.limit
            {
                *open.limits.entry(limit.clone()).or_default() += took.as_secs_f64();
            }
        }
        Ok(())
    }

    fn store(
        &mut self,
        client: &mut Client,
        snapshot: &Snapshot,
        is_over: bool,
    ) -> Result<(), Error> {
        let Some(process) = self.process else {
            return Ok(());
        };
        let rows = history::rows_inserted(client, &self.schema)?;
        let mut sample = sample_of(snapshot, process);
        sample.rows = rows.saturating_sub(self.rows_before);
        (sample.limit, sample.why) = self.limit.clone().unzip();
        let mut txn = client.transaction()?;
        processes::seen(&mut txn, process, registry().run(), &sample.phase)?;
        history::note(&mut txn, &sample)?;
        for (name, open) in self.phases.iter_mut().filter(|(_, open)| open.is_new) {
            history::note_phase(&mut txn, &open.time(process, name))?;
        }
        tally::compact(&mut txn, &self.schema)?;
        if is_over {
            processes::leave(&mut txn, process)?;
        }
        txn.commit()?;
        for open in self.phases.values_mut() {
            open.is_new = false;
        }
        self.samples += 1;
        if self.samples.is_multiple_of(THIN_EVERY) || is_over {
            history::thin(client, process)?;
        }
        Ok(())
    }
}

impl Open {
    fn time(&self, process: i32, name: &str) -> PhaseTime {
        let mut limits: Vec<(String, f64)> = self.limits.clone().into_iter().collect();
        limits.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        PhaseTime {
            process,
            number: self.number,
            phase: name.to_owned(),
            began: self.began,
            seconds: self.seconds,
            is_done: self.is_done,
            limits,
        }
    }
}

/// The open phase; of a command without phases what is under way, else its own name.
fn phase_of(snapshot: &Snapshot) -> String {
    if let Some((_, phase)) = snapshot.open_phase() {
        return phase.name.to_owned();
    }
    let stage = snapshot.stages.first().map(|stage| stage.name.to_owned());
    stage.unwrap_or_else(|| snapshot.command.clone())
}

fn sample_of(snapshot: &Snapshot, process: i32) -> Sample {
    let phase = phase_of(snapshot);
    let stage = snapshot.stages.iter().find(|stage| stage.name == phase);
    let stage = stage.or(snapshot.stages.first());
    let totals = registry().totals();
    // Other work counts records, too: those that verify compares, for one.
    let total = |name: &'static str| {
        let of = |work: &'static str| totals.get(&(work, name)).copied();
        of("load").or(of("consumer")).unwrap_or(0)
    };
    Sample {
        process,
        done: stage.and_then(|stage| Some(stage.counters.first()?.value)),
        total: stage.and_then(|stage| stage.total),
        seconds_left: stage.and_then(|stage| stage.seconds_left),
        repos: total("repos_done"),
        failed: total("repos_failed"),
        records: total("records"),
        bytes: total("bytes"),
        phase,
        ..Sample::default()
    }
}

/// What limits where no threads hand work on to each other: what the server is seen at.
fn outside_of_a_pipeline(
    client: &mut Client,
    phase: &str,
) -> Result<Option<(String, String)>, Error> {
    let (sessions, on_disk) = indexes::sessions_at_work(client)?;
    let said = |limit: &str, why: String| Some((limit.to_owned(), why));
    Ok(match (sessions, phase) {
        (0, "discover" | "identities") => said(
            "network",
            "no session of the database is at work".to_owned(),
        ),
        (0, _) => said(
            "skyfill",
            "no session of the database is at work".to_owned(),
        ),
        _ if on_disk * 2 >= sessions => said(
            "disk",
            format!("sessions at work: {sessions}, of which {on_disk} wait for the disk"),
        ),
        _ => said(
            "PostgreSQL",
            format!("sessions of the database at work: {sessions}"),
        ),
    })
}

fn seconds_now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
