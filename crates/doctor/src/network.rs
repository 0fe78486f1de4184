//! The network: whether the PLC directory, the relay and DNS answer, and the clock beside theirs.

use crate::{Finding, Level, machine};
use fetch::guard::Private;
use fetch::{Client, Limits, Redirects, SmallRequest};
use identity::handle;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Whom a run asks.
#[derive(Clone, Debug)]
pub struct Network {
    /// How skyfill calls itself.
    pub user_agent: String,
    /// URL of the PLC directory.
    pub plc_url: String,
    /// URL of the relay.
    pub relay: String,
    /// The DNS server, instead of the system's.
    pub dns_server: Option<SocketAddr>,
    /// Maximum time of a request.
    pub timeout: Duration,
}

/// The account whose handle is asked for: the one of the network's makers.
const HANDLE: &str = "bsky.app";

/// Asks each once.
pub async fn look(network: &Network) -> Vec<Finding> {
    let plc = network.plc_url.trim_end_matches('/');
    let relay = network.relay.trim_end_matches('/');
    let mut findings = reach(
        network,
        "PLC directory",
        &format!("{plc}/_health"),
        &network.plc_url,
        "DID documents cannot be read: no account is looked up, and no signature is checked",
        "name a directory or a mirror that this machine reaches, with --plc-url",
    )
    .await;
    findings.extend(
        reach(
            network,
            "relay",
            &format!("{relay}/xrpc/com.atproto.sync.listHosts?limit=1"),
            &network.relay,
            "repos cannot be discovered, and catch-up cannot tell when an AppView can take over",
            "name a relay that this machine reaches, with --relay",
        )
        .await,
    );
    findings.push(dns(network).await);
    findings
}

async fn reach(
    network: &Network,
    about: &'static str,
    url: &str,
    named: &str,
    means: &str,
    change: &str,
) -> Vec<Finding> {
    let limits = Limits {
        total: network.timeout,
        stall: network.timeout,
        bytes: 64 << 10,
        private: Private::named([named]),
        redirects: Redirects::Any,
    };
    let asked = SystemTime::now();
    let answer = match Client::new(&network.user_agent, limits) {
        Ok(client) => {
            let small = SmallRequest {
                url,
                accept: "application/json",
                host: None,
            };
            client.reach(small).await
        }
        Err(error) => Err(error),
    };
    let took = asked.elapsed().unwrap_or_default();
    match answer {
        // Some directories have no page about their health: any answer is one.
        Ok((status, date)) if status < 500 => {
            let found = format!("{named} answers in {} ms", took.as_millis());
            let mut findings = vec![Finding::ok(about, found)];
            // The header has whole seconds.
            let apart = date.map(|date| apart(asked + took / 2, date));
            let unsure = 1.0 + took.as_secs_f64();
            findings.extend(apart.map(|apart| machine::clock(named, apart, unsure)));
            findings
        }
        Ok((status, _)) => vec![
            Finding::ok(about, format!("{named} answers with status {status}"))
                .but(Level::Warning, means)
                .change(change),
        ],
        Err(error) => vec![
            Finding::ok(about, format!("{named} does not answer: {error}"))
                .but(Level::Problem, means)
                .change(change),
        ],
    }
}

/// Seconds by which `ours` is ahead.
fn apart(ours: SystemTime, theirs: SystemTime) -> f64 {
    match ours.duration_since(theirs) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

async fn dns(network: &Network) -> Finding {
    let server = match network.dns_server {
        Some(address) => format!("DNS server {address}"),
        None => "the system's DNS".to_owned(),
    };
    let settings = handle::Settings {
        dns_server: network.dns_server,
        well_known_server: None,
        allow_private_hosts: false,
        timeout: network.timeout,
    };
    let answer = match handle::Resolver::new(&network.user_agent, settings) {
        Ok(resolver) => resolver.dns_answers(HANDLE).await,
        Err(why) => Err(why),
    };
    match answer {
        Ok(()) => Finding::ok("DNS", format!("{server} answers")),
        Err(why) => Finding::ok("DNS", format!("{server} does not answer: {why}"))
            .but(
                Level::Problem,
                "handles cannot be checked, and hosts cannot be found",
            )
            .change("name a server that answers, with --dns-server ADDRESS:53"),
    }
}
