//! Which repos a run is to load: from a DID file, from arguments, from an archive; into the ledger.

use crate::cli::{LoadArgs, WhatArgs};
use crate::fetch_args::{self, user_agent};
use crate::identities::good;
use discover::did_file;
use fetch::archive::Archive;
use fetch::hosts::host_of;
use identity::document::Document;
use identity::handle;
use identity::resolve::Found;
use ledger::identity::DocumentNote;
use ledger::repos::{self, ADD_AT_ONCE, Unfound, Wanted};
use postgres::Client;
use process::{Database, DidFile, Failure};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Lines that are not of a DID file, named one by one up to here.
const NAMED_BAD_LINES: u64 = 20;

/// Adds all that the arguments name; whether they name anything, and how many lines and names led
/// to no repo.
pub(crate) fn add_all(
    (what, did_file): (&WhatArgs, Option<DidFile>),
    args: &LoadArgs,
    runtime: &Runtime,
    client: &mut Client,
    database: &Database,
    archive: Option<&Archive>,
) -> Result<(bool, u64), Failure> {
    let mut adding = Adding {
        client,
        database,
        wanted: Vec::new(),
        learned: Vec::new(),
        unfound: Vec::new(),
    };
    let mut bad_lines = 0;
    if let Some(DidFile { shown, reader }) = did_file {
        let failed = |error: std::io::Error| Failure::new(format!("read {shown}: {error}"));
        for line in did_file::read(reader, 0, 0) {
            match line.map_err(failed)? {
                Ok(line) => adding.add(line.did, line.pds)?,
                Err(bad) => {
                    bad_lines += 1;
                    if bad_lines <= NAMED_BAD_LINES {
                        observe::log!("{shown}: {bad}");
                    }
                }
            }
        }
        if bad_lines > 0 {
            observe::log!("{bad_lines} lines of {shown} name no repo; the others are taken");
        }
    } else if let Some(archive) = archive.filter(|_| what.did.is_empty() && what.handle.is_empty())
    {
        for (did, pds) in archive.dids() {
            adding.add(did.to_owned(), pds.to_owned())?;
        }
    }
    for named in named(what, args, runtime, archive)? {
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
    adding.write()?;
    let any = what.did_file.is_some()
        || archive.is_some()
        || !what.did.is_empty()
        || !what.handle.is_empty();
    Ok((any, bad_lines))
}

struct Adding<'a> {
    client: &'a mut Client,
    database: &'a Database,
    wanted: Vec<Wanted>,
    /// Documents that were asked for.
    learned: Vec<DocumentNote>,
    /// Accounts whose documents lead to no PDS.
    unfound: Vec<Unfound>,
}

impl Adding<'_> {
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
        let written = repos::add(self.client, schema, &self.wanted)
            .and_then(|_| ledger::identity::add_documents(self.client, schema, &self.learned))
            .and_then(|_| repos::add_unfound(self.client, schema, &self.unfound));
        written.map_err(|error| self.database.failure(error))?;
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

/// The accounts of `--did` and `--handle`, with their PDSes. One that leads nowhere costs the
/// others nothing.
fn named(
    what: &WhatArgs,
    args: &LoadArgs,
    runtime: &Runtime,
    archive: Option<&Archive>,
) -> Result<Vec<Named>, Failure> {
    if what.did.is_empty() && what.handle.is_empty() {
        return Ok(Vec::new());
    }
    let network = &args.directory;
    let documents = fetch_args::documents(
        network,
        &args.caller,
        args.fetch.allow_private_hosts,
        args.fetch.max_attempts,
    )?;
    let handles = handle::Resolver::new(
        &user_agent(&args.caller),
        handle::Settings {
            dns_server: network.dns_server,
            well_known_server: network.well_known_server.clone(),
            allow_private_hosts: args.fetch.allow_private_hosts,
            timeout: Duration::from_secs(network.timeout),
        },
    )
    .map_err(Failure::new)?;
    let mut dids = what.did.clone();
    let mut named = Vec::new();
    for name in &what.handle {
        match runtime.block_on(handles.resolve(name)) {
            handle::Leads::To(did) => dids.push(did),
            handle::Leads::Nowhere => named.push(Named::NoAccount(format!(
                "handle {name} leads to no account; check its spelling, or name the account with --did"
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
            return Err(Failure::usage(format!("{did} is no DID")));
        }
        if archive.is_some() {
            named.push(Named::Repo(did, String::new()));
            continue;
        }
        let (state, code, error) = match runtime.block_on(documents.resolve(&did)) {
            Found::Document(document) => {
                named.push(Named::Document(did, document));
                continue;
            }
            Found::Unreachable(error) => (
                "failed",
                "no DID document",
                format!("its DID document: {error}"),
            ),
            Found::Gone => (
                "not found",
                "no account",
                "it does not exist, or no more".to_owned(),
            ),
            Found::Useless(error) => (
                "failed",
                "no DID document",
                format!("its DID document: {error}"),
            ),
            Found::Unsupported => (
                "failed",
                "no DID document",
                "nobody resolves its method; did:plc and did:web are known".to_owned(),
            ),
        };
        named.push(Named::Nowhere(Unfound {
            did,
            state,
            code,
            error,
        }));
    }
    Ok(named)
}
