//! The command `skyfill`: arguments, environment, wiring, exit codes. The other crates do the work.

mod command_line;
mod commands;
mod complaint;
mod exit;
mod fetch_args;
mod listening;
mod signals;

use arguments::{Cli, Command};
use clap::FromArgMatches;
use dashboard::Origin;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let matches = match arguments::definition().try_get_matches_from(&line) {
        Ok(matches) => matches,
        Err(error) => return complaint::complain(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return complaint::complain(&error),
    };
    if let Err(failure) = cli.log.start() {
        return exit::report(Err(failure));
    }
    command_line::keep(line, &matches);
    if let Err(failure) = process::failpoint::arm_from_environment() {
        return exit::report(Err(failure));
    }
    pg::name_process(matches.subcommand_name().unwrap_or_default());
    process::connections::allow_many();
    observe::registry().begin(matches.subcommand_name().unwrap_or_default());
    if let Some(output) = cli.command.output() {
        output.show_progress();
        if let Some(address) = output.dashboard.listen {
            let access = &output.dashboard.access;
            if let Err(failure) = listening::start(address, access, Origin::Process) {
                return exit::report(Err(failure));
            }
        }
    }
    let outcome = match cli.command {
        Command::Migrate(args) => commands::migrate::run(&args),
        Command::UnpackAsDidFile(args) => commands::unpack::run(&args),
        Command::Producer(args) => commands::producer::run(&args),
        Command::Consumer(args) => commands::consumer::run(&args),
        Command::Discover(args) => commands::discover::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::CatchUp(args) => commands::catch_up::run(&args),
        Command::Repair(args) => commands::repair::run(&args),
        Command::Follow(args) => commands::follow::run(&args),
        Command::Identities(args) => commands::identities::run(&args),
        Command::Finalize(args) => commands::finalize::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Status(args) => commands::status::run(&args),
        Command::Dashboard(args) => commands::dashboard::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Audit(args) => commands::audit::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Archive(args) => commands::archive::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Records(args) => commands::records::run(&args),
        Command::Tee(args) => commands::tee::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Indexes(args) => commands::indexes::run(&args),
        Command::Db(args) => commands::db::run(&args),
        Command::Simnet(args) => commands::practice::run(&args),
        Command::Completions(args) => commands::definition::completions(&args),
        Command::ManPages(args) => commands::definition::man_pages(&args),
        Command::Reference => commands::definition::reference(),
    };
    exit::report(outcome)
}
