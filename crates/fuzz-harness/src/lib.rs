//! What each fuzz target checks. No input may panic, hang or take memory out of proportion, and what is accepted has to
//! hold what acceptance promises.

mod seeds;

pub use seeds::seeds;

use atrepo::cbor::{self, Item, Value, Writer};
use atrepo::{Cid, Codec, Repo, RepoError};
use discover::did_cache::{self, CacheError};
use handoff::line::{self, Message, Outgoing};
use load::Batch;

/// The DID of every seed repo.
pub const DID: &str = "did:plc:fuzzfuzzfuzzfuzzfuzzfuzz";

/// A CAR as a PDS would answer it: what passes the check can be walked again, to the same entries.
pub fn car(data: &[u8]) {
    let Ok(repo) = Repo::open(data, DID) else { return };
    let Ok(summary) = repo.check() else { return };
    let mut entries = 0;
    repo.entries(|_| -> Result<(), RepoError> {
        entries += 1;
        Ok(())
    })
    .expect("a checked repo walks again");
    assert_eq!(entries, summary.entries);
}

/// DAG-CBOR: what is accepted is canonical, so writing it again gives the same bytes; as a record it goes to JSON and back.
pub fn cbor(data: &[u8]) {
    let Ok(item) = cbor::check(data) else { return };
    let mut writer = Writer::new();
    write(item, &mut writer);
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
                // A record may hold what JSON has no form for: a map that looks like a link or bytes.
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
fn write(item: Item<'_>, w: &mut Writer) {
    match item.value() {
        Value::Unsigned(n) => drop(w.unsigned(n)),
        Value::Negative(n) => match i64::try_from(n) {
            Ok(n) => drop(w.integer(-1 - n)),
            // Below what the writer's integers reach: the head by hand.
            Err(_) => drop(w.raw(&[0x3b]).raw(&n.to_be_bytes())),
        },
        Value::Bytes(bytes) => drop(w.bytes(bytes)),
        Value::Text(text) => drop(w.text(text)),
        Value::Link(link) => drop(w.link(link.as_bytes())),
        Value::Bool(value) => drop(w.bool(value)),
        Value::Null => drop(w.null()),
        Value::Float(value) => drop(w.float(value)),
        Value::List(list) => {
            w.list(list.len());
            list.for_each(|item| write(item, w));
        }
        Value::Map(map) => {
            w.map(map.len());
            for (key, item) in map {
                w.text(key);
                write(item, w);
            }
        }
    }
}

/// MST nodes: the input is cut into blocks, each gets its right CID, the first is the root. Keys come out in order.
pub fn mst(data: &[u8]) {
    let mut blocks: Vec<(Cid, &[u8])> = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (block, after) = after.split_at(length);
        blocks.push((Cid::of(Codec::DagCbor, block), block));
        rest = after;
    }
    let Some((root, _)) = blocks.first() else { return };
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
pub fn did_cache(data: &[u8]) {
    let mut entries = 0usize;
    let outcome = did_cache::read(data, |_| -> Result<(), CacheError> {
        entries += 1;
        Ok(())
    });
    assert!(entries <= data.len(), "{outcome:?}");
}

/// The line form: what is accepted is indexed or refused, and leaves rows that a batch can hold.
pub fn line(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    let Some(record) = message.record() else { return };
    let mut batch = Batch::new(record.collection);
    match batch.add(&record) {
        Ok(added) => assert!(added && batch.records() == 1 && batch.bytes() > 0),
        Err(reject) => assert!(batch.records() == 0 && batch.bytes() == 0, "{reject}"),
    }
}
