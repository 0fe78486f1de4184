//! Hosts as the page lists them: what they gave and what was learned of them, searched, sorted and
//! cut into pages.

use ledger::hosts::Known;
use serde::Serialize;
use serde_json::{Value, json};
use std::cmp::Ordering;

/// Hosts of a page.
const OF_A_PAGE: usize = 50;
/// Longest text to search for, in characters.
const LONGEST_SEARCH: usize = 100;

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct HostRow {
    pub(crate) host: String,
    pub(crate) health: &'static str,
    pub(crate) repos: u64,
    pub(crate) loaded: u64,
    pub(crate) pending: u64,
    pub(crate) failed: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Repos per second, when it was last worked on.
    pub(crate) pace: f64,
    /// The limit in requests per second: announced, else learned from refusals.
    pub(crate) rate: Option<f64>,
    /// Whether the host announced it.
    pub(crate) is_announced: bool,
    /// Requests that it can take at once.
    pub(crate) concurrency: Option<f64>,
    pub(crate) trouble: Option<String>,
    pub(crate) claims_lost: u64,
}

/// Rows of what the ledger knows.
pub(super) fn rows(known: Vec<Known>) -> Vec<HostRow> {
    known.into_iter().map(row).collect()
}

fn row(known: Known) -> HostRow {
    let gave = &known.gave;
    let settled = gave.given + gave.absent + gave.failed + gave.pending;
    let mut row = HostRow {
        repos: settled.max(known.listed),
        loaded: gave.given,
        pending: gave.pending,
        failed: gave.failed,
        records: gave.records,
        bytes: gave.bytes,
        pace: gave.pace,
        claims_lost: known.claims.0,
        trouble: known.listing_error.clone().or(gave.trouble.clone()),
        ..HostRow::default()
    };
    learn(&mut row, known.learned.as_deref());
    row.health = health(&row, known.is_leased);
    row.host = known.host;
    row
}

/// What was learned is JSON of `fetch::schedule::Learned`. What does not read as that says nothing.
fn learn(row: &mut HostRow, learned: Option<&str>) {
    let learned: Value = learned
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let limit = &learned["limit"];
    let announced = limit["requests"]
        .as_f64()
        .zip(limit["seconds"].as_f64())
        .filter(|(_, seconds)| *seconds > 0.0)
        .map(|(requests, seconds)| requests / seconds);
    row.is_announced = announced.is_some();
    row.rate = announced.or_else(|| learned["ceiling"].as_f64());
    row.concurrency = learned["concurrency"].as_f64();
}

/// One word for how a host does.
fn health(row: &HostRow, is_leased: bool) -> &'static str {
    if row.trouble.is_some() && row.loaded == 0 {
        "unreachable"
    } else if row.failed > 0 && row.failed >= row.loaded {
        "failing"
    } else if row.failed > 0 {
        "some failed"
    } else if is_leased && row.pending > 0 {
        "working"
    } else if row.pending > 0 || row.repos == 0 {
        "waiting"
    } else {
        "done"
    }
}

/// Which page of hosts is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Part of a name, in any case.
    pub(crate) search: String,
    /// A column; an unknown one is the name.
    pub(crate) by: String,
    pub(crate) is_descending: bool,
    /// Hosts before the page.
    pub(crate) offset: usize,
}

/// A page of hosts, as the page of the browser reads it.
pub(crate) fn page(rows: &[HostRow], order: &Order) -> Value {
    let wanted: String = order.search.chars().take(LONGEST_SEARCH).collect();
    let wanted = wanted.to_lowercase();
    let is_wanted = |row: &&HostRow| {
        wanted.is_empty() || row.host.to_lowercase().contains(&wanted) || row.health == wanted
    };
    let mut found: Vec<&HostRow> = rows.iter().filter(is_wanted).collect();
    found.sort_by(|a, b| {
        let by_column = compare(a, b, &order.by);
        let by_column = match order.is_descending {
            true => by_column.reverse(),
            false => by_column,
        };
        by_column.then_with(|| a.host.cmp(&b.host))
    });
    let shown = found.iter().skip(order.offset).take(OF_A_PAGE);
    json!({
        "hosts": shown.collect::<Vec<_>>(),
        "found": found.len(),
        "all": rows.len(),
        "offset": order.offset,
        "page": OF_A_PAGE,
    })
}

fn compare(a: &HostRow, b: &HostRow, by: &str) -> Ordering {
    let optional = |pick: fn(&HostRow) -> Option<f64>| {
        let value = |row| pick(row).unwrap_or(-1.0);
        value(a).total_cmp(&value(b))
    };
    match by {
        "health" => a.health.cmp(b.health),
        "repos" => a.repos.cmp(&b.repos),
        "loaded" => a.loaded.cmp(&b.loaded),
        "pending" => a.pending.cmp(&b.pending),
        "failed" => a.failed.cmp(&b.failed),
        "records" => a.records.cmp(&b.records),
        "bytes" => a.bytes.cmp(&b.bytes),
        "pace" => a.pace.total_cmp(&b.pace),
        "rate" => optional(|row| row.rate),
        "concurrency" => optional(|row| row.concurrency),
        _ => a.host.cmp(&b.host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::hosts::Gave;

    fn known(host: &str, (given, pending, failed): (u64, u64, u64), learned: &str) -> Known {
        Known {
            host: host.to_owned(),
            gave: Gave {
                given,
                pending,
                failed,
                ..Gave::default()
            },
            is_leased: !learned.is_empty(),
            learned: Some(learned.to_owned()),
            ..Known::default()
        }
    }

    fn all() -> Vec<HostRow> {
        let limit = r#"{"limit":{"requests":300,"seconds":60},"ceiling":1,"concurrency":7.5}"#;
        rows(vec![
            known("a.example", (5, 0, 0), ""),
            known("b.example", (5, 5, 0), limit),
            known("c.example", (5, 0, 1), r#"{"ceiling":2.5,"lessons":1}"#),
            known("d.example", (0, 0, 3), "no JSON"),
            Known {
                host: "e.example".to_owned(),
                listing_error: Some("timed out".to_owned()),
                listed: 9,
                ..Known::default()
            },
        ])
    }

    #[test]
    fn a_host_has_one_word_for_how_it_does() {
        let rows = all();
        let words: Vec<&str> = rows.iter().map(|row| row.health).collect();
        let expected = ["done", "working", "some failed", "failing", "unreachable"];
        assert_eq!(words, expected);
        assert_eq!((rows[1].rate, rows[1].is_announced), (Some(5.0), true));
        assert_eq!((rows[2].rate, rows[2].is_announced), (Some(2.5), false));
        assert_eq!((rows[1].concurrency, rows[3].rate), (Some(7.5), None));
        assert_eq!(rows[4].repos, 9);
    }

    #[test]
    fn hosts_are_searched_sorted_and_cut() {
        let rows = all();
        let names = |order: &Order| {
            let page = page(&rows, order);
            let hosts = page["hosts"].as_array().cloned().unwrap_or_default();
            let names = hosts.iter().filter_map(|host| host["host"].as_str());
            names.map(|name| name[..1].to_owned()).collect::<String>()
        };
        let order = |by: &str, is_descending| Order {
            by: by.to_owned(),
            is_descending,
            ..Order::default()
        };
        assert_eq!(names(&order("host", false)), "abcde");
        assert_eq!(names(&order("repos", true)), "becad");
        assert_eq!(names(&order("rate", true)), "bcade");
        assert_eq!(names(&order("unknown", true)), "edcba");
        let searched = Order {
            search: "C.EX".to_owned(),
            ..Order::default()
        };
        assert_eq!(names(&searched), "c");
        let far = Order {
            offset: usize::MAX,
            ..Order::default()
        };
        assert_eq!(names(&far), "");
        assert_eq!(page(&rows, &far)["found"], 5);
    }
}
