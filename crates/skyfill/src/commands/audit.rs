//! `skyfill audit`.

use crate::commands::print;
use crate::fetch_args;
use crate::signals;
use arguments::AuditArgs;
use engine::audit::{self, Options, Population};
use engine::discovery::base_url;
use observe::Workers;
use process::{Database, DidFile, Ended, Failure, Target, clock};

/// Seconds for which a host that does not answer is retried.
const PATIENCE: u64 = 60;

pub(crate) fn run(args: &AuditArgs) -> Result<Ended, Failure> {
    let chosen = &args.population;
    let relays = chosen.relay.iter().map(|url| base_url("--relay", url));
    let pds = chosen.pds.iter().map(|url| base_url("--pds", url));
    let listers: Vec<String> = relays.chain(pds).collect::<Result<_, _>>()?;
    let mut fetch = fetch_args::of_hosts(&args.hosts, PATIENCE)?;
    fetch.named.extend(listers.clone());
    let population = match &chosen.did_file {
        Some(path) => Population::DidFile(DidFile::open(path)?),
        None => Population::Lists(listers),
    };
    let options = Options {
        population,
        sample: args.sample as usize,
        seed: match args.seed {
            Some(seed) => seed,
            None => clock::now(None)?.unsigned_abs(),
        },
        fetch,
        spool: fetch_args::spool(&args.hosts.spool)?,
        directory: fetch_args::directory_of(&args.hosts),
    };
    let database = Database::open(&Target {
        url: Some(args.url.clone()),
        schema: args.schema.schema.clone(),
        data_dir: Default::default(),
    })?;
    let stop = signals::listen(Workers::default())?;
    let found = |finding: &verify::Finding| tracing::debug!("{}", finding.json());
    let Some(audited) = audit::audit(options, &database, &stop, &found)? else {
        observe::log!("stopped; nothing was changed, and nothing is kept");
        return Ok(Ended::Stopped);
    };
    print(args.output.json, || audited.json(), || audited.lines());
    Ok(Ended::well_if(audited.is_well()))
}
