//! `skyfill migrate`.

use crate::cli::MigrateArgs;
use crate::commands::judged;
use engine::next;
use engine::recreate::{self, Consent};
use process::Database;
use process::stop::PATIENT;
use process::{Ended, Failure};
use std::io::{IsTerminal, stderr, stdin};

pub(crate) fn run(args: &MigrateArgs) -> Result<Ended, Failure> {
    let database = Database::open(&args.database.target())?;
    let mut client = database.connect()?;
    let server = database.require_fit(&mut client)?;
    if args.recreate_schema {
        let consent = match (args.discard_private_data, args.yes) {
            (true, _) => Consent::All,
            (false, true) => Consent::Rows,
            (false, false) => Consent::Asked,
        };
        let ask = |holds: &str| is_consented(holds, &database.schema);
        recreate::drop_schema(&database, &mut client, consent, ask)?;
    }
    if let Some(note) = server.collation_note() {
        observe::log!("note: {note}");
    }
    let schema = &database.schema;
    let migrated = appview::migrate::migrate(&mut client, schema).map_err(|error| {
        Failure::new(format!(
            "migrate schema {schema} of {}: {error}",
            database.shown()
        ))
    })?;
    if !migrated.unknown.is_empty() {
        observe::log!(
            "note: this version of skyfill does not know these migrations: {}",
            migrated.unknown.join(", ")
        );
    }
    match migrated.ran.as_slice() {
        [] => observe::log!(
            "schema {schema} of {} is current: {} migrations",
            database.shown(),
            migrated.before
        ),
        ran => observe::log!(
            "schema {schema} of {}: {} migrations had run, {} ran now",
            database.shown(),
            migrated.before,
            ran.len()
        ),
    }
    if args.drop_follow_indexes {
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
    if let Some(server) = &database.private {
        observe::log!("look at it with: {}", server.psql_line(schema));
    }
    judged::log_next(next::AFTER_MIGRATE);
    Ok(Ended::Well)
}

/// Asks whether the rows may go, where somebody can answer.
fn is_consented(holds: &str, schema: &str) -> bool {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return false;
    }
    observe::log!("{holds}. To drop them, type the name of the schema:");
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && answer.trim() == schema
}
