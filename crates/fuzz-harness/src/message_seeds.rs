//! Inputs that are not repos ([`crate::messages`]): honest ones to begin with, and those that may
//! take more than their size.

use crate::account::DID;
use atrepo::{Cid, Codec, RecordError, Repo};
use handoff::frames::{self, Answer, MAGIC, PartHeader};
use serde_json::json;
use simnet::Population;

mod events;

/// Text that most attacks repeat so many times.
const MANY: usize = 10_000;

/// The seeds of each target, by its name.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("frames", streams()),
        ("lists", pages()),
        ("events", events::seeds()),
        ("document", documents()),
        ("export", exports()),
    ]
}

/// The attacks on each target, by its name.
pub(crate) fn attacks() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("frames", hostile_streams()),
        ("lists", hostile_pages()),
        ("events", events::attacks()),
        ("document", hostile_documents()),
        ("export", hostile_exports()),
    ]
}

fn header(did: &str, commit: Vec<u8>) -> PartHeader {
    PartHeader {
        did: did.to_owned(),
        pds: "https://pds.example".to_owned(),
        part: 0,
        parts: 1,
        commit,
        car_bytes: 1 << 20,
        now: 1_793_000_000_000,
    }
}

/// Streams of whole repos, as producers send them.
fn streams() -> Vec<Vec<u8>> {
    let population = Population::new(99, 6, 240);
    let mut all = vec![MAGIC.to_vec()];
    for account in 0..population.len() {
        let (did, car) = (population.did(account), population.car(account));
        let mut out = MAGIC.to_vec();
        let repo = Repo::open(&car[..], &did).expect("a repo");
        frames::append_part(&mut out, &header(&did, repo.commit().block.clone()));
        let mut entries = 0;
        for (key, record) in population.records(account) {
            let cid = Cid::of(Codec::DagCbor, &record);
            frames::append_entry(&mut out, key.as_bytes(), &cid, &record);
            entries += 1;
        }
        let cid = Cid::of(Codec::Raw, b"x");
        for error in [
            RecordError::TooLarge { bytes: 9 << 20 },
            RecordError::Shared { bytes: 7 },
        ] {
            frames::append_unread(&mut out, b"com.example.x/z", &cid, &error);
        }
        frames::append_end(&mut out, entries + 2);
        frames::append_status(&mut out, &did, "takendown");
        all.push(out);
    }
    let answer = Answer::Refused {
        did: DID.to_owned(),
        rev: "3jzfcijpj2z2a".to_owned(),
        error: "another rev".to_owned(),
    };
    all.push(answer.line());
    all
}

/// Frames that hold next to nothing, and headers as long as a frame.
fn hostile_streams() -> Vec<Vec<u8>> {
    let stream = |frame: &[u8], count: usize| [MAGIC, &frame.repeat(count)].concat();
    let part = |pds: &str, commit: &[u8]| {
        let mut out = Vec::new();
        let long = PartHeader {
            pds: pds.to_owned(),
            ..header(DID, commit.to_vec())
        };
        frames::append_part(&mut out, &long);
        out
    };
    let cid = Cid::of(Codec::Raw, b"x");
    let (mut end, mut empty) = (Vec::new(), Vec::new());
    frames::append_end(&mut end, 0);
    frames::append_entry(&mut empty, b"", &cid, b"");
    let mut status = Vec::new();
    frames::append_status(&mut status, DID, "takendown");
    vec![
        stream(&end, MANY),
        stream(&empty, MANY),
        stream(&status, 2_000),
        stream(&part("", b""), 2_000),
        stream(&part(&"y".repeat(200_000), &[0; 200_000]), 2),
        // Good frames before a fault, all of it in one read.
        [&stream(&end, 1)[..], b"f\x03", &end].concat(),
        // The last frame does not come to its end.
        [&stream(&end, MANY)[..], &part("", &[0; 100_000])[..90_000]].concat(),
    ]
}

fn pages() -> Vec<Vec<u8>> {
    let did = |n: usize| format!("did:plc:{n:024}");
    let page = |count: usize| {
        let repos: Vec<_> = (0..count)
            .map(|n| {
                json!({"did": did(n), "head": Cid::of(Codec::Raw, b"x").to_string(),
                       "rev": "3jzfcijpj2z2a", "active": n % 7 != 0, "status": "takendown"})
            })
            .collect();
        json!({"cursor": did(count), "repos": repos})
    };
    let hosts: Vec<_> = (0..60)
        .map(|n| {
            json!({"hostname": format!("pds{n}.example:{n}"), "seq": n, "accountCount": n,
                   "status": "active"})
        })
        .collect();
    let lines: String = (0..40)
        .map(|n| discover::did_file::failure_line(&did(n), "https://pds.example", "why"))
        .collect();
    let texts = [
        page(0).to_string(),
        page(3).to_string(),
        page(100).to_string(),
        json!({"hosts": hosts}).to_string(),
        json!({"repos": [{"did": did(1)}, {"did": did(2)}, 7, null, [1], "x", 1.5, {}]})
            .to_string(),
        lines,
    ];
    texts.map(String::into_bytes).to_vec()
}

/// Lines, names and texts without sense, in numbers and in depth.
fn hostile_pages() -> Vec<Vec<u8>> {
    let list = |line: &str, count: usize| {
        format!("{{\"repos\":[{}0]}}", format!("{line},").repeat(count)).into_bytes()
    };
    let nested = |open: &str, close: &str| {
        format!("{{\"x\":{}0{}}}", open.repeat(MANY), close.repeat(MANY)).into_bytes()
    };
    let names = "\"did\":\"did:plc:a\",".repeat(MANY);
    vec![
        list("{\"\":0}", 9_000),
        list("{\"did\":\"did:plc:a\"}", 9_000),
        list("{\"hostname\":\"a\"}", 9_000),
        list("0", 60_000),
        list(&format!("{{{names}\"x\":0}}"), 1),
        list(&format!("{{\"did\":\"{}\"}}", "\\u0041".repeat(MANY)), 3),
        list(&format!("{{\"{}\":0}}", "\\u0041".repeat(MANY)), 3),
        nested("[", "]"),
        nested("{\"a\":", "}"),
        format!("{{\"cursor\":\"{}\"}}", "c".repeat(MANY)).into_bytes(),
        "[\"did:plc:a\",\"https://a\"]\n".repeat(MANY).into_bytes(),
        format!("[{}0]\n", "0,".repeat(30_000)).into_bytes(),
        format!("[{}0]\n", "{\"\":0},".repeat(8_000)).into_bytes(),
    ]
}

fn document(handle: &str, pds: &str) -> String {
    simnet::document(DID, handle, pds)
}

fn documents() -> Vec<Vec<u8>> {
    let one = document("alice.example", "https://pds.example");
    let old = one.replace("Multikey", "EcdsaSecp256k1VerificationKey2019");
    [
        one.clone(),
        document("", "http://localhost:2583"),
        document("b.example", "https://me:secret@pds.example/path?x#y"),
        one.replace("#atproto\"", "#other\""),
        one.replace(&format!("{DID}#"), "#"),
        one.replace("\"https://pds.example\"", "{\"a\":[1,null,true,1.5,-1]}"),
        old,
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn hostile_documents() -> Vec<Vec<u8>> {
    let one = document("alice.example", "https://pds.example");
    let with = |from: &str, to: &str, count: usize| {
        one.replacen(from, &format!("{from}{}", to.repeat(count)), 1)
            .into_bytes()
    };
    vec![
        with("\"alsoKnownAs\":[", "\"\",", MANY),
        with("\"alsoKnownAs\":[", "\"at://\",", MANY),
        with("\"alsoKnownAs\":[\"at://", "a", 60_000),
        with("\"@context\":[", "0,", 30_000),
        with("\"@context\":[", "{\"\":0},", MANY),
        with(
            "\"service\":[",
            "{\"id\":\"\",\"type\":\"\",\"serviceEndpoint\":0},",
            2_000,
        ),
        with(
            "\"verificationMethod\":[",
            "{\"id\":\"\",\"type\":\"\",\"controller\":\"\"},",
            2_000,
        ),
        with("\"https://pds.example", "/%\u{e9}", 20_000),
        with("\"https://", "a:b@", MANY),
        with("\"publicKeyMultibase\":\"z", "z", 60_000),
    ]
}

fn export(did: usize, operation: &str) -> String {
    format!(
        "{{\"did\":\"did:plc:{did:024}\",\"operation\":{operation},\"cid\":\"{}\",\
         \"nullified\":false,\"createdAt\":\"2024-01-01T00:00:{:02}.000Z\"}}\n",
        Cid::of(Codec::DagCbor, &did.to_be_bytes()),
        did % 60
    )
}

fn operation(handle: &str, pds: &str) -> String {
    let key = format!("did:key:{}", simnet::signing_key(DID));
    json!({
        "sig": "x".repeat(86), "prev": null, "type": "plc_operation",
        "services": {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": pds}},
        "alsoKnownAs": [format!("at://{handle}")],
        "rotationKeys": [key, key],
        "verificationMethods": {"atproto": key},
    })
    .to_string()
}

fn exports() -> Vec<Vec<u8>> {
    let key = format!("did:key:{}", simnet::signing_key(DID));
    let old = json!({"type": "create", "signingKey": key, "recoveryKey": key, "sig": "x",
                     "handle": "old.example", "service": "https://pds.example", "prev": null});
    let one = export(1, &operation("alice.example", "https://pds.example"));
    let many: String = (0..40)
        .map(|n| {
            export(
                n,
                &operation(&format!("a{n}.example"), "https://pds.example"),
            )
        })
        .collect();
    [
        one.clone(),
        export(2, &old.to_string()),
        export(
            3,
            "{\"type\":\"plc_tombstone\",\"prev\":\"x\",\"sig\":\"x\"}",
        ),
        one.replace("\"nullified\":false", "\"nullified\":true"),
        many,
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn hostile_exports() -> Vec<Vec<u8>> {
    let honest = operation("alice.example", "https://pds.example");
    let with = |from: &str, to: &str, count: usize| {
        let long = honest.replacen(from, &format!("{from}{}", to.repeat(count)), 1);
        export(1, &long).into_bytes()
    };
    vec![
        with("\"alsoKnownAs\":[", "\"\",", MANY),
        with("\"alsoKnownAs\":[", "0,", 30_000),
        with("\"alsoKnownAs\":[", "{\"\":0},", 8_000),
        with("{", "\"\":0,", MANY),
        with("\"alsoKnownAs\":[", "[[[[[[[[[[[[[[]]]]]]]]]]]]]],", 2_000),
        export(1, &honest).repeat(100).into_bytes(),
        export(1, "{}").repeat(400).into_bytes(),
        "\n".repeat(MANY).into_bytes(),
        "x\n".repeat(MANY).into_bytes(),
    ]
}
