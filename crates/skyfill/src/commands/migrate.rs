//! `skyfill migrate`.

use crate::cli::MigrateArgs;
use ledger::presence;
use postgres::Client;
use process::Database;
use process::stop::PATIENT;
use process::{Ended, Failure};
use std::io::{IsTerminal, stderr, stdin};

pub(crate) fn run(args: &MigrateArgs) -> Result<Ended, Failure> {
    let database = Database::open(&args.database.target())?;
    let mut client = database.connect()?;
    let server = database.require_fit(&mut client)?;
    if args.recreate_schema {
        recreate(&database, &mut client, args)?;
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

/// Drops the schema, unless somebody works on it, it holds what no repo can refill, or nobody said
/// that its rows may go.
fn recreate(database: &Database, client: &mut Client, args: &MigrateArgs) -> Result<(), Failure> {
    let schema = &database.schema;
    require_nobody_at_work(database, client)?;
    let private =
        appview::recreate::private_data(client, schema).map_err(|error| database.failure(error))?;
    if !private.is_empty() && !args.discard_private_data {
        return Err(Failure::new(format!(
            "schema {schema} of {} holds what no repo can refill, in: {}; nothing was dropped",
            database.shown(),
            private.join(", ")
        ))
        .hint("save it first, or add --discard-private-data"));
    }
    let filled =
        appview::recreate::filled_table(client, schema).map_err(|error| database.failure(error))?;
    if let Some(table) = filled.filter(|_| !args.yes && !args.discard_private_data) {
        require_consent(database, &table)?;
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

/// Makes sure that no skyfill works on the schema, and that none begins to while `client` lives.
fn require_nobody_at_work(database: &Database, client: &mut Client) -> Result<(), Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let at_work = |who: String| {
        Failure::new(format!(
            "a skyfill works on schema {} of {} ({who}); nothing was dropped",
            database.schema,
            database.shown()
        ))
        .hint("stop it, or wait until it has ended, then run this again")
    };
    if let Err(backends) = presence::alone(client, &database.schema).map_err(refused)? {
        let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
        return Err(at_work(format!(
            "process {} of the server",
            backends.join(", ")
        )));
    }
    if ledger::exists(client).map_err(refused)?
        && presence::has_lease(client, &database.schema).map_err(refused)?
    {
        return Err(at_work("it holds leases of hosts".to_owned()));
    }
    Ok(())
}

/// Asks whether the rows may go, where somebody can answer.
fn require_consent(database: &Database, table: &str) -> Result<(), Failure> {
    let holds = format!(
        "schema {} of {} holds rows (in {table}, for one)",
        database.schema,
        database.shown()
    );
    let kept =
        || Failure::usage(format!("{holds}; nothing was dropped")).hint("to drop them, add --yes");
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(kept());
    }
    observe::log!("{holds}. To drop them, type the name of the schema:");
    let mut answer = String::new();
    match stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == database.schema => Ok(()),
        _ => Err(kept()),
    }
}
