//! How full a stream may be: a limit that those who send keep, not the server.
//!
//! A stream of skyfill has no limit on the server, since two faults of servers lose messages of a
//! stream that has one:
//!
//! - A server that was killed brings back messages that were deleted shortly before: those before
//!   2.10 keep deletions in memory for some seconds. If the stream is larger than its limit then,
//!   servers before 2.10.6 delete the oldest messages, whatever the stream's policy says
//!   (`enforceBytesLimit` in `server/filestore.go` of nats-server).
//! - Before 2.10.11, each replica decides by itself if the stream is full, so that replicas may
//!   differ in what they accepted.
//!
//! So the limit stands in the description of the stream. Whoever sends asks how large the stream
//! is, and begins nothing while it is full. What has begun goes on: nobody can store the first half
//! of a repo, so to wait in the middle of it would help nobody. The stream may exceed its limit by
//! what has begun and by what each process may send until it asks again ([`GRANT`]).

use crate::connect::{Link, backoff, persist};
use crate::error::NatsError;
use async_nats::jetstream::stream::Config;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum size of a stream, in bytes, if nobody says another.
const MAX_BYTES: u64 = 8 << 30;
/// What one may send before it asks again: a part of the free space, since others send as well, at
/// most so many bytes, and only for so long.
const SHARE: u64 = 4;
const GRANT: u64 = 16 << 20;
const GRANT_FOR: Duration = Duration::from_secs(1);
/// The part of a stream that was full which is free before it takes anything.
const FREE_AGAIN: u64 = 8;
/// The first version that loses nothing of a stream with a limit.
const KEEPS_LIMITS: [u64; 3] = [2, 10, 11];
/// Bytes by which a message counts beside its content.
const BESIDE: u64 = 512;
/// What stands before and after the limit in a description.
const AROUND: [&str; 2] = [", at most ", " bytes"];

/// The space of a stream, as a process sees it that sends.
pub(crate) struct Room {
    /// Maximum size of the stream, in bytes.
    most: u64,
    /// Bytes that may be sent before it asks again, and since when.
    granted: Mutex<(u64, Instant)>,
    is_full: AtomicBool,
    /// Held by who asks, since the others need the same answer: whether it was stopped.
    gave_up: tokio::sync::Mutex<bool>,
}

impl Room {
    /// The space of a stream of at most so many bytes.
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            granted: Mutex::new((0, Instant::now())),
            is_full: AtomicBool::new(false),
            gave_up: tokio::sync::Mutex::new(false),
        }
    }

    /// Waits until something may begin.
    ///
    /// # Errors
    /// The server refuses to say how large the stream is; it was stopped.
    pub(crate) async fn wait(&self, link: &Link) -> Result<(), NatsError> {
        let mut gave_up = self.gave_up.lock().await;
        if *gave_up {
            return Err(NatsError::Stopped);
        }
        let waited = self.ask(link).await;
        *gave_up = waited == Err(NatsError::Stopped);
        waited
    }

    async fn ask(&self, link: &Link) -> Result<(), NatsError> {
        let mut tries = 0u32;
        while !self.is_granted() {
            let was_full = self.is_full.load(Ordering::Relaxed);
            let bytes = link.bytes_in_stream().await?;
            let free = free(self.most, bytes, was_full);
            self.is_full.store(free == 0, Ordering::Relaxed);
            if free > 0 {
                *self.granted() = (free.div_ceil(SHARE).min(GRANT), Instant::now());
                if was_full {
                    link.on_taken();
                }
                break;
            }
            tries = tries.saturating_add(1);
            link.on_full(&format!(
                "stream {} on {} is full ({}; it takes more below {})",
                link.stream,
                link.shown,
                observe::bytes(bytes),
                observe::bytes(self.most.saturating_sub(self.most / FREE_AGAIN))
            ));
            link.pause(backoff(tries)).await?;
        }
        Ok(())
    }

    /// Counts a message with so much content.
    pub(crate) fn take(&self, content: usize) {
        let mut granted = self.granted();
        let size = BESIDE.saturating_add(content as u64);
        granted.0 = granted.0.saturating_sub(size);
    }

    fn is_granted(&self) -> bool {
        let (bytes, since) = *self.granted();
        bytes > 0 && since.elapsed() < GRANT_FOR
    }

    fn granted(&self) -> MutexGuard<'_, (u64, Instant)> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Free bytes of a stream that may hold `most`; none while it was full and has little space.
fn free(most: u64, bytes: u64, was_full: bool) -> u64 {
    let free = most.saturating_sub(bytes);
    let enough = if was_full { most / FREE_AGAIN } else { 0 };
    if free < enough { 0 } else { free }
}

/// The description of a stream with this limit, or the usual one.
pub(crate) fn description(what: &str, said: Option<u64>) -> String {
    let [before, after] = AROUND;
    let bytes = said.unwrap_or(MAX_BYTES);
    format!("{what}{before}{bytes}{after}")
}

/// The limit in the description of a stream, in bytes.
pub(crate) fn described(config: &Config) -> Option<u64> {
    let [before, after] = AROUND;
    let (_, bytes) = config.description.as_deref()?.rsplit_once(before)?;
    bytes.strip_suffix(after)?.parse().ok()
}

/// The limit of a stream, in bytes: that of its description, else `said`, else the usual one; and
/// less than what the server has, since who sends has to wait before the server refuses.
///
/// # Errors
/// What the stream has, if `said` differs from the description, or is more than the server takes.
pub(crate) fn limit(config: &Config, said: Option<u64>) -> Result<u64, u64> {
    let described = described(config);
    if let (Some(is), Some(said)) = (described, said)
        && is != said
    {
        return Err(is);
    }
    let own = u64::try_from(config.max_bytes).ok().filter(|own| *own > 0);
    if let (Some(own), Some(said)) = (own, said)
        && said > own
    {
        return Err(own);
    }
    let own = own.map_or(u64::MAX, |own| own.saturating_sub(own / FREE_AGAIN));
    Ok(described.or(said).unwrap_or(MAX_BYTES).min(own))
}

impl Link {
    /// Size of the stream, in bytes.
    async fn bytes_in_stream(&self) -> Result<u64, NatsError> {
        persist(&self.shown, &self.stop, async || {
            let info = self.stream_info().await?;
            let info = info.ok_or_else(|| NatsError::Away("the stream was deleted".to_owned()));
            Ok(info?.state.bytes)
        })
        .await
    }

    /// Whether the servers lose nothing of a stream with a limit.
    pub(crate) fn keeps_limits(&self) -> bool {
        keeps_limits(&self.client.server_info().version)
    }

    /// Makes sure that the server deletes nothing of a stream that somebody made with a limit.
    pub(crate) fn require_kept_limits(&self, config: &Config) -> Result<(), NatsError> {
        let has_limit = config.max_bytes > 0 || config.max_messages > 0;
        if !has_limit || self.keeps_limits() {
            return Ok(());
        }
        let version = &self.client.server_info().version;
        Err(NatsError::Refused(
            format!(
                "stream {} on {} has a limit: nats-server {version} deletes its oldest messages, \
                 if it is killed while the stream is full",
                self.stream, self.shown
            ),
            format!(
                "run: nats stream edit {} --max-bytes=-1 --max-msgs=-1; skyfill keeps the limit of \
                 --nats-max-bytes by itself",
                self.stream
            ),
        ))
    }
}

/// Whether this version of a server loses nothing of a stream with a limit.
fn keeps_limits(version: &str) -> bool {
    numbers_of(version).is_some_and(|numbers| numbers >= KEEPS_LIMITS)
}

/// The three numbers of a server's version.
pub(crate) fn numbers_of(version: &str) -> Option<[u64; 3]> {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for old in ["2.9.10", "2.10.9", "2.10.0-beta.1", "", "next"] {
            assert!(!keeps_limits(old), "{old}");
        }
        for right in ["2.10.11", "2.10.22", "2.11.0-RC.1", "2.12.1", "3.0.0"] {
            assert!(keeps_limits(right), "{right}");
        }
    }

    #[test]
    fn a_stream_that_was_full_takes_more_when_an_eighth_is_free() {
        assert_eq!([free(80, 0, false), free(80, 0, true)], [80, 80]);
        assert_eq!([free(80, 75, false), free(80, 75, true)], [5, 0]);
        assert_eq!([free(80, 70, true), free(80, 71, true)], [10, 0]);
        assert_eq!([free(80, 80, false), free(80, 95, false)], [0, 0]);
    }

    #[test]
    fn a_limit_is_in_the_description_or_said_and_below_that_of_the_server() {
        let of = |description: Option<String>, max_bytes| Config {
            description,
            max_bytes,
            ..Config::default()
        };
        let described = of(Some(description("repos", Some(4000))), -1);
        assert_eq!(limit(&described, None), Ok(4000));
        assert_eq!(limit(&described, Some(4000)), Ok(4000));
        assert_eq!(limit(&described, Some(5000)), Err(4000));
        let by_hand = of(Some("repos, at most a few".to_owned()), -1);
        assert_eq!(limit(&by_hand, Some(5000)), Ok(5000));
        assert_eq!(limit(&of(None, 0), None), Ok(MAX_BYTES));
        assert_eq!(limit(&of(None, 800), None), Ok(700));
        assert_eq!(limit(&of(None, 800), Some(600)), Ok(600));
        assert_eq!(limit(&of(None, 800), Some(5000)), Err(800));
    }
}
