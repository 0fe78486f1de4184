//! Listing hosts: a task for each, at the pace of the host, page after page; the pages go to the
//! thread that stores them.
//!
//! A host lists as long as what it lists is worth the time ([`discover::walk`]), others are still
//! being listed ([`race`]), and most of the new accounts exist, as far as the directory was asked.
//! What it listed until then is kept and loaded; the host is noted as listed in part.

use crate::discovery::race::{Race, Runner};
use crate::discovery::relay::page_url;
use crate::discovery::{Listing, Scout, list_client, store};
use crate::fetch_args;
use discover::lists::{self, ListedRepo, Page};
use discover::walk::{Allowance, Step, Walk};
use fetch::retry::{self, Retry};
use fetch::turns::Turns;
use fetch::{Client as HttpClient, FetchError, OptOut, Small};
use identity::resolve::{Found, Resolver};
use ledger::listing::{self, HostToList, Listed, Listing as ListingEnd};
use observe::Waiting;
use process::Failure;
use process::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Pages that wait to be stored.
const WAITING_PAGES: usize = 32;
/// When so many accounts of a host are new, the directory is asked whether a few of them exist.
const SPOT_CHECKS: [u64; 2] = [20_000, 200_000];
/// So many are asked for; if most of them answer, and less than a third of those exist, the host
/// makes them up.
const SPOT: usize = 10;
/// Looks at who is still waited for come at least this often.
const LOOK: Duration = Duration::from_millis(200);

/// What a task tells of its host.
enum Told {
    Page(Page<ListedRepo>),
    End(End),
}

/// How the list of a host ended.
enum End {
    Whole,
    /// There is more; whether the next pass should go on where this one ended.
    InPart {
        why: String,
        goes_on: bool,
    },
    Failed(FetchError),
    Stopped,
}

/// What the tasks share.
struct Shared {
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

impl Scout<'_> {
    /// Lists all hosts of a pass. False if it was told to stop.
    pub(super) fn list_hosts(
        &self,
        turns: &Turns,
        opt_out: &OptOut,
        listing: &mut Listing<'_>,
    ) -> Result<bool, Failure> {
        let Listing {
            id,
            client,
            counts,
            changes,
            bad_lines,
            waiting,
        } = listing;
        let id = *id;
        let schema = &self.database.schema;
        let mut hosts = client.run(|client| listing::hosts_to_list(client, schema, id))?;
        for host in hosts.iter().filter(|host| opt_out.has_host(&host.host)) {
            let end = ListingEnd::Failed(listing::OPTED_OUT);
            client.run(|client| listing::host_ended(client, schema, &host.host, end))?;
        }
        hosts.retain(|host| !opt_out.has_host(&host.host));
        let shared = Arc::new(Shared {
            http: list_client(self.fetch, self.caller)?,
            turns: turns.clone(),
            stop: self.stop.clone(),
            attempts: self.fetch.max_attempts,
            race: Race::new(Duration::from_secs(self.source.straggler_grace)),
            documents: fetch_args::documents(
                self.directory,
                self.caller,
                self.fetch.allow_private_hosts,
                self.fetch.max_attempts,
            )?,
            new: hosts.iter().map(|_| AtomicU64::new(0)).collect(),
            waiting: waiting.clone(),
        });
        let (told, mut pages) = mpsc::channel::<(usize, Told)>(WAITING_PAGES);
        let mut tasks = JoinSet::new();
        for (number, host) in hosts.iter().cloned().enumerate() {
            waiting.begin(&host.host);
            if let Some(learned) = host
                .learned
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                turns.learn(&host.host, &learned);
            }
            let (shared, told) = (Arc::clone(&shared), told.clone());
            tasks.spawn_on(
                async move {
                    let runner = shared.race.runner(&host.host);
                    let end = tokio::select! {
                        end = list(&shared, &host, number, runner, &told) => end,
                        () = shared.race.is_over() => End::InPart {
                            why: "all others had ended, and it took too long after that".to_owned(),
                            goes_on: true,
                        },
                        () = shared.stop.wait() => End::Stopped,
                    };
                    // Nobody listens any more only when all is broken off.
                    drop(told.send((number, Told::End(end))).await);
                },
                self.runtime.handle(),
            );
        }
        drop(told);
        loop {
            let next = async { tokio::time::timeout(LOOK, pages.recv()).await };
            let next = self.runtime.block_on(next);
            shared.race.look();
            let (number, told) = match next {
                Ok(Some(told)) => told,
                Ok(None) => break,
                Err(_) => continue,
            };
            let Some(host) = hosts.get(number) else {
                continue;
            };
            match told {
                Told::Page(page) => {
                    let lines: Vec<Listed> = page
                        .lines
                        .into_iter()
                        .map(|line| listed(line, host))
                        .collect();
                    counts.listed.add(lines.len() as u64);
                    counts.bad.add(page.bad);
                    if page.bad > 0 {
                        *bad_lines.entry(host.host.clone()).or_default() += page.bad;
                    }
                    let changed = store(client, schema, id, &lines, |txn| match &page.cursor {
                        Some(cursor) => {
                            listing::host_page(txn, schema, &host.host, cursor, lines.len() as u64)
                        }
                        None => Ok(()),
                    })?;
                    ledger::failpoint::pass("page");
                    shared.new[number].fetch_add(changed.new, Ordering::Relaxed);
                    counts.add(changes, changed);
                }
                Told::End(End::Stopped) => {}
                Told::End(end) => {
                    let why = end.why(host.goes_on);
                    let end = match (&end, &why) {
                        (_, None) => ListingEnd::Whole,
                        (End::InPart { goes_on: true, .. }, Some(why)) => ListingEnd::InPart(why),
                        (_, Some(why)) => ListingEnd::Failed(why),
                    };
                    client.run(|client| listing::host_ended(client, schema, &host.host, end))?;
                    waiting.end(&host.host);
                    counts.hosts.add(1);
                    counts.failed.add(u64::from(why.is_some()));
                }
            }
        }
        let learned: Vec<(String, String)> = turns
            .learned()
            .into_iter()
            .filter_map(|(host, learned)| Some((host, serde_json::to_string(&learned).ok()?)))
            .collect();
        client.run(|client| ledger::hosts::learn(client, schema, &learned))?;
        Ok(!self.stop.is_set())
    }
}

impl End {
    /// Why the list is not whole; `had_begun` if the pass before listed the beginning.
    fn why(&self, had_begun: bool) -> Option<String> {
        match self {
            Self::Whole if had_begun => Some(
                "listed from where the last pass had ended; the next one lists all of it"
                    .to_owned(),
            ),
            Self::Whole | Self::Stopped => None,
            Self::InPart { why, .. } => Some(format!("listed in part: {why}")),
            Self::Failed(error) => Some(error.to_string()),
        }
    }
}

fn listed(line: ListedRepo, host: &HostToList) -> Listed {
    Listed {
        did: line.did,
        pds: Some((host.url.clone(), host.host.clone())),
        rev: line.rev,
        status: line.status.map(str::to_owned),
        is_settled: false,
    }
}

/// Lists one host, from its cursor on.
async fn list(
    shared: &Shared,
    host: &HostToList,
    number: usize,
    mut runner: Runner,
    told: &mpsc::Sender<(usize, Told)>,
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
        runner.came(lines);
        let names = page.lines.iter().map(|line| line.did.as_str());
        let step = walk.page(names, page.cursor.clone(), runner.took());
        let is_due = spot_checks
            .next_if(|due| shared.new[number].load(Ordering::Relaxed) >= *due)
            .is_some();
        if is_due && are_made_up(shared, &page.lines).await {
            return in_part("most of the accounts that it lists do not exist", false);
        }
        if told.send((number, Told::Page(page))).await.is_err() {
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
async fn are_made_up(shared: &Shared, lines: &[ListedRepo]) -> bool {
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
    shared: &Shared,
    host: &HostToList,
    cursor: Option<&str>,
    runner: &mut Runner,
) -> Result<Page<ListedRepo>, FetchError> {
    let url = page_url(&host.url, "com.atproto.sync.listRepos", cursor, &[]);
    let small = Small {
        url: &url,
        accept: "application/json",
        host: None,
    };
    let mut attempt = 1;
    loop {
        let asked = async {
            let mut turn = shared.turns.turn(&host.host).await?;
            let got = shared.http.get_small_seen(small, &mut turn.seen).await;
            turn.end(&got);
            got
        };
        let got = runner.wait_for(asked).await;
        let error = match got.map(|body| lists::repos(&body)) {
            Ok(Ok(page)) => {
                shared.waiting.answers(&host.host);
                return Ok(page);
            }
            Ok(Err(why)) => FetchError::BrokenBody(why.to_owned()),
            Err(error) => error,
        };
        let wait = match retry::decide(&error, attempt, shared.attempts) {
            Retry::After(wait) => wait,
            // The next turn comes after that.
            Retry::AfterHost(_) => Duration::ZERO,
            Retry::Never | Retry::NeverHost(_) => return Err(error),
        };
        shared.waiting.fails(&host.host, &error);
        attempt += u32::from(!matches!(error, FetchError::RateLimited(_)));
        runner.failed();
        runner.wait_for(tokio::time::sleep(wait)).await;
    }
}
