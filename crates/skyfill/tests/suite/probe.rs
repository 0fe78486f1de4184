//! Hand-written records, one after the other, with the rows that the official indexer added for
//! each.
//!
//! Compared are the rows that a record has by itself; those that need other records (counts, flags,
//! notifications of quotes and replies) depend in the golden results on the order of the lines, and
//! have other tests.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use testbed::*;

/// The time of lines that name none.
const TIMESTAMP: &str = "2025-06-01T00:00:00.000Z";
/// The CID of records that are given in DAG-CBOR.
const GIVEN_CID: &str = "bafyreigeszviv62mnjr4ddlmtddwfqd2xgdmbrnmlfciygjkygksh3ehgy";

/// A line for a consumer; nothing if the record cannot be sent as one.
fn line_of(probe: &Value) -> Option<String> {
    let uri = probe["uri"].as_str().expect("a URI");
    let collection = uri.split('/').nth(3).expect("a collection");
    let line = |cid: &str, json: &str| {
        let timestamp = probe["ts"].as_str().unwrap_or(TIMESTAMP);
        format!(
            r#"{{"type":"commit","collection":"{collection}","data":{{"uri":"{uri}","cid":"{cid}","timestamp":"{timestamp}","obj":{json}}}}}"#
        ) + "\n"
    };
    let given = probe["cid"].as_str();
    if let Some(hex) = probe["cborHex"].as_str() {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex"))
            .collect();
        let item = atrepo::cbor::check(&bytes).ok()?;
        let json = rows::to_whole_json(item.as_map()?).ok()?;
        return Some(line(given.unwrap_or(GIVEN_CID), &json));
    }
    let json = probe["record"].to_string();
    // The CID is that of the record in DAG-CBOR, which the consumer makes of the JSON; the golden
    // rows tell it.
    Some(line(given.unwrap_or("CID"), &json))
}

/// Whether a row of `table` depends on other records.
fn is_relational(table: &str, row: &Value) -> bool {
    matches!(table, "post_agg" | "profile_agg")
        || (table == "notification" && matches!(row["reason"].as_str(), Some("quote" | "reply")))
}

fn pure(table: &str, row: &Value) -> String {
    let mut row = row.clone();
    let object = row.as_object_mut().expect("a row");
    object.remove("id");
    let relational = [
        "invalidReplyRoot",
        "violatesThreadGate",
        "violatesEmbeddingRules",
        "hasThreadGate",
        "hasPostGate",
    ];
    if table == "post" {
        relational
            .iter()
            .for_each(|column| drop(object.remove(*column)));
    }
    // The official indexer takes the clock for a profile that has no time.
    if table == "profile" {
        object.remove("createdAt");
    }
    row.to_string()
}

/// The rows that are new between two dumps.
fn added(
    before: &BTreeMap<String, Vec<String>>,
    after: &BTreeMap<String, Vec<String>>,
) -> Vec<(String, String)> {
    let mut added = Vec::new();
    for (table, rows) in after {
        let mut old = before[table].clone();
        for row in rows {
            if let Ok(at) = old.binary_search(row) {
                old.remove(at);
                continue;
            }
            let value: Value = serde_json::from_str(row).expect("JSON");
            if !is_relational(table, &value) {
                added.push((table.clone(), pure(table, &value)));
            }
        }
    }
    added.sort();
    added
}

fn check(name: &str) {
    let (probes, golden) = (
        material(&format!("probes/{name}.jsonl")),
        material(&format!("probes/{name}.out.jsonl")),
    );
    let read = |path| fs::read_to_string(path).expect("probes");
    let parse = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let (db, dir) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let mut before = db.dump();
    for (probe, wanted) in read(probes)
        .lines()
        .map(parse)
        .zip(read(golden).lines().map(parse))
    {
        let mut rows = Vec::new();
        for (key, value) in wanted.as_object().expect("an object") {
            let Some(table) = key.strip_prefix('+') else {
                continue;
            };
            for row in value.as_array().expect("rows") {
                // An update of a flag shows as a row that went and came.
                let went = wanted[format!("-{table}")]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                if !is_relational(table, row)
                    && !went
                        .iter()
                        .any(|gone| pure(table, gone) == pure(table, row))
                {
                    rows.push((table.to_owned(), pure(table, row)));
                }
            }
        }
        rows.sort();
        if let Some(line) = line_of(&probe) {
            let cid = wanted["+record"][0]["cid"].as_str().unwrap_or(GIVEN_CID);
            send_lines(
                &consumer.socket,
                &line.replacen("\"CID\"", &format!("\"{cid}\""), 1),
            );
        }
        let after = db.dump();
        let found = added(&before, &after);
        assert_eq!(found, rows, "{name}: {}", wanted["note"]);
        before = after;
    }
    consumer.stop();
}

#[test]
fn first_probes() {
    check("probe");
}

#[test]
fn second_probes() {
    check("probe2");
}
