//! `skyfill verify`.

use crate::cli::VerifyArgs;
use crate::commands::judged;
use crate::commands::watch::Watch;
use crate::{fetch_args, signals, told};
use engine::certificate;
use engine::next;
use engine::recorder::Recorder;
use engine::verify::{self, Comparison, Options, Repaired};
use observe::Workers;
use process::{Database, Ended, Failure};

pub(crate) fn run(given: &VerifyArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_compare(&given.database.target())?;
    let _recorder = Recorder::start(&database);
    let forget = given.memory.forget_settings;
    let args: VerifyArgs = told::complete(&database, forget)?;
    crate::listening::shows(&database);
    told::remember(&database, forget)?;
    let stop = signals::listen(Workers::default())?;
    let directory =
        || fetch_args::directory(&args.directory, &args.caller, args.allow_private_hosts);
    let options = Options {
        dids: args.did.clone(),
        all: args.all,
        sample: args.sample,
        signatures: args.signatures.then(directory),
        repair: args.repair,
        certificate: args.certificate.clone(),
        lists_repos: args.certificate_repos,
    };
    let watch = Watch {
        database: &database,
        forget,
    };
    let verified = match verify::verify(&options, &database, &stop, &watch)? {
        Comparison::Done(verified) => verified,
        Comparison::Stopped => {
            let line = told::line_to_go_on_with();
            observe::log!("stopped; it goes on with: {line}");
            return Ok(Ended::Stopped);
        }
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
        judged::log_next_after(&database, &coverage, &verified.judgment, false);
    }
    // Exit code 0 means "complete", and nothing else does.
    Ok(match verified.judgment.verdict.is_complete() {
        true => Ended::Well,
        false => Ended::WithFailures,
    })
}

fn log_repair(Repaired { marked, unknown }: Repaired) {
    observe::log!("{marked} repos are marked to be fetched again");
    if marked > 0 {
        judged::log_next(next::AFTER_REPAIR);
    }
    if unknown > 0 {
        observe::log!(
            "the ledger does not know {unknown} of the accounts; there is nothing to fetch for them"
        );
    }
}
