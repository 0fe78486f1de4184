//! The state of a pass, and the code that stores its pages.

use crate::discovery::arrivals::Arrivals;
use crate::discovery::source::Source;
use crate::documents::Directory;
use fetch::turns::Turns;
use fetch::{Client as HttpClient, Redirects};
use ledger::listing::{self, Changes, Line};
use ledger::states::Inactive;
use observe::{Counter, Waiting};
use postgres::GenericClient;
use process::{Database, Failure, Patient, Stop};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Runtime;

/// Largest page of a list, in bytes.
pub(crate) const MAX_PAGE: u64 = 2 << 20;
/// Pages of lists that are received concurrently, unless a pass has fewer requests: each is held in
/// memory.
pub(crate) const PAGES_AT_ONCE: usize = 128;

/// What a pass works with.
#[derive(Clone, Copy)]
pub struct Discovery<'s> {
    /// The database with the ledger.
    pub database: &'s Database,
    /// Where tasks run.
    pub runtime: &'s Runtime,
    /// Whether to stop.
    pub stop: &'s Stop,
    /// Where repos are looked for.
    pub source: &'s Source,
    /// How hosts are asked.
    pub fetch: &'s fetch::Options,
    /// Where documents are asked for.
    pub directory: &'s Directory,
}

/// What a pass and the load beside it share.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'s> {
    /// The news of the pass.
    pub(crate) arrivals: &'s Arrivals,
    /// The pace of each host.
    pub(crate) turns: &'s Turns,
    /// Pages of lists that may be received concurrently.
    pub(crate) pages: usize,
    /// Whether it is no pass, but the event stream that names repos. It never ends, so the time of
    /// what is loaded is that of the clock.
    pub(crate) is_stream: bool,
    /// Whether rows have to wait, if that is ever the case.
    pub(crate) is_paused: Option<&'s Arc<AtomicBool>>,
}

/// A pass that is under way.
pub(crate) struct OpenPass<'s> {
    pub(crate) id: i64,
    /// The connection that holds the lock.
    pub(crate) client: Patient<'s>,
    pub(crate) counts: Counts,
    pub(crate) changes: Changes,
    /// By host or relay: lines of its list that make no sense.
    pub(crate) bad_lines: BTreeMap<String, u64>,
    /// Hosts that are not listed to their end yet.
    pub(crate) waiting: Waiting,
    /// The load that runs beside it, if there is one.
    pub(crate) beside: Option<Beside<'s>>,
}

impl OpenPass<'_> {
    /// Pages of hosts that may be received concurrently.
    pub(crate) fn pages_at_once(&self) -> usize {
        self.beside.map_or(PAGES_AT_ONCE, |beside| beside.pages)
    }

    /// Counts lines of a list that make no sense.
    pub(crate) fn add_bad_lines(&mut self, of: &str, lines: u64) {
        self.counts.bad.add(lines);
        if lines > 0 {
            *self.bad_lines.entry(of.to_owned()).or_default() += lines;
        }
    }

    /// Stores a page and, in the same transaction, how far that is. Where a load holds the same
    /// rows, or the server goes away, it is done again.
    pub(crate) fn store(
        &mut self,
        schema: &str,
        lines: &[Line],
        after: impl Fn(&mut postgres::Transaction<'_>) -> Result<(), postgres::Error>,
    ) -> Result<Changes, Failure> {
        let id = self.id;
        self.counts.listed.add(lines.len() as u64);
        let page = self
            .client
            .run(|client| -> Result<Changes, postgres::Error> {
                let mut txn = client.transaction()?;
                let changes = store_page(&mut txn, schema, id, lines)?;
                after(&mut txn)?;
                txn.commit()?;
                Ok(changes)
            })?;
        self.counts.add(&mut self.changes, page);
        if let Some(beside) = self.beside {
            beside.arrivals.stored();
        }
        Ok(page)
    }
}

/// Counts for the progress.
pub(crate) struct Counts {
    pub(crate) listed: Counter,
    pub(crate) hosts: Counter,
    pub(crate) new: Counter,
    pub(crate) opened: Counter,
    pub(crate) contested: Counter,
    pub(crate) settled: Counter,
    pub(crate) failed: Counter,
    pub(crate) bad: Counter,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            listed: Counter::rated("repos_listed", "repos listed"),
            hosts: Counter::counted("hosts_done", "hosts done"),
            new: Counter::counted("repos_new", "new"),
            opened: Counter::counted("repos_newer", "with a newer rev"),
            contested: Counter::counted("repos_contested", "contested"),
            settled: Counter::counted("repos_settled", "decided by documents"),
            failed: Counter::counted("hosts_failed", "failed"),
            bad: Counter::counted("bad_lines", "invalid lines"),
        }
    }

    pub(crate) fn shown(&self) -> Vec<Counter> {
        let Self {
            listed,
            hosts,
            new,
            opened,
            contested,
            settled,
            failed,
            bad,
        } = self;
        [listed, hosts, failed, new, opened, contested, settled, bad]
            .into_iter()
            .cloned()
            .collect()
    }

    /// Adds what a page changed, here and to `sum`.
    pub(crate) fn add(&self, sum: &mut Changes, page: Changes) {
        self.new.add(page.new);
        self.opened.add(page.opened);
        self.contested.add(page.contested);
        sum.new += page.new;
        sum.opened += page.opened;
        sum.contested += page.contested;
    }
}

/// Stores what a page says of repos, and the states of accounts that are not active.
fn store_page(
    client: &mut impl GenericClient,
    schema: &str,
    id: i64,
    lines: &[Line],
) -> Result<Changes, postgres::Error> {
    let changes = listing::page(client, schema, id, lines, &load::revs::newest_believed())?;
    let with_status = lines.iter().filter(|line| line.status.is_some());
    let dids: Vec<&str> = with_status.map(|line| line.did.as_str()).collect();
    if !dids.is_empty() {
        let inactive = listing::inactive(client, schema, &dids)?;
        let states: Vec<(&str, Option<Inactive>)> = inactive
            .iter()
            .map(|(did, state)| (did.as_str(), Some(*state)))
            .collect();
        load::store_states(client, schema, &states)?;
    }
    Ok(changes)
}

/// A client for relays and for the lists of hosts that receives at most `pages` pages concurrently.
pub(crate) fn list_client(fetch: &fetch::Options, pages: usize) -> Result<HttpClient, Failure> {
    let limits = fetch.limits(MAX_PAGE, Redirects::Never);
    let client = HttpClient::for_streams(&fetch.user_agent, limits).map_err(Failure::new)?;
    Ok(client.with_small_bodies(pages))
}
