//! Stored options about the network and about loading (table `setting`), so that later commands
//! need not repeat them.
//!
//! Names and values are those of the command line; the ledger does not know their meaning. Secrets
//! are never stored.

use postgres::{Error, GenericClient};

/// A setting that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's name, without its dashes.
    pub name: String,
    /// Its values; a switch has none.
    pub values: Vec<String>,
    /// Whether the environment gave it: then it holds only where neither a command line nor the
    /// environment says otherwise.
    pub from_environment: bool,
    /// Whether it goes with the run that is under way; else later runs keep to it, too.
    pub of_run: bool,
}

impl Setting {
    /// The option and its values, as words of a command line.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let name = format!("--{}", self.name);
        if self.values.is_empty() {
            return vec![name];
        }
        let values = self.values.iter();
        values
            .flat_map(|value| [name.clone(), value.clone()])
            .collect()
    }
}

/// What the names of settings begin with that say how accounts were chosen. They are of no command:
/// they say what a database does not hold, and stay until all accounts are looked for.
const CHOSEN: &str = "chosen ";

/// Notes that accounts were chosen by an option with these values, beside what was noted before.
///
/// # Errors
/// The server refused.
pub fn note_choice(
    client: &mut impl GenericClient,
    schema: &str,
    option: &str,
    values: &[String],
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.setting AS s (schema_name, name, given_values, from_environment, of_run)
         VALUES ($1, $2, $3, false, false)
         ON CONFLICT (schema_name, name) DO UPDATE SET noted_at = now(), given_values =
           ARRAY(SELECT DISTINCT v FROM unnest(s.given_values || excluded.given_values) v ORDER BY v)",
        &[&schema, &format!("{CHOSEN}{option}"), &values],
    )?;
    Ok(())
}

/// How accounts were chosen, if they were: by which options.
///
/// # Errors
/// The server refused.
pub fn chosen(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Setting>, Error> {
    let mut chosen = read(client, schema, true)?;
    for setting in &mut chosen {
        setting.name = setting.name.replacen(CHOSEN, "", 1);
    }
    Ok(chosen)
}

/// Forgets how accounts were chosen, when all are looked for.
///
/// # Errors
/// The server refused.
pub fn forget_choices(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    let sql = "DELETE FROM skyfill.setting WHERE schema_name = $1 AND starts_with(name, $2)";
    client.execute(sql, &[&schema, &CHOSEN])?;
    Ok(())
}

/// All settings of `schema`, by name.
///
/// # Errors
/// The server refused.
pub fn all(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Setting>, Error> {
    read(client, schema, false)
}

/// Settings by name: those that say how accounts were chosen, or all others.
fn read(
    client: &mut impl GenericClient,
    schema: &str,
    are_choices: bool,
) -> Result<Vec<Setting>, Error> {
    let rows = client.query(
        "SELECT name, given_values, from_environment, of_run FROM skyfill.setting
         WHERE schema_name = $1 AND starts_with(name, $2) = $3 ORDER BY name",
        &[&schema, &CHOSEN, &are_choices],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Setting {
                name: row.try_get(0)?,
                values: row.try_get(1)?,
                from_environment: row.try_get(2)?,
                of_run: row.try_get(3)?,
            })
        })
        .collect()
}

/// Notes settings; each replaces what was noted under its name.
///
/// # Errors
/// The server refused.
pub fn note(
    client: &mut impl GenericClient,
    schema: &str,
    settings: &[Setting],
) -> Result<(), Error> {
    for setting in settings {
        client.execute(
            "INSERT INTO skyfill.setting (schema_name, name, given_values, from_environment, of_run)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (schema_name, name) DO UPDATE SET given_values = excluded.given_values,
               from_environment = excluded.from_environment, of_run = excluded.of_run, noted_at = now()",
            &[
                &schema,
                &setting.name,
                &setting.values,
                &setting.from_environment,
                &setting.of_run,
            ],
        )?;
    }
    Ok(())
}

/// Forgets the settings of these names.
///
/// # Errors
/// The server refused.
pub fn forget(client: &mut impl GenericClient, schema: &str, names: &[&str]) -> Result<(), Error> {
    let sql = "DELETE FROM skyfill.setting WHERE schema_name = $1 AND name = ANY($2)";
    client.execute(sql, &[&schema, &names])?;
    Ok(())
}

/// Forgets all settings, but not how accounts were chosen.
///
/// # Errors
/// The server refused.
pub fn forget_all(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.setting WHERE schema_name = $1 AND NOT starts_with(name, $2)",
        &[&schema, &CHOSEN],
    )?;
    Ok(())
}

/// Forgets what goes with a run, when none is under way any more.
///
/// # Errors
/// The server refused.
pub fn forget_run(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    let sql = "DELETE FROM skyfill.setting WHERE schema_name = $1 AND of_run";
    client.execute(sql, &[&schema])?;
    Ok(())
}
