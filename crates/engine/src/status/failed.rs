//! Failed repos by reason, with examples and what helps: `skyfill status --failed`.

use super::{help, iso, now, open};
use ledger::failures::{self, GROUPED, Group};
use observe::printable;
use observe::units::{count, counted, rough};
use process::{Database, Failure};
use serde_json::{Value, json};
use std::time::Duration;

/// Reads them.
///
/// # Errors
/// The database cannot be read.
pub fn read(database: &Database) -> Result<Vec<Group>, Failure> {
    let mut client = open(database)?;
    failures::by_reason(&mut *client, &database.schema, None)
        .map_err(|error| database.failure(error))
}

/// They as JSON.
#[must_use]
pub fn json(groups: &[Group]) -> Value {
    let group = |group: &Group| {
        let examples = group.examples.iter().map(
            |example| json!({"did": example.did, "host": example.host, "error": example.error}),
        );
        json!({
            "reason": group.code, "repos": group.repos, "hosts": group.hosts, "due": group.due,
            "nextAt": group.next.map(iso), "helps": help::against(&group.code),
            "examples": examples.collect::<Vec<_>>(),
        })
    };
    groups.iter().map(group).collect()
}

/// They as lines for people.
#[must_use]
pub fn lines(groups: &[Group]) -> Vec<String> {
    let all: u64 = groups.iter().map(|group| group.repos).sum();
    if all == 0 {
        return vec!["no repo is failed".to_owned()];
    }
    let mut lines = Vec::new();
    if i64::try_from(all).is_ok_and(|all| all >= GROUPED) {
        lines.push(format!("of more failed repos, {} are grouped:", count(all)));
    }
    for group in groups {
        lines.push(format!(
            "{}: {} on {}; {}",
            printable(&group.code),
            counted(group.repos, "repo"),
            counted(group.hosts, "host"),
            when(group)
        ));
        lines.push(format!("  helps    {}", help::against(&group.code)));
        for example in &group.examples {
            let host = match example.host.as_str() {
                "" => "no host".into(),
                host => printable(host),
            };
            lines.push(format!(
                "  example  {} at {host}: {}",
                printable(&example.did),
                printable(&example.error)
            ));
        }
    }
    lines
}

/// When they are retried.
fn when(group: &Group) -> String {
    if group.due > 0 {
        return format!("due now: {}", count(group.due));
    }
    let left = group.next.map(|next| next - now());
    match left.and_then(|left| Duration::try_from_secs_f64(left).ok()) {
        Some(left) => format!("the next attempt is due in {}", rough(left)),
        None => "no next attempt is planned".to_owned(),
    }
}
