//! Loads pending repos, then runs the phases after loading, in the run that is not done or in a new
//! one.

use crate::certificate;
use crate::discovery::{self, Beside, list_client};
use crate::run::beginning::current_run;
use crate::run::board::Board;
use crate::run::feeder::Fed;
use crate::run::new_run::NewRun;
use crate::run::phases::{self, Finish, RunOutcome};
use crate::run::sending;
use crate::run::session::Session;
use crate::run::stages;
use archive::Archive;
use ledger::coverage::Coverage;
use ledger::locks::{self, Hold, Lock};
use ledger::open::Which;
use ledger::runs::{self, Mode, Phase, Run};
use ledger::{parts, repos};
use observe::registry;
use observe::units::{counted, span};
use postgres::Client;
use process::{Database, Failure};
use serde_json::{Value, json};
use std::sync::Arc;

/// So often a run loads what it found to be forged: what it brings then is proved at once or fails,
/// so that once is nearly always enough.
const MOST_ROUNDS: u32 = 3;

/// A run that came to an end.
pub struct Done {
    /// The run, as it is now.
    pub run: Run,
    /// What its first round of loading counted, if there was one.
    pub counts: Option<Counts>,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// What loading counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were stored.
    pub records: u64,
    /// Bytes of the repos that were stored.
    pub bytes: u64,
    /// Repos whose stored rev is the newest.
    pub unchanged: u64,
    /// Repos that were lost on the way, and fetched again.
    pub fetched_again: u64,
    /// Commits of a rev that is stored with another one.
    pub forks: u64,
}

impl Counts {
    fn of(board: &Board) -> Self {
        Self {
            records: board.records.get(),
            bytes: board.bytes.get(),
            unchanged: board.unchanged.get(),
            fetched_again: board.again.get(),
            forks: board.forks.get(),
        }
    }
}

impl Done {
    fn stopped(run: Run, board: Option<&Arc<Board>>) -> Self {
        Self {
            run,
            counts: board.map(|board| Counts::of(board)),
            outcome: RunOutcome::Stopped,
        }
    }

    /// What it did in so many seconds, beside what the database holds now, as JSON.
    #[must_use]
    pub fn json(&self, coverage: &Coverage, seconds: f64) -> Value {
        let (run, counts) = (&self.run, self.counts.unwrap_or_default());
        let differences = match self.outcome {
            RunOutcome::Done { differences } => Some(differences),
            RunOutcome::Stopped => None,
        };
        json!({
            "run": run.id,
            "now": run.now,
            "mode": run.mode.word(),
            "phase": run.phase.word(),
            "repos": certificate::words(&coverage.repos),
            "records": counts.records,
            "bytes": counts.bytes,
            "unchanged": counts.unchanged,
            "fetchedAgain": counts.fetched_again,
            "forks": counts.forks,
            "unproved": coverage.proofs.unproved(),
            "differences": differences,
            "seconds": seconds,
        })
    }

    /// The same for people.
    #[must_use]
    pub fn lines(&self, coverage: &Coverage, database: &Database, seconds: f64) -> Vec<String> {
        let states: Vec<String> = certificate::words(&coverage.repos)
            .iter()
            .map(|(state, repos)| format!("{repos} {state}"))
            .collect();
        let mut lines = vec![format!("repos: {}; {}", states.join(", "), span(seconds))];
        match self.outcome {
            RunOutcome::Stopped => {}
            RunOutcome::Done { differences: 0 } => lines.push(format!(
                "run {} is done: schema {} of {}",
                self.run.id,
                database.schema,
                database.shown()
            )),
            RunOutcome::Done { .. } => lines.push("the tables differ from the commits".to_owned()),
        }
        lines
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.outcome == RunOutcome::Stopped
    }
}

/// A relay's URL, and the sequence number that it had before a pass, if there was one.
pub(crate) type RelayAt<'r> = (&'r str, Option<i64>);

/// Loads what is pending and does what comes after that; nothing if there is nothing to do. While a
/// pass runs beside it, more may come.
pub(crate) fn load_pending(
    session: &Session<'_>,
    new: &NewRun,
    archive: &mut Option<Arc<Archive>>,
    relay: Option<RelayAt<'_>>,
    beside: Option<Beside<'_>>,
) -> Result<Option<Done>, Failure> {
    let database = session.database;
    let mut client = database.connect()?;
    let refused = |error: postgres::Error| database.failure(error);
    if session.options.transport.is_none() {
        let sent = parts::reopen_sent(&mut *client, &database.schema).map_err(refused)?;
        if sent > 0 {
            observe::log!(
                "{} that consumers have not stored; this run loads them itself",
                counted(sent, "sent repo")
            );
        }
    }
    let open = repos::count_open(&mut *client, &database.schema, Which::All).map_err(refused)?;
    // Of two that begin at once, the second one continues with the run of the first.
    locks::acquire(
        &mut *client,
        Lock::Begin,
        Hold::Session,
        session.stop.waits(),
    )
    .map_err(|error| database.db_failure(&error))?;
    let last = runs::last(&mut *client, &database.schema).map_err(refused)?;
    let run = current_run(session, new, &mut client, last.as_ref(), open)?;
    locks::unlock(&mut *client, Lock::Begin).map_err(refused)?;
    let Some(mut run) = run else {
        return Ok(None);
    };
    if run.phase == Phase::Load {
        // It may be a run that another process has begun since the options were checked.
        new.require_sendable_run(&run)?;
    }
    registry().works_on(run.id);
    if open > 0 && run.phase > Phase::Load {
        // Repos were added after it had loaded: they are merged, once the tables have their
        // indexes.
        if run.mode == Mode::Fresh
            && run.phase == Phase::Indexes
            && !phases::rebuild_indexes_first(session)?
        {
            return Ok(Some(Done::stopped(run, None)));
        }
        runs::load_again(&mut *client, run.id).map_err(refused)?;
        (run.phase, run.mode) = (Phase::Load, Mode::Merge);
    }
    if run.phase == Phase::Load
        && let Some(relay) = relay
    {
        note_seq(session, &mut client, run.id, relay)?;
    }
    drop(client);
    rounds(session, run, archive, open, beside).map(Some)
}

/// Loads, and does what comes after that, until nothing is found that is to be loaded again.
fn rounds(
    session: &Session<'_>,
    mut run: Run,
    archive: &mut Option<Arc<Archive>>,
    mut open: u64,
    mut beside: Option<Beside<'_>>,
) -> Result<Done, Failure> {
    let database = session.database;
    let (mut counts, mut rounds) = (None, 1);
    // An archive needs no directory, and without handles nobody looks accounts up.
    let reads_documents = archive.is_none() && session.options.handles.is_some();
    loop {
        if run.phase == Phase::Load {
            let (archive, pass) = (archive.take(), beside.take());
            let load = || stages::load(session, &run, archive, open, pass);
            let (fed, board) = match reads_documents {
                true => session.documents_beside().during(load),
                false => load(),
            }?;
            if fed == Fed::Stopped {
                return Ok(Done::stopped(run, Some(&board)));
            }
            counts.get_or_insert_with(|| Counts::of(&board));
            if let Some(transport) = &session.options.transport
                && !sending::wait_until_stored(session, transport)?
            {
                return Ok(Done::stopped(run, Some(&board)));
            }
            run = phases::loaded(database, run)?;
        }
        match phases::finish(session, &mut run, rounds < MOST_ROUNDS)? {
            Finish::Ended(outcome) => {
                return Ok(Done {
                    run,
                    counts,
                    outcome,
                });
            }
            Finish::LoadAgain(repos) => {
                observe::log!(
                    "loading {} again: what is stored is not the account's own, or a list named a newer rev or another host meanwhile",
                    counted(repos, "repo")
                );
                let mut client = database.connect()?;
                runs::load_again(&mut *client, run.id).map_err(|error| database.failure(error))?;
                (run.phase, run.mode, open) = (Phase::Load, Mode::Merge, repos);
                rounds += 1;
            }
            Finish::JoinLoad => {
                let mut client = database.connect()?;
                open = repos::count_open(&mut *client, &database.schema, Which::All)
                    .map_err(|error| database.failure(error))?;
                observe::log!(
                    "another skyfill loads {} again; this one takes part",
                    counted(open, "repo")
                );
                rounds += 1;
            }
        }
    }
}

/// Notes where the relay is before a run fetches the first repo, for whoever takes over.
fn note_seq(
    session: &Session<'_>,
    client: &mut Client,
    run: i64,
    (relay, seq): RelayAt<'_>,
) -> Result<(), Failure> {
    let refused = |error: postgres::Error| session.database.failure(error);
    if runs::relay(client, run).map_err(refused)?.is_some() {
        return Ok(());
    }
    if seq.is_some() {
        // A pass of discovery came first: what it listed is older.
        return runs::note_relay(client, run, relay, seq).map_err(refused);
    }
    let http = list_client(&session.options.fetch, 1)?;
    let asked = discovery::relay::current_seq(&http, relay, &session.stop);
    let seq = match session.runtime.block_on(asked) {
        Ok(seq) => {
            observe::log!("{relay} is at sequence number {seq}");
            Some(seq)
        }
        Err(error) => {
            observe::log!("note: the position of {relay} is unknown: {error}");
            None
        }
    };
    runs::note_relay(client, run, relay, seq).map_err(refused)
}
