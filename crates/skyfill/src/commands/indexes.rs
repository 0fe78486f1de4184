//! `skyfill indexes`.

use crate::cli::{IndexesAction, IndexesArgs, IndexesTarget, RestoreArgs};
use crate::commands::stopped;
use crate::signals;
use engine::run::{Scale, Wanted};
use observe::{Workers, printable};
use process::Database;
use process::{Ended, Failure};

pub(crate) fn run(args: &IndexesArgs) -> Result<Ended, Failure> {
    match &args.action {
        IndexesAction::Status(target) => status(target),
        IndexesAction::Restore(args) => restore(args),
    }
}

fn status(target: &IndexesTarget) -> Result<Ended, Failure> {
    let database = Database::open_existing(&target.database.target())?;
    let mut client = database.connect()?;
    database.require_trusted(&mut client)?;
    let missing = load::indexes::missing(&mut client, &database.schema)
        .map_err(|error| database.failure(error))?;
    if target.json {
        let names: Vec<_> = missing
            .iter()
            .map(|d| serde_json::json!({"table": d.table, "name": d.name, "ddl": d.ddl}))
            .collect();
        observe::data!("{}", serde_json::json!({ "dropped": names }));
    } else {
        for dropped in &missing {
            let [table, name, ddl] =
                [&dropped.table, &dropped.name, &dropped.ddl].map(|text| printable(text));
            observe::data!("{table}\t{name}\t{ddl}");
        }
        observe::log!("{} dropped by skyfill", missing.len());
    }
    Ok(if missing.is_empty() {
        Ended::Well
    } else {
        Ended::WithFailures
    })
}

fn restore(args: &RestoreArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.target.database.target())?;
    let stop = signals::listen(Workers::default())?;
    let wanted = Wanted {
        connections: args.max_db_connections.map(usize::from),
        server_memory: args.server_memory,
        ..Wanted::default()
    };
    let scale = Scale::choose(&wanted, &database)?;
    let Some(restored) = engine::indexes::restore(&database, scale.indexes, &stop)? else {
        return Ok(stopped());
    };
    if args.target.json {
        observe::data!("{}", serde_json::json!({ "restored": restored }));
    }
    observe::log!("{} restored", restored.len());
    Ok(Ended::Well)
}
