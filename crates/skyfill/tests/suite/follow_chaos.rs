//! Kills of skyfill, of a backend and of the postmaster while a stream is followed: the tables end
//! as those of a load. A cluster of its own; `make chaos` has the long form.

use crate::chaos::{connect, kill_backend, kill_postmaster, kills_wanted, seed, server_at};
use crate::follow_network::{Scene, pace};
use crate::network::settings;
use simnet::{LiveSettings, StreamFault};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testbed::*;

/// A cluster, and the network that is loaded into it.
struct Arena {
    scene: Scene,
    data: PathBuf,
    _folder: tempfile::TempDir,
}

impl Arena {
    fn new(seed: u64) -> Self {
        let folder = cluster_folder();
        let data = folder.path().join("data");
        let server = server_at(&data);
        let mut client = connect(&server.url_of("postgres"));
        client.batch_execute("CREATE DATABASE load").unwrap();
        let url = server.url_of("load");
        appview::migrate::migrate(&mut connect(&url), "bsky").unwrap();
        Self {
            scene: Scene::of(settings(seed, 70, 4), TestDb::elsewhere(url)),
            data,
            _folder: folder,
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        drop(pgbox::stop(&self.data));
    }
}

/// Events of one life, which is made before it is played; and those that may wait before the next
/// one begins.
const LIFE: usize = 10_000;
const WAITING: u64 = 20_000;

/// Events to follow, if the caller says so: then with every fault of a stream but a stall, of which
/// each takes the twenty seconds after which a silent relay is asked again.
fn events_wanted() -> Option<usize> {
    let events = std::env::var("SKYFILL_CHAOS_EVENTS").ok()?;
    Some(events.parse().expect("SKYFILL_CHAOS_EVENTS: a number"))
}

/// The cursor that is stored; nothing while the server is away.
fn cursor(scene: &Scene) -> Option<u64> {
    let sql = "SELECT coalesce(max(cursor), 0) FROM skyfill.stream";
    let mut client = postgres::Client::connect(&scene.db.url, postgres::NoTls).ok()?;
    let cursor: i64 = client.query_one(sql, &[]).ok()?.get(0);
    u64::try_from(cursor).ok()
}

/// Set when the test is over, however it ends: nobody starts what is waited for again.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Plays so many events; the relay's last number.
fn play(
    scene: &Scene,
    (seed, events): (u64, usize),
    per_second: f64,
    faults: &[StreamFault],
    is_over: &AtomicBool,
) -> u64 {
    let mut last = 0;
    for (number, at) in (0u64..).zip((0..events).step_by(LIFE)) {
        let life = LiveSettings {
            seed: seed + number,
            events: LIFE.min(events - at),
            faults: faults.to_vec(),
            fault_every: 500,
            ..LiveSettings::default()
        };
        let playing = scene.network.live(&life).start(pace(per_second));
        last = playing.last_seq();
        drop(playing.wait());
        let is_far = || cursor(scene).is_none_or(|cursor| cursor + WAITING < last);
        while is_far() && !is_over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    last
}

#[test]
fn kills_of_skyfill_and_of_postgresql_lose_nothing() {
    let (seed, kills) = (seed(), kills_wanted().unwrap_or(4));
    let long = events_wanted();
    let events = long.unwrap_or(usize::try_from(kills).unwrap() * 300);
    let all = StreamFault::ALL.iter().copied();
    let (per_second, faults) = match long {
        Some(_) => (
            1500.0,
            all.filter(|fault| *fault != StreamFault::Stall).collect(),
        ),
        None => (200.0, Vec::new()),
    };
    let arena = Arena::new(seed);
    let (scene, mut random) = (&arena.scene, simnet::Random::new(seed));
    let began = scene.cursor();
    let mut printed = String::new();
    let mut following = Watched::start(&mut scene.follow());
    let is_over = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let _over = Over(&is_over);
        let playing = scope.spawn(|| play(scene, (seed, events), per_second, &faults, &is_over));
        for number in 0..kills {
            // All along the stream, however fast it is followed.
            let from = began + events as u64 * number / kills;
            wait_until("the place of the next kill", || {
                printed.push_str(&started_again(&mut following, scene, false));
                cursor(scene).is_some_and(|cursor| cursor >= from)
            });
            std::thread::sleep(Duration::from_secs_f64(0.3 + random.unit()));
            let target = ["skyfill", "backend", "postmaster"][usize::try_from(number % 3).unwrap()];
            match target {
                "skyfill" => following.child.kill().unwrap(),
                "backend" => kill_backend(&scene.db.url, &mut random),
                _ => kill_postmaster(&arena.data),
            }
            printed.push_str(&started_again(&mut following, scene, target == "skyfill"));
            eprintln!("kill {number} of seed {seed}, {target}");
        }
        while !playing.is_finished() {
            printed.push_str(&started_again(&mut following, scene, false));
            std::thread::sleep(Duration::from_millis(100));
        }
        playing.join().unwrap()
    });
    wait_until("the end of the stream", || {
        printed.push_str(&started_again(&mut following, scene, false));
        cursor(scene).is_some_and(|cursor| cursor >= last)
    });
    signal(&following.child, "TERM");
    let (code, rest) = following.end();
    printed.push_str(&rest);
    // One that was started just now does not listen for signals yet.
    assert!(matches!(code, Some(4) | None), "{code:?}: {printed}");
    printed.push_str(&scene.follow_until_now());
    scene.assert_followed(&printed);
}

#[test]
fn a_server_that_is_away_when_following_begins_is_waited_for() {
    let arena = Arena::new(1861);
    let scene = &arena.scene;
    scene.network.change(3, 30);
    pgbox::stop(&arena.data).unwrap();
    let mut following = Watched::start(&mut scene.follow());
    following.wait_for("waiting for the database");
    drop(server_at(&arena.data));
    let head = scene.network.head();
    wait_until("the cursor at the end", || scene.cursor() >= head);
    signal(&following.child, "TERM");
    let (code, printed) = following.end();
    assert_eq!(code, Some(4), "{printed}");
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{printed}\n{more}"));
}

/// Starts a process again if it has ended, or was killed; what that one printed. One that has not
/// begun yet ends when the server goes away.
fn started_again(following: &mut Watched, scene: &Scene, is_killed: bool) -> String {
    if !is_killed && following.child.try_wait().unwrap().is_none() {
        return String::new();
    }
    let ended = std::mem::replace(following, Watched::start(&mut scene.follow()));
    let (code, printed) = ended.end();
    assert!(is_killed || code == Some(3), "{code:?}: {printed}");
    printed
}
