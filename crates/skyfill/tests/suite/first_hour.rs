//! What a new user and operator meets first: commands that were stopped and go on, in an empty
//! folder, with broken pipes and full disks.

use simnet::{Expected, Network, NetworkSettings};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testbed::*;

/// A network of 40 accounts on four hosts, its relay, and what to say to reach it.
struct Practice {
    network: Network,
    dns: simnet::Dns,
    dir: tempfile::TempDir,
}

impl Practice {
    fn start(seed: u64) -> Self {
        let network = Network::start(NetworkSettings {
            seed,
            repos: 40,
            records: 1200,
            hosts: 4,
            page: 7,
            ..NetworkSettings::default()
        });
        let dir = folder();
        // Somebody who does not want to be asked.
        let left_out = network.expected().keys().next().unwrap().clone();
        fs::write(dir.path().join("opt-out.txt"), format!("{left_out}\n")).unwrap();
        Self {
            network,
            dns: simnet::Dns::start(std::collections::HashMap::new()),
            dir,
        }
    }

    /// Everything that a command on this network has to be told, all of it of the kind that is
    /// remembered.
    fn settings(&self) -> Vec<String> {
        let opt_out = self.dir.path().join("opt-out.txt");
        [
            "--allow-private-hosts",
            "--contact",
            "ops@example.com",
            "--host-rate",
            "200",
            "--max-rate",
            "500",
            "--opt-out",
            opt_out.to_str().unwrap(),
            "--plc-url",
            &self.network.plc_url(),
            "--plc-rate",
            "5000",
            "--did-web-server",
            &self.network.well_known_url(),
            "--well-known-server",
            &self.network.well_known_url(),
            "--dns-server",
            &self.dns.address().to_string(),
            "--timeout",
            "3",
        ]
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    /// A command; `with_rates` if it fetches repos.
    fn command(&self, db: &TestDb, args: &[&str], with_rates: bool) -> Command {
        let mut command = skyfill();
        command.args(args).current_dir(self.dir.path());
        let mut settings = self.settings();
        if !with_rates {
            let of_fetching = ["--host-rate", "--max-rate", "--opt-out"];
            while let Some(at) = settings
                .iter()
                .position(|word| of_fetching.contains(&word.as_str()))
            {
                settings.drain(at..at + 2);
            }
        }
        command.args(settings).env("BSKY_DB_POSTGRES_URL", &db.url);
        command
    }

    /// A whole run from the relay on.
    fn run(&self, db: &TestDb) -> Command {
        let relay = self.network.relay_url();
        self.command(
            db,
            &[
                "run",
                "--discover",
                "--relay",
                &relay,
                "--now",
                NOW,
                "--json",
            ],
            true,
        )
    }

    /// How many accounts it has that a run should load.
    fn loaded(&self) -> usize {
        let all = self.network.expected();
        all.values()
            .filter(|state| **state == Expected::Loaded)
            .count()
            - 1
    }
}

/// The line that a stopped command printed to go on with, as a command.
fn line_to_go_on_with(output: &Output, db: &TestDb, dir: &Path) -> Command {
    assert_eq!(output.status.code(), Some(4), "{}", told(output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text
        .lines()
        .rev()
        .find_map(|line| {
            line.strip_prefix("stopped; continue with: ")
                .or(line.strip_prefix("stopped; it goes on with: "))
        })
        .unwrap_or_else(|| panic!("no line to continue with: {text}"));
    let (program, rest) = line.split_once(' ').unwrap();
    assert_eq!(program, "skyfill");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec {} {rest}", binary().display()))
        .current_dir(dir);
    let mut command = clean(command);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// Stops a command at a place, goes on with the line that it printed; how that ended.
fn stop_and_go_on(command: &mut Command, place: &str, db: &TestDb, dir: &Path) -> Output {
    let stopped = command
        .env("SKYFILL_FAILPOINT", format!("{place},stop"))
        .output()
        .unwrap();
    line_to_go_on_with(&stopped, db, dir).output().unwrap()
}

/// States of the repos in the ledger, with their numbers.
fn states(db: &TestDb) -> BTreeMap<String, i64> {
    let rows = db
        .client()
        .query("SELECT state, count(*) FROM skyfill.repo GROUP BY 1", &[])
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_with_the_line_that_it_printed() {
    let practice = Practice::start(41);
    let reference = TestDb::migrated();
    let undisturbed = practice.run(&reference).output().unwrap();
    assert_eq!(
        usize::try_from(states(&reference)["loaded"]).unwrap(),
        practice.loaded(),
        "{}",
        told(&undisturbed)
    );
    let (tables, ledger) = (reference.dump(), states(&reference));
    for place in [
        "page=2",
        "begun=1",
        "committed=1",
        "phase=1",
        "rebuild=3",
        "phase=2",
        "phase=3",
        "look-up=1",
        "phase=4",
        "slice=3",
        "phase=5",
        "compare=5",
    ] {
        let db = TestDb::migrated();
        let output = stop_and_go_on(&mut practice.run(&db), place, &db, practice.dir.path());
        assert_eq!(
            output.status.code(),
            undisturbed.status.code(),
            "{place}: {}",
            told(&output)
        );
        assert_eq!(states(&db), ledger, "{place}: {}", told(&output));
        assert_eq!(
            difference(&db.dump(), &tables),
            None,
            "{place}: {}",
            told(&output)
        );
    }
    // And the same, where nothing was stopped: later commands know what the first one was told.
    let text = told(&status(&reference));
    for told_before in [
        "--contact ops@example.com",
        "--host-rate 200",
        "--allow-private-hosts",
    ] {
        assert!(text.contains(told_before), "{text}");
    }
}

/// Hosts that a source names may be on private networks; the line to go on with does not name them
/// again.
#[test]
fn hosts_that_were_named_stay_named() {
    let practice = Practice::start(48);
    let db = TestDb::migrated();
    let run = practice.command(&db, &["run", "--now", NOW, "--handles", "skip"], true);
    let mut with_sources = skyfill();
    with_sources
        .args(run.get_args().filter(|arg| *arg != "--allow-private-hosts"))
        .current_dir(practice.dir.path())
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    for pds in practice.network.host_urls() {
        with_sources.args(["--pds", &pds]);
    }
    let output = stop_and_go_on(&mut with_sources, "committed=1", &db, practice.dir.path());
    assert_eq!(
        usize::try_from(states(&db)["loaded"]).unwrap(),
        practice.loaded(),
        "{}",
        told(&output)
    );
}

fn status(db: &TestDb) -> Output {
    skyfill()
        .arg("status")
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap()
}

#[test]
fn every_other_command_goes_on_with_the_line_that_it_printed() {
    let practice = Practice::start(42);
    let relay = practice.network.relay_url();
    let reference = TestDb::migrated();
    let undisturbed = practice.run(&reference).output().unwrap();
    let (tables, ledger) = (reference.dump(), states(&reference));
    let db = TestDb::migrated();
    let dir = practice.dir.path();
    // discover: nothing but what its own line says is known of the network.
    let mut discover = practice.command(&db, &["discover", "--relay", &relay], true);
    let output = stop_and_go_on(&mut discover, "page=2", &db, dir);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    // A run without a word: it knows the network from discover.
    let output = skyfill()
        .args(["run", "--now", NOW, "--handles", "verified"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        undisturbed.status.code(),
        "{}",
        told(&output)
    );
    assert_eq!(states(&db), ledger);
    assert_eq!(difference(&db.dump(), &tables), None, "{}", told(&output));
    let alone: [(&[&str], &str); 3] = [
        (&["identities", "--recheck", "--now", NOW], "look-up=1"),
        (&["finalize", "--slice-rows", "60", "--restart"], "slice=2"),
        (&["verify", "--all"], "compare=3"),
    ];
    for (args, place) in alone {
        let mut command = skyfill();
        command
            .args(args)
            .current_dir(dir)
            .env("BSKY_DB_POSTGRES_URL", &db.url);
        let output = stop_and_go_on(&mut command, place, &db, dir);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", told(&output));
        assert_eq!(
            difference(&db.dump(), &tables),
            None,
            "{args:?}: {}",
            told(&output)
        );
    }
    for place in ["page=2", "phase=1"] {
        practice.network.change(7, 10);
        let mut catch_up = skyfill();
        catch_up
            .args(["catch-up", "--relay", &relay, "--now", NOW])
            .current_dir(dir)
            .env("BSKY_DB_POSTGRES_URL", &db.url);
        let output = stop_and_go_on(&mut catch_up, place, &db, dir);
        assert!(
            told(&output).contains("still has all events after"),
            "{place}: {}",
            told(&output)
        );
    }
}

#[test]
fn an_option_given_again_replaces_the_remembered_one_and_settings_can_be_forgotten() {
    let practice = Practice::start(43);
    let relay = practice.network.relay_url();
    let db = TestDb::migrated();
    run_well(&mut practice.command(&db, &["discover", "--relay", &relay], true));
    let discover = |args: &[&str]| {
        let output = skyfill()
            .args(["discover", "--relay", &relay])
            .args(args)
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        told(&status(&db))
    };
    let text = discover(&["--host-rate", "150"]);
    assert!(
        text.contains("--host-rate 150") && text.contains("--max-rate 500"),
        "{text}"
    );
    let text = discover(&[
        "--forget-settings",
        "--allow-private-hosts",
        "--max-rate",
        "400",
    ]);
    assert!(
        text.contains("--max-rate 400") && !text.contains("--contact"),
        "{text}"
    );
}

#[test]
fn a_line_to_go_on_with_repeats_what_is_of_the_machine_and_no_password() {
    let practice = Practice::start(44);
    let db = TestDb::migrated();
    let url = db.url.replacen("skyfill@", "skyfill:hunter2@", 1);
    assert_ne!(url, db.url);
    let output = practice
        .run(&db)
        .args(["--database-url", &url, "--memory", "256MiB"])
        .env_remove("BSKY_DB_POSTGRES_URL")
        .env("SKYFILL_FAILPOINT", "phase=1,stop")
        .output()
        .unwrap();
    let text = told(&output);
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains("skyfill:PASSWORD@") && text.contains("--memory 256MiB"),
        "{text}"
    );
    assert!(
        !text.contains("continue with: skyfill run --contact"),
        "{text}"
    );
}

#[test]
fn a_partial_load_is_gone_on_with_and_repaired_without_being_told_again() {
    let net = Net::of_tangle(&simnet::Tangle::new(45, 6, 300));
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let load = |args: &[&str]| run_load(&db.url).args(args).output().unwrap();
    let file = file.to_str().unwrap();
    let output = load(&[
        file,
        "--collections",
        "app.bsky.graph.follow,app.bsky.actor.profile",
        "--notifications",
        "none",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let (tables, before) = (db.dump(), states(&db));
    // The order says nothing; saying nothing means the same.
    for args in [
        &[
            "--collections",
            "app.bsky.actor.profile,app.bsky.graph.follow",
            file,
        ][..],
        &[file],
        &[],
    ] {
        let output = load(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", told(&output));
        assert_eq!(difference(&db.dump(), &tables), None, "{args:?}");
    }
    // Another choice is refused, and nothing is opened for it.
    for args in [
        &["--collections", "app.bsky.feed.like", file][..],
        &["--notifications", "all", file],
    ] {
        let output = load(args);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert_eq!(states(&db), before, "{args:?}");
    }
    db.client()
        .batch_execute("DELETE FROM bsky.follow WHERE uri IN (SELECT uri FROM bsky.follow LIMIT 1)")
        .unwrap();
    let verify = skyfill()
        .args(["verify", "--all", "--repair"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(1), "{}", told(&verify));
    let output = load(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(difference(&db.dump(), &tables), None);
}

/// Ends well, whatever becomes of what it prints.
#[test]
fn output_that_fails_ends_no_load() {
    let net = Net::of_tangle(&simnet::Tangle::new(46, 6, 300));
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut run = run_load(&db.url)
        .args(["--logging-interval", "1"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Both ends of its pipes are closed before it says a word.
    drop((run.stdout.take(), run.stderr.take()));
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(
        usize::try_from(states(&db)["loaded"]).unwrap(),
        net.dids.len()
    );
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let output = skyfill()
        .arg("status")
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .stdout(full())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("stdout: No space left on device"),
        "{}",
        told(&output)
    );
    // The same with both full: nobody can be told, but the code tells.
    let code = skyfill()
        .arg("status")
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .stdout(full())
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(code.code(), Some(3));
}

#[test]
fn a_hangup_stops_as_sigterm_does_unless_it_was_to_be_ignored() {
    let start = |through: &[&str]| {
        let mut command = Command::new(through[0]);
        command.args(&through[1..]).arg(binary());
        let mut child = clean(command)
            .args(["simnet", "--repos", "3", "--records", "30"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("\"dns\""), "{line}");
        child
    };
    // Whoever runs the tests may ignore it, as nohup does.
    let child = start(&["env", "--default-signal=HUP"]);
    signal(&child, "HUP");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("stopping after the present work"),
        "{}",
        told(&output)
    );
    // Had the hangup counted, the signal after it would be the second one, which ends at once.
    let child = start(&["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    signal(&child, "HUP");
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}
