//! Whether a command line goes with what the workers were told that load already.

use crate::line::CommandLine;
use crate::policy::long_of;
use ledger::settings::{self, Setting};
use process::{Database, Failure, shell};

impl CommandLine {
    /// Makes sure that this command does not say anything else than the ledger has noted of the
    /// options with these names: they concern what all workers do.
    ///
    /// # Errors
    /// It does, or the database cannot be used.
    pub fn require_agreement(&self, database: &Database, ids: &[&str]) -> Result<(), Failure> {
        let mut client = database.connect()?;
        let noted = settings::all(&mut *client, &database.schema)
            .map_err(|error| database.failure(error))?;
        let Some((given, told)) = self.contradiction(&noted, ids) else {
            return Ok(());
        };
        Err(Failure::usage(format!(
            "other workers load into schema {} of {} with {told}, and this command says {given}",
            database.schema,
            database.shown()
        ))
        .hint("leave the option out to load as they do; or stop them first (SIGTERM)"))
    }

    /// The first option that says something else than what is noted, or than what holds where
    /// nothing is noted; and what that is.
    pub(crate) fn contradiction(
        &self,
        noted: &[Setting],
        ids: &[&str],
    ) -> Option<(String, String)> {
        let root = (self.definition)();
        let command = root.find_subcommand(&self.command)?;
        let given = self.given();
        let of_line = given
            .iter()
            .filter(|given| ids.contains(&given.id.as_str()) && !given.from_environment);
        for given in of_line {
            let long = long_of(&given.id);
            let told = noted.iter().find(|setting| setting.name == long);
            let default = command
                .get_arguments()
                .find(|arg| arg.get_id() == given.id.as_str())
                .map(|arg| arg.get_default_values().to_vec())
                .unwrap_or_default();
            let usual: Vec<String> = default
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            let is_same = match told {
                Some(told) => told.values == given.values,
                None => !given.values.is_empty() && usual == given.values,
            };
            if !is_same {
                let words = |values: &[String]| {
                    let setting = Setting {
                        name: long.clone(),
                        values: values.to_vec(),
                        from_environment: false,
                        of_run: false,
                    };
                    shell::line(&setting.words())
                };
                let others = match (told, usual.is_empty()) {
                    (Some(told), _) => words(&told.values),
                    (None, false) => words(&usual),
                    (None, true) => format!("no --{long}"),
                };
                return Some((words(&given.values), others));
            }
        }
        None
    }
}
