//! `skyfill status`.

use crate::commands::print;
use crate::signals;
use arguments::StatusArgs;
use engine::status::{Status, account, failed, host, lines};
use observe::Workers;
use process::{Database, Ended, Failure};
use serde_json::json;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

pub(crate) fn run(args: &StatusArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.database.target())?;
    if let Some(name) = &args.host {
        let host = host::read(&database, name)?;
        print(args.json, || host.json(), || host.lines());
        return Ok(Ended::Well);
    }
    if let Some(did) = &args.did {
        let account = account::read(&database, did)?;
        print(args.json, || account.json(), || account.lines());
        return Ok(Ended::Well);
    }
    if args.failed {
        let groups = failed::read(&database)?;
        let as_json = || json!({ "failed": failed::json(&groups) });
        print(args.json, as_json, || failed::lines(&groups));
        return Ok(Ended::well_if(groups.is_empty()));
    }
    match args.watch {
        Some(seconds) => watch(args, &database, Duration::from_secs(seconds)),
        None => show(args, &database),
    }
}

fn show(args: &StatusArgs, database: &Database) -> Result<Ended, Failure> {
    let status = Status::read(database, args.hosts)?;
    print(args.json, || status.json(), || lines::lines(&status));
    Ok(Ended::well_if(status.judgment.verdict.is_complete()))
}

/// Shows it again and again until it is stopped, or nobody reads it any more; on a terminal in the
/// same place.
fn watch(args: &StatusArgs, database: &Database, every: Duration) -> Result<Ended, Failure> {
    let stop = signals::listen(Workers::default())?;
    let redraws = stdout().is_terminal() && !args.json;
    loop {
        let status = Status::read(database, args.hosts)?;
        let text = lines::lines(&status).join("\n");
        match (args.json, redraws) {
            (true, _) => observe::data!("{}", status.json()),
            // To the top, and what was there before goes with each line and at the end.
            (false, true) => observe::data!(
                "\u{1b}[H{}\u{1b}[K\u{1b}[J",
                text.replace('\n', "\u{1b}[K\n")
            ),
            (false, false) => observe::data!("{text}\n"),
        }
        if observe::output::is_lost() || !stop.waits().sleep(every) {
            return Ok(Ended::Well);
        }
    }
}
