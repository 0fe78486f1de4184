//! `skyfill verify`.

use crate::commands::{begin, judged, stopped};
use crate::{fetch_args, signals};
use arguments::VerifyArgs;
use engine::certificate;
use engine::next;
use engine::verify::{self, Comparison, Options, Repaired};
use observe::Workers;
use observe::units::counted;
use process::{Database, Ended, Failure};

pub(crate) fn run(given: &VerifyArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_compare(&given.database.target())?;
    let (args, watch, _recorder): (VerifyArgs, _, _) = begin(&database, given.memory)?;
    watch.store()?;
    let stop = signals::listen(Workers::default())?;
    let directory =
        || fetch_args::directory(&args.directory, &args.caller, args.allow_private_hosts);
    let options = Options {
        dids: args.did.clone(),
        all: args.all,
        sample: args.sample,
        connections: args.max_db_connections.map(usize::from),
        signatures: args.signatures.then(directory),
        repair: args.repair,
        certificate: args.certificate.clone(),
        lists_repos: args.certificate_repos,
    };
    let verified = match verify::verify(&options, &database, &stop, &watch)? {
        Comparison::Done(verified) => verified,
        Comparison::Stopped => return Ok(stopped()),
    };
    observe::log!(
        "accounts with an unchecked signature: {}",
        verified.unproved
    );
    certificate::log_judgment(&verified.judgment);
    if args.output.json {
        observe::data!("{}", verified.certificate);
    }
    if let Some(repaired) = verified.repaired {
        log_repair(repaired);
    } else if args.did.is_empty() {
        let coverage = certificate::coverage(&database)?;
        judged::log_next_after(&coverage, &verified.judgment, false);
    }
    // Exit code 0 means "complete", and nothing else does.
    Ok(Ended::well_if(verified.judgment.verdict.is_complete()))
}

fn log_repair(Repaired { marked, unknown }: Repaired) {
    observe::log!("{} marked to be fetched again", counted(marked, "repo"));
    if marked > 0 {
        judged::log_next(next::AFTER_REPAIR);
    }
    if unknown > 0 {
        observe::log!(
            "the ledger does not know {unknown} of the accounts; there is nothing to fetch for them"
        );
    }
}
