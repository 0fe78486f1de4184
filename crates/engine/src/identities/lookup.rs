//! Looks accounts up, batch by batch. Handles of many accounts are stored as their documents claim
//! them first, so that an AppView can serve; [`crate::identities::claims`] verifies them then.

use crate::documents::Directory;
use crate::identities::bulk::{self, Bulk, MANY, Read};
use crate::identities::claims::{Part, Verifying};
use crate::identities::learned::{ATTEMPTS, Handle, Learned, look_up_one};
use crate::identities::options::{HandleMode, Options};
use crate::identities::summary::{Counts, Summary};
use crate::observer::{Milestone, Observer};
use crate::proof::{self, Proved};
use discover::did_file;
use identity::handle;
use identity::resolve;
use ledger::identity::{Again, DocumentNote, Due, HandleNote, HandleState, Looked};
use ledger::locks::{self, Hold, Lock};
use load::actors::Actor;
use observe::Progress;
use observe::units::counted;
use pg::Connection;
use postgres::Client;
use process::{Database, Failure, Patient, Stop, threads};
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
/// Handles of single accounts that are checked concurrently.
const HANDLES_AT_ONCE: usize = 32;
/// While claims are verified, accounts that became due are looked up this often.
const DUE_EVERY: Duration = Duration::from_secs(3600);

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
            "{} proved; {} forged, {} from another host than their documents name: {} will be fetched again",
            counted(proved.proved, "repo"),
            proved.forged,
            proved.elsewhere,
            proved.opened
        );
    }
    Ok(proved)
}

/// Looks up all accounts that are due, and verifies handles that are stored as claimed where that
/// is wanted.
///
/// # Errors
/// The database, the network or a file cannot be used, or somebody else verifies claimed handles.
pub fn look_up(
    options: &Options,
    database: &Database,
    stop: &Stop,
    observer: &dyn Observer,
) -> Result<LookUp, Failure> {
    let schema = database.schema.as_str();
    // Another process that looks up accounts meanwhile waits for a batch at most, but nobody else
    // asks for the same handles.
    let _alone = options
        .settles
        .then(|| verify_alone(database))
        .transpose()?;
    let mut client = database.patient_alone(stop, Lock::Identities);
    client.run(|client| ledger::identity::enroll_loaded(client, schema))?;
    if let Some(path) = &options.dids {
        enroll_file(&mut client, database, path)?;
    }
    let again = [
        (options.recheck, Again::All),
        (options.retry, Again::Unreachable),
    ];
    for (_, again) in again.into_iter().filter(|(wanted, _)| *wanted) {
        client.run(|client| ledger::identity::look_again(client, schema, again))?;
    }
    observer.reached(Milestone::AccountsMarked)?;
    let runtime = threads::start()?;
    let (due, claimed) = client.run(|client| -> Result<_, postgres::Error> {
        Ok((
            ledger::identity::count_due(client, schema)?,
            ledger::handles::counts(client, schema)?.claimed,
        ))
    })?;
    if options.bulk != Bulk::Nothing
        && !read_export(options, &runtime, &mut client, database, stop)?
    {
        return Ok(LookUp::Stopped(None));
    }
    let claims_first = options.handles == HandleMode::Claimed
        || options.handles == HandleMode::Auto && due >= MANY;
    let counts = Counts::new();
    // What is claimed first is looked at twice.
    let total = match (options.settles, claims_first) {
        (true, true) => due * 2 + claimed,
        (true, false) => due + claimed,
        (false, _) => due,
    };
    let progress = Progress::begin("identities", counts.shown(), Some(total));
    let batches = Batches {
        options,
        database,
        runtime: &runtime,
        counts: &counts,
        stop,
    };
    let mut is_finished = true;
    if claims_first {
        is_finished = batches.look_up_all(&mut client, Way::Claim)?;
    }
    if !claims_first || options.settles {
        is_finished = is_finished && batches.look_up_all(&mut client, Way::Verify)?;
    }
    drop(client);
    if options.settles {
        is_finished = is_finished && batches.settle()?;
    }
    progress.finish();
    let mut client = database.patient(stop);
    let accounts = client.run(|client| ledger::handles::by_state(client, schema))?;
    let summary = counts.summary(accounts);
    Ok(match is_finished {
        true => LookUp::Done(summary),
        false => LookUp::Stopped(Some(summary)),
    })
}

/// Looks up the accounts that are due, without looking for more. It is for one who comes back every
/// few seconds.
pub(crate) fn look_up_due(
    options: &Options,
    database: &Database,
    runtime: &Runtime,
    stop: &Stop,
    client: &mut Patient<'_>,
) -> Result<(), Failure> {
    let batches = Batches {
        options,
        database,
        runtime,
        counts: &Counts::new(),
        stop,
    };
    let way = match options.handles {
        HandleMode::Claimed => Way::Claim,
        HandleMode::Auto | HandleMode::Verified => Way::Verify,
    };
    batches.look_up_all(client, way).map(drop)
}

/// The session of the only process that verifies claimed handles.
fn verify_alone(database: &Database) -> Result<Connection, Failure> {
    let mut client = database.connect()?;
    let refused = |error: postgres::Error| database.failure(error);
    if locks::try_acquire(&mut *client, Lock::Claims, Hold::Session).map_err(refused)? {
        return Ok(client);
    }
    let holder = locks::holder(&mut *client, Lock::Claims).map_err(refused)?;
    let who = holder.unwrap_or_else(|| "another session".to_owned());
    Err(
        Failure::new(format!("{who} verifies claimed handles in this database"))
            .hint("wait until it ends; skyfill status says how far it is"),
    )
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
    observe::log!("{} stored from the export", counted(noted, "document"));
    if from_the_start && noted == 0 {
        let due = client.run(|client| ledger::identity::count_due(client, &database.schema))?;
        if due > 0 {
            tracing::warn!(
                "{} to look up, and the export of {} knows none of them. Is it the directory of their \
                 network? Name another one with --plc-url",
                counted(due, "account"),
                directory.plc_url
            );
        }
    }
    Ok(true)
}

/// Checks the handles of accounts with these documents, which the ledger has, and stores their rows
/// of `actor`; the state of each handle.
pub(crate) fn look_up_handles(
    documents: Vec<(String, Option<String>)>,
    directory: &Directory,
    (runtime, client): (&Runtime, &mut Client),
    (schema, now): (&str, i64),
    stop: &Stop,
) -> Result<Vec<(String, HandleState)>, Failure> {
    let resolver = Arc::new(directory.documents(ATTEMPTS)?);
    let handles = Arc::new(directory.handles()?);
    let slots = Arc::new(Semaphore::new(HANDLES_AT_ONCE));
    let mut tasks = JoinSet::new();
    for (did, claimed) in documents {
        let (slots, stop) = (Arc::clone(&slots), stop.clone());
        let (resolver, handles) = (Arc::clone(&resolver), Arc::clone(&handles));
        let due = Due {
            did,
            document: Some(claimed),
            attempts: 0,
            heard: None,
        };
        let task = async move {
            // Never closed.
            let _slot = slots.acquire().await;
            tokio::select! {
                biased;
                () = stop.wait() => None,
                learned = look_up_one(due, &resolver, Some(&handles)) => Some(learned),
            }
        };
        tasks.spawn_on(task, runtime.handle());
    }
    let mut learned: Vec<Learned> = runtime
        .block_on(tasks.join_all())
        .into_iter()
        .flatten()
        .collect();
    learned.sort_by(|a, b| a.due.did.cmp(&b.due.did));
    store(client, schema, &learned, &rows::datetime::print(now)).map_err(|error| {
        Failure::new(format!("the rows of actor: {}", pg::DbError::from(error)))
    })?;
    let state = |one: &Learned| (one.due.did.clone(), one.handle_state().0);
    Ok(learned.iter().map(state).collect())
}

/// What becomes of handles in a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They are stored as claimed. In the mode [`HandleMode::Auto`], accounts whose handles were
    /// looked at before are left to be verified.
    Claim,
    /// They are verified.
    Verify,
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
    fn look_up_all(&self, client: &mut Patient<'_>, way: Way) -> Result<bool, Failure> {
        let (options, schema) = (self.options, &self.database.schema);
        let documents = Arc::new(options.directory.documents(ATTEMPTS)?);
        let (handles, looked) = match way {
            Way::Claim if options.handles == HandleMode::Auto => (None, Looked::Never),
            Way::Claim => (None, Looked::AtAny),
            Way::Verify => (Some(Arc::new(options.directory.handles()?)), Looked::AtAny),
        };
        let batch = i64::try_from(options.concurrency * BATCH_PER_SLOT).unwrap_or(i64::MAX);
        let indexed_at = rows::datetime::print(options.now);
        let mut after = String::new();
        while !self.stop.is_set() {
            let due = client.run(|client| {
                let plc_is_fresh = options.bulk != Bulk::Nothing;
                ledger::identity::due(client, schema, (&after, batch), plc_is_fresh, looked)
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

    /// Verifies claimed handles, and looks up what becomes due meanwhile. False if it was stopped.
    fn settle(&self) -> Result<bool, Failure> {
        let (options, database, stop) = (self.options, self.database, self.stop);
        let mut client = database.patient(stop);
        let (place, shared) = ((database, self.runtime), (self.counts, stop));
        let mut verifying = Verifying::new(options, place, shared)?;
        loop {
            match verifying.go_on(&mut client, DUE_EVERY)? {
                Part::Stopped => return Ok(false),
                Part::Done => return Ok(true),
                Part::OutOfTime => {
                    let mut alone = database.patient_alone(stop, Lock::Identities);
                    let is_whole = options.bulk == Bulk::Nothing
                        || read_export(options, self.runtime, &mut alone, database, stop)?;
                    if !is_whole || !self.look_up_all(&mut alone, Way::Verify)? {
                        return Ok(false);
                    }
                }
            }
        }
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
        learned.sort_by(|a, b| a.due.did.cmp(&b.due.did));
        learned
    }
}

/// Stores what was learned of a batch, in one transaction.
fn store(
    client: &mut Client,
    schema: &str,
    learned: &[Learned],
    indexed_at: &str,
) -> Result<(), postgres::Error> {
    let mut txn = client.transaction()?;
    // An account that was removed meanwhile gets no row.
    let dids: Vec<&str> = learned.iter().map(|one| one.due.did.as_str()).collect();
    let documents: Vec<DocumentNote> = learned.iter().filter_map(Learned::note).collect();
    let known = ledger::identity::hold(&mut txn, schema, &dids, documents.iter())?;
    let is_known = |one: &&Learned| known.contains(&one.due.did);
    let learned: Vec<&Learned> = learned.iter().filter(is_known).collect();
    let documents: Vec<DocumentNote> = documents
        .into_iter()
        .filter(|note| known.contains(&note.did))
        .collect();
    let handles: Vec<HandleNote> = learned.iter().map(|one| one.handle_note()).collect();
    let (mut actors, mut claims, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut without_document = Vec::new();
    for one in &learned {
        let did = &one.due.did;
        let actor = |handle: Option<&String>| Actor {
            did: did.clone(),
            handle: handle.map(|handle| handle.to_lowercase()),
        };
        let (state, _) = one.handle_state();
        match (&one.handle, state) {
            (Handle::Asked(claimed, _), HandleState::Verified) => actors.push(actor(Some(claimed))),
            (Handle::Claimed(claimed), _) => claims.push(actor(Some(claimed))),
            (Handle::Asked(..), HandleState::Unreachable) => unknown.push(did.clone()),
            (Handle::Asked(..) | Handle::None, _) => actors.push(actor(None)),
            (Handle::NoDocument, _) => without_document.push(did.clone()),
        }
    }
    for dids in [&unknown, &without_document] {
        load::actors::withdraw_claims(&mut txn, schema, dids)?;
    }
    ledger::identity::note_documents(&mut txn, schema, &documents)?;
    ledger::identity::note_handles(&mut txn, schema, &handles)?;
    load::actors::store(&mut txn, schema, &actors, indexed_at, true)?;
    load::actors::store(&mut txn, schema, &claims, indexed_at, false)?;
    load::actors::add(&mut txn, schema, &unknown, indexed_at)?;
    txn.commit()
}
