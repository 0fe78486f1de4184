//! Discovery, pacing and catching up, on a whole practice network.

use rustix::process::Signal;
use simnet::{Expected, Fault, Limit, Network, NetworkSettings};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed::*;

/// A network of `repos` accounts on `hosts` hosts.
pub(crate) fn settings(seed: u64, repos: usize, hosts: usize) -> NetworkSettings {
    NetworkSettings {
        seed,
        repos,
        records: repos * 30,
        hosts,
        // Lists of many pages.
        page: 7,
        ..NetworkSettings::default()
    }
}

/// A command with all that it needs to know of a network; add the source.
pub(crate) fn on(network: &Network, db: &TestDb, command: &str) -> Command {
    on_with(network, db, command, "claimed")
}

/// The same, with another way to deal with handles.
pub(crate) fn on_with(network: &Network, db: &TestDb, command: &str, handles: &str) -> Command {
    let mut skyfill = plain_on(network, db, command, handles);
    skyfill.arg("--json");
    skyfill
}

/// The same, with a summary for people.
pub(crate) fn plain_on(network: &Network, db: &TestDb, command: &str, handles: &str) -> Command {
    let mut skyfill = patient_on(network, db, command, handles);
    skyfill.args(["--stall-timeout", "2", "--processing-timeout", "10"]);
    skyfill.args(["--host-patience", "6"]);
    skyfill
}

/// The same, with as much patience with hosts as is the default.
pub(crate) fn patient_on(network: &Network, db: &TestDb, command: &str, handles: &str) -> Command {
    let mut skyfill = skyfill();
    skyfill.args([
        command,
        "--allow-private-hosts",
        "--plc-url",
        &network.plc_url(),
        "--did-web-server",
        &network.well_known_url(),
        "--plc-rate",
        "5000",
        "--timeout",
        "2",
        "--max-repo-bytes",
        "30000000",
    ]);
    if command != "discover" {
        skyfill.args([
            "--well-known-server",
            &network.well_known_url(),
            "--dns-server",
            &dns().address().to_string(),
        ]);
        skyfill.args(["--handles", handles]);
    }
    // What is followed has the time of the clock.
    if !matches!(command, "discover" | "follow") {
        skyfill.args(["--now", NOW]);
    }
    skyfill.env("BSKY_DB_POSTGRES_URL", &db.url);
    skyfill
}

/// The rate for networks without limits.
pub(crate) const FAST: [&str; 2] = ["--host-rate", "200"];

/// Requests for repos so far.
fn repos_asked_for(network: &Network) -> u64 {
    network.counts().iter().map(|host| host.get_repo).sum()
}

/// The state of each account in the ledger.
pub(crate) fn states(db: &TestDb) -> BTreeMap<String, String> {
    let rows = db
        .client()
        .query("SELECT did, state FROM skyfill.repo", &[])
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Makes sure that each account is in the state in which a complete and correct backfill leaves it.
fn assert_as_expected(db: &TestDb, network: &Network, except: &dyn Fn(&str) -> bool) {
    let states = states(db);
    let mut wrong = Vec::new();
    for (did, expected) in network.expected() {
        let is = states.get(&did).map(String::as_str);
        let wanted: &[Option<&str>] = match expected {
            Expected::Loaded => &[Some("loaded")],
            Expected::Failed => &[Some("failed")],
            Expected::LoadedOrFailed => &[Some("loaded"), Some("failed")],
            // What nobody tells of is not known, what a host does not have is not found.
            Expected::State("deleted") => &[None, Some("not found"), Some("deleted")],
            Expected::State(state) => &[Some(state)],
        };
        if !wanted.contains(&is) && !except(&did) {
            let sql = "SELECT error FROM skyfill.repo WHERE did = $1";
            let row = db.client().query_opt(sql, &[&did]).unwrap();
            let error: Option<String> = row.and_then(|row| row.get(0));
            wrong.push(format!("{did}: {is:?} instead of {expected:?}, {error:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} accounts: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
}

/// A database that was filled from the true CARs of the accounts that are expected to be loaded.
pub(crate) fn filled_from_cars(network: &Network, dids: impl Fn(&str) -> bool) -> TestDb {
    let (db, dir) = (TestDb::migrated(), folder());
    let expected = network.expected();
    let loaded = expected.iter().filter(|(did, state)| {
        matches!(state, Expected::Loaded | Expected::LoadedOrFailed) && dids(did)
    });
    for (number, (did, _)) in loaded.enumerate() {
        fs::write(
            dir.path().join(format!("{number}.car")),
            network.car(did).unwrap(),
        )
        .unwrap();
    }
    let mut run = on(network, &db, "run");
    let output = run.arg("--from-cars").arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    db
}

/// The tables are those of a load of the true CARs, but for rows of `actor` of accounts that are
/// not active: CARs do not tell of them.
pub(crate) fn assert_same_tables(db: &TestDb, reference: &TestDb) {
    let mut dump = db.dump();
    if let Some(actors) = dump.get_mut("actor") {
        actors.retain(|row| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            row["upstreamStatus"].is_null()
        });
    }
    assert_eq!(difference(&dump, &reference.dump()), None);
}

#[test]
fn a_relay_is_all_that_it_takes_to_find_and_load_a_network() {
    let network = Network::start(settings(1, 150, 8));
    let db = TestDb::migrated();
    let relay = network.relay_url();
    let output = on(&network, &db, "run")
        .args(FAST)
        .args(["--discover", "--relay", &relay])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(summary(&output)["differences"], 0);
    assert_as_expected(&db, &network, &|_| false);
    assert_same_tables(&db, &filled_from_cars(&network, |_| true));
    let row = db
        .client()
        .query_one("SELECT relay, relay_seq FROM skyfill.run LIMIT 1", &[])
        .unwrap();
    assert_eq!(row.get::<_, String>(0), relay);
    assert_eq!(row.get::<_, i64>(1), i64::try_from(network.head()).unwrap());
    let agree = "SELECT count(*) FROM skyfill.repo r JOIN bsky.actor a USING (did)
      WHERE r.state = coalesce(a.\"upstreamStatus\", 'loaded')";
    let known: i64 = db.client().query_one(agree, &[]).unwrap().get(0);
    assert_eq!((known, db.count("actor")), (150, 150));
    // Nobody is asked who asked not to be.
    let before: u64 = network.counts().iter().map(|host| host.requests).sum();
    let dir = folder();
    let list = dir.path().join("out.txt");
    let hosts: String = network
        .host_urls()
        .iter()
        .map(|url| format!("{}\n", url.trim_start_matches("http://")))
        .collect();
    fs::write(&list, format!("# everybody\n{hosts}")).unwrap();
    let output = on(&network, &db, "discover")
        .args(["--relay", &relay, "--opt-out"])
        .arg(&list)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let after: u64 = network.counts().iter().map(|host| host.requests).sum();
    assert_eq!(before, after);
}

#[test]
fn every_source_finds_the_same_accounts() {
    let network = Network::start(settings(2, 120, 5));
    let relay = network.relay_url();
    let pds: Vec<String> = network
        .host_urls()
        .iter()
        .flat_map(|url| ["--pds".to_owned(), url.clone()])
        .collect();
    let dir = folder();
    let file = dir.path().join("hosts.txt");
    fs::write(&file, network.host_urls().join("\n")).unwrap();
    let all = network.dids().len();
    let sources: [Vec<String>; 5] = [
        vec![],
        vec!["--relay-repos".into()],
        pds,
        vec!["--pds-file".into(), file.display().to_string()],
        vec!["--plc-export".into()],
    ];
    let mut found: Vec<String> = Vec::new();
    for source in &sources {
        let db = TestDb::migrated();
        let did_file = dir.path().join("dids.jsonl");
        let mut discover = on(&network, &db, "discover");
        let output = discover
            .args(FAST)
            .args(source)
            .args(["--relay", &relay])
            .arg("--did-file")
            .arg(&did_file)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{source:?}: {}",
            told(&output)
        );
        let known = states(&db).len();
        // The export knows did:plc alone.
        let is_export = source.last().is_some_and(|last| last == "--plc-export");
        assert!(
            if is_export {
                known < all && known > all * 9 / 10
            } else {
                known == all
            },
            "{source:?}: {known} of {all}"
        );
        if !is_export {
            let lines = fs::read_to_string(&did_file).unwrap();
            assert!(lines.lines().count() > all * 8 / 10, "{lines}");
            if found.is_empty() {
                found.push(lines);
            } else {
                assert_eq!(found[0], lines, "{source:?}");
            }
        }
    }
    // Over repos that are loaded they change nothing, whether they tell of revs or not.
    let db = filled_from_cars(&network, |_| true);
    db.client()
        .execute("UPDATE skyfill.repo SET pds = '', host = ''", &[])
        .unwrap();
    for source in &sources {
        let output = on(&network, &db, "discover")
            .args(FAST)
            .args(source)
            .args(["--relay", &relay])
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{source:?}: {}",
            told(&output)
        );
        assert_eq!(summary(&output)["contested"], 0, "{source:?}");
    }
    run_well(on(&network, &db, "run").args(FAST));
    assert_as_expected(&db, &network, &|_| false);
    let db = TestDb::migrated();
    let collection = ["--relay", &relay, "--collection", "app.bsky.actor.profile"];
    let output = on(&network, &db, "discover")
        .args(collection)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        summary(&output)["new"].as_u64().unwrap() > 100,
        "{}",
        told(&output)
    );
    // A PDS that is taken for a relay lists itself.
    let db = TestDb::migrated();
    let output = on(&network, &db, "discover")
        .args(["--relay", &network.host_urls()[0]])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("does not list hosts"),
        "{}",
        told(&output)
    );
    assert!(!states(&db).is_empty());
}

#[test]
fn every_fault_at_once_costs_only_what_is_bad_and_no_limit_is_passed() {
    let network = Network::start(NetworkSettings {
        faults: Fault::ALL.to_vec(),
        limit: Some(Limit {
            requests: 24,
            window: Duration::from_secs(4),
        }),
        ..settings(3, 700, 30)
    });
    let db = TestDb::migrated();
    let run = on(&network, &db, "run")
        .args([
            "--discover",
            "--relay",
            &network.relay_url(),
            "--straggler-grace",
            "10",
            "--memory",
            "256MiB",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = run.id();
    let peak = std::thread::spawn(move || {
        let mut peak = 0;
        while let now @ 1.. = peak_kib(pid) {
            peak = peak.max(now);
            std::thread::sleep(Duration::from_millis(50));
        }
        peak
    });
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(summary(&output)["differences"], 0, "{}", told(&output));
    // Whom no host lists, nobody can know of who goes by hosts.
    let unlisted = network.unlisted();
    assert_as_expected(&db, &network, &|did| unlisted.contains(did));
    let ended = states(&db);
    let is_loaded = |did: &str| ended.get(did).is_some_and(|state| state == "loaded");
    assert_same_tables(&db, &filled_from_cars(&network, is_loaded));
    let reasons = "SELECT count(*) FROM skyfill.repo WHERE state = 'failed' AND (error_code IS NULL OR error IS NULL)";
    assert_eq!(
        db.client()
            .query_one(reasons, &[])
            .unwrap()
            .get::<_, i64>(0),
        0
    );
    for host in network.counts() {
        assert!(
            !host.announces || host.limited == 0,
            "{}: {} 429s",
            host.host,
            host.limited
        );
        let is_lower = host.episodes.windows(2).all(|two| two[1] < two[0]);
        assert!(
            is_lower,
            "{}: met at {:?} requests a second",
            host.host, host.episodes
        );
        assert_eq!(host.repeated, 0, "{}", host.host);
        assert_eq!(host.with_credentials, 0, "{}", host.host);
    }
    assert!(!told(&output).contains('\u{1b}'), "{}", told(&output));
    let peak = peak.join().unwrap();
    assert!(peak < 256 << 10, "{peak} KiB");
    // What was learned is kept.
    let learned = "SELECT count(*) FROM skyfill.host WHERE learned LIKE '%\"limit\"%'";
    assert!(
        db.client()
            .query_one(learned, &[])
            .unwrap()
            .get::<_, i64>(0)
            >= 15
    );
    // Once all is mended, the rest comes; through the relay's own list also what no host listed.
    // Hosts that could not be listed count as missing until they are.
    network.set_faults(&[]);
    let run_again = |source: &str| {
        on(&network, &db, "run")
            .args(["--relay", &network.relay_url(), source, "--retry-failed"])
            .output()
            .unwrap()
    };
    let output = run_again("--relay-repos");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("hosts could not be listed"),
        "{}",
        told(&output)
    );
    // A list that was cut goes on where it was; the pass after that has all of it.
    run_again("--discover");
    let output = run_again("--discover");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_as_expected(&db, &network, &|_| false);
    // Documents that were read while their handles were odd are good for a day, unless asked for.
    let output = skyfill()
        .args([
            "identities",
            "--recheck",
            "--now",
            NOW,
            "--handles",
            "claimed",
        ])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_same_tables(&db, &filled_from_cars(&network, |_| true));
}

#[test]
fn killed_at_any_moment_it_goes_on_and_asks_nothing_twice() {
    let network = Network::start(settings(4, 400, 12));
    let reference = filled_from_cars(&network, |_| true);
    network.reset_counts();
    let db = TestDb::migrated();
    let mut random = simnet::Random::new(4);
    let mut kills = 0u64;
    let source = [
        "--discover",
        "--relay",
        &network.relay_url(),
        "--concurrency",
        "8",
        "--host-rate",
        "60",
    ];
    let slots = 8;
    loop {
        let mut run = on(&network, &db, "run");
        run.args(source);
        if kills < 3 {
            // In the middle of discovery: after a page was stored.
            run.env("SKYFILL_FAILPOINT", format!("page={}", 2 + kills * 3));
        }
        let mut child = run
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if kills < 9 {
            let until = repos_asked_for(&network) + random.below(120);
            wait_until("more requests, or the end", || {
                repos_asked_for(&network) > until || child.try_wait().unwrap().is_some()
            });
            // It may have ended by itself.
            if child.try_wait().unwrap().is_none() {
                send_signal(child.id(), Signal::KILL);
            }
            drop(child.wait());
            kills += 1;
            continue;
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        break;
    }
    assert_as_expected(&db, &network, &|_| false);
    assert_same_tables(&db, &reference);
    let repeated: u64 = network.counts().iter().map(|host| host.repeated).sum();
    // What was under way when it was killed: in flight, waiting to be encoded, or in chunks that
    // were not committed.
    assert!(
        repeated < kills * 200,
        "{repeated} repos were fetched again after {kills} kills with {slots} slots"
    );
}

#[test]
fn what_changes_meanwhile_is_caught_up_with_until_nothing_is_missing() {
    for seed in [5, 6] {
        let network = Network::start(NetworkSettings {
            faults: vec![Fault::Moved, Fault::LyingList],
            ..settings(seed, 200, 8)
        });
        let db = TestDb::migrated();
        let relay = network.relay_url();
        let mut run = on(&network, &db, "run")
            .args(["--discover", "--relay", &relay, "--host-rate", "20"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // While it loads: each time that some more repos were asked for.
        for step in 0..6 {
            wait_until("a request for a repo, or the end", || {
                let has_ended = run.try_wait().unwrap().is_some();
                has_ended || repos_asked_for(&network) > step * 20
            });
            network.change(seed * 100 + step, 15);
        }
        let output = run.wait_with_output().unwrap();
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            told(&output)
        );
        network.change(seed * 100 + 50, 40);
        let caught_up = on(&network, &db, "catch-up")
            .args(["--relay", &relay])
            .output()
            .unwrap();
        assert_eq!(caught_up.status.code(), Some(0), "{}", told(&caught_up));
        let cursor = summary(&caught_up)["cursor"].as_u64().unwrap();
        assert!(cursor <= network.head(), "{cursor}");
        assert_as_expected(&db, &network, &|did| {
            // Whoever is not active now keeps what was loaded.
            !matches!(network.expected()[did], Expected::Loaded)
        });
        // Deactivated accounts keep their rows, as in the official AppView; the rest is a load of
        // the last state.
        let states = states(&db);
        let is_kept = |did: &str| states.get(did).is_some_and(|state| state == "deactivated");
        let reference = filled_from_cars(&network, |_| true);
        let mut client = db.client();
        let gone: Vec<String> = states.keys().filter(|did| is_kept(did)).cloned().collect();
        let status: i64 = client
            .query_one("SELECT count(*) FROM bsky.actor WHERE did = ANY($1) AND \"upstreamStatus\" IS DISTINCT FROM 'deactivated'", &[&gone])
            .unwrap()
            .get(0);
        assert_eq!(status, 0);
        remove_for_comparison(&db, &gone);
        assert_same_tables(&db, &reference);
    }
}

/// Takes away the accounts whose rows are kept though a load of now would not have them, by what
/// catch-up does to deleted ones.
pub(crate) fn remove_for_comparison(db: &TestDb, dids: &[String]) {
    let mut client = db.client();
    let open = "UPDATE skyfill.repo SET state = 'open' WHERE did = ANY($1)";
    client.execute(open, &[&dids]).unwrap();
    let mut remover = load::Remover::connect(&db.url, "bsky").unwrap();
    for did in dids {
        let lease: i64 = client
            .query_one(
                "UPDATE skyfill.host h SET lease = coalesce(h.lease, 1) FROM skyfill.repo r WHERE r.did = $1 AND r.host = h.host RETURNING h.lease",
                &[did],
            )
            .unwrap()
            .get(0);
        assert!(remover.remove(did, lease).unwrap(), "{did}");
    }
    run_well(&mut finalize(db));
}

/// A pass asks a host for its list, and for the repos that the list has a newer rev of: no more.
#[test]
fn a_host_without_a_newer_rev_costs_its_list_alone() {
    let network = Network::start(settings(23, 90, 12));
    let db = TestDb::migrated();
    let relay = network.relay_url();
    run_well(
        on(&network, &db, "run")
            .args(FAST)
            .args(["--discover", "--relay", &relay]),
    );
    let catch_up = || {
        network.reset_counts();
        run_well(
            on(&network, &db, "catch-up")
                .args(FAST)
                .args(["--relay", &relay]),
        );
        network.counts()
    };
    let quiet = catch_up();
    assert!(quiet.iter().all(|host| host.get_repo == 0));
    assert!(quiet.iter().all(|host| host.requests > 0));
    // Three accounts change, each on its host; a move concerns two.
    network.change(3, 3);
    let busy = catch_up();
    let repos: u64 = busy.iter().map(|host| host.get_repo).sum();
    assert!((1..=6).contains(&repos), "{repos} requests for repos");
    let as_before = busy
        .iter()
        .zip(&quiet)
        .filter(|(now, before)| now.get_repo == 0 && now.requests == before.requests);
    assert!(as_before.count() >= 12 - 6);
}

#[test]
fn a_relay_that_forgets_too_soon_is_noticed() {
    // It does not say so, either.
    let network = Network::start(NetworkSettings {
        tells_outdated: false,
        ..settings(7, 60, 3)
    });
    let db = TestDb::migrated();
    let relay = network.relay_url();
    run_well(
        on(&network, &db, "run")
            .args(FAST)
            .args(["--discover", "--relay", &relay]),
    );
    let early = on(&network, &TestDb::migrated(), "catch-up")
        .args(["--relay", &relay])
        .output()
        .unwrap();
    assert_eq!(early.status.code(), Some(2), "{}", told(&early));
    // It keeps a few events, and while a pass lists the hosts there are more.
    network.set_replay_events(5);
    network.change_at_lists(8);
    let output = on(&network, &db, "catch-up")
        .args(FAST)
        .args(["--relay", &relay, "--passes", "2"])
        .output()
        .unwrap();
    network.change_at_lists(0);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("drops events faster"),
        "{}",
        told(&output)
    );
    // When it is quiet, one pass is enough, also if the relay drops whoever comes first.
    network.drop_subscribers(2);
    let output = on(&network, &db, "catch-up")
        .args(["--relay", &relay])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(summary(&output)["passes"], 1);
}

/// Each as `semantics.md` has it: did:web, an account that moved, a key that was rotated, a handle
/// that leads elsewhere.
#[test]
fn accounts_that_are_unusual_but_right_are_loaded_and_known() {
    let network = Network::start(NetworkSettings {
        faults: vec![
            Fault::Moved,
            Fault::MovesDuringRun,
            Fault::RotatedKey,
            Fault::HandleElsewhere,
        ],
        ..settings(8, 130, 5)
    });
    let (db, dir) = (TestDb::migrated(), folder());
    let relay = network.relay_url();
    run_well(
        on(&network, &db, "discover")
            .args(FAST)
            .args(["--relay", &relay]),
    );
    let mut run = on_with(&network, &db, "run", "verified");
    run.args(FAST).arg("--certificate");
    let output = run.arg(dir.path().join("c.json")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_as_expected(&db, &network, &|_| false);
    let mut client = db.client();
    let mut count = |sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    assert!(
        count("SELECT count(*) FROM bsky.actor WHERE did LIKE 'did:web:%' AND handle IS NOT NULL")
            >= 1
    );
    // One whose handle is somebody else's has none.
    assert_eq!(
        count(
            "SELECT count(*) FROM bsky.actor WHERE handle IS NULL AND \"upstreamStatus\" IS NULL"
        ),
        1
    );
    assert_eq!(
        count("SELECT count(*) FROM skyfill.identity WHERE handle = 'mismatch'"),
        1
    );
    // The host of each repo is the one that its document names.
    for (did, pds) in network.dids() {
        let host: String = client
            .query_one("SELECT host FROM skyfill.repo WHERE did = $1", &[&did])
            .unwrap()
            .get(0);
        assert_eq!(format!("http://{host}"), pds, "{did}");
    }
    let mut verify = skyfill();
    verify
        .args([
            "verify",
            "--signatures",
            "--json",
            "--allow-private-hosts",
            "--plc-url",
            &network.plc_url(),
        ])
        .args(["--did-web-server", &network.well_known_url()])
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    let output = run_well(&mut verify);
    let certificate: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(certificate["signatures"]["olderKey"], 1, "{certificate}");
}
