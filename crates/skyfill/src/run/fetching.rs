//! Fetching: a task for each repo under way. It ends when the repo is handed on to be checked and encoded and that went well, or with a note for
//! the ledger.

use crate::fetch_args::is_skipped;
use crate::run::board::Board;
use crate::run::encoding::{Encode, Encoded};
use crate::run::feeder::Job;
use fetch::archive::{Archive, ArchiveWriter};
use fetch::hosts::Hosts;
use fetch::retry::{self, Retry};
use fetch::{Body, Client, FetchError};
use ledger::repos::Note;
use ledger::runs::Mode;
use observe::Workers;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// What all tasks share.
pub(crate) struct Fetching {
    pub(crate) client: Client,
    pub(crate) hosts: Hosts,
    /// Repos being fetched.
    pub(crate) slots: Semaphore,
    /// Bytes of bodies in memory.
    pub(crate) memory: Arc<Semaphore>,
    /// What a body may take of that before it goes to a file.
    pub(crate) body_bytes: u32,
    pub(crate) max_attempts: u32,
    pub(crate) skip_hosts: Vec<String>,
    pub(crate) archive: Option<Archive>,
    pub(crate) mode: Mode,
    /// Bounded in number by the tasks, in bytes by the memory that each holds.
    pub(crate) encode: crossbeam_channel::Sender<Encode>,
    pub(crate) board: Arc<Board>,
    pub(crate) workers: Workers,
}

/// Takes jobs until there are no more; at most `tasks` at once.
pub(crate) async fn fetch_all(shared: Arc<Fetching>, mut jobs: Receiver<Job>, tasks: usize) {
    let room = Arc::new(Semaphore::new(tasks));
    let mut running = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            let (did, lease) = (job.open.did.clone(), job.lease);
            let board = Arc::clone(&shared.board);
            // A task that panics has to be settled, too.
            let outcome = tokio::spawn(async move { process(&shared, job).await }).await;
            if outcome.is_err() {
                board.note(failed(
                    &did,
                    lease,
                    "broke off",
                    "skyfill's own work on it broke off".to_owned(),
                ));
            }
            drop(permit);
        });
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

fn failed(did: &str, lease: i64, code: &'static str, error: String) -> Note {
    Note {
        did: did.to_owned(),
        lease,
        state: "failed",
        code: Some(code),
        error: Some(error),
    }
}

async fn process(shared: &Fetching, job: Job) {
    let (did, lease) = (job.open.did.clone(), job.lease);
    if is_skipped(&job.host, &shared.skip_hosts) {
        return shared.board.note(Note {
            did,
            lease,
            state: "host opted out",
            code: None,
            error: None,
        });
    }
    match fetch_checked(shared, &job).await {
        Ok(Outcome::Encoded) => {}
        Ok(Outcome::Unchanged) => shared.board.note(Note {
            did,
            lease,
            state: "loaded",
            code: None,
            error: None,
        }),
        Ok(Outcome::Lost) | Err(FetchError::Stopped) => shared.board.lost(1),
        Err(FetchError::Account(state)) => shared.board.note(Note {
            did,
            lease,
            state: state.word(),
            code: None,
            error: None,
        }),
        Err(error) => shared
            .board
            .note(failed(&did, lease, error.reason(), error.to_string())),
    }
}

enum Outcome {
    /// Its rows are on their way to the database.
    Encoded,
    /// The stored rev is the newest.
    Unchanged,
    /// It was lost on the way to the database; the ledger has it as open.
    Lost,
}

/// Tries until there is a repo that passes every check, or no use in trying.
async fn fetch_checked(shared: &Fetching, job: &Job) -> Result<Outcome, FetchError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let got = tokio::select! {
            got = get(shared, job) => got,
            () = shared.board.stop.wait() => return Err(FetchError::Stopped),
        };
        // From here on it is waited for: its rows may be on their way.
        let outcome = match got {
            Ok(Some((body, memory))) => encode(shared, job, body, memory).await,
            Ok(None) => Ok(Outcome::Unchanged),
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return outcome };
        let wait = match retry::decide(&error, attempt, shared.max_attempts) {
            Retry::Never => return Err(error),
            Retry::NeverHost(wait) => {
                shared.hosts.pause(&job.host, wait);
                return Err(error);
            }
            Retry::After(wait) => wait,
            Retry::AfterHost(wait) => {
                shared.hosts.pause(&job.host, wait);
                wait
            }
        };
        shared.board.retried.add(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.board.stop.wait() => return Err(FetchError::Stopped),
        }
    }
}

/// The CAR, with its share of the memory; nothing if the stored rev is the newest.
async fn get(shared: &Fetching, job: &Job) -> Result<Option<(Body, OwnedSemaphorePermit)>, FetchError> {
    let did = &job.open.did;
    // While nothing keeps a row from being there twice, a repo is not loaded a second time: a newer rev is for the next run.
    if shared.mode == Mode::Fresh && job.open.rev.is_some() {
        return Ok(None);
    }
    let never_closed = |_| FetchError::Stopped;
    let from_archive = shared.archive.as_ref().and_then(|archive| archive.rev(did));
    if let (Some(rev), false) = (&job.open.rev, job.open.rebuild) {
        let latest = match from_archive {
            Some(rev) => Some(rev.to_owned()),
            None if shared.archive.is_some() => None,
            None => latest_rev(shared, job).await?,
        };
        if latest.as_ref() == Some(rev) {
            return Ok(None);
        }
    }
    let memory = || Arc::clone(&shared.memory).acquire_many_owned(shared.body_bytes);
    let got = if let Some(archive) = &shared.archive {
        let memory = memory().await.map_err(never_closed)?;
        let body = archive
            .read(did, shared.body_bytes as usize)
            .map_err(|error| FetchError::BadRepo(error.to_string(), false))?;
        let missing = || FetchError::BadRepo("not in the archive".to_owned(), false);
        (body.ok_or_else(missing)?, memory)
    } else {
        // The memory after the slot: those that wait for a host hold none.
        let _slot = shared.hosts.slot(&shared.slots, &job.host).await?;
        let memory = memory().await.map_err(never_closed)?;
        let _worker = shared.workers.start(&format!("fetch {did} from {}", job.host));
        (shared.client.get_repo(did, &job.open.pds).await?, memory)
    };
    Ok(Some(got))
}

/// The newest rev, if the PDS says; a PDS that does not know the question is asked for the repo.
async fn latest_rev(shared: &Fetching, job: &Job) -> Result<Option<String>, FetchError> {
    let _slot = shared.hosts.slot(&shared.slots, &job.host).await?;
    match shared.client.latest_rev(&job.open.did, &job.open.pds).await {
        Ok(rev) => Ok(Some(rev)),
        Err(error @ (FetchError::Account(_) | FetchError::RateLimited(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Has it checked and encoded, and kept if CARs are kept.
async fn encode(
    shared: &Fetching,
    job: &Job,
    body: Body,
    memory: OwnedSemaphorePermit,
) -> Result<Outcome, FetchError> {
    let (answer, encoded) = oneshot::channel();
    let work = Encode {
        did: job.open.did.clone(),
        pds: job.open.pds.clone(),
        lease: job.lease,
        stored_rev: job.open.rev.clone().filter(|_| !job.open.rebuild),
        body,
        memory,
        answer,
    };
    // The queue is longer than there are tasks, so this does not wait.
    if shared.encode.send(work).is_err() {
        return Ok(Outcome::Lost);
    }
    match encoded.await {
        Ok(Encoded::Well) => Ok(Outcome::Encoded),
        Ok(Encoded::Unchanged) => Ok(Outcome::Unchanged),
        Ok(Encoded::Bad(error)) => Err(FetchError::BadRepo(error.to_string(), error.may_be_transport())),
        Ok(Encoded::Older(why)) => Err(FetchError::BadRepo(why, false)),
        Ok(Encoded::NotKept(why)) => Err(FetchError::Spool(why)),
        Ok(Encoded::Lost) => Ok(Outcome::Lost),
        Err(_) => Err(FetchError::BadRepo("the check broke off".to_owned(), false)),
    }
}

/// Adds a CAR to the archive that is kept.
pub(crate) fn keep(
    writer: &Mutex<ArchiveWriter>,
    did: &str,
    pds: &str,
    rev: &str,
    car: &[u8],
) -> Result<(), String> {
    writer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .add(did, pds, rev, car)
        .map_err(|error| error.to_string())
}
