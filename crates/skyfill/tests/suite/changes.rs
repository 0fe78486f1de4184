//! After the first load, derived rows follow what changed: whichever way rows come into the tables,
//! whole, in thirds or by changes in any order, the tables end the same.

use simnet::Answer;
use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use testbed::*;

/// A step of a network from its earlier to its later state.
enum Step {
    /// The repo becomes this one.
    Repo(Vec<u8>),
    /// The host says this of the account.
    Says(&'static str),
}

/// A network that changes: two knotted ones side by side.
struct World {
    net: Net,
    random: simnet::Random,
    earlier: BTreeMap<String, Vec<u8>>,
    /// The steps of each account, in their order.
    steps: Vec<(String, Vec<Step>)>,
}

impl World {
    fn new(seeds: [u64; 2]) -> Self {
        let mut random = simnet::Random::new(seeds[0]);
        let mut earlier = BTreeMap::new();
        for seed in seeds {
            let tangle = simnet::Tangle::knotted(seed, 6, 260);
            for did in tangle.dids() {
                earlier.insert(did.to_owned(), tangle.car(did));
            }
        }
        let net = Net::of_cars(earlier.clone());
        let mut steps = Vec::new();
        for (at, did) in net.dids.iter().enumerate() {
            let first = later(&earlier[did], did, &mut random);
            let second = later(&first, did, &mut random);
            steps.push((
                did.clone(),
                match at % 6 {
                    // The rows of an account that is away stay, and it comes back.
                    1 => vec![
                        Step::Repo(first),
                        Step::Says("RepoDeactivated"),
                        Step::Repo(second),
                    ],
                    2 => vec![Step::Repo(first), Step::Says("RepoNotFound")],
                    3 => vec![],
                    4 => vec![Step::Repo(first)],
                    _ => vec![Step::Repo(first), Step::Repo(second)],
                },
            ));
        }
        Self {
            net,
            random,
            earlier,
            steps,
        }
    }

    fn serve(&self, did: &str, step: &Step) {
        let answer = match step {
            Step::Repo(car) => Answer::Repo(Arc::new(car.clone())),
            Step::Says(word) => Answer::error(400, word),
        };
        self.net.server.set(did, answer);
    }

    fn serve_earlier(&self) {
        self.serve_handles(false);
        for (did, car) in &self.earlier {
            self.serve(did, &Step::Repo(car.clone()));
        }
    }

    /// Documents and handles: later, every two accounts have changed theirs for each other's, and
    /// some of those lead nowhere.
    fn serve_handles(&self, is_later: bool) {
        for (at, did) in self.net.dids.iter().enumerate() {
            let handle = format!("h{}.test", if is_later { at ^ 1 } else { at });
            let document = simnet::document(did, &handle, &self.net.server.url());
            self.net.set_document(did, &document);
            match is_later && at % 5 == 4 {
                false => self.net.set_handle(&handle, did),
                true => self
                    .net
                    .server
                    .set(&format!("handle {handle}"), Answer::error(404, "NotFound")),
            }
        }
    }

    /// Looks all accounts up.
    fn look_up(&self, db: &TestDb) {
        run_well(self.net.identities(db).arg("--recheck"));
    }

    fn serve_later(&self) {
        self.serve_handles(true);
        for (did, steps) in &self.steps {
            if let Some(last) = steps.last() {
                self.serve(did, last);
            }
        }
    }

    /// A run of these accounts, with what is derived from their rows.
    fn run<'d>(&self, db: &TestDb, dids: impl IntoIterator<Item = &'d str>) -> Output {
        let dir = folder();
        let file = did_file(dir.path(), &self.net.server.url(), dids);
        let mut command = run_load(&db.url);
        command.args(["--no-verify", "--accept-deletions"]);
        command.args(["--plc-url", &self.net.server.url()]);
        let output = command.arg(file).output().unwrap();
        // 1 says that an account is away.
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            told(&output)
        );
        output
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for at in (1..items.len()).rev() {
            items.swap(at, self.random.index(at + 1));
        }
        items
    }
}

fn all(net: &Net) -> impl Iterator<Item = &str> {
    net.dids.iter().map(String::as_str)
}

fn assert_same(ours: &TestDb, theirs: &BTreeMap<String, Vec<String>>, what: &str) {
    if let Some(difference) = difference(&ours.dump(), theirs) {
        panic!("{what}: {difference}");
    }
}

/// What finalize keeps for the next time is not empty: the networks ask for it.
fn assert_kept(db: &TestDb) {
    let mut client = db.client();
    for table in ["cycle", "stray", "gated", "list", "second", "quoted"] {
        let sql = format!("SELECT count(*) FROM skyfill.derived_{table}");
        let rows: i64 = client.query_one(&sql, &[]).unwrap().get(0);
        assert!(rows > 0, "derived_{table} is empty");
    }
}

/// All three ways, which end with the rows that a whole load of the later state leaves.
fn three_ways(seeds: [u64; 2]) {
    let mut world = World::new(seeds);
    world.serve_later();
    let whole = TestDb::migrated();
    world.run(&whole, all(&world.net));
    world.look_up(&whole);
    let wanted = whole.dump();
    for table in [
        "actor",
        "post_agg",
        "profile_agg",
        "notification",
        "thread_gate",
    ] {
        assert!(!wanted[table].is_empty(), "{table} is empty");
    }
    // In thirds, with finalize in between.
    let thirds = TestDb::migrated();
    let dids = world.net.dids.clone();
    let dids = world.shuffled(dids);
    for (at, third) in dids.chunks(dids.len().div_ceil(3)).enumerate() {
        let output = world.run(&thirds, third.iter().map(String::as_str));
        assert_eq!(
            told(&output).contains("computing what depends on"),
            at > 0,
            "{}",
            told(&output)
        );
    }
    world.look_up(&thirds);
    assert_same(&thirds, &wanted, &format!("{seeds:?} in thirds"));
    // By changes, in two orders.
    for order in 0..2 {
        world.serve_earlier();
        let changed = TestDb::migrated();
        world.run(&changed, all(&world.net));
        if order == 0 {
            world.look_up(&changed);
        }
        let turns: Vec<usize> = (0..world.steps.len())
            .flat_map(|account| std::iter::repeat_n(account, world.steps[account].1.len()))
            .collect();
        let mut turns = world.shuffled(turns);
        let mut next = vec![0; world.steps.len()];
        while !turns.is_empty() {
            let size = (1 + world.random.index(7)).min(turns.len());
            let mut batch = Vec::new();
            for account in turns.drain(..size) {
                let (did, steps) = &world.steps[account];
                world.serve(did, &steps[next[account]]);
                next[account] += 1;
                batch.push(did.clone());
            }
            batch.sort();
            batch.dedup();
            world.run(&changed, batch.iter().map(String::as_str));
        }
        world.serve_handles(true);
        world.look_up(&changed);
        assert_same(&changed, &wanted, &format!("{seeds:?}, order {order}"));
        assert_kept(&changed);
        run_well(finalize(&changed).arg("--restart"));
        assert_same(
            &changed,
            &wanted,
            &format!("{seeds:?}, order {order}, anew"),
        );
    }
}

/// Four seeds; ten with `make chaos`, which sets how many kills it wants.
#[test]
fn three_ways_to_the_same_tables() {
    let is_long = std::env::var_os("SKYFILL_CHAOS_KILLS").is_some();
    let of_threads: [&[u64]; 2] = if is_long {
        [&[1, 3, 9], &[5, 7]]
    } else {
        [&[1], &[5]]
    };
    std::thread::scope(|scope| {
        for seeds in of_threads {
            scope.spawn(move || {
                for seed in seeds {
                    three_ways([seed * 100, seed * 100 + 1]);
                }
            });
        }
    });
}

/// Ends at each slice of the changes, and goes on: what is added is added once. The first one ends
/// before its commit, those of few posts after theirs.
#[test]
fn killed_in_each_slice_of_the_changes() {
    let mut world = World::new([401, 402]);
    world.serve_earlier();
    let db = TestDb::migrated();
    world.run(&db, all(&world.net));
    let stages = finalize::Extent::Changes.stages().len();
    let mut cars = world.earlier.clone();
    for slice in 1..=stages {
        let did = world.net.dids[slice % world.net.dids.len()].clone();
        let car = later(&cars[&did], &did, &mut world.random);
        world.serve(&did, &Step::Repo(car.clone()));
        cars.insert(did.clone(), car);
        let dir = folder();
        let file = did_file(dir.path(), &world.net.server.url(), [did.as_str()]);
        let output = run_load(&db.url)
            .arg(file)
            .arg("--no-verify")
            .env("SKYFILL_FAILPOINT", format!("slice={slice}"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), None, "{slice}: {}", told(&output));
        let output = run_well(run_load(&db.url).arg("--no-verify"));
        assert!(
            told(&output).contains("continuing where the last run stopped"),
            "{slice}: {}",
            told(&output)
        );
    }
    let whole = TestDb::migrated();
    world.run(&whole, all(&world.net));
    assert_same(&db, &whole.dump(), "after all kills");
}

/// Whoever ends the server process in a stage, the stage was not done, and is done again.
#[test]
fn a_server_process_that_ends_in_a_stage_takes_back_that_stage() {
    let mut world = World::new([421, 422]);
    world.serve_earlier();
    let db = TestDb::migrated();
    world.run(&db, all(&world.net));
    let mut client = db.client();
    client
        .batch_execute(
            "CREATE FUNCTION skyfill.pause() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.done THEN PERFORM pg_advisory_xact_lock_shared(4713); END IF; RETURN NEW; END $$;
             CREATE TRIGGER pause BEFORE UPDATE ON skyfill.finalize_slice FOR EACH ROW
               WHEN (NEW.stage IN ('spread', 'flags', 'post-differences')) EXECUTE FUNCTION skyfill.pause();
             SELECT pg_advisory_lock(4713)",
        )
        .unwrap();
    let did = world.net.dids[0].clone();
    let car = later(&world.earlier[&did], &did, &mut world.random);
    world.serve(&did, &Step::Repo(car));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(&db, [did.as_str()]));
        let paused = "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 4713 AND NOT l.granted";
        // The first of the stages, three times.
        for _ in 0..3 {
            wait_until("a stage pauses", || {
                assert!(!running.is_finished(), "it does not pause");
                let Some(row) = client.query_opt(paused, &[]).unwrap() else {
                    return false;
                };
                let ends = "SELECT pg_terminate_backend($1, 60000)";
                client.execute(ends, &[&row.get::<_, i32>(0)]).unwrap();
                true
            });
        }
        client
            .batch_execute("SELECT pg_advisory_unlock(4713)")
            .unwrap();
        running.join().unwrap();
    });
    let whole = TestDb::migrated();
    world.run(&whole, all(&world.net));
    assert_same(&db, &whole.dump(), "after all of it");
}

/// Work tables that another version of skyfill made, or with rows of who was interrupted, change
/// nothing.
#[test]
fn what_was_left_in_work_tables_is_nobodys() {
    let mut world = World::new([411, 412]);
    world.serve_earlier();
    let db = TestDb::migrated();
    world.run(&db, all(&world.net));
    let mut client = db.client();
    let of_others = [
        "INSERT INTO skyfill.finalize_bad (uri) SELECT uri FROM bsky.post;
         INSERT INTO skyfill.finalize_disabled SELECT uri FROM bsky.post;
         INSERT INTO skyfill.finalize_difference SELECT 'reply', uri, 5 FROM bsky.post;
         INSERT INTO skyfill.finalize_requote SELECT uri FROM bsky.post",
        "ALTER TABLE skyfill.finalize_gate DROP COLUMN is_long;
         COMMENT ON TABLE skyfill.finalize_change IS 'another version'",
        "DROP TABLE skyfill.finalize_change",
        "DROP FUNCTION skyfill.readable",
        "DROP TABLE skyfill.finalize_shut",
    ];
    for (at, left) in of_others.iter().enumerate() {
        client.batch_execute(left).unwrap();
        let did = world.net.dids[at].clone();
        let car = later(&world.earlier[&did], &did, &mut world.random);
        world.serve(&did, &Step::Repo(car));
        let output = world.run(&db, [did.as_str()]);
        assert!(
            told(&output).contains("computing what depends on"),
            "{left}: {}",
            told(&output)
        );
    }
    let whole = TestDb::migrated();
    world.run(&whole, all(&world.net));
    assert_same(&db, &whole.dump(), "with what was left");
}

/// Deletes an account while a slice that sees its posts writes their notifications; the load is
/// where it is to be when `is_there` says so.
fn deleted_beside_a_slice(restart: bool, is_there: &str) {
    let world = World::new([501, 502]);
    world.serve_earlier();
    let db = TestDb::migrated();
    world.run(&db, all(&world.net));
    let mut client = db.client();
    // The slice has something to do.
    let told = "DELETE FROM bsky.notification WHERE reason IN ('quote', 'reply') RETURNING author, \"recordUri\"";
    let told = client.query(told, &[]).unwrap();
    let did: String = told.first().expect("a quote or reply").get(0);
    for row in &told {
        let note = "INSERT INTO skyfill.change (schema_name, kind, key, difference) VALUES ('bsky', 'record', $1, 0)";
        client.execute(note, &[&row.get::<_, String>(1)]).unwrap();
    }
    client
        .batch_execute(
            "CREATE FUNCTION skyfill.pause() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.stage = 'notifications' AND NEW.done THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF; RETURN NEW; END $$;
             CREATE TRIGGER pause BEFORE UPDATE ON skyfill.finalize_slice FOR EACH ROW EXECUTE FUNCTION skyfill.pause();
             SELECT pg_advisory_lock(4711)",
        )
        .unwrap();
    let mut computes = finalize(&db);
    if restart {
        computes.arg("--restart");
    }
    let computing = Watched::start(&mut computes);
    let asks = |client: &mut postgres::Client, what: &str| -> bool {
        let sql = format!("SELECT EXISTS ({what})");
        client.query_one(&sql, &[]).unwrap().get(0)
    };
    // Another test may pause in its own database, with the same key.
    let pauses = "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 4711 AND NOT l.granted";
    wait_until("the slice pauses", || asks(&mut client, pauses));
    world.serve(&did, &Step::Says("RepoNotFound"));
    let printed = std::thread::scope(|scope| {
        let loading = scope.spawn(|| world.run(&db, [did.as_str()]));
        let is_there = is_there.replace("$DID", &did);
        // Whatever happens, the slice goes on: else nobody would come to an end.
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the account's rows are deleted", || {
                asks(&mut client, &is_there) || loading.is_finished()
            });
        }));
        client
            .batch_execute("SELECT pg_advisory_unlock(4711)")
            .unwrap();
        let printed = testbed::told(&loading.join().unwrap());
        assert!(waited.is_ok(), "{printed}\n{}", computing.printed());
        printed
    });
    let (code, computed) = computing.end();
    // What it computed of everything is out of date.
    assert_eq!(code, Some(i32::from(restart)), "{computed}");
    run_well(&mut finalize(&db));
    let left = format!("SELECT FROM bsky.notification WHERE author = '{did}'");
    assert!(!asks(&mut client, &left), "{printed}\n{computed}");
    // And they are those of whoever computes everything now.
    let notifications = db.dump()["notification"].clone();
    run_well(finalize(&db).arg("--restart"));
    assert_eq!(db.dump()["notification"], notifications);
}

#[test]
fn a_post_that_is_deleted_while_its_notifications_are_written_leaves_none() {
    deleted_beside_a_slice(
        false,
        "SELECT WHERE NOT EXISTS (SELECT FROM bsky.post WHERE creator = '$DID')",
    );
}

#[test]
fn nor_does_one_that_is_deleted_while_everything_is_computed() {
    // Its load waits for the slice, to say that it is out of date.
    deleted_beside_a_slice(
        true,
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'skyfill run'
           AND wait_event_type = 'Lock' AND wait_event <> 'advisory'",
    );
}

/// A slice that still saw the reply wrote it, while a load made the post one that replies to
/// nothing.
#[test]
fn a_notification_of_a_post_that_replies_to_nothing_any_more_goes() {
    let (_population, net, db) = loaded(20);
    let mut client = db.client();
    let told = client.execute(
        "WITH plain AS (
           SELECT uri, cid, creator FROM bsky.post p
           WHERE \"replyParent\" IS NULL AND NOT EXISTS (SELECT FROM bsky.quote q WHERE q.uri = p.uri)
           ORDER BY uri LIMIT 1
         ), noted AS (
           INSERT INTO skyfill.change (schema_name, kind, key, difference) SELECT 'bsky', 'record', uri, 0 FROM plain)
         INSERT INTO bsky.notification (did, \"recordUri\", \"recordCid\", author, reason, \"reasonSubject\", \"sortAt\")
         SELECT 'did:plc:told', uri, cid, creator, 'reply', uri, '' FROM plain",
        &[],
    );
    assert_eq!(told.unwrap(), 1);
    let mut finalize = skyfill();
    run_well(
        finalize
            .arg("finalize")
            .env("BSKY_DB_POSTGRES_URL", &db.url),
    );
    let left = "SELECT count(*) FROM bsky.notification WHERE did = 'did:plc:told'";
    let left: i64 = client.query_one(left, &[]).unwrap().get(0);
    assert_eq!(left, 0);
    drop(net);
}

/// Beside a stream, something is noted at any time: what is noted meanwhile is left for the next
/// computation, or none would end.
#[test]
fn a_computation_that_is_to_be_done_once_leaves_what_is_noted_meanwhile() {
    let (_population, net, db) = loaded(10);
    let note = || {
        let noted = db.client().execute(
            "INSERT INTO skyfill.change (schema_name, kind, key, difference)
             SELECT 'bsky', 'record', uri, 0 FROM bsky.post ORDER BY uri LIMIT 1",
            &[],
        );
        assert_eq!(noted.unwrap(), 1);
    };
    let left = || -> i64 {
        let sql = "SELECT count(*) FROM skyfill.change WHERE kind = 'record'";
        db.client().query_one(sql, &[]).unwrap().get(0)
    };
    let computations = std::sync::atomic::AtomicUsize::new(0);
    let compute = |is_once| {
        let report = |report: finalize::Report<'_>| {
            if let finalize::Report::Stage { number: (1, _), .. } = report
                && computations.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3
            {
                note();
            }
        };
        let finalize = finalize::Finalize {
            url: db.url.clone(),
            schema: "bsky".to_owned(),
            connections: 2,
            slice_rows: 200_000,
            restart: false,
            is_beside: false,
            is_once,
            notifications: load::Notifications::All,
            report: &report,
            say: &|_| {},
            stop: &|| false,
        };
        assert_eq!(finalize.run().unwrap(), finalize::FinalizeEnd::Done);
        computations.load(std::sync::atomic::Ordering::SeqCst)
    };
    note();
    assert_eq!((compute(true), left()), (1, 1));
    // Until nothing is noted any more.
    assert_eq!((compute(false), left()), (4, 0));
    drop(net);
}

/// Rows that were read from the AppView's tables.
fn rows_read(db: &TestDb) -> i64 {
    let mut client = db.client();
    let others = "SELECT count(*) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    // A session reports what it read at its end.
    wait_until("the end of all sessions", || {
        client.query_one(others, &[]).unwrap().get::<_, i64>(0) == 0
    });
    let sql = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables WHERE schemaname = 'bsky'";
    client.query_one(sql, &[]).unwrap().get(0)
}

/// A loaded network of so many repos.
fn loaded(repos: usize) -> (simnet::Population, Net, TestDb) {
    let population = simnet::Population::new(3, repos, repos * 100);
    let cars = (0..repos).map(|account| (population.did(account), population.car(account)));
    let net = Net::of_cars(cars);
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(dir.path(), &net.server.url(), all(&net));
    run_well(run_load(&db.url).arg(&file));
    (population, net, db)
}

fn rows_of(db: &TestDb) -> i64 {
    appview::table::ALL
        .iter()
        .map(|table| db.count(table.name))
        .sum()
}

/// Rows that are read when one of so many repos changes, and the rows that there are.
fn cost_of_a_change(repos: usize) -> (i64, i64) {
    let (population, net, db) = loaded(repos);
    let dir = folder();
    let rows = rows_of(&db);
    // One of middling size.
    let account = (0..repos)
        .min_by_key(|account| population.records(*account).len().abs_diff(100))
        .unwrap();
    let (did, car) = (population.did(account), population.car(account));
    let mut random = simnet::Random::new(9);
    net.server
        .set(&did, Answer::Repo(Arc::new(later(&car, &did, &mut random))));
    let before = rows_read(&db);
    let one = did_file(dir.path(), &net.server.url(), [did.as_str()]);
    let output = run_well(run_load(&db.url).arg(one));
    assert!(
        told(&output).contains("computing what depends on"),
        "{}",
        told(&output)
    );
    (rows_read(&db) - before, rows)
}

/// Rows that are read to find what was changed in one of so many repos, when that one is compared;
/// when it is repaired, and the rows that there are.
fn cost_of_a_comparison(repos: usize) -> [i64; 3] {
    let (population, net, db) = loaded(repos);
    let rows = rows_of(&db);
    let good = db.dump();
    let account = (0..repos)
        .min_by_key(|account| population.records(*account).len().abs_diff(100))
        .unwrap();
    let did = population.did(account);
    // In place: of rows that others insert or delete, the server's counts tell, and then everything
    // is computed.
    let damage = "UPDATE bsky.\"like\" SET \"subjectCid\" = 'other' WHERE uri = (SELECT uri FROM bsky.\"like\" WHERE creator = $1 LIMIT 1)";
    assert_eq!(db.client().execute(damage, &[&did]).unwrap(), 1);
    let before = rows_read(&db);
    let found = skyfill()
        .args(["verify", "--repair", "--did", &did])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    let compared = rows_read(&db) - before;
    run_well(run_load(&db.url).arg("--no-verify"));
    let repaired = rows_read(&db) - before - compared;
    eprintln!("one of {repos} repos: {compared} rows read to compare it, {repaired} to repair it");
    assert_eq!(difference(&db.dump(), &good), None);
    drop(net);
    [compared, repaired, rows]
}

#[test]
fn the_cost_of_comparing_and_repairing_a_repo_is_that_of_the_repo() {
    let [compared, repaired, rows] = cost_of_a_comparison(60);
    let [compared_of_large, repaired_of_large, rows_of_large] = cost_of_a_comparison(600);
    assert!(rows_of_large > 8 * rows);
    for (large, small) in [(compared_of_large, compared), (repaired_of_large, repaired)] {
        assert!(large <= 2 * small, "{large} rows read, {small} of a tenth");
    }
}

#[test]
fn the_cost_follows_the_change() {
    let (small, rows) = cost_of_a_change(60);
    eprintln!("one repo of 60: {small} rows read, of {rows}");
    let (large, rows_of_large) = cost_of_a_change(600);
    eprintln!("one repo of 600: {large} rows read, of {rows_of_large}");
    assert!(rows_of_large > 8 * rows);
    assert!(small <= rows / 4, "{small} rows read, of {rows}");
    assert!(large <= 2 * small, "{large} rows read, {small} of a tenth");
}

/// Nobody analyzes the tables, which would let the server forget what it counted.
pub(crate) fn without_autovacuum(db: &TestDb) {
    db.client()
        .batch_execute(
            "DO $$ DECLARE t regclass; BEGIN
               FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'bsky'::regnamespace AND relkind = 'r' LOOP
                 EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t);
               END LOOP;
             END $$",
        )
        .unwrap();
}

#[test]
fn a_transaction_that_was_rolled_back_is_no_foreign_writer() {
    let tangle = simnet::Tangle::knotted(78, 6, 300);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    without_autovacuum(&db);
    let file = did_file(dir.path(), &net.server.url(), all(&net));
    run_well(run_load(&db.url).arg(&file).arg("--no-verify"));
    let mut client = db.client();
    let mut deleted = || -> i64 {
        let sql = "SELECT pg_stat_get_tuples_deleted('bsky.\"like\"'::regclass)";
        client.query_one(sql, &[]).unwrap().get(0)
    };
    let before = deleted();
    // As a deadlock or a kill takes back what a load wrote.
    db.client()
        .batch_execute(
            "BEGIN; DELETE FROM bsky.\"like\"; ROLLBACK; SELECT pg_stat_force_next_flush()",
        )
        .unwrap();
    wait_until("the server's count of it", || deleted() > before);
    let said = told(&run_well(&mut finalize(&db)));
    assert!(
        said.contains("nothing changed since the last time"),
        "{said}"
    );
    // What is not taken back is found out.
    db.client()
        .batch_execute("DELETE FROM bsky.\"like\" WHERE uri = (SELECT min(uri) FROM bsky.\"like\")")
        .unwrap();
    wait_until("the server's count of a foreign writer", || {
        let said = told(&run_well(&mut finalize(&db)));
        said.contains("another program wrote to the tables")
    });
}

#[test]
fn a_foreign_writer_is_found_out() {
    let tangle = simnet::Tangle::knotted(77, 6, 300);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(dir.path(), &net.server.url(), all(&net));
    run_well(run_load(&db.url).arg(&file).arg("--no-verify"));
    let good = db.dump();
    let output = run_well(&mut finalize(&db));
    assert!(
        told(&output).contains("nothing changed since the last time"),
        "{}",
        told(&output)
    );
    // Somebody deletes a like and does not count.
    db.client()
        .batch_execute(
            "DELETE FROM bsky.\"like\" WHERE uri = (SELECT min(l.uri) FROM bsky.\"like\" l JOIN bsky.post_agg a ON a.uri = l.subject AND a.\"likeCount\" = 1)",
        )
        .unwrap();
    let mut output = None;
    wait_until("the server's count of it", || {
        let found = run_well(&mut finalize(&db));
        let is_found = told(&found).contains("another program wrote to the tables");
        output = Some(found);
        is_found
    });
    let changed = db.dump();
    assert_ne!(changed["like"].len(), good["like"].len());
    assert!(difference(&changed, &good).unwrap().contains("post_agg"));
    // And that is that.
    let output = run_well(&mut finalize(&db));
    assert!(
        told(&output).contains("nothing changed since the last time"),
        "{}",
        told(&output)
    );
}
