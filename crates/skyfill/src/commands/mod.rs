//! One file per command: converts arguments to options, calls the engine, and converts its outcome
//! to output and an exit code.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod catch_up;
pub(crate) mod compare;
pub(crate) mod consumer;
pub(crate) mod dashboard;
pub(crate) mod db;
pub(crate) mod definition;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod finalize;
pub(crate) mod follow;
pub(crate) mod identities;
pub(crate) mod indexes;
mod judged;
pub(crate) mod migrate;
pub(crate) mod plan;
pub(crate) mod practice;
pub(crate) mod producer;
pub(crate) mod records;
pub(crate) mod repair;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod tee;
pub(crate) mod unpack;
pub(crate) mod verify;
mod watch;

use crate::command_line::command_line;
use crate::listening;
use arguments::MemoryArgs;
use clap::FromArgMatches;
use engine::recorder::Recorder;
use process::{Database, Ended, Failure};
use watch::Watch;

/// Begins to work on a database: what the process does is recorded and shown, as long as the
/// recorder lives. The arguments are those of the command line with the options that earlier
/// commands stored.
fn begin<A: FromArgMatches>(
    database: &Database,
    memory: MemoryArgs,
) -> Result<(A, Watch<'_>, Recorder), Failure> {
    let recorder = Recorder::start(database);
    let forget = memory.forget_settings;
    let args = command_line().complete(database, forget)?;
    listening::shows(database);
    Ok((args, Watch { database, forget }, recorder))
}

/// Prints an answer on stdout, as JSON or for people.
fn print(
    as_json: bool,
    json: impl FnOnce() -> serde_json::Value,
    lines: impl FnOnce() -> Vec<String>,
) {
    match as_json {
        true => observe::data!("{}", json()),
        false => observe::data!("{}", lines().join("\n")),
    }
}

/// Ends a command that was stopped, with the line that continues.
fn stopped() -> Ended {
    observe::log!("stopped; continue with: {}", command_line().to_continue());
    Ended::Stopped
}
