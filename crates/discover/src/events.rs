//! Reads frames of `com.atproto.sync.subscribeRepos`: two DAG-CBOR objects, a header and a body
//! (<https://atproto.com/specs/event-stream>).
//!
//! [`read`] gives the position of a stream alone, [`decode`] the whole event. Names and limits are
//! those of `lexicons/com/atproto/sync/subscribeRepos.json`. Nothing is verified here:
//! [`atrepo::sync`] checks what a commit claims.

mod decode;
mod event;

pub use decode::{Decoded, EventError, decode};
pub use event::{
    AccountEvent, AccountStatus, CommitEvent, Event, IdentityEvent, InfoEvent, SyncEvent,
};

use atrepo::cbor::{self, Map, Value};
use atrepo::work;

/// Largest frame that is read. The specification allows 5 MB; indigo has 5,000,000 bytes in
/// `cmd/relay/stream/consumer.go` (`MaxMessageBytes`) and 5 MiB in `atproto/atdata/const.go`
/// (`MAX_CBOR_SIZE`). This is the larger of the two.
pub const MAX_FRAME_BYTES: usize = 5 << 20;

/// Largest slice of a sync event: it holds the commit alone (`maxLength` of its `blocks`).
pub const MAX_SYNC_BYTES: usize = 10_000;

/// What a frame says of the position of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An event with this sequence number.
    Event(i64),
    /// The requested cursor is older than anything the relay keeps.
    Outdated,
    /// The relay refuses the request, with this error name.
    Refused(String),
    /// Anything else.
    Other,
}

/// Longest header, in bytes.
const MAX_HEADER: usize = 128;

/// Reads a frame.
#[must_use]
pub fn read(frame: &[u8]) -> Frame {
    work::add(frame.len());
    let Some((header, body)) = split(frame) else {
        return Frame::Other;
    };
    let text = |map: &Map<'_>, key: &str| {
        map.get(key)
            .and_then(|value| value.as_text())
            .map(str::to_owned)
    };
    match header.get("op").map(|op| op.value()) {
        Some(Value::Unsigned(1)) if text(&header, "t").as_deref() == Some("#info") => {
            match text(&body, "name").as_deref() {
                Some("OutdatedCursor") => Frame::Outdated,
                _ => Frame::Other,
            }
        }
        Some(Value::Unsigned(1)) => match body.get("seq").map(|seq| seq.value()) {
            Some(Value::Unsigned(seq)) => i64::try_from(seq).map_or(Frame::Other, Frame::Event),
            _ => Frame::Other,
        },
        _ => Frame::Refused(
            text(&body, "error")
                .unwrap_or_default()
                .chars()
                .take(60)
                .collect(),
        ),
    }
}

/// Header and body.
fn split(frame: &[u8]) -> Option<(Map<'_>, Map<'_>)> {
    let head = frame.get(..frame.len().min(MAX_HEADER))?;
    let (header, rest) = cbor::check_first(head).ok()?;
    let body = frame.get(head.len().checked_sub(rest.len())?..)?;
    let (header, body) = (header.as_map()?, cbor::check(body).ok()?.as_map()?);
    Some((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::cbor::Writer;

    fn frame(op: i64, kind: Option<&str>, key: &str, value: &str, seq: Option<u64>) -> Vec<u8> {
        let mut w = Writer::new();
        w.map(1 + u64::from(kind.is_some()));
        if let Some(kind) = kind {
            w.text("t").text(kind);
        }
        w.text("op").integer(op);
        let mut frame = w.into_bytes();
        let mut w = Writer::new();
        w.map(1 + u64::from(seq.is_some()));
        if let Some(seq) = seq {
            w.text("seq").unsigned(seq);
        }
        w.text(key).text(value);
        frame.extend(w.into_bytes());
        frame
    }

    #[test]
    fn frames_tell_where_the_stream_is() {
        assert_eq!(
            read(&frame(1, Some("#commit"), "repo", "did:plc:a", Some(7))),
            Frame::Event(7)
        );
        assert_eq!(
            read(&frame(1, Some("#info"), "name", "OutdatedCursor", None)),
            Frame::Outdated
        );
        assert_eq!(
            read(&frame(-1, None, "error", "FutureCursor", None)),
            Frame::Refused("FutureCursor".to_owned())
        );
        for bad in [&b""[..], b"\xa1", b"\xa0", b"\xff\xff", &[0; 300]] {
            assert_eq!(read(bad), Frame::Other);
        }
    }
}
