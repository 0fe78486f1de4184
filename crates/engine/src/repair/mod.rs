//! Loads or reloads single accounts while an AppView's own ingester writes to the same tables.
//!
//! Each account goes through the same steps, and one that fails costs the others nothing:
//!
//! 1. Its DID document and its repo are fetched, and the signature is checked, as everywhere.
//! 2. `account` stores the repo in one transaction, which lets no other program write records and
//!    asks the host once more whether the repo is still the newest ([`load::Loader::begin_alone`]).
//!    If it is not, nothing is stored, and the repo is fetched again. So a repair never puts an
//!    older row in the place of a newer one, whoever wrote that, and whether or not it keeps revs.
//! 3. What is stored of the account is compared row by row. Rows that follow from their records
//!    stay, with the times at which the ingester saw them.
//! 4. Its handle is checked, and what is derived from the changed rows is computed
//!    (`finalize::Extent::Noted`): where skyfill alone wrote, exactly; beside an ingester, as far
//!    as the AppView's indexes lead to it.
//!
//! An account costs some six requests. Of a repo that is stored already, its rows are read by
//! index, and those that differ are written.

mod account;
mod asked;
mod listed;
mod report;

pub use asked::Options;
pub use listed::accounts_of;
pub use report::{Derived, Fate, Repaired, Stored, Summary};

use crate::documents;
use crate::finalize;
use crate::fresh_repo::{FreshRepos, NoRepo};
use crate::identities::look_up_handles;
use crate::repair::account::{RepairEnd, Work, new_loader};
use crate::repair::asked::{Fetched, fetched};
use crate::run::{Selection, choice_of, indexed_columns};
use fetch::FetchError;
use identity::document::Document;
use identity::handle::Leads;
use ledger::identity::HandleState;
use ledger::locks::{self, Lock};
use ledger::runs::{self, Mode, Phase, Run};
use ledger::{hosts, identity as accounts};
use load::fresh;
use postgres::Client;
use process::{Database, Failure, Stop, threads};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Repos that are fetched ahead of the one that is stored: more would be older when it is their
/// turn.
const AHEAD: usize = 4;
/// Accounts that may be named at once: beyond that, a run is the better way.
const MOST_ACCOUNTS: usize = 100_000;

/// Repairs accounts.
///
/// # Errors
/// The database or the network cannot be used, or the tables are not in a state in which an
/// account can be loaded.
pub fn repair(options: &Options, database: &Database, stop: &Stop) -> Result<Summary, Failure> {
    let began = Instant::now();
    if options.accounts.len() > MOST_ACCOUNTS {
        return Err(
            Failure::usage(format!("these are more than {MOST_ACCOUNTS} accounts"))
                .hint("stop the ingester and load them with skyfill run DID-FILE"),
        );
    }
    let mut client = database.connect()?;
    let run = begin(options, database, &mut client, stop)?;
    let runtime = threads::start()?;
    let mut repaired = Vec::new();
    let dids = named(options, &runtime, &mut repaired)?;
    let fresh = Arc::new(FreshRepos::new(
        &options.fetch,
        &options.spool,
        &options.directory,
        &runtime,
        stop,
    )?);
    let mut work = Work {
        options,
        database,
        runtime: &runtime,
        fresh: &fresh,
        stop,
        run: run.id,
        choice: choice_of(&run),
        indexed: indexed_columns(database)?,
        client,
        loader: new_loader(database, run.id),
    };
    work.loader
        .connect()
        .map_err(|error| database.db_failure(&error))?;
    let mut documents = Vec::new();
    let is_stopped = all(&mut work, dids, &mut repaired, &mut documents)?;
    let mut client = work.client;
    let claimed: Vec<_> = documents
        .into_iter()
        .map(|(did, document): (String, Document)| (did, document.handle))
        .collect();
    let handles = look_up_handles(
        claimed.clone(),
        &options.directory,
        (&runtime, &mut client),
        (&database.schema, options.now),
        stop,
    )?;
    note_handles(&mut repaired, &claimed, &handles);
    let derived = derive(database, &run, stop)?;
    Ok(Summary {
        accounts: repaired,
        derived,
        is_stopped: is_stopped || stop.is_set(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Makes sure that accounts can be loaded, and begins a run that has no phases: a repair leaves
/// nothing that a later run would have to continue.
fn begin(
    options: &Options,
    database: &Database,
    client: &mut Client,
    stop: &Stop,
) -> Result<Run, Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let last = runs::last(client, &database.schema).map_err(refused)?;
    if let Some(run) = last
        .as_ref()
        .filter(|run| run.mode == Mode::Fresh && run.phase < Phase::Identities)
    {
        return Err(Failure::usage(format!(
            "run {} fills these tables, and is in phase {}",
            run.id,
            run.phase.word()
        ))
        .hint_to_run("finish it first", "run"));
    }
    if let Some(who) = locks::holder(client, Lock::Finalize).map_err(refused)? {
        return Err(Failure::new(format!("{who} finalizes in this database"))
            .hint("wait until it ends: what a repair stores meanwhile would undo its work"));
    }
    hosts::enter(client).map_err(refused)?;
    let selection = last
        .as_ref()
        .map_or_else(Selection::everything, Selection::of);
    let mut run = Run {
        id: 0,
        now: rows::datetime::print(options.now),
        mode: Mode::Merge,
        phase: Phase::Done,
        collections: selection.collections,
        notifications: selection.notifications,
        since: selection.since,
    };
    run.id = fresh::begin(client, &database.schema, &run, stop.waits())
        .map_err(|error| Failure::new(format!("{}: {error}", database.shown())))?;
    Ok(run)
}

/// The DIDs of the accounts, each once, in their order. A handle that leads nowhere is a failed
/// account.
fn named(
    options: &Options,
    runtime: &Runtime,
    failed: &mut Vec<Repaired>,
) -> Result<Vec<(String, String)>, Failure> {
    let resolver = options.directory.handles()?;
    let (mut seen, mut dids) = (BTreeSet::new(), Vec::new());
    for given in &options.accounts {
        let name = given.trim();
        let handle = name.trim_start_matches('@');
        let led = if atrepo::syntax::is_did(name) {
            Leads::To(name.to_owned())
        } else if atrepo::syntax::is_handle(handle) {
            runtime.block_on(resolver.resolve(handle))
        } else {
            return Err(Failure::usage(format!(
                "{name} is neither a DID nor a handle"
            )));
        };
        let why = match led {
            Leads::To(did) => {
                if seen.insert(did.clone()) {
                    dids.push((did, given.clone()));
                }
                continue;
            }
            Leads::Nowhere => "the handle does not resolve".to_owned(),
            Leads::Unreachable(error) => format!("the handle: {error}"),
        };
        failed.push(Repaired::failed(given, None, why));
    }
    Ok(dids)
}

/// Repairs all accounts, one after the other, while the next ones are fetched. True if it was
/// stopped.
fn all(
    work: &mut Work<'_>,
    dids: Vec<(String, String)>,
    repaired: &mut Vec<Repaired>,
    documents: &mut Vec<(String, Document)>,
) -> Result<bool, Failure> {
    let mut waiting: VecDeque<(String, String)> = dids.into();
    let mut tasks: JoinSet<(String, String, Fetched)> = JoinSet::new();
    loop {
        while tasks.len() < AHEAD
            && let Some((did, given)) = waiting.pop_front()
        {
            let fresh = Arc::clone(work.fresh);
            let task = async move {
                let fetched = fetched(fresh, did.clone()).await;
                (did, given, fetched)
            };
            tasks.spawn_on(task, work.runtime.handle());
        }
        let Some(ended) = work.runtime.block_on(tasks.join_next()) else {
            return Ok(false);
        };
        let (did, given, fetched) =
            ended.map_err(|error| Failure::new(format!("a task ended: {error}")))?;
        if work.stop.is_set() || matches!(fetched.1, Err(NoRepo::Failed(FetchError::Stopped))) {
            return Ok(true);
        }
        if let Some(document) = &fetched.0 {
            let note = documents::good(did.clone(), document.clone());
            accounts::add_documents(&mut *work.client, &work.database.schema, &[note])
                .map_err(|error| work.database.failure(error))?;
        }
        match work.account(&did, fetched)? {
            RepairEnd::Stopped => return Ok(true),
            RepairEnd::With {
                fate,
                document,
                fetched,
            } => {
                observe::log!("{did}: {}", fate.text());
                if let (Some(document), true) = (document, fate.keeps_actor()) {
                    documents.push((did.clone(), document));
                }
                repaired.push(Repaired {
                    given,
                    did: Some(did),
                    fate,
                    fetched,
                    handle: None,
                });
            }
        }
    }
}

/// Puts the handles of accounts beside what became of them.
fn note_handles(
    repaired: &mut [Repaired],
    claimed: &[(String, Option<String>)],
    states: &[(String, HandleState)],
) {
    let claimed: BTreeMap<&String, Option<&String>> = claimed
        .iter()
        .map(|(did, handle)| (did, handle.as_ref()))
        .collect();
    for (did, state) in states {
        let handle = claimed.get(did).copied().flatten();
        let of_account = repaired
            .iter_mut()
            .filter(|one| one.did.as_ref() == Some(did));
        for one in of_account {
            one.handle = handle.map(|handle| (handle.to_lowercase(), *state));
        }
    }
}

/// Computes what is derived from the rows that changed.
fn derive(database: &Database, run: &Run, stop: &Stop) -> Result<Derived, Failure> {
    let options = finalize::Options {
        connections: 1,
        slice_rows: 100_000,
        restart: false,
        is_beside: true,
        notifications: load::Notifications::parse(&run.notifications),
        is_patient: true,
    };
    Ok(
        match finalize::finalize(&options, database, stop)?.outcome {
            finalize::FinalizeEnd::Done => Derived::Computed,
            finalize::FinalizeEnd::Stopped => Derived::Left("it was stopped"),
            finalize::FinalizeEnd::OutOfDate => Derived::Left(finalize::OUT_OF_DATE),
        },
    )
}
