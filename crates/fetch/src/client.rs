//! The HTTP client: limits of a request, redirects that are checked one by one, and the errors that
//! responses mean.

use crate::body::MEMORY_BYTES;
use crate::encoding::{self, ACCEPTED, Encoding};
use crate::error::{AccountState, FetchError};
use crate::guard::{self, Blocked, OwnResolver, Private};
use crate::headers::wait_asked_for;
use crate::spool::Spool;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
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
/// Default for the number of bodies that are decompressed concurrently.
const DECODERS: usize = 2;

/// A client for PDSes that keeps connections.
pub struct Client {
    /// For public addresses.
    guarded: reqwest::Client,
    /// For hosts that may be anywhere.
    open: reqwest::Client,
    pub(crate) limits: Limits,
    pub(crate) most_memory: usize,
    /// The one in the system's temporary folder is opened by the first body that asks for it: a
    /// client of small bodies needs none, and the folder may not exist.
    spool: OnceLock<Spool>,
    /// One permit per body that is being decompressed.
    pub(crate) decoders: Arc<Semaphore>,
    /// One permit per small body that is received, if their number is bounded.
    pub(crate) small_bodies: Option<Arc<Semaphore>>,
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
        Ok(Self {
            guarded: client(true)?,
            open: client(false)?,
            limits,
            most_memory: MEMORY_BYTES,
            spool: OnceLock::new(),
            decoders: Arc::new(Semaphore::new(DECODERS)),
            small_bodies: None,
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

    /// Receives at most `most` small bodies concurrently. Requests that have no answer yet do not
    /// count.
    #[must_use]
    pub fn with_small_bodies(mut self, most: usize) -> Self {
        self.small_bodies = Some(Arc::new(Semaphore::new(most)));
        self
    }

    /// Keeps larger bodies in `spool` instead of the system's temporary folder.
    #[must_use]
    pub fn with_spool(mut self, spool: Spool) -> Self {
        self.spool = OnceLock::from(spool);
        self
    }

    /// Where larger bodies are kept.
    pub(crate) fn spool(&self) -> Result<&Spool, FetchError> {
        if let Some(spool) = self.spool.get() {
            return Ok(spool);
        }
        let opened = Spool::open(&std::env::temp_dir(), None)
            .map_err(|error| FetchError::Spool(error.to_string()))?;
        Ok(self.spool.get_or_init(|| opened))
    }

    /// Decompresses up to `decoders` bodies concurrently, each of which uses up to 16 MiB of
    /// memory.
    #[must_use]
    pub fn with_decoders(mut self, decoders: usize) -> Self {
        self.decoders = Arc::new(Semaphore::new(decoders));
        self
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
