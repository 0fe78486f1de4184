//! `skyfill catch-up`.

use crate::commands::{begin, follow, judged, stopped};
use crate::{fetch_args, signals};
use arguments::CatchUpArgs;
use engine::catch_up::{self, Options};
use engine::discovery::Source;
use engine::run::{LoadOptions, Session};
use observe::Workers;
use process::{Database, Ended, Failure, clock};

pub(crate) fn run(given: &CatchUpArgs) -> Result<Ended, Failure> {
    let target = given.load.database.target();
    let database = match given.follow {
        true => Database::open_to_stay(&target, false)?,
        false => Database::open_to_go_on(&target)?,
    };
    let (args, watch, _recorder): (CatchUpArgs, _, _) = begin(&database, given.load.fill.remember)?;
    let now = args.now.as_deref().map(|now| clock::now(Some(now)));
    let options = Options {
        source: Source {
            relay_is_stored: fetch_args::is_relay_stored(&given.source, &args.source),
            ..fetch_args::source(&args.source)?
        }
        .or_of_last_run(&database)?,
        passes: args.passes,
        now: now.transpose()?,
    };
    let load = LoadOptions {
        follows: args.follow,
        ..fetch_args::load(&args.load, &options.source, &database)?
    };
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let session = Session::open(&database, &load, &watch, workers, stop)?;
    watch.store()?;
    let caught_up = match catch_up::catch_up(&session, &options)? {
        catch_up::CatchUpEnd::CaughtUp(caught_up) => caught_up,
        catch_up::CatchUpEnd::Stopped => return Ok(stopped()),
    };
    let relay = options.source.relay();
    if args.load.fill.output.json {
        observe::data!("{}", caught_up.json(relay));
    }
    for line in caught_up.lines(relay) {
        observe::log!("{line}");
    }
    if args.follow {
        judged::judged(&caught_up.coverage, 0);
        let source = Source {
            relay: Some(relay.to_owned()),
            ..options.source.clone()
        };
        return follow::go_live(&session, &source, args.proof, args.load.fill.output.json);
    }
    let no_verify = args.load.no_verify;
    Ok(judged::ended(&caught_up.coverage, 0, no_verify, true))
}
