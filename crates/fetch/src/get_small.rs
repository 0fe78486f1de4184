//! One attempt at a small body: a DID document, a handle, a page of an export.

use crate::client::{Client, chain};
use crate::encoding::{self, Encoding};
use crate::error::FetchError;
use crate::get_repo::Steady;
use crate::guard;
use crate::headers;
use crate::schedule::Observed;
use reqwest::header::{ACCEPT, DATE, HOST};
use reqwest::{Response, StatusCode, Url};
use std::time::{Instant, SystemTime};

/// Bytes of a body that are received before it takes one of the places for bodies.
const WITHOUT_ROOM: usize = 64 << 10;

/// A request for a small body.
#[derive(Clone, Copy, Debug)]
pub struct SmallRequest<'a> {
    /// The URL.
    pub url: &'a str,
    /// The accepted media types.
    pub accept: &'a str,
    /// Name for the `Host` header, if it differs from the URL's, for a server that serves many
    /// names.
    pub host: Option<&'a str>,
}

impl Client {
    /// Makes one request. The body is limited by the client's limits, and kept in memory.
    ///
    /// # Errors
    /// See [`FetchError`]; a status other than 200 is an error.
    pub async fn get_small(&self, small: SmallRequest<'_>) -> Result<Vec<u8>, FetchError> {
        self.get_small_seen(small, &mut Observed::default()).await
    }

    /// As [`Client::get_small`]; also records what the response shows apart from its body.
    pub async fn get_small_seen(
        &self,
        small: SmallRequest<'_>,
        seen: &mut Observed,
    ) -> Result<Vec<u8>, FetchError> {
        self.get_small_within(small, seen, self.limits.bytes).await
    }

    /// The same, for at most `bytes` bytes.
    pub(crate) async fn get_small_within(
        &self,
        small: SmallRequest<'_>,
        seen: &mut Observed,
        most: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let url = Url::parse(small.url).map_err(|_| FetchError::BadUrl(guard::shown(small.url)))?;
        let total = self.limits.total;
        tokio::time::timeout(total, self.attempt_small(url, small, seen, most))
            .await
            // The body is small, so if it is late, nothing arrived.
            .unwrap_or(Err(FetchError::Stalled(total)))
    }

    /// Asks once for the first line of a body, whatever the status of the answer: the status, and
    /// what came up to the end of the line, the end of the body or the client's limit.
    ///
    /// # Errors
    /// See [`FetchError`]; a status is none.
    pub async fn get_first_line(
        &self,
        small: SmallRequest<'_>,
    ) -> Result<(u16, Vec<u8>), FetchError> {
        let url = Url::parse(small.url).map_err(|_| FetchError::BadUrl(guard::shown(small.url)))?;
        let total = self.limits.total;
        tokio::time::timeout(total, self.attempt_first_line(url, small))
            .await
            .unwrap_or(Err(FetchError::Stalled(total)))
    }

    /// Asks whether a server answers, with whatever status: the status, and the time by its clock
    /// if it tells.
    ///
    /// # Errors
    /// See [`FetchError`]; a status is none.
    pub async fn reach(
        &self,
        small: SmallRequest<'_>,
    ) -> Result<(u16, Option<SystemTime>), FetchError> {
        let url = Url::parse(small.url).map_err(|_| FetchError::BadUrl(guard::shown(small.url)))?;
        let total = self.limits.total;
        let response = tokio::time::timeout(total, self.ask(url, small))
            .await
            .unwrap_or(Err(FetchError::Stalled(total)))?;
        let date = response.headers().get(DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok((response.status().as_u16(), date))
    }

    async fn ask(&self, url: Url, small: SmallRequest<'_>) -> Result<Response, FetchError> {
        let first = url.clone();
        self.send(url, |request, place| {
            let request = request.header(ACCEPT, small.accept);
            match small.host {
                // The name is for the first URL only, not for redirects.
                Some(host) if *place == first => request.header(HOST, host),
                _ => request,
            }
        })
        .await
    }

    async fn attempt_first_line(
        &self,
        url: Url,
        small: SmallRequest<'_>,
    ) -> Result<(u16, Vec<u8>), FetchError> {
        let mut response = self.ask(url, small).await?;
        let encoding = Encoding::of(response.headers())?;
        let most = usize::try_from(self.limits.bytes).unwrap_or(usize::MAX);
        let mut line = Vec::new();
        // In a compressed body, the end of a line is visible only after decompression.
        while line.len() < most && (encoding != Encoding::Plain || !line.contains(&b'\n')) {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| FetchError::BrokenBody(chain(&error)))? {
                Some(chunk) => line.extend_from_slice(&chunk),
                None => break,
            }
        }
        let mut line = encoding::unpack_small(encoding, line, self.limits.bytes)?;
        let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(most);
        line.truncate(end);
        Ok((response.status().as_u16(), line))
    }

    async fn attempt_small(
        &self,
        url: Url,
        small: SmallRequest<'_>,
        seen: &mut Observed,
        most: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let asked = Instant::now();
        let mut response = self.ask(url, small).await?;
        headers::observe(seen, &response, asked);
        match response.status() {
            StatusCode::OK => {}
            status => return Err(self.refusal(status, response).await),
        }
        let encoding = Encoding::of(response.headers())?;
        // Whoever sends little, or nothing for long, takes no place of others.
        let (mut room, mut steady) = (None, Steady::new(self.limits.stall));
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| FetchError::BrokenBody(chain(&error)))?
        {
            let bytes = body.len().saturating_add(chunk.len());
            if bytes as u64 > most {
                return Err(FetchError::TooLarge(most));
            }
            if room.is_none()
                && bytes > WITHOUT_ROOM
                && let Some(small_bodies) = &self.small_bodies
            {
                let acquired = small_bodies.acquire().await;
                room = Some(acquired.map_err(|_| FetchError::Stopped)?);
                steady = Steady::new(self.limits.stall);
            }
            if room.is_some() && !steady.on_received(chunk.len()) {
                return Err(FetchError::Stalled(self.limits.stall));
            }
            body.extend_from_slice(&chunk);
        }
        encoding::unpack_small(encoding, body, most)
    }
}
