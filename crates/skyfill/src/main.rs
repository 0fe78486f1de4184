//! The command `skyfill`: arguments, environment, wiring, exit codes. What the commands do is in
//! the other crates.

mod catch_up;
mod certificate;
mod cli;
mod commands;
mod discovery;
mod exit;
mod fetch_args;
mod finalize;
mod identities;
mod indexes;
mod migrate;
mod practice;
mod proof;
mod reference;
mod run;
mod server;
mod signals;
mod status;
mod told;
mod unpack;
mod verify;

use clap::FromArgMatches;
use cli::{Cli, Command};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let matches = match cli::definition().try_get_matches_from(&line) {
        Ok(matches) => matches,
        Err(error) => return cli::complain(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return cli::complain(&error),
    };
    if let Err(failure) = cli.log.start() {
        return exit::report(Err(failure));
    }
    told::keep(line, &matches);
    if let Err(failure) = arm_failpoint() {
        return exit::report(Err(failure));
    }
    pg::name_process(matches.subcommand_name().unwrap_or_default());
    fetch_args::allow_many_connections();
    let outcome = match cli.command {
        Command::Migrate(args) => migrate::run(&args),
        Command::UnpackAsDidFile(args) => unpack::run(&args),
        Command::Producer(args) => commands::producer::run(&args),
        Command::Consumer(args) => commands::consumer::run(&args),
        Command::Discover(args) => discovery::command::run(&args),
        Command::Run(args) => run::run(&args),
        Command::CatchUp(args) => catch_up::run(&args),
        Command::Identities(args) => identities::run(&args),
        Command::Finalize(args) => finalize::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Indexes(args) => indexes::run(&args),
        Command::Db(args) => server::run(&args),
        Command::Simnet(args) => practice::run(&args),
        Command::Reference => reference::run(),
    };
    exit::report(outcome)
}

/// Arms the failpoint of tests and benchmarks; a name or count that is none would make their kills
/// harmless.
fn arm_failpoint() -> Result<(), process::Failure> {
    let Ok(wanted) = std::env::var("SKYFILL_FAILPOINT") else {
        return Ok(());
    };
    let unknown = || {
        process::Failure::usage(format!("SKYFILL_FAILPOINT: {wanted} is no failpoint")).hint(format!(
            "for tests only: PLACE=COUNT ends there when it is passed for the COUNTth time, PLACE=COUNT,stop stops there, PLACE=COUNT,panic breaks its thread off; the places are: {}",
            ledger::failpoint::PLACES.join(", ")
        ))
    };
    let (place, act): (&str, fn()) = match wanted.split_once(',') {
        Some((place, "stop")) => (place, signals::stop_this_process),
        Some((place, "panic")) => (place, || panic!("a failpoint")),
        _ => (&wanted, || std::process::abort()),
    };
    let (name, times) = place.split_once('=').unwrap_or((place, "1"));
    let times = times.parse().map_err(|_| unknown())?;
    if ledger::failpoint::arm(name, times, act) {
        Ok(())
    } else {
        Err(unknown())
    }
}
