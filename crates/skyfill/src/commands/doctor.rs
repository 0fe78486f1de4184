//! `skyfill doctor`, and what `skyfill run` reports of it when it begins.

use crate::command_line::command_line;
use crate::commands::print;
use crate::fetch_args;
use arguments::DoctorArgs;
use doctor::Level;
use doctor::network::{self, Network};
use engine::discovery::PUBLIC_RELAY;
use engine::run::{Scale, Wanted};
use process::{Database, Ended, Failure, threads};
use std::time::Duration;

pub(crate) fn run(given: &DoctorArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&given.database.target());
    let mut findings = match &database {
        Ok(database) => {
            let wanted = Wanted {
                connections: given.max_db_connections.map(usize::from),
                ..Wanted::default()
            };
            // Where the server cannot be asked, that is what is found.
            let scale = Scale::choose(&wanted, database);
            doctor::of_database(database, scale.map_or(2, |scale| scale.connections))
        }
        Err(failure) => vec![doctor::unopened(failure)],
    };
    findings.extend(doctor::of_machine());
    if !given.no_network {
        let network = network(given, database.as_ref().ok())?;
        findings.extend(threads::start()?.block_on(network::look(&network)));
    }
    let highest = doctor::highest(&findings);
    let json = || serde_json::json!({"level": highest, "findings": findings});
    let lines = || findings.iter().map(ToString::to_string).collect();
    print(given.json, json, lines);
    observe::log!("{}", doctor::counted(&findings));
    Ok(Ended::well_if(highest != Level::Problem))
}

/// Whom to ask: the arguments, with the options that earlier commands on the database stored.
fn network(given: &DoctorArgs, database: Option<&Database>) -> Result<Network, Failure> {
    let has_ledger = |database: &&Database| {
        let client = database.connect().ok();
        client.is_some_and(|mut client| ledger::exists(&mut client).unwrap_or(false))
    };
    let forget = given.memory.forget_settings;
    let completed: Option<DoctorArgs> = match database.filter(has_ledger) {
        Some(database) => Some(command_line().complete(database, forget)?),
        None => None,
    };
    let args = completed.as_ref().unwrap_or(given);
    Ok(Network {
        user_agent: fetch_args::user_agent(&args.caller),
        plc_url: args.servers.plc_url.clone(),
        relay: args
            .relay
            .clone()
            .unwrap_or_else(|| PUBLIC_RELAY.to_owned()),
        dns_server: args.servers.dns_server,
        timeout: Duration::from_secs(args.timeout),
    })
}

/// Reports what a load that begins should know.
pub(crate) fn warn(database: &Database, connections: usize) {
    for warning in doctor::warnings(database, connections) {
        tracing::warn!("{warning}");
    }
}
