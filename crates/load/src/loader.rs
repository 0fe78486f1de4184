//! A connection that stores chunks of whole repos. One transaction stores the rows and marks the
//! repos as loaded. If it fails, nothing of the chunk is kept in memory: its repos are still
//! pending in the ledger, and are loaded again.

use crate::accounts::Accounts;
use crate::chunk::{Chunk, LoadedRepo};
use crate::copy::{self, HEADER, TRAILER};
use crate::differing::Differing;
use crate::replace::Rewritten;
use crate::staged::Staged;
use crate::{beside, replace, revs, staging};
use appview::table::TableInfo;
use ledger::changes::Noting;
use ledger::failpoint;
use ledger::parts::{self, PartState, StoredPart};
use ledger::proofs::Proof;
use ledger::repos::{self, Stored};
use ledger::runs::Mode;
use ledger::skipped;
use pg::DbError;
use postgres::Client;
use std::collections::HashSet;
use std::fmt;

/// The options of a loader.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Where to connect to.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// The run that it works for.
    pub run: i64,
    /// How it loads.
    pub mode: Mode,
    /// Whether a commit waits for the disk, because somebody outside is informed of it.
    pub durable: bool,
    /// The worker that it stores for, if that leases hosts.
    pub worker: Option<i32>,
}

/// Why a chunk was not stored.
#[derive(Debug)]
pub enum LoadError {
    /// The database.
    Database(DbError),
    /// Another worker has leased the host of this repo, or has loaded it: nothing of the chunk was
    /// stored.
    NotOurs(String),
    /// This part of a repo is stored already: nothing of the chunk was stored.
    There(String),
    /// The PDS delivered an older rev of this repo than the stored one: nothing of the chunk was
    /// stored.
    Older(String, String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::NotOurs(did) => write!(f, "{did} belongs to another worker now"),
            Self::There(did) => write!(f, "this part of {did} is stored already"),
            Self::Older(did, rev) => write!(f, "{did} is stored at the newer rev {rev}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl<E: Into<DbError>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// A connection and its open transaction.
pub struct Loader {
    options: LoaderOptions,
    client: Option<Client>,
    /// Repos whose first chunks are in the open transaction, and whose rest is still to come.
    open: HashSet<String>,
    /// Repos whose first chunks are lost.
    lost: HashSet<String>,
    /// Repos, or parts of them, whose rows are in the temporary tables of a merge.
    staged: Vec<LoadedRepo>,
    /// The rows themselves.
    rows: Staged,
    /// What is stored of them.
    differing: Differing,
    /// Repos that ended in the open transaction.
    ended: Vec<LoadedRepo>,
    /// Repos in the open transaction whose stored rev is ignored.
    overruled: HashSet<String>,
    /// Whether another program writes the tables, too.
    is_beside: bool,
    /// Whether [`Loader::begin_alone`] has begun the transaction of the next chunk.
    is_begun: bool,
    /// What the last transaction did to records that were stored.
    rewritten: Rewritten,
}

impl Loader {
    /// A loader that connects at the first use.
    #[must_use]
    pub fn new(options: LoaderOptions) -> Self {
        Self {
            options,
            client: None,
            open: HashSet::new(),
            lost: HashSet::new(),
            staged: Vec::new(),
            rows: Staged::default(),
            differing: Differing::default(),
            ended: Vec::new(),
            overruled: HashSet::new(),
            is_beside: false,
            is_begun: false,
            rewritten: Rewritten::default(),
        }
    }

    /// Lets it merge beside another program that writes the same tables. What is stored of a repo
    /// is compared row by row, whoever wrote it, and what changes is noted in any case.
    #[must_use]
    pub fn beside_others(mut self) -> Self {
        self.is_beside = true;
        self
    }

    /// Begins the transaction of the chunks that follow, which are those of one repo, and lets no
    /// other program write records until it ends (`beside`).
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn begin_alone(&mut self, did: &str, lease: i64) -> Result<(), LoadError> {
        let outcome = self.try_begin_alone(did, lease);
        if outcome.is_err() {
            self.abandon();
        }
        outcome
    }

    fn try_begin_alone(&mut self, did: &str, lease: i64) -> Result<(), LoadError> {
        if self.client.is_none() {
            self.connect()?;
        }
        let client = connected(&mut self.client)?;
        begin(client, &self.options, &mut self.rows)?;
        // Other loads lock the ledger's row first, too.
        if repos::lock(client, &self.options.schema, &[did], &[lease])?.is_empty() {
            return Err(LoadError::NotOurs(did.to_owned()));
        }
        beside::hold_others(client)?;
        self.is_begun = true;
        Ok(())
    }

    /// Drops the open transaction, and keeps the connection.
    pub fn give_up(&mut self) {
        let ended = self
            .client
            .as_mut()
            .map(|client| client.batch_execute("ROLLBACK"));
        if let Some(Ok(())) = ended {
            self.is_begun = false;
            self.open.clear();
            self.staged.clear();
            self.rows.rolled_back();
            self.differing = Differing::default();
            self.ended.clear();
            self.overruled.clear();
        } else {
            self.abandon();
        }
    }

    /// What the last transaction did to records that were stored.
    #[must_use]
    pub fn rewritten(&self) -> Rewritten {
        self.rewritten
    }

    /// Connects now, in one attempt.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(&mut self) -> Result<(), DbError> {
        let mut client = pg::connect(&self.options.url)?;
        if let Some(worker) = self.options.worker {
            ledger::workers::attach(&mut client, worker)?;
        }
        match self.options.mode {
            Mode::Fresh => {
                client.batch_execute(&staging::session_settings(&self.options.schema))?;
                client.batch_execute(ledger::plans::BY_INDEX)?;
            }
            Mode::Merge => replace::prepare_session(&mut client, &self.options.schema)?,
        }
        tracing::debug!("connected, to load");
        self.client = Some(client);
        self.open.clear();
        self.staged.clear();
        self.rows = Staged::default();
        self.differing = Differing::default();
        self.ended.clear();
        self.overruled.clear();
        Ok(())
    }

    /// Whether the first chunks of any repo wait for the rest; nothing is committed before that.
    #[must_use]
    pub fn has_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether this repo's first chunks wait for the rest.
    #[must_use]
    pub fn has_open(&self, did: &str) -> bool {
        self.open.contains(did)
    }

    /// The repos whose first chunks were lost with the transaction.
    pub fn take_open(&mut self) -> HashSet<String> {
        std::mem::take(&mut self.lost)
    }

    /// Stores a chunk, and commits unless a repo continues in the next one.
    ///
    /// # Errors
    /// See [`LoadError`]. Nothing of the chunk was stored, nor what came before it of an open repo.
    /// If the connection was lost in the commit, all or nothing was stored; the ledger shows which.
    pub fn load(&mut self, chunk: &Chunk) -> Result<(), LoadError> {
        let outcome = self.try_load(chunk);
        if let Err(error) = &outcome {
            let (repos, bytes) = (chunk.repos().len(), chunk.bytes());
            tracing::debug!(%error, repos, bytes, "a chunk was not stored");
            // A new connection is the surest way to a clean state.
            self.abandon();
        }
        outcome
    }

    /// Drops the open transaction.
    pub fn abandon(&mut self) {
        self.client = None;
        self.is_begun = false;
        self.lost.extend(self.open.drain());
        self.staged.clear();
        self.ended.clear();
        self.overruled.clear();
    }

    fn try_load(&mut self, chunk: &Chunk) -> Result<(), LoadError> {
        if self.client.is_none() {
            self.connect()?;
        }
        let options = self.options.clone();
        let client = connected(&mut self.client)?;
        if self.open.is_empty() && !std::mem::take(&mut self.is_begun) {
            begin(client, &options, &mut self.rows)?;
        }
        self.overruled.extend(lock(
            client,
            &options.schema,
            chunk,
            &self.open,
            self.is_beside,
        )?);
        match options.mode {
            Mode::Fresh => {
                for (info, rows) in chunk.tables() {
                    staging::copy_rows(client, &info, rows)?;
                }
            }
            Mode::Merge => {
                if !self.is_beside {
                    self.differing
                        .read(client, &options.schema, chunk, &self.open)?;
                }
                stage(client, chunk, &mut self.differing, &mut self.rows)?;
                self.staged.extend(chunk.repos.iter().cloned());
            }
        }
        store_pieces(client, &options.schema, chunk, options.mode)?;
        for repo in &chunk.repos {
            self.open.remove(&repo.did);
        }
        self.open
            .extend(chunk.open.iter().map(|repo| repo.did.clone()));
        self.ended.extend(chunk.repos.iter().cloned());
        if !self.open.is_empty() {
            return Ok(());
        }
        let mut noting = Noting::off(&options.schema);
        if options.mode == Mode::Merge {
            noting = match self.is_beside {
                true => Noting::begin_always(client, &options.schema)?,
                false => Noting::begin(client, &options.schema)?,
            };
            let difference = self.differing.end();
            self.rewritten = replace::apply(
                client,
                (&self.staged, &mut self.rows),
                &options.schema,
                &difference,
                &noting,
                self.is_beside,
            )?;
            self.staged.clear();
        }
        note(client, &options, &self.ended, &self.overruled)?;
        self.ended.clear();
        self.overruled.clear();
        failpoint::pass("commit");
        commit(client, &noting)?;
        failpoint::pass("committed");
        self.rows.committed();
        Ok(())
    }
}

fn connected(client: &mut Option<Client>) -> Result<&mut Client, DbError> {
    client
        .as_mut()
        .ok_or_else(|| DbError::lost("not connected"))
}

/// Begins a transaction.
fn begin(client: &mut Client, options: &LoaderOptions, rows: &mut Staged) -> Result<(), DbError> {
    client.batch_execute(if options.durable {
        "BEGIN"
    } else {
        "BEGIN; SET LOCAL synchronous_commit = off"
    })?;
    if options.mode == Mode::Merge {
        client.batch_execute(replace::BY_INDEX)?;
        rows.begin(client)?;
    }
    Ok(())
}

/// Fills the temporary tables with what is not stored yet.
fn stage(
    client: &mut Client,
    chunk: &Chunk,
    differing: &mut Differing,
    rows: &mut Staged,
) -> Result<(), DbError> {
    let kept;
    let tables: Vec<(TableInfo, &[u8])> = match differing.is_empty() {
        true => chunk.tables().collect(),
        false => {
            kept = differing.of(chunk);
            kept.iter()
                .map(|(info, rows)| (*info, rows.as_slice()))
                .collect()
        }
    };
    rows.stage(client, &tables)
}

/// Checks that all repos of the chunk belong to this worker, and locks them until the commit.
/// Returns those whose stored rev is ignored although it is newer.
fn lock(
    client: &mut Client,
    schema: &str,
    chunk: &Chunk,
    open: &HashSet<String>,
    is_beside: bool,
) -> Result<Vec<String>, LoadError> {
    let newest_believed = revs::newest_believed();
    let mut overruled = Vec::new();
    // A repo that was begun in an earlier chunk was locked then.
    let begins = || {
        chunk
            .repos
            .iter()
            .chain(&chunk.open)
            .filter(|repo| !open.contains(&repo.did))
    };
    for repo in begins() {
        let Some(part) = &repo.part else { continue };
        let numbers = (part.number, part.parts);
        let state = parts::lock(
            client,
            schema,
            &repo.did,
            (&part.pds, &part.host),
            (&repo.rev, &newest_believed),
            numbers,
        )?;
        match state {
            PartState::Wanted => overruled.push(repo.did.clone()),
            PartState::There => return Err(LoadError::There(repo.did.clone())),
            PartState::Older(rev) => return Err(LoadError::Older(repo.did.clone(), rev)),
        }
    }
    let wanted: Vec<&LoadedRepo> = begins().filter(|repo| repo.part.is_none()).collect();
    if wanted.is_empty() {
        return Ok(overruled);
    }
    let dids: Vec<&str> = wanted.iter().map(|repo| repo.did.as_str()).collect();
    let leases: Vec<i64> = wanted.iter().map(|repo| repo.lease).collect();
    let held = repos::lock(client, schema, &dids, &leases)?;
    for repo in wanted {
        let Some(held) = held.iter().find(|held| held.did == repo.did) else {
            return Err(LoadError::NotOurs(repo.did.clone()));
        };
        let Some(synced) = held.synced.as_ref().filter(|synced| **synced > repo.rev) else {
            continue;
        };
        // A rev that another program wrote is not doubted.
        let is_ours = held.rev.as_ref() == Some(synced);
        let proof = if is_ours {
            held.proof
        } else {
            Some(Proof::Signed)
        };
        // Beside another program a rev is a reason to fetch again, whatever it is worth.
        let is_binding = match is_beside {
            true => *synced <= newest_believed,
            false => repos::is_binding(synced, &newest_believed, held.rebuild, proof, repo.proof),
        };
        if is_binding {
            return Err(LoadError::Older(repo.did.clone(), synced.clone()));
        }
        overruled.push(repo.did.clone());
    }
    Ok(overruled)
}

/// Stores the pieces of the lists of skipped records, and deletes those of an older rev first.
fn store_pieces(
    client: &mut Client,
    schema: &str,
    chunk: &Chunk,
    mode: Mode,
) -> Result<(), DbError> {
    if mode == Mode::Merge {
        // A repo that came in other parts before loses all of those with its first part.
        let without = chunk.repos.iter().filter(|repo| repo.pieces == 0);
        let with = chunk.pieces.iter().filter(|piece| piece.number == 0);
        let first: Vec<(&str, i16)> = without
            .map(|repo| {
                (
                    repo.did.as_str(),
                    repo.part.as_ref().map_or(0, |part| part.number),
                )
            })
            .chain(with.map(|piece| (piece.did.as_str(), piece.part)))
            .collect();
        let is_part = chunk
            .repos
            .iter()
            .chain(&chunk.open)
            .any(|repo| repo.part.as_ref().is_some_and(|p| p.parts > 1));
        skipped::forget(client, schema, &first, is_part)?;
    }
    if chunk.pieces.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    for piece in &chunk.pieces {
        let place = (piece.part, piece.number);
        skipped::append_row(&mut rows, schema, &piece.did, place, &piece.bytes);
    }
    copy::copy_in(client, skipped::COPY, &[HEADER, &rows, TRAILER])
}

/// Marks the repos that ended in the transaction.
fn note(
    client: &mut Client,
    options: &LoaderOptions,
    ended: &[LoadedRepo],
    overruled: &HashSet<String>,
) -> Result<(), DbError> {
    if ended.is_empty() {
        return Ok(());
    }
    let whole: Vec<Stored<'_>> = ended
        .iter()
        .filter(|repo| repo.part.is_none())
        .map(stored_of)
        .collect();
    if !whole.is_empty() {
        repos::loaded(client, &options.schema, options.run, &whole)?;
    }
    let mut accounts = Accounts::default();
    for repo in ended {
        if let Some(part) = &repo.part {
            let is_last = parts::loaded(
                client,
                &options.schema,
                part.run,
                &StoredPart {
                    part: (part.number, part.parts),
                    pds: (&part.pds, &part.host),
                    repo: stored_of(repo),
                },
            )?;
            if !is_last {
                continue;
            }
        }
        accounts.repo(&repo.did, &repo.rev, &repo.commit_cid);
        if overruled.contains(&repo.did) {
            accounts.overrule(&repo.did);
        }
    }
    accounts.store(client, &options.schema)?;
    Ok(())
}

fn stored_of(repo: &LoadedRepo) -> Stored<'_> {
    Stored {
        did: &repo.did,
        rev: &repo.rev,
        commit_cid: &repo.commit_cid,
        commit: &repo.commit,
        records: repo.records,
        skipped: repo.skipped,
        duplicates: repo.duplicates,
        car_bytes: repo.car_bytes,
        proof: repo.proof,
        is_fork: repo.is_fork,
    }
}

/// Commits in a way that finalize notices.
pub(crate) fn commit(client: &mut Client, noting: &Noting) -> Result<(), DbError> {
    client.batch_execute(&noting.before_commit())?;
    client.batch_execute("COMMIT")?;
    Ok(())
}
