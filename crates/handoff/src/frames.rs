//! The framed form: repos part by part, with records as they are in the CAR, and each part
//! acknowledged once it is durable.
//!
//! A stream begins with [`MAGIC`]. No line begins with its first byte, so a consumer can
//! distinguish the two forms. Then come frames: one byte for the kind, four for the length (big
//! endian), and that many bytes of payload. A part begins with a [`PartHeader`], continues with
//! entries in key order, and ends with their number. On one socket there is one part; on three
//! sockets each carries its collections ([`rows::route`]). The consumer responds in lines of JSON
//! ([`Answer`]). A part that was not acknowledged is sent again after a reconnect.

use atrepo::cbor::{self, Value, Writer};
use atrepo::{Cid, RecordError, syntax, work};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, ErrorKind, Read};

/// What a framed stream begins with.
pub const MAGIC: &[u8] = b"\xf5skyfill frames 1\n";

/// Longest payload: a block, its key and its CID.
const MAX_PAYLOAD: usize = 9 << 20;
/// Longest URL of a PDS, in bytes: that of DID documents. In DID files it is shorter.
const MAX_PDS: usize = 2048;
/// Largest CAR, in bytes. The ledger adds up the sizes of all repos.
const MAX_CAR: u64 = 1 << 40;
/// Bytes per read.
const CHUNK: usize = 256 << 10;
/// Size of the buffer that is kept after a long frame.
const KEPT: usize = 1 << 20;

const PART: u8 = 1;
const ENTRY: u8 = 2;
const END: u8 = 3;
const STATUS: u8 = 4;
const UNREAD: u8 = 5;

/// Why the block of an entry is not sent, as a byte: it is too large, or shared too often.
const TOO_LARGE: u8 = 1;
const SHARED: u8 = 2;

/// The beginning of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHeader {
    /// The account.
    pub did: String,
    /// The URL of its PDS.
    pub pds: String,
    /// Number of the part, from 0.
    pub part: u8,
    /// Number of parts of the repo.
    pub parts: u8,
    /// The commit's block.
    pub commit: Vec<u8>,
    /// Bytes of the CAR.
    pub car_bytes: u64,
    /// The time of the run, in milliseconds since 1970.
    pub now: i64,
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A part begins.
    Part(PartHeader),
    /// An entry of the part: its key, its CID and its block.
    Entry(&'a [u8], Cid, &'a [u8]),
    /// An entry whose record is not read and whose block is not sent: its key, its CID and the
    /// reason.
    Unread(&'a [u8], Cid, RecordError),
    /// The part ends, with this number of entries.
    End(u64),
    /// The DID and state of an account without a repo to fetch.
    Status(String, String),
}

/// Why reading a stream ended.
#[derive(Debug)]
pub enum FrameError {
    /// The socket.
    Io(io::Error),
    /// The stream does not have the framed form; what is wrong.
    Form(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Form(what) => write!(f, "not in the framed form: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A consumer's response to a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer {
    /// The part is durable.
    Stored {
        /// The account.
        did: String,
        /// The rev; empty for the state of an account.
        rev: String,
    },
    /// The part will never be stored.
    Refused {
        /// The account.
        did: String,
        /// The rev.
        rev: String,
        /// Why.
        error: String,
    },
}

impl Answer {
    /// The response as a line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        // Texts alone: this does not fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Parses a line; `None` if it is of another kind.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

fn append(out: &mut Vec<u8>, kind: u8, payload: &[&[u8]]) {
    let length: usize = payload
        .iter()
        .map(|part| part.len())
        .fold(0, usize::saturating_add);
    out.push(kind);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in payload {
        out.extend_from_slice(part);
    }
}

/// Appends the beginning of a part.
pub fn append_part(out: &mut Vec<u8>, header: &PartHeader) {
    let mut w = Writer::new();
    w.map(7)
        .text("did")
        .text(&header.did)
        .text("now")
        .integer(header.now);
    w.text("pds")
        .text(&header.pds)
        .text("part")
        .unsigned(u64::from(header.part));
    w.text("parts").unsigned(u64::from(header.parts));
    w.text("commit").bytes(&header.commit);
    w.text("car_bytes").unsigned(header.car_bytes);
    append(out, PART, &[w.as_bytes()]);
}

/// Appends an entry.
pub fn append_entry(out: &mut Vec<u8>, key: &[u8], cid: &Cid, block: &[u8]) {
    // Keys have at most 1024 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    append(out, ENTRY, &[&length, key, &cid.to_bytes(), block]);
}

/// Appends an entry whose record is not read.
pub fn append_unread(out: &mut Vec<u8>, key: &[u8], cid: &Cid, error: &RecordError) {
    let (why, bytes) = match error {
        RecordError::TooLarge { bytes } => (TOO_LARGE, *bytes),
        RecordError::Shared { bytes } => (SHARED, *bytes),
        // The reader of the block finds these errors, so the block is sent.
        _ => return,
    };
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    let bytes = bytes.to_be_bytes();
    append(
        out,
        UNREAD,
        &[&length, key, &cid.to_bytes(), &[why], &bytes],
    );
}

/// Appends the end of a part.
pub fn append_end(out: &mut Vec<u8>, entries: u64) {
    append(out, END, &[&entries.to_be_bytes()]);
}

/// Appends the state of an account.
pub fn append_status(out: &mut Vec<u8>, did: &str, status: &str) {
    let mut w = Writer::new();
    w.map(2).text("did").text(did).text("status").text(status);
    append(out, STATUS, &[w.as_bytes()]);
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some bytes; the complete frames among them were passed on.
    Read,
    /// Nothing arrived before the stream's time limit.
    Idle,
    /// The stream has ended.
    End,
}

/// Splits a stream into frames.
pub struct Frames<R> {
    stream: R,
    buffer: Vec<u8>,
    filled: usize,
    has_magic: bool,
    bytes: u64,
}

impl<R: Read> Frames<R> {
    /// Frames of `stream`, of which `read` was read already.
    pub fn new(stream: R, read: &[u8]) -> Self {
        let mut buffer = read.to_vec();
        buffer.resize(read.len().saturating_add(CHUNK), 0);
        Self {
            stream,
            filled: read.len(),
            buffer,
            has_magic: false,
            bytes: read.len() as u64,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &R {
        &self.stream
    }

    /// How many bytes came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a frame has begun to come, and is not complete.
    pub fn is_within(&self) -> bool {
        // The magic alone is the beginning of a stream without frames.
        let is_magic = !self.has_magic && self.buffer.get(..self.filled) == Some(MAGIC);
        self.filled > 0 && !is_magic
    }

    /// Reads once and hands every frame that is complete now to `each`.
    ///
    /// # Errors
    /// See [`FrameError`]; or the error that `each` returns.
    pub fn step<E: From<FrameError>>(
        &mut self,
        mut each: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<Step, E> {
        if self.filled == self.buffer.len() {
            // Not larger than the longest frame and the beginning of the next one.
            let most = MAX_PAYLOAD.saturating_add(CHUNK);
            let wanted = self.buffer.len().saturating_mul(2).min(most);
            self.buffer
                .resize(wanted.max(self.filled.saturating_add(CHUNK)), 0);
        }
        let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let step = match self.stream.read(space) {
            // What was read before may hold frames that nobody got yet.
            Ok(0) => Step::End,
            Ok(count) => {
                self.filled = self.filled.saturating_add(count);
                self.bytes = self.bytes.saturating_add(count as u64);
                work::add(count);
                Step::Read
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Step::Read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Step::Idle
            }
            Err(error) => return Err(FrameError::Io(error).into()),
        };
        let all = self.buffer.get(..self.filled).unwrap_or_default();
        let mut rest = all;
        if !self.has_magic {
            match rest.strip_prefix(MAGIC) {
                Some(after) => (self.has_magic, rest) = (true, after),
                None if MAGIC.starts_with(rest) => return Ok(self.after(step)?),
                None => return Err(FrameError::Form("it begins with other bytes").into()),
            }
        }
        while let Some((kind, payload, after)) = split(rest)? {
            each(read(kind, payload)?)?;
            rest = after;
        }
        let left = rest.len();
        let used = self.filled.saturating_sub(left);
        if used > 0 {
            // A long frame that comes in many small reads is not moved at each of them.
            self.buffer.copy_within(used..self.filled, 0);
            work::add(left);
        }
        self.filled = left;
        if left == 0 {
            self.buffer.truncate(CHUNK);
            self.buffer.shrink_to(KEPT);
        }
        Ok(self.after(step)?)
    }

    /// The step, once its complete frames are handed over: a stream does not end in a frame.
    fn after(&self, step: Step) -> Result<Step, FrameError> {
        match step {
            Step::End if self.is_within() => Err(FrameError::Form("it ends inside a frame")),
            step => Ok(step),
        }
    }
}

/// Kind and payload of the frame at the front, and what follows it; nothing if it is not complete.
fn split(bytes: &[u8]) -> Result<Option<(u8, &[u8], &[u8])>, FrameError> {
    let Some(([kind, length @ ..], rest)) = bytes.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD {
        return Err(FrameError::Form("a frame of more than 9 MiB"));
    }
    Ok(rest
        .split_at_checked(length)
        .map(|(payload, after)| (*kind, payload, after)))
}

fn read(kind: u8, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let frame = match kind {
        PART => read_part(payload)
            .ok_or("a part without its header")
            .and_then(storable)
            .map(Frame::Part),
        ENTRY => read_entry(payload)
            .map(|(key, cid, block)| Frame::Entry(key, cid, block))
            .ok_or("a malformed entry"),
        UNREAD => read_unread(payload).ok_or("an entry without its block and without a reason"),
        END => payload
            .try_into()
            .map(|count| Frame::End(u64::from_be_bytes(count)))
            .map_err(|_| "an end without a number"),
        STATUS => read_status(payload).ok_or("a state without an account"),
        _ => Err("a frame of an unknown kind"),
    };
    frame.map_err(FrameError::Form)
}

fn read_part(payload: &[u8]) -> Option<PartHeader> {
    let map = cbor::check(payload).ok()?.as_map()?;
    let text = |key| {
        map.get(key)
            .and_then(|item| item.as_text())
            .map(str::to_owned)
    };
    let number = |key| match map.get(key)?.value() {
        Value::Unsigned(number) => Some(number),
        _ => None,
    };
    let Value::Bytes(commit) = map.get("commit")?.value() else {
        return None;
    };
    let (part, parts) = (
        u8::try_from(number("part")?).ok()?,
        u8::try_from(number("parts")?).ok()?,
    );
    if part >= parts || !matches!(parts, 1 | 3) {
        return None;
    }
    Some(PartHeader {
        did: text("did").filter(|did| syntax::is_did(did))?,
        pds: text("pds")?,
        part,
        parts,
        commit: commit.to_vec(),
        car_bytes: number("car_bytes")?,
        now: match map.get("now")?.value() {
            Value::Unsigned(now) => i64::try_from(now).ok()?,
            Value::Negative(now) => i64::try_from(now).ok()?.checked_neg()?.checked_sub(1)?,
            _ => return None,
        },
    })
}

/// The header of a part, if the database takes what it says. DID and state are of a form that it
/// takes, and so is what the commit says of the rev.
fn storable(header: PartHeader) -> Result<PartHeader, &'static str> {
    if header.pds.len() > MAX_PDS || header.pds.chars().any(char::is_control) {
        return Err("a part whose PDS is too long or has control characters");
    }
    if header.car_bytes > MAX_CAR {
        return Err("a part of a CAR of more than a tebibyte");
    }
    Ok(header)
}

/// Key, CID and what follows.
fn read_entry(payload: &[u8]) -> Option<(&[u8], Cid, &[u8])> {
    let (length, rest) = payload.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (cid, rest) = Cid::read(rest)?;
    Some((key, cid, rest))
}

fn read_unread(payload: &[u8]) -> Option<Frame<'_>> {
    let (key, cid, reason) = read_entry(payload)?;
    let (why, bytes) = reason.split_first()?;
    let bytes = u64::from_be_bytes(bytes.try_into().ok()?);
    let error = match *why {
        TOO_LARGE => RecordError::TooLarge { bytes },
        SHARED => RecordError::Shared { bytes },
        _ => return None,
    };
    Some(Frame::Unread(key, cid, error))
}

fn read_status(payload: &[u8]) -> Option<Frame<'_>> {
    let map = cbor::check(payload).ok()?.as_map()?;
    let text = |key| {
        map.get(key)
            .and_then(|item| item.as_text())
            .map(str::to_owned)
    };
    let status =
        text("status").filter(|status| crate::account::STATUSES.contains(&status.as_str()))?;
    Some(Frame::Status(
        text("did").filter(|did| syntax::is_did(did))?,
        status,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::Codec;

    fn header() -> PartHeader {
        PartHeader {
            did: "did:plc:a".to_owned(),
            pds: "https://pds.test".to_owned(),
            part: 2,
            parts: 3,
            commit: vec![1, 2, 3],
            car_bytes: 1 << 40,
            now: 1_793_000_000_000,
        }
    }

    #[test]
    fn frames_read_back_however_they_are_cut() {
        let block = vec![7; 700_000];
        let cid = Cid::of(Codec::DagCbor, &block);
        let mut bytes = MAGIC.to_vec();
        append_part(&mut bytes, &header());
        append_entry(&mut bytes, b"a/b", &cid, &block);
        append_unread(
            &mut bytes,
            b"a/c",
            &cid,
            &RecordError::TooLarge { bytes: 9 << 20 },
        );
        append_unread(&mut bytes, b"a/d", &cid, &RecordError::Shared { bytes: 7 });
        append_end(&mut bytes, 3);
        append_status(&mut bytes, "did:plc:b", "takendown");
        for first in [0, 1, 5, MAGIC.len(), 100, bytes.len()] {
            let mut frames = Frames::new(bytes.get(first..).unwrap(), bytes.get(..first).unwrap());
            let mut got = Vec::new();
            while frames
                .step(|frame| -> Result<(), FrameError> {
                    got.push(match frame {
                        Frame::Part(found) => format!("part {}", found == header()),
                        Frame::Entry(key, found, bytes) => {
                            format!("entry {}", key == b"a/b" && found == cid && bytes == block)
                        }
                        Frame::Unread(key, found, error) => {
                            format!(
                                "unread {} {}: {error}",
                                found == cid,
                                String::from_utf8_lossy(key)
                            )
                        }
                        Frame::End(count) => format!("end {count}"),
                        Frame::Status(did, status) => format!("{did} {status}"),
                    });
                    Ok(())
                })
                .unwrap()
                != Step::End
            {}
            assert_eq!(
                got,
                [
                    "part true",
                    "entry true",
                    "unread true a/c: the record has 9437184 bytes, more than the limit of 1048576",
                    "unread true a/d: records that share their blocks come to 7 bytes up to this one, more than \
                     the limit of 4 times the CAR",
                    "end 3",
                    "did:plc:b takendown"
                ]
            );
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut long = MAGIC.to_vec();
        long.extend([ENTRY, 0xff, 0xff, 0xff, 0xff]);
        let mut unknown = MAGIC.to_vec();
        append(&mut unknown, 9, &[b"x"]);
        let mut part = MAGIC.to_vec();
        append_part(
            &mut part,
            &PartHeader {
                part: 3,
                ..header()
            },
        );
        let mut cut = MAGIC.to_vec();
        append_end(&mut cut, 1);
        cut.pop();
        let part_of = |header: PartHeader| {
            let mut bytes = MAGIC.to_vec();
            append_part(&mut bytes, &header);
            bytes
        };
        let part_at = |pds: &str| {
            part_of(PartHeader {
                pds: pds.to_owned(),
                ..header()
            })
        };
        let huge = part_of(PartHeader {
            car_bytes: MAX_CAR + 1,
            ..header()
        });
        let (nul, line) = (part_at("https://pds.test\0"), part_at("https://pds\n.test"));
        let long_pds = part_at(&"x".repeat(MAX_PDS + 1));
        for bytes in [
            long,
            unknown,
            part,
            cut,
            b"\xf5other".to_vec(),
            huge,
            nul,
            line,
            long_pds,
        ] {
            let mut frames = Frames::new(bytes.as_slice(), &[]);
            let outcome = loop {
                match frames.step(|_| Ok::<(), FrameError>(())) {
                    Ok(Step::End) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            assert!(outcome.is_err(), "{bytes:?}");
        }
        let mut empty = Frames::new(&b""[..], MAGIC);
        assert_eq!(
            empty.step(|_| Ok::<(), FrameError>(())).unwrap(),
            Step::End,
            "a stream without frames"
        );
        let stored = Answer::Stored {
            did: "did:plc:a".to_owned(),
            rev: "3".to_owned(),
        };
        assert_eq!(Answer::parse(&stored.line()), Some(stored));
        assert_eq!(Answer::parse(b"{\"type\":\"committed\"}"), None);
    }
}
