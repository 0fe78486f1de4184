//! `skyfill status`.

use crate::cli::StatusArgs;
use crate::told;
use engine::certificate;
use engine::status::Status;
use observe::printable;
use process::{Database, Ended, Failure};

pub(crate) fn run(args: &StatusArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.database.target())?;
    let status = Status::read(&database, args.hosts)?;
    if args.json {
        observe::data!("{}", status.json());
    } else {
        print(&status);
    }
    Ok(if status.judgment.verdict.is_complete() {
        Ended::Well
    } else {
        Ended::WithFailures
    })
}

fn print(status: &Status) {
    match &status.coverage.run {
        Some(run) => observe::data!(
            "run {}\t{} load, now {}, phase {}, notifications {}, collections {}",
            run.id,
            run.mode.word(),
            run.now,
            run.phase.word(),
            run.notifications,
            run.collections
                .as_ref()
                .map_or_else(|| "all".to_owned(), |list| list.join(","))
        ),
        None => observe::data!("no run yet"),
    }
    if !status.settings.is_empty() {
        observe::data!("told\t{}", told::options(&status.settings));
    }
    for (state, repos) in &status.coverage.repos {
        observe::data!("{repos}\t{}", state.term());
    }
    let proofs = &status.coverage.proofs;
    let proof = [
        ("signed by the key of their document", proofs.signed),
        ("signed by an older key", proofs.older_key),
        ("unproved", proofs.unchecked),
        ("forged", proofs.forged),
    ];
    for (what, repos) in proof.into_iter().filter(|(_, repos)| *repos > 0) {
        observe::data!("{repos}\t{what}");
    }
    for (host, learned) in &status.hosts {
        observe::data!("{}\t{}", printable(host), printable(learned));
    }
    certificate::log_judgment(&status.judgment);
    if status.dropped_indexes > 0 {
        observe::log!(
            "{} indexes are dropped; skyfill run continues and rebuilds them",
            status.dropped_indexes
        );
    }
}
