//! Compares the tables with the signed commits.

use crate::certificate::{self, Place, Signatures};
use crate::documents::Directory;
use crate::observer::Observer;
use crate::repo_tree::RepoTree;
use crate::run::free_connections;
use crate::verify::keys::Keys;
use ::verify::verdict::{self, Compared, Judgment};
use ::verify::{Finding, HostCounts, Report, Verify};
use ledger::coverage::Coverage;
use ledger::verified::{self, Which};
use observe::units::{count, counted};
use observe::{Counter, Progress};
use pg::{DbErrorKind, Step, Waits};
use process::{Database, Failure, Stop, threads};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Sessions beside those of the threads that compare, which have one each.
const OTHER_SESSIONS: usize = 3;
/// Most threads that compare.
pub(crate) const MOST_THREADS: usize = 128;

/// What is compared, and what is done about it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these accounts, if there are any.
    pub dids: Vec<String>,
    /// Whether everything is compared, even if it is known what changed.
    pub all: bool,
    /// So many repos, chosen at random.
    pub sample: Option<u64>,
    /// Connections that compare, if that is given.
    pub connections: Option<usize>,
    /// Where keys are asked for, if signatures are checked.
    pub signatures: Option<Directory>,
    /// Whether repos that differ are marked to be fetched again.
    pub repair: bool,
    /// The file that the certificate goes to.
    pub certificate: Option<PathBuf>,
    /// Whether the list of all stored repos goes to a file beside it.
    pub lists_repos: bool,
}

/// How a comparison ended.
#[derive(Debug)]
pub enum Comparison {
    /// To its end.
    Done(Box<Verified>),
    /// It was stopped.
    Stopped,
}

/// What a comparison says of the database.
#[derive(Debug)]
pub struct Verified {
    /// The one word for it, and why.
    pub judgment: Judgment,
    /// All of it, as JSON.
    pub certificate: Value,
    /// Accounts whose signature nobody has checked.
    pub unproved: u64,
    /// What was marked to be fetched again, if that was asked for.
    pub repaired: Option<Repaired>,
}

/// What a repair marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Repos that the next run fetches again.
    pub marked: u64,
    /// Accounts that differ and that the ledger does not know: there is nothing to fetch.
    pub unknown: u64,
}

/// A certificate's place in the file system, claimed before the work.
fn claim(path: Option<&Path>) -> Result<Option<Place>, Failure> {
    path.map(Place::claim).transpose()
}

/// Compares, and repairs if that was asked for.
///
/// # Errors
/// The database, the network or a file cannot be used.
pub fn verify(
    options: &Options,
    database: &Database,
    stop: &Stop,
    observer: &dyn Observer,
) -> Result<Comparison, Failure> {
    let place = claim(options.certificate.as_deref())?;
    let beside = options
        .certificate
        .as_deref()
        .map(certificate::repos_beside);
    let mut list = claim(beside.as_deref().filter(|_| options.lists_repos))?;
    let runtime = threads::start()?;
    let keys = match &options.signatures {
        Some(directory) => Some(Keys::new(database, directory, &runtime)?),
        None => None,
    };
    let only = options.dids.as_slice();
    let part = match (only.is_empty(), options.sample) {
        (false, _) => Some(only.to_vec()),
        (true, Some(count)) => Some(sample(database, count)?),
        (true, None) => None,
    };
    let work = match part {
        Some(dids) => Work::of_part(database, dids)?,
        // A signature is worth what it is now.
        None => Work::of_all(database, options.all || options.signatures.is_some())?,
    };
    let tables = Tables {
        database,
        stop,
        observer,
        connections: options.connections,
    };
    let report = tables.compare(&work.which, keys.as_ref())?;
    if report.stopped {
        return Ok(Comparison::Stopped);
    }
    work.note(database, &report)?;
    let signatures = keys.as_ref().map(Keys::counts);
    let coverage = certificate::coverage(database)?;
    let mut judgment = judge(&report, &coverage, signatures, &work);
    if only.is_empty()
        && let Which::Named(dids) = &work.which
    {
        let repos = counted(dids.len() as u64, "repo");
        judgment.scope = vec![format!("only a sample of {repos}")];
    }
    let tree = match place.is_some() && only.is_empty() {
        true => Some(tree(database, list.as_mut())?),
        false => None,
    };
    let certificate = certificate::certificate(
        database,
        &report,
        &coverage,
        &judgment,
        (signatures, &work.which),
        only,
        tree.as_ref(),
    )?;
    if let Some(list) = list {
        list.keep()?;
    }
    if let Some(place) = place {
        place.write(&certificate)?;
    }
    log_report(&report, signatures);
    let repaired = match options.repair && !report.differing.is_empty() {
        true => Some(repair(database, &report, keys.as_ref())?),
        false => None,
    };
    Ok(Comparison::Done(Box::new(Verified {
        judgment,
        certificate,
        unproved: certificate::unproved(&coverage, signatures),
        repaired,
    })))
}

/// The tree over the stored repos; their lines go to `list`.
fn tree(database: &Database, mut list: Option<&mut Place>) -> Result<RepoTree, Failure> {
    let mut client = database.connect()?;
    RepoTree::read(database, &mut client, |line| match &mut list {
        Some(list) => list.append(line),
        None => Ok(()),
    })
}

fn judge(
    report: &Report,
    coverage: &Coverage,
    signatures: Option<Signatures>,
    work: &Work,
) -> Judgment {
    let compared = Compared {
        differences: Some(report.differences),
        unchecked_signatures: signatures.map_or(0, |checked| checked.unchecked),
        ..Compared::default()
    };
    let Which::Named(only) = &work.which else {
        return verdict::judge(coverage, &compared);
    };
    let unfinished = report.hosts.values().flat_map(|host| &host.states);
    let unfinished = unfinished.filter(|(state, _)| state.is_unfinished());
    verdict::judge_accounts(only, unfinished.map(|(_, repos)| repos).sum(), &compared)
}

/// The comparison at the end of a run: the number of differences, or nothing if it was told to
/// stop. The certificate goes to `path`.
pub(crate) fn after_run(
    path: Option<&Path>,
    database: &Database,
    stop: &Stop,
    observer: &dyn Observer,
) -> Result<Option<u64>, Failure> {
    let place = claim(path)?;
    observe::step!("comparing the tables with the signed commits");
    let work = Work::of_all(database, false)?;
    let tables = Tables {
        database,
        stop,
        observer,
        connections: None,
    };
    let report = tables.compare(&work.which, None)?;
    if report.stopped {
        return Ok(None);
    }
    work.note(database, &report)?;
    if let Some(place) = place {
        let coverage = certificate::coverage(database)?;
        let judgment = judge(&report, &coverage, None, &work);
        place.write(&certificate::certificate(
            database,
            &report,
            &coverage,
            &judgment,
            (None, &work.which),
            &[],
            Some(&tree(database, None)?),
        )?)?;
    }
    log_report(&report, None);
    Ok(Some(report.differences))
}

fn sample(database: &Database, count: u64) -> Result<Vec<String>, Failure> {
    verified::sample(&mut *database.connect()?, &database.schema, count)
        .map_err(|error| database.failure(error))
}

/// What a comparison is about.
struct Work {
    which: Which,
    /// When it began; a pass that is continued began earlier.
    began: String,
}

impl Work {
    /// Some accounts.
    fn of_part(database: &Database, dids: Vec<String>) -> Result<Self, Failure> {
        let began = ledger::coverage::now(&mut *database.connect()?);
        Ok(Self {
            which: Which::Named(dids),
            began: began.map_err(|error| database.failure(error))?,
        })
    }

    /// Everything, or what changed if that is enough and not all is asked for.
    fn of_all(database: &Database, all: bool) -> Result<Self, Failure> {
        let refused = |error| database.failure(error);
        let (mut client, schema) = (database.connect()?, &database.schema);
        let suffices = verified::changes_suffice(&mut *client, schema).map_err(refused)?;
        if suffices && !all {
            observe::step!("comparing the repos that were stored since they were compared");
            return Ok(Self {
                which: Which::Changed,
                began: ledger::coverage::now(&mut *client).map_err(refused)?,
            });
        }
        // What was compared before somebody else wrote has to be compared again.
        let is_trusted = verified::is_trusted(&mut *client, schema).map_err(refused)?;
        let (began, continues) =
            verified::begin_pass(&mut *client, schema, !is_trusted).map_err(refused)?;
        if continues {
            observe::log!("continuing the comparison that was interrupted");
        }
        Ok(Self {
            which: Which::All(began.clone()),
            began,
        })
    }

    /// Notes what was found, for `skyfill status` and for the next run.
    fn note(&self, database: &Database, report: &Report) -> Result<(), Failure> {
        let is_pass = match &self.which {
            Which::Named(_) => return Ok(()),
            Which::All(_) => true,
            Which::Changed => false,
        };
        verified::note_proof(
            &mut *database.connect()?,
            &database.schema,
            &self.began,
            report.differences,
            is_pass,
        )
        .map_err(|error| database.failure(error))
    }
}

/// The tables, and how they are compared.
struct Tables<'t> {
    database: &'t Database,
    stop: &'t Stop,
    observer: &'t dyn Observer,
    /// Connections that compare, if that is given.
    connections: Option<usize>,
}

impl Tables<'_> {
    /// Compares them; when the server goes away, what was not noted is compared again.
    fn compare(&self, which: &Which, keys: Option<&Keys<'_>>) -> Result<Report, Failure> {
        let (database, stop) = (self.database, self.stop);
        let total = match which {
            Which::Named(dids) => Some(dids.len() as u64),
            Which::Changed => None,
            Which::All(_) => Some(
                ledger::repos::count(&mut *database.connect()?, &database.schema)
                    .map_err(|error| database.failure(error))?,
            ),
        };
        let (repos, records, differences) = (
            Counter::rated("repos_compared", "repos compared"),
            Counter::rated("records", "records"),
            Counter::counted("differences", "differences"),
        );
        let counters = vec![repos.clone(), records.clone(), differences.clone()];
        let progress = Progress::begin("verify", counters, total);
        let compared = |count: u64| {
            repos.add(1);
            records.add(count);
            ledger::failpoint::pass("compare");
        };
        let finding = |finding: &Finding| {
            differences.add(u64::from(finding.is_difference()));
            self.observer.found(finding);
        };
        let signature = keys.map(|keys| |did: &str, block: &[u8]| keys.check(did, block));
        let threads = threads_of(database, self.connections)?;
        let say = |line: &str| tracing::warn!("{line}");
        let waits = Waits { stop, say: &say };
        let outcome = pg::persist(Step::Long, waits, || {
            Verify {
                url: database.url.clone(),
                schema: database.schema.clone(),
                connections: threads,
                which: which.clone(),
                signature: signature
                    .as_ref()
                    .map(|check| check as &(dyn Fn(&str, &[u8]) -> Option<String> + Sync)),
                progress: &compared,
                finding: &finding,
                stop: &|| stop.is_set(),
            }
            .run()
        });
        progress.finish();
        if outcome
            .as_ref()
            .is_err_and(|error| error.kind == DbErrorKind::Stopped)
        {
            return Ok(Report {
                stopped: true,
                ..Report::default()
            });
        }
        outcome.map_err(|error| {
            Failure::new(format!(
                "verify schema {} of {}: {error}",
                database.schema,
                database.shown()
            ))
            .hint("nothing was changed; fix this, then run it again")
        })
    }
}

/// As many threads as asked for, or as the machine has cores, if the server has sessions for them.
fn threads_of(database: &Database, wanted: Option<usize>) -> Result<usize, Failure> {
    let free =
        free_connections(&mut *database.connect()?).map_err(|error| database.failure(error))?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let most = free.saturating_sub(OTHER_SESSIONS);
    Ok(wanted.unwrap_or(cores).min(MOST_THREADS).min(most).max(1))
}

fn log_report(report: &Report, signatures: Option<Signatures>) {
    let sum = |pick: fn(&HostCounts) -> u64| report.hosts.values().map(pick).sum::<u64>();
    let skipped = sum(|host| host.skipped.values().sum());
    observe::log!(
        "{} compared with the signed commits: {} stored, {} skipped with a reason; {} in {}",
        counted(sum(|host| host.verified), "repo"),
        counted(sum(|host| host.records), "record"),
        count(skipped),
        counted(report.differences, "difference"),
        counted(report.differing.len() as u64, "account")
    );
    if !report.never_loaded.is_empty() {
        observe::log!(
            "not compared, and left as they are: {} of {} that skyfill never loaded",
            counted(report.never_loaded.values().sum(), "row"),
            counted(report.never_loaded.len() as u64, "account")
        );
    }
    if let Some(checked) = signatures {
        observe::log!(
            "signatures: {} are good, {} were made by an older key of the account, {} could not be checked",
            checked.good,
            checked.older,
            checked.unchecked
        );
    }
}

/// Marks the accounts that differ. Documents that contradict what is stored are kept, so that those
/// repos are fetched from where their documents say.
fn repair(
    database: &Database,
    report: &Report,
    keys: Option<&Keys<'_>>,
) -> Result<Repaired, Failure> {
    let mut client = database.connect()?;
    if let Some(keys) = keys {
        ledger::identity::add_documents(&mut *client, &database.schema, &keys.lock_doubted())
            .map_err(|error| database.failure(error))?;
    }
    let marked = ledger::repos::rebuild(&mut *client, &database.schema, &report.differing)
        .map_err(|error| database.failure(error))?;
    Ok(Repaired {
        marked,
        unknown: report.differing.len() as u64 - marked,
    })
}
