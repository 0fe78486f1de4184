//! `skyfill follow` on a practice network: how many events per second it stores when it has to
//! catch up, and how far behind it is at the pace of the network, with bursts.

use crate::cpu::{of_process, peak_kib};
use crate::scene::Scene;
use ledger::follow;
use simnet::{Burst, LiveSettings, Network, NetworkSettings, Pace};
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Repos of the network, and records of each on average: so many that what comes is a small part.
pub(crate) const REPOS: usize = 15_000;
pub(crate) const RECORDS: usize = 40;
/// Seconds at the pace of the network.
const SECONDS: u64 = 60;

/// Events that the official ingester stores.
const OFFICIAL: usize = 3000;

/// Of a thousand steps of the network, so many are commits, see [`LiveSettings`]; the rest makes
/// skyfill ask for documents and fetch repos. `devnet` is the folder in which `make devnet` has
/// installed the official ingester: it stores the first events, in a copy of the database.
pub(crate) fn run(binary: &Path, events: usize, commits: u64, devnet: Option<&Path>) -> String {
    let (scene, network) = (Scene::new(), network());
    load(&scene, binary, &network);
    let mut out = format!(
        "### Following: {REPOS} repos with {} records; {commits} of 1000 steps are commits\n\n",
        REPOS * RECORDS
    );
    let official = devnet.map(|devnet| official(&scene, &network, commits, devnet));
    let rate = catch_up(&scene, binary, &network, (events, commits), &mut out);
    if let Some(official) = official {
        let _ = writeln!(
            out,
            "- the official ingester, without signatures and lookups, {OFFICIAL} of the same events: {official:.0} events per second; skyfill's rate is {:.1} times that (wanted: at least 30)",
            rate / official
        );
    }
    keep_pace(&scene, binary, &network, commits, &mut out);
    out
}

/// The network, before anything happens in it.
pub(crate) fn network() -> Network {
    Network::start(NetworkSettings {
        seed: 18,
        repos: REPOS,
        records: REPOS * RECORDS,
        hosts: 3,
        ..NetworkSettings::default()
    })
}

/// Loads it into the database `follow`.
pub(crate) fn load(scene: &Scene, binary: &Path, network: &Network) {
    scene.fresh("follow");
    let url = scene.url("follow");
    let mut load = on(binary, network, &url, "run");
    load.args(["--discover", "--no-verify"]);
    assert!(load.status().expect("run skyfill").success(), "{load:?}");
}

fn on(binary: &Path, network: &Network, url: &str, command: &str) -> Command {
    let (plc, known, relay) = (
        network.plc_url(),
        network.well_known_url(),
        network.relay_url(),
    );
    let mut skyfill = Command::new(binary);
    skyfill.args([command, "--allow-private-hosts", "--handles", "claimed"]);
    skyfill.args(["--plc-url", &plc, "--plc-rate", "5000"]);
    skyfill.args(["--well-known-server", &known, "--did-web-server", &known]);
    skyfill.args(["--relay", &relay, "--host-rate", "1000"]);
    skyfill.env("BSKY_DB_POSTGRES_URL", url);
    skyfill.stdin(Stdio::null()).stdout(Stdio::null());
    skyfill.stderr(Stdio::null());
    skyfill
}

pub(crate) fn start(binary: &Path, network: &Network, url: &str) -> Child {
    let mut follow = on(binary, network, url, "follow");
    follow.spawn().expect("run skyfill")
}

/// Ends it as a service manager does; in how many seconds it ended.
pub(crate) fn stop(mut child: Child) -> f64 {
    let began = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    child.wait().expect("its end");
    began.elapsed().as_secs_f64()
}

/// The official ingester's rate, in events per second.
#[allow(clippy::cast_precision_loss)]
fn official(scene: &Scene, network: &Network, commits: u64, devnet: &Path) -> f64 {
    let copied = scene
        .connect("postgres")
        .batch_execute("CREATE DATABASE official TEMPLATE follow");
    copied.expect("a copy");
    let mut life = network.live(&LiveSettings {
        seed: 5,
        events: OFFICIAL,
        commits,
        ..LiveSettings::default()
    });
    let last = life.play_all();
    let script = devnet.join("ingester.mjs");
    let text = include_str!("../../../conformance/devnet/ingester.mjs");
    std::fs::write(&script, text).expect("write the script");
    let mut node = Command::new(devnet.join("node/node_modules/.bin/node"));
    node.arg(script).arg(scene.url("official"));
    node.args([network.relay_url(), last.to_string()]);
    node.env("NODE_NO_WARNINGS", "1")
        .env("LOG_ENABLED", "false");
    let output = node.output().expect("run the official ingester");
    let told: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
    let seconds = told.ok().and_then(|told| told["seconds"].as_f64());
    OFFICIAL as f64 / seconds.unwrap_or_else(|| panic!("{output:?}"))
}

/// All events at once; how many a second were stored.
#[allow(clippy::cast_precision_loss)]
fn catch_up(
    scene: &Scene,
    binary: &Path,
    network: &Network,
    (events, commits): (usize, u64),
    out: &mut String,
) -> f64 {
    let mut client = scene.connect("follow");
    let cursor = |client: &mut postgres::Client| cursor(client, network);
    let before = cursor(&mut client);
    let mut life = network.live(&LiveSettings {
        seed: 3,
        events,
        commits,
        ..LiveSettings::default()
    });
    let last = life.play_all();
    let head = i64::try_from(last).expect("a number");
    let server = scene.server_cpu();
    let (server_before, began) = (server.seconds(), Instant::now());
    let child = start(binary, network, &scene.url("follow"));
    let mut first = None;
    while cursor(&mut client) < head {
        if first.is_none() && cursor(&mut client) > 0 {
            first = Some(began.elapsed().as_secs_f64());
        }
        assert!(began.elapsed() < Duration::from_secs(1200), "it hangs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, server_cpu) = (of_process(child.id()), server.seconds() - server_before);
    let peak = peak_kib(child.id()) >> 10;
    let ended = stop(child);
    let played = (head - before) as f64;
    let rate = played / seconds;
    let _ = writeln!(
        out,
        "- {played} events at once: {seconds:.1} s from the start of the process to the last cursor ({:.1} s to the first), {rate:.0} events per second; CPU seconds: {cpu:.1} skyfill's, {server_cpu:.1} the server's; peak memory {peak} MiB; ended {ended:.1} s after SIGTERM",
        first.unwrap_or(0.0),
    );
    rate
}

/// The cursor that is stored; 0 if there is none.
pub(crate) fn cursor(client: &mut postgres::Client, network: &Network) -> i64 {
    let cursor = follow::cursor(client, "bsky", &network.relay_url()).expect("the cursor");
    cursor.unwrap_or(0)
}

/// The pace of the network, with bursts.
fn keep_pace(scene: &Scene, binary: &Path, network: &Network, commits: u64, out: &mut String) {
    let mut client = scene.connect("follow");
    let (per_second, in_bursts) = (1500.0, 6000.0);
    let pace = Pace {
        per_second,
        burst: Some(Burst {
            every: Duration::from_secs(15),
            length: Duration::from_secs(1),
            per_second: in_bursts,
        }),
    };
    // Events of the first part do not have the times of this clock.
    let before = cursor(&mut client, network);
    let life = network.live(&LiveSettings {
        seed: 4,
        events: 1800 * usize::try_from(SECONDS).expect("a number"),
        wall_clock: true,
        commits,
        ..LiveSettings::default()
    });
    let child = start(binary, network, &scene.url("follow"));
    let playing = life.start(pace);
    let (mut lags, began) = (Vec::new(), Instant::now());
    let mut last_seen = f64::MAX;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        std::thread::sleep(Duration::from_millis(100));
        let Ok(Some(followed)) = follow::followed(&mut client, "bsky") else {
            continue;
        };
        // What was noted since the last look.
        if followed.seen_ago < last_seen && cursor(&mut client, network) > before {
            lags.extend(followed.lag.map(|lag| lag + followed.seen_ago));
        }
        last_seen = followed.seen_ago;
    }
    let server_cpu = scene.server_cpu().seconds();
    drop(playing.stop());
    let cpu = of_process(child.id());
    let ended = stop(child);
    lags.sort_by(f64::total_cmp);
    let at = |part: usize| lags.get(lags.len() * part / 100).copied().unwrap_or(0.0);
    let _ = writeln!(
        out,
        "- {per_second} events per second for {SECONDS} s, {in_bursts} in one second of each 15: lag in the middle {:.1} s, at most {:.1} s ({} looks); {cpu:.1} CPU seconds of skyfill's, {server_cpu:.1} of the server's since its start; ended {ended:.1} s after SIGTERM",
        at(50),
        lags.last().copied().unwrap_or(0.0),
        lags.len()
    );
}
