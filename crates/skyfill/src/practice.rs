//! `skyfill simnet`.

use crate::cli::SimnetArgs;
use crate::exit::{Ended, Failure};
use crate::signals;
use observe::Workers;
use simnet::{Answer, Population, Server};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn run(args: &SimnetArgs) -> Result<Ended, Failure> {
    let population = Population::new(args.seed, args.repos as usize, args.records as usize);
    if let Some(path) = &args.lines {
        write_lines(&population, path)?;
        return Ok(Ended::Well);
    }
    let Some(dids) = &args.dids else {
        return Err(Failure::usage("--dids is missing"));
    };
    let stop = signals::listen(Workers::default())?;
    let answers = (0..population.len())
        .map(|account| {
            (
                population.did(account),
                Answer::Repo(Arc::new(population.car(account))),
            )
        })
        .collect();
    let server = Server::start(answers);
    for account in 0..population.len() {
        let (did, handle) = (population.did(account), format!("account{account}.simnet.test"));
        let document = simnet::document(&did, &handle, &server.url());
        server.set(&format!("plc {did}"), Answer::text(document));
        server.set(&format!("handle {handle}"), Answer::text(did));
    }
    let lines: String = (0..population.len())
        .map(|account| format!("{}\n", serde_json::json!([population.did(account), server.url()])))
        .collect();
    std::fs::write(dids, lines)
        .map_err(|error| Failure::new(format!("write {}: {error}", dids.display())))?;
    eprintln!(
        "{} repos on {}, listed in {}",
        population.len(),
        server.url(),
        dids.display()
    );
    while !stop.is_set() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(Ended::Well)
}

fn write_lines(population: &Population, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("write {}: {error}", path.display()));
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let mut lines = Vec::new();
    for account in 0..population.len() {
        lines.clear();
        simnet::append_lines(population, account, &mut lines);
        out.write_all(&lines).map_err(failed)?;
    }
    out.flush().map_err(failed)
}
