//! What each fuzz target checks. No input may panic, hang, or take work or memory out of proportion
//! to its size ([`cost`]), and what is accepted has to hold what acceptance promises.

mod account;
mod allocations;
mod attacks;
pub mod cost;
mod message_seeds;
mod messages;
mod seeds;

pub use account::DID;
pub use attacks::attacks;
pub use seeds::{one_node, rkeys, seeds};

use atrepo::cbor::{self, Cursor, Map, Value, Writer};
use atrepo::{Cid, Codec, Entry, Repo, RepoError};
use consumer::lines::Batch;
use cost::Rate;
use discover::did_cache::{self, CacheError};
use handoff::line::{self, Message, Outgoing};
use messages::{run_document, run_events, run_export, run_frames, run_lists};
use rows::{Collection, Record, Rows, datetime};
use std::sync::LazyLock;

/// A fuzz target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with an input.
    run: fn(&[u8]),
    /// Bytes that each input may cost beside its own: what a small repo or record takes whatever
    /// it holds.
    free: usize,
    /// What honest inputs cost.
    honest: LazyLock<Rate>,
}

impl Target {
    /// Runs an input; how many times the work and the allocations of an honest one it took.
    ///
    /// # Panics
    /// It broke something, or cost too much.
    pub fn run(&self, data: &[u8]) -> (f64, f64) {
        let honest = *self.honest;
        let cost = cost::of(|| (self.run)(data));
        let (work, allocated) = honest.times(data.len().saturating_add(self.free), cost);
        assert!(
            work <= cost::TIMES && allocated <= cost::TIMES,
            "{}: {} bytes took {work:.1} times the work and {allocated:.1} times the allocations of an honest input: {cost:?}",
            self.name,
            data.len()
        );
        (work, allocated)
    }
}

/// Small inputs of this kind of target may cost what so many bytes do.
const FREE: usize = 4 << 10;
/// Records of a CAR of any size may be read to so many bytes (see `atrepo::SHARED_TIMES`).
const FREE_CAR: usize = 64 << 10;

macro_rules! targets {
    ($($name:literal, $run:ident, $free:expr;)*) => {
        /// All of them.
        pub static TARGETS: [Target; [$($name),*].len()] = [$(Target {
            name: $name,
            run: $run,
            free: $free,
            honest: LazyLock::new(|| Rate::of(&honest($name), $run)),
        },)*];
    };
}

targets! {
    "car", run_car, FREE_CAR;
    "car_rows", run_car_rows, FREE_CAR;
    "cbor", run_cbor, FREE;
    "did_cache", run_did_cache, FREE_CAR;
    "document", run_document, FREE;
    "events", run_events, FREE;
    "export", run_export, FREE;
    "frames", run_frames, FREE;
    "line", run_line, FREE;
    "lists", run_lists, FREE;
    "mst", run_mst, FREE_CAR;
    "record", run_record, FREE;
}

fn honest(name: &str) -> Vec<Vec<u8>> {
    let found = seeds().into_iter().find(|(of, _)| *of == name);
    found.map(|(_, seeds)| seeds).unwrap_or_default()
}

/// The target called `name`.
///
/// # Panics
/// There is none.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("no target {name}"))
}

/// A CAR as a PDS would answer it: what passes the check can be walked again, to the same entries.
fn run_car(data: &[u8]) {
    let Ok(repo) = Repo::open(data, DID) else {
        return;
    };
    let Ok(summary) = repo.check() else { return };
    let mut entries = 0;
    repo.entries(|_| -> Result<(), RepoError> {
        entries += 1;
        Ok(())
    })
    .expect("a checked repo walks again");
    assert_eq!(entries, summary.entries);
}

/// DAG-CBOR: what is accepted is canonical, so writing it again gives the same bytes; as a record
/// it goes to JSON and back.
fn run_cbor(data: &[u8]) {
    let Ok(item) = cbor::check(data) else { return };
    let mut writer = Writer::new();
    write(&mut item.cursor(), &mut writer);
    assert_eq!(writer.into_bytes(), data, "accepted, but not canonical");
    if let Some(value) = item.as_map() {
        let cid = Cid::of(Codec::DagCbor, data);
        let mut out = Vec::new();
        let outgoing = Outgoing {
            did: DID,
            collection: "app.bsky.feed.post",
            rkey: "3k",
            cid,
            value,
            now: 0,
        };
        if line::append(&mut out, &outgoing).is_ok() {
            let message = Message::parse(out.strip_suffix(b"\n").expect("a line feed"));
            if let Err(error) = message {
                // A record may hold what JSON has no form for: a map that looks like a link or
                // bytes.
                let text = String::from_utf8_lossy(&out);
                assert!(
                    text.contains("$link") || text.contains("$bytes"),
                    "{error}: {text}"
                );
            }
        }
    }
}

/// Writes a value again. The depth is bounded by the check.
fn write(from: &mut Cursor<'_>, w: &mut Writer) {
    match from.value() {
        Value::Unsigned(n) => _ = w.unsigned(n),
        Value::Negative(n) => _ = w.negative(n),
        Value::Bytes(bytes) => _ = w.bytes(bytes),
        Value::Text(text) => _ = w.text(text),
        Value::Link(link) => _ = w.link(link.as_bytes()),
        Value::Bool(value) => _ = w.bool(value),
        Value::Null => _ = w.null(),
        Value::Float(value) => _ = w.float(value),
        Value::List(list) => {
            w.list(list.len());
            (0..list.len()).for_each(|_| write(from, w));
        }
        Value::Map(map) => {
            w.map(map.len());
            for _ in 0..map.len() {
                w.text(from.key());
                write(from, w);
            }
        }
    }
}

/// The rows of a record; how many.
fn rows_of(collection: Collection, rkey: &str, cid: Cid, value: Map<'_>) -> usize {
    let (uri, cid) = (
        format!("at://{DID}/{}/{rkey}", collection.nsid()),
        cid.to_string(),
    );
    let created_at = value.get("createdAt").and_then(|item| item.as_text());
    let indexed_at = datetime::print(datetime::indexed_at(created_at, rkey, NOW));
    let record = Record {
        did: DID,
        collection,
        rkey,
        uri: &uri,
        cid: &cid,
        indexed_at: &indexed_at,
        value,
    };
    let mut count = 0;
    match rows::index(&record, &mut Rows::new(&mut |_, _| count += 1)) {
        Ok(_) => count,
        Err(_) => 0,
    }
}

/// When records are said to be indexed at the latest.
const NOW: i64 = 1_793_000_000_000;

/// A record, as one of each collection: taken with rows or refused.
fn run_record(data: &[u8]) {
    let Some(value) = cbor::check(data).ok().and_then(|item| item.as_map()) else {
        return;
    };
    let cid = Cid::of(Codec::DagCbor, data);
    for collection in Collection::ALL {
        rows_of(*collection, "self", cid, value);
    }
}

/// A CAR as a PDS would answer it, to the rows of all of its records.
fn run_car_rows(data: &[u8]) {
    let Ok(repo) = Repo::open(data, DID) else {
        return;
    };
    let outcome = repo.entries(|entry| -> Result<(), RepoError> {
        if let Entry::Record {
            collection,
            rkey,
            cid,
            value,
            ..
        } = entry
            && let (Some(known), Some(value)) = (Collection::parse(collection), value.as_map())
        {
            rows_of(known, rkey, cid, value);
        }
        Ok(())
    });
    drop(outcome);
}

/// MST nodes: the input is cut into blocks, each gets its right CID, the first is the root. Keys
/// come out in order.
fn run_mst(data: &[u8]) {
    let mut blocks: Vec<(Cid, &[u8])> = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (block, after) = after.split_at(length);
        blocks.push((Cid::of(Codec::DagCbor, block), block));
        rest = after;
    }
    let Some((root, _)) = blocks.first() else {
        return;
    };
    let mut before: Option<Vec<u8>> = None;
    let mut leaves = 0usize;
    let outcome = atrepo::mst::walk(
        *root,
        |cid| {
            blocks
                .iter()
                .find(|(found, _)| found == cid)
                .map(|(_, block)| *block)
        },
        |leaf| -> Result<(), RepoError> {
            assert!(
                before.as_deref().is_none_or(|before| before < leaf.key),
                "keys out of order"
            );
            before = Some(leaf.key.to_vec());
            leaves += 1;
            Ok(())
        },
    );
    // A leaf takes more bytes than one: whatever the walk did, it was bounded by the input.
    assert!(leaves <= data.len(), "{outcome:?}");
}

/// DID caches: reading ends, and pairs are text.
fn run_did_cache(data: &[u8]) {
    let mut entries = 0usize;
    let outcome = did_cache::read(data, |_| -> Result<(), CacheError> {
        entries += 1;
        Ok(())
    });
    assert!(entries <= data.len(), "{outcome:?}");
}

/// The line form: what is accepted is indexed or refused, and leaves rows that a batch can hold.
fn run_line(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        return;
    };
    let Some(record) = message.record() else {
        return;
    };
    let mut batch = Batch::new(record.collection);
    match batch.add(&record) {
        Ok(added) => assert!(added && batch.records() == 1 && batch.bytes() > 0),
        Err(reject) => assert!(batch.records() == 0 && batch.bytes() == 0, "{reject}"),
    }
}
