//! Lists hosts: one task per host, at the pace of the host, page after page. The pages go to the
//! thread that stores them.
//!
//! A host is listed as long as its list is worth the time ([`discover::walk`]), others are still
//! being listed ([`race`]), and most of the new accounts exist, as far as the directory was asked.
//! What was listed until then is stored and loaded; the host is marked as listed in part.

use crate::discovery::context::{Discovery, OpenPass, list_client};
use crate::discovery::race::{Race, Runner};
use crate::discovery::relay::page_url;
use discover::lists::{self, ListedRepo, Page};
use discover::walk::{Allowance, Step, Walk};
use fetch::retry::{self, Pauses, Policy, Retry};
use fetch::turns::Turns;
use fetch::{Client as HttpClient, FetchError, SmallRequest};
use identity::resolve::{Found, Resolver};
use ledger::listing::{self, HostToList, Line, Listing as ListingEnd};
use ledger::states::Inactive;
use observe::Waiting;
use process::{Failure, Stop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Pages that wait to be stored.
const WAITING_PAGES: usize = 32;
/// When so many accounts of a host are new, the directory is asked whether a few of them exist.
const SPOT_CHECKS: [u64; 2] = [20_000, 200_000];
/// So many are asked for; if most of them answer, and less than a third of those exist, the host
/// makes them up.
const SPOT: usize = 10;
/// It is checked at least this often who is still waited for.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// What a task reports of its host.
enum Report {
    Page(Page<ListedRepo>),
    End(End),
}

/// How the list of a host ended.
enum End {
    Whole,
    /// There is more; whether the next pass should continue where this one ended.
    InPart {
        why: String,
        goes_on: bool,
    },
    Failed(FetchError),
    Stopped,
}

/// What the tasks share.
struct Tasks {
    http: HttpClient,
    turns: Turns,
    stop: Stop,
    attempts: u32,
    race: Arc<Race>,
    documents: Resolver,
    /// New accounts by host.
    new: Vec<AtomicU64>,
    waiting: Waiting,
}

/// Lists all hosts of a pass. False if it was stopped.
pub(crate) fn list_hosts(
    discovery: &Discovery<'_>,
    turns: &Turns,
    open: &mut OpenPass<'_>,
) -> Result<bool, Failure> {
    let (schema, id) = (&discovery.database.schema, open.id);
    let opt_out = &discovery.fetch.opt_out;
    let pages = open.pages_at_once();
    let mut hosts = open
        .client
        .run(|client| listing::hosts_to_list(client, schema, id))?;
    for host in hosts.iter().filter(|host| opt_out.has_host(&host.host)) {
        let end = ListingEnd::OptedOut;
        open.client
            .run(|client| listing::host_ended(client, schema, &host.host, end))?;
    }
    hosts.retain(|host| !opt_out.has_host(&host.host));
    let shared = Arc::new(Tasks {
        http: list_client(discovery.fetch, pages)?,
        turns: turns.clone(),
        stop: discovery.stop.clone(),
        attempts: discovery.fetch.max_attempts,
        race: Race::new(discovery.source.straggler_grace),
        documents: discovery
            .directory
            .documents(discovery.fetch.max_attempts)?,
        new: hosts.iter().map(|_| AtomicU64::new(0)).collect(),
        waiting: open.waiting.clone(),
    });
    let (_tasks, mut pages) = start_tasks(&shared, &hosts, discovery.runtime);
    loop {
        let next = async { tokio::time::timeout(CHECK_EVERY, pages.recv()).await };
        let next = discovery.runtime.block_on(next);
        shared.race.end_if_over();
        let (number, report) = match next {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(_) => continue,
        };
        let Some(host) = hosts.get(number) else {
            continue;
        };
        match report {
            Report::Page(page) => {
                let new = store_page(open, schema, host, page)?;
                shared.new[number].fetch_add(new, Ordering::Relaxed);
            }
            Report::End(End::Stopped) => {}
            Report::End(end) => end_host(open, schema, host, &end)?,
        }
    }
    let learned: Vec<(String, String)> = turns
        .learned()
        .into_iter()
        .filter_map(|(host, learned)| Some((host, serde_json::to_string(&learned).ok()?)))
        .collect();
    open.client
        .run(|client| ledger::hosts::learn(client, schema, &learned))?;
    Ok(!discovery.stop.is_set())
}

/// Starts a task for each host, until the set is dropped; what they report comes with the number of
/// the host.
fn start_tasks(
    shared: &Arc<Tasks>,
    hosts: &[HostToList],
    runtime: &Runtime,
) -> (JoinSet<()>, mpsc::Receiver<(usize, Report)>) {
    let (reports, pages) = mpsc::channel(WAITING_PAGES);
    let mut tasks = JoinSet::new();
    for (number, host) in hosts.iter().cloned().enumerate() {
        shared.waiting.begin(&host.host);
        if let Some(learned) = host
            .learned
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
        {
            shared.turns.learn(&host.host, &learned);
        }
        let (shared, reports) = (Arc::clone(shared), reports.clone());
        let task = async move {
            let runner = shared.race.runner(&host.host);
            let end = tokio::select! {
                end = list(&shared, &host, number, runner, &reports) => end,
                () = shared.race.wait() => End::InPart {
                    why: "it took too long after all others had ended".to_owned(),
                    goes_on: true,
                },
                () = shared.stop.wait() => End::Stopped,
            };
            // Nobody listens any more only when all is broken off.
            drop(reports.send((number, Report::End(end))).await);
        };
        tasks.spawn_on(task, runtime.handle());
    }
    (tasks, pages)
}

/// Stores a page of a host; how many of its repos are new.
fn store_page(
    open: &mut OpenPass<'_>,
    schema: &str,
    host: &HostToList,
    page: Page<ListedRepo>,
) -> Result<u64, Failure> {
    let lines: Vec<Line> = page
        .lines
        .into_iter()
        .map(|line| listed(line, host))
        .collect();
    open.add_bad_lines(&host.host, page.bad);
    let changed = open.store(schema, &lines, |txn| match &page.cursor {
        Some(cursor) => listing::host_page(txn, schema, &host.host, cursor, lines.len() as u64),
        None => Ok(()),
    })?;
    ledger::failpoint::pass("page");
    Ok(changed.new)
}

/// Notes how the list of a host ended.
fn end_host(
    open: &mut OpenPass<'_>,
    schema: &str,
    host: &HostToList,
    end: &End,
) -> Result<(), Failure> {
    let why = end.why(host.goes_on);
    let end = match (end, &why) {
        (_, None) => ListingEnd::Whole,
        (End::InPart { goes_on: true, .. }, Some(why)) => ListingEnd::InPart(why),
        (_, Some(why)) => ListingEnd::Failed(why),
    };
    open.client
        .run(|client| listing::host_ended(client, schema, &host.host, end))?;
    open.waiting.end(&host.host);
    open.counts.hosts.add(1);
    open.counts.failed.add(u64::from(why.is_some()));
    Ok(())
}

impl End {
    /// Why the list is not whole; `had_begun` if the pass before listed the beginning.
    fn why(&self, had_begun: bool) -> Option<String> {
        match self {
            Self::Whole if had_begun => Some(
                "listed from where the last pass ended; the next pass lists all of it".to_owned(),
            ),
            Self::Whole | Self::Stopped => None,
            Self::InPart { why, .. } => Some(format!("listed in part: {why}")),
            Self::Failed(error) => Some(error.to_string()),
        }
    }
}

fn listed(line: ListedRepo, host: &HostToList) -> Line {
    Line {
        did: line.did,
        pds: Some((host.url.clone(), host.host.clone())),
        rev: line.rev,
        status: line.status.and_then(Inactive::parse),
        is_settled: false,
    }
}

/// Lists one host, from its cursor on.
async fn list(
    shared: &Tasks,
    host: &HostToList,
    number: usize,
    mut runner: Runner,
    reports: &mpsc::Sender<(usize, Report)>,
) -> End {
    let in_part = |why: &str, goes_on| End::InPart {
        why: why.to_owned(),
        goes_on,
    };
    let mut cursor = host.cursor.clone();
    let mut walk = Walk::new(Allowance::HOST, cursor.as_deref());
    let mut spot_checks = SPOT_CHECKS.into_iter().peekable();
    loop {
        shared.turns.expect(&host.host, 1);
        let page = match next_page(shared, host, cursor.as_deref(), &mut runner).await {
            Ok(page) => page,
            Err(FetchError::Stopped) => return End::Stopped,
            Err(error) => return End::Failed(error),
        };
        let lines = page.lines.len() as u64;
        runner.on_page(lines);
        let names = page.lines.iter().map(|line| line.did.as_str());
        let step = walk.page(names, page.cursor.clone(), runner.took());
        let is_due = spot_checks
            .next_if(|due| shared.new[number].load(Ordering::Relaxed) >= *due)
            .is_some();
        if is_due && are_made_up(shared, &page.lines).await {
            return in_part("most of the accounts that it lists do not exist", false);
        }
        if reports.send((number, Report::Page(page))).await.is_err() {
            return End::Stopped;
        }
        match step {
            Step::Next(after) => cursor = Some(after),
            Step::End => return End::Whole,
            Step::InPart(why) => return in_part(why, true),
            Step::Broken(why) => return in_part(why, false),
        }
    }
}

/// Whether most of some accounts of a page do not exist, as far as the directory says.
async fn are_made_up(shared: &Tasks, lines: &[ListedRepo]) -> bool {
    let plc: Vec<&str> = lines
        .iter()
        .filter(|line| line.status.is_none() && line.did.starts_with("did:plc:"))
        .map(|line| line.did.as_str())
        .collect();
    let (mut exist, mut answered) = (0, 0);
    for did in plc.iter().step_by((plc.len() / SPOT).max(1)).take(SPOT) {
        match shared.documents.resolve(did).await {
            Found::Document(_) => (exist, answered) = (exist + 1, answered + 1),
            Found::Gone | Found::Useless(_) | Found::Unsupported => answered += 1,
            Found::Unreachable(_) => {}
        }
    }
    answered > SPOT / 2 && exist * 3 < answered
}

/// One page, with the usual patience.
async fn next_page(
    shared: &Tasks,
    host: &HostToList,
    cursor: Option<&str>,
    runner: &mut Runner,
) -> Result<Page<ListedRepo>, FetchError> {
    let url = page_url(&host.url, "com.atproto.sync.listRepos", cursor, &[]);
    let small = SmallRequest {
        url: &url,
        accept: "application/json",
        host: None,
    };
    let policy = Policy {
        attempts: shared.attempts,
        pauses: Pauses::Turns,
    };
    let failures = runner.failures();
    let asked = retry::persist(
        policy,
        std::future::pending(),
        || async {
            // Before the repos that a load beside it waits for: else the host seems to list slowly.
            let mut turn = shared.turns.first_turn(&host.host).await?;
            let got = shared.http.get_small_seen(small, &mut turn.seen).await;
            turn.end(&got);
            lists::repos(&got?).map_err(|why| FetchError::BrokenBody(why.to_owned()))
        },
        |error, retry| {
            if !matches!(retry, Retry::Never | Retry::NeverHost(_)) {
                shared.waiting.fails(&host.host, error);
                failures.add();
            }
        },
    );
    let page = runner.wait_for(asked).await?;
    shared.waiting.answers(&host.host);
    Ok(page)
}
