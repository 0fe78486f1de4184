//! The records of accounts that mean harm.

use super::super::fault::Fault;
use crate::hostile::record;
use atrepo::syntax;

const POST: &str = "app.bsky.feed.post";
const GATE: &str = "app.bsky.feed.threadgate";
const LIST: &str = "app.bsky.graph.list";

/// Maps and lists may be nested so deep within a record.
const DEEPEST: usize = 95;
/// Characters that an entry of a btree cannot hold.
const LONG: usize = 2_700;
/// The longest part of a DID after `did:example:`.
const LONG_DID: usize = 2_030;

/// The records that this fault gives an account, made from `micros` on: key and DAG-CBOR.
pub(in super::super) fn records(fault: Fault, did: &str, micros: u64) -> Vec<(String, Vec<u8>)> {
    let rkey = |number: u64| syntax::tid(micros + number * 1_000, 7);
    let key = |collection: &str, number: u64| format!("{collection}/{}", rkey(number));
    let seed = micros;
    let posts = match fault {
        Fault::IndexKeys => vec![
            record::index_keys(30),
            record::index_keys(60),
            record::index_keys(DEEPEST),
        ],
        Fault::LanguageTags => vec![
            record::language_tags(240_000),
            record::language_tags(2_400_000),
        ],
        Fault::Mentions => vec![record::mentions(8_000), record::mentions(25_000)],
        Fault::DeepLists => vec![
            record::deep_lists(DEEPEST, 8, 800_000),
            record::deep_lists(DEEPEST, 1, 2_000_000),
            record::deep_lists_under_marked_keys(DEEPEST, 9, 800_000),
            record::deep_maps_under_marked_keys(DEEPEST, 800_000),
        ],
        Fault::ControlCharacters => vec![
            record::control_characters(900_000),
            record::control_characters(2_000_000),
        ],
        Fault::LargeRecords => vec![record::large(3 << 19), record::large(9 << 20)],
        Fault::LongKeys => {
            let long = record::long_uri(did, &rkey(0), seed, LONG);
            let list = format!("at://{did}/{LIST}/{}", rkey(3));
            return vec![
                (key(POST, 0), record::post(Vec::new())),
                (key(GATE, 0), record::gate_that_hides(did, &rkey(0), &long)),
                (key(POST, 1), record::reply(&long, &long)),
                (key(POST, 2), record::reply(&list, &list)),
                (key(LIST, 3), record::list_that_rules(seed, LONG_DID)),
            ];
        }
        _ => Vec::new(),
    };
    let numbered = posts.into_iter().zip(0..);
    numbered
        .map(|(post, number)| (key(POST, number), post))
        .collect()
}
