//! How full a stream may be: a limit that those who send keep, not the server.
//!
//! A stream of skyfill has no limit on the server, since two faults of servers lose messages of a
//! stream that has one:
//!
//! - A server before 2.10.6 that was killed brings back messages that were deleted shortly before.
//!   If the stream is larger than its limit then, it deletes the oldest messages, whatever the
//!   stream's policy says (`enforceBytesLimit` in `server/filestore.go` of nats-server).
//! - Before 2.10.11, each replica decides by itself if the stream is full, so that replicas may
//!   differ in what they accepted.
//!
//! So whoever sends asks how large the stream is, and begins nothing while it is full. What has
//! begun goes on: nobody can store the first half of a repo, so to wait in the middle of it would
//! help nobody. Several that send may together exceed the limit by what they have begun.

use crate::connect::{Link, pause_after, persist};
use crate::error::NatsError;
use async_nats::jetstream::stream::Config;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Maximum size of a stream, in bytes, if nobody says another.
const MAX_BYTES: u64 = 8 << 30;
/// The part of the free space that one may use before it asks again, since others send as well.
const SHARE: u64 = 4;
/// The part of a stream that was full which is free before it takes anything.
const FREE_AGAIN: u64 = 8;
/// The first version that loses nothing of a stream with a limit.
const KEEPS_LIMITS: [u64; 3] = [2, 10, 11];
/// Bytes by which a message counts beside its content.
const BESIDE: u64 = 512;

/// The space of a stream, as one sees it that sends.
pub(crate) struct Room {
    /// Maximum size of the stream, in bytes.
    most: u64,
    /// Bytes that may be sent before it asks again.
    left: AtomicU64,
    /// Held by who asks: the others need the same answer.
    asking: Mutex<()>,
}

impl Room {
    /// Space up to this limit, or the usual one.
    pub(crate) fn new(max_bytes: Option<u64>) -> Self {
        Self {
            most: max_bytes.unwrap_or(MAX_BYTES),
            left: AtomicU64::new(0),
            asking: Mutex::new(()),
        }
    }

    /// Maximum size of the stream, in bytes.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Waits until something may begin.
    ///
    /// # Errors
    /// The server refuses to say how large the stream is; it was stopped.
    pub(crate) async fn wait(&self, link: &Link) -> Result<(), NatsError> {
        let _asking = self.asking.lock().await;
        let mut tries = 0u32;
        while self.left.load(Ordering::Relaxed) == 0 {
            let bytes = link.bytes_in_stream().await?;
            let left = free(self.most, bytes, tries > 0).div_ceil(SHARE);
            if left > 0 {
                self.left.store(left, Ordering::Relaxed);
                if tries > 0 {
                    link.on_taken();
                }
                break;
            }
            tries = tries.saturating_add(1);
            link.on_full(&format!(
                "stream {} on {} is full ({} of at most {})",
                link.stream,
                link.shown,
                observe::bytes(bytes),
                observe::bytes(self.most)
            ));
            pause_after(tries, &link.stop).await?;
        }
        Ok(())
    }

    /// Counts a message with so much content.
    pub(crate) fn take(&self, content: usize) {
        let size = BESIDE.saturating_add(content as u64);
        let less = |left: u64| Some(left.saturating_sub(size));
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.left.fetch_update(set, get, less);
    }
}

/// Free bytes of a stream that may hold `most`; none while it was full and has little space.
fn free(most: u64, bytes: u64, was_full: bool) -> u64 {
    let free = most.saturating_sub(bytes);
    let enough = if was_full { most / FREE_AGAIN } else { 0 };
    if free < enough { 0 } else { free }
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

    /// Makes sure that the server deletes nothing of a stream that somebody made with a limit.
    pub(crate) fn require_kept_limits(&self, config: &Config) -> Result<(), NatsError> {
        let version = &self.client.server_info().version;
        let has_limit = config.max_bytes > 0 || config.max_messages > 0;
        if !has_limit || keeps_limits(version) {
            return Ok(());
        }
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
    fn a_stream_that_was_full_takes_something_when_it_has_space_for_more_than_a_message() {
        assert_eq!([free(80, 0, false), free(80, 0, true)], [80, 80]);
        assert_eq!([free(80, 75, false), free(80, 75, true)], [5, 0]);
        assert_eq!([free(80, 70, true), free(80, 71, true)], [10, 0]);
        assert_eq!([free(80, 80, false), free(80, 95, false)], [0, 0]);
    }
}
