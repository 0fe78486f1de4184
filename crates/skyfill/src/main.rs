//! The command `skyfill`: arguments, environment, wiring, exit codes. What the commands do is in the other crates.

mod catch_up;
mod cli;
mod clock;
mod consumer;
mod database;
mod db_test;
mod discovery;
mod exit;
mod fetch_args;
mod finalize;
mod identities;
mod indexes;
mod migrate;
mod practice;
mod producer;
mod reference;
mod run;
mod server;
mod signals;
mod status;
mod threads;
mod unpack;
mod verify;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::complain(&error),
    };
    if let Ok(wanted) = std::env::var("SKYFILL_FAILPOINT") {
        let (name, times) = wanted.split_once('=').unwrap_or((&wanted, "1"));
        ledger::failpoint::arm(name, times.parse().unwrap_or(1));
    }
    pg::name_process(&std::env::args().nth(1).unwrap_or_default());
    fetch_args::allow_many_connections();
    let outcome = match cli.command {
        Command::Migrate(args) => migrate::run(&args),
        Command::UnpackAsDidFile(args) => unpack::run(&args),
        Command::Producer(args) => producer::run(&args),
        Command::Consumer(args) => consumer::run(&args),
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
