//! `skyfill discover`.

use crate::cli::DiscoverArgs;
use crate::commands::stopped;
use crate::{fetch_args, signals, told};
use engine::discovery::Discovery;
use ledger::listing;
use observe::Workers;
use process::{Database, Ended, Failure, checks, threads};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(given: &DiscoverArgs) -> Result<Ended, Failure> {
    if let Some(path) = &given.did_file {
        checks::require_writable("--did-file", path)?;
    }
    let database = Database::open_to_work(&given.database.target())?;
    let forget = given.memory.forget_settings;
    let args: DiscoverArgs = told::complete(&database, forget)?;
    let source = fetch_args::source(&args.source)?;
    let fetch = fetch_args::options_naming(&args.fetch, &args.caller, &source)?;
    let allow_private_hosts = args.fetch.allow_private_hosts;
    let directory = fetch_args::directory(&args.directory, &args.caller, allow_private_hosts);
    told::remember(&database, forget)?;
    let stop = signals::listen(Workers::default())?;
    let discovery = Discovery {
        database: &database,
        runtime: &threads::start()?,
        stop: &stop,
        source: &source,
        fetch: &fetch,
        directory: &directory,
        interval: Duration::from_secs(args.output.logging_interval),
    };
    let Some(pass) = discovery.pass(false)? else {
        return Ok(stopped());
    };
    if let Some(path) = &args.did_file {
        write_did_file(&database, path)?;
    }
    if args.output.json {
        let failed: Vec<_> = pass
            .failed_hosts
            .iter()
            .map(|(host, why)| serde_json::json!({"host": host, "error": why}))
            .collect();
        observe::data!(
            "{}",
            serde_json::json!({
                "pass": pass.id,
                "relaySeq": pass.seq,
                "listed": pass.listed,
                "new": pass.changes.new,
                "opened": pass.changes.opened + pass.unlisted,
                "contested": pass.changes.contested,
                "unsettled": pass.unsettled,
                "failedHosts": failed,
                "badLines": pass.bad_lines,
            })
        );
    }
    Ok(if pass.is_complete() {
        Ended::Well
    } else {
        Ended::WithFailures
    })
}

/// Writes all repos that are there as a DID file.
fn write_did_file(database: &Database, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("write {}: {error}", path.display()));
    let mut client = database.connect()?;
    let mut out: Box<dyn Write> = if path == Path::new("-") {
        Box::new(BufWriter::new(stdout().lock()))
    } else {
        Box::new(BufWriter::new(File::create(path).map_err(failed)?))
    };
    let mut after = String::new();
    loop {
        let repos = listing::repos(&mut client, &database.schema, &after, 10_000)
            .map_err(|error| database.failure(error))?;
        let Some((last, _)) = repos.last() else { break };
        after.clone_from(last);
        for (did, pds) in &repos {
            match writeln!(out, "{}", serde_json::json!([did, pds])) {
                Ok(()) => {}
                // Whoever reads has enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}
