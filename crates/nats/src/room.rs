//! Sizes of messages and of streams, so that a full stream loses nothing.
//!
//! Servers before 2.10.5 compare a stream's limit with the headers and the content of a new
//! message, but store its subject and 34 bytes more. A message that fits by the first and not by
//! the second is stored, and the oldest ones are deleted for it, though the stream should refuse
//! new ones (`storeRawMsg` and `enforceBytesLimit` in `server/filestore.go` of nats-server). So for
//! such a server each message has a header that makes its size a multiple of [`STEP`], and the
//! limit is one, too. Then a message that exceeds the limit does so by more than those servers
//! overlook.

use crate::connect::Link;
use crate::error::NatsError;
use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;

/// Bytes: more than a subject of ours and what a server stores beside it.
const STEP: u64 = 512;
/// The first version that counts right.
const COUNTS_RIGHT: [u64; 3] = [2, 10, 5];
/// Bytes of a message in the server's files beside subject, headers and content.
const FRAME: u64 = 34;
/// The header that makes a message larger.
const HEADER: &str = "Skyfill-Room";

/// The limit of a new stream for which somebody wants so many bytes.
pub(crate) fn limit(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_sub(bytes % STEP)).unwrap_or(i64::MAX)
}

/// Whether this version of a server counts less than it stores.
fn overlooks(version: &str) -> bool {
    numbers_of(version).is_none_or(|numbers| numbers < COUNTS_RIGHT)
}

/// The three numbers of a server's version.
pub(crate) fn numbers_of(version: &str) -> Option<[u64; 3]> {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Bytes of headers as they are sent and stored.
fn size_of(headers: &HeaderMap) -> u64 {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        let values = values.iter().map(AsRef::<str>::as_ref);
        values.map(move |value: &str| [name, ": ", value, "\r\n"])
    });
    let sizes = ["NATS/1.0\r\n\r\n"].into_iter().chain(lines.flatten());
    sizes.map(|text| text.len() as u64).sum()
}

/// Adds a header with which the message's size is a multiple of [`STEP`].
fn fill(headers: &mut HeaderMap, subject: &str, content: u64) {
    headers.insert(HEADER, "");
    let parts = [FRAME, subject.len() as u64, size_of(headers), content];
    let rest = parts.iter().sum::<u64>() % STEP;
    let missing = usize::try_from(STEP.saturating_sub(rest)).unwrap_or(0);
    headers.insert(HEADER, "-".repeat(missing));
}

impl Link {
    /// Adds to the headers of a message what the server needs, so that it counts right.
    pub(crate) fn fill(&self, headers: &mut HeaderMap, subject: &str, content: u64) {
        if overlooks(&self.client.server_info().version) {
            fill(headers, subject, content);
        }
    }

    /// Makes sure that the server does not delete messages when the stream is full.
    pub(crate) fn require_right_limit(&self, config: &Config) -> Result<(), NatsError> {
        let version = self.client.server_info().version;
        let bytes = u64::try_from(config.max_bytes).unwrap_or(0);
        if bytes.is_multiple_of(STEP) || !overlooks(&version) {
            return Ok(());
        }
        Err(NatsError::Refused(
            format!(
                "stream {} on {}: nats-server {version} deletes its oldest messages when it is full, \
                 unless its limit is a multiple of {STEP} bytes",
                self.stream, self.shown
            ),
            format!(
                "run: nats stream edit {} --max-bytes {}; or use nats-server 2.10.5 or later",
                self.stream,
                limit(bytes).max(limit(STEP))
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_a_multiple_of_the_step() {
        let subject = "skyfill.records.app.bsky.feed.like";
        for content in 0..2 * STEP {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, "an id");
            fill(&mut headers, subject, content);
            let size = FRAME + subject.len() as u64 + size_of(&headers) + content;
            assert_eq!(size % STEP, 0, "{content}");
            // What such a server compares, and what it stores.
            assert!(size - (size_of(&headers) + content) < STEP);
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for old in ["2.9.10", "2.10.4", "2.10.0-beta.1", "", "next"] {
            assert!(overlooks(old), "{old}");
        }
        for right in ["2.10.5", "2.10.22", "2.11.0-RC.1", "2.12.1", "3.0.0"] {
            assert!(!overlooks(right), "{right}");
        }
    }

    #[test]
    fn limits_are_whole_steps() {
        assert_eq!(
            [limit(131_072), limit(1_000_000), limit(u64::MAX)],
            [131_072, 999_936, i64::MAX]
        );
    }
}
