//! The command line of this process, and which options the ledger stores for later commands: see
//! the crate `commandline`.

use clap::ArgMatches;
use commandline::{CommandLine, Policy};
use std::ffi::OsString;
use std::sync::OnceLock;

/// Options that are stored, by the names of their arguments.
const STORED: Policy = Policy {
    commands: &[
        "discover",
        "run",
        "catch-up",
        "repair",
        "follow",
        "identities",
        "verify",
        "doctor",
        "explain",
    ],
    loads: &["run", "catch-up"],
    run: "run",
    of_network: &[
        "allow_private_hosts",
        "contact",
        "did_web_server",
        "dns_server",
        "host_patience",
        "host_rate",
        "max_attempts",
        "max_rate",
        "max_repo_bytes",
        "named",
        "opt_out",
        "plc_rate",
        "plc_url",
        "processing_timeout",
        "relay",
        "skip_host",
        "stall_timeout",
        "straggler_grace",
        "timeout",
        "well_known_server",
    ],
    of_loads: &["handles", "documents", "lease"],
    of_run: &[
        "accept_deletions",
        "certificate",
        "collection",
        "discover",
        "fetch_missing",
        "from_cars",
        "keep_cars",
        "no_verify",
        "pds",
        "pds_file",
        "plc_export",
        "relay_repos",
        "store_option",
    ],
    paths: &[
        "certificate",
        "from_cars",
        "keep_cars",
        "opt_out",
        "pds_file",
    ],
    either: &[("keep_cars", "from_cars"), ("certificate", "no_verify")],
};

static LINE: OnceLock<CommandLine> = OnceLock::new();

/// Keeps the command line; `matches` is what it means.
pub(crate) fn keep(words: Vec<OsString>, matches: &ArgMatches) {
    // Once per process.
    drop(LINE.set(CommandLine::new(
        &STORED,
        arguments::definition,
        words,
        matches,
    )));
}

/// The command line that was kept; before that, an empty one.
pub(crate) fn command_line() -> &'static CommandLine {
    let empty = || {
        CommandLine::new(
            &STORED,
            arguments::definition,
            Vec::new(),
            &ArgMatches::default(),
        )
    };
    LINE.get_or_init(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_an_option() {
        let root = arguments::definition();
        let has = |command: &str, id: &str| {
            let command = root.find_subcommand(command).expect("a command");
            let long = id.replace('_', "-");
            let mut arguments = command.get_arguments();
            arguments.any(|arg| arg.get_id() == id && arg.get_long() == Some(&long))
        };
        let all: Vec<&str> = STORED.all().collect();
        for id in &all {
            assert!(has("run", id), "{id}");
        }
        let excluding = STORED.either.iter().flat_map(|(a, b)| [a, b]);
        for id in STORED.paths.iter().chain(excluding) {
            assert!(all.contains(id), "{id}");
        }
        for command in STORED.commands {
            assert!(root.find_subcommand(command).is_some(), "{command}");
        }
    }
}
