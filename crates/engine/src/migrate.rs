//! Bringing a schema to the newest official state, if need be from nothing.

use crate::recreate::{self, Consent};
use process::stop::PATIENT;
use process::{Database, Failure};

/// What is done beside the migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The schema is dropped first, if so much may go.
    pub recreate: Option<Consent>,
    /// The indexes of `follow` are dropped at the end.
    pub drop_follow_indexes: bool,
}

/// Runs the official migrations that are missing, and reports what was done. `ask` is asked whether
/// rows may be dropped, with what the schema holds, where that is to be asked.
///
/// # Errors
/// The database cannot be used or does not fit, or the schema cannot be dropped now.
pub fn migrate(
    options: Options,
    database: &Database,
    ask: impl FnOnce(&str) -> bool,
) -> Result<(), Failure> {
    let mut client = database.connect()?;
    let server = database.require_fit(&mut client)?;
    if let Some(consent) = options.recreate {
        recreate::drop_schema(database, &mut client, consent, ask)?;
    }
    if let Some(note) = server.collation_note() {
        observe::log!("note: {note}");
    }
    let (schema, shown) = (&database.schema, database.shown());
    let migrated = appview::migrate::migrate(&mut client, schema)
        .map_err(|error| Failure::new(format!("migrate schema {schema} of {shown}: {error}")))?;
    if !migrated.unknown.is_empty() {
        observe::log!(
            "note: this version of skyfill does not know these migrations: {}",
            migrated.unknown.join(", ")
        );
    }
    let before = migrated.before;
    match migrated.ran.len() {
        0 => observe::log!("schema {schema} of {shown} is current: {before} migrations"),
        ran => {
            let all = format!("{before} migrations had run, {ran} ran now");
            observe::log!("schema {schema} of {shown}: {all}");
        }
    }
    if options.drop_follow_indexes {
        let dropped = load::indexes::drop_follow(&mut client, schema, PATIENT)
            .map_err(|error| database.db_failure(&error))?;
        match dropped.as_slice() {
            [] => observe::log!("the indexes of follow are dropped already"),
            dropped => observe::log!(
                "dropped {}; rebuild them with: skyfill indexes restore",
                dropped.join(", ")
            ),
        }
    }
    Ok(())
}
