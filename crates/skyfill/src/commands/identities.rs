//! `skyfill identities`.

use crate::cli::{HandleMode, IdentitiesArgs};
use crate::commands::watch::Watch;
use crate::commands::{judged, stopped};
use crate::{fetch_args, signals, told};
use engine::identities::{self, Bulk, LookUp, Options, RETRIED_LATER};
use engine::next;
use engine::recorder::Recorder;
use observe::Workers;
use process::{Database, Ended, Failure, clock};

pub(crate) fn run(given: &IdentitiesArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&given.database.target())?;
    let _recorder = Recorder::start(&database);
    let forget = given.memory.forget_settings;
    let args: IdentitiesArgs = told::complete(&database, forget)?;
    crate::listening::shows(&database);
    told::remember(&database, forget)?;
    let stop = signals::listen(Workers::default())?;
    let options = options(&args)?;
    let watch = Watch {
        database: &database,
        forget,
    };
    let (summary, is_stopped) = match identities::look_up(&options, &database, &stop, &watch)? {
        LookUp::Done(summary) => (Some(summary), false),
        LookUp::Stopped(summary) => (summary, true),
    };
    if let Some(summary) = summary.as_ref().filter(|_| args.output.json) {
        observe::data!("{}", summary.json());
    }
    if is_stopped {
        return Ok(stopped());
    }
    let left = summary.map_or(0, |summary| summary.unreachable);
    if left > 0 {
        observe::log!("{RETRIED_LATER}");
    }
    let proved = identities::prove(&options.directory, &database, &stop)?;
    if !proved.is_stopped {
        judged::log_next(next::AFTER_IDENTITIES);
    }
    Ok(match (proved.is_stopped, left) {
        (true, _) => Ended::Stopped,
        (false, 0) => Ended::Well,
        (false, _) => Ended::WithFailures,
    })
}

fn options(args: &IdentitiesArgs) -> Result<Options, Failure> {
    Ok(Options {
        handles: match args.handles {
            HandleMode::Verified => identities::HandleMode::Verified,
            HandleMode::Claimed => identities::HandleMode::Claimed,
        },
        bulk: match args.plc_export {
            true => Bulk::Known,
            false => Bulk::Nothing,
        },
        retry: args.retry,
        recheck: args.recheck,
        dids: args.dids.clone(),
        now: clock::now(args.now.as_deref())?,
        directory: fetch_args::directory(&args.directory, &args.caller, args.allow_private_hosts),
        concurrency: usize::from(args.concurrency),
        is_patient: false,
    })
}
