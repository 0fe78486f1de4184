//! Dropping the AppView's schema, so that it can be made again.

use ledger::presence;
use postgres::Client;
use process::stop::PATIENT;
use process::{Database, Failure};

/// What may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Rows that repos refill, and what no repo can refill.
    All,
    /// Rows that repos refill.
    Rows,
    /// What has rows is asked about.
    Asked,
}

/// Drops the schema, unless somebody works on it, it holds what no repo can refill, or nobody said
/// that its rows may go. `ask` is asked about them, with what the schema holds.
///
/// # Errors
/// One of these, or the database cannot be used.
pub(crate) fn drop_schema(
    database: &Database,
    client: &mut Client,
    consent: Consent,
    ask: impl FnOnce(&str) -> bool,
) -> Result<(), Failure> {
    let schema = &database.schema;
    require_nobody_at_work(database, client)?;
    let private =
        appview::recreate::private_data(client, schema).map_err(|error| database.failure(error))?;
    if !private.is_empty() && consent != Consent::All {
        return Err(Failure::new(format!(
            "schema {schema} of {} has data that no repo can restore, in: {}; nothing was dropped",
            database.shown(),
            private.join(", ")
        ))
        .hint("save it first, or add --discard-private-data"));
    }
    let filled =
        appview::recreate::filled_table(client, schema).map_err(|error| database.failure(error))?;
    if let Some(table) = filled.filter(|_| consent == Consent::Asked) {
        let holds = format!(
            "schema {schema} of {} has rows (for example in {table})",
            database.shown()
        );
        if !ask(&holds) {
            return Err(Failure::usage(format!("{holds}; nothing was dropped"))
                .hint("to drop them, add --yes"));
        }
    }
    appview::recreate::drop_schema(client, schema).map_err(|error| database.failure(error))?;
    if ledger::exists(client).map_err(|error| database.failure(error))? {
        let refused = |error| database.failure(error);
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
            "another skyfill uses schema {} of {} ({who}); nothing was dropped",
            database.schema,
            database.shown()
        ))
        .hint("stop it or wait until it ends, then run this again")
    };
    if let Err(backends) = presence::alone(client, &database.schema).map_err(refused)? {
        let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
        return Err(at_work(format!(
            "process {} of the server",
            backends.join(", ")
        )));
    }
    if !ledger::exists(client).map_err(refused)? {
        return Ok(());
    }
    ledger::prepare(client, PATIENT).map_err(|error| database.db_failure(&error))?;
    match presence::is_worked_on(client, &database.schema).map_err(refused)? {
        true => Err(at_work("skyfill status names it".to_owned())),
        false => Ok(()),
    }
}
