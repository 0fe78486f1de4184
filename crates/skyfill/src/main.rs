//! The command `skyfill`: arguments, environment, wiring, exit codes. What the commands do is in the other crates.

mod cli;
mod clock;
mod consumer;
mod database;
mod db_test;
mod exit;
mod finalize;
mod identities;
mod indexes;
mod migrate;
mod practice;
mod producer;
mod reference;
mod server;
mod signals;
mod unpack;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::complain(&error),
    };
    let outcome = match cli.command {
        Command::Migrate(args) => migrate::run(&args),
        Command::UnpackAsDidFile(args) => unpack::run(&args),
        Command::Producer(args) => producer::run(&args),
        Command::Consumer(args) => consumer::run(&args),
        Command::Identities(args) => identities::run(&args),
        Command::Finalize(args) => finalize::run(&args),
        Command::Indexes(args) => indexes::run(&args),
        Command::Db(args) => server::run(&args),
        Command::Simnet(args) => practice::run(&args),
        Command::Reference => reference::run(),
    };
    exit::report(outcome)
}
