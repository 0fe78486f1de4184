//! What was given of a command's arguments, and whether the environment gave it.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// An option or argument of a command that somebody gave.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) id: String,
    /// Its name on the command line, unless it is positional.
    pub(crate) long: Option<String>,
    /// Nothing for a switch.
    pub(crate) values: Vec<String>,
    pub(crate) delimiter: Option<char>,
    pub(crate) from_environment: bool,
}

/// What was given of the command's own arguments and of those that every command has.
pub(crate) fn given(root: &Command, command: &Command, matches: &ArgMatches) -> Vec<Given> {
    let of_every_command = root.get_arguments().filter(|arg| arg.is_global_set());
    let all = command.get_arguments().chain(of_every_command);
    all.flat_map(|arg| std::iter::repeat_n(arg, times(arg, matches)))
        .filter_map(|arg| one(arg, matches))
        .collect()
}

fn one(arg: &Arg, matches: &ArgMatches) -> Option<Given> {
    let id = arg.get_id().as_str();
    let from_environment = match matches
        .try_contains_id(id)
        .ok()
        .and(matches.value_source(id))?
    {
        ValueSource::CommandLine => false,
        ValueSource::EnvVariable => true,
        _ => return None,
    };
    let values = match arg.get_action() {
        ArgAction::SetTrue | ArgAction::Count => Vec::new(),
        _ => matches
            .get_raw(id)?
            .map(|value| value.to_string_lossy().into_owned())
            .collect(),
    };
    Some(Given {
        id: id.to_owned(),
        long: arg.get_long().map(str::to_owned),
        values,
        delimiter: arg.get_value_delimiter(),
        from_environment,
    })
}

/// How often an argument was given, as far as that means something.
fn times(arg: &Arg, matches: &ArgMatches) -> usize {
    match arg.get_action() {
        ArgAction::Count => matches.get_count(arg.get_id().as_str()).into(),
        _ => 1,
    }
}
