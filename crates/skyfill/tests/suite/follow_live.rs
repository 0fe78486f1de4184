//! From nothing to live in one command: a network that changes while it is loaded is followed
//! without a gap, whatever phase the command was stopped in, and whatever the relay forgot.

use crate::follow_network::{Scene, pace};
use crate::network::{FAST, on, plain_on, settings};
use simnet::{LiveSettings, Network};
use std::process::Command;
use testbed::*;

fn life(seed: u64) -> LiveSettings {
    LiveSettings {
        seed,
        events: 1000,
        ..LiveSettings::default()
    }
}

/// A network of which nothing is loaded yet.
fn nothing_loaded(seed: u64) -> Scene {
    Scene {
        network: Network::start(settings(seed, 60, 4)),
        db: TestDb::migrated(),
    }
}

/// The command that goes from nothing to live.
fn run_and_follow(scene: &Scene) -> Command {
    let mut run = plain_on(&scene.network, &scene.db, "run", "claimed");
    run.args(FAST).args(["--discover", "--follow"]);
    run.args(["--relay", &scene.network.relay_url()]);
    run
}

/// Waits until all up to a sequence number is stored, and the status says who follows.
fn wait_until_live(scene: &Scene, last: u64) {
    let mut status = skyfill();
    status
        .args(["status", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &scene.db.url);
    wait_until("a process that follows up to the end of the life", || {
        // Catching up moves the cursor, too.
        scene.cursor() >= last && {
            let said = summary(&status.output().unwrap());
            let follow = &said["follow"];
            follow["alive"] == true && follow["relay"] == scene.network.relay_url().as_str()
        }
    });
}

/// Stops a command that follows; what it printed.
fn stop(following: Watched) -> String {
    signal(&following.child, "TERM");
    let (code, printed) = following.end();
    assert_eq!(code, Some(4), "{printed}");
    printed
}

/// The command that a stopped one printed to continue with.
fn line_to_continue_with(printed: &str, scene: &Scene) -> Command {
    let line = printed
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("stopped; continue with: skyfill "));
    let line = line.unwrap_or_else(|| panic!("no line to continue with: {printed}"));
    let mut command = skyfill();
    command
        .args(line.split(' '))
        .env("BSKY_DB_POSTGRES_URL", &scene.db.url);
    command
}

#[test]
fn one_command_goes_from_nothing_to_live() {
    let scene = nothing_loaded(1851);
    let playing = scene.network.live(&life(3)).start(pace(200.0));
    let following = Watched::start(&mut run_and_follow(&scene));
    let last = playing.last_seq();
    drop(playing.wait());
    wait_until_live(&scene, last);
    let printed = stop(following);
    // The same command again loads nothing, and follows.
    scene.network.change(5, 30);
    let mut following = Watched::start(&mut run_and_follow(&scene));
    following.wait_for("all is loaded; following");
    wait_until_live(&scene, scene.network.head());
    let printed = format!("{printed}\n{}", stop(following));
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{printed}\n{more}"));
}

#[test]
fn a_stop_in_any_phase_continues_with_the_line_that_was_printed() {
    let scene = nothing_loaded(1852);
    let playing = scene.network.live(&life(4)).start(pace(200.0));
    let (mut command, mut printed) = (run_and_follow(&scene), String::new());
    for place in ["commit", "rebuild", "slice", "compare", "event-batch"] {
        let output = command
            .env("SKYFILL_FAILPOINT", format!("{place},stop"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{place}: {}", told(&output));
        printed.push_str(&told(&output));
        command = line_to_continue_with(&printed, &scene);
    }
    let last = playing.last_seq();
    drop(playing.wait());
    let following = Watched::start(&mut command);
    wait_until_live(&scene, last);
    printed.push_str(&stop(following));
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{printed}\n{more}"));
}

#[test]
fn what_the_relay_forgot_is_caught_up_before_it_is_followed() {
    for (seed, name) in [(1853, "run"), (1854, "catch-up")] {
        let scene = Scene::of(settings(seed, 40, 3), TestDb::migrated());
        scene.network.set_replay_events(5);
        scene.network.change(seed, 60);
        let mut command = on(&scene.network, &scene.db, name);
        command
            .args(FAST)
            .args(["--follow", "--relay", &scene.network.relay_url()]);
        let mut following = Watched::start(&mut command);
        if name == "run" {
            following.wait_for("no longer has all events after");
            following.wait_for("all hosts are listed first");
        }
        wait_until_live(&scene, scene.network.head());
        scene.network.change(seed + 10, 4);
        wait_until_live(&scene, scene.network.head());
        let printed = stop(following);
        let more = scene.follow_until_now();
        scene.assert_followed(&format!("{printed}\n{more}"));
    }
}

#[test]
fn a_row_that_is_wrong_is_found_and_mended_while_it_is_followed() {
    let scene = Scene::of(settings(1856, 40, 3), TestDb::migrated());
    let mut following = Watched::start(scene.follow().args(["--proof-rate", "50000"]));
    let count = |sql: &str| -> i64 { scene.db.client().query_one(sql, &[]).unwrap().get(0) };
    let rounds = "SELECT coalesce(max(rounds), 0) FROM skyfill.followed";
    wait_until("a round over all repos", || count(rounds) > 0);
    assert_eq!(count("SELECT differed FROM skyfill.followed"), 0);
    let plant =
        "UPDATE bsky.post SET text = 'planted' WHERE uri = (SELECT min(uri) FROM bsky.post)";
    assert_eq!(scene.db.client().execute(plant, &[]).unwrap(), 1);
    following.wait_for("what differs is fetched again");
    let planted = "SELECT count(*) FROM bsky.post WHERE text = 'planted'";
    wait_until("the row as it was", || count(planted) == 0);
    let done = count(rounds);
    wait_until("another round", || count(rounds) > done + 1);
    let mut status = skyfill();
    status
        .args(["status", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &scene.db.url);
    let said = summary(&status.output().unwrap());
    assert_eq!(said["follow"]["differed"], 1, "{said}");
    let printed = stop(following);
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{printed}\n{more}"));
}

#[test]
fn a_stream_is_followed_only_if_it_is_clear_which_one() {
    let scene = nothing_loaded(1855);
    let mut run = on(&scene.network, &scene.db, "run");
    run.arg("--follow");
    for url in scene.network.host_urls() {
        run.args(["--pds", &url]);
    }
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("--relay URL"), "{}", told(&output));
}
