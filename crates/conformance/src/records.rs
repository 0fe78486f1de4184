//! The differential fuzzer: mutated records of all collections, judged by the official indexer
//! (`conformance/judge.mjs`) and by skyfill.

use crate::{examples, mutate};
use atrepo::cbor::{Item, Value};
use atrepo::{Cid, Codec};
use data_encoding::HEXLOWER;
use handoff::line::{self, Message, Outgoing};
use serde_json::{Value as Json, json};
use simnet::Random;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Largest record, in bytes.
const MAX_RECORD: usize = 1 << 20;

/// A mutated record.
struct Case {
    collection: &'static str,
    cbor: Vec<u8>,
}

/// Number of disagreements over `count` records of `seed`. Each goes to stdout, one test case per
/// line.
pub(crate) fn compare(seed: u64, count: u64, judge: &[String]) -> Result<u64, String> {
    let mut judge = start(judge)?;
    let stdin = judge.stdin.take().ok_or("the judge has no input")?;
    let stdout = judge.stdout.take().ok_or("the judge has no output")?;
    let feeder = std::thread::spawn(move || feed(stdin, seed, count));
    let mut answers = BufReader::new(stdout).lines();
    let (mut accepted, mut disagreements, mut known_disagreements) = (0u64, 0u64, 0u64);
    let mut rules: BTreeMap<String, u64> = BTreeMap::new();
    for (number, case) in (0u64..).zip(cases(seed, count)) {
        let line = answers
            .next()
            .ok_or(format!("the judge ended after {number} records"))?
            .map_err(|error| error.to_string())?;
        let theirs: Json = serde_json::from_str(&line)
            .map_err(|error| format!("the judge said {line:?}: {error}"))?;
        let ours = check(&case);
        let agree = match &ours {
            Ok(json) => theirs["json"].as_str() == Some(json),
            Err(reason) => theirs["error"].is_string() && !reason.starts_with("the line form"),
        };
        match &ours {
            Ok(_) => accepted += 1,
            Err(reason) => *rules.entry(general(reason)).or_default() += 1,
        }
        if agree {
            continue;
        }
        let known = exotic_prototype(&case);
        let count = if known {
            &mut known_disagreements
        } else {
            &mut disagreements
        };
        *count += 1;
        let ours = match ours {
            Ok(json) => json!({ "json": json }),
            Err(error) => json!({ "error": error }),
        };
        let cbor = HEXLOWER.encode(&case.cbor);
        println!(
            "{}",
            json!({"seed": seed, "number": number, "collection": case.collection, "cbor": cbor, "official": theirs,
                "skyfill": ours, "known": known})
        );
    }
    feeder
        .join()
        .map_err(|_| "the feeder broke off")?
        .map_err(|error| format!("write to the judge: {error}"))?;
    judge.wait().map_err(|error| error.to_string())?;
    eprintln!(
        "{count} records of seed {seed}: {accepted} accepted, {disagreements} disagreements, and {known_disagreements} of the known kind"
    );
    for (rule, times) in rules {
        eprintln!("{times:>8} refused: {rule}");
    }
    Ok(disagreements)
}

fn start(judge: &[String]) -> Result<Child, String> {
    let [program, args @ ..] = judge else {
        return Err("no judge".to_owned());
    };
    Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start {program}: {error}"))
}

/// The records of `seed`, always the same.
fn cases(seed: u64, count: u64) -> impl Iterator<Item = Case> {
    let examples = examples::examples();
    let mut random = Random::new(seed);
    (0..count).map(move |number| {
        let (collection, example) = &examples[random.index(examples.len())];
        let mut record = example.clone();
        // The examples themselves first.
        if number >= examples.len() as u64 {
            mutate::mutate(&mut record, &mut random);
        }
        let mut cbor = record.to_cbor();
        // No repo has larger ones.
        if cbor.len() > MAX_RECORD {
            cbor = example.to_cbor();
        }
        Case { collection, cbor }
    })
}

fn feed(stdin: ChildStdin, seed: u64, count: u64) -> std::io::Result<()> {
    let mut out = BufWriter::new(stdin);
    for case in cases(seed, count) {
        let line = json!({"collection": case.collection, "cbor": HEXLOWER.encode(&case.cbor)});
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// What skyfill says: the text of `record.json`, or why it refuses. The record goes the way through
/// the line form, too, which must change nothing.
fn check(case: &Case) -> Result<String, String> {
    let item = atrepo::cbor::check(&case.cbor).map_err(|error| error.to_string())?;
    let map = item.as_map().ok_or("not an object")?;
    let collection = rows::Collection::parse(case.collection).ok_or("no collection")?;
    let checked = rows::check(collection, map).map_err(|reject| reject.to_string());
    let mut line = Vec::new();
    let outgoing = Outgoing {
        did: "did:plc:a",
        collection: case.collection,
        rkey: "self",
        cid: Cid::of(Codec::DagCbor, &case.cbor),
        value: map,
        now: 0,
    };
    let by_line = match line::append(&mut line, &outgoing) {
        Ok(()) => Message::parse(line.trim_ascii_end())
            .map_err(|error| error.to_string())
            .and_then(|message| {
                let record = message.record().ok_or("no record")?;
                rows::check(collection, record.value).map_err(|reject| reject.to_string())
            }),
        Err(reject) => Err(reject.to_string()),
    };
    if checked.is_ok() != by_line.is_ok() || checked.as_ref().ok() != by_line.as_ref().ok() {
        return Err(format!(
            "the line form says otherwise: {by_line:?} instead of {checked:?}"
        ));
    }
    checked
}

/// The one kind of record that is known to differ: an object whose `__proto__` is bytes, a link, or
/// a map with a `__proto__` of its own, or holds integers that the line form cannot write.
/// JavaScript then runs setters and methods of that prototype: keys that look like numbers vanish,
/// a key `toString` breaks the printing of a link, a prototype without a prototype lends its
/// fields. Nobody writes such records but to see what happens.
fn exotic_prototype(case: &Case) -> bool {
    /// `is_prototype`: the item itself is one; `below`: it is somewhere in one.
    fn has(item: Item<'_>, is_prototype: bool, below: bool) -> bool {
        match item.value() {
            Value::Bytes(_) | Value::Link(_) => is_prototype,
            Value::Unsigned(n) | Value::Negative(n) => below && n >= rows::MAX_SAFE_INTEGER,
            Value::List(mut list) => list.any(|item| has(item, false, below)),
            Value::Map(mut map) => {
                (is_prototype && map.get("__proto__").is_some())
                    || map.any(|(key, item)| {
                        has(item, key == "__proto__", below || key == "__proto__")
                    })
            }
            _ => false,
        }
    }
    atrepo::cbor::check(&case.cbor).is_ok_and(|item| has(item, false, false))
}

/// A reason without its path, to count by.
fn general(reason: &str) -> String {
    reason
        .split_once(' ')
        .map_or(reason, |(_, rule)| rule)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Case, cases};
    use rows::{Collection, Record, Rows};

    /// The rows of a record but that of `record`, as text, by `index`; nothing if it is refused.
    fn rows_of(
        case: &Case,
        cbor: &[u8],
        index: fn(&Record<'_>, &mut Rows<'_>) -> Result<rows::Indexed, rows::Reject>,
    ) -> Option<(Vec<String>, String, bool)> {
        let value = atrepo::cbor::check(cbor).ok()?.as_map()?;
        let record = Record {
            did: "did:plc:a",
            collection: Collection::parse(case.collection)?,
            rkey: "self",
            uri: "at://did:plc:a/x/self",
            cid: "cid",
            indexed_at: "2024-01-01T00:00:00.000Z",
            value,
        };
        let (mut made, mut json) = (Vec::new(), None);
        let mut sink = |info: appview::table::TableInfo, values: &[rows::Field<'_>]| {
            if let ("record", Some(rows::Field::Text(text))) = (info.name, values.get(3)) {
                json = Some((*text).to_owned());
            } else {
                made.push(format!("{} {values:?}", info.name));
            }
        };
        let indexed = index(&record, &mut Rows::new(&mut sink)).ok()?;
        Some((made, json?, indexed.is_reversible))
    }

    /// What `verify` rests on: the rows of a record follow from `record.json`, also where the
    /// record itself does not.
    #[test]
    fn rows_follow_from_the_stored_json() {
        let (mut accepted, mut irreversible) = (0, 0);
        for case in cases(7, 20_000) {
            let Some((rows, json, is_reversible)) = rows_of(&case, &case.cbor, rows::index) else {
                continue;
            };
            accepted += 1;
            irreversible += u32::from(!is_reversible);
            let stored = rows::from_stored_json(&json).unwrap_or_else(|| panic!("{json}"));
            let again = rows_of(&case, &stored, rows::index_stored);
            let (rows_again, json_again, _) = again.unwrap_or_else(|| panic!("refused: {json}"));
            assert_eq!((rows_again, json_again), (rows, json));
            if is_reversible {
                assert_eq!(stored, case.cbor);
            }
        }
        assert!(
            accepted > 2000 && irreversible > 50,
            "{accepted} {irreversible}"
        );
    }
}
