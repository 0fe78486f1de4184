//! That some things have one house: SQL about the ledger's tables and all keys of advisory locks
//! are in this crate, and what is decided about an error is carried out in one loop for the
//! database and one for requests. Reads the sources of the product's crates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// The ledger's tables and sequences in schema `skyfill`; `finalize_*` but for the first of these,
/// and `probe_*`, are others' (the header of this crate says why).
const TABLES: &[&str] = &[
    "finalize_slice",
    "behind",
    "change",
    "cursor",
    "dropped_ddl",
    "finalized",
    "followed",
    "handle_count",
    "holder_number",
    "host",
    "host_count",
    "identity",
    "lease_number",
    "listed",
    "listing",
    "lost_claim",
    "part",
    "phase_time",
    "process",
    "proof",
    "publication",
    "repo",
    "run",
    "sample",
    "setting",
    "skipped",
    "skipped_change",
    "step",
    "stream",
    "table_setting",
    "tally",
    "unpublished",
    "verified_range",
    "worker",
];

/// What stands before the name of a table in a statement.
const KEYWORDS: &[&str] = &[
    "FROM", "JOIN", "INTO", "UPDATE", "COPY", "TABLE", "USING", "TRUNCATE", "ONLY", "ON",
];

/// Crates that are no product: they look at what the product did.
const OBSERVERS: &[&str] = &["bench", "conformance", "fuzz-harness", "simnet", "testbed"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All sources of the product's crates but this one: path and text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(crates()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "ledger" && !OBSERVERS.contains(&name.as_str()) {
            read_all(&folder.join("src"), &mut found);
            read_all(&folder.join("sql"), &mut found);
        }
    }
    found
}

fn read_all(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let is_source = path
            .extension()
            .is_some_and(|end| end == "rs" || end == "sql");
        if path.is_dir() {
            read_all(&path, found);
        } else if is_source {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Statements in `text` about the ledger's tables, a line each.
fn statements(text: &str) -> Vec<&str> {
    let is_statement = |line: &&str| {
        line.match_indices("skyfill.").any(|(at, matched)| {
            let before = line[..at].trim_end().rsplit([' ', '(', '"']).next();
            let table: String = line[at + matched.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            TABLES.contains(&table.as_str()) && before.is_some_and(|word| KEYWORDS.contains(&word))
        })
    };
    text.lines().filter(is_statement).collect()
}

#[test]
fn sql_about_the_ledgers_tables_is_in_this_crate() {
    let sources = sources();
    assert!(sources.len() > 100, "{}", sources.len());
    for (path, text) in &sources {
        let found = statements(text);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
    // The same search finds them here.
    let mut own = Vec::new();
    read_all(&crates().join("ledger/src"), &mut own);
    let found: usize = own.iter().map(|(_, text)| statements(text).len()).sum();
    assert!(found > 80, "{found}");
}

#[test]
fn advisory_locks_are_taken_in_this_crate() {
    for (path, text) in sources() {
        // Kysely's own lock, so that the official migrator waits.
        if path.ends_with("appview/src/migrate.rs") {
            assert_eq!(text.matches("pg_advisory_lock(").count(), 1);
            continue;
        }
        // Who leaves a connection to others gives up whatever it held.
        let is_left = path.ends_with("pg/src/connection.rs");
        let text = match is_left {
            true => text.replace("pg_advisory_unlock_all()", ""),
            false => text,
        };
        for function in ["pg_advisory", "pg_try_advisory"] {
            assert!(!text.contains(function), "{}", path.display());
        }
    }
}

#[test]
fn what_is_decided_about_an_error_is_carried_out_in_one_loop() {
    let houses = ["pg/src/wait.rs", "pg/src/error.rs", "fetch/src/retry.rs"];
    let acts =
        |text: &str| text.contains("Decision::Wait") || text.contains(" decide(&error, attempt");
    let mut found = 0;
    for (path, text) in sources() {
        let is_house = houses.iter().any(|house| path.ends_with(house));
        assert!(is_house || !acts(&text), "{}", path.display());
        assert!(
            is_house || !text.contains("retry::decide("),
            "{}",
            path.display()
        );
        found += usize::from(is_house && acts(&text));
    }
    assert_eq!(found, houses.len());
}
