//! The commands that most tests run, in an environment that is the same everywhere, and what they
//! printed.

use crate::TestDb;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The time of every test's run.
pub const NOW: &str = "2026-11-01T00:00:00.000Z";

/// The variables that a command under test inherits: those that say where programs and folders are.
/// Everything else, whatever the caller's shell has, is cleared.
const INHERITED: &[&str] = &[
    "HOME",
    "LD_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "PATH",
    "PG_CONFIG",
    "RUST_BACKTRACE",
    "TMPDIR",
    "USER",
];

/// Path of the binary under test. Cargo builds it for the tests of its package.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("it is in PROFILE/deps");
    let binary = profile.join("skyfill");
    assert!(
        binary.exists(),
        "{} is absent; build it: cargo build -p skyfill --features failpoints",
        binary.display()
    );
    binary
}

/// The binary under test.
#[must_use]
pub fn skyfill() -> Command {
    clean(Command::new(binary()))
}

/// A command without what the caller's shell has in its environment.
#[must_use]
pub fn clean(mut command: Command) -> Command {
    command.env_clear();
    for variable in INHERITED {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    command
}

/// `skyfill run` without accounts being looked up; add what to load.
#[must_use]
pub fn run_load(url: &str) -> Command {
    let mut command = skyfill();
    command.args([
        "run",
        "--json",
        "--allow-private-hosts",
        "--handles",
        "skip",
    ]);
    command.args(["--host-rate", "10000", "--now", NOW]);
    command.env("BSKY_DB_POSTGRES_URL", url);
    command
}

/// `skyfill finalize` in slices so small that every stage has some.
#[must_use]
pub fn finalize(db: &TestDb) -> Command {
    finalize_in_slices(db, "60")
}

/// `skyfill finalize` in slices of about so many rows.
#[must_use]
pub fn finalize_in_slices(db: &TestDb, rows: &str) -> Command {
    let mut command = skyfill();
    command.args(["finalize", "--json", "--slice-rows", rows]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// `skyfill producer` with arguments that every test wants.
#[must_use]
pub fn producer(folder: &Path, dids: &Path, sockets: &[&Path]) -> Command {
    let mut command = skyfill();
    command.arg("producer").arg(dids).args(sockets);
    command.args(["--json", "--now", NOW, "--allow-private-hosts"]);
    command.args(["--host-rate", "10000"]);
    command.arg("--failures").arg(folder.join("failures.jsonl"));
    command
}

/// A DID file in `folder` for `dids` on the host at `url`.
pub fn did_file<'a>(folder: &Path, url: &str, dids: impl IntoIterator<Item = &'a str>) -> PathBuf {
    let path = folder.join("dids.jsonl");
    let lines: String = dids
        .into_iter()
        .map(|did| format!("[\"{did}\",\"{url}\"]\n"))
        .collect();
    fs::write(&path, lines).expect("write a DID file");
    path
}

/// Runs a command that must end well.
pub fn run_well(command: &mut Command) -> Output {
    let output = command.output().expect("run skyfill");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    output
}

/// What a command printed, for people who read a failed test.
#[must_use]
pub fn told(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The JSON summary on stdout.
#[must_use]
pub fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}
