//! `skyfill simnet`: serves the practice network.

use crate::cli::SimnetArgs;
use crate::signals;
use observe::Workers;
use process::{Ended, Failure};
use simnet::{Fault, Network, NetworkSettings, Population};
use std::collections::HashMap;
use std::fs::File;
use std::time::{Duration, Instant};

/// How fast a practice network may be asked: nobody else does.
const PACE: &str = "--plc-rate 1000 --host-rate 100";
/// How long one that goes wrong is waited for: on this machine an answer takes milliseconds, and
/// what does not come within seconds never comes.
const PATIENCE: &str = " --timeout 2 --stall-timeout 2 --processing-timeout 5 --host-patience 5 \
    --straggler-grace 5 --max-repo-bytes 100000000";

pub(crate) fn run(args: &SimnetArgs) -> Result<Ended, Failure> {
    if let Some(path) = &args.lines {
        let population = Population::new(args.seed, args.repos as usize, args.records as usize);
        let written = File::create(path).and_then(|file| simnet::write_lines(&population, file));
        return written
            .map(|()| Ended::Well)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())));
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
        let lines: String = network
            .dids()
            .iter()
            .map(|(did, pds)| format!("{}\n", serde_json::json!([did, pds])))
            .collect();
        // In place at once: scripts wait for the file.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, lines)
            .and_then(|()| std::fs::rename(&partial, path))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    }
    // Handles of the network are in its well-known files; without an answer of its own, each would
    // wait for that of the system's DNS.
    let dns = simnet::Dns::start(HashMap::new());
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
    let hint = format!(
        "skyfill run --discover --relay {} --plc-url {} --well-known-server {} --did-web-server {} --dns-server {} --allow-private-hosts {PACE}{}",
        network.relay_url(),
        network.plc_url(),
        network.well_known_url(),
        network.well_known_url(),
        dns.address(),
        if faults.is_empty() { "" } else { PATIENCE },
    );
    observe::log!(
        "serving {} accounts on {} hosts until stopped. Load from it with:\n  {hint}",
        args.repos,
        args.hosts
    );
    let (mut changed, mut passes) = (Instant::now(), args.seed);
    while !stop.is_set() {
        std::thread::sleep(Duration::from_millis(100));
        if args.changes > 0 && changed.elapsed() > Duration::from_secs(1) {
            passes = passes.wrapping_add(1);
            network.change(passes, args.changes as usize);
            changed = Instant::now();
        }
    }
    for host in network.counts().iter().filter(|host| host.limited > 0) {
        observe::log!(
            "{} responded to {} of {} requests with status 429",
            host.host,
            host.limited,
            host.requests
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
