//! `skyfill repair`.

use crate::command_line::command_line;
use crate::commands::{print, stopped};
use crate::fetch_args;
use crate::signals;
use arguments::RepairArgs;
use engine::recorder::Recorder;
use engine::repair::{self, Derived, Options};
use observe::Workers;
use process::{Database, Ended, Failure, clock};

/// Seconds for which a host that does not answer is retried.
const PATIENCE: u64 = 30;

pub(crate) fn run(given: &RepairArgs) -> Result<Ended, Failure> {
    let mut accounts = given.accounts.clone();
    if let Some(path) = &given.file {
        accounts.extend(repair::accounts_of(path)?);
    }
    let database = Database::open_to_go_on(&given.database.target())?;
    let _recorder = Recorder::start(&database);
    let forget = given.memory.forget_settings;
    let args: RepairArgs = command_line().complete(&database, forget)?;
    let options = Options {
        accounts,
        now: clock::now(args.now.as_deref())?,
        accept_deletions: args.accept_deletions,
        fetch: fetch_args::of_hosts(&args.hosts, PATIENCE)?,
        spool: fetch_args::spool(&args.hosts.spool)?,
        directory: fetch_args::directory_of(&args.hosts),
    };
    let stop = signals::listen(Workers::default())?;
    command_line().store(&database, forget)?;
    let summary = repair::repair(&options, &database, &stop)?;
    print(args.json, || summary.json(), || summary.lines());
    if summary.is_stopped {
        return Ok(stopped());
    }
    if let Derived::Left(why) = summary.derived {
        observe::log!("derived rows are still to be computed: {why}");
    }
    Ok(Ended::well_if(summary.is_done()))
}
