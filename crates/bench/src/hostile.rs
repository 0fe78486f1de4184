//! One hostile host beside ten good ones, with each fault in turn: are all honest repos loaded, and
//! how much later than without the fault.

use crate::scene::{Scene, median};
use postgres::Client;
use simnet::{Fault, Limit, Network, NetworkSettings};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Good hosts, and accounts of the hostile one.
const HOSTS: usize = 10;
const HOSTILE_ACCOUNTS: usize = 20;
/// Maximum time for one run.
const PATIENCE: Duration = Duration::from_secs(300);

/// How far a run came with the honest repos, and after how long.
struct Came {
    loaded: usize,
    seconds: f64,
}

/// Every fault that one host can have, or those that are named, `rounds` times with it and without
/// it, in turns.
pub(crate) fn run(binary: &Path, repos: usize, rounds: usize, named: &[String]) -> String {
    let scene = Scene::new();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### One hostile host beside {HOSTS} good ones: {repos} honest repos, {rounds} rounds\n\n\
         | fault | honest repos loaded | with it, s | without, s | ratio |\n|---|---|---|---|---|"
    );
    // Three good hosts share an address: no hostile host does that.
    let faults = Fault::ALL
        .iter()
        .filter(|fault| **fault != Fault::SharedAddress)
        .filter(|fault| named.is_empty() || named.iter().any(|name| name == fault.word()));
    for fault in faults {
        let (mut with, mut without, mut least, mut honest) =
            (Vec::new(), Vec::new(), usize::MAX, 0);
        for round in 0..rounds {
            let network = network(*fault, repos, round as u64 + 1);
            let dids = network.honest();
            let came = time(&scene, binary, &network, &dids);
            // A dead host does not die twice: first with it, then without.
            network.set_faults(&[]);
            let plain = time(&scene, binary, &network, &dids);
            eprintln!(
                "{}: {} of {} in {:.1} s, without it {} in {:.1} s",
                fault.word(),
                came.loaded,
                dids.len(),
                came.seconds,
                plain.loaded,
                plain.seconds
            );
            with.push(came.seconds);
            without.push(plain.seconds);
            least = least.min(came.loaded);
            honest = dids.len();
        }
        let (with, without) = (median(with.into_iter()), median(without.into_iter()));
        let _ = writeln!(
            out,
            "| {} | {least} of {honest} | {with:.1} | {without:.1} | {:.2} |",
            fault.word(),
            with / without
        );
    }
    out
}

fn network(fault: Fault, repos: usize, seed: u64) -> Network {
    Network::start(NetworkSettings {
        seed,
        repos,
        records: repos * 20,
        hosts: HOSTS,
        faults: vec![fault],
        hostile_accounts: HOSTILE_ACCOUNTS,
        limit: Some(Limit {
            requests: 100,
            window: Duration::from_secs(10),
        }),
        ..NetworkSettings::default()
    })
}

/// The time until all honest repos are loaded, or the run has ended.
fn time(scene: &Scene, binary: &Path, network: &Network, honest: &BTreeSet<String>) -> Came {
    scene.fresh("filled");
    let mut client = scene.connect("filled");
    let honest: Vec<&str> = honest.iter().map(String::as_str).collect();
    let started = Instant::now();
    let mut child = start(scene, binary, network);
    let mut loaded = 0;
    while loaded < honest.len() && started.elapsed() < PATIENCE {
        let has_ended = child.try_wait().expect("a child").is_some();
        loaded = loaded_of(&mut client, &honest);
        if has_ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = started.elapsed().as_secs_f64();
    // What comes after that is not about honest repos.
    drop(child.kill());
    drop(child.wait());
    Came { loaded, seconds }
}

fn start(scene: &Scene, binary: &Path, network: &Network) -> Child {
    Command::new(binary)
        .current_dir(scene.folder())
        .env("BSKY_DB_POSTGRES_URL", scene.url("filled"))
        .args([
            "run",
            "--discover",
            "--allow-private-hosts",
            "--handles",
            "skip",
        ])
        .args([
            "--relay",
            &network.relay_url(),
            "--plc-url",
            &network.plc_url(),
        ])
        .args(["--did-web-server", &network.well_known_url()])
        .args(["--well-known-server", &network.well_known_url()])
        .args([
            "--plc-rate",
            "5000",
            "--host-rate",
            "100",
            "--memory",
            "256MiB",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("skyfill")
}

/// How many of these repos are loaded; none before there is a ledger.
fn loaded_of(client: &mut Client, dids: &[&str]) -> usize {
    let sql = "SELECT count(*) FROM skyfill.repo WHERE state = 'loaded' AND did = ANY($1)";
    let count = client
        .query_one(sql, &[&dids])
        .map(|row| row.get::<_, i64>(0));
    count
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0)
}
