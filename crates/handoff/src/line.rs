//! The line form:
//! `{"type":"commit","collection":C,"data":{"uri":U,"cid":K,"timestamp":T,"obj":R}}`, one per line.

use atrepo::cbor::{Checked, Map};
use atrepo::{Cid, Link, MAX_RECORD_BYTES, RecordError, syntax};
use rows::{Collection, DagCbor, Record, Reject, datetime};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;

/// Longest line that is read, in bytes. A record of 1 MiB whose every byte is escaped stays below
/// it.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Why a line is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// It has more than [`MAX_LINE_BYTES`].
    TooLong,
    /// It is not JSON of the expected shape.
    Json(String),
    /// `type` is not `commit`.
    Type(String),
    /// `data.uri` is not `at://did/collection/rkey`, or of another collection.
    Uri,
    /// `data.cid` is not a CID.
    Cid,
    /// `data.timestamp` is not an ISO time with a zone.
    Timestamp,
    /// `data.obj` is not an object, nested too deep, or larger than a record may be.
    Object(String),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the line has more than {MAX_LINE_BYTES} bytes"),
            Self::Json(error) => write!(f, "not a message: {error}"),
            Self::Type(found) => write!(f, "type is {found:?}, not \"commit\""),
            Self::Uri => write!(
                f,
                "data.uri is not at://did/collection/rkey of the collection"
            ),
            Self::Cid => write!(f, "data.cid is not a CID"),
            Self::Timestamp => write!(f, "data.timestamp is not a date and time with a zone"),
            Self::Object(error) => write!(f, "data.obj: {error}"),
        }
    }
}

impl std::error::Error for LineError {}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    collection: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
    #[serde(borrow)]
    cid: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    obj: DagCbor,
}

/// A message, checked for form.
pub struct Message<'a> {
    collection: Option<Collection>,
    uri: Cow<'a, str>,
    /// Where the DID ends and the rkey begins in `uri`.
    did_end: usize,
    rkey_start: usize,
    cid: Cow<'a, str>,
    timestamp: Cow<'a, str>,
    value: Checked,
}

/// What the URI of a record begins with.
const SCHEME: &str = "at://";

impl<'a> Message<'a> {
    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`LineError`].
    pub fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        let envelope: Envelope<'a> =
            serde_json::from_slice(line).map_err(|error| LineError::Json(error.to_string()))?;
        if envelope.r#type != "commit" {
            return Err(LineError::Type(envelope.r#type.chars().take(40).collect()));
        }
        let Envelope {
            collection, data, ..
        } = envelope;
        let Data {
            uri,
            cid,
            timestamp,
            obj,
        } = data;
        let (did, found, rkey) = split_uri(&uri).ok_or(LineError::Uri)?;
        if found != collection {
            return Err(LineError::Uri);
        }
        let (did_end, rkey_start) = (
            SCHEME.len().saturating_add(did.len()),
            uri.len().saturating_sub(rkey.len()),
        );
        if Link::parse(&cid).is_none() {
            return Err(LineError::Cid);
        }
        if timestamp.len() > 64 || datetime::parse(&timestamp).is_none() {
            return Err(LineError::Timestamp);
        }
        if obj.0.len() > MAX_RECORD_BYTES {
            let bytes = u64::try_from(obj.0.len()).unwrap_or(u64::MAX);
            return Err(LineError::Object(
                RecordError::TooLarge { bytes }.to_string(),
            ));
        }
        let value =
            Checked::new(obj.0).map_err(|error| LineError::Object(error.rule.to_owned()))?;
        if value.item().as_map().is_none() {
            return Err(LineError::Object("not an object".to_owned()));
        }
        let collection = Collection::parse(&collection);
        Ok(Self {
            collection,
            uri,
            did_end,
            rkey_start,
            cid,
            timestamp,
            value,
        })
    }

    /// The record, or nothing if its collection is not indexed.
    #[must_use]
    pub fn record(&self) -> Option<Record<'_>> {
        Some(Record {
            did: self.uri.get(SCHEME.len()..self.did_end)?,
            collection: self.collection?,
            rkey: self.uri.get(self.rkey_start..)?,
            uri: &self.uri,
            cid: &self.cid,
            indexed_at: &self.timestamp,
            value: self.value.item().as_map()?,
        })
    }
}

/// DID, collection and rkey of a record's URI, all valid.
fn split_uri(uri: &str) -> Option<(&str, &str, &str)> {
    let (did, key) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let (collection, rkey) = syntax::split_key(key.as_bytes())?;
    syntax::is_did(did).then_some((did, collection, rkey))
}

/// A record as a producer sends it. All of its parts were checked before.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The account.
    pub did: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The record key.
    pub rkey: &'a str,
    /// The CID.
    pub cid: Cid,
    /// The value.
    pub value: Map<'a>,
    /// Milliseconds since 1970 that `indexedAt` may not pass.
    pub now: i64,
}

/// Appends a message with its line feed to `out`.
///
/// # Errors
/// The record cannot be written as JSON that JavaScript reads the same way; `out` is as before.
pub fn append(out: &mut Vec<u8>, record: &Outgoing<'_>) -> Result<(), Reject> {
    let json = rows::to_whole_json(record.value)?;
    let created_at = rows::created_at(&record.value);
    let timestamp = datetime::print(datetime::indexed_at(created_at, record.rkey, record.now));
    let (did, collection, rkey, cid) = (record.did, record.collection, record.rkey, record.cid);
    // None of these can hold a character that JSON escapes.
    out.extend_from_slice(
        format!(
            r#"{{"type":"commit","collection":"{collection}","data":{{"uri":"at://{did}/{collection}/{rkey}","cid":"{cid}","timestamp":"{timestamp}","obj":{json}}}}}"#
        )
        .as_bytes(),
    );
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::Codec;
    use atrepo::cbor::{self, Writer};

    const LINE: &str = r#"{"type":"commit","collection":"app.bsky.feed.like","data":{"uri":"at://did:plc:a/app.bsky.feed.like/3k","cid":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua","timestamp":"2024-01-01T00:00:00.000Z","obj":{"b":1,"a":{"$link":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"}}}}"#;

    #[test]
    fn a_record_goes_both_ways_unchanged() {
        let link = Cid::of(Codec::Raw, b"x");
        let mut w = Writer::new();
        w.map(4)
            .text("$type")
            .text("app.bsky.feed.like")
            .text("10")
            .bytes(b"\x01\x02")
            .text("blob")
            .cid(&link);
        w.text("createdAt").text("2024-01-01T00:00:00Z");
        // Canonical order: shorter keys first.
        let mut ordered = Writer::new();
        ordered
            .map(4)
            .text("10")
            .bytes(b"\x01\x02")
            .text("blob")
            .cid(&link)
            .text("$type")
            .text("app.bsky.feed.like");
        ordered.text("createdAt").text("2024-01-01T00:00:00Z");
        let bytes = ordered.into_bytes();
        let value = cbor::check(&bytes).unwrap().as_map().unwrap();
        let mut line = Vec::new();
        let outgoing = Outgoing {
            did: "did:plc:a",
            collection: "app.bsky.feed.like",
            rkey: "3k",
            cid: link,
            value,
            now: i64::MAX,
        };
        append(&mut line, &outgoing).unwrap();
        let message = Message::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(message.value.as_bytes(), bytes);
        let record = message.record().unwrap();
        assert_eq!(
            (record.did, record.rkey, record.indexed_at),
            ("did:plc:a", "3k", "2024-01-01T00:00:00.000Z")
        );
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        let error = |from: &str, to: &str| Message::parse(LINE.replace(from, to).as_bytes()).err();
        assert_eq!(error("", ""), None);
        assert!(matches!(
            error("{\"type\"", "{{\"type\""),
            Some(LineError::Json(_))
        ));
        assert!(matches!(
            error("\"type\":\"commit\",", ""),
            Some(LineError::Json(_))
        ));
        assert!(matches!(error("commit", "other"), Some(LineError::Type(_))));
        assert_eq!(
            error(
                "at://did:plc:a/app.bsky.feed.like",
                "at://did:plc:a/app.bsky.feed.post"
            ),
            Some(LineError::Uri)
        );
        assert_eq!(
            error("at://did:plc:a", "at://alice.example"),
            Some(LineError::Uri)
        );
        assert_eq!(
            error("2024-01-01T00:00:00.000Z", "yesterday"),
            Some(LineError::Timestamp)
        );
        assert_eq!(error("\"cid\":\"b", "\"cid\":\"!"), Some(LineError::Cid));
        assert!(matches!(
            error("\"b\":1", "\"b\":1,\"b\":2"),
            Some(LineError::Json(_))
        ));
        assert_eq!(error("\"$link\":\"b", "\"$link\":\"!"), None);
        assert!(matches!(
            error("\"obj\":{", "\"obj\":[{"),
            Some(LineError::Json(_))
        ));
        let deep = format!("{}1{}", "[".repeat(110), "]".repeat(110));
        assert!(matches!(
            error("\"b\":1", &format!("\"b\":{deep}")),
            Some(LineError::Object(_))
        ));
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(
            error("\"b\":1", &format!("\"b\":{deep}")),
            Some(LineError::Json(_))
        ));
    }

    #[test]
    fn a_collection_that_is_not_indexed_has_no_record() {
        let line = LINE.replace("app.bsky.feed.like", "org.example.thing");
        assert!(Message::parse(line.as_bytes()).unwrap().record().is_none());
    }
}
