//! The keys of accounts, for the signatures of their commits.

use crate::certificate::Signatures;
use crate::documents::{self, Directory};
use atrepo::Commit;
use identity::resolve::{self, Found};
use identity::signature;
use ledger::identity::DocumentNote;
use observe::Counter;
use postgres::Client;
use process::{Database, Failure};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::runtime::Runtime;

/// Attempts at each document.
const ATTEMPTS: u32 = 4;

/// The keys of accounts: from the ledger, else from their documents; older ones from the PLC
/// directory's log.
pub(crate) struct Keys<'k> {
    client: Mutex<Option<Client>>,
    database: &'k Database,
    resolver: resolve::Resolver,
    runtime: &'k Runtime,
    good: Counter,
    older: Counter,
    unchecked: Counter,
    /// Documents of accounts whose signatures do not hold.
    doubted: Mutex<Vec<DocumentNote>>,
}

impl<'k> Keys<'k> {
    pub(crate) fn new(
        database: &'k Database,
        directory: &Directory,
        runtime: &'k Runtime,
    ) -> Result<Self, Failure> {
        let resolver = directory.documents(ATTEMPTS)?;
        Ok(Self {
            client: Mutex::new(None),
            database,
            resolver,
            runtime,
            good: Counter::counted("signatures_good", "good"),
            older: Counter::counted("signatures_older", "older"),
            unchecked: Counter::counted("signatures_unchecked", "unchecked"),
            doubted: Mutex::default(),
        })
    }

    pub(crate) fn counts(&self) -> Signatures {
        Signatures {
            good: self.good.get(),
            older: self.older.get(),
            unchecked: self.unchecked.get(),
        }
    }

    /// Why the signature does not hold, if it does not.
    pub(crate) fn check(&self, did: &str, block: &[u8]) -> Option<String> {
        let commit = match Commit::parse(block) {
            Ok(commit) => commit,
            Err(why) => return Some(why.to_owned()),
        };
        // A key of the ledger may be out of date, so only a fresh one refuses.
        if let Some(key) = self.of_ledger(did)
            && signature::check(&key, &commit).is_ok()
        {
            self.good.add(1);
            return None;
        }
        let found = self.runtime.block_on(self.resolver.resolve(did));
        let note = documents::note(did.to_owned(), &found);
        let error = match found {
            Found::Document(document) => match signature::check(&document.signing_key, &commit) {
                Ok(()) => {
                    self.good.add(1);
                    return None;
                }
                Err(error) => error.to_string(),
            },
            Found::Gone => "the account no longer has a DID document".to_owned(),
            Found::Useless(error) => error.to_string(),
            Found::Unreachable(error) => {
                tracing::warn!("the signature of {did} could not be checked: {error}");
                self.unchecked.add(1);
                return None;
            }
            Found::Unsupported => "its DID method cannot be resolved".to_owned(),
        };
        match self.runtime.block_on(self.resolver.older_keys(did)) {
            Ok(keys)
                if keys
                    .iter()
                    .any(|key| signature::check(key, &commit).is_ok()) =>
            {
                self.older.add(1);
                None
            }
            Ok(_) => {
                self.lock_doubted().push(note);
                Some(format!("{error}, nor by an older key"))
            }
            Err(unreachable) => {
                tracing::warn!("older keys of {did} could not be looked up: {unreachable}");
                self.unchecked.add(1);
                None
            }
        }
    }

    /// Documents of accounts whose signatures do not hold.
    pub(crate) fn lock_doubted(&self) -> MutexGuard<'_, Vec<DocumentNote>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_ledger(&self, did: &str) -> Option<String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = pg::connect(&self.database.url).ok();
        }
        ledger::identity::signing_key(client.as_mut()?, &self.database.schema, did).ok()?
    }
}
