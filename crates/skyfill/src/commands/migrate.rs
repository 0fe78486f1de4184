//! `skyfill migrate`.

use crate::commands::judged;
use arguments::MigrateArgs;
use engine::migrate::{self, Options};
use engine::{Consent, next};
use process::{Database, Ended, Failure};
use std::io::{IsTerminal, stderr, stdin};

pub(crate) fn run(args: &MigrateArgs) -> Result<Ended, Failure> {
    let database = Database::open(&args.database.target())?;
    let consent = match (args.discard_private_data, args.yes) {
        (true, _) => Consent::All,
        (false, true) => Consent::Rows,
        (false, false) => Consent::Asked,
    };
    let options = Options {
        recreate: args.recreate_schema.then_some(consent),
        drop_follow_indexes: args.drop_follow_indexes,
    };
    let schema = &database.schema;
    migrate::migrate(options, &database, |holds| is_consented(holds, schema))?;
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
