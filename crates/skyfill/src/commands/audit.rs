//! `skyfill audit`.

use crate::cli::AuditArgs;
use crate::{fetch_args, signals};
use engine::audit::{self, Options, Population};
use observe::Workers;
use process::{Database, DidFile, Ended, Failure, Target, clock};

/// Seconds for which a host that does not answer is retried.
const PATIENCE: u64 = 60;

pub(crate) fn run(args: &AuditArgs) -> Result<Ended, Failure> {
    let chosen = &args.population;
    let mut named: Vec<String> = Vec::new();
    let population = match (&chosen.did_file, &chosen.relay) {
        (Some(path), _) => Population::DidFile(DidFile::open(path)?),
        (None, Some(relay)) => {
            named.push(fetch_args::base_url("--relay", relay)?);
            Population::Lists(named.clone())
        }
        (None, None) => {
            for url in &chosen.pds {
                named.push(fetch_args::base_url("--pds", url)?);
            }
            Population::Lists(named.clone())
        }
    };
    let mut fetch = fetch_args::options(&args.limits, &args.caller, PATIENCE)?;
    fetch.named.extend(named);
    let options = Options {
        population,
        sample: args.sample as usize,
        seed: match args.seed {
            Some(seed) => seed,
            None => clock::now(None)?.unsigned_abs(),
        },
        fetch,
        spool: fetch_args::spool(&args.spool)?,
        directory: fetch_args::directory(
            &args.directory,
            &args.caller,
            args.limits.allow_private_hosts,
        ),
    };
    let database = Database::open(&Target {
        url: Some(args.url.clone()),
        schema: args.schema.clone(),
        data_dir: Default::default(),
    })?;
    let stop = signals::listen(Workers::default())?;
    let found = |finding: &verify::Finding| tracing::debug!("{}", finding.json());
    let Some(audited) = audit::audit(options, &database, &stop, &found)? else {
        observe::log!("stopped; nothing was changed, and nothing is kept");
        return Ok(Ended::Stopped);
    };
    if args.output.json {
        observe::data!("{}", audited.json());
    } else {
        for line in audited.lines() {
            observe::data!("{line}");
        }
    }
    Ok(match audited.is_well() {
        true => Ended::Well,
        false => Ended::WithFailures,
    })
}
