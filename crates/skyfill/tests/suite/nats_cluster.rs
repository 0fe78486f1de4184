//! A cluster of three NATS servers between producers and consumers: the server that leads the
//! stream, consumers and a producer are killed during the load.

use std::path::Path;
use std::process::Command;
use testbed::*;

/// Messages so small that most repos are cut into many.
const SMALL: &str = "max_payload: 8192\nmax_pending: 1048576";
/// So small that producers wait for consumers.
const STREAM_BYTES: &str = "131072";

fn urls(nodes: &[Nats]) -> String {
    let urls: Vec<String> = nodes.iter().map(Nats::url).collect();
    urls.join(",")
}

fn consumer(db: &TestDb, dir: &Path, urls: &str) -> Command {
    let mut command = skyfill();
    command.args(["consumer", "--transport", urls]);
    command.arg("--rejects").arg(dir.join("rejects.jsonl"));
    command.args(["--part-timeout", "2"]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// A producer of some repos, with a folder of its own.
fn producing(dir: &Path, net: &Net, dids: &[String], urls: &str) -> Command {
    std::fs::create_dir_all(dir).unwrap();
    let file = did_file(dir, &net.server.url(), dids.iter().map(String::as_str));
    let mut command = producer(dir, &file, &[]);
    command.args(["--transport", urls, "--nats-replicas", "3"]);
    command.args(["--nats-max-bytes", STREAM_BYTES]);
    command
}

/// The server that leads the stream.
fn leader(nodes: &[Nats]) -> usize {
    let mut found = None;
    wait_until("a leader of the stream", || {
        let info = nodes[0].ask("STREAM.INFO.skyfill");
        let name = info
            .pointer("/cluster/leader")
            .and_then(|name| name.as_str());
        found = name.and_then(|name| name.trim_start_matches('n').parse().ok());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_server_consumers_and_a_producer_are_killed_and_the_tables_are_those_of_one_machine() {
    let net = Net::of_tangle(&simnet::Tangle::new(178, 20, 2000));
    let (reference, dir) = (TestDb::migrated(), folder());
    net.load(&reference, dir.path(), &net.dids, 1, &[]);
    let asked_before = net.server.requests();
    let mut nodes = Nats::cluster(3, SMALL);
    let (urls, db) = (urls(&nodes), TestDb::migrated());
    let (first, second) = net.dids.split_at(net.dids.len() / 2);
    let first_dir = dir.path().join("first");
    let mut steady = Watched::start(&mut producing(&first_dir, &net, first, &urls));
    steady.wait_for("is full");
    let info = nodes[0].ask("STREAM.INFO.skyfill");
    assert_eq!(info["config"]["num_replicas"], 3, "{info}");
    // The server that leads, while nobody stores.
    let killed = leader(&nodes);
    nodes[killed].kill();
    let mut consumers = [0, 1].map(|_| Watched::start(&mut consumer(&db, dir.path(), &urls)));
    wait_until("a record", || db.count("record") > 0);
    consumers[0].child.kill().unwrap();
    nodes[killed].start_again();
    assert_eq!(steady.wait_for_end(), Some(0), "{}", steady.printed());
    // No repo was fetched twice.
    let asked = net.server.requests() - asked_before;
    assert_eq!(asked, first.len() as u64);
    consumers[1].child.kill().unwrap();
    let begin_second = || {
        let second_dir = dir.path().join("second");
        let mut command = producing(&second_dir, &net, second, &urls);
        command.args(["--concurrency", "4"]);
        Watched::start(&mut command)
    };
    let mut doomed = begin_second();
    doomed.wait_for("is full");
    doomed.child.kill().unwrap();
    drop(doomed);
    let mut storing = Watched::start(&mut consumer(&db, dir.path(), &urls));
    let mut again = begin_second();
    assert_eq!(again.wait_for_end(), Some(0), "{}", again.printed());
    wait_until("the end of the stream", || {
        nodes[killed].ask("STREAM.INFO.skyfill")["state"]["messages"] == 0
    });
    signal(&storing.child, "TERM");
    assert_eq!(storing.wait_for_end(), Some(0), "{}", storing.printed());
    let left = nodes[killed].messages_after("skyfill", 0);
    assert!(left.is_empty(), "{} messages are left", left.len());
    if let Some(difference) = difference(&db.dump(), &reference.dump()) {
        panic!("{difference}");
    }
    let mut verify = skyfill();
    verify.args(["verify", "--all"]);
    run_well(verify.env("BSKY_DB_POSTGRES_URL", &db.url));
}
