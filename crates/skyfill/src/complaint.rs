//! Prints what is wrong with the arguments.

use crate::cli::{Cli, log_plainly};
use crate::exit;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue};
use std::process::ExitCode;

/// Prints what is wrong with the arguments, and names the environment variable if the value came
/// from one.
pub(crate) fn complain(error: &clap::Error) -> ExitCode {
    log_plainly();
    // If even this cannot be printed, nothing can be done.
    drop(error.print());
    if let Some(variable) = variable_behind(error) {
        observe::log!("note: the value comes from the environment variable {variable}");
    }
    if error.use_stderr() {
        ExitCode::from(exit::USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// The environment variable that a wrong value came from.
fn variable_behind(error: &clap::Error) -> Option<String> {
    let (ContextValue::String(arg), ContextValue::String(value)) = (
        error.get(ContextKind::InvalidArg)?,
        error.get(ContextKind::InvalidValue)?,
    ) else {
        return None;
    };
    let long = arg.split(' ').next()?.trim_start_matches("--");
    let root = Cli::command();
    let variable = root
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .find_map(|argument| {
            (argument.get_long() == Some(long))
                .then(|| argument.get_env())
                .flatten()?
                .to_str()
                .map(str::to_owned)
        })?;
    (std::env::var(&variable).as_deref() == Ok(value)).then_some(variable)
}
