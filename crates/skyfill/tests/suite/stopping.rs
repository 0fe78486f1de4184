//! SIGTERM ends any command in time, whatever it waits for, and a thread that breaks off ends the
//! run; in either case the next start goes on.

use crate::follow_network::Scene;
use crate::network::{FAST, on, settings};
use postgres::Client;
use simnet::{Answer, Population, Server};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::*;

/// Ending takes five seconds at most. The tests share their machine with others, so that starting a
/// thread alone may take a second; what is waited for in them would never end.
const IN_TIME: Duration = Duration::from_secs(10);
/// Ended because it was told to.
const STOPPED: Option<i32> = Some(4);

fn net() -> Net {
    let population = Population::new(12, 6, 600);
    Net::of_cars(
        (0..population.len()).map(|account| (population.did(account), population.car(account))),
    )
}

fn start(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Locks a table until the client goes.
fn lock(db: &TestDb, table: &str, mode: &str) -> Client {
    let mut client = db.client();
    client
        .batch_execute(&format!(
            "BEGIN; LOCK TABLE bsky.\"{table}\" IN {mode} MODE"
        ))
        .unwrap();
    client
}

/// Waits until a session of the command waits for a lock.
fn wait_until_blocked(db: &TestDb, child: &mut Child) {
    let mut client = db.client();
    wait_until("a session that waits for a lock", || {
        let blocked = client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
                &[],
            )
            .unwrap();
        if child.try_wait().unwrap().is_some() {
            let mut printed = String::new();
            drop(
                child
                    .stderr
                    .take()
                    .map(|mut err| err.read_to_string(&mut printed)),
            );
            panic!("it ended before it waited: {printed}");
        }
        blocked.get::<_, i64>(0) > 0
    });
}

/// Stops a command that waits for what does not come.
fn stop(what: &str, child: Child) -> Output {
    let asked = Instant::now();
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let took = asked.elapsed();
    assert!(took < IN_TIME, "{what} took {took:?}: {}", told(&output));
    assert_eq!(output.status.code(), STOPPED, "{what}: {}", told(&output));
    assert!(
        told(&output).contains("continue with: "),
        "{what}: {}",
        told(&output)
    );
    output
}

/// The command that loads a network; with a failpoint at which it ends.
fn load(db: &TestDb, net: &Net, dir: &std::path::Path, failpoint: &str) -> Command {
    let mut command = run_load(&db.url);
    command.arg(did_file(
        dir,
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    ));
    command.env("SKYFILL_FAILPOINT", failpoint);
    command
}

#[test]
fn a_run_stops_in_every_phase_and_goes_on() {
    let (net, dir) = (net(), folder());
    // Phases that are done before, where it is to stop, and what it waits for there.
    for (what, failpoint, table, mode) in [
        ("loading", None, "record", "SHARE"),
        ("making indexes", Some("phase"), "post", "ROW EXCLUSIVE"),
        (
            "vacuuming",
            Some("phase=2"),
            "post",
            "SHARE UPDATE EXCLUSIVE",
        ),
        ("finalizing", Some("phase=4"), "post", "ACCESS EXCLUSIVE"),
        ("verifying", Some("phase=5"), "record", "ACCESS EXCLUSIVE"),
    ] {
        let db = TestDb::migrated();
        if let Some(failpoint) = failpoint {
            let output = load(&db, &net, dir.path(), failpoint).output().unwrap();
            assert_eq!(output.status.code(), None, "{what}: {}", told(&output));
        }
        let mut held = lock(&db, table, mode);
        let mut command = match failpoint {
            None => load(&db, &net, dir.path(), "none"),
            Some(_) => run_load(&db.url),
        };
        if failpoint.is_none() {
            command.args(["--mode", "merge"]);
        }
        let mut child = start(&mut command);
        wait_until_blocked(&db, &mut child);
        stop(what, child);
        held.batch_execute("ROLLBACK").unwrap();
        let output = run_load(&db.url).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {}", told(&output));
        assert_eq!(summary(&output)["differences"], 0, "{what}");
        let repos = &summary(&output)["repos"];
        assert_eq!(repos["loaded"], net.dids.len(), "{what}: {repos}");
    }
}

#[test]
fn identities_finalize_and_verify_stop_by_themselves() {
    let (net, dir) = (net(), folder());
    let db = TestDb::migrated();
    run_well(&mut load(&db, &net, dir.path(), "none"));
    let of = |name: &str, whole: &str| {
        let mut command = skyfill();
        command
            .args([name, whole])
            .env("BSKY_DB_POSTGRES_URL", &db.url);
        command
    };
    for (mut command, table) in [
        (net.identities(&db), "actor_sync"),
        (of("finalize", "--restart"), "post"),
        (of("verify", "--all"), "record"),
    ] {
        let what = format!("{:?}", command.get_args().next().unwrap());
        let held = lock(&db, table, "ACCESS EXCLUSIVE");
        let mut child = start(&mut command);
        wait_until_blocked(&db, &mut child);
        stop(&what, child);
        drop(held);
    }
}

/// What follows, catches up, repairs, exports and publishes waits for the table of records.
#[test]
fn what_works_on_loaded_tables_stops_though_one_is_locked() {
    let scene = Scene::of(settings(1861, 20, 2), TestDb::migrated());
    let (db, dir, server) = (&scene.db, folder(), Nats::start(""));
    // Not all of them stay active.
    let sql = "SELECT array_agg(did) FROM skyfill.repo WHERE state = 'loaded'";
    let dids: Vec<String> = db.client().query_one(sql, &[]).unwrap().get(0);
    let mut catch_up = on(&scene.network, db, "catch-up");
    catch_up.args(FAST);
    catch_up.args(["--relay", &scene.network.relay_url()]);
    let mut repair = clean_run(db, &["repair", "--allow-private-hosts"]);
    repair
        .args(dids)
        .args(["--plc-url", &scene.network.plc_url()]);
    let mut export = clean_run(db, &["export"]);
    export.arg(dir.path().join("out"));
    let publish = |option| clean_run(db, &["records", "--transport", &server.url(), option]);
    run_well(&mut publish("--until-published"));
    let records = publish("--restart");
    let commands = [scene.follow(), catch_up, repair, export, records];
    for (seed, mut command) in (1..).zip(commands) {
        let what = format!("{:?}", command.get_args().next().unwrap());
        scene.network.change(seed, 5);
        let held = lock(db, "record", "ACCESS EXCLUSIVE");
        let mut child = start(&mut command);
        wait_until_blocked(db, &mut child);
        stop(&what, child);
        drop(held);
    }
}

#[test]
fn a_pass_stops_though_a_list_drips_and_goes_on() {
    let population = Population::new(13, 2, 40);
    let dids: Vec<String> = (0..2).map(|account| population.did(account)).collect();
    let server = Server::start(HashMap::new());
    for (account, did) in dids.iter().enumerate() {
        server.set(did, Answer::Repo(Arc::new(population.car(account))));
        let document = simnet::document(did, "a.example", &server.url());
        server.set(&format!("plc {did}"), Answer::text(document));
    }
    let repos = dids.iter().map(|did| format!("{{\"did\":\"{did}\"}}"));
    let page = format!("{{\"repos\":[{}]}}", repos.collect::<Vec<_>>().join(","));
    // A byte now and then: the page would take minutes.
    let drip = Answer::Drip(Arc::new(
        [&page[..], &" ".repeat(2_000)].concat().into_bytes(),
    ));
    for command in [
        &["discover"][..],
        &["run", "--discover", "--handles", "skip"],
    ] {
        let db = TestDb::migrated();
        let start_it = || {
            let mut command = clean_run(&db, command);
            command.args(["--pds", &server.url(), "--plc-url", &server.url()]);
            command.arg("--allow-private-hosts");
            command
        };
        server.set("", drip.clone());
        let before = server.requests();
        let mut child = start(&mut start_it());
        wait_until("a request for the list", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended before");
            server.requests() > before
        });
        stop(&format!("{command:?}"), child);
        server.set("", Answer::text(page.clone()));
        let output = start_it().output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let sql = "SELECT count(*) FROM skyfill.repo";
        let listed: i64 = db.client().query_one(sql, &[]).unwrap().get(0);
        assert_eq!(listed, 2, "{command:?}: {}", told(&output));
    }
}

/// A command on a database.
fn clean_run(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

#[test]
fn a_consumer_and_a_producer_stop_though_the_other_does_nothing() {
    let (net, dir) = (net(), folder());
    let db = TestDb::migrated();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    // A database that takes nothing.
    let held = lock(&db, "record", "SHARE");
    let sending = start(&mut producer(dir.path(), &file, &[&consumer.socket]));
    wait_until_blocked(&db, consumer.child());
    let asked = Instant::now();
    consumer.signal("TERM");
    let code = consumer.wait_for_end();
    assert!(asked.elapsed() < IN_TIME, "{}", consumer.log());
    // What was lost on the way, the producer sends again.
    assert!(matches!(code, Some(0 | 4)), "{code:?} {}", consumer.log());
    // A producer whose consumer is gone, and does not come back.
    let asked = Instant::now();
    signal(&sending, "TERM");
    let output = sending.wait_with_output().unwrap();
    assert!(asked.elapsed() < IN_TIME, "{}", told(&output));
    drop(held);
    // A consumer that takes the connection, and nothing else.
    let path = dir.path().join("silent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = start(&mut producer(dir.path(), &file, &[&path]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(handoff_greeting()).unwrap();
    let asked = Instant::now();
    signal(&silent, "TERM");
    let output = silent.wait_with_output().unwrap();
    assert!(asked.elapsed() < IN_TIME, "{}", told(&output));
}

/// What a consumer says that takes frames.
fn handoff_greeting() -> &'static [u8] {
    handoff::account::GREETING
}

#[test]
fn a_thread_that_breaks_off_ends_the_run_and_loses_nothing() {
    let (net, dir) = (net(), folder());
    for (failpoint, thread) in [
        ("encode=3,panic", "an encoding thread failed"),
        ("commit=1,panic", "a loading thread failed"),
    ] {
        let db = TestDb::migrated();
        let output = load(&db, &net, dir.path(), failpoint).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(told(&output).contains(thread), "{}", told(&output));
        let sql = "SELECT count(*) FROM skyfill.repo WHERE state NOT IN ('open', 'loaded')";
        let settled: i64 = db.client().query_one(sql, &[]).unwrap().get(0);
        assert_eq!(settled, 0, "{failpoint}");
        let output = run_well(&mut run_load(&db.url));
        assert_eq!(summary(&output)["repos"]["loaded"], net.dids.len());
    }
}
