//! `skyfill simnet`: serves the practice network.

use crate::signals;
use arguments::SimnetArgs;
use observe::Workers;
use observe::units::{count, counted};
use process::{Ended, Failure};
use simnet::{Dns, Fault, Network, NetworkSettings, Population};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

pub(crate) fn run(args: &SimnetArgs) -> Result<Ended, Failure> {
    let not_written = |path: &Path, error: std::io::Error| {
        Failure::new(format!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = &args.lines {
        let population = Population::new(args.seed, args.repos as usize, args.records as usize);
        let written = File::create(path).and_then(|file| simnet::write_lines(&population, file));
        return written
            .map(|()| Ended::Well)
            .map_err(|error| not_written(path, error));
    }
    let faults = faults(&args.faults)?;
    let stop = signals::listen(Workers::default())?;
    let network = Network::start(NetworkSettings {
        seed: args.seed,
        repos: args.repos as usize,
        records: args.records as usize,
        hosts: args.hosts as usize,
        faults: faults.clone(),
        limit: args.limit,
        fullest_share: args.fullest_share,
        replay_events: args.replay_events as usize,
        ..NetworkSettings::default()
    });
    if let Some(path) = &args.dids {
        network
            .write_dids(path)
            .map_err(|error| not_written(path, error))?;
    }
    // Handles of the network are in its well-known files alone.
    let dns = Dns::start(HashMap::new());
    observe::data!(
        "{}",
        serde_json::json!({
            "relay": network.relay_url(),
            "dns": dns.address().to_string(),
            "plc": network.plc_url(),
            "wellKnown": network.well_known_url(),
            "hosts": network.host_urls(),
        })
    );
    observe::log!(
        "serving {} on {} until stopped. Load from it with:\n  {}",
        counted(args.repos.into(), "account"),
        counted(args.hosts.into(), "host"),
        network.line_to_load(&dns, !faults.is_empty())
    );
    network.change_until(args.seed, args.changes as usize, || stop.is_set());
    for host in network.counts().iter().filter(|host| host.limited > 0) {
        observe::log!(
            "{} responded to {} of {} with status 429",
            host.host,
            count(host.limited),
            counted(host.requests, "request")
        );
    }
    Ok(Ended::Well)
}

fn faults(names: &[String]) -> Result<Vec<Fault>, Failure> {
    Fault::parse_all(names).map_err(|name| {
        let known: Vec<&str> = Fault::ALL.iter().map(|fault| fault.word()).collect();
        Failure::usage(format!("unknown fault {name}")).hint(format!(
            "choose all, none, or some of: {}",
            known.join(", ")
        ))
    })
}
