//! Adds the repos that a run is to load to the ledger: from a DID file, from arguments, from an
//! archive.

use crate::documents::good;
use crate::fresh_repo::NoRepo;
use crate::run::around;
use crate::run::options::{Around, Repos};
use crate::run::session::Session;
use archive::Archive;
use discover::did_file;
use fetch::hosts::host_of;
use identity::document::Document;
use identity::handle;
use identity::resolve::Found;
use ledger::identity::DocumentNote;
use ledger::repos::{self, ADD_AT_ONCE, Unfound, Wanted};
use ledger::states::State;
use observe::units::counted;
use process::{Database, DidFile, Failure, Patient};
use std::sync::Arc;

/// Lines that are not of a DID file, named one by one up to here.
const NAMED_BAD_LINES: u64 = 20;

/// Adds all that the arguments name; whether they name anything, and how many lines and names led
/// to no repo.
pub(crate) fn add_all(
    session: &Session<'_>,
    repos: Repos,
    archive: Option<&Archive>,
) -> Result<(bool, u64), Failure> {
    let any = repos.names_any() || archive.is_some();
    let names_accounts =
        !repos.dids.is_empty() || !repos.handles.is_empty() || repos.around.names_any();
    let mut adding = Adding {
        patient: session.database.patient(&session.stop),
        database: session.database,
        wanted: Vec::new(),
        learned: Vec::new(),
        unfound: Vec::new(),
    };
    let mut bad_lines = 0;
    match repos.did_file {
        Some(did_file) => bad_lines = adding.add_file(did_file)?,
        // All of an archive, unless accounts are named.
        None if !names_accounts => {
            for account in archive.iter().flat_map(|archive| archive.after("")) {
                let account = account.map_err(Failure::new)?;
                adding.add(account.did, account.pds)?;
            }
        }
        None => {}
    }
    for named in named(session, repos.dids, &repos.handles, archive)? {
        match named {
            Named::Repo(did, pds) => adding.add(did, pds)?,
            Named::Document(did, document) => {
                adding.learned.push(good(did.clone(), document.clone()));
                adding.add(did, document.pds)?;
            }
            Named::Nowhere(unfound) => {
                bad_lines += 1;
                observe::log!("{}: {}", unfound.did, unfound.error);
                adding.unfound.push(unfound);
            }
            Named::NoAccount(why) => {
                bad_lines += 1;
                observe::log!("{why}");
            }
        }
    }
    if repos.around.names_any() {
        bad_lines += adding.add_around(session, &repos.around)?;
    }
    adding.write()?;
    Ok((any, bad_lines))
}

struct Adding<'a> {
    patient: Patient<'a>,
    database: &'a Database,
    wanted: Vec<Wanted>,
    /// Documents that were asked for.
    learned: Vec<DocumentNote>,
    /// Accounts whose documents lead to no PDS.
    unfound: Vec<Unfound>,
}

impl Adding<'_> {
    /// Adds the lines of a DID file; how many of them name no repo.
    fn add_file(&mut self, DidFile { shown, reader }: DidFile) -> Result<u64, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot read {shown}: {error}"));
        let mut bad_lines = 0;
        for line in did_file::read(reader, 0, 0) {
            match line.map_err(failed)? {
                Ok(line) => self.add(line.did, line.pds)?,
                Err(bad) => {
                    bad_lines += 1;
                    if bad_lines <= NAMED_BAD_LINES {
                        observe::log!("{shown}: {bad}");
                    }
                }
            }
        }
        if bad_lines > 0 {
            observe::log!("lines of {shown} that name no repo: {bad_lines}; the others are loaded");
        }
        Ok(bad_lines)
    }

    /// Adds accounts around somebody and members of lists; how many repos could not be read for
    /// that. An account without a document is gone, and is noted so.
    fn add_around(&mut self, session: &Session<'_>, around: &Around) -> Result<u64, Failure> {
        let stopped = || Failure::new("stopped while accounts were looked for").stopped();
        let mut leads = around::find(session, around)?.ok_or_else(stopped)?;
        let accounts = leads.accounts.len();
        let mut client = session.database.connect()?;
        let is_done = around::locate(session, &mut leads, &mut client, |did, found| {
            match found {
                Ok((pds, learned)) => {
                    self.learned.extend(learned);
                    return self.add(did.to_owned(), pds);
                }
                Err(no_repo) => self.unfound.push(Unfound {
                    did: did.to_owned(),
                    state: match no_repo {
                        NoRepo::Gone | NoRepo::Away(_) => State::NotFound,
                        NoRepo::OptedOut | NoRepo::Failed(_) => State::Failed,
                    },
                    code: "no DID document",
                    error: no_repo.why(),
                }),
            }
            Ok(())
        })?;
        if !is_done {
            return Err(stopped());
        }
        if let Some(walked) = leads.walked.take() {
            drop(session.walked.set(Arc::new(walked)));
        }
        around
            .note(&mut client, &session.database.schema)
            .map_err(|error| session.database.failure(error))?;
        observe::log!(
            "{} chosen by --followed-by and --list",
            counted(accounts as u64, "account")
        );
        Ok(leads.unread)
    }

    fn add(&mut self, did: String, pds: String) -> Result<(), Failure> {
        self.wanted.push(Wanted {
            did,
            host: host_of(&pds),
            pds,
        });
        if self.wanted.len() >= ADD_AT_ONCE {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        let schema = &self.database.schema;
        self.patient.run(|client| {
            repos::add(client, schema, &self.wanted)?;
            ledger::identity::add_documents(client, schema, &self.learned)?;
            repos::add_unfound(client, schema, &self.unfound)
        })?;
        self.wanted.clear();
        self.learned.clear();
        self.unfound.clear();
        Ok(())
    }
}

/// What an account that was named leads to.
enum Named {
    /// A repo in an archive, or on this PDS.
    Repo(String, String),
    /// A repo on the PDS of its document.
    Document(String, Document),
    /// Its document leads to no PDS now.
    Nowhere(Unfound),
    /// A handle of no account.
    NoAccount(String),
}

/// The accounts that are named, with their PDSes. One that leads nowhere costs the others nothing.
fn named(
    session: &Session<'_>,
    mut dids: Vec<String>,
    handles: &[String],
    archive: Option<&Archive>,
) -> Result<Vec<Named>, Failure> {
    if dids.is_empty() && handles.is_empty() {
        return Ok(Vec::new());
    }
    let (directory, runtime) = (&session.options.directory, &session.runtime);
    let documents = directory.documents(session.options.fetch.max_attempts)?;
    let resolver = directory.handles()?;
    let mut named = Vec::new();
    for name in handles {
        match runtime.block_on(resolver.resolve(name)) {
            handle::Leads::To(did) => dids.push(did),
            handle::Leads::Nowhere => named.push(Named::NoAccount(format!(
                "handle {name} does not resolve; check its spelling, or name the account with --did"
            ))),
            handle::Leads::Unreachable(error) => {
                named.push(Named::NoAccount(format!(
                    "handle {name}: {error}; try again later"
                )));
            }
        }
    }
    for did in dids {
        if !atrepo::syntax::is_did(&did) {
            return Err(Failure::usage(format!("{did} is not a DID")));
        }
        named.push(match archive {
            Some(_) => Named::Repo(did, String::new()),
            None => {
                let found = runtime.block_on(documents.resolve(&did));
                Named::of_document(did, found)
            }
        });
    }
    Ok(named)
}

impl Named {
    /// What the document of an account leads to.
    fn of_document(did: String, found: Found) -> Self {
        let (state, code, error) = match found {
            Found::Document(document) => return Self::Document(did, document),
            Found::Gone => (
                State::NotFound,
                "no account",
                "it does not exist, or no longer does".to_owned(),
            ),
            Found::Unreachable(error) => (
                State::Failed,
                "no DID document",
                format!("its DID document: {error}"),
            ),
            Found::Useless(error) => (
                State::Failed,
                "no DID document",
                format!("its DID document: {error}"),
            ),
            Found::Unsupported => (
                State::Failed,
                "no DID document",
                "its DID method cannot be resolved; did:plc and did:web can".to_owned(),
            ),
        };
        Self::Nowhere(Unfound {
            did,
            state,
            code,
            error,
        })
    }
}
