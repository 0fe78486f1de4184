//! Events as frames of `com.atproto.sync.subscribeRepos`
//! (<https://atproto.com/specs/event-stream>): two objects in DAG-CBOR, a header and a body.
//!
//! A PDS and the relay tell of the same event under different numbers, so what is kept of it is all
//! but its number.

use atrepo::Cid;
use atrepo::cbor::Writer;
use atrepo::sync::Op;
use rows::datetime;

/// An event without its number, which its frame has between two of the parts.
#[derive(Clone)]
pub(super) struct Event {
    /// The header, and the body up to the number.
    before: Vec<u8>,
    /// The body from there to the time.
    between: Vec<u8>,
    /// The time, in microseconds since 1970.
    micros: u64,
    /// The rest of the body.
    after: Vec<u8>,
}

/// A commit as its event tells of it. What a fault changes is changed here.
#[derive(Clone)]
pub(super) struct CommitParts {
    pub(super) did: String,
    pub(super) rev: String,
    pub(super) since: Option<String>,
    pub(super) commit: Cid,
    pub(super) prev_data: Option<Cid>,
    pub(super) ops: Vec<Op>,
    /// A CAR.
    pub(super) blocks: Vec<u8>,
    pub(super) too_big: bool,
    /// Bytes of a field that nobody knows.
    pub(super) padding: usize,
}

fn event(kind: &str, fields: u64, micros: u64) -> (Writer, Event) {
    let mut w = header(kind);
    w.map(fields);
    let event = Event {
        before: Vec::new(),
        between: Vec::new(),
        micros,
        after: Vec::new(),
    };
    (w, event)
}

impl Event {
    /// The frame of the event with this number. Another time may stand in for its own.
    pub(super) fn frame(&self, seq: u64, micros: Option<u64>) -> Vec<u8> {
        let millis = micros.unwrap_or(self.micros) / 1000;
        let mut w = Writer::new();
        w.raw(&self.before).unsigned(seq).raw(&self.between);
        w.text(&datetime::print(i64::try_from(millis).unwrap_or(0)));
        w.raw(&self.after);
        w.into_bytes()
    }

    /// A commit.
    pub(super) fn commit(parts: &CommitParts, micros: u64) -> Self {
        let fields = 11 + u64::from(parts.prev_data.is_some()) + u64::from(parts.padding > 0);
        let (mut w, mut event) = event("#commit", fields, micros);
        w.text("ops").list(parts.ops.len() as u64);
        for op in &parts.ops {
            w.map(3 + u64::from(op.prev.is_some())).text("cid");
            match &op.cid {
                Some(cid) => w.cid(cid),
                None => w.null(),
            };
            w.text("path")
                .text(&format!("{}/{}", op.collection, op.rkey));
            if let Some(prev) = &op.prev {
                w.text("prev").cid(prev);
            }
            w.text("action").text(op.action.word());
        }
        w.text("rev").text(&parts.rev).text("seq");
        event.before = w.into_bytes();
        let mut w = Writer::new();
        w.text("repo").text(&parts.did).text("time");
        event.between = w.into_bytes();
        let mut w = Writer::new();
        w.text("blobs").list(0).text("since");
        match &parts.since {
            Some(since) => w.text(since),
            None => w.null(),
        };
        w.text("blocks").bytes(&parts.blocks);
        w.text("commit").cid(&parts.commit);
        w.text("rebase").bool(false);
        w.text("tooBig").bool(parts.too_big);
        if parts.padding > 0 {
            w.text("padding").bytes(&vec![0; parts.padding]);
        }
        if let Some(prev_data) = &parts.prev_data {
            w.text("prevData").cid(prev_data);
        }
        event.after = w.into_bytes();
        event
    }

    /// The repo of `did` is at `rev`; `blocks` is a CAR with its commit.
    pub(super) fn sync(did: &str, rev: &str, blocks: &[u8], micros: u64) -> Self {
        let (mut w, mut event) = event("#sync", 5, micros);
        w.text("did").text(did).text("rev").text(rev).text("seq");
        event.before = w.into_bytes();
        event.time_is_next();
        let mut w = Writer::new();
        w.text("blocks").bytes(blocks);
        event.after = w.into_bytes();
        event
    }

    /// `did` is active, or has this status.
    pub(super) fn account(did: &str, status: Option<&str>, micros: u64) -> Self {
        let (mut w, mut event) = event("#account", 4 + u64::from(status.is_some()), micros);
        w.text("did").text(did).text("seq");
        event.before = w.into_bytes();
        event.time_is_next();
        let mut w = Writer::new();
        w.text("active").bool(status.is_none());
        if let Some(status) = status {
            w.text("status").text(status);
        }
        event.after = w.into_bytes();
        event
    }

    /// The document of `did` changed.
    pub(super) fn identity(did: &str, handle: &str, micros: u64) -> Self {
        let (mut w, mut event) = event("#identity", 4, micros);
        w.text("did").text(did).text("seq");
        event.before = w.into_bytes();
        event.time_is_next();
        let mut w = Writer::new();
        w.text("handle").text(handle);
        event.after = w.into_bytes();
        event
    }

    fn time_is_next(&mut self) {
        let mut w = Writer::new();
        w.text("time");
        self.between = w.into_bytes();
    }
}

fn header(kind: &str) -> Writer {
    let mut w = Writer::new();
    w.map(2).text("t").text(kind).text("op").integer(1);
    w
}

/// A frame that informs the subscriber.
pub(super) fn info(name: &str, message: &str) -> Vec<u8> {
    let mut w = header("#info");
    w.map(2)
        .text("name")
        .text(name)
        .text("message")
        .text(message);
    w.into_bytes()
}

/// A frame of a kind that nobody knows.
pub(super) fn unknown(did: &str) -> Vec<u8> {
    let mut w = header("#weather");
    w.map(1).text("did").text(did);
    w.into_bytes()
}

/// A frame that ends the stream.
pub(super) fn error(name: &str, message: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(1).text("op").integer(-1);
    w.map(2)
        .text("error")
        .text(name)
        .text("message")
        .text(message);
    w.into_bytes()
}
