//! A host, as `skyfill status --host` and the table of hosts show it.

use super::{failed, iso, now, open};
use ledger::failures::{self, Group};
use ledger::hosts::{self, Chosen, Known};
use observe::printable;
use observe::units::{bytes, count, counted, rate, span};
use process::{Database, Failure};
use serde_json::{Value, json};

/// A host, and why repos of it failed.
pub struct Host {
    /// The host.
    pub known: Known,
    /// Its failed repos by reason.
    pub failures: Vec<Group>,
}

/// Reads it.
///
/// # Errors
/// The database cannot be read, or the ledger knows no such host.
pub fn read(database: &Database, name: &str) -> Result<Host, Failure> {
    let mut client = open(database)?;
    let refused = |error| database.failure(error);
    let schema = &database.schema;
    let (found, _) = hosts::known(&mut *client, schema, Chosen::One(name)).map_err(refused)?;
    let Some(known) = found.into_iter().next() else {
        return Err(
            Failure::usage(format!("--host {name}: the ledger knows no such host"))
                .hint("skyfill status --hosts all names those that it knows"),
        );
    };
    let failures = failures::by_reason(&mut *client, schema, Some(name)).map_err(refused)?;
    Ok(Host { known, failures })
}

impl Host {
    /// It as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut host = json(&self.known);
        host["failures"] = failed::json(&self.failures);
        host
    }

    /// It as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (known, gave) = (&self.known, &self.known.gave);
        let mut lines = vec![printable(&known.host).into_owned()];
        let mut add = |left: &str, text: String| lines.push(format!("{left:<11}{text}"));
        if let Some(url) = &known.url {
            add("url", printable(url).into_owned());
        }
        add(
            "listed",
            match &known.listing_error {
                Some(error) => format!("{}; {}", repos(known.listed), printable(error)),
                None => repos(known.listed),
            },
        );
        add(
            "gave",
            format!(
                "{} with {}, {}; {} absent; {}",
                repos(gave.given),
                counted(gave.records, "record"),
                bytes(gave.bytes),
                count(gave.absent),
                counted(gave.failed, "failure")
            ),
        );
        add("pending", repos(gave.pending));
        if let Some(worked) = known.worked {
            let (pace, ago) = (rate(gave.pace), span(now() - worked));
            add(
                "worked on",
                format!("{ago} ago, at {pace} repos per second"),
            );
        }
        add("limit", limit(known.learned.as_deref()));
        if let Some(trouble) = &gave.trouble {
            add("trouble", printable(trouble).into_owned());
        }
        let (lost, won) = known.claims;
        if lost + won > 0 {
            add("claims", format!("{lost} lost, {won} won"));
        }
        if !self.failures.is_empty() {
            lines.push(String::new());
            lines.extend(failed::lines(&self.failures));
        }
        lines
    }
}

/// A number of repos, for people.
fn repos(number: u64) -> String {
    counted(number, "repo")
}

/// What was learned of a host's limits, for people.
#[must_use]
pub fn limit(learned: Option<&str>) -> String {
    let learned: Value = learned
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let mut parts = Vec::new();
    let announced = &learned["limit"];
    if let (Some(requests), Some(seconds)) = (
        announced["requests"].as_u64(),
        announced["seconds"].as_f64(),
    ) {
        parts.push(format!("{requests} per {seconds:.0} s"));
    }
    if let Some(ceiling) = learned["ceiling"].as_f64() {
        parts.push(format!("at most {}/s", rate(ceiling)));
    }
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(", "),
    }
}

/// How often a host answered 429 without a limit header.
#[must_use]
pub fn lessons(learned: Option<&str>) -> u64 {
    let learned: Option<Value> = learned.and_then(|text| serde_json::from_str(text).ok());
    learned
        .and_then(|learned| learned["lessons"].as_u64())
        .unwrap_or(0)
}

/// A host as JSON.
#[must_use]
pub fn json(known: &Known) -> Value {
    let learned = known.learned.as_deref();
    let learned: Value = learned
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let gave = &known.gave;
    json!({
        "host": known.host, "url": known.url, "listed": known.listed, "listingError": known.listing_error,
        "given": gave.given, "absent": gave.absent, "failed": gave.failed, "records": gave.records, "bytes": gave.bytes,
        "pending": gave.pending, "perSecond": gave.pace, "trouble": gave.trouble, "workedAt": known.worked.map(iso),
        "leased": known.is_leased, "learned": learned,
        "claimsLost": known.claims.0, "claimsWon": known.claims.1,
    })
}

/// Whether a run or a pass had to do with the host.
pub(super) fn is_of_runs(known: &Known) -> bool {
    let gave = &known.gave;
    let repos = gave.given + gave.pending + gave.failed + gave.absent + known.listed;
    repos > 0 || known.is_leased || known.listing_error.is_some() || gave.trouble.is_some()
}

/// The table of hosts, a line each, with its head.
#[must_use]
pub fn table(hosts: &[Known]) -> Vec<String> {
    let head = [
        "host", "repos", "pending", "failed", "absent", "rate", "429s", "limit", "trouble",
    ];
    let mut rows: Vec<[String; 9]> = vec![head.map(str::to_owned)];
    rows.extend(hosts.iter().map(|known| {
        let gave = &known.gave;
        let trouble = gave.trouble.as_ref().or(known.listing_error.as_ref());
        [
            short(&printable(&known.host), 40),
            count(gave.given),
            count(gave.pending),
            count(gave.failed),
            count(gave.absent),
            match known.is_leased {
                true => format!("{}/s", rate(gave.pace)),
                false => "-".to_owned(),
            },
            count(lessons(known.learned.as_deref())),
            limit(known.learned.as_deref()),
            trouble.map_or_else(String::new, |trouble| short(&printable(trouble), 60)),
        ]
    }));
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |row: &[String; 9]| {
        let cell = |at: usize| {
            let (text, width) = (&row[at], widths[at]);
            match (1..=6).contains(&at) {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            }
        };
        let cells: Vec<String> = (0..row.len()).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most - 1).collect();
    format!("{begin}…")
}
