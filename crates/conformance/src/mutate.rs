//! Small changes to records, most of them at an edge of some rule.

use crate::value::Value;
use simnet::Random;

/// Changes `record` in one to four places.
pub(crate) fn mutate(record: &mut Value, random: &mut Random) {
    for _ in 0..=random.below(4) {
        // The record itself is node 0 and its `$type` often node 1: most of what befalls them says
        // little.
        let least = if random.percent(90) { 2 } else { 0 };
        let mut at = least + random.index(count(record).saturating_sub(least));
        if let Some(node) = find(record, &mut at) {
            change(node, random);
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

/// The node that comes `at` places after `value`, depth first.
fn find<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::List(items) => items.iter_mut().find_map(|item| find(item, at)),
        Value::Map(entries) => entries.iter_mut().find_map(|(_, value)| find(value, at)),
        _ => None,
    }
}

fn change(node: &mut Value, random: &mut Random) {
    match node {
        Value::Map(entries) if random.percent(85) => change_map(entries, random),
        Value::List(items) if random.percent(85) => change_list(items, random),
        Value::Text(text) if random.percent(40) => *text = change_text(text, random),
        Value::Text(text) if random.percent(70) => *text = similar(text, random),
        Value::Link(_) if random.percent(60) => *node = Value::Link(link(random)),
        Value::Integer(_) if random.percent(80) => *node = number(random),
        _ => *node = anything(random, 2),
    }
}

fn change_map(entries: &mut Vec<(String, Value)>, random: &mut Random) {
    let at = random.index(entries.len());
    match random.below(5) {
        0 | 1 if !entries.is_empty() => drop(entries.swap_remove(at)),
        2 if !entries.is_empty() => entries[at].1 = anything(random, 2),
        3 if !entries.is_empty() => entries[at].0 = key(random),
        _ => entries.push((key(random), anything(random, 2))),
    }
}

fn change_list(items: &mut Vec<Value>, random: &mut Random) {
    let one = items
        .first()
        .cloned()
        .unwrap_or_else(|| anything(random, 1));
    match random.below(5) {
        0 => items.clear(),
        1 => items.push(anything(random, 2)),
        2 => drop(items.pop()),
        _ => {
            let length = *pick(
                random,
                &[
                    1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 20, 21, 50, 51, 300, 301, 1000, 1001,
                ],
            );
            items.resize(length, one);
        }
    }
}

fn pick<'p, T>(random: &mut Random, pool: &'p [T]) -> &'p T {
    &pool[random.index(pool.len())]
}

fn key(random: &mut Random) -> String {
    const KEYS: &[&str] = &[
        "$type",
        "__proto__",
        "0",
        "10",
        "2",
        "01",
        "4294967294",
        "4294967295",
        "-1",
        "",
        "constructor",
        "toString",
        "$link",
        "$bytes",
        "cid",
        "uri",
        "did",
        "subject",
        "createdAt",
        "text",
        "via",
        "reply",
        "embed",
        "facets",
        "labels",
        "langs",
        "tags",
        "ref",
        "mimeType",
        "size",
        "values",
        "val",
        "media",
        "record",
        "images",
        "allow",
        "hasOwnProperty",
        "ü",
        "a b",
        "length",
        "valueOf",
        "then",
        "prototype",
        "\u{0}",
        "\u{2028}",
    ];
    (*pick(random, KEYS)).to_owned()
}

fn number(random: &mut Random) -> Value {
    match random.below(14) {
        0 => Value::Integer(0),
        1 => Value::Integer(-1),
        2 => Value::Integer(1),
        3 => Value::Integer((1 << 53) - 1),
        4 => Value::Integer(1 << 53),
        5 => Value::Integer(1 - (1 << 53)),
        6 => Value::Integer(-(1 << 53)),
        7 => Value::Unsigned(u64::MAX),
        8 => Value::Float(*pick(
            random,
            &[
                1.0,
                -0.0,
                0.5,
                -1.0,
                1e21,
                1e-7,
                123_456_789.0,
                9_007_199_254_740_991.0,
            ],
        )),
        9 => Value::Float(*pick(
            random,
            &[
                9_007_199_254_740_992.0,
                f64::MAX,
                f64::MIN_POSITIVE,
                5e-324,
                1e20,
                -1.5e300,
            ],
        )),
        10 => Value::Float(f64::from_bits(random.next_u64())),
        11 => Value::Integer(*pick(
            random,
            &[
                1_000_000,
                1_000_001,
                2_000_000,
                2_000_001,
                300_000_000,
                300_000_001,
                20_000,
                20_001,
            ],
        )),
        _ => {
            Value::Integer(i64::from_ne_bytes(random.next_u64().to_ne_bytes()) >> random.below(63))
        }
    }
}

fn anything(random: &mut Random, depth: u32) -> Value {
    match random.below(if depth == 0 { 8 } else { 11 }) {
        0 => Value::Null,
        1 => Value::Bool(random.percent(50)),
        2 => number(random),
        3 | 4 => Value::Text((*pick(random, TEXTS)).to_owned()),
        5 => Value::Bytes(
            (0..random.below(6))
                .map(|n| n.to_le_bytes()[0] ^ 0xa5)
                .collect(),
        ),
        6 => Value::Link(link(random)),
        7 => Value::Text(long(random)),
        8 => Value::List(
            (0..random.below(4))
                .map(|_| anything(random, depth - 1))
                .collect(),
        ),
        _ => Value::Map(
            (0..random.below(4))
                .map(|_| (key(random), anything(random, depth - 1)))
                .collect(),
        ),
    }
}

/// A CID in binary form, of several kinds.
fn link(random: &mut Random) -> Vec<u8> {
    let mut cid = match random.below(6) {
        0 => vec![1, 0x71, 0x12, 32],
        1 => vec![1, 0x70, 0x12, 32],
        2 => vec![1, 0x55, 0x13, 64],
        3 => vec![1, 0x55, 0, 3],
        4 => vec![1, 0xb2, 0x01, 0x12, 32],
        _ => vec![1, 0x55, 0x12, 32],
    };
    let length = cid.last().copied().unwrap_or_default();
    cid.extend((0..length).map(|_| random.next_u64().to_le_bytes()[0]));
    cid
}

/// A text around some limit, in characters of several sizes, some of which join.
fn long(random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "a",
        "ü",
        "日",
        "👍",
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "e\u{301}",
        "\r\n",
        "क्ष",
        "각",
        "\u{200d}",
        "\u{fe0f}",
        "🏽",
        "👍🏽",
        "\u{600}a",
        "ทำ",
        "\u{1f1e6}",
        "\u{1100}\u{1161}\u{11a8}",
        "\u{e0}",
        "\u{94d}",
        "క్ష",
        "\u{0}",
    ];
    let limit = *pick(
        random,
        &[
            1usize, 5, 14, 20, 24, 50, 64, 100, 128, 200, 240, 256, 300, 500, 640, 2047, 2560,
            3000, 10_000,
        ],
    );
    let one = *pick(random, PIECES);
    let other = *pick(random, PIECES);
    let by_bytes = random.percent(30);
    let mut text = String::new();
    let mut pieces = 0;
    while (if by_bytes { text.len() } else { pieces }) < limit {
        text.push_str(if random.percent(10) { other } else { one });
        pieces += 1;
    }
    match random.below(3) {
        0 => text.push('x'),
        1 => drop(text.pop()),
        _ => {}
    }
    text
}

/// One change in the characters of `text`.
fn change_text(text: &str, random: &mut Random) -> String {
    const CHARACTERS: &[char] = &[
        'a', 'Z', '0', '9', '-', '.', ':', '/', '#', '?', '%', '_', '~', '+', 'T', 'Z', ' ',
        '\u{0}', '\n', 'ü', '\u{a0}', '\u{feff}', '\u{85}', '=', '\\', '"', '*', 'x', '\u{200d}',
        '[', '@', '!', '1', '6', 'q',
    ];
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.index(characters.len() + 1);
        match random.below(5) {
            0 => characters.insert(at, *pick(random, CHARACTERS)),
            1 if at < characters.len() => drop(characters.remove(at)),
            2 => characters.truncate(at),
            3 if at > 0 => characters.extend_from_within(..at),
            _ if at < characters.len() => characters[at] = *pick(random, CHARACTERS),
            _ => {}
        }
    }
    characters.into_iter().collect()
}

/// Another text of the kind that `text` seems to be.
fn similar(text: &str, random: &mut Random) -> String {
    let pool = if text.starts_with("at://") {
        AT_URIS
    } else if text.starts_with("did:") {
        DIDS
    } else if text.starts_with("baf") {
        CIDS
    } else if text.contains('T') && text.ends_with('Z') {
        return datetime(random);
    } else if text.starts_with("http") {
        URIS
    } else if text.contains('#') || text.starts_with("app.bsky.") {
        TYPES
    } else if text.contains('/') {
        MIMES
    } else if random.percent(50) {
        LANGUAGES
    } else {
        return long(random);
    };
    (*pick(random, pool)).to_owned()
}

fn datetime(random: &mut Random) -> String {
    let year = *pick(
        random,
        &[
            "2024", "0000", "9999", "0001", "1970", "1969", "99999", "-001", "+02024", "24",
        ],
    );
    let month = *pick(random, &["01", "12", "13", "00", "2", "06"]);
    let day = *pick(random, &["01", "28", "29", "30", "31", "32", "00", "9"]);
    let hour = *pick(random, &["00", "23", "24", "25", "12", "7"]);
    let minute = *pick(random, &["00", "59", "60", "30"]);
    let second = *pick(random, &["00", "59", "60", "61", "30"]);
    let fraction = *pick(
        random,
        &[
            "",
            ".0",
            ".123",
            ".123456789",
            ".9999999",
            ".",
            ",5",
            ".12345678901234567890123456789012345678901234567890",
        ],
    );
    let zone = *pick(
        random,
        &[
            "Z", "z", "", "+00:00", "-00:00", "+14:00", "-23:59", "+24:00", "+0100", "+01",
            "-01:00", "+01:60", " Z",
        ],
    );
    let t = *pick(random, &["T", "T", "T", "t", " "]);
    let usual = |random: &mut Random, part: &str, usual: &str| {
        if random.percent(75) {
            usual.to_owned()
        } else {
            part.to_owned()
        }
    };
    format!(
        "{}-{}-{}{t}{}:{}:{}{}{}",
        usual(random, year, "2023"),
        usual(random, month, "05"),
        usual(random, day, "17"),
        usual(random, hour, "11"),
        usual(random, minute, "22"),
        usual(random, second, "33"),
        usual(random, fraction, ".5"),
        usual(random, zone, "Z"),
    )
}

const AT_URIS: &[&str] = &[
    "at://did:plc:a",
    "at://did:plc:a/",
    "at://alice.example.com",
    "at://alice.example.com/app.bsky.feed.post/3k",
    "at://did:plc:a/app.bsky.feed.post",
    "at://did:plc:a/app.bsky.feed.post/",
    "at://did:plc:a/app.bsky.feed.post/3k/",
    "at://did:plc:a/app.bsky.feed.post/3k#/x",
    "at://did:plc:a/app.bsky.feed.post/3k#",
    "at://did:plc:a/app.bsky.feed.post/3k#x",
    "at://did:plc:a/app.bsky.feed.post/3k?a=b",
    "at://did:plc:a/app.bsky.feed.post/3k#/%41",
    "at://did:plc:a/app.bsky.feed.post/3k#/%",
    "at://did:plc:a/app.bsky.feed.post/3k#/%c3%bc",
    "at://did:plc:a/app.bsky.feed.post/3k#/%c3",
    "at://did:plc:a//3k",
    "at://",
    "at://did:plc:a/app.bsky.feed.post/..",
    "at://did:plc:a/app.bsky.feed.post/a:b~c_d-e.f",
    "at://did:plc:a/app.bsky.feed.post/a%20b",
    "at://did:plc:a/app.bsky.feed.post/a@b",
    "at://did:plc:a/a.b/c",
    "at://DID:plc:a/a.b.c/d",
    "at://did:plc:a/a.b.c/d/e",
    "https://x",
    "at:/did:plc:a",
    "at://did:plc:a%/a.b.c/d",
    "at://did:plc:a:/a.b.c/d",
    "at://localhost/a.b.c/d",
    "at://a.b/a.b.c/d#/a\\b",
    "at://a.b/a.b.c/d#/[x]",
    "at://did:plc:a/app.bsky.feed.post/\u{fc}",
    "at://did:plc:a?",
    "at://did:plc:a#/",
    "at://did:plc:a/#/x",
    "at://did:plc:a/app.bsky.graph.list/3k",
    "at://did:web:a.b%3A8080/app.bsky.feed.post/3k",
    "at://a.b/a.b.c/d#/x#/y",
    "at://did:plc:a/app.bsky.feed.post/3k#/%F0%9F%98%80",
    "at://did:plc:a/app.bsky.feed.post/3k#/%ED%A0%80",
];
const DIDS: &[&str] = &[
    "did:plc:a",
    "did:web:example.com",
    "did:web:localhost%3A1234",
    "did:key:zQ3sh",
    "did:plc:",
    "did:PLC:a",
    "did:p1c:a",
    "did:plc:a:",
    "did:plc:a%",
    "did:plc:a%zz",
    "did:plc:a b",
    "did:plc:a/b",
    "did:a:b:c:d",
    "did:::",
    "did:a::b",
    "DID:plc:a",
    "did:plc:\u{fc}",
    "did:plc:_",
    "did:plc:-",
    "did:plc:.",
    "did:plc::a",
    "did:onion:2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid",
];
const CIDS: &[&str] = &[
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua",
    "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51",
    "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh5",
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swu",
    "zdpuAwmPnfyoTuHCSMQc7vX8bVwtz8QxTfTLKeYLpnSfAqtXs",
    "k51qzi5uqu5dh9ihj4p2v5sl3hxvv27ryx2w0xrsv6jmmqi91t9xp8p9kaipc2",
    "BAFYREIGBTJ4X7IP5LEGNFZNUFUOPL4SG4KNZC2COF6DUAS4B3Q2FY6SWUA",
    "bafyb",
    "b",
    "baeaaaaa",
    "bafkqaaa",
    "bafkqabjbcaqs",
    "bafyaa===",
    "mAXASIA",
    "f01551220",
    "QmQg1v4o9xdT3Q14wh4S7dxZkDjyZ9ssFzFzyep1YrVJBY",
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swub",
    "12D3KooWGC6TvWhfajpX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5a",
    "Qm",
    "Q1",
    "bafybwqaafuq",
];
const URIS: &[&str] = &[
    "https://example.com",
    "http:x",
    "a:b",
    "a:/b",
    "a://",
    "a:///b",
    "https://exa mple.com",
    "mailto:a@b",
    "://x",
    "_:x",
    "a-b:c",
    "a.b:c",
    "1:2",
    "https://\u{fc}.de",
    "https:",
    "javascript:alert(1)",
    "a:b\u{a0}c",
    "a:b\u{85}c",
    "a:b\u{180e}c",
    "a:b\u{200b}c",
    "a:\u{feff}",
    "a:b\n",
    "at://x",
    "a:b\u{2028}",
    "\u{fc}:x",
    "urn:isbn:1",
    "a::",
    "a:?",
    "a://b//c",
    "a:/",
];
const TYPES: &[&str] = &[
    "app.bsky.embed.images",
    "app.bsky.embed.images#main",
    "app.bsky.embed.video",
    "app.bsky.embed.external",
    "app.bsky.embed.record",
    "app.bsky.embed.recordWithMedia",
    "app.bsky.embed.gallery",
    "app.bsky.embed.gallery#image",
    "app.bsky.embed.unknown",
    "",
    "x",
    "com.atproto.label.defs#selfLabels",
    "com.atproto.repo.strongRef",
    "app.bsky.richtext.facet#mention",
    "app.bsky.richtext.facet#link",
    "app.bsky.richtext.facet#tag",
    "app.bsky.feed.threadgate#mentionRule",
    "app.bsky.feed.threadgate#listRule",
    "app.bsky.feed.postgate#disableRule",
    "app.bsky.feed.post",
    "blob",
    "__proto__",
    "constructor",
    "app.bsky.feed.like",
];
const MIMES: &[&str] = &[
    "image/png",
    "image/jpeg",
    "image/",
    "image",
    "IMAGE/PNG",
    "image/*",
    "*/*",
    "text/vtt",
    "video/mp4",
    "video/webm",
    "/",
    "image/svg+xml",
    "",
    "text/plain",
    "image/png; charset=x",
    " image/png",
];
const LANGUAGES: &[&str] = &[
    "en",
    "EN",
    "eng",
    "english",
    "en-US",
    "en-us",
    "zh-Hant",
    "zh-min-nan",
    "i-klingon",
    "x-a",
    "X-a",
    "en-",
    "en-x-a",
    "en-x",
    "de-1996",
    "de-1996-1996",
    "sl-rozaj-biske",
    "en-a-bb",
    "en-a-bb-a-cc",
    "en-a-bb-A-cc",
    "abcd",
    "a",
    "",
    "en-US-u-co-phonebk",
    "en-GB-oed",
    "en-gb-oed",
    "sgn-BE-FR",
    "zh-cmn-yue-hak-xxx",
    "es-419",
    "en-Latn-US-x-twain",
    "1a",
    "en_US",
    "und",
    "mul-Latn",
    "art-lojban",
    "qaa-Qaaa-QM-x-southern",
    "en-1abc",
    "en-abcdefgh-abcdefgi",
    "en-a-b",
    "pt-BR-pt",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "self",
    "blob",
    "null",
    "3jzfcijpj2z2a",
    "2024-01-01T00:00:00Z",
    "at://did:plc:a/app.bsky.feed.post/3k",
    "did:plc:a",
    "alice.example.com",
    "https://example.com",
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua",
    "\u{0}",
    "\u{1}\u{1f}\u{7f}\u{80}",
    "\"\\/\u{8}\u{c}\n\r\t",
    "\u{2028}\u{2029}",
    "\u{feff}bom",
    "app.bsky.embed.images",
    "app.bsky.embed.record",
    "\u{fffd}",
    "image/png",
    "en",
    "app.bsky.feed.post",
    "a.b",
    "a.b.c",
    "app.bsky.richtext.facet#mention",
    "localhost",
    "xn--a.b-c",
    "-a.b",
    "a.4b",
    "1.b",
    "app.bsky.feed.post#x",
    "app.bsky.feed-post.x",
    "😀",
    "\u{10ffff}",
];
