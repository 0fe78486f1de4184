//! The life of a private server: made, adopted, killed, started again, stopped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use pgbox::PgBoxError;
use postgres::{Client, NoTls};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// A folder that the unprivileged user can reach, also when the tests run as root.
fn reachable() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn count(url: &str) -> i64 {
    Client::connect(url, NoTls)
        .unwrap()
        .query_one("SELECT count(*) FROM t", &[])
        .unwrap()
        .get(0)
}

#[test]
fn a_server_is_made_adopted_survives_a_kill_and_is_stopped() {
    let dir = reachable();
    let folder = dir.path().join("skyfill-data");
    let first = pgbox::start(&folder).unwrap();
    assert!(
        first
            .notices()
            .iter()
            .any(|n| n.contains("made a PostgreSQL")),
        "{:?}",
        first.notices()
    );
    let mut client = Client::connect(&first.url(), NoTls).unwrap();
    client
        .batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        .unwrap();
    let settings: Vec<String> = ["listen_addresses", "server_encoding", "lc_collate", "fsync"]
        .iter()
        .map(|name| {
            client
                .query_one(&format!("SHOW {name}"), &[])
                .unwrap()
                .get(0)
        })
        .collect();
    assert_eq!(settings, ["", "UTF8", "C", "on"]);

    let second = pgbox::start(&folder).unwrap();
    assert_eq!(
        second.postmaster(),
        first.postmaster(),
        "the live server is adopted"
    );
    assert!(matches!(pgbox::stop(&folder), Err(PgBoxError::InUse)));
    drop(second);

    // kill -9 leaves a stale postmaster.pid, which is PostgreSQL's to judge.
    drop(client);
    let killed = first.postmaster();
    let pid = rustix::process::Pid::from_raw(i32::try_from(killed).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(first);
    assert!(folder.join("pg/postmaster.pid").exists());
    let third = loop {
        // Its backends need a moment to notice that the postmaster is gone.
        match pgbox::start(&folder) {
            Ok(server) if server.postmaster() != killed => break server,
            _ => std::thread::sleep(std::time::Duration::from_millis(200)),
        }
    };
    assert_eq!(count(&third.url()), 1, "what was committed is there");
    drop(third);
    assert!(pgbox::stop(&folder).unwrap());
    assert!(
        !pgbox::stop(&folder).unwrap(),
        "a second stop finds nothing to do"
    );
    assert_eq!(pgbox::status(&folder).unwrap(), None);
}

#[test]
fn a_folder_with_a_long_name_gets_a_short_private_socket() {
    let dir = reachable();
    let folder = dir.path().join("a".repeat(60)).join("b".repeat(60));
    let server = pgbox::start(&folder).unwrap();
    let url = server.url();
    let (_, sockets) = url.split_once("host=").unwrap();
    let sockets = Path::new(sockets.split_once('&').unwrap().0).to_owned();
    assert!(sockets.starts_with("/tmp"), "{}", sockets.display());
    assert_eq!(std::fs::metadata(&sockets).unwrap().mode() & 0o777, 0o700);
    assert!(Client::connect(&server.url(), NoTls).is_ok());
    drop(server);
    assert!(pgbox::stop(&folder).unwrap());
    std::fs::remove_dir_all(sockets).unwrap();
}

#[test]
fn a_cluster_of_another_version_is_refused_by_name() {
    let dir = reachable();
    drop(pgbox::start(dir.path()).unwrap());
    assert!(pgbox::stop(dir.path()).unwrap());
    // Written in place: the file stays the account's.
    std::fs::write(dir.path().join("pg/PG_VERSION"), "9\n").unwrap();
    let Err(error) = pgbox::start(dir.path()) else {
        panic!("started")
    };
    assert!(matches!(error, PgBoxError::Version { .. }), "{error}");
}
