//! The work for one line of the DID file: fetch, check and send the repo, or skip it, or record a
//! failure.

use crate::checked::CheckedRepo;
use crate::parcel::ToSend;
use crate::tally::Tally;
use atrepo::{Repo, RepoError, RepoSummary};
use discover::did_file::DidLine;
use fetch::hosts::host_of;
use fetch::retry::{self, Pauses, Policy, Retry};
use fetch::turns::Turns;
use fetch::{AccountState, Client, FetchError, OptOut, Pages, whole};
use observe::Workers;
use process::Stop;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A repo that passed every check, what it holds, and its share of the memory for indexes.
type Fetched = (Repo<fetch::Body>, RepoSummary, OwnedSemaphorePermit);

/// Memory for indexes of blocks, counted in KiB. Each repo takes one share, before its share of the
/// buffer.
#[derive(Clone)]
pub(crate) struct Indexes {
    free: Arc<Semaphore>,
    total: usize,
}

impl Indexes {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = bytes >> 10;
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Waits for a share of so many bytes.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, FetchError> {
        let kib = bytes.div_ceil(1 << 10);
        let (true, Ok(wanted)) = (kib <= self.total, u32::try_from(kib)) else {
            let why = format!(
                "the index of its blocks needs {kib} KiB of memory, more than the {} KiB that it may use: raise --memory",
                self.total
            );
            return Err(FetchError::BadRepo(why, false));
        };
        let share = Arc::clone(&self.free).acquire_many_owned(wanted);
        share.await.map_err(|_| FetchError::Stopped)
    }
}

/// Why a repo did not pass.
enum NotChecked {
    Repo(RepoError),
    Fetch(FetchError),
}

impl From<RepoError> for NotChecked {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// What all jobs share.
pub(crate) struct Jobs {
    pub(crate) client: Client,
    pub(crate) turns: Turns,
    /// Repos being checked.
    pub(crate) slots: Semaphore,
    /// Bytes of checked repos that wait for the consumers.
    pub(crate) buffer: Arc<Semaphore>,
    pub(crate) buffer_bytes: u32,
    pub(crate) indexes: Indexes,
    pub(crate) max_attempts: u32,
    pub(crate) opt_out: OptOut,
    pub(crate) senders: Vec<UnboundedSender<ToSend>>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) workers: Workers,
    pub(crate) stop: Stop,
}

/// Fetches the repo of a line, and hands it to the sockets.
pub(crate) async fn produce(jobs: &Jobs, line: DidLine) {
    let host = host_of(&line.pds);
    if jobs.opt_out.has(&line.did, &host) {
        jobs.tally.skipped("host opted out");
        return;
    }
    let (repo, summary, index) = match fetch_checked(jobs, &line, &host).await {
        Ok(checked) => checked,
        Err(FetchError::Account(state)) => {
            // That this host does not hold a repo says nothing about the account.
            if state != AccountState::NotFound
                && let Some(sender) = jobs.senders.first()
            {
                // A sender that is gone reports what it was given before; this is not lost, but
                // asked again next time.
                drop(sender.send(ToSend::Status(line.did.clone(), state.word())));
            }
            return jobs.tally.skipped(state.word());
        }
        Err(error) => {
            return match error {
                FetchError::Stopped => jobs.tally.stopped(&line, error.reason()),
                error => jobs.tally.failed(&line, error.reason(), &error.to_string()),
            };
        }
    };
    // At least a byte, so that empty repos are bounded, too; at most all there is, so that no repo
    // waits for ever.
    let share = u32::try_from(repo.car().memory_bytes())
        .unwrap_or(u32::MAX)
        .clamp(1024, jobs.buffer_bytes);
    let wanted = Arc::clone(&jobs.buffer).acquire_many_owned(share);
    let share = tokio::select! {
        share = wanted => share.ok(),
        () = jobs.stop.wait() => None,
    };
    let Some(share) = share else {
        return jobs.tally.stopped(&line, "not sent");
    };
    let checked = Arc::new(CheckedRepo::new(line, (repo, summary), (share, index)));
    for sender in &jobs.senders {
        if sender.send(ToSend::Repo(Arc::clone(&checked))).is_err() {
            jobs.tally.not_sent(&checked);
        }
    }
}

/// Tries until there is a repo that passes every check, or no use in trying.
async fn fetch_checked(jobs: &Jobs, line: &DidLine, host: &str) -> Result<Fetched, FetchError> {
    let policy = Policy {
        attempts: jobs.max_attempts,
        pauses: Pauses::Turns,
    };
    retry::persist(
        policy,
        jobs.stop.wait(),
        || attempt(jobs, line, host),
        |_, retry| {
            if !matches!(retry, Retry::Never | Retry::NeverHost(_)) {
                jobs.tally.retried();
            }
        },
    )
    .await
}

/// Fetches and checks a repo, once.
async fn attempt(jobs: &Jobs, line: &DidLine, host: &str) -> Result<Fetched, FetchError> {
    let turn = tokio::select! {
        turn = jobs.turns.turn(host) => turn?,
        () = jobs.stop.wait() => return Err(FetchError::Stopped),
    };
    let did = &line.did;
    let worker = jobs.workers.start(&format!("fetch {did} from {host}"));
    let slot = async { jobs.slots.acquire().await.map_err(|_| FetchError::Stopped) };
    let checked = async {
        let (body, _slot) = whole::fetch(&jobs.client, turn, (did, &line.pds), slot).await?;
        worker.doing(format!("check {did}, {} bytes", body.len()));
        check(body, did.clone(), jobs.indexes.clone()).await
    };
    tokio::select! {
        checked = checked => checked,
        () = jobs.stop.wait_until_urgent() => Err(FetchError::Stopped),
    }
}

/// Checks the whole CAR, on a thread where computing hinders nobody.
async fn check(body: fetch::Body, did: String, indexes: Indexes) -> Result<Fetched, FetchError> {
    let runtime = tokio::runtime::Handle::current();
    let checked = tokio::task::spawn_blocking(move || -> Result<Fetched, NotChecked> {
        let mut pages = Pages::default();
        let (repo, index) = whole::open(body, &did, &mut pages, |bytes| {
            runtime
                .block_on(indexes.reserve(bytes))
                .map_err(NotChecked::Fetch)
        })?;
        if let Some(why) = load::revs::refuse(&repo.commit().rev) {
            return Err(NotChecked::Fetch(FetchError::Untrusted(
                "rev in the future",
                why,
            )));
        }
        let summary = repo.check_watched(|body| pages.read_entry(body))?;
        let index = index.ok_or(NotChecked::Fetch(FetchError::Stopped))?;
        Ok((repo, summary, index))
    });
    match checked.await {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(NotChecked::Fetch(error))) => Err(error),
        Ok(Err(NotChecked::Repo(error))) => Err(FetchError::BadRepo(
            error.to_string(),
            error.may_be_transport(),
        )),
        Err(_) => Err(FetchError::BadRepo("the check failed".to_owned(), false)),
    }
}
