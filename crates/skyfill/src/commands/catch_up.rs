//! `skyfill catch-up`.

use crate::cli::CatchUpArgs;
use crate::commands::watch::Watch;
use crate::commands::{judged, stopped};
use crate::{fetch_args, signals, told};
use engine::catch_up::{self, CaughtUp, Options};
use engine::recorder::Recorder;
use engine::run::Session;
use observe::Workers;
use process::{Database, Ended, Failure, clock};

pub(crate) fn run(given: &CatchUpArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&given.load.database.target())?;
    let _recorder = Recorder::start(&database);
    let forget = given.load.remember.forget_settings;
    let args: CatchUpArgs = told::complete(&database, forget)?;
    crate::listening::shows(&database);
    let now = args.now.as_deref().map(|now| clock::now(Some(now)));
    let options = Options {
        source: fetch_args::source(&args.source)?,
        passes: args.passes,
        now: now.transpose()?,
    };
    let load = fetch_args::load(&args.load, &options.source, &database)?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let watch = Watch {
        database: &database,
        forget,
    };
    let session = Session::open(&database, &load, &watch, workers, stop)?;
    told::remember(&database, forget)?;
    let caught_up = match catch_up::catch_up(&session, &options)? {
        catch_up::Ended::CaughtUp(caught_up) => caught_up,
        catch_up::Ended::Stopped => return Ok(stopped()),
    };
    summary(&args, options.source.relay(), &caught_up);
    Ok(judged::ended(
        &database,
        &caught_up.coverage,
        0,
        args.load.no_verify,
        true,
    ))
}

/// Reports from where an AppView may take over.
fn summary(args: &CatchUpArgs, relay: &str, caught_up: &CaughtUp) {
    let CaughtUp {
        cursor,
        failed_hosts,
        missing,
        ..
    } = caught_up;
    if args.load.output.json {
        observe::data!("{}", caught_up.json(relay));
    }
    observe::log!(
        "{relay} still has all events after sequence number {cursor}: an AppView that subscribes to it can be started now. The official one \
         accepts no cursor and replays all that the relay keeps; others begin at {cursor} or before"
    );
    if *missing > 0 || *failed_hosts > 0 {
        observe::log!(
            "but {failed_hosts} hosts could not be listed and {missing} repos could not be loaded: their older changes may be missing; run it again later"
        );
    }
}
