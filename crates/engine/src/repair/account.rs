//! One account of a repair.

use crate::fresh_repo::{Fresh, FreshRepos, NoRepo};
use crate::repair::asked::{Fetched, Options, fetched};
use crate::repair::report::{Fate, Stored};
use crate::run::state_of;
use appview::table::TableInfo;
use fetch::hosts::host_of;
use fetch::turns::Turn;
use fetch::{AccountState, FetchError, Pages};
use identity::document::Document;
use ledger::hosts;
use ledger::repos::{self, Note, Wanted};
use ledger::runs::Mode;
use ledger::states::{Inactive, State};
use load::fresh::Probes;
use load::{Choice, Chunk, Costs, EncodeError, Encoder, LoadError, Loader, LoaderOptions, Origin};
use load::{Remover, revs};
use pg::{Connection, DbError, DbErrorKind};
use process::{Database, Failure, Stop};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// So often a repo is fetched before the account counts as too busy.
const MOST_FETCHES: u32 = 6;
/// So often a lock or a lease that others hold is tried.
const MOST_TRIES: u32 = 5;
/// The pause after a try: whoever waited behind the lock goes first.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a host may take to say what its newest commit is. Nobody else writes records meanwhile.
const ANSWER: Duration = Duration::from_secs(2);
/// Rows that are sent at once, in bytes.
const CHUNK: usize = 4 << 20;
/// The table of unique keys of a large repo may take so much memory: some two million records.
const KEYS: usize = 256 << 20;

/// What the accounts of a repair share.
pub(super) struct Work<'w> {
    pub(super) options: &'w Options,
    pub(super) database: &'w Database,
    pub(super) runtime: &'w Runtime,
    pub(super) fresh: &'w Arc<FreshRepos>,
    pub(super) stop: &'w Stop,
    pub(super) run: i64,
    pub(super) choice: Choice,
    pub(super) indexed: Vec<(String, String)>,
    pub(super) client: Connection,
    /// It stays connected from one account to the next.
    pub(super) loader: Loader,
}

/// How it ended.
pub(super) enum RepairEnd {
    /// It was stopped first.
    Stopped,
    /// So.
    With {
        fate: Fate,
        document: Option<Document>,
        fetched: u32,
    },
}

/// Why a repo was not stored.
enum NotStored {
    /// Its host has, or the tables have, a newer one; which of them, for people.
    Newer(String),
    /// The host says this of the account now.
    Away(AccountState),
    /// Others hold what is needed; that may end.
    Busy(String),
    /// For this reason.
    Failed(String),
    /// It was stopped.
    Stopped,
    /// The database cannot be used.
    Database(DbError),
}

impl From<DbError> for NotStored {
    fn from(error: DbError) -> Self {
        match error.kind {
            DbErrorKind::Busy => Self::Busy(error.to_string()),
            DbErrorKind::Data => Self::Failed(error.to_string()),
            DbErrorKind::Stopped => Self::Stopped,
            DbErrorKind::Lost | DbErrorKind::Other => Self::Database(error),
        }
    }
}

impl From<LoadError> for NotStored {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Database(error) => error.into(),
            LoadError::Older(_, rev) => Self::Newer(format!(
                "actor_sync has rev {rev}, which is newer than the newest of its host"
            )),
            LoadError::NotOurs(_) | LoadError::There(_) => Self::Busy(error.to_string()),
        }
    }
}

impl Work<'_> {
    /// Repairs an account of which this was fetched.
    pub(super) fn account(&mut self, did: &str, first: Fetched) -> Result<RepairEnd, Failure> {
        let (mut document, mut got) = first;
        let mut fetches = u32::from(got.is_ok());
        let fate = loop {
            let fresh = match got {
                Ok(fresh) => fresh,
                Err(NoRepo::Failed(FetchError::Stopped)) => return Ok(RepairEnd::Stopped),
                Err(no_repo) => {
                    break match self.without_repo(did, document.as_ref(), no_repo)? {
                        Some(fate) => fate,
                        None => return Ok(RepairEnd::Stopped),
                    };
                }
            };
            got = match self.store(did, &fresh) {
                Ok(stored) => break Fate::Loaded(stored),
                Err(NotStored::Stopped) => return Ok(RepairEnd::Stopped),
                Err(NotStored::Database(error)) => return Err(self.database.db_failure(&error)),
                Err(NotStored::Failed(why) | NotStored::Busy(why)) => break Fate::Failed(why),
                Err(NotStored::Away(state)) => Err(NoRepo::Away(state)),
                Err(NotStored::Newer(why)) if fetches >= MOST_FETCHES => {
                    break Fate::Failed(format!(
                        "{why}, each of the {fetches} times that its repo was fetched; try again when the account is less busy"
                    ));
                }
                Err(NotStored::Newer(why)) => {
                    tracing::debug!(did, fetches, why, "the repo is fetched again");
                    let again = fetched(Arc::clone(self.fresh), did.to_owned());
                    let (now, repo) = self.runtime.block_on(again);
                    document = now.or(document);
                    fetches += u32::from(repo.is_ok());
                    repo
                }
            };
        };
        Ok(RepairEnd::With {
            fate,
            document,
            fetched: fetches,
        })
    }

    /// Stores a repo, unless anything that anybody stored is newer.
    fn store(&mut self, did: &str, fresh: &Fresh) -> Result<Stored, NotStored> {
        let rev = &fresh.repo.commit().rev;
        if let Some(why) = revs::refuse(rev) {
            return Err(NotStored::Failed(why));
        }
        let pds = &fresh.document.pds;
        self.tried(|work| {
            let lease = work.lease(did, pds)?;
            let mut loader =
                std::mem::replace(&mut work.loader, new_loader(work.database, work.run));
            let stored = work.store_once(did, fresh, lease, &mut loader);
            if stored.is_err() {
                loader.give_up();
            }
            work.loader = loader;
            if let Err(NotStored::Failed(why)) = &stored {
                work.note_failed(did, lease, why)?;
            }
            work.release(lease)?;
            stored
        })
    }

    /// Tries a step again while others hold what it needs.
    fn tried<T>(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<T, NotStored>,
    ) -> Result<T, NotStored> {
        let mut tries = 1;
        loop {
            match step(self) {
                Err(NotStored::Busy(why)) if tries < MOST_TRIES => {
                    tracing::debug!(why, "it is tried again");
                    tries += 1;
                    if !self.stop.waits().sleep(PAUSE) {
                        return Err(NotStored::Stopped);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens the account in the ledger, on this PDS, and leases its host.
    fn lease(&mut self, did: &str, pds: &str) -> Result<i64, NotStored> {
        let schema = &self.database.schema;
        let wanted = Wanted {
            did: did.to_owned(),
            pds: pds.to_owned(),
            host: host_of(pds),
        };
        let host = wanted.host.clone();
        let leased = repos::add(&mut *self.client, schema, &[wanted])
            .and_then(|_| hosts::lease_one(&mut *self.client, schema, &host));
        leased.map_err(DbError::from)?.ok_or_else(|| {
            NotStored::Busy(format!(
                "another skyfill works on its host {host}; the account is pending there"
            ))
        })
    }

    fn release(&mut self, lease: i64) -> Result<(), NotStored> {
        hosts::release(&mut *self.client, &self.database.schema, &[lease])
            .map_err(|error| DbError::from(error).into())
    }

    fn note_failed(&mut self, did: &str, lease: i64, why: &str) -> Result<(), NotStored> {
        let note = Note {
            did: did.to_owned(),
            lease,
            state: State::Failed,
            code: Some("repair"),
            error: Some(why.to_owned()),
            proof: None,
        };
        repos::note(&mut *self.client, &self.database.schema, &[note])
            .map(drop)
            .map_err(|error| DbError::from(error).into())
    }

    fn store_once(
        &self,
        did: &str,
        fresh: &Fresh,
        lease: i64,
        loader: &mut Loader,
    ) -> Result<Stored, NotStored> {
        // Before anybody has to wait: the host's pace may ask for a pause.
        let turn = self.runtime.block_on(self.fresh.turn(&fresh.document));
        let mut turn = Some(turn.map_err(not_asked)?);
        let mut refused = None;
        let mut counts = (0, 0);
        let mut hand_on = |chunk: Chunk| -> Result<Chunk, String> {
            let mut load = || -> Result<(), NotStored> {
                if let Some(turn) = turn.take() {
                    loader.begin_alone(did, lease)?;
                    self.require_newest(did, fresh, turn)?;
                }
                loader.load(&chunk)?;
                for repo in chunk.repos() {
                    counts = (repo.records, repo.skipped);
                }
                Ok(())
            };
            match load() {
                Ok(()) => Ok(Chunk::default()),
                Err(error) => {
                    refused = Some(error);
                    Err("it is not stored".to_owned())
                }
            }
        };
        let encoded = self.encode(fresh, lease, &mut hand_on);
        match (encoded, refused) {
            (_, Some(why)) => Err(why),
            (Err(why), None) => Err(why),
            (Ok(()), None) => Ok(Stored {
                rev: fresh.repo.commit().rev.clone(),
                records: counts.0,
                skipped: counts.1,
                before: loader.rewritten(),
            }),
        }
    }

    /// Makes the rows of a repo.
    fn encode(
        &self,
        fresh: &Fresh,
        lease: i64,
        hand_on: &mut load::HandOn<'_>,
    ) -> Result<(), NotStored> {
        let mut encoder = Encoder::new(self.choice.clone(), self.options.now, CHUNK, &self.indexed);
        let mut probes = Probes::new(&self.database.url, &self.database.schema);
        let origin = Origin {
            lease,
            proof: Some(fresh.proof),
            is_fork: false,
        };
        let mut pages = Pages::default();
        let mut watch = |body: &fetch::Body| {
            pages.read_entry(body);
            match self.stop.is_set() {
                true => Err(EncodeError::BrokenOff),
                false => Ok(()),
            }
        };
        let mut costs = Costs {
            watch: &mut watch,
            keys: &mut |bytes| match bytes {
                0..=KEYS => Ok(()),
                _ => Err(EncodeError::TooLarge(format!(
                    "the unique keys of its records exceed {} MiB; stop the ingester and load it with skyfill run",
                    KEYS >> 20
                ))),
            },
        };
        let mut probe =
            |rows: &[(TableInfo, &[u8])]| probes.ask(rows).map_err(|error| error.to_string());
        let encoded = encoder
            .add(&fresh.repo, origin, &mut costs, &mut probe, hand_on)
            .and_then(|()| encoder.flush(hand_on));
        encoded.map_err(|error| match error {
            EncodeError::Repo(error) => NotStored::Failed(error.to_string()),
            EncodeError::TooLarge(why) | EncodeError::Stopped(why) => NotStored::Failed(why),
            EncodeError::BrokenOff => NotStored::Stopped,
        })
    }

    /// Makes sure that the host has no newer commit, while nobody else writes records.
    fn require_newest(&self, did: &str, fresh: &Fresh, turn: Turn) -> Result<(), NotStored> {
        let asked = self.fresh.latest(did, &fresh.document, turn, ANSWER);
        let latest = self.runtime.block_on(asked).map_err(not_asked)?;
        let is_same = latest.rev == fresh.repo.commit().rev
            && latest.cid == fresh.repo.commit_cid().to_string();
        match is_same {
            true => Ok(()),
            false => Err(NotStored::Newer("its host had a newer commit".to_owned())),
        }
    }

    /// What becomes of an account without a repo; nothing if it was stopped.
    fn without_repo(
        &mut self,
        did: &str,
        document: Option<&Document>,
        no_repo: NoRepo,
    ) -> Result<Option<Fate>, Failure> {
        let why = no_repo.why();
        let done = match (no_repo, document) {
            (NoRepo::OptedOut, _) => return Ok(Some(Fate::OptedOut)),
            (NoRepo::Away(AccountState::NotFound), Some(document)) => {
                match self.options.accept_deletions {
                    true => self.remove(did, Some(document)),
                    false => Err(NotStored::Failed(format!(
                        "{why}, although its DID document names that host; if it is gone, --accept-deletions removes its rows"
                    ))),
                }
            }
            (NoRepo::Away(state), Some(document)) => self.note_state(did, document, state),
            // The host of a did:web says much when it is not well.
            (NoRepo::Gone, _) if did.starts_with("did:plc:") || self.options.accept_deletions => {
                self.remove(did, None)
            }
            (NoRepo::Gone, _) => Err(NotStored::Failed(
                "its DID document is gone from its host; if the account is, --accept-deletions removes its rows"
                    .to_owned(),
            )),
            (NoRepo::Away(_) | NoRepo::Failed(_), _) => Err(NotStored::Failed(why)),
        };
        match done {
            Ok(fate) => Ok(Some(fate)),
            Err(NotStored::Stopped) => Ok(None),
            Err(NotStored::Database(error)) => Err(self.database.db_failure(&error)),
            Err(NotStored::Failed(why) | NotStored::Busy(why)) => Ok(Some(Fate::Failed(why))),
            Err(NotStored::Newer(_) | NotStored::Away(_)) => Ok(Some(Fate::Failed(
                "its host said something else a moment later; try again".to_owned(),
            ))),
        }
    }

    /// Removes the rows of an account that is gone. Where its document names a host, that is asked
    /// once more while nobody else writes records.
    fn remove(&mut self, did: &str, document: Option<&Document>) -> Result<Fate, NotStored> {
        self.tried(|work| {
            let lease = work.lease(did, document.map_or("", |document| &document.pds))?;
            let removed = work.remove_once(did, document, lease);
            work.release(lease)?;
            removed
        })
    }

    fn remove_once(
        &self,
        did: &str,
        document: Option<&Document>,
        lease: i64,
    ) -> Result<Fate, NotStored> {
        let turn = match document {
            Some(document) => {
                let turn = self.runtime.block_on(self.fresh.turn(document));
                Some((document, turn.map_err(not_asked)?))
            }
            None => None,
        };
        let mut remover = Remover::connect(&self.database.url, &self.database.schema)?;
        if !remover.begin_alone(did, lease)? {
            return Err(NotStored::Busy(
                "its host belongs to another worker".to_owned(),
            ));
        }
        if let Some((document, turn)) = turn {
            let asked = self.fresh.latest(did, document, turn, ANSWER);
            match self.runtime.block_on(asked) {
                Err(FetchError::Account(AccountState::NotFound)) => {}
                Err(error) => return Err(not_asked(error)),
                Ok(_) => return Err(is_back()),
            }
        }
        remover.finish(did)?;
        Ok(Fate::Removed)
    }

    /// Stores the state of an account that is not active. Whoever else stores its state does so
    /// before, and the host says what it is now, or after.
    fn note_state(
        &mut self,
        did: &str,
        document: &Document,
        state: AccountState,
    ) -> Result<Fate, NotStored> {
        let to = state_of(state);
        let Some(inactive) = Inactive::of(to) else {
            return Err(NotStored::Failed(format!(
                "its host calls it {}",
                to.word()
            )));
        };
        self.tried(|work| {
            let lease = work.lease(did, &document.pds)?;
            let noted = work.note_state_once(did, document, (state, to, inactive), lease);
            work.release(lease)?;
            noted
        })?;
        Ok(Fate::Inactive(inactive))
    }

    fn note_state_once(
        &mut self,
        did: &str,
        document: &Document,
        (state, to, inactive): (AccountState, State, Inactive),
        lease: i64,
    ) -> Result<(), NotStored> {
        let turn = self.runtime.block_on(self.fresh.turn(document));
        let turn = turn.map_err(not_asked)?;
        let schema = &self.database.schema;
        let refused = |error: postgres::Error| NotStored::from(DbError::from(error));
        let mut txn = self.client.transaction().map_err(refused)?;
        load::hold_actor(&mut txn, schema, did).map_err(refused)?;
        let asked = self.fresh.latest(did, document, turn, ANSWER);
        match self.runtime.block_on(asked) {
            Err(FetchError::Account(now)) if now == state => {}
            Err(error) => return Err(not_asked(error)),
            Ok(_) => return Err(is_back()),
        }
        let note = Note {
            did: did.to_owned(),
            lease,
            state: to,
            code: None,
            error: None,
            proof: None,
        };
        repos::note(&mut txn, schema, &[note]).map_err(refused)?;
        load::store_states(&mut txn, schema, &[(did, Some(inactive))]).map_err(refused)?;
        txn.commit().map_err(refused)
    }
}

/// A loader for a run, which connects at the first use.
pub(super) fn new_loader(database: &Database, run: i64) -> Loader {
    let options = LoaderOptions {
        worker: None,
        url: database.url.clone(),
        schema: database.schema.clone(),
        run,
        mode: Mode::Merge,
        durable: true,
    };
    Loader::new(options).beside_others()
}

fn is_back() -> NotStored {
    NotStored::Newer("its host has the account again".to_owned())
}

/// The host was not asked, or did not say what its newest commit is.
fn not_asked(error: FetchError) -> NotStored {
    match error {
        FetchError::Account(state) => NotStored::Away(state),
        FetchError::Stopped => NotStored::Stopped,
        FetchError::RateLimited(_) | FetchError::Server(..) | FetchError::TooSlow(_) => {
            NotStored::Busy(format!("its host, asked for its newest commit: {error}"))
        }
        error => NotStored::Failed(format!("its host, asked for its newest commit: {error}")),
    }
}
