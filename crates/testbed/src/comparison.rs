//! Tables as sorted JSON, and what differs between two sets of them.

use postgres::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The rows of every table of schema `bsky` as JSON, sorted. `notification.id` and migration times
/// are left out, since no two loads have the same.
#[must_use]
pub fn dump_of(client: &mut Client) -> BTreeMap<String, Vec<String>> {
    let names = "SELECT table_name::text FROM information_schema.tables
                 WHERE table_schema = 'bsky' AND table_type = 'BASE TABLE'";
    let tables = client.query(names, &[]).expect("list tables");
    let mut dump = BTreeMap::new();
    for table in tables {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT (to_jsonb(x) - '{{id,timestamp}}'::text[])::text FROM bsky.\"{table}\" x"
        );
        let rows = client.query(&sql, &[]).expect("dump");
        let rows = canonical(rows.iter().map(|row| row.get::<_, String>(0)));
        dump.insert(table, rows);
    }
    dump
}

/// Rows of JSON, each with its keys sorted, all sorted.
pub fn canonical(rows: impl Iterator<Item = String>) -> Vec<String> {
    let canonical = |row: String| -> String {
        let value: Value = serde_json::from_str(&row).expect("JSON");
        value.to_string()
    };
    let mut rows: Vec<String> = rows.map(canonical).collect();
    rows.sort();
    rows
}

/// What differs between two dumps, in a few lines; nothing if they are the same. A table that a
/// dump does not have counts as empty.
#[must_use]
pub fn difference(
    ours: &BTreeMap<String, Vec<String>>,
    theirs: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let mut text = String::new();
    let none = Vec::new();
    let tables: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for table in tables {
        let (found, rows) = (
            ours.get(table).unwrap_or(&none),
            theirs.get(table).unwrap_or(&none),
        );
        if found != rows {
            writeln!(
                text,
                "{table}: {} rows, wanted {}; only ours {:#?}, only theirs {:#?}",
                found.len(),
                rows.len(),
                only(found, rows),
                only(rows, found)
            )
            .expect("a text");
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Some rows that are in the first of two sorted lists alone.
fn only<'a>(rows: &'a [String], others: &[String]) -> Vec<&'a String> {
    rows.iter()
        .filter(|row| others.binary_search(row).is_err())
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(rows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect();
        rows.iter()
            .map(|(table, rows)| ((*table).to_owned(), owned(rows)))
            .collect()
    }

    #[test]
    fn every_kind_of_difference_is_one() {
        let wanted = dump(&[("a", &["1", "2"]), ("b", &[])]);
        assert_eq!(difference(&wanted, &wanted), None);
        for other in [
            dump(&[("a", &["1"]), ("b", &[])]),
            dump(&[("a", &["1", "2", "2"]), ("b", &[])]),
            dump(&[("a", &["1", "3"]), ("b", &[])]),
            dump(&[("a", &["1", "2"]), ("b", &["1"])]),
            dump(&[("a", &["1", "2"]), ("b", &[]), ("c", &["1"])]),
            dump(&[]),
        ] {
            assert!(difference(&other, &wanted).is_some(), "{other:?}");
        }
    }

    #[test]
    fn rows_are_the_same_in_any_order_of_keys() {
        let rows = [r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#].map(str::to_owned);
        let rows = canonical(rows.into_iter());
        assert_eq!(rows[0], rows[1]);
    }
}
