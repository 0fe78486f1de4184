//! Records that are expensive to read, to write as JSON, or to store.
//!
//! All are canonical DAG-CBOR, and valid under their lexicon: the official indexer stores them if
//! they are not too large. Most carry their load in a field that no lexicon knows (`load`). It does
//! not compress well, so that it gets past whoever looks at ratios alone.

use super::noise;
use crate::Random;
use atrepo::cbor::{Writer, key_order};
use atrepo::{Cid, Codec};

/// The time in every record.
const CREATED_AT: &str = "2025-03-01T12:00:00.000Z";
/// The field that no lexicon knows.
const LOAD: &str = "load";

/// Text in DAG-CBOR.
fn text(text: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.text(text);
    w.into_bytes()
}

/// A list of items that are DAG-CBOR already.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::new();
    w.list(items.len() as u64);
    for item in items {
        w.raw(item);
    }
    w.into_bytes()
}

/// A map of values that are DAG-CBOR already, its keys put into canonical order.
fn map(mut fields: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
    fields.sort_by(|a, b| key_order(a.0.as_bytes(), b.0.as_bytes()));
    let mut w = Writer::new();
    w.map(fields.len() as u64);
    for (key, value) in fields {
        w.text(key).raw(&value);
    }
    w.into_bytes()
}

/// A post with these fields beside the ones that each post must have.
#[must_use]
pub fn post(more: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
    let mut fields = vec![
        ("$type", text("app.bsky.feed.post")),
        ("text", text("a hostile post")),
        ("createdAt", text(CREATED_AT)),
    ];
    fields.extend(more);
    map(fields)
}

/// A post with maps in maps, `depth` of them. Each has a key that JavaScript moves to the front of
/// the map, behind a key that holds the next map: a writer that starts a map anew when it meets the
/// index does twice the work for each level.
#[must_use]
pub fn index_keys(depth: usize) -> Vec<u8> {
    let mut w = Writer::new();
    for _ in 0..depth {
        w.map(2).text("a");
    }
    w.map(0);
    for _ in 0..depth {
        w.text("10").integer(1);
    }
    post(vec![(LOAD, w.into_bytes())])
}

/// A post in one language whose tag of about `bytes` bytes has as many variants, each another one:
/// finding each among those before it is quadratic.
#[must_use]
pub fn language_tags(bytes: usize) -> Vec<u8> {
    const VARIANT: usize = "-00000000".len();
    let mut tag = String::with_capacity(bytes + VARIANT);
    tag.push_str("en");
    for number in 0..bytes / VARIANT {
        // Eight letters and digits make a variant.
        tag.push_str(&format!("-{number:08x}"));
    }
    post(vec![("langs", list(&[text(&tag)]))])
}

/// A post that mentions `count` accounts, each another one that does not exist: one notification
/// each, and quadratic for whoever searches a list for each of them.
#[must_use]
pub fn mentions(count: usize) -> Vec<u8> {
    let features: Vec<Vec<u8>> = (0..count)
        .map(|number| {
            let did = super::invented_did(0x6d65_6e74, number as u64);
            map(vec![
                ("$type", text("app.bsky.richtext.facet#mention")),
                ("did", text(&did)),
            ])
        })
        .collect();
    let mut zero = Writer::new();
    zero.integer(0);
    let zero = zero.into_bytes();
    let index = map(vec![("byteStart", zero.clone()), ("byteEnd", zero)]);
    let facet = map(vec![("index", index), ("features", list(&features))]);
    post(vec![("facets", list(&[facet]))])
}

/// A post with `keys` fields, each a list in a list in a list, `depth` deep, with about `bytes`
/// bytes of small numbers in all. Whoever skips a value by walking through it walks through it
/// again for each level that it descends.
#[must_use]
pub fn deep_lists(depth: usize, keys: usize, bytes: usize) -> Vec<u8> {
    deep(depth, keys, bytes, "")
}

/// The same, with a byte order mark in front of each key, which makes the official decoder's
/// reader, and whoever imitates it, copy the record.
#[must_use]
pub fn deep_lists_under_marked_keys(depth: usize, keys: usize, bytes: usize) -> Vec<u8> {
    deep(depth, keys, bytes, MARK)
}

/// The byte order mark.
const MARK: &str = "\u{feff}";

fn deep(depth: usize, keys: usize, bytes: usize, mark: &str) -> Vec<u8> {
    let names: Vec<String> = (0..keys).map(|key| format!("{mark}load{key:03}")).collect();
    let numbers = small_numbers(bytes / keys.max(1));
    let mut w = Writer::new();
    for _ in 1..depth {
        w.list(1);
    }
    w.raw(&numbers);
    let value = w.into_bytes();
    post(
        names
            .iter()
            .map(|name| (name.as_str(), value.clone()))
            .collect(),
    )
}

/// A post with maps in maps, `depth` of them, each under a key with a byte order mark, around about
/// `bytes` bytes of small numbers: whoever copies each map into that around it copies those
/// `depth` times.
#[must_use]
pub fn deep_maps_under_marked_keys(depth: usize, bytes: usize) -> Vec<u8> {
    let key = format!("{MARK}a");
    let mut w = Writer::new();
    for _ in 0..depth {
        w.map(1).text(&key);
    }
    w.raw(&small_numbers(bytes));
    post(vec![(LOAD, w.into_bytes())])
}

/// A list of `count` numbers of one byte each.
fn small_numbers(count: usize) -> Vec<u8> {
    let mut random = Random::new(count as u64);
    let mut w = Writer::new();
    w.list(count as u64);
    for _ in 0..count {
        w.unsigned(random.below(24));
    }
    w.into_bytes()
}

/// A post with a text of `length` control characters in a field that no lexicon knows. Each of them
/// is six characters of JSON.
#[must_use]
pub fn control_characters(length: usize) -> Vec<u8> {
    const LEAST: u8 = 0x0e;
    const COUNT: u64 = 18;
    let mut random = Random::new(length as u64);
    let character = |_| char::from(LEAST + u8::try_from(random.below(COUNT)).unwrap_or(0));
    let all: String = (0..length).map(character).collect();
    post(vec![(LOAD, text(&all))])
}

/// A post of about `bytes` bytes, nearly all of them in one text.
#[must_use]
pub fn large(bytes: usize) -> Vec<u8> {
    post(vec![(LOAD, text(&noise(bytes as u64, bytes)))])
}

/// The URI of a post with a fragment of `length` characters that do not compress. It is valid up to
/// 8,192 bytes, and from some 2,700 on too long for an entry of a btree.
#[must_use]
pub fn long_uri(did: &str, rkey: &str, seed: u64, length: usize) -> String {
    format!(
        "at://{did}/app.bsky.feed.post/{rkey}#/{}",
        noise(seed, length)
    )
}

/// A thread gate of the post `rkey` of `did` that hides a reply of this URI.
#[must_use]
pub fn gate_that_hides(did: &str, rkey: &str, reply: &str) -> Vec<u8> {
    map(vec![
        ("$type", text("app.bsky.feed.threadgate")),
        (
            "post",
            text(&format!("at://{did}/app.bsky.feed.post/{rkey}")),
        ),
        ("createdAt", text(CREATED_AT)),
        ("hiddenReplies", list(&[text(reply)])),
    ])
}

/// A post that replies to the post `parent` in the thread of `root`, both URIs.
#[must_use]
pub fn reply(root: &str, parent: &str) -> Vec<u8> {
    let strong_ref = |uri: &str| {
        let cid = Cid::of(Codec::DagCbor, uri.as_bytes());
        map(vec![("uri", text(uri)), ("cid", text(&cid.to_string()))])
    };
    let reply = map(vec![
        ("root", strong_ref(root)),
        ("parent", strong_ref(parent)),
    ]);
    post(vec![("reply", reply)])
}

/// A list of accounts with fields that a post has, too, for replies to take it for the root of
/// their thread: it rules its own thread by `allow` and `hiddenReplies`, and mentions an account
/// whose DID has `length` characters that do not compress.
#[must_use]
pub fn list_that_rules(seed: u64, length: usize) -> Vec<u8> {
    let mention = map(vec![
        ("$type", text("app.bsky.richtext.facet#mention")),
        ("did", text(&format!("did:example:{}", noise(seed, length)))),
    ]);
    let facet = map(vec![("features", list(&[mention]))]);
    let rule = map(vec![(
        "$type",
        text("app.bsky.feed.threadgate#mentionRule"),
    )]);
    let hidden = format!("at://did:example:{}/x/y", noise(seed + 1, length));
    map(vec![
        ("$type", text("app.bsky.graph.list")),
        ("name", text("a hostile list")),
        ("purpose", text("app.bsky.graph.defs#curatelist")),
        ("createdAt", text(CREATED_AT)),
        ("facets", list(&[facet])),
        ("allow", list(&[rule])),
        ("hiddenReplies", list(&[text(&hidden)])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::cbor;
    use rows::Collection;
    use std::ops::Range;

    const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    const RKEY: &str = "3lceqgcxzjs2b";

    fn assert_valid(name: &str, collection: Collection, bytes: &[u8], size: &Range<usize>) {
        assert!(size.contains(&bytes.len()), "{name}: {} bytes", bytes.len());
        let record = cbor::check(bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let json = rows::check(collection, record.as_map().unwrap());
        assert!(json.is_ok(), "{name}: {:?}", json.err());
    }

    #[test]
    fn each_is_valid_and_has_its_size() {
        let long = long_uri(DID, RKEY, 1, 2700);
        let posts = [
            ("post", post(vec![]), 50..200),
            ("index keys", index_keys(10), 100..300),
            ("language tags", language_tags(10_000), 9_900..10_200),
            ("mentions", mentions(100), 7_500..8_500),
            ("deep lists", deep_lists(20, 4, 8_000), 8_000..8_500),
            (
                "lists under marked keys",
                deep_lists_under_marked_keys(20, 4, 8_000),
                8_000..8_500,
            ),
            (
                "maps under marked keys",
                deep_maps_under_marked_keys(20, 8_000),
                8_000..8_500,
            ),
            (
                "control characters",
                control_characters(10_000),
                10_000..10_200,
            ),
            ("large", large(9 << 20), 9 << 20..10 << 20),
            ("reply", reply(&long, &long), 5_400..6_200),
        ];
        for (name, bytes, size) in posts {
            assert_valid(name, Collection::Post, &bytes, &size);
        }
        let gate = gate_that_hides(DID, RKEY, &long);
        assert_valid("gate", Collection::Threadgate, &gate, &(2_700..3_200));
        let list = list_that_rules(1, 2_000);
        assert_valid("list", Collection::List, &list, &(4_000..5_000));
    }

    #[test]
    fn maps_and_lists_may_be_nested_as_deep_as_dag_cbor_allows() {
        let deepest = cbor::MAX_DEPTH - 2;
        for bytes in [
            index_keys(deepest),
            deep_lists(deepest, 1, 10),
            deep_maps_under_marked_keys(deepest, 10),
        ] {
            assert!(cbor::check(&bytes).is_ok());
        }
    }
}
