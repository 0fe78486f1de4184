//! Environment variables of arguments.

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{Command, Error};

/// The definition of a command in this environment: an empty variable counts as unset.
#[must_use]
pub fn without_empty(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_empty = arg
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty());
            if is_empty {
                arg.env(Resettable::<OsStr>::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty)
}

/// The environment variable that a wrong value came from, if it came from one.
#[must_use]
pub fn behind(error: &Error, root: &Command) -> Option<String> {
    let (ContextValue::String(arg), ContextValue::String(value)) = (
        error.get(ContextKind::InvalidArg)?,
        error.get(ContextKind::InvalidValue)?,
    ) else {
        return None;
    };
    let long = arg.split(' ').next()?.trim_start_matches("--");
    let variable = root
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .filter(|argument| argument.get_long() == Some(long))
        .find_map(|argument| argument.get_env()?.to_str())?;
    (std::env::var(variable).as_deref() == Ok(value)).then(|| variable.to_owned())
}

/// Whether a switch in the environment is on: unless its value is empty, 0 or false.
#[must_use]
pub fn is_on(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}
