//! The loading threads: one per database connection. They receive chunks and commit them.

use crate::chunk::{Chunk, LoadedRepo};
use crate::loader::{LoadError, Loader, LoaderOptions};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use observe::{Lane, Workers};
use pg::{DbErrorKind, Step};
use process::stop::UNTIL_HURRIED;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a chunk was not stored.
enum Refused {
    /// It must be sent again.
    Lost,
    /// This repo, or this part of one, is stored already.
    There(String),
    /// A newer rev of this repo is stored; the text is for people.
    Older(String, String),
}

/// A message to a loader.
pub enum Message {
    /// Rows to store.
    Chunk(Box<Chunk>),
    /// The rest of this repo will not come.
    Abandon(String),
    /// Nothing more will come.
    End,
}

/// The channels to all loaders, and the empty chunks that they return.
pub struct Loaders {
    senders: Vec<Sender<Message>>,
    empty: Mutex<Vec<Chunk>>,
    /// Memory that an empty chunk keeps for the next rows, in bytes.
    kept: usize,
}

impl Loaders {
    /// Loaders, and the receivers for their threads. An empty chunk keeps `kept` bytes of memory
    /// for the next rows.
    pub fn new(count: usize, kept: usize) -> (Self, Vec<Receiver<Message>>) {
        let (senders, receivers) = (0..count).map(|_| crossbeam_channel::bounded(1)).unzip();
        let loaders = Self {
            senders,
            empty: Mutex::default(),
            kept,
        };
        (loaders, receivers)
    }

    fn lock_empty(&self) -> MutexGuard<'_, Vec<Chunk>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a chunk to a free loader, or waits for the one of thread `number`; returns an empty
    /// chunk. While a repo goes through several chunks, they all go to `sticky`.
    ///
    /// # Errors
    /// The loader has ended.
    pub fn hand_on(
        &self,
        chunk: Chunk,
        number: usize,
        sticky: &mut Option<usize>,
    ) -> Result<Chunk, String> {
        let own = number % self.senders.len();
        let goes_on = chunk.open_repo().is_some();
        let mut message = Message::Chunk(Box::new(chunk));
        let mut to = sticky.take();
        if to.is_none() {
            for at in (0..self.senders.len()).map(|step| (own + step) % self.senders.len()) {
                match self.senders[at].try_send(message) {
                    Ok(()) => {
                        *sticky = goes_on.then_some(at);
                        return Ok(self.lock_empty().pop().unwrap_or_default());
                    }
                    Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                        message = back;
                    }
                }
            }
            to = Some(own);
        }
        let to = to.unwrap_or(own);
        self.senders[to]
            .send(message)
            .map_err(|_| "the loader has ended".to_owned())?;
        *sticky = goes_on.then_some(to);
        Ok(self.lock_empty().pop().unwrap_or_default())
    }

    /// Informs all loaders that the rest of a repo will not come.
    pub fn abandon(&self, did: &str) {
        for sender in &self.senders {
            // A loader that has ended has nothing to drop.
            drop(sender.send(Message::Abandon(did.to_owned())));
        }
    }

    /// Ends all loaders, when all encoders have ended.
    pub fn end(&self) {
        for sender in &self.senders {
            drop(sender.send(Message::End));
        }
    }

    fn give_back(&self, mut chunk: Chunk) {
        chunk.clear(self.kept);
        let mut empty = self.lock_empty();
        if empty.len() < self.senders.len() {
            empty.push(chunk);
        }
    }
}

/// Receives the result for each repo, once.
pub trait Settle: Send + Sync {
    /// It is stored, and, where that was asked for, on the disk.
    fn stored(&self, repo: &LoadedRepo);
    /// It was lost on the way, and must be loaded again.
    fn lost(&self, repo: &LoadedRepo);
    /// It will not be stored: a short name, and why.
    fn refused(&self, repo: &LoadedRepo, code: &'static str, why: String);
    /// An error that waiting does not fix.
    fn break_off(&self, why: String);
    /// Whether there was such an error.
    fn is_broken(&self) -> bool;

    /// Does what must be durable before rows are stored.
    ///
    /// # Errors
    /// Why it could not be done; then nothing can be stored.
    fn before_store(&self) -> Result<(), String> {
        Ok(())
    }
}

impl<S: Settle> Settle for Arc<S> {
    fn stored(&self, repo: &LoadedRepo) {
        S::stored(self, repo);
    }

    fn lost(&self, repo: &LoadedRepo) {
        S::lost(self, repo);
    }

    fn refused(&self, repo: &LoadedRepo, code: &'static str, why: String) {
        S::refused(self, repo, code, why);
    }

    fn break_off(&self, why: String) {
        S::break_off(self, why);
    }

    fn is_broken(&self) -> bool {
        S::is_broken(self)
    }

    fn before_store(&self) -> Result<(), String> {
        S::before_store(self)
    }
}

/// What a loading thread works with.
pub struct Loading<S> {
    /// What is stored, and where.
    pub options: LoaderOptions,
    /// Receives the result for each repo.
    pub settle: S,
    /// Where the thread reports what it does.
    pub workers: Workers,
    /// Where the threads note how long they wait for rows.
    pub lane: Lane,
}

impl<S: Settle> Loading<S> {
    /// Stores chunks until there are no more.
    pub fn work(&self, number: usize, messages: &Receiver<Message>, loaders: &Loaders) {
        let mut loader = Loader::new(self.options.clone());
        let worker = self.workers.start("waiting for rows");
        // Repos whose rows are in the open transaction, and large ones that lost their first part.
        let mut pending: Vec<LoadedRepo> = Vec::new();
        let mut dead: HashSet<String> = HashSet::new();
        while let Ok(message) = self.lane.starved(|| messages.recv()) {
            let chunk = match message {
                Message::Chunk(chunk) => *chunk,
                Message::End => break,
                Message::Abandon(did) => {
                    dead.remove(&did);
                    if loader.has_open(&did) {
                        loader.abandon();
                        dead.extend(loader.take_open().into_iter().filter(|open| *open != did));
                        pending.drain(..).for_each(|repo| self.settle.lost(&repo));
                    }
                    continue;
                }
            };
            worker.doing(format!(
                "connection {number}: storing {} bytes",
                chunk.bytes()
            ));
            let open = chunk.open_repo().map(|repo| repo.did.clone());
            let continues_dead = dead.iter().any(|did| chunk.mentions(did));
            if continues_dead || self.settle.is_broken() {
                for repo in chunk.repos() {
                    dead.remove(&repo.did);
                    self.settle.lost(repo);
                }
                dead.extend(open);
                if self.settle.is_broken() {
                    loader.abandon();
                    dead.extend(loader.take_open());
                    pending.drain(..).for_each(|repo| self.settle.lost(&repo));
                }
                loaders.give_back(chunk);
                continue;
            }
            match self.store(&mut loader, &chunk) {
                Ok(()) => {
                    pending.extend(chunk.repos().iter().cloned());
                    if !loader.has_any_open() {
                        pending.drain(..).for_each(|repo| self.settle.stored(&repo));
                    }
                }
                Err(refused) => {
                    // What was in the same transaction is gone with it, whatever the chunk met
                    // there.
                    let before: HashSet<String> =
                        pending.iter().map(|repo| repo.did.clone()).collect();
                    pending.drain(..).for_each(|repo| self.settle.lost(&repo));
                    for repo in chunk.repos() {
                        match &refused {
                            Refused::There(did) if *did == repo.did && !before.contains(did) => {
                                self.settle.stored(repo);
                            }
                            Refused::Older(did, why)
                                if *did == repo.did && !before.contains(did) =>
                            {
                                self.settle.refused(repo, "older", why.clone());
                            }
                            _ => self.settle.lost(repo),
                        }
                    }
                    dead.extend(loader.take_open());
                    for repo in chunk.repos() {
                        dead.remove(&repo.did);
                    }
                    dead.extend(open);
                }
            }
            loaders.give_back(chunk);
            worker.doing("waiting for rows");
        }
        // Those beside a repo whose rest never came.
        pending.iter().for_each(|repo| self.settle.lost(repo));
    }

    /// Stores a chunk, waiting for the server if that helps.
    fn store(&self, loader: &mut Loader, chunk: &Chunk) -> Result<(), Refused> {
        let mut is_useless = false;
        let stored = pg::persist(Step::Short, UNTIL_HURRIED, || {
            // What came before in the same transaction is gone.
            if is_useless {
                return Ok(Err(Refused::Lost));
            }
            if let Err(why) = self.settle.before_store() {
                self.settle.break_off(why);
                return Ok(Err(Refused::Lost));
            }
            let continues = loader.has_any_open();
            Ok(match loader.load(chunk) {
                Ok(()) => Ok(()),
                Err(LoadError::Database(error)) => {
                    is_useless = continues;
                    return Err(error);
                }
                Err(LoadError::NotOurs(_)) => Err(Refused::Lost),
                Err(LoadError::There(did)) => Err(Refused::There(did)),
                Err(LoadError::Older(did, rev)) => {
                    let why = LoadError::Older(did.clone(), rev).to_string();
                    Err(Refused::Older(did, why))
                }
            })
        });
        stored.unwrap_or_else(|error| {
            if error.kind != DbErrorKind::Stopped {
                self.settle.break_off(error.to_string());
            }
            Err(Refused::Lost)
        })
    }
}
