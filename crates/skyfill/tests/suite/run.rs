//! `skyfill run`: the same tables as through producer, consumer and finalize, fresh and merged,
//! whole and in parts, from the network and from an archive.

use simnet::Answer;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use testbed::*;

fn tangle(seed: u64) -> simnet::Tangle {
    simnet::Tangle::new(seed, 9, 900)
}

/// A run of all repos of a network.
fn run_all(db: &TestDb, net: &Net, dir: &Path) -> Command {
    let file = did_file(dir, &net.server.url(), net.dids.iter().map(String::as_str));
    let mut command = run_load(&db.url);
    command.arg(file);
    command
}

/// Runs it; the exit code is 0, and so the proof found nothing.
fn run_and_prove(command: &mut Command) -> serde_json::Value {
    let output = run_well(command);
    let summary = summary(&output);
    assert_eq!(summary["differences"], 0, "{}", told(&output));
    summary
}

fn assert_same(ours: &TestDb, theirs: &TestDb, what: &str) {
    if let Some(difference) = difference(&ours.dump(), &theirs.dump()) {
        panic!("{what}: {difference}");
    }
}

#[test]
fn fresh_and_merged_loads_are_those_of_the_consumer() {
    let tangle = tangle(21);
    let net = Net::of_tangle(&tangle);
    let (reference, dir) = (TestDb::migrated(), folder());
    net.load(&reference, dir.path(), &net.dids, 1, &[]);
    run_well(&mut finalize(&reference));
    let settings: [&[&str]; 3] = [
        &["--mode", "fresh"],
        &["--mode", "merge", "--max-db-connections", "3"],
        &[
            "--memory",
            "128MiB",
            "--threads",
            "3",
            "--max-db-connections",
            "5",
            "--concurrency",
            "3",
        ],
    ];
    for args in settings {
        let db = TestDb::migrated();
        let summary = run_and_prove(run_all(&db, &net, dir.path()).args(args));
        assert_eq!(summary["repos"]["loaded"], net.dids.len());
        assert_same(&db, &reference, &format!("{args:?}"));
        // As they were: every index and constraint.
        assert_eq!(indexes(&db), indexes(&reference), "{args:?}");
        // Again: nothing is fetched but the revs, and nothing changes.
        let requests = net.server.requests();
        let summary = run_and_prove(&mut run_all(&db, &net, dir.path()));
        assert_eq!(summary["unchanged"], net.dids.len());
        assert_eq!(net.server.requests() - requests, net.dids.len() as u64);
        assert_same(&db, &reference, "a second time");
    }
}

/// Definitions of all indexes and constraints.
fn indexes(db: &TestDb) -> Vec<String> {
    db.client()
        .query(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'bsky'
             UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
               WHERE connamespace = 'bsky'::regnamespace ORDER BY 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn a_network_that_changed_ends_as_a_fresh_load_of_its_later_state() {
    for seed in [31, 32] {
        let tangle = tangle(seed);
        let net = Net::of_tangle(&tangle);
        let dir = folder();
        let db = TestDb::migrated();
        run_and_prove(&mut run_all(&db, &net, dir.path()));
        // What repos do not own stays.
        let mut client = db.client();
        client
            .batch_execute(
                "UPDATE bsky.record SET \"takedownRef\" = 'kept' WHERE uri IN (SELECT uri FROM bsky.record ORDER BY uri LIMIT 5);
                 INSERT INTO bsky.post_agg (uri, \"bookmarkCount\") VALUES ('at://did:plc:x/app.bsky.feed.post/y', 3)",
            )
            .unwrap();
        let mut random = simnet::Random::new(seed);
        for did in &net.dids {
            let car = later(&tangle.car(did), did, &mut random);
            net.server.set(did, Answer::Repo(Arc::new(car)));
        }
        run_and_prove(&mut run_all(&db, &net, dir.path()));
        let kept: i64 = client
            .query_one(
                "SELECT count(*) FROM bsky.record WHERE \"takedownRef\" = 'kept'",
                &[],
            )
            .unwrap()
            .get(0);
        assert!(
            (1..=5).contains(&kept),
            "{kept} of 5 records are still there"
        );
        client
            .batch_execute(
                "UPDATE bsky.record SET \"takedownRef\" = NULL; DELETE FROM bsky.post_agg WHERE \"bookmarkCount\" = 3",
            )
            .unwrap();
        let fresh = TestDb::migrated();
        run_and_prove(&mut run_all(&fresh, &net, dir.path()));
        assert_same(&db, &fresh, &format!("seed {seed}"));
        // A PDS that goes back in time is not believed.
        let did = &net.dids[0];
        net.server.set(did, Answer::Repo(Arc::new(tangle.car(did))));
        let output = run_all(&db, &net, dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert_eq!(summary(&output)["repos"]["failed"], 1);
        assert_same(&db, &fresh, "an older rev");
    }
}

#[test]
fn parts_are_left_out_by_choice_and_accounted_for() {
    let tangle = tangle(41);
    let net = Net::of_tangle(&tangle);
    let (whole, part, dir) = (TestDb::migrated(), TestDb::migrated(), folder());
    run_and_prove(&mut run_all(&whole, &net, dir.path()));
    let args = [
        "--collections",
        "app.bsky.feed.post,app.bsky.graph.follow",
        "--notifications",
        "since=2024-06-01",
    ];
    run_and_prove(run_all(&part, &net, dir.path()).args(args));
    let count = |db: &TestDb, sql: &str| -> i64 { db.client().query_one(sql, &[]).unwrap().get(0) };
    for (table, kept) in [
        ("post", true),
        ("follow", true),
        ("like", false),
        ("repost", false),
    ] {
        let sql = format!("SELECT count(*) FROM bsky.\"{table}\"");
        assert_eq!(
            count(&part, &sql),
            if kept { count(&whole, &sql) } else { 0 },
            "{table}"
        );
    }
    let later = "SELECT count(*) FROM bsky.notification WHERE reason IN ('follow', 'mention')";
    let wanted = count(&whole, &format!("{later} AND \"sortAt\" >= '2024-06-01'"));
    assert_eq!(count(&part, later), wanted);
    assert!(wanted > 0 && wanted < count(&whole, later));
    // What is left out would count as gone: a merge takes what was taken before.
    let before = part.dump();
    run_and_prove(&mut run_all(&part, &net, dir.path()));
    assert_eq!(difference(&part.dump(), &before), None);
    let output = run_all(&part, &net, dir.path())
        .args(["--notifications", "all"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("a merge cannot use others"),
        "{}",
        told(&output)
    );
    assert_eq!(difference(&part.dump(), &before), None);
    // What was refused has opened nothing.
    let output = run_well(run_load(&part.url).args(args));
    assert!(
        told(&output).contains("nothing is pending"),
        "{}",
        told(&output)
    );
    let none = TestDb::migrated();
    run_and_prove(run_all(&none, &net, dir.path()).args(["--notifications", "none"]));
    assert_eq!(count(&none, "SELECT count(*) FROM bsky.notification"), 0);
    let status = run_well(
        skyfill()
            .args(["status", "--json"])
            .env("BSKY_DB_POSTGRES_URL", &part.url),
    );
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        status["run"]["notifications"],
        "since=2024-06-01T00:00:00.000Z"
    );
    assert_eq!(status["run"]["collections"][0], "app.bsky.feed.post");
}

#[test]
fn a_second_load_needs_no_network() {
    let tangle = tangle(51);
    let net = Net::of_tangle(&tangle);
    let (first, dir) = (TestDb::migrated(), folder());
    let cars = dir.path().join("cars");
    run_and_prove(
        run_all(&first, &net, dir.path())
            .arg("--keep-cars")
            .arg(&cars),
    );
    let requests = net.server.requests();
    let second = TestDb::migrated();
    run_and_prove(run_load(&second.url).arg("--from-cars").arg(&cars));
    assert_same(&second, &first, "from the archive");
    // Plain files, too.
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    for (number, did) in net.dids.iter().enumerate() {
        fs::write(plain.join(format!("{number}.car")), tangle.car(did)).unwrap();
    }
    let third = TestDb::migrated();
    run_and_prove(run_load(&third.url).arg("--from-cars").arg(&plain));
    assert_same(&third, &first, "from files");
    // Killed when all was loaded, it continues with what is left.
    let killed = TestDb::migrated();
    let output = run_load(&killed.url)
        .arg("--from-cars")
        .arg(&cars)
        .env("SKYFILL_FAILPOINT", "phase")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
    let output = run_load(&killed.url).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        !told(&output).contains("again: what is stored"),
        "{}",
        told(&output)
    );
    assert_same(&killed, &first, "from the archive, killed");
    assert_eq!(net.server.requests(), requests);
    // A torn archive costs the repo that is torn.
    let torn = cars.join("000000.cars.zst");
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() - 10]).unwrap();
    let fourth = TestDb::migrated();
    let output = run_load(&fourth.url)
        .arg("--from-cars")
        .arg(&cars)
        .output()
        .unwrap();
    assert!(
        told(&output).contains("is torn: the CAR of did:"),
        "{}",
        told(&output)
    );
    assert_eq!(summary(&output)["repos"]["loaded"], net.dids.len() - 1);
    assert_eq!(summary(&output)["differences"], 0);
}

/// A repo that fills several chunks, beside small ones, in little memory.
#[test]
fn a_large_repo_goes_through_in_pieces() {
    let population = simnet::Population::new(3, 4, 60_000);
    let cars =
        (0..population.len()).map(|account| (population.did(account), population.car(account)));
    let mut net = Net::of_cars(cars);
    let did = "did:plc:large".to_owned();
    let mut records = Vec::new();
    for account in 0..4 {
        for (number, (key, bytes)) in population.records(account).into_iter().enumerate() {
            let collection = key.split('/').next().unwrap().to_owned();
            if !collection.ends_with("profile") {
                let tid = atrepo::syntax::tid(
                    1_600_000_000_000_000 + number as u64 * 1000 + account as u64,
                    1,
                );
                records.push((format!("{collection}/{tid}"), bytes));
            }
        }
    }
    let car = simnet::build_repo(&did, "3lzfcijpj2z2a", records);
    assert!(car.len() > 12 << 20, "{} bytes", car.len());
    net.server.set(&did, Answer::Repo(Arc::new(car)));
    net.dids.push(did);
    let dir = folder();
    let mut dumps = Vec::new();
    for mode in ["fresh", "merge"] {
        let db = TestDb::migrated();
        run_and_prove(run_all(&db, &net, dir.path()).args([
            "--mode",
            mode,
            "--memory",
            "128MiB",
            "--concurrency",
            "64",
        ]));
        dumps.push(db.dump());
    }
    assert_eq!(difference(&dumps[0], &dumps[1]), None);
}

#[test]
fn two_runs_at_once_and_a_did_twice() {
    let tangle = tangle(61);
    let net = Net::of_tangle(&tangle);
    let (one, dir) = (TestDb::migrated(), folder());
    run_and_prove(&mut run_all(&one, &net, dir.path()));
    let db = TestDb::migrated();
    let twice: Vec<&str> = net
        .dids
        .iter()
        .chain(&net.dids)
        .map(String::as_str)
        .collect();
    let file = did_file(dir.path(), &net.server.url(), twice);
    let start = || {
        run_load(&db.url)
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let runs = [start(), start(), start()];
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    assert_same(&db, &one, "three at once");
}

/// Repos that are added after a fresh load, before its indexes are made or later, are loaded, too.
#[test]
fn more_repos_before_the_first_are_done() {
    let tangle = tangle(66);
    let net = Net::of_tangle(&tangle);
    let (reference, dir) = (TestDb::migrated(), folder());
    run_and_prove(&mut run_all(&reference, &net, dir.path()));
    for times in [1, 2, 4, 6] {
        let db = TestDb::migrated();
        let half = net.dids[..4].iter().map(String::as_str);
        let file = did_file(dir.path(), &net.server.url(), half);
        let output = run_load(&db.url)
            .arg(&file)
            .env("SKYFILL_FAILPOINT", format!("phase={times}"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), None, "{}", told(&output));
        let summary = run_and_prove(&mut run_all(&db, &net, dir.path()));
        assert_eq!(summary["repos"]["loaded"], net.dids.len());
        assert_same(&db, &reference, &format!("ended at phase {times}"));
        assert_eq!(indexes(&db), indexes(&reference));
    }
}

/// Tables that somebody emptied are filled again with all that the ledger knows.
#[test]
fn emptied_tables_are_filled_again() {
    let net = Net::of_tangle(&tangle(67));
    let (db, dir) = (TestDb::migrated(), folder());
    run_and_prove(&mut run_all(&db, &net, dir.path()));
    let good = db.dump();
    let tables: Vec<String> = appview::table::ALL
        .iter()
        .map(|table| format!("bsky.\"{}\"", table.name))
        .collect();
    db.client()
        .batch_execute(&format!("TRUNCATE {}", tables.join(", ")))
        .unwrap();
    let one = did_file(dir.path(), &net.server.url(), [net.dids[0].as_str()]);
    let summary = run_and_prove(run_load(&db.url).arg(one));
    assert_eq!(summary["repos"]["loaded"], net.dids.len());
    assert_eq!(difference(&db.dump(), &good), None);
}

#[test]
fn a_foreign_row_that_breaks_a_constraint_is_named() {
    let tangle = tangle(71);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    // Ends when all is loaded, before indexes are made again.
    let output = run_all(&db, &net, dir.path())
        .env("SKYFILL_FAILPOINT", "phase")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
    let dropped = skyfill()
        .args(["indexes", "status"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(dropped.status.code(), Some(1));
    let mut client = db.client();
    client
        .batch_execute("INSERT INTO bsky.follow (uri, cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\")
          SELECT 'at://foreign', cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\" FROM bsky.follow LIMIT 1")
        .unwrap();
    let output = run_load(&db.url).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    for text in [
        "follow_unique_subject on follow",
        "is duplicated",
        "hint: a row that skyfill did not write",
    ] {
        assert!(told(&output).contains(text), "{text}: {}", told(&output));
    }
    client
        .batch_execute("DELETE FROM bsky.follow WHERE uri = 'at://foreign'")
        .unwrap();
    run_and_prove(&mut run_load(&db.url));
}

#[test]
fn what_cannot_work_says_so() {
    let (db, dir) = (TestDb::migrated(), folder());
    let output = run_load(&db.url).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("hint: say what to load"),
        "{}",
        told(&output)
    );
    let net = Net::of_tangle(&tangle(81));
    // Rows are there.
    let mut client = db.client();
    client
        .batch_execute("INSERT INTO bsky.quote VALUES ('a', 'b', 'c', 'd', 'e', 'f')")
        .unwrap();
    let output = run_all(&db, &net, dir.path())
        .args(["--mode", "fresh"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("table quote has rows"),
        "{}",
        told(&output)
    );
    client.batch_execute("TRUNCATE bsky.quote").unwrap();
    // Somebody reads.
    let mut reader = db.client();
    let mut held = reader.transaction().unwrap();
    held.batch_execute("SELECT * FROM bsky.quote").unwrap();
    let output = run_all(&db, &net, dir.path())
        .args(["--mode", "fresh"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("another session holds the tables"),
        "{}",
        told(&output)
    );
    drop(held);
    // A user who may write but does not own.
    client
        .batch_execute(
            "DROP ROLE IF EXISTS skyfill_guest; CREATE ROLE skyfill_guest LOGIN;
             GRANT USAGE ON SCHEMA bsky TO skyfill_guest; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bsky TO skyfill_guest;
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA bsky TO skyfill_guest;",
        )
        .unwrap();
    let guest = db
        .url
        .replacen("skyfill@", "skyfill_guest@", 1)
        .replace("user=skyfill", "user=skyfill_guest");
    assert_ne!(guest, db.url, "the URL names its user");
    let output = run_load(&guest)
        .arg(did_file(
            dir.path(),
            &net.server.url(),
            net.dids.iter().map(String::as_str),
        ))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("permission denied"),
        "{}",
        told(&output)
    );
    assert!(told(&output).contains("hint: "), "{}", told(&output));
    client
        .batch_execute("DROP OWNED BY skyfill_guest; DROP ROLE skyfill_guest")
        .unwrap();
}

/// A root without /tmp, such as that of a container that holds the static binary alone.
#[test]
fn a_named_spool_replaces_the_temporary_folder() {
    let net = Net::of_tangle(&simnet::Tangle::new(51, 4, 100));
    let (db, dir) = (TestDb::migrated(), folder());
    let url = net.server.url();
    let file = did_file(dir.path(), &url, net.dids.iter().map(String::as_str));
    let load = |args: &[&str]| {
        let mut run = run_load(&db.url);
        run.arg(&file).args(args);
        run.env("TMPDIR", dir.path().join("missing"));
        run.output().unwrap()
    };
    let output = load(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("--spool-dir"), "{}", told(&output));
    let output = load(&["--spool-dir", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}
