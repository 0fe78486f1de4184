//! `skyfill identities`.
//!
//! Goes once over the accounts that are due, in the order of DIDs, in batches: documents and
//! handles of a batch are asked for at once, then stored in one transaction. What is stored is not
//! asked for again, so stopping at any moment costs a batch.

use crate::cli::{DirectoryArgs, HandleMode, IdentitiesArgs};
use crate::fetch_args::{self, user_agent};
use crate::proof::{self, Proved};
use crate::signals;
use crate::told;
use discover::did_file;
use fetch::retry::{self, Retry};
use identity::document::Document;
use identity::export::{Export, Latest};
use identity::handle::{self, Leads};
use identity::resolve::{self, Found};
use ledger::identity::{Again, DocumentNote, Due, HandleNote};
use ledger::locks::{self, Lock};
use load::actors::Actor;
use observe::{Counter, Progress, Workers};
use postgres::Client;
use process::Stop;
use process::clock;
use process::threads;
use process::{Database, Patient};
use process::{Ended, Failure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Accounts of a batch for each that is looked up at once: the slowest one holds up the rest only
/// now and then.
const BATCH_PER_SLOT: usize = 100;
/// Attempts at each document and page.
const ATTEMPTS: u32 = 4;
/// Seconds until what could not be reached is tried again, by how often that was. After that only
/// `--retry` tries.
const AGAIN_IN: &[i32] = &[3600, 4 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600];

/// What is counted.
#[derive(Clone)]
struct Counts {
    done: Counter,
    verified: Counter,
    claimed: Counter,
    mismatch: Counter,
    useless: Counter,
    unreachable: Counter,
}

/// What was learned of one account.
struct Learned {
    did: String,
    attempts: i32,
    /// Nothing if the one of the ledger was fresh.
    found: Option<Found>,
    handle: Handle,
}

/// What an account's document says of its handle, and what came of asking.
enum Handle {
    /// There is no good document.
    NoDocument,
    /// It names none.
    None,
    /// It names one, which nobody was asked about.
    Claimed(String),
    /// It names one, which leads there.
    Asked(String, Leads),
}

impl Learned {
    /// The state of its handle, and why it could not be reached.
    fn outcome(&self) -> (&'static str, Option<String>) {
        match (&self.handle, &self.found) {
            (Handle::Asked(_, Leads::To(led)), _) if *led == self.did => ("verified", None),
            (Handle::Asked(_, Leads::To(_) | Leads::Nowhere) | Handle::None, _) => {
                ("mismatch", None)
            }
            (Handle::Asked(_, Leads::Unreachable(error)), _)
            | (Handle::NoDocument, Some(Found::Unreachable(error))) => {
                ("unreachable", Some(error.clone()))
            }
            (Handle::Claimed(_), _) => ("claimed", None),
            (Handle::NoDocument, _) => ("none", None),
        }
    }
}

fn count(learned: &[Learned], counts: &Counts) {
    for one in learned {
        counts.add(one.outcome().0);
    }
}

pub(crate) fn run(given: &IdentitiesArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&given.database.target())?;
    let forget = given.memory.forget_settings;
    let args: &IdentitiesArgs = &told::complete(&database, forget)?;
    told::remember(&database, forget)?;
    let stop = signals::listen(Workers::default())?;
    let ended = look_up_due(args, &database, &stop, false)?;
    if ended != Ended::Stopped && prove(args, &database, &stop)?.is_stopped {
        return Ok(Ended::Stopped);
    }
    Ok(ended)
}

/// Proves what was stored unproved, by the documents that are known now.
pub(crate) fn prove(
    args: &IdentitiesArgs,
    database: &Database,
    stop: &Stop,
) -> Result<Proved, Failure> {
    let runtime = threads::start()?;
    let documents = Arc::new(fetch_args::documents(
        &args.directory,
        &args.caller,
        args.allow_private_hosts,
        ATTEMPTS,
    )?);
    let mut client = database.patient_alone(stop, Lock::Identities);
    let proved = proof::prove(&database.schema, &mut client, &runtime, &documents, stop)?;
    if proved.forged + proved.elsewhere > 0 {
        observe::log!(
            "{} repos were proved; {} are forged and {} came from another host than their documents name: {} are to be fetched anew",
            proved.proved,
            proved.forged,
            proved.elsewhere,
            proved.opened
        );
    }
    Ok(proved)
}

/// The same, as a part of a run. Another one that looks up accounts is waited for if `patient`.
pub(crate) fn look_up_due(
    args: &IdentitiesArgs,
    database: &Database,
    stop: &Stop,
    patient: bool,
) -> Result<Ended, Failure> {
    let now = clock::now(args.now.as_deref())?;
    let schema = database.schema.as_str();
    if !patient {
        let mut client = database.connect()?;
        let holder = locks::holder(&mut client, Lock::Identities)
            .map_err(|error| database.failure(error))?;
        if let Some(who) = holder {
            return Err(
                Failure::new(format!("{who} looks up identities in this database"))
                    .hint("wait until it ends"),
            );
        }
    }
    let mut client = database.patient_alone(stop, Lock::Identities);
    client.run(|client| load::actors::enroll(client, schema))?;
    if let Some(path) = &args.dids {
        enroll_file(&mut client, database, path)?;
    }
    let again = [
        (args.recheck, Again::All),
        (args.retry, Again::Unreachable),
        (args.handles == HandleMode::Verified, Again::Claimed),
    ];
    for (_, again) in again.into_iter().filter(|(wanted, _)| *wanted) {
        client.run(|client| ledger::identity::look_again(client, schema, again))?;
    }
    told::done(&["recheck", "retry", "dids"]);
    let runtime = threads::start()?;
    if args.plc_export && !read_export(args, &runtime, &mut client, database, stop)? {
        observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
        return Ok(Ended::Stopped);
    }
    let total = client.run(|client| ledger::identity::count_due(client, schema))?;
    let counts = Counts::new();
    let progress = Progress::start(
        counts.shown(),
        Some(total),
        Duration::from_secs(args.output.logging_interval),
    );
    let finished = look_up_all(args, now, &runtime, &mut client, database, &counts, stop)?;
    progress.finish();
    summary(args, &mut client, database, &counts)?;
    Ok(if !finished {
        observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
        Ended::Stopped
    } else if counts.unreachable.get() > 0 {
        observe::log!(
            "what could not be reached is tried again by a later run, or now with --retry"
        );
        Ended::WithFailures
    } else {
        Ended::Well
    })
}

fn enroll_file(
    client: &mut Patient<'_>,
    database: &Database,
    path: &std::path::Path,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("read {}: {error}", path.display()));
    let mut dids = Vec::new();
    let mut enroll = |dids: &mut Vec<String>| {
        let dids = std::mem::take(dids);
        client.run(|client| ledger::identity::enroll(client, &database.schema, &dids))
    };
    for line in did_file::read(BufReader::new(File::open(path).map_err(failed)?), 0, 0) {
        match line.map_err(failed)? {
            Ok(line) => dids.push(line.did),
            Err(bad) => observe::log!("{}: {bad}", path.display()),
        }
        if dids.len() >= 10_000 {
            enroll(&mut dids)?;
        }
    }
    enroll(&mut dids)?;
    Ok(())
}

/// Lets the export be read from this time on, if it was never read.
pub(crate) fn export_from(
    client: &mut Client,
    database: &Database,
    directory: &DirectoryArgs,
    time: &str,
) -> Result<(), Failure> {
    let name = export_cursor(directory, database);
    let refused = |error: postgres::Error| database.failure(error);
    if ledger::identity::cursor(client, &name)
        .map_err(refused)?
        .is_none()
    {
        ledger::identity::set_cursor(client, &name, time).map_err(refused)?;
    }
    Ok(())
}

/// What was noted for one schema, or came from one directory, says nothing about another.
fn export_cursor(directory: &DirectoryArgs, database: &Database) -> String {
    format!(
        "plc export of {} for {}",
        directory.plc_url.trim_end_matches('/'),
        database.schema
    )
}

/// Reads the export from where the last run stopped. False if it was told to stop.
fn read_export(
    args: &IdentitiesArgs,
    runtime: &Runtime,
    client: &mut Patient<'_>,
    database: &Database,
    stop: &Stop,
) -> Result<bool, Failure> {
    let export = Export::new(
        &user_agent(&args.caller),
        &args.directory.plc_url,
        Duration::from_secs(args.directory.timeout.max(60)),
    )
    .map_err(Failure::new)?;
    let name = export_cursor(&args.directory, database);
    let mut cursor = client.run(|client| ledger::identity::cursor(client, &name))?;
    let from_the_start = cursor.is_none();
    let operations = Counter::with_rate("pages of the export");
    let noted = Counter::with_rate("documents noted");
    let bad = Counter::plain("lines that could not be read");
    let interval = Duration::from_secs(args.output.logging_interval);
    let progress = Progress::start(
        vec![operations.clone(), noted.clone(), bad.clone()],
        None,
        interval,
    );
    let mut attempt = 0;
    loop {
        if stop.is_set() {
            return Ok(false);
        }
        let page = match runtime.block_on(export.page(cursor.as_deref())) {
            Ok(page) => page,
            Err(error) => {
                attempt += 1;
                match retry::decide(&error, attempt, ATTEMPTS) {
                    Retry::After(wait) | Retry::AfterHost(wait) | Retry::NeverHost(wait) => {
                        runtime.block_on(async {
                            tokio::select! {
                                () = tokio::time::sleep(wait) => {}
                                () = stop.wait() => {}
                            }
                        });
                    }
                    Retry::Never => {
                        return Err(Failure::new(format!(
                            "the export of {}: {error}",
                            args.directory.plc_url
                        ))
                        .hint("what was read is kept; run it again to go on"));
                    }
                }
                continue;
            }
        };
        attempt = 0;
        operations.add(1);
        bad.add(page.bad_lines);
        let Some(next) = page.cursor else {
            if page.bad_lines > 0 {
                return Err(Failure::new(format!(
                    "the export of {} is no list of operations",
                    args.directory.plc_url
                )));
            }
            break;
        };
        let notes = document_notes(&page.latest);
        noted.add(client.run(|client| -> Result<u64, postgres::Error> {
            let mut txn = client.transaction()?;
            let count = ledger::identity::note_documents(&mut txn, &database.schema, &notes)?;
            ledger::identity::set_cursor(&mut txn, &name, &next)?;
            txn.commit()?;
            Ok(count)
        })?);
        // The end: nothing but what the page before had.
        if cursor.as_deref() == Some(&next) {
            break;
        }
        cursor = Some(next);
    }
    progress.finish();
    observe::log!("{} documents noted from the export", noted.get());
    if from_the_start && noted.get() == 0 {
        let due = client.run(|client| ledger::identity::count_due(client, &database.schema))?;
        if due > 0 {
            observe::log!(
                "warning: {due} accounts are to be looked up, and the export of {} knows none of them. Is it the directory of their \
                 network? Name another one with --plc-url",
                args.directory.plc_url
            );
        }
    }
    Ok(true)
}

/// What a page of the export says of documents. They are as fresh as the export: whoever reads it
/// to its end knows.
pub(crate) fn document_notes(latest: &BTreeMap<String, Latest>) -> Vec<DocumentNote> {
    let note = |(did, latest): (&String, &Latest)| {
        let note = match latest {
            Latest::Document(document) => good(did.clone(), document.clone()),
            Latest::Useless(error) => bare(did.clone(), "useless", Some(error.to_string())),
            Latest::Tombstone => bare(did.clone(), "gone", None),
        };
        DocumentNote {
            is_fresh: false,
            ..note
        }
    };
    latest.iter().map(note).collect()
}

/// Looks up all that is due. False if it was told to stop.
fn look_up_all(
    args: &IdentitiesArgs,
    now: i64,
    runtime: &Runtime,
    client: &mut Patient<'_>,
    database: &Database,
    counts: &Counts,
    stop: &Stop,
) -> Result<bool, Failure> {
    let timeout = Duration::from_secs(args.directory.timeout);
    let handles = handle::Settings {
        dns_server: args.directory.dns_server,
        well_known_server: args.directory.well_known_server.clone(),
        allow_private_hosts: args.allow_private_hosts,
        timeout,
    };
    let documents = Arc::new(fetch_args::documents(
        &args.directory,
        &args.caller,
        args.allow_private_hosts,
        ATTEMPTS,
    )?);
    let handles = match args.handles {
        HandleMode::Claimed => None,
        HandleMode::Verified => Some(Arc::new(
            handle::Resolver::new(&user_agent(&args.caller), handles).map_err(Failure::new)?,
        )),
    };
    let slots = usize::from(args.concurrency);
    let batch = i64::try_from(slots * BATCH_PER_SLOT).unwrap_or(i64::MAX);
    let indexed_at = rows::datetime::print(now);
    let mut after = String::new();
    while !stop.is_set() {
        let due = client.run(|client| {
            ledger::identity::due(client, &database.schema, &after, batch, args.plc_export)
        })?;
        let Some(last) = due.last() else {
            return Ok(true);
        };
        after.clone_from(&last.did);
        let learned = runtime.block_on(look_up(
            due,
            slots,
            &documents,
            handles.as_ref(),
            counts,
            stop,
        ));
        client.run(|client| store(client, &database.schema, &learned, &indexed_at))?;
        count(&learned, counts);
        ledger::failpoint::pass("look-up");
    }
    Ok(false)
}

/// Looks up a batch; what was not done when it was told to stop is left out.
async fn look_up(
    due: Vec<Due>,
    slots: usize,
    documents: &Arc<resolve::Resolver>,
    handles: Option<&Arc<handle::Resolver>>,
    counts: &Counts,
    stop: &Stop,
) -> Vec<Learned> {
    let slots = Arc::new(Semaphore::new(slots));
    let mut tasks = JoinSet::new();
    for due in due {
        let (slots, documents, handles) =
            (Arc::clone(&slots), Arc::clone(documents), handles.cloned());
        let (done, stop) = (counts.done.clone(), stop.clone());
        tasks.spawn(async move {
            // Never closed.
            let _slot = slots.acquire().await;
            let work = async {
                let (found, document) = match due.document {
                    Some(claimed) => (None, Some(claimed)),
                    None => {
                        let found = documents.resolve(&due.did).await;
                        let document = match &found {
                            Found::Document(document) => Some(document.handle.clone()),
                            _ => None,
                        };
                        (Some(found), document)
                    }
                };
                let handle = match document {
                    None => Handle::NoDocument,
                    Some(None) => Handle::None,
                    Some(Some(claimed)) => match handles {
                        Some(handles) => {
                            let leads = handles.resolve(&claimed).await;
                            Handle::Asked(claimed, leads)
                        }
                        None => Handle::Claimed(claimed),
                    },
                };
                Learned {
                    did: due.did,
                    attempts: due.attempts,
                    found,
                    handle,
                }
            };
            tokio::select! {
                biased;
                () = stop.wait() => None,
                learned = work => {
                    done.add(1);
                    Some(learned)
                }
            }
        });
    }
    let mut learned: Vec<Learned> = tasks.join_all().await.into_iter().flatten().collect();
    learned.sort_by(|a, b| a.did.cmp(&b.did));
    learned
}

/// A good document that was fetched now.
pub(crate) fn good(did: String, document: Document) -> DocumentNote {
    DocumentNote {
        claimed_handle: document.handle,
        pds: Some(document.pds),
        signing_key: Some(document.signing_key),
        ..bare(did, "good", None)
    }
}

fn bare(did: String, state: &'static str, error: Option<String>) -> DocumentNote {
    DocumentNote {
        did,
        state,
        claimed_handle: None,
        pds: None,
        signing_key: None,
        error,
        is_fresh: true,
    }
}

/// Stores what was learned of a batch, in one transaction.
fn store(
    client: &mut Client,
    schema: &str,
    learned: &[Learned],
    indexed_at: &str,
) -> Result<(), postgres::Error> {
    let mut documents = Vec::new();
    let mut handles = Vec::new();
    let (mut actors, mut claims, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for one in learned {
        documents.extend(
            one.found
                .as_ref()
                .map(|found| document_note(one.did.clone(), found)),
        );
        let actor = |handle: Option<&String>| Actor {
            did: one.did.clone(),
            handle: handle.map(|handle| handle.to_lowercase()),
        };
        let (state, error) = one.outcome();
        match (&one.handle, state) {
            (Handle::Asked(claimed, _), "verified") => actors.push(actor(Some(claimed))),
            (Handle::Claimed(claimed), _) => claims.push(actor(Some(claimed))),
            (Handle::Asked(..), "unreachable") => unknown.push(one.did.clone()),
            (Handle::Asked(..) | Handle::None, _) => actors.push(actor(None)),
            (Handle::NoDocument, _) => {}
        }
        let again_in = usize::try_from(one.attempts)
            .ok()
            .and_then(|attempts| AGAIN_IN.get(attempts))
            .copied();
        handles.push(HandleNote {
            did: one.did.clone(),
            state,
            error,
            again_in: again_in.filter(|_| state == "unreachable"),
        });
    }
    let mut txn = client.transaction()?;
    ledger::identity::note_documents(&mut txn, schema, &documents)?;
    ledger::identity::note_handles(&mut txn, schema, &handles)?;
    load::actors::store(&mut txn, schema, &actors, indexed_at, true)?;
    load::actors::store(&mut txn, schema, &claims, indexed_at, false)?;
    load::actors::add(&mut txn, schema, &unknown, indexed_at)?;
    txn.commit()
}

pub(crate) fn document_note(did: String, found: &Found) -> DocumentNote {
    match found {
        Found::Document(document) => good(did, document.clone()),
        Found::Gone => bare(did, "gone", None),
        Found::Useless(error) => bare(did, "useless", Some(error.to_string())),
        Found::Unreachable(error) => bare(did, "unreachable", Some(error.clone())),
        Found::Unsupported => bare(did, "unsupported", None),
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            done: Counter::with_rate("accounts"),
            verified: Counter::plain("verified"),
            claimed: Counter::plain("claimed"),
            mismatch: Counter::plain("not theirs"),
            useless: Counter::plain("without a usable document"),
            unreachable: Counter::plain("not reached"),
        }
    }

    fn shown(&self) -> Vec<Counter> {
        let Self {
            done,
            verified,
            claimed,
            mismatch,
            useless,
            unreachable,
        } = self.clone();
        vec![done, verified, claimed, mismatch, useless, unreachable]
    }

    fn add(&self, state: &str) {
        let counter = match state {
            "verified" => &self.verified,
            "claimed" => &self.claimed,
            "mismatch" => &self.mismatch,
            "unreachable" => &self.unreachable,
            _ => &self.useless,
        };
        counter.add(1);
    }
}

fn summary(
    args: &IdentitiesArgs,
    client: &mut Patient<'_>,
    database: &Database,
    counts: &Counts,
) -> Result<(), Failure> {
    let states = client.run(|client| ledger::identity::summary(client, &database.schema))?;
    if args.output.json {
        let states: Vec<_> = states
            .iter()
            .map(|(document, handle, accounts)| {
                serde_json::json!({"document": document, "handle": handle, "accounts": accounts})
            })
            .collect();
        let summary = serde_json::json!({
            "lookedUp": counts.done.get(),
            "verified": counts.verified.get(),
            "claimed": counts.claimed.get(),
            "mismatch": counts.mismatch.get(),
            "withoutDocument": counts.useless.get(),
            "unreachable": counts.unreachable.get(),
            "accounts": states,
        });
        observe::data!("{summary}");
    }
    observe::log!(
        "{} accounts looked up: {} handles verified, {} taken as claimed, {} not theirs, {} accounts without a usable document, \
         {} not reached",
        counts.done.get(),
        counts.verified.get(),
        counts.claimed.get(),
        counts.mismatch.get(),
        counts.useless.get(),
        counts.unreachable.get()
    );
    Ok(())
}
