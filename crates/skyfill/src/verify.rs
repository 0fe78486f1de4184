//! `skyfill verify`, and the proof at the end of a run.

use crate::certificate::{self, Place, Signatures};
use crate::cli::{LoadArgs, VerifyArgs};
use crate::fetch_args;
use crate::identities::document_note;
use crate::signals;
use crate::told;
use atrepo::Commit;
use identity::resolve::{self, Found};
use identity::signature;
use ledger::identity::DocumentNote;
use load::{Decision, decide};
use observe::{Counter, Progress, Workers};
use postgres::Client;
use process::Database;
use process::Stop;
use process::threads;
use process::{Ended, Failure};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use verify::verdict::{self, Compared, Judgment};
use verify::{Finding, Report, Verify};

/// Most waits for the server in a row.
const MAX_TRIES: u32 = 10;
/// Attempts at each.
const ATTEMPTS: u32 = 4;

pub(crate) fn run(given: &VerifyArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_compare(&given.database.target())?;
    let forget = given.memory.forget_settings;
    let args: &VerifyArgs = &told::complete(&database, forget)?;
    told::remember(&database, forget)?;
    let place = args.certificate.as_deref().map(Place::claim).transpose()?;
    let stop = signals::listen(Workers::default())?;
    let runtime = threads::start()?;
    let keys = match args.signatures {
        true => Some(Keys::new(&database, args, &runtime)?),
        false => None,
    };
    let only = args.did.as_slice();
    let began = server_time(&database)?;
    let report = go_over(
        &database,
        (!only.is_empty()).then_some(only),
        keys.as_ref(),
        args.output.logging_interval,
        &stop,
    )?;
    if report.stopped {
        observe::log!(
            "stopped; it begins anew with: {}",
            told::line_to_go_on_with()
        );
        return Ok(Ended::Stopped);
    }
    if only.is_empty() {
        note_proof(&database, &began, &report)?;
    }
    let signatures = keys.as_ref().map(Keys::counts);
    let coverage = certificate::coverage(&database)?;
    let compared = Compared {
        differences: Some(report.differences),
        unchecked_signatures: signatures.map_or(0, |checked| checked.unchecked),
        ..Compared::default()
    };
    let judgment = if only.is_empty() {
        verdict::judge(&coverage, &compared)
    } else {
        let unfinished = report.hosts.values().flat_map(|host| &host.states);
        let unfinished = unfinished.filter(|(state, _)| state.is_unfinished());
        verdict::judge_accounts(only, unfinished.map(|(_, repos)| repos).sum(), &compared)
    };
    let certificate =
        certificate::certificate(&database, &report, &coverage, &judgment, signatures, only);
    if let Some(place) = place {
        place.write(&certificate)?;
    }
    tell(&report, signatures);
    observe::log!(
        "accounts whose signature nobody has checked: {}",
        certificate::unproved(&coverage, signatures)
    );
    certificate::print_judgment(&judgment);
    if args.output.json {
        observe::data!("{certificate}");
    }
    if args.repair && !report.differing.is_empty() {
        repair(&database, &report, keys.as_ref())?;
    }
    Ok(ended(&judgment))
}

/// Exit code 0 means "complete", and nothing else does.
fn ended(judgment: &Judgment) -> Ended {
    match judgment.verdict.is_complete() {
        true => Ended::Well,
        false => Ended::WithFailures,
    }
}

/// The proof at the end of a run: the number of differences, or nothing if it was told to stop.
pub(crate) fn after_run(
    args: &LoadArgs,
    database: &Database,
    stop: &Stop,
) -> Result<Option<u64>, Failure> {
    let place = args.certificate.as_deref().map(Place::claim).transpose()?;
    observe::log!("comparing the tables with the signed commits");
    let began = server_time(database)?;
    let report = go_over(database, None, None, args.output.logging_interval, stop)?;
    if report.stopped {
        return Ok(None);
    }
    note_proof(database, &began, &report)?;
    if let Some(place) = place {
        let coverage = certificate::coverage(database)?;
        let compared = Compared {
            differences: Some(report.differences),
            ..Compared::default()
        };
        let judgment = verdict::judge(&coverage, &compared);
        place.write(&certificate::certificate(
            database,
            &report,
            &coverage,
            &judgment,
            None,
            &[],
        ))?;
    }
    tell(&report, None);
    Ok(Some(report.differences))
}

fn server_time(database: &Database) -> Result<String, Failure> {
    let mut client = database.connect()?;
    ledger::coverage::now(&mut client).map_err(|error| database.failure(error))
}

/// Notes what a comparison of all tables found, for `skyfill status` and for the next run.
fn note_proof(database: &Database, began: &str, report: &Report) -> Result<(), Failure> {
    let mut client = database.connect()?;
    ledger::coverage::note_proof(&mut client, &database.schema, began, report.differences)
        .map_err(|error| database.failure(error))
}

fn go_over(
    database: &Database,
    dids: Option<&[String]>,
    keys: Option<&Keys<'_>>,
    interval: u64,
    stop: &Stop,
) -> Result<Report, Failure> {
    let mut client = database.connect()?;
    let total = match dids {
        Some(dids) => dids.len() as u64,
        None => ledger::repos::count(&mut client, &database.schema)
            .map_err(|error| database.failure(error))?,
    };
    drop(client);
    let (repos, records) = (
        Counter::with_rate("repos compared"),
        Counter::with_rate("records"),
    );
    let differences = Counter::plain("differences");
    let progress = Progress::start(
        vec![repos.clone(), records.clone(), differences.clone()],
        Some(total),
        Duration::from_secs(interval),
    );
    let told = |count: u64| {
        repos.add(1);
        records.add(count);
        ledger::failpoint::pass("compare");
    };
    let finding = |finding: &Finding| {
        differences.add(u64::from(finding.is_difference()));
        observe::data!("{}", finding.json());
    };
    let signature = keys.map(|keys| |did: &str, block: &[u8]| keys.check(did, block));
    let connections = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .min(8);
    let mut tries = 0;
    let outcome = loop {
        let outcome = Verify {
            url: database.url.clone(),
            schema: database.schema.clone(),
            connections,
            dids: dids.map(<[String]>::to_vec),
            signature: signature
                .as_ref()
                .map(|check| check as &(dyn Fn(&str, &[u8]) -> Option<String> + Sync)),
            progress: &told,
            finding: &finding,
            stop: &|| stop.is_set(),
        }
        .run();
        match outcome {
            Err(error)
                if tries < MAX_TRIES
                    && !stop.is_set()
                    && matches!(decide(&error), Decision::Reconnect | Decision::Wait) =>
            {
                tries += 1;
                progress.say(&format!("waiting for the database, to begin anew: {error}"));
                std::thread::sleep(Duration::from_millis(200 << tries.min(5)));
            }
            outcome => break outcome,
        }
    };
    progress.finish();
    outcome.map_err(|error| {
        Failure::new(format!(
            "verify schema {} of {}: {error}",
            database.schema,
            database.shown()
        ))
        .hint("nothing was changed; mend this, then run it again")
    })
}

fn tell(report: &Report, signatures: Option<Signatures>) {
    let sum = |pick: fn(&verify::HostCounts) -> u64| report.hosts.values().map(pick).sum::<u64>();
    let skipped = sum(|host| host.skipped.values().sum());
    observe::log!(
        "{} repos compared with their commits: {} records stored, {skipped} skipped with a reason; {} differences in {} accounts",
        sum(|host| host.verified),
        sum(|host| host.records),
        report.differences,
        report.differing.len()
    );
    if !report.never_loaded.is_empty() {
        observe::log!(
            "{} rows are of {} accounts that skyfill never loaded; they were not compared and are left alone",
            report.never_loaded.values().sum::<u64>(),
            report.never_loaded.len()
        );
    }
    if let Some(checked) = signatures {
        observe::log!(
            "signatures: {} hold, {} were made by an older key of the account, {} could not be checked",
            checked.good,
            checked.older,
            checked.unchecked
        );
    }
}

/// Marks the accounts that differ. Documents that contradict what is stored are kept, so that those
/// repos are fetched from where their documents say.
fn repair(database: &Database, report: &Report, keys: Option<&Keys<'_>>) -> Result<(), Failure> {
    let mut client = database.connect()?;
    if let Some(keys) = keys {
        let doubted = keys.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        ledger::identity::add_documents(&mut client, &database.schema, &doubted)
            .map_err(|error| database.failure(error))?;
    }
    let marked = ledger::repos::rebuild(&mut client, &database.schema, &report.differing)
        .map_err(|error| database.failure(error))?;
    observe::log!(
        "{marked} repos are to be fetched again: {}",
        told::line_of("run")
    );
    let left = report.differing.len() as u64 - marked;
    if left > 0 {
        observe::log!("{left} accounts are none that the ledger knows; there is nothing to fetch");
    }
    Ok(())
}

/// The keys of accounts: from the ledger, else from their documents; older ones from the PLC
/// directory's log.
struct Keys<'k> {
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
    fn new(
        database: &'k Database,
        args: &VerifyArgs,
        runtime: &'k Runtime,
    ) -> Result<Self, Failure> {
        let resolver = fetch_args::documents(
            &args.directory,
            &args.caller,
            args.allow_private_hosts,
            ATTEMPTS,
        )?;
        Ok(Self {
            client: Mutex::new(None),
            database,
            resolver,
            runtime,
            good: Counter::plain("good"),
            older: Counter::plain("older"),
            unchecked: Counter::plain("unchecked"),
            doubted: Mutex::default(),
        })
    }

    fn counts(&self) -> Signatures {
        Signatures {
            good: self.good.get(),
            older: self.older.get(),
            unchecked: self.unchecked.get(),
        }
    }

    /// Why the signature does not hold, if it does not.
    fn check(&self, did: &str, block: &[u8]) -> Option<String> {
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
        let note = document_note(did.to_owned(), &found);
        let error = match found {
            Found::Document(document) => match signature::check(&document.signing_key, &commit) {
                Ok(()) => {
                    self.good.add(1);
                    return None;
                }
                Err(error) => error.to_string(),
            },
            Found::Gone => "the account has no DID document any more".to_owned(),
            Found::Useless(error) => error.to_string(),
            Found::Unreachable(error) => {
                observe::log!("the signature of {did} could not be checked: {error}");
                self.unchecked.add(1);
                return None;
            }
            Found::Unsupported => "its DID is of a method that nobody resolves".to_owned(),
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
                let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
                doubted.push(note);
                Some(format!("{error}, nor by an older key"))
            }
            Err(unreachable) => {
                observe::log!("older keys of {did} could not be looked up: {unreachable}");
                self.unchecked.add(1);
                None
            }
        }
    }

    fn of_ledger(&self, did: &str) -> Option<String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = pg::connect(&self.database.url).ok();
        }
        ledger::identity::signing_key(client.as_mut()?, &self.database.schema, did).ok()?
    }
}
