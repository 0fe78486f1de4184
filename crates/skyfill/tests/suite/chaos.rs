//! Kills at random moments, and at each place where something is committed: the next start ends
//! with the tables of an undisturbed run.
//!
//! A cluster of its own, since its postmaster is killed, too. What it wrote is in the kernel's
//! hands then, and no test ends the kernel: fsync decides nothing here but how long it takes. `make
//! chaos` does 200 kills, with fsync all the same, the tests ten.

use postgres::{Client, NoTls};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testbed::*;

/// A cluster, a template with the official schema, a network, and what comes of it undisturbed.
struct Arena {
    _folder: tempfile::TempDir,
    cluster: tempfile::TempDir,
    net: Net,
    file: PathBuf,
    wanted: BTreeMap<String, Vec<String>>,
    seconds: f64,
}

impl Arena {
    fn new(seed: u64) -> Self {
        let folder = folder();
        let net = Net::of_tangle(&simnet::Tangle::new(seed, 30, 2500));
        let file = did_file(
            folder.path(),
            &net.server.url(),
            net.dids.iter().map(String::as_str),
        );
        let mut arena = Self {
            _folder: folder,
            cluster: cluster_folder(),
            net,
            file,
            wanted: BTreeMap::new(),
            seconds: 0.0,
        };
        let server = arena.server();
        let mut client = Client::connect(&server.url_of("postgres"), NoTls).unwrap();
        client.batch_execute("CREATE DATABASE migrated").unwrap();
        let mut migrated = Client::connect(&server.url_of("migrated"), NoTls).unwrap();
        appview::migrate::migrate(&mut migrated, "bsky").unwrap();
        drop(migrated);
        arena.reset();
        let started = Instant::now();
        run_well(&mut arena.run());
        arena.seconds = started.elapsed().as_secs_f64();
        arena.wanted = dump(&arena.url());
        arena
    }

    fn server(&self) -> pgbox::Server {
        server_at(&self.data())
    }

    fn data(&self) -> PathBuf {
        self.cluster.path().join("data")
    }

    fn url(&self) -> String {
        self.server().url_of("load")
    }

    /// Makes the database as it was at first.
    fn reset(&self) {
        let server = self.server();
        let mut client = connect(&server.url_of("postgres"));
        client
            .batch_execute("DROP DATABASE IF EXISTS load WITH (FORCE)")
            .unwrap();
        client
            .batch_execute("CREATE DATABASE load TEMPLATE migrated")
            .unwrap();
    }

    fn run(&self) -> Command {
        let mut command = run_load(&self.url());
        command
            .arg(&self.file)
            .args(["--memory", "128MiB", "--concurrency", "4"]);
        command
    }

    /// Starts it again until it ends well, and compares.
    fn finish_and_compare(&self, what: &str) {
        self.finish(what);
        if let Some(difference) = difference(&dump(&self.url()), &self.wanted) {
            panic!("{what}: {difference}");
        }
    }

    /// Starts it again until it ends well.
    fn finish(&self, what: &str) {
        let output = run_load(&self.url()).output().unwrap();
        // Where nothing had begun, there is nothing to go on with.
        let output = if output.status.code() == Some(2) {
            self.run().output().unwrap()
        } else {
            output
        };
        assert_eq!(output.status.code(), Some(0), "{what}: {}", told(&output));
        let output = run_well(&mut self.run());
        assert_eq!(output.status.code(), Some(0), "{what}: {}", told(&output));
        let verify = skyfill()
            .args(["verify", "--all"])
            .env("BSKY_DB_POSTGRES_URL", self.url())
            .output()
            .unwrap();
        assert_eq!(verify.status.code(), Some(0), "{what}: {}", told(&verify));
    }

    /// Starts a run, ends a part of it at a random moment, and waits for its end.
    fn disturb(&self, random: &mut simnet::Random, what: &str) -> String {
        let mut child = self
            .run()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs_f64(self.seconds * random.unit()));
        let target = ["skyfill", "backend", "postmaster"][random.index(3)];
        let what = format!("{what}, {target}");
        match target {
            "skyfill" => drop(child.kill()),
            "backend" => kill_backend(&self.url(), random),
            _ => kill_postmaster(&self.data()),
        }
        // One whose server went away waits for it and goes on.
        let code = child.wait().unwrap().code();
        assert!(
            target == "skyfill" || code == Some(0) || code == Some(3),
            "{what}: {code:?}"
        );
        what
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        drop(pgbox::stop(&self.data()));
    }
}

/// The server of a cluster, started if it does not run; waited for while it recovers.
pub(crate) fn server_at(data: &Path) -> pgbox::Server {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let fsync = if kills_wanted().is_some() {
            "on"
        } else {
            "off"
        };
        let settings = [("max_connections", "50"), ("fsync", fsync)];
        match pgbox::start_with(data, &settings) {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn connect(url: &str) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Client::connect(url, NoTls) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn dump(url: &str) -> BTreeMap<String, Vec<String>> {
    dump_of(&mut connect(url))
}

/// How many kills `make chaos` wants.
pub(crate) fn kills_wanted() -> Option<u64> {
    let kills = std::env::var("SKYFILL_CHAOS_KILLS").ok()?;
    Some(kills.parse().expect("SKYFILL_CHAOS_KILLS: a number"))
}

#[test]
fn kills_at_random_moments() {
    let seed = seed();
    let arena = Arena::new(seed);
    let mut random = simnet::Random::new(seed);
    for number in 0..kills_wanted().unwrap_or(6) {
        arena.reset();
        let what = arena.disturb(&mut random, &format!("kill {number} of seed {seed}"));
        arena.finish_and_compare(&what);
        eprintln!("{what}: well");
    }
}

pub(crate) fn seed() -> u64 {
    std::env::var("SKYFILL_CHAOS_SEED").map_or(7, |seed| {
        seed.parse().expect("SKYFILL_CHAOS_SEED: a number")
    })
}

/// Records of an account, by key.
type Records = Vec<(String, Vec<u8>)>;

/// A network that goes to and fro between two states; each time the revs are newer.
struct Swing {
    /// Of each account its records in both states; the same where it does not change.
    accounts: Vec<(String, [Records; 2])>,
    micros: u64,
}

impl Swing {
    fn new(arena: &Arena, seed: u64, random: &mut simnet::Random) -> Self {
        let tangle = simnet::Tangle::new(seed, 30, 2500);
        let dids = arena.net.dids.iter().enumerate();
        let accounts = dids.map(|(at, did)| {
            let car = tangle.car(did);
            let other = match at % 3 {
                0 => later(&car, did, random),
                _ => car.clone(),
            };
            let states = [car, other].map(|car| records_of(&car, did));
            (did.clone(), states)
        });
        Self {
            accounts: accounts.collect(),
            micros: 1_760_000_000_000_000,
        }
    }

    /// Serves a state, with newer revs where accounts change.
    fn serve(&mut self, arena: &Arena, state: usize) {
        self.micros += 1_000_000;
        let rev = atrepo::syntax::tid(self.micros, 1);
        for (did, states) in &self.accounts {
            if states[0] != states[1] {
                let car = simnet::build_repo(did, &rev, states[state].clone());
                let answer = simnet::Answer::Repo(std::sync::Arc::new(car));
                arena.net.server.set(did, answer);
            }
        }
    }
}

/// What both states have beside their revs.
fn without_revs(mut dump: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    dump.remove("actor_sync");
    dump
}

/// One database changes to and fro, and a kill falls into each change: of the merge, of the derived
/// rows, of the comparison. It is never loaded anew.
#[test]
fn kills_at_random_moments_of_changes() {
    let seed = seed();
    let mut arena = Arena::new(seed);
    let mut random = simnet::Random::new(seed);
    let mut swing = Swing::new(&arena, seed, &mut random);
    let mut wanted = [without_revs(arena.wanted.clone()), BTreeMap::new()];
    swing.serve(&arena, 1);
    arena.reset();
    run_well(&mut arena.run());
    wanted[1] = without_revs(dump(&arena.url()));
    assert!(difference(&wanted[0], &wanted[1]).is_some());
    // Back, undisturbed, by changes.
    swing.serve(&arena, 0);
    let started = Instant::now();
    let output = run_well(&mut arena.run());
    arena.seconds = started.elapsed().as_secs_f64();
    assert!(
        told(&output).contains("computing what depends on"),
        "{}",
        told(&output)
    );
    for number in 0..kills_wanted().unwrap_or(3) {
        let state = usize::try_from((number + 1) % 2).unwrap();
        swing.serve(&arena, state);
        let what = format!("kill {number} of seed {seed} in a change");
        let what = arena.disturb(&mut random, &what);
        arena.finish(&what);
        if let Some(difference) = difference(&without_revs(dump(&arena.url())), &wanted[state]) {
            panic!("{what}: {difference}");
        }
        eprintln!("{what}: well");
    }
}

/// Kills a backend that works in database `load`.
pub(crate) fn kill_backend(url: &str, random: &mut simnet::Random) {
    let mut client = connect(url);
    let rows = client
        .query(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'load' AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            &[],
        )
        .unwrap();
    if rows.is_empty() {
        return;
    }
    let pid: i32 = rows[random.index(rows.len())].get(0);
    send_signal(u32::try_from(pid).unwrap(), Signal::KILL);
}

/// Kills the postmaster and starts another when its backends have ended, as they do by themselves.
pub(crate) fn kill_postmaster(data: &Path) {
    let postmaster = server_at(data).postmaster();
    send_signal(postmaster, Signal::KILL);
    wait_until("another postmaster", || {
        server_at(data).postmaster() != postmaster
    });
}

#[test]
fn ends_at_every_place_where_something_is_committed() {
    let arena = Arena::new(8);
    let mut places = vec![
        ("begin", 1),
        ("begun", 1),
        ("commit", 1),
        ("committed", 1),
        ("rebuild", 1),
    ];
    places.extend([("rebuild", 40), ("slice", 1), ("slice", 12)]);
    places.extend((1..=6).map(|times| ("phase", times)));
    for (place, times) in places {
        arena.reset();
        let output = arena
            .run()
            .env("SKYFILL_FAILPOINT", format!("{place}={times}"))
            .output()
            .unwrap();
        let what = format!("{place}, time {times}");
        assert_eq!(
            output.status.code(),
            None,
            "{what} was not reached: {}",
            told(&output)
        );
        arena.finish_and_compare(&what);
    }
    assert!(arena.net.server.requests() > 0 && Path::new(&arena.file).exists());
}

#[test]
fn a_database_that_is_away_read_only_or_full_is_waited_for() {
    let arena = Arena::new(9);
    // Read-only for a while, from the first commit on.
    arena.reset();
    let mut client = connect(&arena.server().url_of("postgres"));
    let mut child = Watched::start(&mut arena.run());
    let mut inside = connect(&arena.url());
    let loaded = "SELECT count(*) FROM bsky.record";
    wait_until("a commit", || {
        let has_ended = child.child.try_wait().unwrap().is_some();
        has_ended || inside.query_one(loaded, &[]).unwrap().get::<_, i64>(0) > 0
    });
    drop(inside);
    client
        .batch_execute("ALTER DATABASE load SET default_transaction_read_only = on")
        .unwrap();
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'load'",
        )
        .unwrap();
    wait_until("a wait for the database, or the end", || {
        let has_ended = child.child.try_wait().unwrap().is_some();
        has_ended || child.printed().contains("waiting for the database")
    });
    client
        .batch_execute("ALTER DATABASE load SET default_transaction_read_only = off")
        .unwrap();
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'load'",
        )
        .unwrap();
    let (code, printed) = child.end();
    assert!(matches!(code, Some(0 | 3)), "{printed}");
    arena.finish_and_compare("read-only for a while");
    // Statements are cancelled again and again.
    arena.reset();
    let child = arena
        .run()
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        client
            .batch_execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = 'load'",
            )
            .unwrap();
        std::thread::sleep(Duration::from_secs_f64(arena.seconds / 20.0));
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}",
        told(&output)
    );
    arena.finish_and_compare("statements cancelled");
}
