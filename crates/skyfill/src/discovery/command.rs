//! `skyfill discover`.

use crate::cli::DiscoverArgs;
use crate::discovery::{Pass, Scout};
use crate::fetch_args;
use crate::signals;
use crate::told;
use ledger::listing;
use observe::Workers;
use process::Database;
use process::checks;
use process::threads;
use process::{Ended, Failure};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::Path;

/// Hosts that could not be listed, named one by one up to here.
const NAMED_HOSTS: usize = 20;

pub(crate) fn run(given: &DiscoverArgs) -> Result<Ended, Failure> {
    if let Some(path) = &given.did_file {
        checks::require_writable("--did-file", path)?;
    }
    let database = Database::open_to_work(&given.database.target())?;
    let forget = given.memory.forget_settings;
    let args: &DiscoverArgs = &told::complete(&database, forget)?;
    fetch_args::opt_out(&args.fetch)?;
    let fetch = fetch_args::naming(&args.fetch, &args.source)?;
    told::remember(&database, forget)?;
    let stop = signals::listen(Workers::default())?;
    let runtime = threads::start()?;
    let scout = Scout {
        database: &database,
        runtime: &runtime,
        stop: &stop,
        source: &args.source,
        fetch: &fetch,
        directory: &args.directory,
        caller: &args.caller,
        output: &args.output,
    };
    let Some(pass) = scout.pass(false)? else {
        observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
        return Ok(Ended::Stopped);
    };
    tell(&pass);
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

/// Tells what a pass found.
pub(crate) fn tell(pass: &Pass) {
    for (host, why) in pass.failed_hosts.iter().take(NAMED_HOSTS) {
        observe::log!("{host} was not listed to its end: {why}");
    }
    if pass.failed_hosts.len() > NAMED_HOSTS {
        observe::log!(
            "... and {} more; all are in skyfill.host",
            pass.failed_hosts.len() - NAMED_HOSTS
        );
    }
    for (host, lines) in pass.bad_lines.iter().take(NAMED_HOSTS) {
        observe::log!("{host}: {lines} lines of its list make no sense and were left out");
    }
    observe::log!(
        "{} repos listed: {} new, {} to be loaded again, {} claimed by two hosts; {} are not listed any more; {} could not be settled",
        pass.listed,
        pass.changes.new,
        pass.changes.opened,
        pass.changes.contested,
        pass.unlisted,
        pass.unsettled
    );
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
