//! Sessions with PostgreSQL: what they are set to, which locks they take, and how the server is
//! waited for.

use ledger::locks::{self, Hold, Lock};
use pg::{Connection, Waits};
use postgres::Client;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testbed::*;

/// Starts a command that a test ends or waits for.
fn start(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start skyfill")
}

/// Waits until a query of the test's own database has a row; that row's first column.
fn wait_for(client: &mut Client, sql: &str, child: &mut Child) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(row) = client.query_opt(sql, &[]).expect("look") {
            return row.get(0);
        }
        assert!(
            child.try_wait().expect("wait").is_none(),
            "it ended before: {sql}"
        );
        assert!(Instant::now() < deadline, "never: {sql}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The server process of a skyfill that waits for a lock on a table.
fn waiting_for_a_table(command: &str) -> String {
    format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
           AND application_name = 'skyfill {command}' AND wait_event_type = 'Lock' LIMIT 1"
    )
}

#[test]
fn a_connection_that_is_used_again_has_nothing_of_who_used_it_before() {
    let db = TestDb::empty();
    let process = |client: &mut Client| -> i32 {
        let sql = "SELECT pg_backend_pid()";
        client.query_one(sql, &[]).unwrap().get(0)
    };
    let mut other = db.client();
    let mut connection = Connection::open(&db.url).unwrap();
    let first = process(&mut connection);
    connection
        .batch_execute(
            "SET work_mem = '99MB'; SET skyfill.holder = '7'; SET search_path TO public;
             CREATE TEMPORARY TABLE left_behind (); SELECT pg_advisory_lock(4712)",
        )
        .unwrap();
    drop(connection);
    let free = "SELECT pg_try_advisory_lock(4712)";
    assert!(other.query_one(free, &[]).unwrap().get::<_, bool>(0));
    let mut connection = Connection::open(&db.url).unwrap();
    assert_eq!(process(&mut connection), first);
    let row = connection
        .query_one(
            "SELECT current_setting('work_mem') <> '99MB', coalesce(current_setting('skyfill.holder', true), '') = '',
               current_setting('search_path') = 'pg_catalog, pg_temp', to_regclass('pg_temp.left_behind') IS NULL",
            &[],
        )
        .unwrap();
    for at in 0..row.len() {
        assert!(row.get::<_, bool>(at), "{at}");
    }
    // One that ended while nobody used it is not handed out.
    drop(connection);
    other
        .execute("SELECT pg_terminate_backend($1, 60000)", &[&first])
        .unwrap();
    let mut connection = Connection::open(&db.url).unwrap();
    assert_ne!(process(&mut connection), first);
    connection.close();
}

#[test]
fn a_load_beside_discovery_does_not_wait() {
    let tangle = simnet::Tangle::new(61, 3, 60);
    let (net, db, dir) = (Net::of_tangle(&tangle), TestDb::migrated(), folder());
    let mut discovery = db.client();
    assert!(locks::try_acquire(&mut discovery, Lock::Passes, Hold::Session).unwrap());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    assert!(db.count("record") > 0);
}

#[test]
fn who_waits_for_a_lock_says_for_whom_and_stops_when_told() {
    let (db, dir) = (TestDb::migrated(), folder());
    let mut other = db.client();
    other
        .batch_execute("SET application_name = 'the other one'")
        .unwrap();
    assert!(locks::try_acquire(&mut other, Lock::Probes, Hold::Session).unwrap());
    let mut consumer = skyfill();
    consumer
        .arg("consumer")
        .arg(dir.path().join("s"))
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut child = consumer
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start skyfill");
    let read = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !read().contains("the other one (server process ") {
        assert!(child.try_wait().unwrap().is_none(), "it ended: {}", read());
        assert!(
            Instant::now() < deadline,
            "it does not say what it waits for: {}",
            read()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(4), "{}", read());
}

/// What a role or a database has for defaults is not what skyfill's statements rely on.
#[test]
fn settings_of_the_database_change_nothing() {
    let tangle = simnet::Tangle::new(62, 6, 300);
    let net = Net::of_tangle(&tangle);
    let (odd, plain, dir) = (TestDb::migrated(), TestDb::migrated(), folder());
    let mut client = odd.client();
    let name: String = client
        .query_one("SELECT current_database()", &[])
        .unwrap()
        .get(0);
    for setting in [
        "standard_conforming_strings = off",
        "search_path = nowhere",
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "TimeZone = 'Asia/Tokyo'",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "default_transaction_isolation = 'serializable'",
    ] {
        client
            .batch_execute(&format!("ALTER DATABASE {name} SET {setting}"))
            .unwrap();
    }
    for db in [&odd, &plain] {
        net.load(db, dir.path(), &net.dids, 1, &[]);
        run_well(&mut net.identities(db));
        run_well(&mut finalize(db));
    }
    client
        .batch_execute(&format!("ALTER DATABASE {name} RESET ALL"))
        .unwrap();
    assert_eq!(difference(&odd.dump(), &plain.dump()), None);
}

/// A function of somebody else's in `public` that fits better than PostgreSQL's own is not called.
#[test]
fn functions_in_public_are_not_called() {
    let tangle = simnet::Tangle::new(63, 6, 300);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    db.client()
        .batch_execute(
            "CREATE FUNCTION public.split_part(varchar, varchar, integer) RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
             CREATE FUNCTION public.split_part(varchar, text, integer) RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
             CREATE FUNCTION public.same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
             CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same)",
        )
        .unwrap();
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    run_well(&mut net.identities(&db));
    run_well(&mut finalize(&db));
}

/// A connection that is cut in the middle of a step is made again, and the step is done again.
#[test]
fn identities_and_discovery_wait_for_the_server() {
    let tangle = simnet::Tangle::new(64, 3, 60);
    let (net, db, dir) = (Net::of_tangle(&tangle), TestDb::migrated(), folder());
    net.load(&db, dir.path(), &net.dids, 1, &[]);
    let mut discover = skyfill();
    discover
        .args([
            "discover",
            "--allow-private-hosts",
            "--pds",
            &net.server.url(),
        ])
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    // This PDS lists nothing, so discovery ends with one host that it could not list.
    for (command, name, table, ended) in [
        (
            &mut net.identities(&db),
            "identities",
            "skyfill.identity",
            0,
        ),
        (&mut discover, "discover", "skyfill.listing", 1),
    ] {
        let mut holder = db.client();
        let mut txn = holder.transaction().unwrap();
        txn.batch_execute(&format!("LOCK TABLE {table}")).unwrap();
        let mut child = start(command);
        let mut client = db.client();
        let pid = wait_for(&mut client, &waiting_for_a_table(name), &mut child);
        client
            .execute("SELECT pg_terminate_backend($1)", &[&pid])
            .unwrap();
        txn.rollback().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            told(&output).contains("waiting for the database"),
            "{}",
            told(&output)
        );
        assert_eq!(
            output.status.code(),
            Some(ended),
            "{name}: {}",
            told(&output)
        );
    }
}

/// The leases of a process that was killed are void as soon as its session is gone.
#[test]
fn hosts_of_a_dead_process_are_taken_over_at_once() {
    let tangle = simnet::Tangle::new(65, 3, 60);
    let (net, db, dir) = (Net::of_tangle(&tangle), TestDb::migrated(), folder());
    let mut client = db.client();
    ledger::prepare(&mut client, Waits::SILENT).unwrap();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let host = fetch::hosts::host_of(&net.server.url());
    client
        .execute(
            "INSERT INTO skyfill.host (schema_name, host, lease, lease_until, holder)
             VALUES ('bsky', $1, 0, now() + interval '45 s', 77)",
            &[&host],
        )
        .unwrap();
    let output = run_well(run_load(&db.url).arg(file));
    assert!(
        !told(&output).contains("another skyfill works on"),
        "{}",
        told(&output)
    );
}

#[test]
fn finalize_takes_the_notifications_of_the_loads() {
    let tangle = simnet::Tangle::new(66, 6, 300);
    let (net, db, dir) = (Net::of_tangle(&tangle), TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(
        run_load(&db.url)
            .arg(file)
            .args(["--notifications", "since=2024-06-01"]),
    );
    let before = db.dump();
    let output = finalize(&db)
        .args(["--notifications", "all"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("was loaded with notifications since="),
        "{}",
        told(&output)
    );
    run_well(finalize(&db).args(["--notifications", "since=2024-06-01"]));
    run_well(&mut finalize(&db));
    assert_eq!(difference(&db.dump(), &before), None);
}

/// What is saved in schema `skyfill` is executed later: not if somebody else made it, and not if it
/// is anything else.
#[test]
fn saved_statements_are_executed_only_if_they_are_skyfills_own() {
    let db = TestDb::migrated();
    let mut client = db.client();
    let restore = || {
        let mut command = skyfill();
        command
            .args(["indexes", "restore"])
            .env("BSKY_DB_POSTGRES_URL", &db.url);
        command.output().expect("run skyfill")
    };
    ledger::prepare(&mut client, Waits::SILENT).unwrap();
    for ddl in [
        "CREATE TABLE public.mine ()",
        "CREATE INDEX odd ON bsky.\"like\" USING btree (uri); CREATE TABLE public.mine ()",
        "CREATE INDEX odd ON public.other USING btree (uri)",
    ] {
        client
            .execute(
                "INSERT INTO skyfill.dropped_ddl (schema_name, table_name, name, ddl) VALUES ('bsky', 'like', 'odd', $1)
                 ON CONFLICT (schema_name, name) DO UPDATE SET ddl = excluded.ddl",
                &[&ddl],
            )
            .unwrap();
        let output = restore();
        assert_eq!(output.status.code(), Some(3), "{ddl}: {}", told(&output));
        let mine = "SELECT to_regclass('public.mine') IS NULL";
        assert!(
            client.query_one(mine, &[]).unwrap().get::<_, bool>(0),
            "{ddl}"
        );
    }
    client
        .batch_execute(
            "UPDATE skyfill.dropped_ddl SET ddl = 'CREATE INDEX odd ON bsky.\"like\" USING btree (uri)'",
        )
        .unwrap();
    let role = format!("mallory_{}", std::process::id());
    client
        .batch_execute(&format!(
            "CREATE ROLE {role}; GRANT CREATE ON SCHEMA skyfill TO {role}; ALTER TABLE skyfill.dropped_ddl OWNER TO {role}"
        ))
        .unwrap();
    let output = restore();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("skyfill.dropped_ddl in ") && told(&output).contains(&role),
        "{}",
        told(&output)
    );
    // Nor is a schema's word taken that belongs to somebody else.
    client
        .batch_execute(&format!(
            "ALTER TABLE skyfill.dropped_ddl OWNER TO current_user; ALTER SCHEMA skyfill OWNER TO {role}"
        ))
        .unwrap();
    let output = restore();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("schema skyfill in ") && told(&output).contains(&role),
        "{}",
        told(&output)
    );
    client
        .batch_execute(&format!(
            "ALTER SCHEMA skyfill OWNER TO current_user; DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .unwrap();
    let output = restore();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

/// Forwards connections of a folder to another one, or takes what is sent and forwards nothing.
fn forward(from: &std::path::Path, to: std::path::PathBuf, is_stalled: &Arc<AtomicBool>) {
    let listener = UnixListener::bind(from).unwrap();
    let is_stalled = Arc::clone(is_stalled);
    let copy = |mut from: UnixStream, mut to: UnixStream, is_stalled: Arc<AtomicBool>| {
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                while is_stalled.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(std::net::Shutdown::Both));
        });
    };
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = UnixStream::connect(&to).unwrap();
            let (back, forth) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            copy(near, far, Arc::clone(&is_stalled));
            copy(forth, back, Arc::clone(&is_stalled));
        }
    });
}

/// No connection fails, and nothing goes on: that is said. Then the load ends as if nothing had
/// been.
#[test]
fn a_server_behind_a_proxy_that_stalls_is_named() {
    let net = Net::of_tangle(&simnet::Tangle::new(91, 12, 600));
    let (db, dir) = (TestDb::migrated(), folder());
    let row = db
        .client()
        .query_one("SHOW unix_socket_directories", &[])
        .unwrap();
    let socket = |folder: &std::path::Path| folder.join(".s.PGSQL.5432");
    let (real, between): (String, _) = (row.get(0), dir.path().to_str().unwrap().to_owned());
    let is_stalled = Arc::new(AtomicBool::new(false));
    forward(&socket(dir.path()), socket(real.as_ref()), &is_stalled);
    let url = db.url.replace(&real, &between);
    assert_ne!(url, db.url);
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut run = Watched::start(run_load(&url).arg(&file).args(["--concurrency", "1"]));
    run.wait_for("a fresh load");
    is_stalled.store(true, Ordering::SeqCst);
    run.wait_for("has not answered for ");
    is_stalled.store(false, Ordering::SeqCst);
    assert_eq!(run.wait_for_end(), Some(0), "{}", run.printed());
    assert!(db.count("record") > 0);
}
