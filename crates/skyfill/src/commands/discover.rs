//! `skyfill discover`.

use crate::commands::{begin, judged, stopped};
use crate::{fetch_args, signals};
use arguments::DiscoverArgs;
use engine::discovery::{self, Discovery};
use engine::next;
use observe::Workers;
use process::{Database, Ended, Failure, checks, threads};
use std::fs::File;
use std::io::stdout;
use std::path::Path;

pub(crate) fn run(given: &DiscoverArgs) -> Result<Ended, Failure> {
    if let Some(path) = &given.did_file {
        checks::require_writable("--did-file", path)?;
    }
    // What is wrong with the arguments is found before a private database is made.
    fetch_args::source(&given.source)?;
    fetch_args::left_out(&given.fetch)?;
    let database = Database::open_to_work(&given.database.target())?;
    let (args, watch, _recorder): (DiscoverArgs, _, _) = begin(&database, given.memory)?;
    let source = fetch_args::source(&args.source)?.or_of_last_run(&database)?;
    let fetch = fetch_args::options_naming(&args.fetch, &args.caller, &source)?;
    let allow_private_hosts = args.fetch.allow_private_hosts;
    let directory = fetch_args::directory(&args.directory, &args.caller, allow_private_hosts);
    watch.store()?;
    let stop = signals::listen(Workers::default())?;
    let discovery = Discovery {
        database: &database,
        runtime: &threads::start()?,
        stop: &stop,
        source: &source,
        fetch: &fetch,
        directory: &directory,
    };
    let Some(pass) = discovery.pass(false)? else {
        return Ok(stopped());
    };
    if let Some(path) = &args.did_file {
        write_did_file(&database, path)?;
    }
    if args.output.json {
        observe::data!("{}", pass.json());
    }
    judged::log_next(next::AFTER_DISCOVER);
    Ok(Ended::well_if(pass.is_complete()))
}

/// Writes all repos that are known as a DID file; `-` is stdout.
fn write_did_file(database: &Database, path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return discovery::write_did_file(database, stdout().lock(), "stdout");
    }
    let shown = path.display().to_string();
    let file =
        File::create(path).map_err(|error| Failure::new(format!("write {shown}: {error}")))?;
    discovery::write_did_file(database, file, &shown)
}
