//! The command line of this process, and the lines that are printed for people to continue with.

use crate::given::{Given, given};
use crate::policy::{Policy, Scope, long_of};
use clap::{ArgMatches, Command};
use process::shell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The command line of this process.
#[derive(Debug)]
pub struct CommandLine {
    pub(crate) policy: &'static Policy,
    /// The arguments that there are.
    pub(crate) definition: fn() -> Command,
    pub(crate) words: Vec<OsString>,
    pub(crate) command: String,
    given: Mutex<Vec<Given>>,
    /// Names of arguments that have had their effect: it is in the ledger.
    done: Mutex<BTreeSet<&'static str>>,
}

impl CommandLine {
    /// Of these words, of which `matches` is the meaning by `definition`.
    #[must_use]
    pub fn new(
        policy: &'static Policy,
        definition: fn() -> Command,
        words: Vec<OsString>,
        matches: &ArgMatches,
    ) -> Self {
        let root = definition();
        let (command, given) = matches.subcommand().map_or_else(Default::default, |found| {
            let (name, matches) = found;
            let command = root.find_subcommand(name);
            let given = command.map(|command| given(&root, command, matches));
            (name.to_owned(), given.unwrap_or_default())
        });
        Self {
            policy,
            definition,
            words,
            command,
            given: Mutex::new(given),
            done: Mutex::default(),
        }
    }

    pub(crate) fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn effective(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an option of this command is noted, if it is.
    pub(crate) fn noted(&self, given: &Given) -> Option<Scope> {
        self.policy
            .scope(&self.command, &given.id)
            .filter(|scope| *scope != Scope::Run || self.command == self.policy.run)
            .filter(|_| !given.values.iter().any(|value| shell::has_secret(value)))
    }

    /// Counts an option as given with these values, since other arguments imply it.
    pub fn imply(&self, id: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let mut given = self.given();
        given.retain(|given| given.id != id);
        given.push(Given {
            id: id.to_owned(),
            long: Some(long_of(id)),
            values: values.to_vec(),
            delimiter: None,
            from_environment: false,
        });
    }

    /// Notes that these arguments, by name, have had their effect, and that it is in the ledger:
    /// nobody need give them again.
    pub fn on_effective(&self, ids: &[&'static str]) {
        self.effective().extend(ids);
    }

    /// The line that continues where this command is now: what the ledger does not know of what was
    /// given.
    #[must_use]
    pub fn to_continue(&self) -> String {
        if self.command.is_empty() {
            return "the same command".to_owned();
        }
        let done = self.effective();
        let mut words = vec!["skyfill".to_owned(), self.command.clone()];
        let mut lacks_password = false;
        for given in self.given().iter() {
            let is_done = done.contains(given.id.as_str()) || given.id == "forget_settings";
            if is_done || given.from_environment || self.noted(given).is_some() {
                continue;
            }
            lacks_password |= given.values.iter().any(|value| shell::has_secret(value));
            words.extend(words_of(given));
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
    #[must_use]
    pub fn of_command(&self, command: &str) -> String {
        let mut words: Vec<String> = vec!["skyfill".to_owned()];
        words.extend(command.split(' ').map(str::to_owned));
        let given = self.given();
        let of_database = |given: &&Given| {
            matches!(given.id.as_str(), "database_url" | "schema" | "data_dir")
                && !given.from_environment
        };
        words.extend(given.iter().filter(of_database).flat_map(words_of));
        shell::line(&words)
    }
}

/// An argument as words of a line, without passwords.
fn words_of(given: &Given) -> Vec<String> {
    let values = given
        .values
        .iter()
        .map(|value| shell::without_secret(value));
    let option = given.long.as_ref().map(|long| format!("--{long}"));
    match (option, given.delimiter) {
        (None, _) => values.collect(),
        (Some(option), _) if given.values.is_empty() => vec![option],
        (Some(option), Some(delimiter)) => {
            let values: Vec<String> = values.collect();
            vec![option, values.join(&delimiter.to_string())]
        }
        (Some(option), None) => values.flat_map(|value| [option.clone(), value]).collect(),
    }
}
