//! Fetching: one task per repo in progress. A task ends when the repo was passed on to be checked
//! and encoded, or with a result for the ledger.
//!
//! Each request waits for its turn ([`fetch::turns`]). A request holds its slot until its body is
//! complete and queued for encoding. While encoding is behind, hosts therefore get fewer requests.

use crate::documents;
use crate::run::board::Board;
use crate::run::encoding::{Encode, Encoded};
use crate::run::feeder::Job;
use crate::run::walked::Walked;
use crate::trust::{self, Known, Now};
use archive::{Archive, ArchiveError};
use fetch::hosts::host_of;
use fetch::retry::{self, Pauses, Policy, Retry};
use fetch::turns::{Turn, Turns};
use fetch::{AccountState, Body, Client, FetchError, Latest, OptOut, Spool, whole};
use identity::resolve::{Found, Resolver};
use ledger::identity::DocumentNote;
use ledger::proofs::Proof;
use ledger::repos::{Moved, Note};
use ledger::states::State;
use load::revs;
use observe::{Workers, printable};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// A repo that was found elsewhere so often is not looked for any more.
const MOST_MOVES: i32 = 5;
/// CARs of the second archive that are named because they cannot be used.
const NAMED: u64 = 1000;

/// What all tasks share.
pub(crate) struct Fetching {
    pub(crate) client: Client,
    pub(crate) turns: Turns,
    pub(crate) documents: Resolver,
    /// Bytes of bodies that wait to be encoded.
    pub(crate) memory: Arc<Semaphore>,
    /// What a body may take of that before it goes to a file.
    pub(crate) body_bytes: u32,
    pub(crate) spool: Spool,
    pub(crate) max_attempts: u32,
    pub(crate) opt_out: OptOut,
    pub(crate) archive: Option<Arc<Archive>>,
    /// Repos that were fetched before the load.
    pub(crate) walked: Option<Arc<Walked>>,
    /// An archive that is read before hosts are asked.
    pub(crate) second: Option<Arc<Archive>>,
    /// CARs of it that could not be used.
    pub(crate) unusable: AtomicU64,
    /// Whether a host's word that it does not have an account is enough.
    pub(crate) accept_deletions: bool,
    /// Bounded in number by the tasks, in bytes by the memory that each holds.
    pub(crate) encode: crossbeam_channel::Sender<Encode>,
    pub(crate) board: Arc<Board>,
    pub(crate) workers: Workers,
    /// Whether the event stream is followed meanwhile.
    pub(crate) is_stream: bool,
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
                    "failed in skyfill",
                    "skyfill's own work on it failed".to_owned(),
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
        state: State::Failed,
        code: Some(code),
        error: Some(error),
        proof: None,
    }
}

fn state(job: &Job, state: State, error: Option<String>) -> Note {
    Note {
        did: job.open.did.clone(),
        lease: job.lease,
        state,
        code: None,
        error,
        proof: None,
    }
}

/// What the ledger calls what a host says of an account.
pub(crate) fn state_of(account: AccountState) -> State {
    match account {
        AccountState::Deactivated => State::Deactivated,
        AccountState::Suspended => State::Suspended,
        AccountState::Takendown => State::Takendown,
        AccountState::NotFound => State::NotFound,
    }
}

async fn process(shared: &Fetching, job: Job) {
    if shared.opt_out.has(&job.open.did, &job.host) {
        return shared.board.note(state(&job, State::OptedOut, None));
    }
    let (did, lease) = (&job.open.did, job.lease);
    let outcome = match ask_first(shared, &job).await {
        Ok(known) => fetch_checked(shared, &job, known).await,
        Err(outcome) => outcome,
    };
    match outcome {
        Ok(Fetched::Encoded) => {}
        Ok(Fetched::Unchanged(proof)) => shared.board.note(Note {
            proof,
            ..state(&job, State::Loaded, None)
        }),
        Ok(Fetched::Elsewhere(pds)) => note_moved(shared, &job, pds),
        Ok(Fetched::Lost) | Err(FetchError::Stopped) => shared.board.on_lost(lease),
        Err(error) => match look_elsewhere(shared, &job, error).await {
            Elsewhere::Moved(pds) => note_moved(shared, &job, pds),
            Elsewhere::Gone(why) => {
                let is_loaded = job.open.rev.is_some();
                let of = if is_loaded {
                    State::Deleted
                } else {
                    State::NotFound
                };
                shared.board.note(state(&job, of, why));
            }
            Elsewhere::Stopped => shared.board.on_lost(lease),
            // What is stored is nobody's word, and the account has none: the rows go.
            Elsewhere::No(FetchError::Account(_)) if job.open.proof == Some(Proof::Forged) => {
                shared.board.note(state(&job, State::Deleted, None));
            }
            Elsewhere::No(FetchError::Account(of)) => {
                debug!(
                    did,
                    host = job.host,
                    state = of.word(),
                    "a repo is not active"
                );
                shared.board.note(state(&job, state_of(of), None));
            }
            Elsewhere::No(error) => {
                debug!(did, host = job.host, code = error.reason(), %error, "a repo failed");
                shared
                    .board
                    .note(failed(did, lease, error.reason(), error.to_string()));
            }
        },
    }
}

fn note_moved(shared: &Fetching, job: &Job, pds: String) {
    let did = job.open.did.clone();
    debug!(did, host = job.host, to = pds, "a repo has moved");
    shared.board.note_moved(Moved {
        did,
        lease: job.lease,
        host: host_of(&pds),
        pds,
    });
}

/// Where a repo is that could not be had.
enum Elsewhere {
    /// On this PDS.
    Moved(String),
    /// Nowhere; a note for people.
    Gone(Option<String>),
    /// Where it was asked for: the error stands.
    No(FetchError),
    /// It was stopped.
    Stopped,
}

/// Asks the DID document when the host says that it does not have the repo, or not any more, or
/// sends elsewhere.
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
    if let Found::Document(document) = &found {
        shared.board.note_document(DocumentNote {
            // The stream may tell of a newer one before this one is stored.
            is_fresh: !shared.is_stream,
            ..documents::good(job.open.did.clone(), document.clone())
        });
    }
    let is_stored = job.open.rev.is_some();
    match found {
        Found::Document(document) if host_of(&document.pds) != job.host => {
            if job.open.moves < MOST_MOVES {
                return Elsewhere::Moved(document.pds);
            }
            Elsewhere::No(FetchError::Redirect(
                "its DID document names another PDS each time".to_owned(),
            ))
        }
        // The host of a did:web says much when it is not well: rows are not removed for that,
        // unless the host's list or the stream says the same.
        Found::Gone
            if is_missing
                && is_stored
                && !job.open.is_delisted
                && !shared.accept_deletions
                && !job.open.did.starts_with("did:plc:") =>
        {
            Elsewhere::No(FetchError::NoDocument("its host does not have it".to_owned()))
        }
        // One word of a host is not enough while the account's document names it: a list without
        // the account has to say the same.
        Found::Document(_) if is_missing && is_stored && !job.open.is_delisted && !shared.accept_deletions => {
            Elsewhere::No(FetchError::Untrusted(
                "host forgot",
                "its host does not have it, although its DID document names that host: its rows stay until the host's list omits it (catch-up), \
                 or until --accept-deletions confirms that it is gone"
                    .to_owned(),
            ))
        }
        Found::Document(_) | Found::Gone if is_missing => Elsewhere::Gone(None),
        // Rows are not removed because a directory is away, or a document cannot be read.
        Found::Unreachable(why) if is_missing && is_stored => {
            Elsewhere::No(FetchError::NoDocument(why))
        }
        Found::Useless(why) if is_missing && is_stored => {
            Elsewhere::No(FetchError::NoDocument(why.to_string()))
        }
        Found::Unreachable(why) if is_missing => Elsewhere::Gone(Some(format!("its DID document: {why}"))),
        Found::Useless(why) if is_missing => Elsewhere::Gone(Some(format!("its DID document: {why}"))),
        _ => Elsewhere::No(error),
    }
}

/// The result for a repo that was fetched.
enum Fetched {
    /// Its rows are on their way to the database.
    Encoded,
    /// The stored rev is the newest; who vouches for it.
    Unchanged(Option<Proof>),
    /// Its document names this PDS.
    Elsewhere(String),
    /// It was lost on the way to the database; the ledger has it as open.
    Lost,
}

/// What is known of the account's document. Where it names another host than the one that is to be
/// asked, the directory is asked first.
async fn ask_first(
    shared: &Fetching,
    job: &Job,
) -> Result<Option<Known>, Result<Fetched, FetchError>> {
    let known = Known::of_ledger(job.open.document.as_ref());
    if job.open.pds.is_empty() && shared.archive.is_none() {
        return match ask(shared, job, None).await {
            None => Err(Err(FetchError::Stopped)),
            Some(Now::Elsewhere(pds)) => Err(elsewhere(job, pds)),
            Some(Now::Unknown(why)) => Err(Err(why)),
            Some(Now::Known(_)) => Err(Err(FetchError::NoDocument(
                "its document names no host".to_owned(),
            ))),
        };
    }
    let is_elsewhere = known.as_ref().is_some_and(|known| known.host != job.host);
    if !is_elsewhere || shared.archive.is_some() {
        return Ok(known);
    }
    match ask(shared, job, None).await {
        None => Err(Err(FetchError::Stopped)),
        Some(Now::Known(now)) => Ok(Some(now)),
        Some(Now::Elsewhere(pds)) => Err(elsewhere(job, pds)),
        // What comes from there is not proved, and what the known key did not sign is not taken.
        Some(Now::Unknown(_)) => Ok(known),
    }
}

/// How the document of an account is now; nothing if it was stopped.
async fn ask(shared: &Fetching, job: &Job, commit: Option<&atrepo::Commit>) -> Option<Now> {
    let account = (job.open.did.as_str(), job.host.as_str());
    let learned = |document| shared.board.note_document(document);
    tokio::select! {
        now = trust::ask(&shared.documents, account, commit, learned) => Some(now),
        () = shared.board.stop.wait() => None,
    }
}

fn elsewhere(job: &Job, pds: String) -> Result<Fetched, FetchError> {
    if job.open.moves < MOST_MOVES {
        return Ok(Fetched::Elsewhere(pds));
    }
    Err(FetchError::Redirect(
        "its DID document names another PDS each time".to_owned(),
    ))
}

/// Tries until there is a repo that passes every check, or no use in trying.
async fn fetch_checked(
    shared: &Fetching,
    job: &Job,
    known: Option<Known>,
) -> Result<Fetched, FetchError> {
    let policy = Policy {
        attempts: shared.max_attempts,
        pauses: Pauses::Turns,
    };
    let stop = &shared.board.stop;
    // What comes under a lost lease cannot be stored, and another worker asks the host.
    let ends = async || {
        tokio::select! {
            () = stop.wait() => {}
            () = shared.board.held.lost(job.lease) => {}
        }
    };
    // Held while it waits for its host, in pauses too.
    let asking = Mutex::new(None);
    let asks = |is_asking: bool| {
        let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
        *asking = is_asking.then(|| shared.board.start_asking());
    };
    let known = Mutex::new(known);
    let uses_second = AtomicBool::new(true);
    retry::persist(
        policy,
        ends(),
        || async {
            loop {
                asks(true);
                let uses_second_now = uses_second.load(Ordering::Relaxed);
                let getting = get(shared, job, uses_second_now);
                let got = retry::unless_stopped(ends(), getting).await?;
                asks(false);
                // From here on it is waited for: its rows may be on their way.
                let Some(got) = got else {
                    return Ok(Fetched::Unchanged(None));
                };
                let take = || known.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut known_now = take();
                let outcome = encode(shared, job, &mut known_now, got.body, got.memory).await;
                *known.lock().unwrap_or_else(PoisonError::into_inner) = known_now;
                asks(outcome.is_err());
                match outcome {
                    // That says nothing of what the host has.
                    Err(error @ (FetchError::BadRepo(..) | FetchError::Untrusted(..)))
                        if got.is_second =>
                    {
                        uses_second.store(false, Ordering::Relaxed);
                        let did = &job.open.did;
                        note_unusable(shared, &format!("the archive's CAR of {did}: {error}"));
                    }
                    outcome => return outcome,
                }
            }
        },
        |error, retry| {
            let is_retried = !matches!(retry, Retry::Never | Retry::NeverHost(_));
            shared.board.retried.add(u64::from(is_retried));
            if is_retried {
                debug!(did = job.open.did, host = job.host, %error, "a repo is tried again");
            }
        },
    )
    .await
}

/// A CAR that is to be encoded.
struct Got {
    body: Body,
    /// Its share of the memory.
    memory: OwnedSemaphorePermit,
    /// Whether it is of the archive that is read before hosts are asked.
    is_second: bool,
}

/// Names a CAR of the second archive that cannot be used.
fn note_unusable(shared: &Fetching, why: &str) {
    let number = shared.unusable.fetch_add(1, Ordering::Relaxed);
    let why = printable(why);
    if number < NAMED {
        warn!("{why}; its host is asked instead");
    } else {
        debug!("{why}; its host is asked instead");
    }
    if number == NAMED {
        warn!("more CARs of the archive cannot be used; they are not named");
    }
}

/// The CAR; nothing if the stored rev is the newest. The second archive is left alone unless
/// `uses_second`.
async fn get(shared: &Fetching, job: &Job, uses_second: bool) -> Result<Option<Got>, FetchError> {
    let did = &job.open.did;
    let memory = || async {
        let memory = Arc::clone(&shared.memory).acquire_many_owned(shared.body_bytes);
        memory.await.map_err(|_| FetchError::Stopped)
    };
    if let Some(archive) = &shared.archive {
        if job.open.rev.is_some()
            && !job.open.rebuild
            && archive.rev(did).map_err(|error| unreadable(&error))? == job.open.rev
        {
            return Ok(None);
        }
        let memory = memory().await?;
        let body = read(shared, archive, did).await?;
        let missing = || FetchError::BadRepo("not in the archive".to_owned(), false);
        return Ok(Some(Got {
            body: body.ok_or_else(missing)?,
            memory,
            is_second: false,
        }));
    }
    if job.open.rev.is_none() {
        // What cannot be read is requested.
        if let Some(walked) = &shared.walked
            && let Ok(Some(body)) = read(shared, &walked.archive, did).await
        {
            return Ok(Some(Got {
                body,
                memory: memory().await?,
                is_second: false,
            }));
        }
        if let Some(second) = shared.second.as_ref().filter(|_| uses_second)
            && let Ok(Some(rev)) = second.rev(did)
            && is_newest(shared, job, &rev).await?
        {
            let memory = memory().await?;
            match read(shared, second, did).await {
                Ok(Some(body)) => {
                    return Ok(Some(Got {
                        body,
                        memory,
                        is_second: true,
                    }));
                }
                Ok(None) => {}
                Err(FetchError::Stopped) => return Err(FetchError::Stopped),
                Err(error) => note_unusable(shared, &error.to_string()),
            }
        }
    }
    if let Some(stored) = &job.open.rev
        && may_be_unchanged(job, stored)
        && let Some(latest) = latest_commit(shared, job).await?
    {
        if let Some(why) = revs::refuse(&latest.rev) {
            return Err(FetchError::Untrusted("rev in the future", why));
        }
        if latest.rev == *stored && Some(&latest.cid) == job.open.commit_cid.as_ref() {
            return Ok(None);
        }
    }
    let turn = turn(shared, job).await?;
    let _worker = shared
        .workers
        .start(&format!("fetch {did} from {}", job.host));
    let of = (did.as_str(), job.open.pds.as_str());
    let (body, memory) = whole::fetch(&shared.client, turn, of, memory()).await?;
    Ok(Some(Got {
        body,
        memory,
        is_second: false,
    }))
}

/// Waits until the host may be asked: its pace allows it, and so does the lease.
async fn turn(shared: &Fetching, job: &Job) -> Result<Turn, FetchError> {
    let held = &shared.board.held;
    loop {
        let turn = shared.turns.turn(&job.host).await?;
        if held.is_valid(job.lease) {
            return Ok(turn);
        }
        drop(turn);
        if !held.wait(job.lease).await {
            return Err(FetchError::Stopped);
        }
    }
}

fn unreadable(error: &ArchiveError) -> FetchError {
    FetchError::BadRepo(error.to_string(), false)
}

/// The CAR of an account in an archive. Disks and object stores are waited for in a thread that
/// nothing else waits for.
async fn read(
    shared: &Fetching,
    archive: &Arc<Archive>,
    did: &str,
) -> Result<Option<Body>, FetchError> {
    let (archive, did, spool) = (Arc::clone(archive), did.to_owned(), shared.spool.clone());
    let most_memory = shared.body_bytes as usize;
    tokio::task::spawn_blocking(move || archive.read(&did, most_memory, &spool))
        .await
        .map_err(|_| FetchError::Stopped)?
        .map_err(|error| unreadable(&error))
}

/// Whether the host of a repo has nothing newer than `rev`, which is what the index of an archive
/// says; [`Archive::read`] makes sure that the CAR is of that rev. A host that does not know, or
/// cannot be reached, has not: what an archive holds is proved like any other repo, and a later
/// pass finds what is newer.
async fn is_newest(shared: &Fetching, job: &Job, rev: &str) -> Result<bool, FetchError> {
    let latest = latest_commit(shared, job).await?;
    Ok(latest.is_none_or(|latest| latest.rev.as_str() <= rev))
}

/// Whether the host's word that it has the stored commit is enough.
fn may_be_unchanged(job: &Job, stored: &str) -> bool {
    let open = &job.open;
    !open.rebuild
        && !open.is_newer
        && open.proof != Some(Proof::Forged)
        && revs::refuse(stored).is_none()
}

/// The newest commit, if the PDS says; a PDS that does not know the question is asked for the repo.
async fn latest_commit(shared: &Fetching, job: &Job) -> Result<Option<Latest>, FetchError> {
    let mut turn = turn(shared, job).await?;
    let latest = shared
        .client
        .latest_commit(&job.open.did, &job.open.pds, &mut turn.seen)
        .await;
    turn.end(&latest);
    match latest {
        Ok(latest) => Ok(Some(latest)),
        Err(error @ (FetchError::Account(_) | FetchError::RateLimited(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Has it checked and encoded, and kept if CARs are kept. Where the commit is doubtful, the
/// directory is asked, and it is encoded once more.
async fn encode(
    shared: &Fetching,
    job: &Job,
    known: &mut Option<Known>,
    mut body: Body,
    mut memory: OwnedSemaphorePermit,
) -> Result<Fetched, FetchError> {
    let mut was_asked = false;
    loop {
        let (answer, encoded) = oneshot::channel();
        let work = Encode {
            open: job.open.clone(),
            host: job.host.clone(),
            lease: job.lease,
            known: known.clone(),
            body,
            memory,
            answer,
        };
        // The queue is not bounded but by the memory that each holds, so this does not wait.
        if shared.encode.send(work).is_err() {
            return Ok(Fetched::Lost);
        }
        let commit = match encoded.await {
            Ok(Encoded::Well) => return Ok(Fetched::Encoded),
            Ok(Encoded::Unchanged(proof)) => return Ok(Fetched::Unchanged(proof)),
            Ok(Encoded::Bad(error)) => {
                return Err(FetchError::BadRepo(
                    error.to_string(),
                    error.may_be_transport(),
                ));
            }
            Ok(Encoded::Refused(code, why)) => return Err(FetchError::Untrusted(code, why)),
            Ok(Encoded::NotKept(why)) => return Err(FetchError::Spool(why)),
            // A thread that broke off ends the run; the repo is open still.
            Ok(Encoded::Lost) | Err(_) => return Ok(Fetched::Lost),
            Ok(Encoded::Doubtful(commit, back, share)) => {
                (body, memory) = (back, share);
                commit
            }
        };
        let in_doubt = |why: &str| {
            let rev = &commit.rev;
            let what = if job.open.rev.as_ref() == Some(rev) {
                format!("rev {rev} is stored with another commit")
            } else {
                format!("the signature of rev {rev} was not made by the known key")
            };
            FetchError::Untrusted("in doubt", format!("{what}, and {why}"))
        };
        if was_asked || shared.archive.is_some() {
            return Err(in_doubt("it cannot be decided which is the account's"));
        }
        was_asked = true;
        match ask(shared, job, Some(&commit)).await {
            None => return Err(FetchError::Stopped),
            Some(Now::Known(now)) => *known = Some(now),
            Some(Now::Elsewhere(pds)) => return elsewhere(job, pds),
            Some(Now::Unknown(why)) => return Err(in_doubt(&why.to_string())),
        }
    }
}
