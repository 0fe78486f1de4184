//! Frames of event streams.

use crate::account::DID;
use atrepo::cbor::Writer;
use atrepo::{Cid, Codec};
use simnet::{LiveSettings, Network, NetworkSettings};

/// A frame of an event stream.
fn event(header: impl FnOnce(&mut Writer), body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let (mut of, mut after) = (Writer::new(), Writer::new());
    header(&mut of);
    body(&mut after);
    [of.into_bytes(), after.into_bytes()].concat()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let kind = |name: &'static str| {
        move |w: &mut Writer| {
            w.map(2).text("t").text(name).text("op").integer(1);
        }
    };
    let failed = |w: &mut Writer| _ = w.map(1).text("op").integer(-1);
    let mut all = life();
    all.extend([
        event(kind("#identity"), |w| {
            w.map(2).text("did").text(DID).text("seq").integer(8);
        }),
        event(kind("#info"), |w| {
            w.map(1).text("name").text("OutdatedCursor");
        }),
        event(failed, |w| {
            w.map(2).text("error").text("FutureCursor");
            w.text("message").text("Cursor in the future.");
        }),
        event(failed, |w| _ = w.map(0)),
    ]);
    all
}

/// Events of a life of a practice network: what a relay sends.
fn life() -> Vec<Vec<u8>> {
    let network = Network::start(NetworkSettings {
        repos: 8,
        records: 240,
        ..NetworkSettings::default()
    });
    let live = network.live(&LiveSettings {
        events: 24,
        ..LiveSettings::default()
    });
    live.frames()
}

pub(super) fn attacks() -> Vec<Vec<u8>> {
    let failed = |w: &mut Writer| _ = w.map(1).text("op").integer(-1);
    let zeros = |count: u64| {
        move |w: &mut Writer| {
            w.map(1).text("x").list(count);
            (0..count).for_each(|_| _ = w.integer(0));
        }
    };
    let mut all = hostile_commits();
    all.extend([
        event(failed, zeros(60_000)),
        event(failed, |w| {
            w.map(1).text("error").text(&"e".repeat(100_000));
        }),
        event(failed, |w| {
            w.map(1).text("x");
            (0..90).for_each(|_| _ = w.list(1));
            w.integer(0);
        }),
        // A header at the limit, each piece of which is checked.
        event(zeros(118), zeros(9)),
        event(
            |w| {
                w.map(1).text("x");
                (0..90).for_each(|_| _ = w.list(1));
                w.integer(0);
            },
            zeros(9),
        ),
        event(zeros(200), zeros(9)),
    ]);
    all
}

/// The frame of a commit of `DID` at a rev, with these operations: paths, and whether they delete.
fn commit_event(ops: &[(String, bool)], data: &Cid, nodes: &[(Cid, Vec<u8>)]) -> Vec<u8> {
    let rev = "3jzfcijpj2z2a";
    let commit = simnet::build_commit(DID, rev, data);
    let root = Cid::of(Codec::DagCbor, &commit);
    let mut blocks = vec![(root, commit)];
    blocks.extend_from_slice(nodes);
    let kind = |w: &mut Writer| _ = w.map(2).text("t").text("#commit").text("op").integer(1);
    event(kind, |w| {
        w.map(8).text("ops").list(ops.len() as u64);
        for (path, deletes) in ops {
            w.map(4).text("cid");
            if *deletes {
                w.null();
            } else {
                w.cid(&root);
            }
            w.text("path").text(path).text("prev");
            if *deletes {
                w.cid(&root);
            } else {
                w.null();
            }
            w.text("action")
                .text(if *deletes { "delete" } else { "create" });
        }
        w.text("rev").text(rev).text("seq").integer(7);
        w.text("repo").text(DID);
        w.text("time").text("2024-01-01T00:00:00.000Z");
        w.text("blocks").bytes(&simnet::build_car(root, &blocks));
        w.text("commit").cid(&root).text("prevData").cid(data);
    })
}

/// A node of these keys over a value, with `below` before, between and after them.
fn node(keys: &[String], value: &Cid, below: Option<&Cid>) -> (Cid, Vec<u8>) {
    let link = |w: &mut Writer| match below {
        Some(cid) => _ = w.cid(cid),
        None => _ = w.null(),
    };
    let (mut w, mut before) = (Writer::new(), "");
    w.map(2).text("e").list(keys.len() as u64);
    for key in keys {
        let shared = key.bytes().zip(before.bytes()).take_while(|(a, b)| a == b);
        let shared = shared.count();
        w.map(4).text("k").bytes(&key.as_bytes()[shared..]);
        w.text("p").unsigned(shared as u64).text("t");
        link(&mut w);
        w.text("v").cid(value);
        before = key;
    }
    w.text("l");
    link(&mut w);
    let block = w.into_bytes();
    (Cid::of(Codec::DagCbor, &block), block)
}

/// Keys of one layer, each with a text before its number.
fn keys(layer: u32, count: usize, text: &str) -> Vec<String> {
    (0u32..)
        .map(|n| format!("com.example.x/{text}{n:08}"))
        .filter(|key| atrepo::mst::layer(key.as_bytes()) == layer)
        .take(count)
        .collect()
}

/// Trees that are small to send and may be long to walk.
fn hostile_commits() -> Vec<Vec<u8>> {
    let value = Cid::of(Codec::DagCbor, b"x");
    let deletes = |keys: &[String]| -> Vec<(String, bool)> {
        keys.iter().map(|key| (format!("{key}a"), true)).collect()
    };
    // Every gap leads down the same nodes without keys, to the same key.
    let mut chain = vec![node(&keys(0, 1, ""), &value, None)];
    for _ in 0..3 {
        let below = chain.last().map(|(cid, _)| *cid);
        chain.push(node(&[], &value, below.as_ref()));
    }
    let top = keys(4, 200, "");
    let below = chain.last().map(|(cid, _)| *cid);
    let root = node(&top, &value, below.as_ref());
    chain.push(root.clone());
    // Long keys that share all but their ends.
    let long = keys(0, 8_000, &"k".repeat(480));
    let wide = node(&long, &value, None);
    // Operations beside each other in a node of many keys.
    let many = keys(0, 20_000, "");
    let flat = node(&many, &value, None);
    let some: Vec<String> = many.iter().step_by(100).cloned().collect();
    let missing: Vec<(String, bool)> = many
        .iter()
        .take(200)
        .map(|key| (key.clone(), false))
        .collect();
    vec![
        commit_event(&deletes(&top), &root.0, &chain),
        commit_event(&deletes(&long[..100]), &wide.0, std::slice::from_ref(&wide)),
        commit_event(&deletes(&some), &flat.0, std::slice::from_ref(&flat)),
        commit_event(&missing, &flat.0, std::slice::from_ref(&flat)),
        commit_event(&[], &value, &vec![flat; 2]),
    ]
}
