//! A whole practice network over HTTP on loopback: is every account as it has to be, is no limit
//! passed, how close is the fullest host to its limit, and what do hosts that stall cost the
//! others.

use crate::cpu::peak_kib as peak_of;
use crate::scene::Scene;
use simnet::{Expected, Fault, HostCounts, Limit, Network, NetworkSettings};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The result of a run.
struct Came {
    seconds: f64,
    peak_kib: u64,
    code: Option<i32>,
    summary: serde_json::Value,
    states: BTreeMap<String, String>,
    counts: Vec<HostCounts>,
}

/// Every fault at once.
pub(crate) fn faults(binary: &Path, repos: usize, hosts: usize) -> String {
    let limit = Limit {
        requests: 100,
        window: Duration::from_secs(10),
    };
    let network = Network::start(NetworkSettings {
        seed: 1,
        repos,
        records: repos * 20,
        hosts,
        faults: Fault::ALL.to_vec(),
        limit: Some(limit),
        fullest_share: 0.08,
        ..NetworkSettings::default()
    });
    let came = run(
        binary,
        &network,
        true,
        &[
            "--handles",
            "claimed",
            "--host-patience",
            "60",
            "--max-repo-bytes",
            "100000000",
        ],
    );
    let unlisted = network.unlisted();
    let expected = network.expected();
    let (mut right, mut wrong, mut unknown) = (0, Vec::new(), 0);
    for (did, expected) in &expected {
        let is = came.states.get(did).map(String::as_str);
        match (expected, is) {
            _ if unlisted.contains(did) => unknown += 1,
            (Expected::Loaded, Some("loaded"))
            | (Expected::Failed, Some("failed"))
            | (Expected::LoadedOrFailed, Some("loaded" | "failed")) => right += 1,
            (Expected::State(state), Some(is)) if *state == is => right += 1,
            _ => wrong.push(format!("{did}: {is:?} instead of {expected:?}")),
        }
    }
    for line in wrong.iter().take(20) {
        eprintln!("{line}");
    }
    let announcing: Vec<&HostCounts> = came.counts.iter().filter(|host| host.announces).collect();
    let silent: Vec<&HostCounts> = came
        .counts
        .iter()
        .filter(|host| !host.announces && host.limit.is_some())
        .collect();
    let again = silent
        .iter()
        .filter(|host| host.episodes.windows(2).any(|two| two[1] >= two[0]))
        .count();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### Every fault at once: {repos} repos, {hosts} hosts, limits of 100 requests in 10 s\n"
    );
    let _ = writeln!(
        out,
        "- {right} accounts are as they have to be, {} are not; {unknown} are on hosts that list nothing and cannot be known by hosts\n\
         - {:.0} s for the whole run (exit code {:?}), {} differences found by the proof, peak memory {} MiB\n\
         - {} hosts announce a limit and gave {} 429s; most in a window of it: {}\n\
         - {} hosts have one and do not say so: {} lessons, {} hosts gave one twice at the same rate or a higher one\n\
         - {} repos were fetched twice\n",
        wrong.len(),
        came.seconds,
        came.code,
        came.summary["differences"],
        came.peak_kib >> 10,
        announcing.len(),
        announcing.iter().map(|host| host.limited).sum::<u64>(),
        announcing
            .iter()
            .map(|host| host.most_in_window)
            .max()
            .unwrap_or(0),
        silent.len(),
        silent.iter().map(|host| host.episodes.len()).sum::<usize>(),
        again,
        came.counts.iter().map(|host| host.repeated).sum::<u64>(),
    );
    out
}

/// How close the fullest host is to its limit, alone and beside hosts that stall, drip, never end
/// or are away.
pub(crate) fn limit(binary: &Path, repos: usize) -> String {
    let limit = Limit {
        requests: 600,
        window: Duration::from_secs(60),
    };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### The fullest host at its limit of 600 requests in 60 s\n"
    );
    let _ = writeln!(
        out,
        "| network | requests to it | floor, s | first to last request, s | use of its limit | 429s |\n|---|---|---|---|---|---|"
    );
    let hosts = [
        Fault::DeadHost,
        Fault::TlsFailure,
        Fault::StallingHost,
        Fault::DrippingHost,
        Fault::EndlessHost,
    ];
    for (name, more) in [
        ("good", &[][..]),
        ("other hosts stall, drip, never end, are away", &hosts[..]),
    ] {
        let network = Network::start(NetworkSettings {
            seed: 2,
            repos,
            records: repos * 10,
            hosts: 40,
            faults: [&[Fault::Limits429][..], more].concat(),
            limit: Some(limit),
            fullest_share: 0.5,
            ..NetworkSettings::default()
        });
        let came = run(
            binary,
            &network,
            false,
            &[
                "--handles",
                "skip",
                "--host-patience",
                "60",
                "--max-repo-bytes",
                "100000000",
            ],
        );
        let Some(fullest) = came.counts.first() else {
            continue;
        };
        let busy = fullest.busy.as_secs_f64();
        #[allow(clippy::cast_precision_loss)]
        let floor = fullest.requests as f64 / 10.0;
        let _ = writeln!(
            out,
            "| {name} | {} | {floor:.1} | {busy:.1} | {:.1} % | {} |",
            fullest.requests,
            floor / busy * 100.0,
            fullest.limited
        );
    }
    out
}

/// `skyfill run` over a network, into a database of its own.
fn run(binary: &Path, network: &Network, discovers: bool, args: &[&str]) -> Came {
    let scene = Scene::new();
    scene.fresh("filled");
    let started = Instant::now();
    if !discovers {
        // What is counted begins with the first repo.
        let found = Command::new(binary)
            .current_dir(scene.folder())
            .env("BSKY_DB_POSTGRES_URL", scene.url("filled"))
            .args([
                "discover",
                "--allow-private-hosts",
                "--relay",
                &network.relay_url(),
                "--plc-url",
                &network.plc_url(),
            ])
            .args(["--host-patience", "10", "--stall-timeout", "3"])
            .status();
        found.expect("skyfill discover");
        network.reset_counts();
    }
    let mut child = Command::new(binary)
        .current_dir(scene.folder())
        .env("BSKY_DB_POSTGRES_URL", scene.url("filled"))
        .arg("run")
        .args(discovers.then_some("--discover"))
        .args([
            "--allow-private-hosts",
            "--json",
            "--relay",
            &network.relay_url(),
            "--plc-url",
            &network.plc_url(),
        ])
        .args([
            "--did-web-server",
            &network.well_known_url(),
            "--well-known-server",
            &network.well_known_url(),
        ])
        .args([
            "--dns-server",
            "127.0.0.1:9",
            "--plc-rate",
            "5000",
            "--timeout",
            "2",
        ])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("skyfill");
    let pid = child.id();
    let mut peak_kib = 0;
    while child.try_wait().expect("a child").is_none() {
        peak_kib = peak_kib.max(peak_of(pid));
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("its output");
    let mut client = scene.connect("filled");
    let rows = client
        .query("SELECT did, state FROM skyfill.repo", &[])
        .expect("the ledger");
    Came {
        seconds: started.elapsed().as_secs_f64(),
        peak_kib,
        code: output.status.code(),
        summary: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        states: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        counts: network.counts(),
    }
}
