//! The command line, for later commands: which options the ledger stores, and the line that
//! continues a stopped command.
//!
//! There are three kinds of options. Options about the network, and about being a guest in it, are
//! stored in the ledger (table `setting`) and apply to each later command on the same schema.
//! Options of a run are stored until that run is done. Options of the machine or of this one call
//! (database, memory, output, sources) are not stored: the line that continues repeats them. Stored
//! options are applied by parsing the command line again with them, so that they pass the same
//! checks.

use crate::cli::Cli;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use ledger::settings::{self, Setting};
use process::Database;
use process::{Failure, shell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// For whom an option is remembered, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// For every command that talks to the network.
    Network,
    /// For `run` and `catch-up`.
    Loads,
    /// For the run that is under way.
    Run,
}

/// All options that are remembered, by the names of their arguments.
const REMEMBERED: &[(&str, Scope)] = &[
    ("allow_private_hosts", Scope::Network),
    ("contact", Scope::Network),
    ("did_web_server", Scope::Network),
    ("dns_server", Scope::Network),
    ("host_patience", Scope::Network),
    ("host_rate", Scope::Network),
    ("max_attempts", Scope::Network),
    ("max_rate", Scope::Network),
    ("max_repo_bytes", Scope::Network),
    ("named", Scope::Network),
    ("opt_out", Scope::Network),
    ("plc_rate", Scope::Network),
    ("plc_url", Scope::Network),
    ("processing_timeout", Scope::Network),
    ("skip_host", Scope::Network),
    ("stall_timeout", Scope::Network),
    ("straggler_grace", Scope::Network),
    ("timeout", Scope::Network),
    ("well_known_server", Scope::Network),
    ("handles", Scope::Loads),
    ("documents", Scope::Loads),
    ("accept_deletions", Scope::Run),
    ("certificate", Scope::Run),
    ("collection", Scope::Run),
    ("discover", Scope::Run),
    ("from_cars", Scope::Run),
    ("keep_cars", Scope::Run),
    ("no_verify", Scope::Run),
    ("pds", Scope::Run),
    ("pds_file", Scope::Run),
    ("plc_export", Scope::Run),
    ("relay", Scope::Run),
    ("relay_repos", Scope::Run),
];

/// Files and folders among them: another command may be started elsewhere.
const PATHS: &[&str] = &[
    "certificate",
    "from_cars",
    "keep_cars",
    "opt_out",
    "pds_file",
];

/// Options that exclude each other: one that is given displaces the other where that was
/// remembered.
const EITHER: &[(&str, &str)] = &[("keep_cars", "from_cars"), ("certificate", "no_verify")];

/// An option or argument of this command that somebody gave.
struct Given {
    id: String,
    /// Its name on the command line, unless it is positional.
    long: Option<String>,
    /// Nothing for a switch.
    values: Vec<String>,
    delimiter: Option<char>,
    from_environment: bool,
}

struct Told {
    line: Vec<OsString>,
    command: String,
    given: Mutex<Vec<Given>>,
    /// Names of arguments that have had their effect: it is in the ledger.
    done: Mutex<BTreeSet<&'static str>>,
}

static TOLD: OnceLock<Told> = OnceLock::new();

/// Keeps the command line; `matches` is what it means.
pub(crate) fn keep(line: Vec<OsString>, matches: &ArgMatches) {
    let Some((name, matches)) = matches.subcommand() else {
        return;
    };
    let root = Cli::command();
    let given = root
        .find_subcommand(name)
        .map_or(Vec::new(), |command| given(&root, command, matches));
    // Once per process.
    drop(TOLD.set(Told {
        line,
        command: name.to_owned(),
        given: Mutex::new(given),
        done: Mutex::default(),
    }));
}

/// What was given of the command's own arguments and of those that every command has.
fn given(root: &Command, command: &Command, matches: &ArgMatches) -> Vec<Given> {
    let one = |arg: &Arg| {
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
    };
    let of_every_command = root.get_arguments().filter(|arg| arg.is_global_set());
    let all = command.get_arguments().chain(of_every_command);
    all.flat_map(|arg| std::iter::repeat_n(arg, times(arg, matches)))
        .filter_map(one)
        .collect()
}

/// How often an argument was given, as far as that means something.
fn times(arg: &Arg, matches: &ArgMatches) -> usize {
    match arg.get_action() {
        ArgAction::Count => matches.get_count(arg.get_id().as_str()).into(),
        _ => 1,
    }
}

/// How long an option of `command` is remembered, if it is.
fn scope(command: &str, id: &str) -> Option<Scope> {
    // The others have no database, or nothing to do with the network.
    if !matches!(
        command,
        "discover" | "run" | "catch-up" | "identities" | "verify" | "doctor" | "explain"
    ) {
        return None;
    }
    let (_, scope) = REMEMBERED.iter().find(|(name, _)| *name == id)?;
    let loads = matches!(command, "run" | "catch-up");
    match scope {
        Scope::Network => Some(Scope::Network),
        Scope::Loads | Scope::Run if loads => Some(*scope),
        Scope::Loads | Scope::Run => None,
    }
}

impl Told {
    fn given(&self) -> std::sync::MutexGuard<'_, Vec<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an option of this command is noted, if it is: a catch-up has many runs, of which
    /// none is its own.
    fn noted(&self, given: &Given) -> Option<Scope> {
        scope(&self.command, &given.id)
            .filter(|scope| *scope != Scope::Run || self.command == "run")
            .filter(|_| !given.values.iter().any(|value| shell::has_secret(value)))
    }
}

/// This command's arguments, with what earlier commands on the same schema were told and this one
/// was not.
pub(crate) fn complete<A: FromArgMatches>(database: &Database, forget: bool) -> Result<A, Failure> {
    let told = TOLD
        .get()
        .ok_or_else(|| Failure::new("the command line was not kept"))?;
    let mut client = database.connect()?;
    let noted = match forget {
        true => Vec::new(),
        false => {
            settings::all(&mut client, &database.schema).map_err(|error| database.failure(error))?
        }
    };
    let added = to_add(told, &noted);
    if !added.is_empty() {
        observe::log!("with stored settings: {}", shell::line(&added));
    }
    let mut line = told.line.clone();
    let after_command = 1 + place_of_command(&line, &told.command);
    line.splice(
        after_command..after_command,
        added.into_iter().map(OsString::from),
    );
    let unfit = |error: clap::Error| {
        Failure::usage(format!(
            "the settings stored in this database conflict with this command line: {}",
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
        ))
        .hint("skyfill status shows the stored settings; --forget-settings drops them")
    };
    let matches = crate::cli::definition()
        .try_get_matches_from(line)
        .map_err(unfit)?;
    let matches = matches.subcommand().map(|(_, matches)| matches);
    let matches = matches.ok_or_else(|| Failure::new("the command line names no command"))?;
    A::from_arg_matches(matches).map_err(unfit)
}

/// Where the command stands in its line: options of every command may come before it.
fn place_of_command(line: &[OsString], command: &str) -> usize {
    let is_value = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| line.get(at));
        before.is_some_and(|before| before == "--log-file" || before == "--log-format")
    };
    (1..line.len())
        .find(|at| line.get(*at).is_some_and(|word| word == command) && !is_value(*at))
        .unwrap_or(1)
}

/// The noted options that this command knows, and that neither its line nor, for what the
/// environment gave, its environment replaces.
fn to_add(told: &Told, noted: &[Setting]) -> Vec<String> {
    let given = told.given();
    let root = Cli::command();
    let Some(command) = root.find_subcommand(&told.command) else {
        return Vec::new();
    };
    let is_given = |id: &str, or_environment: bool| {
        given
            .iter()
            .any(|given| given.id == id && (or_environment || !given.from_environment))
    };
    let mut added = Vec::new();
    for setting in noted {
        let Some(arg) = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(setting.name.as_str()))
        else {
            continue;
        };
        let id = arg.get_id().as_str();
        let displaced = EITHER
            .iter()
            .any(|(a, b)| (id == *a && is_given(b, true)) || (id == *b && is_given(a, true)));
        if scope(&told.command, id).is_none() || displaced || is_given(id, setting.from_environment)
        {
            continue;
        }
        if setting.values.is_empty() {
            added.push(format!("--{}", setting.name));
        }
        added.extend(
            setting
                .values
                .iter()
                .map(|value| format!("--{}={value}", setting.name)),
        );
    }
    added
}

/// Notes what this command was told, for later ones; first forgets what was noted before, if it was
/// told to.
pub(crate) fn remember(database: &Database, forget: bool) -> Result<(), Failure> {
    let Some(told) = TOLD.get() else {
        return Ok(());
    };
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    let mut txn = client.transaction().map_err(refused)?;
    if forget {
        settings::forget_all(&mut txn, &database.schema).map_err(refused)?;
    }
    let before = settings::all(&mut txn, &database.schema).map_err(refused)?;
    let mut displaced = Vec::new();
    let mut noted = Vec::new();
    let done = told
        .done
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for given in told.given().iter() {
        let (Some(scope), Some(long)) = (told.noted(given), &given.long) else {
            continue;
        };
        if done.contains(given.id.as_str()) {
            continue;
        }
        // What a command line said outlives what an environment says.
        let outlives =
            |old: &&Setting| old.name == *long && !old.from_environment && given.from_environment;
        if before.iter().any(|old| outlives(&old)) {
            continue;
        }
        displaced.extend(EITHER.iter().filter_map(|(a, b)| match &given.id {
            id if id == a => Some(long_of(b)),
            id if id == b => Some(long_of(a)),
            _ => None,
        }));
        noted.push(Setting {
            name: long.clone(),
            values: given
                .values
                .iter()
                .map(|value| absolute(&given.id, value))
                .collect(),
            from_environment: given.from_environment,
            of_run: scope == Scope::Run,
        });
    }
    let displaced: Vec<&str> = displaced.iter().map(String::as_str).collect();
    settings::forget(&mut txn, &database.schema, &displaced).map_err(refused)?;
    settings::note(&mut txn, &database.schema, &noted).map_err(refused)?;
    txn.commit().map_err(refused)
}

/// Says that these options have had their effect, and that no later command needs them.
pub(crate) fn used_up(database: &Database, ids: &[&'static str]) -> Result<(), Failure> {
    done(ids);
    let mut client = database.connect()?;
    let longs: Vec<String> = ids.iter().map(|id| long_of(id)).collect();
    let longs: Vec<&str> = longs.iter().map(String::as_str).collect();
    settings::forget(&mut client, &database.schema, &longs).map_err(|error| database.failure(error))
}

fn long_of(id: &str) -> String {
    id.replace('_', "-")
}

fn absolute(id: &str, value: &str) -> String {
    if !PATHS.contains(&id) {
        return value.to_owned();
    }
    std::path::absolute(Path::new(value))
        .map_or(value.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Counts an option as given with these values, since other arguments imply it.
pub(crate) fn imply(id: &str, values: &[String]) {
    let Some(told) = TOLD.get().filter(|_| !values.is_empty()) else {
        return;
    };
    let mut given = told.given();
    given.retain(|given| given.id != id);
    given.push(Given {
        id: id.to_owned(),
        long: Some(long_of(id)),
        values: values.to_vec(),
        delimiter: None,
        from_environment: false,
    });
}

/// Says that these arguments, by name, have had their effect, and that it is in the ledger:
/// nobody need give them again.
pub(crate) fn done(ids: &[&'static str]) {
    if let Some(told) = TOLD.get() {
        told.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(ids);
    }
}

/// The line that continues where this command is now: what the ledger does not know of what it was
/// told.
pub(crate) fn line_to_go_on_with() -> String {
    let Some(told) = TOLD.get() else {
        return "the same command".to_owned();
    };
    let done = told.done.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = vec!["skyfill".to_owned(), told.command.clone()];
    let mut lacks_password = false;
    for given in told.given().iter() {
        let is_done = done.contains(given.id.as_str()) || given.id == "forget_settings";
        if is_done || given.from_environment || told.noted(given).is_some() {
            continue;
        }
        lacks_password |= given.values.iter().any(|value| shell::has_secret(value));
        let values: Vec<String> = given
            .values
            .iter()
            .map(|value| shell::without_secret(value))
            .collect();
        match (&given.long, given.delimiter) {
            (None, _) => words.extend(values),
            (Some(long), _) if values.is_empty() => words.push(format!("--{long}")),
            (Some(long), Some(delimiter)) => {
                words.push(format!("--{long}"));
                words.push(values.join(&delimiter.to_string()));
            }
            (Some(long), None) => {
                for value in values {
                    words.push(format!("--{long}"));
                    words.push(value);
                }
            }
        }
    }
    let line = shell::line(&words);
    match lacks_password {
        true => format!(
            "{line} (with the password, which is not kept, for {})",
            shell::PASSWORD
        ),
        false => line,
    }
}

/// The line of another command on the same database.
pub(crate) fn line_of(command: &str) -> String {
    let mut words: Vec<String> = vec!["skyfill".to_owned()];
    words.extend(command.split(' ').map(str::to_owned));
    if let Some(told) = TOLD.get() {
        let given = told.given();
        let of_database = |given: &&Given| {
            matches!(given.id.as_str(), "database_url" | "schema" | "data_dir")
                && !given.from_environment
        };
        for given in given.iter().filter(of_database) {
            words.extend(given.long.iter().map(|long| format!("--{long}")));
            words.extend(
                given
                    .values
                    .iter()
                    .map(|value| shell::without_secret(value)),
            );
        }
    }
    shell::line(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_an_option() {
        let root = Cli::command();
        let has = |command: &str, id: &str| {
            let command = root.find_subcommand(command).expect("a command");
            command
                .get_arguments()
                .any(|arg| arg.get_id() == id && arg.get_long() == Some(&long_of(id)))
        };
        for (id, _) in REMEMBERED {
            assert!(has("run", id), "{id}");
        }
        for id in PATHS.iter().chain(EITHER.iter().flat_map(|(a, b)| [a, b])) {
            assert!(REMEMBERED.iter().any(|(known, _)| known == id), "{id}");
        }
    }
}
