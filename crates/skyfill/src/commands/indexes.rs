//! `skyfill indexes`.

use crate::cli::{IndexesAction, IndexesArgs, IndexesTarget};
use observe::printable;
use process::Database;
use process::{Ended, Failure};

pub(crate) fn run(args: &IndexesArgs) -> Result<Ended, Failure> {
    match &args.action {
        IndexesAction::Status(target) => status(target),
        IndexesAction::Restore(target) => restore(target),
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

fn restore(target: &IndexesTarget) -> Result<Ended, Failure> {
    let database = Database::open_existing(&target.database.target())?;
    let restored = engine::indexes::restore(&database)?;
    if target.json {
        observe::data!("{}", serde_json::json!({ "restored": restored }));
    }
    observe::log!("{} restored", restored.len());
    Ok(Ended::Well)
}
