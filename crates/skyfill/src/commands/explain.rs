//! `skyfill explain`.

use crate::cli::ExplainArgs;
use crate::{fetch_args, signals, told};
use engine::explain::{self, Options};
use observe::Workers;
use process::{Database, Ended, Failure};

/// Seconds for which a host that does not answer is retried.
const PATIENCE: u64 = 30;

pub(crate) fn run(given: &ExplainArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&given.database.target())?;
    database.require_ledger(&mut database.connect()?)?;
    let args: ExplainArgs = told::complete(&database, given.memory.forget_settings)?;
    let limits = fetch_args::options(&args.limits, &args.caller, PATIENCE)?;
    let options = Options {
        target: args.target.clone(),
        fetch: args.fetch.then_some(limits),
        spool: fetch_args::spool(&args.spool)?,
        directory: fetch_args::directory(
            &args.directory,
            &args.caller,
            args.limits.allow_private_hosts,
        ),
    };
    let stop = signals::listen(Workers::default())?;
    let answer = explain::explain(&options, &database, &stop)?;
    if args.json {
        observe::data!("{:#}", answer.json());
    } else {
        for line in answer.lines() {
            observe::data!("{line}");
        }
    }
    Ok(match stop.is_set() {
        true => Ended::Stopped,
        false => Ended::Well,
    })
}
