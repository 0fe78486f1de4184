//! Tools of `make conformance` (see `conformance/README.md`): the official indexer as the judge of
//! skyfill.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the developers, which may end when its output does"
)]

mod examples;
mod mutate;
mod network;
mod records;
mod value;

use clap::{Parser, Subcommand};
use conformance::dump;
use postgres::{Client, NoTls};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares skyfill with the official indexer. Exit code 1: they disagree.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares the check of mutated records. Disagreements go to stdout, one test case per line.
    Records {
        /// What the records are made from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Number of records.
        #[arg(long, default_value_t = 200_000)]
        count: u64,
        /// The judge: a command that reads and answers lines, as conformance/judge.mjs does.
        #[arg(required = true, trailing_var_arg = true)]
        judge: Vec<String>,
    },
    /// Writes the repos and handles of a recorded network to a folder, for conformance/index.mjs.
    Network {
        /// What was recorded, conformance/recorded/*.json.
        recorded: PathBuf,
        /// The folder.
        out: PathBuf,
    },
    /// Serves the repos, documents and handles of a recorded network on loopback; writes a DID
    /// file, prints the URL, and stays.
    Serve {
        /// What was recorded.
        recorded: PathBuf,
        /// The DID file to write.
        dids: PathBuf,
    },
    /// Compares the tables of a database with what was recorded.
    Check {
        /// What was recorded.
        recorded: PathBuf,
        /// The database.
        url: String,
        /// Record what the tables are instead.
        #[arg(long)]
        record: bool,
    },
    /// Compares a schema that the official migrations made with the one that skyfill knows.
    Drift {
        /// The database.
        url: String,
    },
    /// Compares the tables of two databases; what differs goes to stdout.
    Compare {
        /// The official one.
        official: String,
        /// The other one.
        other: String,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

fn connect(url: &str) -> Result<Client, String> {
    Client::connect(url, NoTls).map_err(|error| format!("connect: {error}"))
}

/// Whether they agree.
fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Records { seed, count, judge } => Ok(records::compare(seed, count, &judge)? == 0),
        Command::Network { recorded, out } => {
            network::write(&conformance::Recorded::read(&recorded)?, &out)?;
            Ok(true)
        }
        Command::Serve { recorded, dids } => {
            network::serve(&conformance::Recorded::read(&recorded)?, &dids)
        }
        Command::Check {
            recorded,
            url,
            record,
        } => {
            let mut wanted = conformance::Recorded::read(&recorded)?;
            let found = conformance::digests(
                &dump(&mut connect(&url)?, "bsky").map_err(|e| e.to_string())?,
            );
            if record {
                wanted.tables = found;
                wanted.write(&recorded)?;
                return Ok(true);
            }
            let differing = conformance::differing(&found, &wanted.tables);
            for line in &differing {
                eprintln!("{}: {line}", recorded.display());
            }
            Ok(differing.is_empty())
        }
        Command::Drift { url } => drift(&mut connect(&url)?),
        Command::Compare { official, other } => {
            let theirs = dump(&mut connect(&official)?, "bsky").map_err(|e| e.to_string())?;
            let ours = dump(&mut connect(&other)?, "bsky").map_err(|e| e.to_string())?;
            let mut same = true;
            for (table, rows) in &theirs {
                let found = ours.get(table).map(Vec::as_slice).unwrap_or_default();
                for (name, some, others) in [
                    ("official", rows.as_slice(), found),
                    ("skyfill", found, rows),
                ] {
                    for row in some.iter().filter(|row| others.binary_search(row).is_err()) {
                        same = false;
                        println!("{table}: only {name}: {row}");
                    }
                }
            }
            Ok(same)
        }
    }
}

/// Prints what the official migrations of another version changed. They agree if skyfill can fill
/// that schema.
fn drift(client: &mut Client) -> Result<bool, String> {
    let found = appview::drift::examine(client, "bsky", &BTreeSet::new())
        .map_err(|error| error.to_string())?
        .ok_or("there is no schema bsky")?;
    for name in &found.unknown {
        eprintln!("  a migration that skyfill does not know: {name}");
    }
    for name in &found.missing {
        eprintln!("  a migration that skyfill knows and this version does not have: {name}");
    }
    for what in found.more.iter().chain(&found.acting) {
        eprintln!("  more: {what}");
    }
    for problem in &found.problems {
        eprintln!("  skyfill cannot fill it: {problem}");
    }
    if found.is_none() {
        eprintln!("  the schema is the one that skyfill knows");
    }
    Ok(found.problems.is_empty())
}
