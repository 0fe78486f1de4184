//! Prints what is wrong with the arguments.

use crate::exit;
use arguments::{Cli, log_plainly};
use clap::CommandFactory;
use std::process::ExitCode;

/// Prints what is wrong with the arguments, and names the environment variable if the value came
/// from one.
pub(crate) fn complain(error: &clap::Error) -> ExitCode {
    log_plainly();
    // If even this cannot be printed, nothing can be done.
    drop(error.print());
    if let Some(variable) = commandline::variables::behind(error, &Cli::command()) {
        observe::log!("note: the value comes from the environment variable {variable}");
    }
    if error.use_stderr() {
        ExitCode::from(exit::USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
