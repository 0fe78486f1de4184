//! `skyfill migrate`.

use crate::cli::MigrateArgs;
use crate::database::Database;
use crate::exit::{Ended, Failure};
use crate::signals::PATIENT;
use postgres::Client;

pub(crate) fn run(args: &MigrateArgs) -> Result<Ended, Failure> {
    let database = Database::open(&args.database)?;
    let mut client = database.connect()?;
    if args.recreate_schema {
        recreate(&database, &mut client, args.discard_private_data)?;
    }
    let schema = &database.schema;
    let migrated = appview::migrate::migrate(&mut client, schema).map_err(|error| {
        Failure::new(format!(
            "migrate schema {schema} of {}: {error}",
            database.shown()
        ))
    })?;
    match migrated.ran.as_slice() {
        [] => observe::log!(
            "schema {schema} of {} is current: {} migrations",
            database.shown(),
            migrated.before
        ),
        ran => observe::log!(
            "schema {schema} of {}: {} migrations were there, {} ran",
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
                "dropped {}; put them back with: skyfill indexes restore",
                dropped.join(", ")
            ),
        }
    }
    if let Some(server) = &database.private {
        observe::log!("look at it with: {}", server.psql_line(schema));
    }
    Ok(Ended::Well)
}

fn recreate(database: &Database, client: &mut Client, discard: bool) -> Result<(), Failure> {
    let schema = &database.schema;
    let private = appview::recreate::private_data(client, schema).map_err(|error| database.failure(error))?;
    if !private.is_empty() && !discard {
        return Err(Failure::new(format!(
            "schema {schema} of {} holds what no repo can refill, in: {}; nothing was dropped",
            database.shown(),
            private.join(", ")
        ))
        .hint("save it first, or add --discard-private-data"));
    }
    appview::recreate::drop_schema(client, schema).map_err(|error| database.failure(error))?;
    if ledger::exists(client).map_err(|error| database.failure(error))? {
        let refused = |error| database.failure(error);
        ledger::prepare(client, PATIENT).map_err(|error| database.db_failure(&error))?;
        ledger::forget_schema(client, schema).map_err(refused)?;
        load::fresh::drop_probes(client, schema).map_err(refused)?;
    }
    observe::log!("dropped schema {schema} of {}", database.shown());
    Ok(())
}
