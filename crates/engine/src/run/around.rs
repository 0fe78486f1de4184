//! Accounts around somebody, and the members of lists: found in the repos of those who follow, or
//! who keep the list.
//!
//! The repos that are read to find them are kept for the load, so that no repo is requested twice,
//! up to a bound on disk. A document that the ledger has is not requested.

use crate::documents::good;
use crate::fresh_repo::{AT_ONCE, Fresh, FreshRepos, NoRepo};
use crate::fresh_repos::fetch_each;
use crate::run::options::Around;
use crate::run::session::Session;
use crate::run::walked::Walked;
use archive::{Access, Archive, ArchiveWriter, OpenOptions, Place};
use identity::document::Document;
use identity::handle;
use load::Choice;
use observe::units::counted;
use postgres::Client;
use process::Failure;
use rows::Collection;
use rows::aturi::AtUri;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// CARs that are kept for the load, in bytes before compression: beyond that they are requested
/// once more.
const KEPT_BYTES: usize = 1 << 30;
/// Documents that are requested concurrently; the directory's pace is its own.
const DOCUMENTS_AT_ONCE: usize = 64;
/// Accounts whose documents the ledger is asked for in one statement.
const ASKED_AT_ONCE: usize = 10_000;

/// What was found.
pub(crate) struct Leads {
    /// The accounts.
    pub(crate) accounts: BTreeSet<String>,
    /// The documents that were requested.
    pub(crate) documents: BTreeMap<String, Document>,
    /// The repos that were read.
    pub(crate) walked: Option<Walked>,
    /// Repos that could not be read, whose follows are therefore not known.
    pub(crate) unread: u64,
}

/// Finds the accounts; nothing if it was stopped.
pub(crate) fn find(session: &Session<'_>, around: &Around) -> Result<Option<Leads>, Failure> {
    let options = session.options;
    let folder = tempfile::Builder::new()
        .prefix("skyfill-walk-")
        .tempdir_in(options.spool.folder())
        .map_err(|error| no_place(session, &error))?;
    let place = Place::Folder(folder.path().to_owned());
    let writer = ArchiveWriter::open(&place, &Access::default(), options.scale.memory)
        .map_err(|error| no_place(session, &error))?;
    let fresh = FreshRepos::new(
        &options.fetch,
        &options.spool,
        &options.directory,
        &session.runtime,
        &session.stop,
    )?;
    let mut walk = Walk {
        session,
        fresh: Arc::new(fresh),
        most: around.most,
        accounts: BTreeSet::new(),
        documents: BTreeMap::new(),
        writer,
        kept: 0,
        unread: 0,
    };
    if !walk.follow(around)? || !walk.read_lists(around)? {
        return Ok(None);
    }
    let Walk {
        accounts,
        documents,
        writer,
        kept,
        unread,
        ..
    } = walk;
    drop(writer);
    let walked = match kept {
        0 => None,
        _ => Some(Walked::new(
            Archive::open(
                &place,
                &OpenOptions {
                    access: Access::default(),
                    spool: options.spool.clone(),
                    memory: options.scale.memory,
                },
            )
            .map_err(|error| no_place(session, &error))?,
            folder,
        )),
    };
    Ok(Some(Leads {
        accounts,
        documents,
        walked,
        unread,
    }))
}

fn no_place(session: &Session<'_>, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!(
        "cannot keep repos in {}: {error}",
        session.options.spool.folder().display()
    ))
    .hint("name a writable folder with --spool-dir")
}

struct Walk<'w> {
    session: &'w Session<'w>,
    fresh: Arc<FreshRepos>,
    most: u64,
    accounts: BTreeSet<String>,
    documents: BTreeMap<String, Document>,
    writer: ArchiveWriter,
    kept: usize,
    unread: u64,
}

impl Walk<'_> {
    /// Follows follows, hop by hop. False if it was stopped.
    fn follow(&mut self, around: &Around) -> Result<bool, Failure> {
        let mut frontier = BTreeSet::new();
        for name in &around.followed_by {
            frontier.insert(self.account("--followed-by", name)?);
        }
        let seeds = frontier.clone();
        for hop in 0..around.hops {
            if frontier.is_empty() {
                break;
            }
            observe::step!(
                "reading the follows of {}, {} away",
                counted(frontier.len() as u64, "account"),
                counted(hop.into(), "hop")
            );
            let mut next = BTreeSet::new();
            let asked: Vec<String> = frontier.iter().cloned().collect();
            let known: BTreeSet<String> = self.accounts.union(&frontier).cloned().collect();
            let limit = self.most;
            let is_read = self.read(asked, |did, fresh| {
                let Some(fresh) = fresh else {
                    return match seeds.contains(did) {
                        true => Err(Failure::new(format!("the follows of {did} cannot be read"))
                            .hint("the line above says why; try again later")),
                        false => Ok(()),
                    };
                };
                for subject in follows_of(fresh) {
                    if !known.contains(&subject) {
                        next.insert(subject);
                    }
                    within(known.len() + next.len(), limit)?;
                }
                Ok(())
            })?;
            if !is_read {
                return Ok(false);
            }
            self.accounts = known;
            frontier = next;
        }
        self.accounts.extend(frontier);
        within(self.accounts.len(), self.most)?;
        Ok(true)
    }

    /// Adds the members of lists, and their owners. False if it was stopped.
    fn read_lists(&mut self, around: &Around) -> Result<bool, Failure> {
        let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for uri in &around.lists {
            let owner_and_key = AtUri::parse(uri).filter(|parsed| {
                parsed.collection == Collection::List.nsid()
                    && atrepo::syntax::is_rkey(parsed.rkey)
                    && !parsed.has_fragment
            });
            let Some(parsed) = owner_and_key else {
                return Err(
                    Failure::usage(format!("--list: {uri} is not the URI of a list"))
                        .hint("the form is at://DID/app.bsky.graph.list/RKEY"),
                );
            };
            let owner = self.account("--list", parsed.authority)?;
            by_owner
                .entry(owner)
                .or_default()
                .push(parsed.rkey.to_owned());
        }
        let owners: Vec<String> = by_owner.keys().cloned().collect();
        let mut members = BTreeSet::new();
        let (most, so_far) = (self.most, self.accounts.len());
        let is_read = self.read(owners, |did, fresh| {
            let Some(fresh) = fresh else {
                return Err(Failure::new(format!("the lists of {did} cannot be read"))
                    .hint("the line above says why; try again later"));
            };
            for rkey in by_owner.get(did).into_iter().flatten() {
                let Some(found) = members_of(fresh, did, rkey) else {
                    return Err(Failure::usage(format!(
                        "--list: {did} keeps no list with the key {rkey}"
                    ))
                    .hint("check the URI: the end of it is the list's record key"));
                };
                members.extend(found);
                members.insert(did.to_owned());
            }
            within(so_far + members.len(), most)
        })?;
        self.accounts.extend(members);
        within(self.accounts.len(), self.most)?;
        Ok(is_read)
    }

    /// Fetches the repos of accounts, each once, and hands them to `each` on this thread; nothing
    /// for an account that has none. False if it was stopped.
    fn read(
        &mut self,
        dids: Vec<String>,
        mut each: impl FnMut(&str, Option<&Fresh>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let (fresh, session) = (Arc::clone(&self.fresh), self.session);
        let fetch = |did: String| {
            let fresh = Arc::clone(&fresh);
            async move { fresh.repo(&did).await }
        };
        fetch_each(
            &session.runtime,
            dids,
            AT_ONCE,
            fetch,
            |did, got| match got {
                Ok(fresh) => {
                    each(&did, Some(&fresh))?;
                    self.keep(&did, fresh)
                }
                Err(no_repo) => {
                    observe::log!("{did}: {}", no_repo.why());
                    self.unread += u64::from(matches!(no_repo, NoRepo::Failed(_)));
                    each(&did, None)
                }
            },
        )
    }

    /// Keeps a repo for the load.
    fn keep(&mut self, did: &str, fresh: Fresh) -> Result<(), Failure> {
        let car: &[u8] = fresh.repo.car();
        if self.kept.saturating_add(car.len()) <= KEPT_BYTES {
            let rev = &fresh.repo.commit().rev;
            self.writer
                .add(did, &fresh.document.pds, rev, car)
                .map_err(|error| no_place(self.session, &error))?;
            self.kept += car.len();
        }
        self.documents.insert(did.to_owned(), fresh.document);
        Ok(())
    }

    /// The DID of an account that is named by its DID or handle.
    fn account(&self, option: &str, name: &str) -> Result<String, Failure> {
        if atrepo::syntax::is_did(name) {
            return Ok(name.to_owned());
        }
        let handle = name.trim_start_matches('@');
        if !atrepo::syntax::is_handle(handle) {
            return Err(Failure::usage(format!(
                "{option}: {name} is neither a DID nor a handle"
            )));
        }
        let resolver = self.session.options.directory.handles()?;
        match self.session.runtime.block_on(resolver.resolve(handle)) {
            handle::Leads::To(did) => Ok(did),
            handle::Leads::Nowhere => Err(Failure::new(format!(
                "{option}: handle {handle} does not resolve"
            ))
            .hint("check its spelling, or give the account's DID")),
            handle::Leads::Unreachable(error) => {
                Err(Failure::new(format!("{option}: handle {handle}: {error}"))
                    .hint("try again later, or give the account's DID"))
            }
        }
    }
}

/// Refuses more accounts than are wanted.
fn within(accounts: usize, most: u64) -> Result<(), Failure> {
    if accounts as u64 <= most {
        return Ok(());
    }
    Err(Failure::new(format!(
        "these are more than {most} accounts; nothing was loaded"
    ))
    .hint("raise --most-accounts, or lower --hops"))
}

/// Calls `each` with the key and value of each record of a collection that an AppView would index.
fn each_record(
    fresh: &Fresh,
    collection: Collection,
    mut each: impl FnMut(&str, &atrepo::cbor::Map<'_>),
) {
    let walked = fresh
        .repo
        .entries(|entry| -> Result<(), atrepo::RepoError> {
            if let Ok(taken) = load::taken(&entry, &Choice::ALL)
                && taken.collection == collection
                && rows::check(collection, taken.value).is_ok()
            {
                each(taken.rkey, &taken.value);
            }
            Ok(())
        });
    debug_assert!(walked.is_ok(), "it was checked as a whole");
}

/// Whom an account follows.
fn follows_of(fresh: &Fresh) -> BTreeSet<String> {
    let mut subjects = BTreeSet::new();
    each_record(fresh, Collection::Follow, |_, map| {
        let subject = map.get("subject").and_then(|item| item.as_text());
        subjects.extend(subject.map(str::to_owned));
    });
    subjects
}

/// The members of a list; nothing if there is no such list.
fn members_of(fresh: &Fresh, owner: &str, rkey: &str) -> Option<BTreeSet<String>> {
    let mut is_there = false;
    each_record(fresh, Collection::List, |key, _| is_there |= key == rkey);
    let uri = format!("at://{owner}/{}/{rkey}", Collection::List.nsid());
    let mut members = BTreeSet::new();
    each_record(fresh, Collection::ListItem, |_, map| {
        let text = |name: &str| map.get(name).and_then(|item| item.as_text());
        if text("list") == Some(uri.as_str()) {
            members.extend(text("subject").map(str::to_owned));
        }
    });
    is_there.then_some(members)
}

/// Where the accounts are: the PDS that the ledger's documents name, else that of documents that
/// are requested now. Nothing if it was stopped.
pub(crate) fn locate(
    session: &Session<'_>,
    leads: &mut Leads,
    client: &mut Client,
    mut found: impl FnMut(
        &str,
        Result<(String, Option<ledger::identity::DocumentNote>), NoRepo>,
    ) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let database = session.database;
    let mut unknown = Vec::new();
    let accounts: Vec<&String> = leads.accounts.iter().collect();
    for dids in accounts.chunks(ASKED_AT_ONCE) {
        let known = ledger::identity::pds_of(client, &database.schema, dids)
            .map_err(|error| database.failure(error))?;
        for did in dids {
            if let Some(document) = leads.documents.remove(*did) {
                let note = good((*did).clone(), document.clone());
                found(did, Ok((document.pds, Some(note))))?;
            } else if let Some(pds) = known.get(*did) {
                found(did, Ok((pds.clone(), None)))?;
            } else {
                unknown.push((*did).clone());
            }
        }
    }
    let options = session.options;
    let fresh = Arc::new(FreshRepos::new(
        &options.fetch,
        &options.spool,
        &options.directory,
        &session.runtime,
        &session.stop,
    )?);
    let fetch = |did: String| {
        let fresh = Arc::clone(&fresh);
        async move { fresh.document(&did).await }
    };
    let runtime = &session.runtime;
    fetch_each(runtime, unknown, DOCUMENTS_AT_ONCE, fetch, |did, got| {
        let place = got.map(|document| {
            let note = good(did.clone(), document.clone());
            (document.pds, Some(note))
        });
        found(&did, place)
    })
}
