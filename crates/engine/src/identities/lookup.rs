//! Looks accounts up, batch by batch.

use crate::documents::{self, Directory};
use crate::identities::bulk::{self, Bulk, Read};
use crate::identities::summary::{Counts, Summary};
use crate::observer::{Milestone, Observer};
use crate::proof::{self, Proved};
use discover::did_file;
use identity::handle::{self, Leads};
use identity::resolve::{self, Found};
use ledger::identity::{Again, Due, HandleNote, HandleState};
use ledger::locks::{self, Lock};
use load::actors::Actor;
use observe::Progress;
use postgres::Client;
use process::{Database, Failure, Patient, Stop, threads};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Accounts of a batch for each that is looked up at once: the slowest one holds up the rest only
/// now and then.
const BATCH_PER_SLOT: usize = 100;
/// Attempts at each document.
const ATTEMPTS: u32 = 4;
/// Seconds until what could not be reached is retried, by how often that was. After that only
/// `--retry` tries.
const AGAIN_IN: &[i32] = &[3600, 4 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600];

/// What was learned of one account.
struct Learned {
    did: String,
    attempts: i32,
    /// Nothing if the one of the ledger was fresh.
    found: Option<Found>,
    handle: Handle,
}

/// What an account's document says of its handle, and the result of asking.
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
    fn handle_state(&self) -> (HandleState, Option<String>) {
        match (&self.handle, &self.found) {
            (Handle::Asked(_, Leads::To(led)), _) if *led == self.did => {
                (HandleState::Verified, None)
            }
            (Handle::Asked(_, Leads::To(_) | Leads::Nowhere) | Handle::None, _) => {
                (HandleState::Mismatch, None)
            }
            (Handle::Asked(_, Leads::Unreachable(error)), _)
            | (Handle::NoDocument, Some(Found::Unreachable(error))) => {
                (HandleState::Unreachable, Some(error.clone()))
            }
            (Handle::Claimed(_), _) => (HandleState::Claimed, None),
            (Handle::NoDocument, _) => (HandleState::NoDocument, None),
        }
    }
}

/// How accounts are looked up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done about handles.
    pub handles: HandleMode,
    /// Which documents are read in bulk from the PLC export first.
    pub bulk: Bulk,
    /// Whether what could not be reached is due now, whatever its time.
    pub retry: bool,
    /// Whether all accounts are due.
    pub recheck: bool,
    /// A DID file whose accounts are looked up, too.
    pub dids: Option<PathBuf>,
    /// The time for `indexedAt`, in milliseconds since 1970.
    pub now: i64,
    /// Where documents and handles are asked for.
    pub directory: Directory,
    /// Accounts that are looked up concurrently.
    pub concurrency: usize,
    /// Whether another process that looks up accounts is waited for; without it, it is an error.
    pub is_patient: bool,
}

/// What is done about handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleMode {
    /// They are checked both ways.
    Verified,
    /// They are stored as documents claim them, and marked to be checked later.
    Claimed,
}

/// How a look-up ended.
#[derive(Debug)]
pub enum LookUp {
    /// All that was due was looked up.
    Done(Summary),
    /// It was stopped; what was looked up before, if it came to that.
    Stopped(Option<Summary>),
}

/// Proves what was stored unproved, by the documents that are known now.
///
/// # Errors
/// The database or the network cannot be used.
pub fn prove(directory: &Directory, database: &Database, stop: &Stop) -> Result<Proved, Failure> {
    let runtime = threads::start()?;
    let documents = Arc::new(directory.documents(ATTEMPTS)?);
    let mut client = database.patient_alone(stop, Lock::Identities);
    let proved = proof::prove(&database.schema, &mut client, &runtime, &documents, stop)?;
    if proved.forged + proved.elsewhere > 0 {
        observe::log!(
            "{} repos were proved; {} are forged and {} came from another host than their documents name: {} will be fetched again",
            proved.proved,
            proved.forged,
            proved.elsewhere,
            proved.opened
        );
    }
    Ok(proved)
}

/// Looks up all accounts that are due.
///
/// # Errors
/// The database, the network or a file cannot be used, or somebody else looks up accounts.
pub fn look_up(
    options: &Options,
    database: &Database,
    stop: &Stop,
    observer: &dyn Observer,
) -> Result<LookUp, Failure> {
    let schema = database.schema.as_str();
    if !options.is_patient {
        require_nobody_else(database)?;
    }
    let mut client = database.patient_alone(stop, Lock::Identities);
    client.run(|client| ledger::identity::enroll_loaded(client, schema))?;
    if let Some(path) = &options.dids {
        enroll_file(&mut client, database, path)?;
    }
    let again = [
        (options.recheck, Again::All),
        (options.retry, Again::Unreachable),
        (options.handles == HandleMode::Verified, Again::Claimed),
    ];
    for (_, again) in again.into_iter().filter(|(wanted, _)| *wanted) {
        client.run(|client| ledger::identity::look_again(client, schema, again))?;
    }
    observer.reached(Milestone::AccountsMarked)?;
    let runtime = threads::start()?;
    if options.bulk != Bulk::Nothing
        && !read_export(options, &runtime, &mut client, database, stop)?
    {
        return Ok(LookUp::Stopped(None));
    }
    let total = client.run(|client| ledger::identity::count_due(client, schema))?;
    let counts = Counts::new();
    let progress = Progress::begin("identities", counts.shown(), Some(total));
    let batches = Batches {
        options,
        database,
        runtime: &runtime,
        counts: &counts,
        stop,
    };
    let is_finished = batches.look_up_all(&mut client)?;
    progress.finish();
    let accounts = client.run(|client| ledger::identity::summary(client, schema))?;
    let summary = counts.summary(accounts);
    Ok(match is_finished {
        true => LookUp::Done(summary),
        false => LookUp::Stopped(Some(summary)),
    })
}

fn require_nobody_else(database: &Database) -> Result<(), Failure> {
    let mut client = database.connect()?;
    let holder =
        locks::holder(&mut client, Lock::Identities).map_err(|error| database.failure(error))?;
    match holder {
        None => Ok(()),
        Some(who) => Err(
            Failure::new(format!("{who} looks up identities in this database"))
                .hint("wait until it ends"),
        ),
    }
}

fn enroll_file(
    client: &mut Patient<'_>,
    database: &Database,
    path: &std::path::Path,
) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
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
    directory: &Directory,
    time: &str,
) -> Result<(), Failure> {
    let name = Bulk::Known.cursor_name(directory, database);
    let refused = |error: postgres::Error| database.failure(error);
    if ledger::identity::cursor(client, &name)
        .map_err(refused)?
        .is_none()
    {
        ledger::identity::set_cursor(client, &name, time).map_err(refused)?;
    }
    Ok(())
}

/// Reads the export from where the last run stopped. False if it was stopped.
fn read_export(
    options: &Options,
    runtime: &Runtime,
    client: &mut Patient<'_>,
    database: &Database,
    stop: &Stop,
) -> Result<bool, Failure> {
    let directory = &options.directory;
    let of = (directory, options.bulk);
    let Read {
        is_whole,
        from_the_start,
        noted,
    } = bulk::read(of, runtime, client, database, stop)?;
    if !is_whole {
        return Ok(false);
    }
    observe::log!("{noted} documents stored from the export");
    if from_the_start && noted == 0 {
        let due = client.run(|client| ledger::identity::count_due(client, &database.schema))?;
        if due > 0 {
            tracing::warn!(
                "{due} accounts are to be looked up, and the export of {} knows none of them. Is it the directory of their \
                 network? Name another one with --plc-url",
                directory.plc_url
            );
        }
    }
    Ok(true)
}

/// What the batches of a look-up share.
struct Batches<'b> {
    options: &'b Options,
    database: &'b Database,
    runtime: &'b Runtime,
    counts: &'b Counts,
    stop: &'b Stop,
}

impl Batches<'_> {
    /// Looks up all accounts that are due. False if it was stopped.
    fn look_up_all(&self, client: &mut Patient<'_>) -> Result<bool, Failure> {
        let (options, schema) = (self.options, &self.database.schema);
        let documents = Arc::new(options.directory.documents(ATTEMPTS)?);
        let handles = match options.handles {
            HandleMode::Claimed => None,
            HandleMode::Verified => Some(Arc::new(options.directory.handles()?)),
        };
        let batch = i64::try_from(options.concurrency * BATCH_PER_SLOT).unwrap_or(i64::MAX);
        let indexed_at = rows::datetime::print(options.now);
        let mut after = String::new();
        while !self.stop.is_set() {
            let due = client.run(|client| {
                let plc_is_fresh = options.bulk != Bulk::Nothing;
                ledger::identity::due(client, schema, &after, batch, plc_is_fresh)
            })?;
            let Some(last) = due.last() else {
                return Ok(true);
            };
            after.clone_from(&last.did);
            let learned =
                self.runtime
                    .block_on(self.look_up_batch(due, &documents, handles.as_ref()));
            client.run(|client| store(client, schema, &learned, &indexed_at))?;
            for one in &learned {
                self.counts.add(one.handle_state().0);
            }
            ledger::failpoint::pass("look-up");
        }
        Ok(false)
    }

    /// Looks up a batch; what was not done when it was stopped is left out.
    async fn look_up_batch(
        &self,
        due: Vec<Due>,
        documents: &Arc<resolve::Resolver>,
        handles: Option<&Arc<handle::Resolver>>,
    ) -> Vec<Learned> {
        let slots = Arc::new(Semaphore::new(self.options.concurrency));
        let mut tasks = JoinSet::new();
        for due in due {
            let (slots, documents, handles) =
                (Arc::clone(&slots), Arc::clone(documents), handles.cloned());
            let (done, stop) = (self.counts.done.clone(), self.stop.clone());
            tasks.spawn(async move {
                // Never closed.
                let _slot = slots.acquire().await;
                tokio::select! {
                    biased;
                    () = stop.wait() => None,
                    learned = look_up_one(due, &documents, handles.as_deref()) => {
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
}

async fn look_up_one(
    due: Due,
    documents: &resolve::Resolver,
    handles: Option<&handle::Resolver>,
) -> Learned {
    let (found, claimed) = match due.document {
        Some(claimed) => (None, Some(claimed)),
        None => {
            let found = documents.resolve(&due.did).await;
            let claimed = match &found {
                Found::Document(document) => Some(document.handle.clone()),
                _ => None,
            };
            (Some(found), claimed)
        }
    };
    let handle = match (claimed, handles) {
        (None, _) => Handle::NoDocument,
        (Some(None), _) => Handle::None,
        (Some(Some(claimed)), None) => Handle::Claimed(claimed),
        (Some(Some(claimed)), Some(handles)) => {
            let leads = handles.resolve(&claimed).await;
            Handle::Asked(claimed, leads)
        }
    };
    Learned {
        did: due.did,
        attempts: due.attempts,
        found,
        handle,
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
                .map(|found| documents::note(one.did.clone(), found)),
        );
        let actor = |handle: Option<&String>| Actor {
            did: one.did.clone(),
            handle: handle.map(|handle| handle.to_lowercase()),
        };
        let (state, error) = one.handle_state();
        match (&one.handle, state) {
            (Handle::Asked(claimed, _), HandleState::Verified) => actors.push(actor(Some(claimed))),
            (Handle::Claimed(claimed), _) => claims.push(actor(Some(claimed))),
            (Handle::Asked(..), HandleState::Unreachable) => unknown.push(one.did.clone()),
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
            again_in: again_in.filter(|_| state == HandleState::Unreachable),
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
