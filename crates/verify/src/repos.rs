//! Goes over the repos, slice by slice, on several connections, and notes what was found equal.

use crate::compare_repo;
use crate::compare_slice::{Compared, Job, Repos, SliceComparison};
use crate::finding::{Finding, What};
use crate::ordered_rows::{Accounts, Prepared, Statements};
use crate::report::{HostCounts, Report};
use crate::run_settings::Runs;
use crate::slices::{self, Slices};
use crate::stray_search::{self, Search};
use ledger::repos::{self, Known};
use ledger::verified::{self, Range, Which};
use load::DbError;
use pg::Connection;
use postgres::{Client, Error, IsolationLevel, Transaction};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Settings of a connection that compares.
pub(crate) const COMPARING: &str =
    "SET default_transaction_read_only = on; SET plan_cache_mode = force_generic_plan;
     SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_bitmapscan = off;
     SET enable_hashjoin = off; SET enable_mergejoin = off";
/// Repos that are compared together, of few: so many, and about so many records.
const TOGETHER: (i64, u64) = (50, 5000);

/// How to verify.
pub struct Verify<'v> {
    /// URL of the database.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// Number of connections that work concurrently.
    pub connections: usize,
    /// Which repos.
    pub which: Which,
    /// Also checks each commit: returns the reason if its signature does not hold.
    pub signature: Option<&'v (dyn Fn(&str, &[u8]) -> Option<String> + Sync)>,
    /// Receives the number of repos that were compared.
    pub progress: &'v (dyn Fn(u64) + Sync),
    /// Receives each finding.
    pub finding: &'v (dyn Fn(&Finding) + Sync),
    /// Whether to stop.
    pub stop: &'v (dyn Fn() -> bool + Sync),
}

impl Verify<'_> {
    /// Compares the repos, and looks for rows without a record. Notes which repos were found equal.
    ///
    /// # Errors
    /// The database. What was found equal stays noted.
    pub fn run(&self) -> Result<Report, DbError> {
        let mut client = self.connect()?;
        let runs = Runs::read(&mut client, &self.schema)?;
        let pass = Pass {
            verify: self,
            job: Job {
                schema: &self.schema,
                runs: &runs,
                signature: self.signature,
                progress: self.progress,
                stop: self.stop,
            },
            by_bytes: load::sorts_by_bytes(&mut client)?,
            report: Mutex::default(),
        };
        match &self.which {
            Which::All(_) => pass.everything(&mut client)?,
            Which::Changed => pass.few(None, &HashSet::new())?,
            Which::Named(dids) => {
                pass.few(Some(dids), &HashSet::new())?;
                for did in repos::unknown(&mut *client, &self.schema, dids)? {
                    let what = What::Commit("the ledger does not know the account".to_owned());
                    pass.found(&[Finding { did, what }]);
                }
            }
        }
        let mut report = pass
            .report
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        report.stopped = (self.stop)();
        report.differing.sort();
        report.differing.dedup();
        verified::note_differing(&mut *client, &self.schema, &report.differing)?;
        Ok(report)
    }

    fn connect(&self) -> Result<Connection, DbError> {
        let mut client = Connection::open(&self.url)?;
        client.batch_execute(&format!(
            "{};
             SET jit = off;
             SET client_min_messages = error",
            pg::search_path(&self.schema)
        ))?;
        Ok(client)
    }

    /// A connection that compares. It plans each statement once, and reads no table as a whole,
    /// whatever the statistics say.
    fn connect_to_compare(&self) -> Result<Connection, DbError> {
        let mut client = self.connect()?;
        client.batch_execute(COMPARING)?;
        Ok(client)
    }
}

/// A comparison under way.
struct Pass<'p> {
    verify: &'p Verify<'p>,
    job: Job<'p>,
    /// Whether the text of the database sorts by bytes.
    by_bytes: bool,
    report: Mutex<Report>,
}

impl Pass<'_> {
    fn lock_report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        (self.verify.stop)()
    }

    /// Compares everything: what is left of the pass, slice by slice.
    fn everything(&self, client: &mut Client) -> Result<(), DbError> {
        let schema = &self.verify.schema;
        let done = verified::ranges(client, schema)?;
        let mut slices = Slices::without(done.iter().map(|(range, _)| range));
        slices.divide(&slices::of_large_table(client, schema)?);
        let slices = Mutex::new(slices);
        self.on_threads(self.verify.connections, || {
            let mut client = self.verify.connect_to_compare()?;
            let mut statements = Statements::default();
            while !self.is_stopped() {
                let next = {
                    let mut slices = slices.lock().unwrap_or_else(PoisonError::into_inner);
                    slices.next(&mut client, schema)?
                };
                let Some(range) = next else { break };
                self.slice(&mut client, &mut statements, &range)?;
            }
            Ok(())
        })?;
        if !done.is_empty() && !self.is_stopped() {
            // What was found to differ before the pass was interrupted is named again.
            let named = self.lock_report().differing.iter().cloned().collect();
            self.few(None, &named)?;
            for (_, found) in &done {
                self.found(&Finding::read_all(found));
            }
        }
        if !self.by_bytes && !self.is_stopped() {
            self.strays()?;
        }
        Ok(())
    }

    /// Compares a slice of everything, and notes that it is done.
    fn slice(
        &self,
        client: &mut Client,
        statements: &mut Statements,
        range: &Range,
    ) -> Result<(), DbError> {
        let schema = &self.verify.schema;
        let mut txn = snapshot(client)?;
        let dids = match self.by_bytes {
            true => None,
            false => Some(verified::dids(&mut txn, schema, range)?),
        };
        let accounts = Accounts::Range(range, dids.as_deref());
        let prepared = Prepared::new(&mut txn, statements, &accounts)?;
        let repos = Repos::Range(verified::open_range(&mut txn, schema, range)?);
        let compared = SliceComparison::new(&self.job, &mut txn, &prepared, repos)?.run()?;
        txn.commit()?;
        let Some(compared) = compared else {
            return Ok(());
        };
        let noted: HashSet<&str> = compared
            .notes
            .iter()
            .map(|note| note.did.as_str())
            .collect();
        let others = compared.findings.iter();
        let others = others.filter(|finding| !noted.contains(finding.did.as_str()));
        let others = Finding::write_all(others);
        let mut txn = client.build_transaction().read_only(false).start()?;
        verified::note(&mut txn, schema, &compared.notes)?;
        verified::note_range(&mut txn, schema, range, &others)?;
        txn.commit()?;
        self.counted(&compared);
        self.found(&compared.findings);
        Ok(())
    }

    /// Compares these accounts, or those that changed; not those in `but`.
    fn few(&self, named: Option<&[String]>, but: &HashSet<String>) -> Result<(), DbError> {
        let schema = &self.verify.schema;
        let cursor = Mutex::new(Some(String::new()));
        self.on_threads(self.verify.connections, || {
            let mut client = self.verify.connect_to_compare()?;
            let mut statements = Statements::default();
            while !self.is_stopped() {
                let page = {
                    let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(after) = cursor.clone() else { break };
                    let page = verified::page(&mut *client, schema, &after, named, TOGETHER.0)?;
                    let dids = fitting(&page);
                    *cursor = dids.last().cloned();
                    dids
                };
                let dids: Vec<String> = page.into_iter().filter(|did| !but.contains(did)).collect();
                let compared = self.some(&mut client, &mut statements, &dids)?;
                self.counted(&compared);
                self.found(&compared.findings);
                let mut txn = client.build_transaction().read_only(false).start()?;
                verified::note(&mut txn, schema, &compared.notes)?;
                txn.commit()?;
            }
            Ok(())
        })
    }

    /// Compares some repos, as they are now; nothing of them, if it was told to stop.
    fn some(
        &self,
        client: &mut Client,
        statements: &mut Statements,
        dids: &[String],
    ) -> Result<Compared, DbError> {
        let schema = &self.verify.schema;
        let mut txn = snapshot(client)?;
        let repos = verified::page(&mut txn, schema, "", Some(dids), TOGETHER.0)?;
        let (mut compared, others): (Vec<_>, Vec<_>) =
            repos.into_iter().partition(compare_repo::is_compared);
        // A slash is not the least character that may follow a DID.
        compared.sort_by_cached_key(|repo| format!("{}/", repo.did));
        let mut outcome = Compared::default();
        for repo in others {
            let mut counts = HostCounts::default();
            counts.states.insert(repo.state, 1);
            (self.verify.progress)(0);
            outcome.repos.push((repo.host, counts));
        }
        if compared.is_empty() {
            return Ok(outcome);
        }
        let dids: Vec<String> = compared.iter().map(|repo| repo.did.clone()).collect();
        let accounts = Accounts::Some(&dids, self.by_bytes);
        let prepared = Prepared::new(&mut txn, statements, &accounts)?;
        let repos = Repos::Some(compared);
        let comparison = SliceComparison::new(&self.job, &mut txn, &prepared, repos)?;
        let Some(mut compared) = comparison.run()? else {
            return Ok(Compared::default());
        };
        if !self.by_bytes {
            for note in &mut compared.notes {
                let mut is_equal = true;
                stray_search::find_of(&mut txn, schema, &note.did, &mut |finding| {
                    is_equal &= !finding.is_difference();
                    compared.findings.push(finding);
                })?;
                note.is_equal &= is_equal;
            }
        }
        txn.commit()?;
        compared.repos.append(&mut outcome.repos);
        Ok(compared)
    }

    /// Rows of everything that belong to no record, by account.
    fn strays(&self) -> Result<(), DbError> {
        let searches = Search::all(&mut *self.verify.connect()?, &self.verify.schema)?;
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let connections = self.verify.connections.clamp(1, searches.len());
        self.on_threads(connections, || {
            let mut client = self.verify.connect()?;
            while let Some(search) = searches.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.is_stopped() {
                    break;
                }
                let mut strays = Vec::new();
                search.run(&mut client, &self.verify.schema, &mut |finding| {
                    strays.push((search.place(), finding));
                })?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.append(&mut strays);
            }
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(place, _)| *place);
        let found: Vec<Finding> = found.into_iter().map(|(_, finding)| finding).collect();
        self.found(&found);
        Ok(())
    }

    /// Runs `work` on so many threads at once.
    fn on_threads(
        &self,
        threads: usize,
        work: impl Fn() -> Result<(), DbError> + Sync,
    ) -> Result<(), DbError> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(&work)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn counted(&self, compared: &Compared) {
        let mut report = self.lock_report();
        for (host, counts) in &compared.repos {
            report.hosts.entry(host.clone()).or_default().add(counts);
        }
    }

    fn found(&self, findings: &[Finding]) {
        let mut report = self.lock_report();
        for finding in findings {
            if let What::NeverLoaded { rows, .. } = &finding.what {
                *report.never_loaded.entry(finding.did.clone()).or_default() += rows;
            } else {
                report.differences += 1;
                if report.differing.last() != Some(&finding.did) {
                    report.differing.push(finding.did.clone());
                }
            }
            (self.verify.finding)(finding);
        }
    }
}

/// The first of these repos that are compared together, at least one.
fn fitting(repos: &[Known]) -> Vec<String> {
    let mut records = 0u64;
    let fits = |(at, repo): &(usize, &Known)| {
        records = records.saturating_add(repo.records);
        *at == 0 || records <= TOGETHER.1
    };
    let fitting = repos.iter().enumerate().take_while(fits);
    fitting.map(|(_, repo)| repo.did.clone()).collect()
}

/// A transaction that reads, and sees all tables and the ledger as they are now.
fn snapshot(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
}
