//! `skyfill identities`.

use crate::commands::{begin, judged, stopped};
use crate::{fetch_args, signals};
use arguments::{HandleMode, IdentitiesArgs};
use engine::identities::{
    self, Bulk, Documents, HandleMode as Handles, LookUp, Options, RETRIED_LATER,
};
use engine::next;
use observe::Workers;
use process::{Database, Ended, Failure, Stop, clock};

pub(crate) fn run(given: &IdentitiesArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&given.database.target())?;
    let (args, watch, _recorder): (IdentitiesArgs, _, _) = begin(&database, given.memory)?;
    watch.store()?;
    let stop = signals::listen(Workers::default())?;
    let options = options(&args, &database, &stop)?;
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
        let next = database
            .patient(&stop)
            .run(|client| next::after_identities(client, &database.schema))?;
        if let Some(next) = next {
            judged::log_next(next);
        }
    }
    Ok(match proved.is_stopped {
        true => stopped(),
        false => Ended::well_if(left == 0),
    })
}

fn options(args: &IdentitiesArgs, database: &Database, stop: &Stop) -> Result<Options, Failure> {
    let handles = match args.handles {
        HandleMode::Auto => Handles::Auto,
        HandleMode::Verified => Handles::Verified,
        HandleMode::Claimed => Handles::Claimed,
    };
    let settles = handles != Handles::Claimed;
    let directory = fetch_args::directory(&args.directory, &args.caller, args.allow_private_hosts);
    Ok(Options {
        handles,
        settles,
        bulk: match args.plc_export {
            true => Bulk::Known,
            false => Documents::Auto.bulk(&directory, database, settles, stop)?,
        },
        retry: args.retry,
        recheck: args.recheck,
        dids: args.dids.clone(),
        now: clock::now(args.now.as_deref())?,
        directory,
        concurrency: usize::from(args.concurrency),
    })
}
