//! Fetching: a task for each repo under way. It ends when the repo is handed on to be checked and encoded and that went well, or with a note for
//! the ledger.
//!
//! Each request waits for its turn ([`fetch::turns`]). A turn ends when the body is complete and has found room in the queue before the encoders: while
//! those are behind, hosts are asked less.

use crate::fetch_args::OptOut;
use crate::run::board::Board;
use crate::run::encoding::{Encode, Encoded};
use crate::run::feeder::Job;
use fetch::archive::{Archive, ArchiveWriter};
use fetch::hosts::host_of;
use fetch::retry::{self, Retry};
use fetch::turns::Turns;
use fetch::{AccountState, Body, Client, FetchError};
use identity::resolve::{Found, Resolver};
use ledger::repos::{Moved, Note};
use ledger::runs::Mode;
use observe::Workers;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// A repo that was found elsewhere so often is not looked for any more.
const MOST_MOVES: i32 = 5;

/// What all tasks share.
pub(crate) struct Fetching {
    pub(crate) client: Client,
    pub(crate) turns: Turns,
    pub(crate) documents: Resolver,
    /// Bytes of bodies that wait to be encoded.
    pub(crate) memory: Arc<Semaphore>,
    /// What a body may take of that before it goes to a file.
    pub(crate) body_bytes: u32,
    pub(crate) max_attempts: u32,
    pub(crate) opt_out: OptOut,
    pub(crate) archive: Option<Archive>,
    pub(crate) mode: Mode,
    /// Bounded in number by the tasks, in bytes by the memory that each holds.
    pub(crate) encode: crossbeam_channel::Sender<Encode>,
    pub(crate) board: Arc<Board>,
    pub(crate) workers: Workers,
}

/// Takes jobs until there are no more. How many there are at once is bounded by who gives them.
pub(crate) async fn fetch_all(shared: Arc<Fetching>, mut jobs: UnboundedReceiver<Job>) {
    let mut running = JoinSet::new();
    while let Some(job) = jobs.recv().await {
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

fn state(job: &Job, state: &'static str, error: Option<String>) -> Note {
    Note {
        did: job.open.did.clone(),
        lease: job.lease,
        state,
        code: None,
        error,
    }
}

async fn process(shared: &Fetching, job: Job) {
    if shared.opt_out.has(&job.open.did, &job.host) {
        return shared.board.note(state(&job, "host opted out", None));
    }
    let (did, lease) = (&job.open.did, job.lease);
    match fetch_checked(shared, &job).await {
        Ok(Outcome::Encoded) => {}
        Ok(Outcome::Unchanged) => shared.board.note(state(&job, "loaded", None)),
        Ok(Outcome::Lost) | Err(FetchError::Stopped) => shared.board.lost(lease),
        Err(error) => match look_elsewhere(shared, &job, error).await {
            Elsewhere::Moved(pds) => shared.board.has_moved(Moved {
                did: did.clone(),
                lease,
                host: host_of(&pds),
                pds,
            }),
            Elsewhere::Gone(why) => {
                let is_loaded = job.open.rev.is_some();
                let word = if is_loaded {
                    "deleted"
                } else {
                    AccountState::NotFound.word()
                };
                shared.board.note(state(&job, word, why));
            }
            Elsewhere::Stopped => shared.board.lost(lease),
            Elsewhere::No(FetchError::Account(of)) => shared.board.note(state(&job, of.word(), None)),
            Elsewhere::No(error) => {
                shared
                    .board
                    .note(failed(did, lease, error.reason(), error.to_string()));
            }
        },
    }
}

/// Where a repo is that could not be had.
enum Elsewhere {
    /// On this PDS.
    Moved(String),
    /// Nowhere; a note for people.
    Gone(Option<String>),
    /// Where it was asked for: the error stands.
    No(FetchError),
    /// It was told to stop.
    Stopped,
}

/// Asks the DID document when the host says that it does not have the repo, or not any more, or sends elsewhere.
async fn look_elsewhere(shared: &Fetching, job: &Job, error: FetchError) -> Elsewhere {
    let is_missing = error == FetchError::Account(AccountState::NotFound);
    let is_worth_it = is_missing
        || matches!(
            error,
            FetchError::Redirect(_) | FetchError::Account(AccountState::Deactivated)
        );
    if !is_worth_it || shared.archive.is_some() {
        return Elsewhere::No(error);
    }
    let found = tokio::select! {
        found = shared.documents.resolve(&job.open.did) => found,
        () = shared.board.stop.wait() => return Elsewhere::Stopped,
    };
    match found {
        Found::Document(document) if host_of(&document.pds) != job.host => {
            if job.open.moves < MOST_MOVES {
                return Elsewhere::Moved(document.pds);
            }
            Elsewhere::No(FetchError::Redirect(
                "its DID document names another PDS each time".to_owned(),
            ))
        }
        // The host of a did:web says much when it is not well: rows are not removed for that.
        Found::Gone if is_missing && job.open.rev.is_some() && !job.open.did.starts_with("did:plc:") => {
            Elsewhere::No(FetchError::NoDocument("its host has none".to_owned()))
        }
        Found::Document(_) | Found::Gone if is_missing => Elsewhere::Gone(None),
        // Rows are not removed because a directory is away, or a document cannot be read.
        Found::Unreachable(why) if is_missing && job.open.rev.is_some() => {
            Elsewhere::No(FetchError::NoDocument(why))
        }
        Found::Useless(why) if is_missing && job.open.rev.is_some() => {
            Elsewhere::No(FetchError::NoDocument(why.to_string()))
        }
        Found::Unreachable(why) if is_missing => Elsewhere::Gone(Some(format!("its DID document: {why}"))),
        Found::Useless(why) if is_missing => Elsewhere::Gone(Some(format!("its DID document: {why}"))),
        _ => Elsewhere::No(error),
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
    let mut attempt = 1;
    loop {
        let asking = shared.board.asks();
        let got = tokio::select! {
            got = get(shared, job) => got,
            () = shared.board.stop.wait() => return Err(FetchError::Stopped),
        };
        drop(asking);
        // From here on it is waited for: its rows may be on their way.
        let outcome = match got {
            Ok(Some((body, memory))) => encode(shared, job, body, memory).await,
            Ok(None) => Ok(Outcome::Unchanged),
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return outcome };
        let wait = match retry::decide(&error, attempt, shared.max_attempts) {
            Retry::Never | Retry::NeverHost(_) => return Err(error),
            Retry::After(wait) => wait,
            // The next turn comes after that.
            Retry::AfterHost(_) => std::time::Duration::ZERO,
        };
        // That a host has a limit says nothing against a repo: the scheduler's patience is what ends it.
        attempt += u32::from(!matches!(error, FetchError::RateLimited(_)));
        shared.board.retried.add(1);
        let _asking = shared.board.asks();
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
    let memory = || async {
        let memory = Arc::clone(&shared.memory).acquire_many_owned(shared.body_bytes);
        memory.await.map_err(|_| FetchError::Stopped)
    };
    if let Some(archive) = &shared.archive {
        if job.open.rev.is_some() && !job.open.rebuild && archive.rev(did) == job.open.rev.as_deref() {
            return Ok(None);
        }
        let memory = memory().await?;
        let body = archive
            .read(did, shared.body_bytes as usize)
            .map_err(|error| FetchError::BadRepo(error.to_string(), false))?;
        let missing = || FetchError::BadRepo("not in the archive".to_owned(), false);
        return Ok(Some((body.ok_or_else(missing)?, memory)));
    }
    if let (Some(rev), false) = (&job.open.rev, job.open.rebuild || job.open.is_newer) {
        let latest = latest_rev(shared, job).await?;
        if latest.as_ref() == Some(rev) {
            return Ok(None);
        }
    }
    let mut turn = shared.turns.turn(&job.host).await?;
    let _worker = shared.workers.start(&format!("fetch {did} from {}", job.host));
    let got = shared.client.get_repo(did, &job.open.pds, &mut turn.seen).await;
    // Room first, so that hosts wait while the encoders are behind.
    let memory = match &got {
        Ok(_) => memory().await.map(Some)?,
        Err(_) => None,
    };
    turn.end(&got);
    let body = got?;
    Ok(memory.map(|memory| (body, memory)))
}

/// The newest rev, if the PDS says; a PDS that does not know the question is asked for the repo.
async fn latest_rev(shared: &Fetching, job: &Job) -> Result<Option<String>, FetchError> {
    let mut turn = shared.turns.turn(&job.host).await?;
    let latest = shared
        .client
        .latest_rev(&job.open.did, &job.open.pds, &mut turn.seen)
        .await;
    turn.end(&latest);
    match latest {
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
    // The queue is not bounded but by the memory that each holds, so this does not wait.
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
