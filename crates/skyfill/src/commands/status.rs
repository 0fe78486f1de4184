//! `skyfill status`.

use crate::cli::StatusArgs;
use crate::told;
use engine::certificate;
use ledger::{hosts, settings};
use observe::printable;
use process::Database;
use process::stop::PATIENT;
use process::{Ended, Failure};
use verify::verdict::{self, Compared};

pub(crate) fn run(args: &StatusArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.database.target())?;
    let mut client = database.connect()?;
    let refused = |error| database.failure(error);
    database.require_ledger(&mut client)?;
    database.require_trusted(&mut client)?;
    ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
    let coverage = certificate::coverage(&database)?;
    let judgment = verdict::judge(&coverage, &Compared::before(&coverage));
    let missing = load::indexes::missing(&mut client, &database.schema).map_err(refused)?;
    let told_before = settings::all(&mut client, &database.schema).map_err(refused)?;
    let hosts = match args.hosts {
        true => hosts::learned(&mut client, &database.schema).map_err(refused)?,
        false => Vec::new(),
    };
    if args.json {
        let states = certificate::words(&coverage.repos);
        let run = coverage.run.as_ref().map(|run| {
            serde_json::json!({
                "id": run.id, "now": run.now, "mode": run.mode.word(), "phase": run.phase.word(),
                "collections": run.collections, "notifications": run.notifications,
            })
        });
        observe::data!(
            "{}",
            serde_json::json!({
                "run": run, "verdict": judgment.verdict.word(), "missing": judgment.missing, "scope": judgment.scope,
                "provedAt": coverage.proof.as_ref().map(|proof| &proof.began), "repos": states, "proof": certificate::proof(&coverage.proofs), "droppedIndexes": missing.len(),
                "settings": told_before.iter().map(|setting| (setting.name.clone(), setting.values.clone().into()))
                    .collect::<serde_json::Map<_, _>>(),
                "hosts": hosts.iter().map(|(host, learned)| {
                    let learned = serde_json::from_str(learned).unwrap_or(serde_json::Value::Null);
                    (host.clone(), learned)
                }).collect::<serde_json::Map<_, _>>(),
            })
        );
    } else {
        match &coverage.run {
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
        if !told_before.is_empty() {
            observe::data!("told\t{}", told::options(&told_before));
        }
        for (state, repos) in &coverage.repos {
            observe::data!("{repos}\t{}", state.term());
        }
        let proofs = &coverage.proofs;
        let proof = [
            ("signed by the key of their document", proofs.signed),
            ("signed by an older key", proofs.older_key),
            ("unproved", proofs.unchecked),
            ("forged", proofs.forged),
        ];
        for (what, repos) in proof.into_iter().filter(|(_, repos)| *repos > 0) {
            observe::data!("{repos}\t{what}");
        }
        for (host, learned) in &hosts {
            observe::data!("{}\t{}", printable(host), printable(learned));
        }
        certificate::log_judgment(&judgment);
        if !missing.is_empty() {
            observe::log!(
                "{} indexes are dropped; skyfill run continues and rebuilds them",
                missing.len()
            );
        }
    }
    Ok(if judgment.verdict.is_complete() {
        Ended::Well
    } else {
        Ended::WithFailures
    })
}
