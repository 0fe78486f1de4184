//! One line of the DID file: fetch, check, hand over; or skip, or fail.

use crate::fetch_args::OptOut;
use crate::producer::parcel::{Checked, Handed};
use crate::producer::tally::Tally;
use crate::signals::Stop;
use atrepo::{Repo, RepoError, RepoSummary};
use discover::did_file::DidLine;
use fetch::hosts::host_of;
use fetch::retry::{self, Retry};
use fetch::turns::Turns;
use fetch::{AccountState, Client, FetchError};
use observe::Workers;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

/// A repo that passed every check, and what it holds.
type CheckedRepo = (Repo<fetch::Body>, RepoSummary);

/// What all jobs share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) turns: Turns,
    /// Repos being checked.
    pub(crate) slots: Semaphore,
    /// Bytes of checked repos that wait for the consumers.
    pub(crate) buffer: Arc<Semaphore>,
    pub(crate) buffer_bytes: u32,
    pub(crate) max_attempts: u32,
    pub(crate) opt_out: OptOut,
    pub(crate) senders: Vec<UnboundedSender<Handed>>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) workers: Workers,
    pub(crate) stop: Stop,
}

/// Takes care of one line.
pub(crate) async fn process(shared: &Shared, line: DidLine) {
    let host = host_of(&line.pds);
    if shared.opt_out.has(&line.did, &host) {
        shared.tally.skipped("host opted out");
        return;
    }
    let (repo, summary) = match fetch_checked(shared, &line, &host).await {
        Ok(checked) => checked,
        Err(FetchError::Account(state)) => {
            // That this host does not hold a repo says nothing about the account.
            if state != AccountState::NotFound
                && let Some(sender) = shared.senders.first()
            {
                // A sender that is gone reports what it was given before; this is not lost, but asked again next time.
                drop(sender.send(Handed::Status(line.did.clone(), state.word())));
            }
            return shared.tally.skipped(state.word());
        }
        Err(error) => return shared.tally.failed(&line, error.reason(), &error.to_string()),
    };
    // At least a byte, so that empty repos are bounded, too; at most all there is, so that no repo waits for ever.
    let share = u32::try_from(repo.car().memory_bytes())
        .unwrap_or(u32::MAX)
        .clamp(1024, shared.buffer_bytes);
    let wanted = Arc::clone(&shared.buffer).acquire_many_owned(share);
    let share = tokio::select! {
        share = wanted => share.ok(),
        () = shared.stop.wait() => None,
    };
    let Some(share) = share else {
        return shared
            .tally
            .failed(&line, "not handed over", "not handed over: it was told to stop");
    };
    let checked = Arc::new(Checked::new(line, (repo, summary), share));
    for sender in &shared.senders {
        if sender.send(Handed::Repo(Arc::clone(&checked))).is_err() {
            shared.tally.not_sent(&checked);
        }
    }
}

/// Tries until there is a repo that passes every check, or no use in trying.
async fn fetch_checked(shared: &Shared, line: &DidLine, host: &str) -> Result<CheckedRepo, FetchError> {
    let mut attempt = 1;
    loop {
        let outcome = {
            let mut turn = tokio::select! {
                turn = shared.turns.turn(host) => turn?,
                () = shared.stop.wait() => return Err(FetchError::Stopped),
            };
            let worker = shared.workers.start(&format!("fetch {} from {host}", line.did));
            let got = shared.client.get_repo(&line.did, &line.pds, &mut turn.seen).await;
            // Hosts are asked less while checks are behind.
            let _slot = shared.slots.acquire().await.map_err(|_| FetchError::Stopped)?;
            turn.end(&got);
            match got {
                Ok(body) => {
                    worker.doing(format!("check {}, {} bytes", line.did, body.len()));
                    check(body, line.did.clone()).await
                }
                Err(error) => Err(error),
            }
        };
        let Err(error) = outcome else { return outcome };
        let wait = match retry::decide(&error, attempt, shared.max_attempts) {
            Retry::Never | Retry::NeverHost(_) => return Err(error),
            Retry::After(wait) => wait,
            // The next turn comes after that.
            Retry::AfterHost(_) => Duration::ZERO,
        };
        // That a host has a limit says nothing against a repo: the scheduler's patience is what ends it.
        attempt += u32::from(!matches!(error, FetchError::RateLimited(_)));
        shared.tally.retried();
        if shared.stop.is_set() {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.wait() => return Err(error),
        }
    }
}

/// Checks the whole CAR, on a thread where computing hinders nobody.
async fn check(body: fetch::Body, did: String) -> Result<CheckedRepo, FetchError> {
    let checked = tokio::task::spawn_blocking(move || {
        let bad = |error: RepoError| FetchError::BadRepo(error.to_string(), error.may_be_transport());
        let repo = Repo::open(body, &did).map_err(bad)?;
        if let Some(why) = load::revs::refuse(&repo.commit().rev) {
            return Err(FetchError::Untrusted("rev in the future", why));
        }
        let summary = repo.check().map_err(bad)?;
        Ok((repo, summary))
    });
    let broke_off = |_| Err(FetchError::BadRepo("the check broke off".to_owned(), false));
    checked.await.unwrap_or_else(broke_off)
}
