//! Inputs that once made work or memory out of proportion to their size, and their relatives. Small
//! enough to be replayed in CI; what they cost is counted, so that size does not matter.

use crate::seeds::{one_node, rkeys};
use atrepo::cbor::Writer;

/// Deepest nesting that the DAG-CBOR check lets pass below a field of a record.
const DEPTH: usize = 95;

/// The attacks on each target, by its name.
#[must_use]
pub fn attacks() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let cars = cars();
    let mut all = vec![
        ("car", cars.clone()),
        ("car_rows", cars),
        ("cbor", records()),
        ("record", records()),
        ("line", lines()),
    ];
    all.extend(crate::message_seeds::attacks());
    all
}

/// A post with the field `a`, which no lexicon knows, before its own fields, and `after` among them
/// (`facets`, `langs`).
fn post(unknown: &[u8], known: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(4 + u64::from(known.is_some()));
    w.text("a").raw(unknown);
    w.text("text").text("hello");
    w.text("$type").text("app.bsky.feed.post");
    if let Some((key, value)) = known {
        w.text(key).raw(value);
    }
    w.text("createdAt").text("2024-01-01T00:00:00.000Z");
    w.into_bytes()
}

/// `inner` inside of `depth` values, each of which `wrap` makes of the one inside.
fn nested(depth: usize, inner: Vec<u8>, wrap: impl Fn(&mut Writer, &[u8])) -> Vec<u8> {
    (0..depth).fold(inner, |inner, _| {
        let mut w = Writer::new();
        wrap(&mut w, &inner);
        w.into_bytes()
    })
}

fn value(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w);
    w.into_bytes()
}

/// A list of `count` zeros.
fn zeros(count: u64) -> Vec<u8> {
    value(|w| {
        w.list(count);
        (0..count).for_each(|_| _ = w.integer(0));
    })
}

/// The records: each is taken, or refused, in proportion to its size.
fn records() -> Vec<Vec<u8>> {
    let many = 20_000;
    let list = |inner| {
        nested(DEPTH, inner, |w, inner| {
            w.list(1).raw(inner);
        })
    };
    let single_keys = |inner| {
        nested(DEPTH, inner, |w, inner| {
            w.map(1).text("k").raw(inner);
        })
    };
    // A key that looks like an array index, after another.
    let index_keys = |inner| {
        nested(DEPTH, inner, |w, inner| {
            w.map(2).text("a").raw(inner).text("10").integer(1);
        })
    };
    let marked = value(|w| {
        w.list(2).text("\u{feff}x").raw(&zeros(many));
    });
    let prototypes = |inner| {
        nested(DEPTH, inner, |w, inner| {
            w.map(2).text("a").integer(1).text("__proto__").raw(inner);
        })
    };
    // Keys that are the same but for marks, and long: the path of the rejection is made of them.
    let long_keys = nested(
        DEPTH,
        value(|w| {
            w.map(2).text("b").null().text("\u{feff}b").null();
        }),
        |w, inner| {
            w.map(1).text(&"k".repeat(400)).raw(inner);
        },
    );
    let null = value(|w| _ = w.null());
    let controls = value(|w| {
        w.text(&"\u{1}".repeat(20_000));
    });
    vec![
        post(&index_keys(zeros(4)), None),
        post(&index_keys(zeros(many)), None),
        post(&list(zeros(many)), None),
        post(&list(marked), None),
        post(&single_keys(zeros(many)), None),
        post(&single_keys(value(|w| _ = w.text("\u{feff}x"))), None),
        post(&prototypes(value(|w| _ = w.list(0))), None),
        post(&long_keys, None),
        post(&controls, None),
        post(&null, Some(("langs", &variants(12_000)))),
        post(&null, Some(("facets", &mentions(2_000)))),
    ]
}

/// A list of one language tag with `count` variants.
fn variants(count: usize) -> Vec<u8> {
    let tag: String = (0..count).map(|n| format!("-a{n:05}")).collect();
    value(|w| _ = w.list(1).text(&format!("en{tag}")))
}

/// A facet that mentions `count` accounts.
fn mentions(count: usize) -> Vec<u8> {
    value(|w| {
        w.list(1).map(2).text("index").map(2);
        w.text("byteEnd").integer(1).text("byteStart").integer(0);
        w.text("features").list(count as u64);
        for n in 0..count {
            w.map(2).text("did").text(&format!("did:plc:{n}"));
            w.text("$type").text("app.bsky.richtext.facet#mention");
        }
    })
}

/// The CARs: none costs its readers more than its size allows.
fn cars() -> Vec<Vec<u8>> {
    let large = value(|w| {
        w.map(1).text("x").text(&"y".repeat(200_000));
    });
    let too_large = value(|w| {
        w.map(1)
            .text("x")
            .text(&"y".repeat(atrepo::MAX_RECORD_BYTES));
    });
    let follow = value(|w| {
        w.map(3).text("$type").text("app.bsky.graph.follow");
        w.text("subject").text("did:plc:a");
        w.text("createdAt").text("2024-01-01T00:00:00.000Z");
    });
    let deep = records();
    let mut cars: Vec<Vec<u8>> = vec![
        one_node(&rkeys("com.example.x", 200), &large),
        one_node(&rkeys("app.bsky.feed.post", 3), &too_large),
        one_node(&rkeys("app.bsky.graph.follow", 400), &follow),
    ];
    cars.extend(
        deep.iter()
            .map(|record| one_node(&rkeys("app.bsky.feed.post", 8), record)),
    );
    cars
}

/// The lines: JSON that comes in another order or depth than DAG-CBOR has it.
fn lines() -> Vec<Vec<u8>> {
    let line = |inner: &str| {
        format!(
            r#"{{"type":"commit","collection":"app.bsky.feed.post","data":{{"uri":"at://did:plc:a/app.bsky.feed.post/3k","cid":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua","timestamp":"2024-01-01T00:00:00.000Z","obj":{{"a":{inner},"$type":"app.bsky.feed.post","text":"","createdAt":"2024-01-01T00:00:00.000Z"}}}}}}"#
        )
        .into_bytes()
    };
    let around = |start: &str, end: &str| {
        let zeros = "0,".repeat(10_000);
        line(&format!(
            "{}[{zeros}0]{}",
            start.repeat(DEPTH),
            end.repeat(DEPTH)
        ))
    };
    let siblings = "0,".repeat(24);
    vec![
        around("[", "]"),
        around(&format!("[{siblings}"), "]"),
        // Keys in an order that is not DAG-CBOR's, at each level.
        around(r#"{"bb":0,"a":"#, "}"),
        around(r#"{"b":"#, r#","a":0}"#),
        around(r#"{"$link":"#, "}"),
        line(&format!(
            "[{}0]",
            r#"{"$bytes":"AQI"},[0,{"$link":"x"}],"#.repeat(1_000)
        )),
    ]
}
