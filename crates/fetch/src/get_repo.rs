//! One attempt at `com.atproto.sync.getRepo`.

use crate::body::{Body, Incoming, MEMORY_BYTES};
use crate::encoding::{self, ACCEPTED, Encoding};
use crate::error::{AccountState, FetchError};
use crate::get_small::Small;
use crate::guard::{self, Blocked, OwnResolver, Private};
use crate::hosts::host_of;
use crate::schedule::Seen;
use crate::schedule::pace::Announced;
use crate::spool::Spool;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// The limits of one request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum time from the request to the last byte.
    pub total: Duration,
    /// Maximum time until the first piece of the body, and between two pieces.
    pub stall: Duration,
    /// Maximum size of the body after decompression, in bytes.
    pub bytes: u64,
    /// Hosts that may be on private networks and on this machine.
    pub private: Private,
    /// Which redirects are followed.
    pub redirects: Redirects,
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// None: each request counts against the pace of its host.
    Never,
    /// All, up to a few.
    Any,
}

/// Largest response of `getLatestCommit`, in bytes.
const MAX_LATEST: u64 = 64 << 10;
/// Maximum number of redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Maximum size of an error's body that is read.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Maximum size of an error's body after decompression.
const MAX_ERROR_UNPACKED: u64 = 64 << 10;
/// Idle connections per host that are kept for later requests.
const IDLE_CONNECTIONS: usize = 8;
/// Bytes that a host may send over HTTP/2 before they are read: per response, and per connection.
const HTTP2_WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
/// Maximum size of the headers of a response over HTTP/2.
const HTTP2_HEADERS: u32 = 64 << 10;
/// Size up to which a body is decompressed in place. Larger ones go to a thread, where they hold up
/// nobody.
const UNPACKED_HERE: usize = 16 << 10;
/// Pieces after which the pages of a compressed body in a file are released.
const LET_GO_PIECES: u32 = 64;
/// Default for the number of bodies that are decompressed concurrently.
const DECODERS: usize = 2;

/// A client for PDSes that keeps connections.
pub struct Client {
    /// For public addresses.
    guarded: reqwest::Client,
    /// For hosts that may be anywhere.
    open: reqwest::Client,
    pub(crate) limits: Limits,
    most_memory: usize,
    spool: Spool,
    /// One permit per body that is being decompressed.
    decoders: Arc<Semaphore>,
}

/// The newest commit of a repo, according to its host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// Its rev.
    pub rev: String,
    /// Its CID.
    pub cid: String,
}

impl Client {
    /// A client with this `user_agent`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(user_agent: &str, limits: Limits) -> Result<Self, FetchError> {
        Self::build(user_agent, limits, false)
    }

    /// A client that can also open streams: only HTTP/1.1 can change the protocol.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn for_streams(user_agent: &str, limits: Limits) -> Result<Self, FetchError> {
        Self::build(user_agent, limits, true)
    }

    fn build(user_agent: &str, limits: Limits, http1_only: bool) -> Result<Self, FetchError> {
        // On a second call the provider is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = |guarded: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(user_agent)
                .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED))]))
                .http2_initial_stream_window_size(HTTP2_WINDOWS.0)
                .http2_initial_connection_window_size(HTTP2_WINDOWS.1)
                .http2_max_header_list_size(HTTP2_HEADERS)
                // A proxy would resolve names itself, past the guard.
                .no_proxy()
                .connect_timeout(limits.stall)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                // `send` follows redirects, so that each URL is checked.
                .redirect(redirect::Policy::none())
                .dns_resolver(Arc::new(OwnResolver { guarded }));
            if http1_only {
                builder = builder.http1_only();
            }
            builder
                .build()
                .map_err(|error| FetchError::Connect(chain(&error)))
        };
        let spool = Spool::open(&std::env::temp_dir(), None)
            .map_err(|error| FetchError::Spool(error.to_string()))?;
        Ok(Self {
            guarded: client(true)?,
            open: client(false)?,
            limits,
            most_memory: MEMORY_BYTES,
            spool,
            decoders: Arc::new(Semaphore::new(DECODERS)),
        })
    }

    /// The client for `url`, if requests to it are allowed.
    pub(crate) fn for_url(&self, url: &Url) -> Result<&reqwest::Client, FetchError> {
        self.limits.private.check_form(url)?;
        if self.limits.private.allows(url) {
            return Ok(&self.open);
        }
        guard::check_literal(url).map_err(|blocked| FetchError::Blocked(blocked.0))?;
        Ok(&self.guarded)
    }

    /// Sends the request that `with` makes for `url`, and follows redirects as far as the limits
    /// allow.
    pub(crate) async fn send(
        &self,
        mut url: Url,
        with: impl Fn(RequestBuilder, &Url) -> RequestBuilder,
    ) -> Result<Response, FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            let request = with(self.for_url(&url)?.get(url.clone()), &url);
            let response = request.send().await.map_err(|error| judge(&error))?;
            let Some(place) = place_of_redirect(&url, &response) else {
                return Ok(response);
            };
            if self.limits.redirects == Redirects::Never {
                return Err(FetchError::Redirect("it redirects".to_owned()));
            }
            if !matches!(place.scheme(), "http" | "https") {
                let scheme = guard::shown(place.scheme());
                return Err(FetchError::Redirect(format!("to a URL of scheme {scheme}")));
            }
            url = place;
        }
        Err(FetchError::Redirect("too many redirects".to_owned()))
    }

    /// Keeps bodies of up to `most_memory` bytes in memory.
    #[must_use]
    pub fn with_memory(mut self, most_memory: usize) -> Self {
        self.most_memory = most_memory;
        self
    }

    /// Keeps larger bodies in `spool` instead of the system's temporary folder.
    #[must_use]
    pub fn with_spool(mut self, spool: Spool) -> Self {
        self.spool = spool;
        self
    }

    /// Decompresses up to `decoders` bodies concurrently, each of which uses up to 16 MiB of
    /// memory.
    #[must_use]
    pub fn with_decoders(mut self, decoders: usize) -> Self {
        self.decoders = Arc::new(Semaphore::new(decoders));
        self
    }

    /// Requests rev and CID of the newest commit of `did` from `pds`, once
    /// (`com.atproto.sync.getLatestCommit`).
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn latest_commit(
        &self,
        did: &str,
        pds: &str,
        seen: &mut Seen,
    ) -> Result<Latest, FetchError> {
        let mut url = repo_url(did, pds)?;
        url.set_path("/xrpc/com.atproto.sync.getLatestCommit");
        let small = Small {
            url: url.as_str(),
            accept: "application/json",
            host: None,
        };
        let body = self.get_small_within(small, seen, MAX_LATEST).await?;
        serde_json::from_slice(&body)
            .map_err(|_| FetchError::BrokenBody("no commit in it".to_owned()))
    }

    /// Requests the repo of `did` from `pds`, once.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_repo(
        &self,
        did: &str,
        pds: &str,
        seen: &mut Seen,
    ) -> Result<Body, FetchError> {
        let url = repo_url(did, pds)?;
        let total = self.limits.total;
        tokio::time::timeout(total, self.attempt(url, &host_of(pds), seen))
            .await
            .unwrap_or(Err(FetchError::TooSlow(total)))
    }

    async fn attempt(&self, url: Url, host: &str, seen: &mut Seen) -> Result<Body, FetchError> {
        let stalled = || FetchError::Stalled(self.limits.stall);
        let asked = Instant::now();
        let request = self.send(url, |request, _| {
            request.header("accept", "application/vnd.ipld.car")
        });
        let response = tokio::time::timeout(self.limits.stall, request)
            .await
            .map_err(|_| stalled())??;
        look(seen, &response, asked);
        let mut response = match response.status() {
            StatusCode::OK => response,
            status => return Err(self.refusal(status, response).await),
        };
        let limit = self.limits.bytes;
        if response
            .content_length()
            .is_some_and(|length| length > limit)
        {
            return Err(FetchError::TooLarge(limit));
        }
        let encoding = Encoding::of(response.headers())?;
        let mut body = Incoming::new(self.most_memory, &self.spool, host);
        let mut steady = Steady::new(self.limits.stall);
        loop {
            let chunk = tokio::time::timeout(self.limits.stall, response.chunk())
                .await
                .map_err(|_| stalled())?;
            let Some(chunk) = chunk.map_err(|error| FetchError::BrokenBody(chain(&error)))? else {
                break;
            };
            if body.total().saturating_add(chunk.len() as u64) > limit {
                return Err(FetchError::TooLarge(limit));
            }
            if !steady.on_received(chunk.len()) {
                return Err(stalled());
            }
            body.push(&chunk)
                .map_err(|error| FetchError::Spool(error.to_string()))?;
        }
        let body = body
            .finish()
            .map_err(|error| FetchError::Spool(error.to_string()))?;
        match encoding {
            Encoding::Plain => Ok(body),
            _ => self.unpack(encoding, body, host).await,
        }
    }

    /// Decompresses a complete body, on a thread if it is large.
    async fn unpack(
        &self,
        encoding: Encoding,
        packed: Body,
        host: &str,
    ) -> Result<Body, FetchError> {
        let (most, most_memory) = (self.limits.bytes, self.most_memory);
        let (spool, host) = (self.spool.clone(), host.to_owned());
        let is_small = packed.len() <= UNPACKED_HERE;
        let unpack = move |abandoned: &AtomicBool| {
            let no_room = |error: std::io::Error| FetchError::Spool(error.to_string());
            let mut body = Incoming::new(most_memory, &spool, &host);
            let mut pieces = 0u32;
            encoding::unpack(encoding, &packed, most, |piece| {
                if abandoned.load(Ordering::Relaxed) {
                    return Err(FetchError::Stopped);
                }
                pieces = pieces.wrapping_add(1);
                if pieces.is_multiple_of(LET_GO_PIECES) {
                    packed.let_go();
                }
                body.push(piece).map_err(no_room)
            })?;
            body.finish().map_err(no_room)
        };
        if is_small {
            return unpack(&AtomicBool::new(false));
        }
        let decoder = Arc::clone(&self.decoders).acquire_owned();
        let decoder = decoder.await.map_err(|_| FetchError::Stopped)?;
        let abandoned = Abandoned::default();
        let is_abandoned = Arc::clone(&abandoned.0);
        let unpacked = tokio::task::spawn_blocking(move || {
            let _decoder = decoder;
            unpack(&is_abandoned)
        });
        unpacked
            .await
            .unwrap_or_else(|_| Err(FetchError::BrokenBody("decompressing it failed".to_owned())))
    }

    /// The error for a status other than 200.
    pub(crate) async fn refusal(&self, status: StatusCode, mut response: Response) -> FetchError {
        let wait = wait_asked_for(response.headers(), SystemTime::now());
        let retry_after = wait.filter(|_| response.headers().contains_key("retry-after"));
        if status == StatusCode::TOO_MANY_REQUESTS {
            return FetchError::RateLimited(wait);
        }
        let encoding = Encoding::of(response.headers());
        let mut text = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                text.extend_from_slice(&chunk);
                if text.len() > MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        // Whatever arrived until then is enough.
        drop(tokio::time::timeout(self.limits.stall, read).await);
        let name = encoding
            .and_then(|encoding| encoding::unpack_small(encoding, text, MAX_ERROR_UNPACKED))
            .ok()
            .and_then(|text| serde_json::from_slice::<XrpcError>(&text).ok())
            .map(|error| error.error)
            .unwrap_or_default();
        if let Some(state) = AccountState::of_error(&name) {
            return FetchError::Account(state);
        }
        if status.is_redirection() {
            return FetchError::Redirect(format!("status {} without a location", status.as_u16()));
        }
        if status.is_server_error() {
            // The reset of a limit does not apply to an error of the server.
            return FetchError::Server(status.as_u16(), retry_after);
        }
        FetchError::Refused(status.as_u16(), name.chars().take(60).collect())
    }
}

/// Set when nobody waits for the work any more.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Minimum number of bytes within the stall timeout; a body that delivers less counts as stalled.
const LEAST_BYTES: usize = 2048;

/// Whether a body arrives steadily.
pub(crate) struct Steady {
    span: Duration,
    since: Instant,
    bytes: usize,
}

impl Steady {
    pub(crate) fn new(span: Duration) -> Self {
        Self {
            span,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Counts `bytes` that arrived; false if the body is too slow.
    pub(crate) fn on_received(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.since.elapsed() < self.span {
            return true;
        }
        let enough = self.bytes >= LEAST_BYTES;
        self.since = Instant::now();
        self.bytes = 0;
        enough
    }
}

/// Records what a response shows apart from its body.
pub(crate) fn look(seen: &mut Seen, response: &Response, asked: Instant) {
    seen.first_byte = Some(asked.elapsed());
    seen.at = Some(Instant::now());
    seen.announced = announced(response.headers(), SystemTime::now());
}

/// The limit that the headers announce: `RateLimit-Limit`, `-Remaining`, `-Reset` and `-Policy` as
/// PDSes send them (`packages/xrpc-server/src/rate-limiter.ts`).
fn announced(headers: &HeaderMap, now: SystemTime) -> Option<Announced> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let limit = u32::try_from(number("ratelimit-limit")?).ok()?;
    let window = text("ratelimit-policy").and_then(|policy| {
        let window = policy
            .split(';')
            .find_map(|part| part.trim().strip_prefix("w="))?;
        Some(Duration::from_secs(window.parse().ok()?))
    });
    Some(Announced {
        limit,
        window,
        remaining: number("ratelimit-remaining")
            .map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
        reset_in: until_reset(headers, now),
    })
}

/// The server's time if it sends it, else ours.
fn server_time(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    date.and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(now)
}

/// A smaller number is not a present unix time, but seconds from now, as later drafts of the
/// headers define it.
const FIRST_UNIX_SECOND: u64 = 1_000_000_000;

/// Time until `RateLimit-Reset`, which PDSes send in unix seconds.
fn until_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let seconds: u64 = headers
        .get("ratelimit-reset")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // A reset in the past still means that the next request must wait.
    let least = Duration::from_secs(1);
    if seconds < FIRST_UNIX_SECOND {
        return Some(Duration::from_secs(seconds).max(least));
    }
    let reset = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(
        reset
            .duration_since(server_time(headers, now))
            .unwrap_or_default()
            .max(least),
    )
}

/// The target of a redirect, if the response is one.
fn place_of_redirect(url: &Url, response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let place = response.headers().get("location")?.to_str().ok()?;
    url.join(place).ok()
}

#[derive(Deserialize)]
struct XrpcError {
    error: String,
}

fn repo_url(did: &str, pds: &str) -> Result<Url, FetchError> {
    let mut url = Url::parse(pds).map_err(|_| FetchError::BadUrl(guard::shown(pds)))?;
    Private::default().check_form(&url)?;
    url.set_path("/xrpc/com.atproto.sync.getRepo");
    url.set_fragment(None);
    url.query_pairs_mut().clear().append_pair("did", did);
    Ok(url)
}

/// `Retry-After`, in seconds or as a date, or the time until `RateLimit-Reset`.
fn wait_asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let after = headers
        .get("retry-after")
        .and_then(|after| after.to_str().ok())
        .map(str::trim);
    let least = Duration::from_secs(1);
    if let Some(seconds) = after.and_then(|after| after.parse().ok()) {
        return Some(Duration::from_secs(seconds).max(least));
    }
    if let Some(date) = after.and_then(|after| httpdate::parse_http_date(after).ok()) {
        return Some(
            date.duration_since(server_time(headers, now))
                .unwrap_or_default()
                .max(least),
        );
    }
    until_reset(headers, now)
}

/// The kind of an error of the HTTP client before a body arrived.
pub(crate) fn judge(error: &reqwest::Error) -> FetchError {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(blocked) = inner.downcast_ref::<Blocked>() {
            return FetchError::Blocked(blocked.0.clone());
        }
        source = inner.source();
    }
    if error.is_redirect() {
        return FetchError::Redirect(chain(error));
    }
    FetchError::Connect(chain(error))
}

/// An error and its causes in one line, without the URL, whose DID the caller knows.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source: Option<&dyn Error> = error.source();
    while let Some(inner) = source {
        let part = inner.to_string();
        if !text.contains(&part) {
            text = if text.is_empty() {
                part
            } else {
                format!("{text}: {part}")
            };
        }
        source = inner.source();
    }
    if text.is_empty() {
        "no response".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_from_both_headers() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let wait = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            wait_asked_for(&headers, now).map(|d| d.as_secs())
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(7));
        assert_eq!(wait(&[("ratelimit-reset", "1700000042")]), Some(42));
        assert_eq!(wait(&[("ratelimit-reset", "1699999999")]), Some(1));
        assert_eq!(wait(&[("ratelimit-reset", "60")]), Some(60));
        assert_eq!(wait(&[("ratelimit-reset", "18446744073709551615")]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(
            wait(&[("retry-after", "Tue, 14 Nov 2023 22:13:40 GMT")]),
            Some(20)
        );
        // By the server's clock, which is an hour ahead.
        let ahead = [
            ("date", "Tue, 14 Nov 2023 23:13:20 GMT"),
            ("ratelimit-reset", "1700003620"),
        ];
        assert_eq!(wait(&ahead), Some(20));
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn urls_are_made_of_http_hosts_only() {
        assert_eq!(
            repo_url("did:plc:a", "https://pds.example/x?y#z")
                .unwrap()
                .as_str(),
            "https://pds.example/xrpc/com.atproto.sync.getRepo?did=did%3Aplc%3Aa"
        );
        for bad in [
            "",
            "pds.example",
            "file:///etc/passwd",
            "unix:/x",
            "ftp://x",
            "https://me@pds.example",
            "https://:pw@pds.example",
        ] {
            assert!(
                matches!(repo_url("did:plc:a", bad), Err(FetchError::BadUrl(_))),
                "{bad}"
            );
        }
    }
}
