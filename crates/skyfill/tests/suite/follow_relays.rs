//! Relays that do not have what is asked of them, or are away, and what people are told meanwhile.

use crate::follow_network::Scene;
use crate::network::{FAST, on, settings};
use ledger::follow::{self, Behind};
use simnet::NetworkSettings;
use std::process::Command;
use testbed::*;

/// A scene whose relay says that a cursor is too old, or does not.
fn scene(seed: u64, tells_outdated: bool) -> Scene {
    let settings = NetworkSettings {
        tells_outdated,
        ..settings(seed, 40, 3)
    };
    Scene::of(settings, TestDb::migrated())
}

/// What a command prints that must end with an error.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    told(&output)
}

#[test]
fn a_relay_that_no_longer_has_all_events_leads_to_catch_up() {
    for (seed, tells_outdated) in [(1841, true), (1842, false)] {
        let scene = scene(seed, tells_outdated);
        scene.network.set_replay_events(5);
        scene.network.change(seed, 60);
        let said = fails(scene.follow().arg("--until-now"));
        assert!(said.contains("no longer has all events after"), "{said}");
        assert!(said.contains("skyfill catch-up"), "{said}");
        let mut catch_up = on(&scene.network, &scene.db, "catch-up");
        let relay = scene.network.relay_url();
        run_well(catch_up.args(FAST).args(["--relay", &relay]));
        let said = scene.follow_until_now();
        scene.assert_followed(&said);
    }
}

#[test]
fn a_cursor_of_the_future_is_refused() {
    let scene = scene(1843, true);
    let said = fails(scene.follow().args(["--cursor", "999999"]));
    assert!(said.contains("has no event as late as 999999"), "{said}");
}

#[test]
fn another_relay_takes_over_and_status_says_who_is_behind() {
    let scene = scene(1844, true);
    scene.network.change(4, 30);
    let mut follow = crate::network::on(&scene.network, &scene.db, "follow");
    follow.args(FAST).args(["--cursor", "0", "--until-now"]);
    for relay in ["http://127.0.0.1:1", &scene.network.relay_url()] {
        follow.args(["--relay", relay]);
    }
    let output = run_well(&mut follow);
    assert_eq!(summary(&output)["fallbacks"], 1, "{}", told(&output));
    assert_eq!(summary(&output)["relay"], scene.network.relay_url());
    let mut client = scene.db.client();
    let (did, _) = scene.network.dids().swap_remove(0);
    let behind = Behind {
        did,
        rev: String::new(),
        is_signed: false,
        reason: "a test",
        is_fall: false,
        is_deleted: false,
        at: None,
    };
    follow::note_behind(&mut client, "bsky", &[behind]).unwrap();
    let mut status = skyfill();
    let status = status
        .arg("status")
        .env("BSKY_DB_POSTGRES_URL", &scene.db.url);
    // It ends with 1 while something is pending.
    let said = told(&status.output().unwrap());
    assert!(said.contains(", 1 behind; 1 change of relay"), "{said}");
    let said = summary(&status.arg("--json").output().unwrap());
    assert_eq!(said["follow"]["behind"], 1, "{said}");
    let said = scene.follow_until_now();
    scene.assert_followed(&said);
}
