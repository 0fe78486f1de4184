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

/// What a repo may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the request to the last byte.
    pub total: Duration,
    /// Between two pieces of the body, and until the first.
    pub stall: Duration,
    /// Size of the body after decompression, in bytes.
    pub bytes: u64,
    /// Which hosts may lie on private networks and on this machine.
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

/// Largest answer of `getLatestCommit`, in bytes.
const MAX_LATEST: u64 = 64 << 10;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Most bytes of an error's body after decompression.
const MAX_ERROR_UNPACKED: u64 = 64 << 10;
/// Connections to a host that are kept for the next request.
const IDLE_CONNECTIONS: usize = 8;
/// What a host may send over HTTP/2 before it is read: of an answer, and of all answers on a
/// connection.
const HTTP2_WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
/// Most bytes of the headers of an answer over HTTP/2.
const HTTP2_HEADERS: u32 = 64 << 10;
/// Bodies of up to so many bytes are unpacked at once. Larger ones go to a thread where that holds
/// up nobody.
const UNPACKED_HERE: usize = 16 << 10;
/// Pages of a packed body in a file are let go of after so many pieces.
const LET_GO_PIECES: u32 = 64;
/// Bodies that are unpacked at once, unless the client was told otherwise.
const DECODERS: usize = 2;

/// Asks PDSes for repos, keeping connections.
pub struct Client {
    /// For public addresses.
    guarded: reqwest::Client,
    /// For hosts that may lie anywhere.
    open: reqwest::Client,
    pub(crate) limits: Limits,
    most_memory: usize,
    spool: Spool,
    /// One for each body that is unpacked.
    decoders: Arc<Semaphore>,
}

/// The newest commit of a repo, as its host has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// Its rev.
    pub rev: String,
    /// Its CID.
    pub cid: String,
}

impl Client {
    /// A client that calls itself `user_agent`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(user_agent: &str, limits: Limits) -> Result<Self, FetchError> {
        Self::build(user_agent, limits, false)
    }

    /// A client that also opens streams: HTTP/1.1 alone can change the protocol.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn for_streams(user_agent: &str, limits: Limits) -> Result<Self, FetchError> {
        Self::build(user_agent, limits, true)
    }

    fn build(user_agent: &str, limits: Limits, http1_only: bool) -> Result<Self, FetchError> {
        // A second call finds the provider installed; that is as good.
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
                // Where a redirect leads is looked at as every URL is: `send` follows it.
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

    /// The client for `url`, if it may be asked at all.
    pub(crate) fn for_url(&self, url: &Url) -> Result<&reqwest::Client, FetchError> {
        self.limits.private.check_form(url)?;
        if self.limits.private.allows(url) {
            return Ok(&self.open);
        }
        guard::check_literal(url).map_err(|blocked| FetchError::Blocked(blocked.0))?;
        Ok(&self.guarded)
    }

    /// Sends what `with` makes of a request for `url`, and follows redirects as far as the limits
    /// allow it.
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

    /// Keeps bodies of up to so many bytes in memory.
    #[must_use]
    pub fn with_memory(mut self, most_memory: usize) -> Self {
        self.most_memory = most_memory;
        self
    }

    /// Keeps larger ones there, not in the system's folder for temporary files.
    #[must_use]
    pub fn with_spool(mut self, spool: Spool) -> Self {
        self.spool = spool;
        self
    }

    /// Unpacks so many bodies at once: each takes up to 16 MiB of memory.
    #[must_use]
    pub fn with_decoders(mut self, decoders: usize) -> Self {
        self.decoders = Arc::new(Semaphore::new(decoders));
        self
    }

    /// Asks `pds` for rev and CID of the newest commit of `did`, once
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

    /// Asks `pds` for the repo of `did`, once.
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
            if !steady.goes_on(chunk.len()) {
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

    /// Unpacks a body that is complete, where that holds up nobody.
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
            .unwrap_or_else(|_| Err(FetchError::BrokenBody("unpacking it broke off".to_owned())))
    }

    /// What a status other than 200 says.
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
        // What came until then will do.
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
            return FetchError::Redirect(format!(
                "status {} without a place to follow to",
                status.as_u16()
            ));
        }
        if status.is_server_error() {
            // A limit's reset says nothing about an error of the server.
            return FetchError::Server(status.as_u16(), retry_after);
        }
        FetchError::Refused(status.as_u16(), name.chars().take(60).collect())
    }
}

/// Nobody waits for the work any more that has this.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A body that drips counts as stalled: so few bytes in the time after which nothing at all would.
const LEAST_BYTES: usize = 2048;

/// Whether a body comes in steadily.
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

    /// So many bytes came.
    pub(crate) fn goes_on(&mut self, bytes: usize) -> bool {
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

/// Notes what is to be seen of an answer beside its body.
pub(crate) fn look(seen: &mut Seen, response: &Response, asked: Instant) {
    seen.first_byte = Some(asked.elapsed());
    seen.at = Some(Instant::now());
    seen.announced = announced(response.headers(), SystemTime::now());
}

/// The limit that headers announce: `RateLimit-Limit`, `-Remaining`, `-Reset` and `-Policy` as
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

/// The server's time where it tells it, else ours.
fn server_time(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    date.and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(now)
}

/// Numbers below this are no unix seconds of our days, but seconds from now, as later drafts of the
/// headers have it.
const FIRST_UNIX_SECOND: u64 = 1_000_000_000;

/// Time until `RateLimit-Reset`: PDSes give it in unix seconds.
fn until_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let seconds: u64 = headers
        .get("ratelimit-reset")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // A reset in the past still means: not at once.
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

/// Where an answer redirects to, if it does.
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

/// The kind of an error of the HTTP client before a body came.
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
