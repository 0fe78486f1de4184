//! Audits: how complete an AppView's database is, whoever filled it.
//!
//! `sample` draws accounts from a list of the network. Their repos are fetched and proved as they
//! are now, and `verify::audit` compares the tables with them. `interval` says what that means for
//! the rest. Nothing is written, no ledger is read, and a role that can read the AppView's tables
//! is enough.

mod interval;
mod report;
mod sample;

pub use interval::Share;
pub use report::{Audited, Drawn, OneAccount, OneTable};
pub use sample::Population;

use crate::documents::Directory;
use crate::fresh_repo::{AT_ONCE, Fresh, FreshRepos};
use crate::fresh_repos::fetch_each;
use fetch::Spool;
use observe::units::counted;
use observe::{Counter, Progress, registry};
use pg::Connection;
use postgres::Client;
use process::{Database, Failure, Stop, threads};
use sample::Sample;
use std::sync::Arc;
use tokio::runtime::Runtime;
use verify::audit::{AuditError, Compared};
use verify::{Facts, Finding};

/// What is audited, and how.
pub struct Options {
    /// What accounts are drawn from.
    pub population: Population,
    /// How many accounts are drawn.
    pub sample: usize,
    /// What is drawn follows from it.
    pub seed: u64,
    /// How hosts are asked.
    pub fetch: fetch::Options,
    /// Where bodies lie that are too large for memory.
    pub spool: Spool,
    /// Where documents are asked for.
    pub directory: Directory,
}

/// Audits; nothing if it was stopped. `found` gets each difference.
///
/// # Errors
/// The database or the list of the population cannot be read.
pub fn audit(
    options: Options,
    database: &Database,
    stop: &Stop,
    found: &dyn Fn(&Finding),
) -> Result<Option<Audited>, Failure> {
    let (mut client, facts) = open(database)?;
    let runtime = threads::start()?;
    let population = options.population.name();
    let wanted = counted(options.sample as u64, "account");
    observe::step!("drawing {wanted} from {population}");
    let drawn = sample::draw(
        options.population,
        options.sample,
        options.seed,
        &options.fetch,
        &runtime,
        stop,
    )?;
    let Some(Sample {
        dids,
        population: size,
        bad_lines,
    }) = drawn
    else {
        return Ok(None);
    };
    if dids.is_empty() {
        return Err(Failure::new(format!("{population}: there are no accounts"))
            .hint("name another list with --relay, --pds or --did-file"));
    }
    let fresh = FreshRepos::new(
        &options.fetch,
        &options.spool,
        &options.directory,
        &runtime,
        stop,
    )?;
    let drawn = Drawn {
        population,
        size,
        seed: options.seed,
        sampled: dids.len() as u64,
        bad_lines,
    };
    let mut audited = Audited::new(drawn, facts.absent().collect());
    let work = Work {
        database,
        runtime: &runtime,
        fresh: Arc::new(fresh),
        facts: &facts,
        found,
    };
    let is_done = work.compare_all(&mut client, dids, &mut audited)?;
    audited.sort();
    Ok(is_done.then_some(audited))
}

/// A session that can only read, and what the schema has.
fn open(database: &Database) -> Result<(Connection, Facts), Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    let session = format!(
        "{}; SET default_transaction_read_only = on; SET jit = off",
        pg::search_path(&database.schema)
    );
    client.batch_execute(&session).map_err(refused)?;
    let facts = Facts::read(&mut client, &database.schema).map_err(refused)?;
    let record = appview::table::RECORD.info();
    if !facts.has(&record) {
        return Err(Failure::new(format!(
            "schema {} of {} has no table record",
            database.schema,
            database.shown()
        ))
        .hint("name the AppView's schema with --schema"));
    }
    Ok((client, facts))
}

struct Work<'w> {
    database: &'w Database,
    runtime: &'w Runtime,
    fresh: Arc<FreshRepos>,
    facts: &'w Facts,
    found: &'w dyn Fn(&Finding),
}

impl Work<'_> {
    /// Fetches the repos, a few at once, and compares each when it comes. False if it was stopped.
    fn compare_all(
        &self,
        client: &mut Client,
        dids: Vec<String>,
        audited: &mut Audited,
    ) -> Result<bool, Failure> {
        let repos = Counter::rated("repos_compared", "repos compared");
        let (missing, extra) = (
            Counter::counted("rows_missing", "rows missing"),
            Counter::counted("rows_extra", "rows extra"),
        );
        registry().enter("audit");
        let counters = vec![repos.clone(), missing.clone(), extra.clone()];
        let progress = Progress::begin("audit", counters, Some(dids.len() as u64));
        let fetch = |did: String| {
            let fresh = Arc::clone(&self.fresh);
            async move { fresh.repo(&did).await }
        };
        let is_done = fetch_each(self.runtime, dids, AT_ONCE, fetch, |did, got| {
            match got {
                Ok(fresh) => {
                    let compared = self.compare(client, &fresh)?;
                    missing.add(compared.sum().missing);
                    extra.add(compared.sum().extra);
                    audited.add(&did, &fresh.repo.commit().rev, compared);
                }
                Err(no_repo) => audited.add_unfetched(did, &no_repo),
            }
            repos.add(1);
            Ok(())
        })?;
        progress.finish();
        Ok(is_done)
    }

    fn compare(&self, client: &mut Client, fresh: &Fresh) -> Result<Compared, Failure> {
        let mut report = |finding: Finding| (self.found)(&finding);
        verify::audit::compare(client, self.facts, &fresh.repo, &mut report).map_err(|error| {
            match error {
                AuditError::Database(error) => self.database.failure(error),
                AuditError::Repo(error) => {
                    Failure::new(format!("the repo of {}: {error}", fresh.repo.did()))
                }
            }
        })
    }
}
