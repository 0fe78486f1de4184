//! `skyfill indexes`.

use crate::commands::stopped;
use crate::signals;
use arguments::{IndexesAction, IndexesArgs, IndexesTarget, RestoreArgs};
use engine::indexes;
use engine::run::{Scale, Wanted};
use observe::{Workers, printable};
use process::{Database, Ended, Failure};
use serde_json::json;

pub(crate) fn run(args: &IndexesArgs) -> Result<Ended, Failure> {
    match &args.action {
        IndexesAction::Status(target) => status(target),
        IndexesAction::Restore(args) => restore(args),
    }
}

fn status(target: &IndexesTarget) -> Result<Ended, Failure> {
    let missing = indexes::missing(&Database::open_existing(&target.database.target())?)?;
    if target.json {
        observe::data!("{}", json!({ "dropped": indexes::json(&missing) }));
    } else {
        for what in &missing {
            let [table, name, ddl] =
                [&what.table, &what.name, &what.ddl].map(|text| printable(text));
            observe::data!("{table}\t{name}\t{ddl}");
        }
        observe::log!("{} dropped by skyfill", missing.len());
    }
    Ok(Ended::well_if(missing.is_empty()))
}

fn restore(args: &RestoreArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.target.database.target())?;
    let stop = signals::listen(Workers::default())?;
    let wanted = Wanted {
        connections: args.max_db_connections.map(usize::from),
        server_memory: args.server.server_memory,
        ..Wanted::default()
    };
    let scale = Scale::choose(&wanted, &database)?;
    let Some(restored) = indexes::restore(&database, scale.indexes, &stop)? else {
        return Ok(stopped());
    };
    if args.target.json {
        observe::data!("{}", json!({ "restored": restored }));
    }
    observe::log!("{} restored", restored.len());
    Ok(Ended::Well)
}
