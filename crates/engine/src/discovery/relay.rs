//! Requests to relays: the position of their stream, their hosts, their repos.

use crate::discovery::context::{Discovery, OpenPass};
use crate::discovery::source::Source;
use discover::events::{self, Frame};
use discover::lists::{self, ListedRepo, Page};
use discover::walk::{Allowance, Step, Walk};
use fetch::hosts::host_of;
use fetch::retry::{self, Pauses, Policy};
use fetch::{Client as HttpClient, Events, FetchError, SmallRequest};
use ledger::identity::{cursor, set_cursor};
use ledger::listing::Line;
use ledger::states::Inactive;
use process::{Failure, Stop};
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a relay is only listened to until an event comes: a network that is alive has hundreds
/// a second.
const LIVE: Duration = Duration::from_millis(500);
/// How long a relay may take to find the place of a cursor.
const REPLAY: Duration = Duration::from_secs(30);
/// A stream that is replayed has ended when nothing comes for so long.
const QUIET: Duration = Duration::from_secs(1);
/// The error of a relay that drops a subscriber because it has not read fast enough: on a busy day
/// that may be one that has only just come. It subscribes again.
const TOO_SLOW: &str = "ConsumerTooSlow";
/// Longest time for a question about a stream, however much comes.
const LONGEST: Duration = Duration::from_secs(120);
/// Maximum number of events that are replayed to find the end.
const MOST_REPLAYED: u64 = 1_000_000;
/// Maximum number of events that are passed over because they are too large.
const MOST_SKIPPED: i64 = 100;
/// Maximum number of hosts that are believed of a relay; the network has some thousands.
const MOST_HOSTS: u64 = 100_000;
/// Attempts at a page.
const ATTEMPTS: u32 = 6;

/// What is asked of a relay's stream, unless that takes too long, or skyfill is stopped.
async fn bounded<T>(
    stop: &Stop,
    asked: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::select! {
        got = tokio::time::timeout(LONGEST, asked) => got.unwrap_or(Err(FetchError::Stalled(LONGEST))),
        () = stop.wait() => Err(FetchError::Stopped),
    }
}

/// The sequence number at which a relay's stream is now.
///
/// # Errors
/// See [`FetchError`].
pub(crate) async fn current_seq(
    http: &HttpClient,
    relay: &str,
    stop: &Stop,
) -> Result<i64, FetchError> {
    bounded(stop, unless_dropped(|| current_seq_once(http, relay))).await
}

/// What comes of `subscribe`, which is done again if the relay dropped the subscriber.
async fn unless_dropped<T, F>(subscribe: impl Fn() -> F) -> Result<T, FetchError>
where
    F: Future<Output = Result<T, FetchError>>,
{
    let mut attempt = 1;
    loop {
        match subscribe().await {
            Err(FetchError::Refused(_, name)) if name == TOO_SLOW && attempt < ATTEMPTS => {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn current_seq_once(http: &HttpClient, relay: &str) -> Result<i64, FetchError> {
    let mut live = http.subscribe(relay, None).await?;
    if let Some(seq) = next_seq(&mut live, LIVE).await? {
        return Ok(seq);
    }
    // Nothing happens: the last of what is kept is the newest, unless an event comes meanwhile.
    let comes = async {
        match next_seq(&mut live, LONGEST).await {
            Ok(Some(seq)) => seq,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        seq = comes => Ok(seq),
        last = last_kept_seq(http, relay) => last,
    }
}

/// The sequence number of the next event, unless none comes in time or the relay ends the stream.
async fn next_seq(stream: &mut Events, patience: Duration) -> Result<Option<i64>, FetchError> {
    while let Some(frame) = stream.next(patience).await? {
        match events::read(&frame) {
            Frame::Event(seq) => return Ok(Some(seq)),
            Frame::Refused(_) => return Ok(None),
            Frame::Outdated | Frame::Other => {}
        }
    }
    Ok(None)
}

/// The sequence number of the last event that a relay keeps; 0 if it keeps none.
async fn last_kept_seq(http: &HttpClient, relay: &str) -> Result<i64, FetchError> {
    let mut kept = http.subscribe(relay, Some(0)).await?;
    let (mut last, mut skipped) = (0, 0);
    for _ in 0..MOST_REPLAYED {
        let frame = match kept.next(QUIET).await {
            // What cannot be received is passed over.
            Err(_) if last > 0 && skipped < MOST_SKIPPED => {
                skipped += 1;
                kept = http.subscribe(relay, Some(last + skipped)).await?;
                continue;
            }
            frame => frame?,
        };
        match frame.map(|frame| events::read(&frame)) {
            Some(Frame::Event(seq)) => (last, skipped) = (last.max(seq), 0),
            Some(Frame::Refused(name)) if last == 0 => return Err(FetchError::Refused(0, name)),
            Some(Frame::Refused(_)) | None => break,
            Some(_) => {}
        }
    }
    Ok(last)
}

/// The sequence number of the oldest event that a relay has; nothing if none comes.
///
/// # Errors
/// See [`FetchError`].
pub(crate) async fn oldest_seq(
    http: &HttpClient,
    relay: &str,
    stop: &Stop,
) -> Result<Option<i64>, FetchError> {
    bounded(stop, unless_dropped(|| oldest_seq_once(http, relay))).await
}

async fn oldest_seq_once(http: &HttpClient, relay: &str) -> Result<Option<i64>, FetchError> {
    let mut kept = http.subscribe(relay, Some(0)).await?;
    loop {
        match kept.next(REPLAY).await?.map(|frame| events::read(&frame)) {
            Some(Frame::Event(seq)) => return Ok(Some(seq)),
            Some(Frame::Refused(name)) => return Err(FetchError::Refused(0, name)),
            Some(Frame::Outdated | Frame::Other) => {}
            None => return Ok(None),
        }
    }
}

/// Whether a relay still has all that came after `seq`.
///
/// # Errors
/// See [`FetchError`].
pub(crate) async fn keeps(
    http: &HttpClient,
    relay: &str,
    seq: i64,
    stop: &Stop,
) -> Result<bool, FetchError> {
    bounded(stop, unless_dropped(|| keeps_once(http, relay, seq))).await
}

async fn keeps_once(http: &HttpClient, relay: &str, seq: i64) -> Result<bool, FetchError> {
    // Not every relay says that a cursor is too old: the event itself has to come, as the first
    // one.
    let mut stream = http.subscribe(relay, Some((seq - 1).max(0))).await?;
    loop {
        match stream.next(REPLAY).await?.map(|frame| events::read(&frame)) {
            Some(Frame::Outdated) => return Ok(false),
            Some(Frame::Refused(name)) => return Err(FetchError::Refused(0, name)),
            Some(Frame::Event(first)) => return Ok(first <= seq.max(1)),
            Some(Frame::Other) => {}
            // Where nothing ever happened, nothing is forgotten.
            None if seq == 0 => return Ok(true),
            None => return Err(FetchError::Stalled(REPLAY)),
        }
    }
}

/// What a relay says of hosts.
pub(crate) enum Hosts {
    /// Names and URLs.
    Listed(Vec<(String, String)>),
    /// It does not know the question.
    NotKnown,
}

/// The hosts that the relay of a source knows, but for those that it bans; nothing if it was
/// stopped.
pub(crate) async fn hosts(
    http: &HttpClient,
    source: &Source,
    stop: &Stop,
) -> Result<Option<Hosts>, Failure> {
    let relay = source.relay();
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    let mut walk = Walk::new(
        Allowance {
            lines: MOST_HOSTS,
            ..Allowance::RELAY
        },
        None,
    );
    let started = Instant::now();
    loop {
        let url = page_url(relay, "com.atproto.sync.listHosts", cursor.as_deref(), &[]);
        let body = match get(http, &url, stop).await {
            Ok(body) => body,
            Err(FetchError::Stopped) => return Ok(None),
            Err(
                FetchError::Refused(400 | 401 | 403 | 404 | 501, _) | FetchError::Server(501, _),
            ) if cursor.is_none() => {
                return Ok(Some(Hosts::NotKnown));
            }
            Err(error) => return Err(away(source, &error)),
        };
        let page = lists::hosts(&body)
            .map_err(|why| away(source, &FetchError::BrokenBody(why.to_owned())))?;
        let names = page.lines.iter().map(|host| host.url.as_str());
        let step = walk.page(names, page.cursor, started.elapsed());
        let good = page
            .lines
            .into_iter()
            .filter(|host| host.status.as_deref() != Some("banned"));
        found.extend(good.map(|host| (host_of(&host.url), host.url)));
        match step {
            Step::Next(next) => cursor = Some(next),
            Step::End => return Ok(Some(Hosts::Listed(found))),
            Step::InPart(why) | Step::Broken(why) => {
                return Err(away(source, &FetchError::BrokenBody(why.to_owned())));
            }
        }
    }
}

/// Why a relay gives no list. A mistyped one is stored as well, and named by each later command.
fn away(source: &Source, error: &FetchError) -> Failure {
    let relay = source.relay();
    match source.relay_is_stored {
        true => Failure::new(format!(
            "the relay {relay}, which an earlier command named: {error}"
        ))
        .hint("--relay URL names another one in its place; what was found is stored"),
        false => Failure::new(format!("the relay {relay}: {error}"))
            .hint("name another relay with --relay, or hosts with --pds; what was found is stored"),
    }
}

/// The URL of a page.
pub(crate) fn page_url(
    base: &str,
    method: &str,
    cursor: Option<&str>,
    more: &[(&str, &str)],
) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &lists::PAGE.to_string());
    for (name, value) in more {
        query.append_pair(name, value);
    }
    if let Some(cursor) = cursor {
        query.append_pair("cursor", cursor);
    }
    format!("{base}/xrpc/{method}?{}", query.finish())
}

/// A page, with the usual patience.
pub(crate) async fn get(http: &HttpClient, url: &str, stop: &Stop) -> Result<Vec<u8>, FetchError> {
    let small = SmallRequest {
        url,
        accept: "application/json",
        host: None,
    };
    let policy = Policy {
        attempts: ATTEMPTS,
        pauses: Pauses::Here,
    };
    let got = retry::persist(
        policy,
        std::future::pending(),
        || http.get_small(small),
        |_, _| {},
    );
    retry::unless_stopped(stop.wait(), got).await
}

/// Whether a server that lists no hosts is a PDS.
pub(crate) fn is_pds(discovery: &Discovery<'_>, http: &HttpClient, url: &str) -> bool {
    let url = format!("{url}/xrpc/com.atproto.server.describeServer");
    discovery
        .runtime
        .block_on(get(http, &url, discovery.stop))
        .is_ok()
}

/// A page of a list of the relay that does not say where repos are.
fn read_page(body: &[u8], by_collection: bool) -> Result<Page<Line>, &'static str> {
    if by_collection {
        let page = lists::dids(body)?;
        let listed = |did| Line {
            did,
            ..Line::default()
        };
        return Ok(Page {
            cursor: page.cursor,
            bad: page.bad,
            lines: page.lines.into_iter().map(listed).collect(),
        });
    }
    let page = lists::repos(body)?;
    let listed = |line: ListedRepo| Line {
        did: line.did,
        rev: line.rev,
        status: line.status.and_then(Inactive::parse),
        ..Line::default()
    };
    Ok(Page {
        cursor: page.cursor,
        bad: page.bad,
        lines: page.lines.into_iter().map(listed).collect(),
    })
}

/// Reads the relay's list of repos, or that of the repos with records of a collection. It does not
/// say where they are. False if it was stopped.
pub(crate) fn list_repos(
    discovery: &Discovery<'_>,
    http: &HttpClient,
    collection: Option<&str>,
    open: &mut OpenPass<'_>,
) -> Result<bool, Failure> {
    let (schema, relay) = (&discovery.database.schema, discovery.source.relay());
    let method = match collection {
        None => "com.atproto.sync.listRepos",
        Some(_) => "com.atproto.sync.listReposByCollection",
    };
    let more = collection.map(|collection| ("collection", collection));
    let name = format!(
        "pass {} {method} {}",
        open.id,
        collection.unwrap_or_default()
    );
    let mut next = open.client.run(|client| cursor(client, &name))?;
    if next.as_deref() == Some("") {
        // It was read to its end before the pass was stopped.
        return Ok(true);
    }
    let mut walk = Walk::new(Allowance::RELAY, next.as_deref());
    let started = Instant::now();
    loop {
        let url = page_url(relay, method, next.as_deref(), more.as_slice());
        let body = match discovery.runtime.block_on(get(http, &url, discovery.stop)) {
            Ok(body) => body,
            Err(FetchError::Stopped) => return Ok(false),
            Err(error) => return Err(away(discovery.source, &error)),
        };
        let no_page = |why: &str| away(discovery.source, &FetchError::BrokenBody(why.to_owned()));
        let page = read_page(&body, collection.is_some()).map_err(no_page)?;
        open.add_bad_lines(relay, page.bad);
        let names = page.lines.iter().map(|line| line.did.as_str());
        let step = walk.page(names, page.cursor.clone(), started.elapsed());
        open.store(schema, &page.lines, |txn| {
            set_cursor(txn, &name, page.cursor.as_deref().unwrap_or_default())
        })?;
        match step {
            Step::Next(after) => next = Some(after),
            Step::End => return Ok(true),
            Step::InPart(why) | Step::Broken(why) => return Err(no_page(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_did_not_name_the_relay_is_told_who_did() {
        let mut source = Source {
            relay: Some("https://exmaple.invalid".to_owned()),
            ..Source::default()
        };
        let of_this_command = away(&source, &FetchError::Stopped);
        source.relay_is_stored = true;
        let of_an_earlier_one = away(&source, &FetchError::Stopped);
        for (failure, is_told) in [(of_this_command, false), (of_an_earlier_one, true)] {
            let message = failure.message();
            assert!(message.contains("https://exmaple.invalid"), "{message}");
            assert_eq!(message.contains("an earlier command"), is_told, "{message}");
        }
    }
}
