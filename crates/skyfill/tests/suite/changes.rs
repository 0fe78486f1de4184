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
            net.set_document(did, &simnet::document(did, "x.test", &net.server.url()));
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
        for (did, car) in &self.earlier {
            self.serve(did, &Step::Repo(car.clone()));
        }
    }

    fn serve_later(&self) {
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
    let wanted = whole.dump();
    for table in ["post_agg", "profile_agg", "notification", "thread_gate"] {
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
    assert_same(&thirds, &wanted, &format!("{seeds:?} in thirds"));
    // By changes, in two orders.
    for order in 0..2 {
        world.serve_earlier();
        let changed = TestDb::migrated();
        world.run(&changed, all(&world.net));
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

#[test]
fn three_ways_to_the_same_tables() {
    std::thread::scope(|scope| {
        for first in [1, 5] {
            scope.spawn(move || {
                for seed in [first, first + 2] {
                    three_ways([seed * 100, seed * 100 + 1]);
                }
            });
        }
    });
}

#[test]
fn three_ways_to_the_same_tables_once_more() {
    three_ways([901, 902]);
}

/// Ends in the transaction of each slice of the changes, after its work and before its commit, and
/// goes on: what is added is added once.
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

/// Rows that are read when one of so many repos changes, and the rows that there are.
fn cost_of_a_change(repos: usize) -> (i64, i64) {
    let population = simnet::Population::new(3, repos, repos * 100);
    let cars = (0..repos).map(|account| (population.did(account), population.car(account)));
    let net = Net::of_cars(cars);
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(dir.path(), &net.server.url(), all(&net));
    run_well(run_load(&db.url).arg(&file));
    let rows: i64 = appview::table::ALL
        .iter()
        .map(|table| db.count(table.name))
        .sum();
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
