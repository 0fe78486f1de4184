//! `skyfill run`.

use crate::command_line::command_line;
use crate::commands::{begin, doctor, follow, judged, plan, stopped};
use crate::{fetch_args, signals};
use arguments::{LoadArgs, LoadMode, RunArgs};
use engine::certificate;
use engine::run::{
    self, Around, Done, LoadOptions, NewRun, Options, Repos, Requested, Session, Transport,
};
use ledger::coverage::Coverage;
use ledger::runs::Mode;
use observe::Workers;
use process::{Database, DidFile, Ended, Failure, clock};
use std::time::Instant;

/// Options that concern what all workers on a database do: one that joins others cannot have other
/// ones.
const AGREED: [&str; 9] = [
    "accept_deletions",
    "documents",
    "handles",
    "host_rate",
    "lease",
    "no_verify",
    "plc_url",
    "relay",
    "skip_host",
];

pub(crate) fn run(given: &RunArgs) -> Result<Ended, Failure> {
    let started = Instant::now();
    let did_file = given.what.did_file.as_deref().map(DidFile::open);
    let given_options = options(given, did_file.transpose()?)?;
    if given.foresight.dry_run {
        return plan::dry_run(given, given_options);
    }
    fetch_args::require_usable(&given.load)?;
    transport(given)?;
    let target = given.load.database.target();
    // The private database is made only if there is something to load into it.
    let is_made = given_options.discovers || given_options.repos.names_any();
    let database = match (given.follow, is_made) {
        (true, _) => Database::open_to_stay(&target, is_made)?,
        (false, true) => Database::open_to_work(&target)?,
        (false, false) => Database::open_to_go_on(&target)?,
    };
    let (mut args, watch, _recorder): (RunArgs, _, _) = begin(&database, given.load.fill.remember)?;
    let mut options = options(&args, given_options.repos.did_file)?;
    options.source.relay_is_stored = fetch_args::is_relay_stored(&given.source, &args.source);
    options.source = options.source.or_of_last_run(&database)?;
    if run::has_other_workers(&database)? {
        command_line().require_agreement(&database, &AGREED)?;
        // The stored folder is another worker's, perhaps on this machine.
        if given.load.keep_cars.is_none() && args.load.keep_cars.take().is_some() {
            observe::log!(
                "note: other workers keep CARs, and this one keeps none; name a folder of its own with --keep-cars"
            );
        }
    }
    let load = LoadOptions {
        transport: transport(&args)?,
        follows: args.follow,
        ..fetch_args::load(&args.load, &options.source, &database)?
    };
    doctor::warn(&database, load.scale.connections);
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let session = Session::open(&database, &load, &watch, workers, stop)?;
    let source = options.source.clone();
    if args.follow {
        let relay = engine::follow::relay_to_follow(&source, &database)?;
        // Repos whose time has come are retried while it follows.
        if engine::follow::is_loaded(&database, &relay)? && !options.retry_failed {
            watch.store()?;
            observe::log!("all is loaded; following {relay}");
            return follow::go_live(&session, &source, args.proof, args.load.fill.output.json);
        }
    }
    let (ended, bad_lines) = run::run(&session, options)?;
    if matches!(ended, run::RunEnd::Stopped) {
        return Ok(stopped());
    }
    let coverage = certificate::coverage(&database)?;
    if let run::RunEnd::Run(done) = ended {
        summary(&args.load, &database, &coverage, &done, started);
        if done.is_stopped() {
            return Ok(stopped());
        }
        observe::log!("a page about it: {}", command_line().of_command("report"));
    }
    if args.follow {
        judged::judged(&coverage, bad_lines);
        return follow::go_live(&session, &source, args.proof, args.load.fill.output.json);
    }
    let no_verify = args.load.no_verify;
    Ok(judged::ended(&coverage, bad_lines, no_verify, false))
}

fn options(args: &RunArgs, did_file: Option<DidFile>) -> Result<Options, Failure> {
    let what = &args.what;
    let collections: Vec<rows::Collection> = what
        .collections
        .iter()
        .flat_map(|meant| meant.0.iter().copied())
        .collect();
    let choice = Requested::new(
        &collections,
        what.notifications.as_ref(),
        what.since.as_deref(),
    );
    let source = fetch_args::source(&args.source)?;
    Ok(Options {
        repos: Repos {
            did_file,
            dids: what.did.clone(),
            handles: what.handle.clone(),
            from_cars: what.from_cars.clone(),
            fetches_missing: what.fetch_missing,
            around: Around {
                followed_by: what.followed_by.clone(),
                hops: what.hops,
                lists: what.list.clone(),
                most: what.most_accounts,
            },
        },
        discovers: what.discover || source.names_repos(),
        source,
        retry_failed: what.retry_failed,
        is_forced: args.foresight.force,
        new: NewRun {
            now: clock::now(what.now.as_deref())?,
            mode: match what.mode {
                LoadMode::Auto => None,
                LoadMode::Fresh => Some(Mode::Fresh),
                LoadMode::Merge => Some(Mode::Merge),
            },
            choice: Some(choice),
            is_sent: args.transport.transport.is_some(),
        },
    })
}

/// The stream that repos are sent to, if the arguments name one.
fn transport(args: &RunArgs) -> Result<Option<Transport>, Failure> {
    let settings = args.transport.settings()?;
    if settings.is_some() && args.load.keep_cars.is_some() {
        return Err(Failure::usage(
            "--transport and --keep-cars exclude each other: repos are stored elsewhere",
        )
        .hint("keep the CARs first, and load them from there with --from-cars"));
    }
    Ok(settings.map(|settings| Transport {
        settings,
        limits: args.new_stream.limits(),
    }))
}

/// Reports what a run did, and what the database holds now.
fn summary(
    args: &LoadArgs,
    database: &Database,
    coverage: &Coverage,
    done: &Done,
    started: Instant,
) {
    let seconds = started.elapsed().as_secs_f64();
    if args.fill.output.json {
        observe::data!("{}", done.json(coverage, seconds));
    }
    for line in done.lines(coverage, database, seconds) {
        observe::log!("{line}");
    }
}
