//! From the bytes of a frame to an event. The body is read once, whatever is in it; fields that are
//! not known are skipped.

use super::event::{
    AccountEvent, AccountStatus, CommitEvent, Event, IdentityEvent, InfoEvent, SyncEvent,
};
use super::{MAX_FRAME_BYTES, MAX_SYNC_BYTES, split};
use atrepo::cbor::{Map, Value};
use atrepo::sync::{Action, Op};
use atrepo::{Cid, MAX_OPS, MAX_SLICE_BYTES, syntax, work};
use bytes::Bytes;
use std::fmt;

/// Longest name of an error or of an info, and longest message, in characters.
const MAX_NAME: usize = 60;
const MAX_MESSAGE: usize = 200;
/// Longest time, in bytes.
const MAX_TIME: usize = 64;

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An event.
    Event(Event),
    /// An event of a kind that is not known. It is skipped.
    Unknown {
        /// Its kind.
        kind: String,
        /// Its sequence number, if it has one.
        seq: Option<i64>,
    },
    /// The server ends the stream, or refuses it.
    Refused {
        /// Name of the error: `FutureCursor`, `ConsumerTooSlow`.
        name: String,
        /// The same in words.
        message: Option<String>,
    },
}

/// A frame that is no event. Nothing in it is used but its place in the stream and the account that
/// it names, whose repo then has to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    /// Its kind, as `#commit`, if it is a known one.
    pub kind: Option<&'static str>,
    /// The field that is missing or wrong; `frame` for the whole of it.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    /// Its sequence number, if it could be read.
    pub seq: Option<i64>,
    /// Its account, if it could be read.
    pub did: Option<String>,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.unwrap_or("a frame");
        match self.seq {
            Some(seq) => write!(f, "{kind}, event {seq}: {} {}", self.field, self.what),
            None => write!(f, "{kind}: {} {}", self.field, self.what),
        }
    }
}

impl std::error::Error for EventError {}

/// A field, and what is wrong with it.
type Fault = (&'static str, &'static str);

const MISSING: &str = "is missing";

/// The known fields of all kinds of body.
#[derive(Default)]
struct Body<'a> {
    seq: Option<Value<'a>>,
    did: Option<Value<'a>>,
    repo: Option<Value<'a>>,
    time: Option<Value<'a>>,
    rev: Option<Value<'a>>,
    since: Option<Value<'a>>,
    commit: Option<Value<'a>>,
    prev_data: Option<Value<'a>>,
    ops: Option<Value<'a>>,
    blocks: Option<Value<'a>>,
    too_big: Option<Value<'a>>,
    active: Option<Value<'a>>,
    status: Option<Value<'a>>,
    handle: Option<Value<'a>>,
    name: Option<Value<'a>>,
    error: Option<Value<'a>>,
    message: Option<Value<'a>>,
}

impl<'a> Body<'a> {
    /// Reads all fields. Null counts as absent.
    fn read(map: Map<'a>) -> Self {
        let (mut body, mut cursor) = (Self::default(), map.cursor());
        for _ in 0..map.len() {
            let key = cursor.key();
            let value = Some(cursor.peek()).filter(|value| !matches!(value, Value::Null));
            cursor.skip();
            let field = match key {
                "seq" => &mut body.seq,
                "did" => &mut body.did,
                "repo" => &mut body.repo,
                "time" => &mut body.time,
                "rev" => &mut body.rev,
                "since" => &mut body.since,
                "commit" => &mut body.commit,
                "prevData" => &mut body.prev_data,
                "ops" => &mut body.ops,
                "blocks" => &mut body.blocks,
                "tooBig" => &mut body.too_big,
                "active" => &mut body.active,
                "status" => &mut body.status,
                "handle" => &mut body.handle,
                "name" => &mut body.name,
                "error" => &mut body.error,
                "message" => &mut body.message,
                _ => continue,
            };
            *field = value;
        }
        body
    }

    fn seq(&self) -> Option<i64> {
        match self.seq {
            Some(Value::Unsigned(seq)) => i64::try_from(seq).ok(),
            _ => None,
        }
    }

    /// The account; commits name it `repo`.
    fn did(&self) -> Option<String> {
        [self.did, self.repo]
            .into_iter()
            .flatten()
            .find_map(|value| match value {
                Value::Text(did) if syntax::is_did(did) => Some(did.to_owned()),
                _ => None,
            })
    }

    fn time(&self) -> Result<String, Fault> {
        let time = text("time", self.time)?;
        if time.len() > MAX_TIME || !time.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(("time", "is no time"));
        }
        Ok(time.to_owned())
    }

    fn rev(&self) -> Result<String, Fault> {
        tid("rev", text("rev", self.rev)?)
    }
}

fn text<'a>(field: &'static str, value: Option<Value<'a>>) -> Result<&'a str, Fault> {
    match value {
        Some(Value::Text(text)) => Ok(text),
        Some(_) => Err((field, "is no text")),
        None => Err((field, MISSING)),
    }
}

fn tid(field: &'static str, text: &str) -> Result<String, Fault> {
    match syntax::tid_micros(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err((field, "is no TID")),
    }
}

fn cid(field: &'static str, value: Option<Value<'_>>) -> Result<Option<Cid>, Fault> {
    match value {
        None => Ok(None),
        Some(Value::Link(link)) => Cid::from_bytes(link.as_bytes())
            .map(Some)
            .ok_or((field, "is no CIDv1 of SHA-256")),
        Some(_) => Err((field, "is no link")),
    }
}

/// The beginning of a text from outside.
fn begin(value: Option<Value<'_>>, most: usize) -> Option<String> {
    match value {
        Some(Value::Text(text)) => Some(text.chars().take(most).collect()),
        _ => None,
    }
}

/// Reads a frame.
///
/// # Errors
/// It is no event: not DAG-CBOR, too large, or a field is missing or wrong.
pub fn decode(frame: &Bytes) -> Result<Decoded, EventError> {
    work::add(frame.len());
    let Some((header, body)) = split(frame) else {
        return Err(EventError {
            kind: None,
            field: "frame",
            what: "is not two maps of DAG-CBOR",
            seq: None,
            did: None,
        });
    };
    let body = Body::read(body);
    let header = |key: &str| header.get(key).map(|item| item.value());
    let kind = match (header("op"), header("t")) {
        (Some(Value::Unsigned(1)), Some(Value::Text(kind))) => kind,
        (Some(Value::Negative(0)), _) => {
            return Ok(Decoded::Refused {
                name: begin(body.error, MAX_NAME).unwrap_or_default(),
                message: begin(body.message, MAX_MESSAGE),
            });
        }
        _ => {
            return Err(EventError {
                kind: None,
                field: "frame",
                what: "has a header without op or t",
                seq: body.seq(),
                did: body.did(),
            });
        }
    };
    let (kind, event) = match kind {
        "#commit" => ("#commit", commit(frame, &body)),
        "#sync" => ("#sync", sync(frame, &body)),
        "#identity" => ("#identity", identity(&body)),
        "#account" => ("#account", account(&body)),
        "#info" => ("#info", info(&body)),
        other => {
            return Ok(Decoded::Unknown {
                kind: other.chars().take(MAX_NAME).collect(),
                seq: body.seq(),
            });
        }
    };
    let event = match event {
        Ok(_) if frame.len() > MAX_FRAME_BYTES => Err(("frame", "has more than 5 MiB")),
        event => event,
    };
    event
        .map(Decoded::Event)
        .map_err(|(field, what)| EventError {
            kind: Some(kind),
            field,
            what,
            seq: body.seq(),
            did: body.did(),
        })
}

/// The fields of all events about accounts.
fn common(field: &'static str, body: &Body<'_>) -> Result<(i64, String, String), Fault> {
    let seq = match body.seq {
        None => return Err(("seq", MISSING)),
        Some(_) => body.seq().ok_or(("seq", "is no number of an event"))?,
    };
    let named = if field == "repo" { body.repo } else { body.did };
    let did = text(field, named)?;
    if !syntax::is_did(did) {
        return Err((field, "is no DID"));
    }
    Ok((seq, did.to_owned(), body.time()?))
}

fn slice(frame: &Bytes, body: &Body<'_>, most: usize) -> Result<Bytes, Fault> {
    match body.blocks {
        Some(Value::Bytes(blocks)) if blocks.len() <= most => Ok(frame.slice_ref(blocks)),
        Some(Value::Bytes(_)) => Err(("blocks", "has more bytes than it may have")),
        Some(_) => Err(("blocks", "is no bytes")),
        None => Err(("blocks", MISSING)),
    }
}

fn commit(frame: &Bytes, body: &Body<'_>) -> Result<Event, Fault> {
    let (seq, did, time) = common("repo", body)?;
    let since = match body.since {
        None => None,
        since => Some(tid("since", text("since", since)?)?),
    };
    let too_big = match body.too_big {
        None => false,
        Some(Value::Bool(too_big)) => too_big,
        Some(_) => return Err(("tooBig", "is no boolean")),
    };
    Ok(Event::Commit(CommitEvent {
        seq,
        did,
        time,
        rev: body.rev()?,
        since,
        commit: cid("commit", body.commit)?.ok_or(("commit", MISSING))?,
        prev_data: cid("prevData", body.prev_data)?,
        ops: ops(body)?,
        blocks: slice(frame, body, MAX_SLICE_BYTES)?,
        too_big,
    }))
}

fn ops(body: &Body<'_>) -> Result<Vec<Op>, Fault> {
    let list = match body.ops {
        Some(Value::List(list)) => list,
        Some(_) => return Err(("ops", "is no list")),
        None => return Err(("ops", MISSING)),
    };
    let count = usize::try_from(list.len()).unwrap_or(usize::MAX);
    if count > MAX_OPS {
        return Err(("ops", "has more than 200 operations"));
    }
    let (mut ops, mut cursor) = (Vec::with_capacity(count), list.cursor());
    for _ in 0..count {
        let Value::Map(map) = cursor.value() else {
            return Err(("ops", "has an operation that is no map"));
        };
        let (mut action, mut path, mut value, mut prev) = (None, None, None, None);
        for _ in 0..map.len() {
            let field = match cursor.key() {
                "action" => &mut action,
                "path" => &mut path,
                "cid" => &mut value,
                "prev" => &mut prev,
                _ => {
                    cursor.skip();
                    continue;
                }
            };
            *field = Some(cursor.peek()).filter(|value| !matches!(value, Value::Null));
            cursor.skip();
        }
        let path = text("ops.path", path)?;
        let (collection, rkey) = syntax::split_key(path.as_bytes())
            .ok_or(("ops.path", "is no collection and record key"))?;
        ops.push(Op {
            action: Action::parse(text("ops.action", action)?)
                .ok_or(("ops.action", "is none that is known"))?,
            collection: collection.to_owned(),
            rkey: rkey.to_owned(),
            cid: cid("ops.cid", value)?,
            prev: cid("ops.prev", prev)?,
        });
    }
    Ok(ops)
}

fn sync(frame: &Bytes, body: &Body<'_>) -> Result<Event, Fault> {
    let (seq, did, time) = common("did", body)?;
    Ok(Event::Sync(SyncEvent {
        seq,
        did,
        time,
        rev: body.rev()?,
        blocks: slice(frame, body, MAX_SYNC_BYTES)?,
    }))
}

fn identity(body: &Body<'_>) -> Result<Event, Fault> {
    let (seq, did, time) = common("did", body)?;
    let handle = match body.handle {
        Some(Value::Text(handle)) if syntax::is_handle(handle) => Some(handle.to_owned()),
        _ => None,
    };
    Ok(Event::Identity(IdentityEvent {
        seq,
        did,
        time,
        handle,
    }))
}

fn account(body: &Body<'_>) -> Result<Event, Fault> {
    let (seq, did, time) = common("did", body)?;
    let active = match body.active {
        Some(Value::Bool(active)) => active,
        Some(_) => return Err(("active", "is no boolean")),
        None => return Err(("active", MISSING)),
    };
    let status = match body.status {
        None => None,
        status => Some(AccountStatus::parse(text("status", status)?)),
    };
    Ok(Event::Account(AccountEvent {
        seq,
        did,
        time,
        active,
        status: status.filter(|_| !active),
    }))
}

fn info(body: &Body<'_>) -> Result<Event, Fault> {
    let name = begin(body.name, MAX_NAME).ok_or(("name", MISSING))?;
    let message = begin(body.message, MAX_MESSAGE);
    Ok(Event::Info(InfoEvent { name, message }))
}
