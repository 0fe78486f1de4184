//! Signing keys of accounts: from the ledger, and from documents that are requested where a key is
//! not known or did not sign a commit.
//!
//! A document is requested once, whatever waits for it, and not again within a minute. So a liar
//! who makes up commits of an account costs its directory one request per minute. A document that
//! was requested before the stream said that it may have changed is requested once more. A host
//! that says again and again that its accounts changed has so many documents requested per minute;
//! the others wait for the look-up of accounts, which every change asks for.
//!
//! Documents that accounts keep on hosts of their own (did:web) wait in a line of their own: hosts
//! that stall are no reason to wait for the directory.

use crate::documents::note;
use fetch::hosts::host_of;
use identity::resolve::{Found, Resolver};
use ledger::follow::{self, KeyOf};
use ledger::identity::DocumentNote;
use process::Stop;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Keys that are kept in memory: some 30 MB.
const KEPT: usize = 100_000;
/// A document that was requested within this time is not requested again.
const FRESH: Duration = Duration::from_secs(60);
/// Documents that are requested concurrently, and requests that may wait. What comes beyond that is
/// left to a merge. The directory's pace is its own.
const OF_DIRECTORY: (usize, usize) = (16, 2000);
/// The same of did:web, of which the network has some hundred.
const OF_WEB: (usize, usize) = (16, 500);
/// Documents per minute that a host has requested by saying that its accounts changed.
const CHANGES_PER_MINUTE: u32 = 200;
const MINUTE: Duration = Duration::from_secs(60);

/// What is known of an account's document.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) key: Arc<str>,
    /// URL and name of its PDS.
    pub(super) at: (Arc<str>, Arc<str>),
    /// When the document was requested, if it was in this process.
    asked: Option<Instant>,
}

impl Key {
    fn of(pds: &str, key: &str, asked: Option<Instant>) -> Self {
        Self {
            key: key.into(),
            at: (pds.into(), host_of(pds).into()),
            asked,
        }
    }

    /// Whether the document was requested lately.
    pub(super) fn is_fresh(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < FRESH)
    }
}

/// What came of a request.
pub(super) struct Answer {
    pub(super) did: String,
    pub(super) note: DocumentNote,
    /// Whether there is a good document.
    pub(super) is_good: bool,
}

/// Documents that wait for the same servers.
struct Line {
    slots: Arc<Semaphore>,
    waiting: usize,
    most: usize,
}

impl Line {
    fn new((at_once, most): (usize, usize)) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(at_once)),
            waiting: 0,
            most,
        }
    }
}

/// The keys of accounts.
pub(super) struct Keys {
    runtime: tokio::runtime::Handle,
    resolver: Arc<Resolver>,
    stop: Stop,
    known: HashMap<String, Key>,
    /// Accounts whose documents are on their way, and whether the stream said since that they may
    /// have changed.
    asked: HashMap<String, bool>,
    directory: Line,
    web: Line,
    /// Documents that hosts had requested in this minute, by their name; those of accounts whose
    /// host is not known have the empty one.
    changes: (Instant, HashMap<Arc<str>, u32>),
    answers: (
        UnboundedSender<(String, Found)>,
        UnboundedReceiver<(String, Found)>,
    ),
}

impl Keys {
    pub(super) fn new(runtime: &Runtime, resolver: Resolver, stop: &Stop) -> Self {
        Self {
            runtime: runtime.handle().clone(),
            resolver: Arc::new(resolver),
            stop: stop.clone(),
            known: HashMap::new(),
            asked: HashMap::new(),
            directory: Line::new(OF_DIRECTORY),
            web: Line::new(OF_WEB),
            changes: (Instant::now(), HashMap::new()),
            answers: unbounded_channel(),
        }
    }

    /// The key of an account, if it is known.
    pub(super) fn get(&self, did: &str) -> Option<&Key> {
        self.known.get(did)
    }

    /// Adds what the ledger knows of these accounts.
    pub(super) fn read(
        &mut self,
        client: &mut postgres::Client,
        schema: &str,
        dids: &[&str],
    ) -> Result<(), postgres::Error> {
        for KeyOf { did, pds, key } in follow::keys(client, schema, dids)? {
            self.add(did, Key::of(&pds, &key, None));
        }
        Ok(())
    }

    fn add(&mut self, did: String, key: Key) {
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(did, key);
    }

    /// Requests the document of an account, unless that is under way; false if too many wait.
    pub(super) fn ask(&mut self, did: &str) -> bool {
        if self.asked.contains_key(did) {
            return true;
        }
        let line = self.line(did);
        if line.waiting >= line.most {
            return false;
        }
        line.waiting += 1;
        self.request(did);
        true
    }

    fn request(&mut self, did: &str) {
        self.asked.insert(did.to_owned(), false);
        let slots = Arc::clone(&self.line(did).slots);
        let resolver = Arc::clone(&self.resolver);
        let (to, stop, did) = (self.answers.0.clone(), self.stop.clone(), did.to_owned());
        self.runtime.spawn(async move {
            // Never closed.
            let _slot = slots.acquire().await;
            let found = tokio::select! {
                found = resolver.resolve(&did) => found,
                () = stop.wait() => return,
            };
            drop(to.send((did, found)));
        });
    }

    /// Where the document of an account waits.
    fn line(&mut self, did: &str) -> &mut Line {
        match did.starts_with("did:web:") {
            true => &mut self.web,
            false => &mut self.directory,
        }
    }

    /// Forgets the key of an account, whose host says that its document may have changed, and
    /// requests it.
    pub(super) fn forget(&mut self, did: &str) {
        let host = self.known.remove(did).map(|key| key.at.1);
        if self.changes.0.elapsed() >= MINUTE {
            self.changes = (Instant::now(), HashMap::new());
        }
        let count = self.changes.1.entry(host.unwrap_or_default()).or_default();
        if *count >= CHANGES_PER_MINUTE {
            return;
        }
        *count += 1;
        match self.asked.get_mut(did) {
            Some(is_outdated) => *is_outdated = true,
            None => _ = self.ask(did),
        }
    }

    /// Whether a document is on its way.
    pub(super) fn is_asked(&self, did: &str) -> bool {
        self.asked.contains_key(did)
    }

    /// The documents that came.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Ok((did, found)) = self.answers.1.try_recv() {
            match self.asked.remove(&did) {
                Some(true) => {
                    self.request(&did);
                    continue;
                }
                Some(false) => self.line(&did).waiting -= 1,
                None => {}
            }
            if let Found::Document(document) = &found {
                let key = Key::of(&document.pds, &document.signing_key, Some(Instant::now()));
                self.add(did.clone(), key);
            }
            answers.push(Answer {
                is_good: matches!(found, Found::Document(_)),
                note: note(did.clone(), &found),
                did,
            });
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANGES_PER_MINUTE, Key, Keys, OF_WEB};
    use fetch::OneServer;
    use identity::resolve::{Resolver, Settings};
    use process::Stop;
    use std::net::TcpListener;
    use std::time::Duration;
    use tokio::runtime::Runtime;

    /// Keys whose documents would come from servers that never respond.
    fn keys(runtime: &Runtime, silent: &TcpListener) -> Keys {
        let url = format!("http://{}", silent.local_addr().unwrap());
        let settings = Settings {
            plc_url: url.clone(),
            plc_pace: OneServer::new(100.0),
            web_server: Some(url),
            allow_private_hosts: true,
            timeout: Duration::from_secs(600),
            attempts: 1,
        };
        let resolver = Resolver::new("test", settings).unwrap();
        Keys::new(runtime, resolver, &Stop::default())
    }

    #[test]
    fn documents_that_stall_hold_up_no_other_ones_and_a_host_has_so_many_requested() {
        let runtime = Runtime::new().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut keys = keys(&runtime, &silent);
        let web = |number: usize| format!("did:web:h{number}.test");
        assert!((0..OF_WEB.1).all(|number| keys.ask(&web(number))));
        assert!(!keys.ask(&web(OF_WEB.1)));
        assert!(keys.ask(&web(0)), "it waits already");
        assert!(keys.ask("did:plc:other"));
        let most = usize::try_from(CHANGES_PER_MINUTE).unwrap();
        let plc = |number: usize| format!("did:plc:n{number}");
        for number in 0..=most {
            keys.add(plc(number), Key::of("https://evil.test", "did:key:z", None));
            keys.forget(&plc(number));
            assert!(keys.get(&plc(number)).is_none());
        }
        assert!(keys.is_asked(&plc(most - 1)));
        assert!(!keys.is_asked(&plc(most)));
        keys.add(
            plc(most + 1),
            Key::of("https://good.test", "did:key:z", None),
        );
        keys.forget(&plc(most + 1));
        assert!(keys.is_asked(&plc(most + 1)));
        runtime.shutdown_background();
    }
}
