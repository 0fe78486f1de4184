//! The settings of the ledger: applied to a command line, and noted from it.

use crate::line::CommandLine;
use crate::policy::{Scope, long_of};
use clap::FromArgMatches;
use ledger::settings::{self, Setting};
use process::{Database, Failure, shell};
use std::ffi::OsString;
use std::path::Path;

impl CommandLine {
    /// This command's arguments, with the options that earlier commands on the same schema stored
    /// and this one does not give. With `forget`, with none of them.
    ///
    /// # Errors
    /// The database cannot be used, or the stored options conflict with the given ones.
    pub fn complete<A: FromArgMatches>(
        &self,
        database: &Database,
        forget: bool,
    ) -> Result<A, Failure> {
        let mut client = database.connect()?;
        let noted = match forget {
            true => Vec::new(),
            false => settings::all(&mut *client, &database.schema)
                .map_err(|error| database.failure(error))?,
        };
        let added = self.to_add(&noted);
        let told = self.without_hidden(&added);
        if !told.is_empty() {
            observe::log!("with stored settings: {}", shell::line(&told));
        }
        self.parse_with(added)
    }

    /// Those of these options that the help of this command names.
    fn without_hidden(&self, options: &[String]) -> Vec<String> {
        let root = (self.definition)();
        let is_hidden = |option: &str| {
            let name = option.split('=').next().unwrap_or(option);
            let command = root.find_subcommand(&self.command);
            command.is_some_and(|command| {
                command
                    .get_arguments()
                    .any(|arg| arg.is_hide_set() && arg.get_long() == name.strip_prefix("--"))
            })
        };
        let shown = options.iter().filter(|option| !is_hidden(option));
        shown.cloned().collect()
    }

    /// This command's arguments, with these options after its name.
    pub(crate) fn parse_with<A: FromArgMatches>(&self, added: Vec<String>) -> Result<A, Failure> {
        let mut words = self.words.clone();
        let after_command = 1 + place_of_command(&words, &self.command);
        if after_command > words.len() {
            return Err(Failure::new("the command line names no command"));
        }
        words.splice(
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
        let matches = (self.definition)()
            .try_get_matches_from(words)
            .map_err(unfit)?;
        let matches = matches.subcommand().map(|(_, matches)| matches);
        let matches = matches.ok_or_else(|| Failure::new("the command line names no command"))?;
        A::from_arg_matches(matches).map_err(unfit)
    }

    /// The noted options that this command knows, and that neither its line nor, for what the
    /// environment gave, its environment replaces.
    pub(crate) fn to_add(&self, noted: &[Setting]) -> Vec<String> {
        let given = self.given();
        let root = (self.definition)();
        let Some(command) = root.find_subcommand(&self.command) else {
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
            let other = self.policy.excluded_by(id);
            if self.policy.scope(&self.command, id).is_none()
                || other.is_some_and(|other| is_given(other, true))
                || is_given(id, setting.from_environment)
            {
                continue;
            }
            let name = format!("--{}", setting.name);
            match setting.values.is_empty() {
                true => added.push(name),
                false => added.extend(setting.values.iter().map(|value| format!("{name}={value}"))),
            }
        }
        added
    }

    /// Notes the options of this command, for later ones; with `forget`, first forgets what was
    /// noted before.
    ///
    /// # Errors
    /// The database cannot be used.
    pub fn store(&self, database: &Database, forget: bool) -> Result<(), Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let mut client = database.connect()?;
        let mut txn = client.transaction().map_err(refused)?;
        if forget {
            settings::forget_all(&mut txn, &database.schema).map_err(refused)?;
        }
        let before = settings::all(&mut txn, &database.schema).map_err(refused)?;
        let (noted, displaced) = self.to_note(&before);
        let displaced: Vec<&str> = displaced.iter().map(String::as_str).collect();
        settings::forget(&mut txn, &database.schema, &displaced).map_err(refused)?;
        settings::note(&mut txn, &database.schema, &noted).map_err(refused)?;
        txn.commit().map_err(refused)
    }

    /// What is to be noted, and the names of what that displaces.
    pub(crate) fn to_note(&self, before: &[Setting]) -> (Vec<Setting>, Vec<String>) {
        let done = self.effective();
        let (mut noted, mut displaced) = (Vec::new(), Vec::new());
        for given in self.given().iter() {
            let (Some(scope), Some(long)) = (self.noted(given), &given.long) else {
                continue;
            };
            // What a command line said outlives what an environment says.
            let outlives = |old: &Setting| {
                old.name == *long && !old.from_environment && given.from_environment
            };
            if done.contains(given.id.as_str()) || before.iter().any(outlives) {
                continue;
            }
            displaced.extend(self.policy.excluded_by(&given.id).map(long_of));
            let absolute = |value: &String| match self.policy.paths.contains(&given.id.as_str()) {
                true => absolute(value),
                false => value.clone(),
            };
            noted.push(Setting {
                name: long.clone(),
                values: given.values.iter().map(absolute).collect(),
                from_environment: given.from_environment,
                of_run: scope == Scope::Run,
            });
        }
        (noted, displaced)
    }

    /// Notes that these options have had their effect, and that no later command needs them.
    ///
    /// # Errors
    /// The database cannot be used.
    pub fn on_used_up(&self, database: &Database, ids: &[&'static str]) -> Result<(), Failure> {
        self.on_effective(ids);
        let mut client = database.connect()?;
        let longs: Vec<String> = ids.iter().map(|id| long_of(id)).collect();
        let longs: Vec<&str> = longs.iter().map(String::as_str).collect();
        settings::forget(&mut *client, &database.schema, &longs)
            .map_err(|error| database.failure(error))
    }
}

/// Where the command stands in its line: options of every command may come before it.
fn place_of_command(words: &[OsString], command: &str) -> usize {
    let is_value = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| words.get(at));
        before.is_some_and(|before| before == "--log-file" || before == "--log-format")
    };
    (1..words.len())
        .find(|at| words.get(*at).is_some_and(|word| word == command) && !is_value(*at))
        .unwrap_or(1)
}

fn absolute(value: &str) -> String {
    // A place in an object store is the same from everywhere.
    if value.contains("://") {
        return value.to_owned();
    }
    std::path::absolute(Path::new(value))
        .map_or(value.to_owned(), |path| path.to_string_lossy().into_owned())
}
