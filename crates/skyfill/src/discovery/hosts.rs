//! Listing hosts: a task for each, at the pace of the host, page after page; the pages go to the thread that stores them.

use crate::discovery::relay::page_url;
use crate::discovery::{Listing, Scout, list_client, store};
use crate::exit::Failure;
use crate::fetch_args::OptOut;
use crate::signals::Stop;
use discover::lists::{self, ListedRepo, Page};
use fetch::retry::{self, Retry};
use fetch::turns::Turns;
use fetch::{Client as HttpClient, FetchError, Small};
use ledger::listing::{self, HostToList, Listed};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Pages that wait to be stored.
const WAITING_PAGES: usize = 32;
/// Most repos that are believed of one host; the fullest hold half a million.
const MOST_REPOS: u64 = 5_000_000;
/// So many pages may hold next to nothing; the rest has ten repos a page at least, or the list is not believed.
const THIN_PAGES: u64 = 1000;

/// What a task tells of its host.
enum Told {
    Page(Page<ListedRepo>),
    /// The list has come to its end, or why it has not.
    End(Option<String>),
}

/// What the tasks share.
struct Shared {
    http: HttpClient,
    turns: Turns,
    stop: Stop,
    attempts: u32,
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
        } = listing;
        let id = *id;
        let schema = &self.database.schema;
        let mut hosts = client.run(|client| listing::hosts_to_list(client, schema, id))?;
        for host in hosts.iter().filter(|host| opt_out.has_host(&host.host)) {
            let why = Some("it opted out");
            client.run(|client| listing::host_ended(client, schema, &host.host, why))?;
        }
        hosts.retain(|host| !opt_out.has_host(&host.host));
        let shared = Arc::new(Shared {
            http: list_client(self.fetch, self.caller, self.fetch.allow_private_hosts)?,
            turns: turns.clone(),
            stop: self.stop.clone(),
            attempts: self.fetch.max_attempts,
        });
        let (told, mut pages) = mpsc::channel::<(usize, Told)>(WAITING_PAGES);
        let mut tasks = JoinSet::new();
        for (number, host) in hosts.iter().cloned().enumerate() {
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
                    let end = list(&shared, &host, number, &told).await;
                    let why = match end {
                        Ok(()) => None,
                        Err(FetchError::Stopped) => return,
                        Err(error) => Some(error.to_string()),
                    };
                    // Nobody listens any more only when all is broken off.
                    drop(told.send((number, Told::End(why))).await);
                },
                self.runtime.handle(),
            );
        }
        drop(told);
        while let Some((number, told)) = pages.blocking_recv() {
            let Some(host) = hosts.get(number) else { continue };
            match told {
                Told::Page(page) => {
                    let lines: Vec<Listed> = page.lines.into_iter().map(|line| listed(line, host)).collect();
                    counts.listed.add(lines.len() as u64);
                    counts.bad.add(page.bad);
                    let changed = store(client, schema, id, &lines, |txn| match &page.cursor {
                        Some(cursor) => {
                            listing::host_page(txn, schema, &host.host, cursor, lines.len() as u64)
                        }
                        None => Ok(()),
                    })?;
                    ledger::failpoint::pass("page");
                    counts.add(changes, changed);
                }
                Told::End(why) => {
                    client.run(|client| listing::host_ended(client, schema, &host.host, why.as_deref()))?;
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
    told: &mpsc::Sender<(usize, Told)>,
) -> Result<(), FetchError> {
    let in_circles = |why: &str| FetchError::BrokenBody(why.to_owned());
    let mut cursor = host.cursor.clone();
    // Hashes do: cursors are the host's own and may be long.
    let hasher = RandomState::new();
    let mut seen: HashSet<u64> = cursor.iter().map(|cursor| hasher.hash_one(cursor)).collect();
    let (mut pages, mut repos) = (0u64, 0u64);
    loop {
        shared.turns.expect(&host.host, 1);
        let page = next_page(shared, host, cursor.as_deref()).await?;
        pages += 1;
        repos += page.lines.len() as u64;
        let after = page.cursor.clone();
        if told.send((number, Told::Page(page))).await.is_err() {
            return Err(FetchError::Stopped);
        }
        match after {
            None => return Ok(()),
            // Some say so that there is nothing after.
            Some(after) if cursor.as_ref() == Some(&after) => return Ok(()),
            Some(after) if !seen.insert(hasher.hash_one(&after)) => {
                return Err(in_circles("its list goes round in circles"));
            }
            Some(_) if pages > THIN_PAGES && repos < pages * 10 => {
                return Err(in_circles("its list has next to nothing on too many pages"));
            }
            Some(_) if repos >= MOST_REPOS => {
                return Err(in_circles("it lists more repos than a host can have"));
            }
            Some(after) => cursor = Some(after),
        }
    }
}

/// One page, with the usual patience.
async fn next_page(
    shared: &Shared,
    host: &HostToList,
    cursor: Option<&str>,
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
        let got = tokio::select! {
            got = asked => got,
            () = shared.stop.wait() => return Err(FetchError::Stopped),
        };
        let error = match got.map(|body| lists::repos(&body)) {
            Ok(Ok(page)) => return Ok(page),
            Ok(Err(why)) => FetchError::BrokenBody(why.to_owned()),
            Err(error) => error,
        };
        let wait = match retry::decide(&error, attempt, shared.attempts) {
            Retry::After(wait) => wait,
            // The next turn comes after that.
            Retry::AfterHost(_) => Duration::ZERO,
            Retry::Never | Retry::NeverHost(_) => return Err(error),
        };
        attempt += u32::from(!matches!(error, FetchError::RateLimited(_)));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.wait() => return Err(FetchError::Stopped),
        }
    }
}
