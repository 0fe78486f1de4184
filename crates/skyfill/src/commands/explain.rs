//! `skyfill explain`.

use crate::command_line::command_line;
use crate::fetch_args;
use crate::signals;
use arguments::ExplainArgs;
use engine::explain::{self, Options};
use observe::Workers;
use process::{Database, Ended, Failure};

/// Seconds for which a host that does not answer is retried.
const PATIENCE: u64 = 30;

pub(crate) fn run(given: &ExplainArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&given.database.target())?;
    database.require_ledger(&mut *database.connect()?)?;
    let forget = given.memory.forget_settings;
    let args: ExplainArgs = command_line().complete(&database, forget)?;
    let limits = fetch_args::of_hosts(&args.hosts, PATIENCE)?;
    let options = Options {
        target: args.target.clone(),
        fetch: args.fetch.then_some(limits),
        spool: fetch_args::spool(&args.hosts.spool)?,
        directory: fetch_args::directory_of(&args.hosts),
    };
    let stop = signals::listen(Workers::default())?;
    let answer = explain::explain(&options, &database, &stop)?;
    if args.json {
        observe::data!("{:#}", answer.json());
    } else {
        observe::data!("{}", answer.lines().join("\n"));
    }
    Ok(match stop.is_set() {
        true => Ended::Stopped,
        false => Ended::Well,
    })
}
