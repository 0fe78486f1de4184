//! One attempt at `com.atproto.sync.getRepo`.

use crate::body::{Body, Incoming};
use crate::client::{Client, chain};
use crate::encoding::{self, Encoding};
use crate::error::FetchError;
use crate::guard::{self, Private};
use crate::headers;
use crate::hosts::host_of;
use crate::schedule::Observed;
use reqwest::{StatusCode, Url};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Size up to which a body is decompressed in place. Larger ones go to a thread, where they hold up
/// nobody.
const UNPACKED_HERE: usize = 16 << 10;
/// Pieces after which the pages of a compressed body in a file are released.
const LET_GO_PIECES: u32 = 64;
impl Client {
    /// Requests the repo of `did` from `pds`, once.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_repo(
        &self,
        did: &str,
        pds: &str,
        seen: &mut Observed,
    ) -> Result<Body, FetchError> {
        let url = repo_url(did, pds)?;
        let total = self.limits.total;
        tokio::time::timeout(total, self.attempt(url, &host_of(pds), seen))
            .await
            .unwrap_or(Err(FetchError::TooSlow(total)))
    }

    async fn attempt(&self, url: Url, host: &str, seen: &mut Observed) -> Result<Body, FetchError> {
        let stalled = || FetchError::Stalled(self.limits.stall);
        let asked = Instant::now();
        let request = self.send(url, |request, _| {
            request.header("accept", "application/vnd.ipld.car")
        });
        let response = tokio::time::timeout(self.limits.stall, request)
            .await
            .map_err(|_| stalled())??;
        headers::observe(seen, &response, asked);
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
        let mut body = Incoming::new(self.most_memory, self.spool()?, host);
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
        let (spool, host) = (self.spool()?.clone(), host.to_owned());
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

pub(crate) fn repo_url(did: &str, pds: &str) -> Result<Url, FetchError> {
    let mut url = Url::parse(pds).map_err(|_| FetchError::BadUrl(guard::shown(pds)))?;
    Private::default().check_form(&url)?;
    url.set_path("/xrpc/com.atproto.sync.getRepo");
    url.set_fragment(None);
    url.query_pairs_mut().clear().append_pair("did", did);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Limits, Redirects};
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// While it waits for a decoder, and while that works, the loop serves other hosts.
    #[tokio::test]
    async fn a_large_body_is_decompressed_beside_the_loop_and_a_small_one_in_it() {
        let limits = Limits {
            total: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            bytes: 1 << 30,
            private: Private::default(),
            redirects: Redirects::Never,
        };
        let client = Client::new("test", limits).unwrap();
        let all = client.decoders.available_permits();
        let decoders = client.decoders.acquire_many(u32::try_from(all).unwrap());
        let decoders = decoders.await.unwrap();
        let plain: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
        let packed = |plain: &[u8]| {
            let packed = zstd::encode_all(plain, 1).unwrap();
            (packed.len(), Body::in_memory(packed))
        };
        let mut context = Context::from_waker(Waker::noop());
        let (small, body) = packed(&plain[..2000]);
        let unpacked = pin!(client.unpack(Encoding::Zstd, body, "host")).poll(&mut context);
        assert!(small <= UNPACKED_HERE && unpacked.is_ready(), "{small}");
        let (large, body) = packed(&plain);
        let mut unpacked = pin!(client.unpack(Encoding::Zstd, body, "host"));
        let is_pending = unpacked.as_mut().poll(&mut context).is_pending();
        assert!(large > UNPACKED_HERE && is_pending, "{large}");
        drop(decoders);
        assert!(*unpacked.await.unwrap() == *plain);
        assert_eq!(client.decoders.available_permits(), all);
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
