//! `skyfill follow`, and what `run` and `catch-up` do with `--follow` after they have loaded.

use crate::commands::{begin, stopped};
use crate::{fetch_args, signals};
use arguments::{FollowArgs, ProofArgs};
use engine::catch_up;
use engine::discovery::Source;
use engine::follow::{self, Options, Summary};
use engine::run::Session;
use observe::Workers;
use process::{Database, Ended, Failure};

/// Passes over all hosts until the relay has all events since one of them began.
const PASSES: u32 = 10;

pub(crate) fn run(given: &FollowArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_stay(&given.database.target(), false)?;
    let (args, watch, _recorder): (FollowArgs, _, _) = begin(&database, given.fill.remember)?;
    let relays = follow::relays(&args.relays, &database)?;
    let load_args = args.load(&relays);
    let source = Source {
        relay: relays.first().cloned(),
        ..Source::default()
    };
    let load = fetch_args::load(&load_args, &source, &database)?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let session = Session::open(&database, &load, &watch, workers, stop)?;
    watch.store()?;
    let options = Options {
        relays,
        cursor: args.cursor,
        until_now: args.until_now,
        proof_rate: args.proof.proof_rate.into(),
    };
    let summary = follow::follow(&session, &options)?;
    Ok(ended(&summary, args.fill.output.json))
}

/// Follows the stream after a load: that of the source's relay. Hosts are listed there again where
/// events are lost.
pub(crate) fn go_live(
    session: &Session<'_>,
    source: &Source,
    proof: ProofArgs,
    as_json: bool,
) -> Result<Ended, Failure> {
    let relay = follow::relay_to_follow(source, session.database)?;
    let options = Options {
        relays: vec![relay.clone()],
        cursor: None,
        until_now: false,
        proof_rate: proof.proof_rate.into(),
    };
    let catch_up = catch_up::Options {
        source: Source {
            relay: Some(relay),
            ..source.clone()
        },
        passes: PASSES,
        now: None,
    };
    let summary = follow::go_live(session, &options, &catch_up)?;
    Ok(ended(&summary, as_json))
}

fn ended(summary: &Summary, as_json: bool) -> Ended {
    if as_json {
        observe::data!("{}", summary.json());
    }
    observe::log!("{}", summary.line());
    match summary.is_stopped {
        true => stopped(),
        false => Ended::Well,
    }
}
