//! Kills of skyfill, of a backend and of the postmaster while a stream is followed: the tables end
//! as those of a load. A cluster of its own; `make chaos` has the long form.

use crate::chaos::{connect, kill_backend, kill_postmaster, kills_wanted, seed, server_at};
use crate::follow_network::{Scene, pace};
use crate::network::settings;
use simnet::LiveSettings;
use std::path::PathBuf;
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

#[test]
fn kills_of_skyfill_and_of_postgresql_lose_nothing() {
    let (seed, kills) = (seed(), kills_wanted().unwrap_or(4));
    let arena = Arena::new(seed);
    let (scene, mut random) = (&arena.scene, simnet::Random::new(seed));
    let life = LiveSettings {
        seed,
        events: usize::try_from(kills).unwrap() * 300,
        ..LiveSettings::default()
    };
    let playing = scene.network.live(&life).start(pace(200.0));
    let last = playing.last_seq();
    let mut printed = String::new();
    let mut following = Watched::start(&mut scene.follow());
    for number in 0..kills {
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
    drop(playing.wait());
    wait_until("the end of the stream", || {
        printed.push_str(&started_again(&mut following, scene, false));
        scene.cursor() >= last
    });
    signal(&following.child, "TERM");
    let (code, rest) = following.end();
    printed.push_str(&rest);
    assert_eq!(code, Some(4), "{printed}");
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
