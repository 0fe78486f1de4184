//! Several workers on one ledger: they share the hosts, each host is asked by one of them at a
//! time, and whichever is killed, stopped or late, the tables end as those of a single worker.

use crate::network::{assert_same_tables, filled_from_cars, on_with, patient_on, settings};
use rustix::process::Signal;
use serde_json::Value;
use simnet::{Fault, Limit, Network, NetworkSettings};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testbed::*;

/// Requests that a host allows, and in which time.
const LIMIT: Limit = Limit {
    requests: 40,
    window: Duration::from_secs(4),
};

/// A load stands still while its requests wait so long, and is slow while they wait so long.
const LONG: Duration = Duration::from_secs(3600);
const SLOW: Duration = Duration::from_secs(8);
/// Workers are patient with hosts for so many seconds.
const PATIENCE: &str = "1000";

/// A network, a DID file with all of it, and a database.
struct Scene {
    network: Network,
    db: TestDb,
    dir: tempfile::TempDir,
    /// Requests per second that a host gets at most, so that a load takes its time.
    host_rate: &'static str,
}

impl Scene {
    fn new(seed: u64, repos: usize, hosts: usize) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, (seed, repos, hosts))
    }

    /// One whose hosts listen at an address.
    fn at(address: Ipv4Addr, (seed, repos, hosts): (u64, usize, usize)) -> Self {
        let network = Network::start(NetworkSettings {
            limit: Some(LIMIT),
            faults: vec![Fault::Limits429],
            address: address.into(),
            ..settings(seed, repos, hosts)
        });
        let dir = folder();
        let lines: String = network
            .dids()
            .iter()
            .map(|(did, pds)| format!("[\"{did}\",\"{pds}\"]\n"))
            .collect();
        std::fs::write(dir.path().join("dids.jsonl"), lines).unwrap();
        Self {
            network,
            db: TestDb::migrated(),
            dir,
            host_rate: "5",
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("dids.jsonl")
    }

    /// A worker of this name.
    fn worker(&self, name: &str) -> Command {
        let mut run = patient_on(&self.network, &self.db, "run", "claimed");
        run.args(["--json", "--worker", name, "--concurrency", "32"]);
        run.args(["--host-rate", self.host_rate]);
        // Requests wait as long as the test wants.
        run.args([
            "--stall-timeout",
            PATIENCE,
            "--processing-timeout",
            PATIENCE,
        ]);
        run.args(["--host-patience", PATIENCE, "--straggler-grace", PATIENCE]);
        run
    }

    /// Starts a worker that loads the DID file under short leases, which those that join it have,
    /// too. It tells much.
    fn start(&self, name: &str) -> Watched {
        let mut worker = self.worker(name);
        let mut started = Watched::start(worker.args(["-vv", "--lease", "6"]).arg(self.file()));
        started.wait_for("run 1 of");
        started
    }

    /// Starts workers that take part in what the first one does, whose requests all wait meanwhile.
    /// The load goes on when the first one gives hosts away of which something is left to do.
    fn join(
        &self,
        first: &mut Watched,
        workers: impl IntoIterator<Item = Command>,
    ) -> Vec<Watched> {
        let started = workers
            .into_iter()
            .map(|mut worker| Watched::start(&mut worker));
        let started: Vec<Watched> = started.collect();
        wait_until("all have joined", || {
            self.count("skyfill.worker") == 1 + started.len()
        });
        first.wait_for("a host is given back");
        self.network.delay_repos(Duration::ZERO);
        started
    }

    fn requests(&self) -> u64 {
        let counts = self.network.counts();
        counts.iter().map(|host| host.get_repo).sum()
    }

    fn loaded(&self) -> usize {
        self.count("skyfill.repo WHERE state = 'loaded'")
    }

    /// Rows of a table of the ledger; none as long as there is no ledger.
    fn count(&self, rows: &str) -> usize {
        let mut client = self.db.client();
        let is_there = "SELECT to_regclass('skyfill.worker') IS NOT NULL";
        if !client.query_one(is_there, &[]).unwrap().get::<_, bool>(0) {
            return 0;
        }
        let sql = format!("SELECT count(*) FROM {rows}");
        let count: i64 = client.query_one(&sql, &[]).unwrap().get(0);
        usize::try_from(count).unwrap()
    }

    /// Waits until at least so many repos are loaded.
    fn wait_for_loaded(&self, at_least: usize) {
        wait_until("repos are loaded", || self.loaded() >= at_least);
    }

    /// What each worker stored, by name; those that began again are one.
    fn stored_by(&self, name: &str) -> i64 {
        let sql = "SELECT coalesce(sum(repos), 0)::bigint FROM skyfill.worker WHERE name = $1";
        let row = self.db.client().query_one(sql, &[&name]).unwrap();
        row.get(0)
    }

    /// Makes sure that the tables are those of a single load from the true CARs, that they are
    /// proved, and that no host got more than it allows.
    fn assert_ended_well(&self) {
        self.assert_limits();
        assert_same_tables(&self.db, &filled_from_cars(&self.network, |_| true));
        let mut verify = skyfill();
        verify.args(["verify", "--json"]);
        let output = run_well(verify.env("BSKY_DB_POSTGRES_URL", &self.db.url));
        assert_eq!(summary(&output)["differences"], 0, "{}", told(&output));
    }

    /// No host that says what it allows got more, over all workers.
    fn assert_limits(&self) {
        for host in self.network.counts() {
            let most = u64::from(LIMIT.requests);
            assert!(
                !host.announces || host.limited == 0 && host.most_in_window <= most,
                "{}: {} in a window, {} answers of status 429",
                host.host,
                host.most_in_window,
                host.limited
            );
        }
    }

    fn status(&self) -> Value {
        let mut status = skyfill();
        status.args(["status", "--json"]);
        let status = status.env("BSKY_DB_POSTGRES_URL", &self.db.url);
        summary(&status.output().unwrap())
    }
}

/// Ends well; what it printed.
fn end_well(worker: Watched) -> String {
    let (code, printed) = worker.end();
    assert_eq!(code, Some(0), "{printed}");
    printed
}

#[test]
fn a_worker_that_joins_takes_part_and_the_phases_after_loading_are_done_once() {
    let scene = Scene::new(91, 360, 8);
    scene.network.delay_repos(LONG);
    let mut one = scene.start("one");
    // It needs no list: the ledger has it.
    let two = scene.join(&mut one, [scene.worker("two")]).remove(0);
    wait_until("the second worker stores repos", || {
        scene.stored_by("two") > 0
    });
    let status = scene.status();
    let workers = status["workers"].as_array().unwrap();
    let names: Vec<&str> = workers.iter().filter_map(|w| w["name"].as_str()).collect();
    assert_eq!(names, ["one", "two"], "{status}");
    for worker in workers {
        assert_eq!(worker["alive"], true, "{status}");
    }
    assert!(workers[1]["hosts"].as_u64() > Some(0), "{status}");
    // One that says something else is told so.
    let mut other = on_with(&scene.network, &scene.db, "run", "skip");
    let output = other.args(["--worker", "three"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("--handles claimed, and this command says --handles skip"),
        "{}",
        told(&output)
    );
    let (first, second) = (end_well(one), end_well(two));
    let stored = scene.stored_by("one") + scene.stored_by("two");
    assert_eq!(usize::try_from(stored).unwrap(), scene.loaded());
    // One of them did each phase.
    let phases = "SELECT phase, count(*) FROM skyfill.phase_time WHERE phase IN ('indexes', 'finalize', 'verify') AND seconds > 0 GROUP BY 1";
    for row in scene.db.client().query(phases, &[]).unwrap() {
        let (phase, times): (String, i64) = (row.get(0), row.get(1));
        assert_eq!(times, 1, "{phase}: {first} {second}");
    }
    scene.assert_ended_well();
}

#[test]
fn the_work_of_a_killed_worker_goes_on() {
    let scene = Scene::new(92, 240, 6);
    scene.network.delay_repos(LONG);
    let mut one = scene.start("one");
    let two = scene.join(&mut one, [scene.worker("two")]).remove(0);
    wait_until("both have hosts", || scene.stored_by("two") > 0);
    send_signal(one.child.id(), Signal::KILL);
    let _killed = one.wait_for_end();
    let printed = end_well(two);
    let lost = scene.status();
    assert_eq!(
        lost["repos"]["loaded"].as_i64(),
        i64::try_from(scene.loaded()).ok(),
        "{printed}"
    );
    scene.assert_ended_well();
}

#[test]
fn a_worker_that_was_stopped_for_longer_than_its_lease_stores_and_fetches_nothing_of_what_others_have()
 {
    let scene = Scene::new(93, 160, 4);
    scene.network.delay_repos(SLOW);
    let one = scene.start("one");
    scene.wait_for_loaded(20);
    send_signal(one.child.id(), Signal::STOP);
    scene.network.delay_repos(Duration::ZERO);
    let before = scene.stored_by("one");
    // What it had locked, it has no more.
    let printed = end_well(Watched::start(&mut scene.worker("two")));
    assert!(
        printed.contains("of workers that no longer renew their leases"),
        "{printed}"
    );
    let (requests, loaded) = (scene.requests(), scene.loaded());
    send_signal(one.child.id(), Signal::CONT);
    let printed = end_well(one);
    // One that it was about to send when it was stopped goes out when it is woken.
    assert!(scene.requests() <= requests + 1, "{printed}");
    assert_eq!(scene.loaded(), loaded, "{printed}");
    assert!(scene.stored_by("one") - before < 60, "{printed}");
    scene.assert_ended_well();
}

#[test]
fn a_worker_that_leaves_hands_its_hosts_back_at_once_and_lost_sessions_lose_nothing() {
    let scene = Scene::new(95, 120, 4);
    // Nobody waits for the end of such a lease.
    let worker = |name: &str| {
        let mut run = scene.worker(name);
        run.args(["--lease", "3600"]);
        run
    };
    scene.network.delay_repos(SLOW);
    let mut one = Watched::start(worker("one").arg(scene.file()));
    one.wait_for("run 1 of");
    scene.wait_for_loaded(10);
    signal(&one.child, "TERM");
    let (code, printed) = one.end();
    assert_eq!(code, Some(4), "{printed}");
    let held = "SELECT count(*) FROM skyfill.host WHERE lease_until IS NOT NULL";
    let held: i64 = scene.db.client().query_one(held, &[]).unwrap().get(0);
    assert_eq!(held, 0, "{printed}");
    let two = Watched::start(&mut worker("two"));
    wait_until("the second worker stores repos", || {
        scene.stored_by("two") > 0
    });
    // The server is away for a moment, for all sessions.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'skyfill run'";
    let cut: i64 = scene.db.client().query_one(cut, &[]).unwrap().get(0);
    assert!(cut > 2, "{cut} sessions");
    scene.network.delay_repos(Duration::ZERO);
    let printed = end_well(two);
    assert!(!printed.contains("a lease is lost"), "{printed}");
    scene.assert_ended_well();
}

#[test]
fn one_worker_looks_for_repos_and_the_other_goes_on_when_it_is_killed() {
    let scene = Scene::new(94, 120, 4);
    let relay = scene.network.relay_url();
    let discover = |name: &str| {
        let mut run = scene.worker(name);
        run.args(["--discover", "--relay", &relay, "--lease", "6"]);
        Watched::start(&mut run)
    };
    scene.network.delay_lists(LONG);
    let mut one = discover("one");
    let passes = || scene.count("skyfill.listing");
    wait_until("its pass begins", || passes() == 1);
    send_signal(one.child.id(), Signal::STOP);
    let mut two = discover("two");
    two.wait_for("another skyfill looks for repos");
    send_signal(one.child.id(), Signal::KILL);
    let _killed = one.wait_for_end();
    scene.network.delay_lists(Duration::ZERO);
    let printed = end_well(two);
    assert!(printed.contains("its pass is continued here"), "{printed}");
    assert_eq!(passes(), 1, "{printed}");
    scene.assert_ended_well();
}

#[test]
fn of_eight_workers_some_are_killed_stopped_or_leave_and_no_limit_is_passed() {
    let scene = Scene {
        host_rate: "1",
        ..Scene::new(96, 300, 12)
    };
    eight_workers(&scene, |_, command| command);
}

/// The same on eight machines: hosts see eight addresses, and their limits hold over all of them.
#[test]
#[ignore = "needs root and network namespaces: make machines"]
fn of_eight_machines_some_are_killed_stopped_or_leave_and_no_limit_is_passed() {
    let machines = Machines::new(8);
    let scene = Scene {
        host_rate: "1",
        ..Scene::at(machines.here(), (97, 300, 12))
    };
    eight_workers(&scene, |number, command| machines.on(number, &command));
}

fn eight_workers(scene: &Scene, on: impl Fn(u8, Command) -> Command) {
    let small = |number: u8| {
        let mut run = scene.worker(&format!("w{number}"));
        run.args(["--threads", "1", "--max-db-connections", "1"]);
        run.args(["--memory", "256MiB", "--lease", "6"]);
        run
    };
    scene.network.delay_repos(LONG);
    let mut first = Watched::start(&mut on(0, {
        let mut first = small(0);
        first.arg("-vv").arg(scene.file());
        first
    }));
    first.wait_for("run 1 of");
    let others = scene.join(&mut first, (1..8).map(|number| on(number, small(number))));
    let mut workers = vec![first];
    workers.extend(others);
    let share = "SELECT count(*) FROM skyfill.worker WHERE hosts > 0";
    let mut client = scene.db.client();
    wait_until("they share the hosts", || {
        client.query_one(share, &[]).unwrap().get::<_, i64>(0) >= 2
    });
    let stopped = workers.remove(7);
    send_signal(stopped.child.id(), Signal::STOP);
    for _ in 0..2 {
        let mut killed = workers.remove(0);
        send_signal(killed.child.id(), Signal::KILL);
        let _killed = killed.wait_for_end();
    }
    let left = workers.remove(0);
    signal(&left.child, "TERM");
    let (code, printed) = left.end();
    assert!(matches!(code, Some(0 | 4)), "{code:?}: {printed}");
    for worker in workers {
        let printed = end_well(worker);
        assert!(printed.contains("run 1 is done"), "{printed}");
    }
    let requests = scene.requests();
    send_signal(stopped.child.id(), Signal::CONT);
    let printed = end_well(stopped);
    assert_eq!(scene.requests(), requests, "{printed}");
    scene.assert_ended_well();
}
