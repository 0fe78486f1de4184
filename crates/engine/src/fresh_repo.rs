//! Fetches single repos outside a run, each proved: the key in the account's DID document signed
//! its commit, the host that the document names served it, and its tree is whole.
//!
//! Requests keep to the pace of each host and to all limits, as those of a run do. Bodies above a
//! mebibyte and repos with very many blocks do not use memory beyond a fixed bound.

use crate::documents::Directory;
use crate::trust::{self, Known, Verdict};
use atrepo::{Repo, RepoError};
use fetch::hosts::host_of;
use fetch::retry::{self, Pauses, Policy};
use fetch::turns::{Turn, Turns};
use fetch::{
    AccountState, Body, Client, FetchError, Latest, OptOut, Pages, Redirects, Spool, whole,
};
use identity::document::Document;
use identity::resolve::{Found, Resolver};
use ledger::proofs::Proof;
use process::{Failure, Stop};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Repos that are in memory at once.
pub(crate) const AT_ONCE: usize = 8;
/// Concurrent requests, unless the operator wants another number.
const SLOTS: usize = 64;
/// A larger body goes to a file.
const BODY_BYTES: usize = 1 << 20;
/// Largest small body: the proof of a record has some kilobytes.
const MAX_SMALL: u64 = 8 << 20;
/// The index of a repo's blocks may take so much memory: some three million blocks.
const INDEX_BYTES: usize = 64 << 20;

/// What fetches them.
pub(crate) struct FreshRepos {
    client: Client,
    /// For small bodies, which stay in memory.
    small: Client,
    turns: Turns,
    documents: Resolver,
    opt_out: OptOut,
    attempts: u32,
    room: Arc<Semaphore>,
    stop: Stop,
}

/// A repo that was fetched now.
pub(crate) struct Fresh {
    /// The account's document.
    pub(crate) document: Document,
    /// The repo; all of its tree and records are there.
    pub(crate) repo: Repo<Body>,
    /// What vouches for it.
    pub(crate) proof: Proof,
}

/// Why there is no repo.
#[derive(Debug)]
pub(crate) enum NoRepo {
    /// The account's document is gone: nobody has the account.
    Gone,
    /// Its host says this of the account.
    Away(AccountState),
    /// The operator's opt-out list names it.
    OptedOut,
    /// It could not be had.
    Failed(FetchError),
}

impl NoRepo {
    /// For people.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Gone => "the account is deleted".to_owned(),
            Self::Away(state) => format!("the account is {}", word_of(*state)),
            Self::OptedOut => "the opt-out list names it".to_owned(),
            Self::Failed(error) => error.to_string(),
        }
    }
}

impl FreshRepos {
    pub(crate) fn new(
        fetch: &fetch::Options,
        spool: &Spool,
        directory: &Directory,
        runtime: &Runtime,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let client = fetch.client(Redirects::Never).map_err(Failure::new)?;
        let limits = fetch.limits(MAX_SMALL, Redirects::Never);
        let small = Client::new(&fetch.user_agent, limits).map_err(Failure::new)?;
        let turns = {
            let _within = runtime.enter();
            Turns::start(fetch.pace(SLOTS))
        };
        Ok(Self {
            client: client.with_memory(BODY_BYTES).with_spool(spool.clone()),
            small,
            turns,
            documents: directory.documents(fetch.max_attempts)?,
            opt_out: fetch.opt_out.clone(),
            attempts: fetch.max_attempts,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            stop: stop.clone(),
        })
    }

    /// The document of an account.
    pub(crate) async fn document(&self, did: &str) -> Result<Document, NoRepo> {
        let found = tokio::select! {
            found = self.documents.resolve(did) => found,
            () = self.stop.wait() => return Err(NoRepo::Failed(FetchError::Stopped)),
        };
        let unusable = |why: String| Err(NoRepo::Failed(FetchError::NoDocument(why)));
        match found {
            Found::Document(document) => Ok(document),
            Found::Gone => Err(NoRepo::Gone),
            Found::Useless(why) => unusable(why.to_string()),
            Found::Unreachable(why) => unusable(why),
            Found::Unsupported => unusable("its DID method cannot be resolved".to_owned()),
        }
    }

    /// The repo of an account, now.
    pub(crate) async fn repo(&self, did: &str) -> Result<Fresh, NoRepo> {
        let document = self.document(did).await?;
        self.repo_of(did, document).await
    }

    /// The repo of an account with this document.
    pub(crate) async fn repo_of(&self, did: &str, document: Document) -> Result<Fresh, NoRepo> {
        let host = host_of(&document.pds);
        if self.opt_out.has(did, &host) {
            return Err(NoRepo::OptedOut);
        }
        let policy = Policy {
            attempts: self.attempts,
            pauses: Pauses::Turns,
        };
        let attempt =
            || retry::unless_stopped(self.stop.wait(), self.attempt(did, &document, &host));
        let got = retry::persist(policy, self.stop.wait(), attempt, |_, _| {}).await;
        match got {
            Ok((repo, proof)) => Ok(Fresh {
                document,
                repo,
                proof,
            }),
            Err(FetchError::Account(state)) => Err(NoRepo::Away(state)),
            Err(error) => Err(NoRepo::Failed(error)),
        }
    }

    async fn attempt(
        &self,
        did: &str,
        document: &Document,
        host: &str,
    ) -> Result<(Repo<Body>, Proof), FetchError> {
        let turn = self.turns.turn(host).await?;
        let room = || async {
            let room = Arc::clone(&self.room).acquire_owned();
            room.await.map_err(|_| FetchError::Stopped)
        };
        let of = (did, document.pds.as_str());
        let (body, room) = whole::fetch(&self.client, turn, of, room()).await?;
        let account = did.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let _room = room;
            open(body, &account)
        });
        let repo = opened.await.unwrap_or(Err(FetchError::Stopped))?;
        let proof = self.prove(did, document, host, &repo).await?;
        Ok((repo, proof))
    }

    /// What vouches for a repo; one that no key of the account signed is refused.
    async fn prove(
        &self,
        did: &str,
        document: &Document,
        host: &str,
        repo: &Repo<Body>,
    ) -> Result<Proof, FetchError> {
        let mut known = Known {
            host: host.to_owned(),
            key: document.signing_key.clone(),
            older_keys: None,
        };
        let commit = repo.commit();
        let mut verdict = trust::judge_commit(commit, host, Some(&known));
        if verdict == Verdict::Doubtful {
            known.older_keys = Some(self.documents.older_keys(did).await?);
            verdict = trust::judge_commit(commit, host, Some(&known));
        }
        match verdict {
            Verdict::Accepted(Some(proof)) => Ok(proof),
            _ => Err(FetchError::Untrusted(
                "forged",
                trust::forged(did, &commit.rev),
            )),
        }
    }

    /// Waits until the account's host may be asked.
    pub(crate) async fn turn(&self, document: &Document) -> Result<Turn, FetchError> {
        let host = host_of(&document.pds);
        retry::unless_stopped(self.stop.wait(), self.turns.turn(&host)).await
    }

    /// The newest commit of an account, as its host says within this time.
    pub(crate) async fn latest(
        &self,
        did: &str,
        document: &Document,
        mut turn: Turn,
        within: Duration,
    ) -> Result<Latest, FetchError> {
        let asked = self.small.latest_commit(did, &document.pds, &mut turn.seen);
        let got = tokio::time::timeout(within, asked).await;
        let got = got.unwrap_or(Err(FetchError::TooSlow(within)));
        turn.end(&got);
        got
    }

    /// One small answer of an account's host, in its turn: the path and query are appended to the
    /// host's URL.
    pub(crate) async fn ask(
        &self,
        document: &Document,
        path: &str,
        accept: &str,
    ) -> Result<Vec<u8>, FetchError> {
        let host = host_of(&document.pds);
        let url = format!("{}{path}", document.pds.trim_end_matches('/'));
        let small = fetch::SmallRequest {
            url: &url,
            accept,
            host: None,
        };
        let asked = async {
            let mut turn = self.turns.turn(&host).await?;
            let got = self.small.get_small_seen(small, &mut turn.seen).await;
            turn.end(&got);
            got
        };
        retry::unless_stopped(self.stop.wait(), asked).await
    }

    /// The signing keys that an account had before.
    pub(crate) async fn older_keys(&self, did: &str) -> Result<Vec<String>, FetchError> {
        self.documents.older_keys(did).await
    }
}

/// Opens a CAR and checks all of its tree.
fn open(body: Body, did: &str) -> Result<Repo<Body>, FetchError> {
    let mut pages = Pages::default();
    let (repo, _) = whole::open(body, did, &mut pages, |bytes| match bytes {
        0..=INDEX_BYTES => Ok(()),
        _ => Err(Refused::TooLarge),
    })
    .map_err(FetchError::from)?;
    repo.check_watched(|body| pages.read_entry(body))
        .map_err(|error| FetchError::from(Refused::Repo(error)))?;
    Ok(repo)
}

enum Refused {
    Repo(RepoError),
    TooLarge,
}

impl From<RepoError> for Refused {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<Refused> for FetchError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Repo(error) => Self::BadRepo(error.to_string(), error.may_be_transport()),
            Refused::TooLarge => Self::Untrusted(
                "too large",
                format!("the index of its blocks exceeds {} MiB", INDEX_BYTES >> 20),
            ),
        }
    }
}

/// What people call an account in this state.
fn word_of(state: AccountState) -> &'static str {
    match state {
        AccountState::NotFound => "not found on its host",
        AccountState::Deactivated | AccountState::Suspended | AccountState::Takendown => {
            state.word()
        }
    }
}
