//! `skyfill consumer --db-test`.

use crate::cli::ConsumerArgs;
use crate::consumer;
use crate::signals;
use load::insert_test::{self, FollowRows, InsertTest, TEST_DID_PREFIX};
use load::{DbError, Driver};
use observe::Workers;
use process::Database;
use process::Stop;
use process::{Ended, Failure};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one test showed.
struct Outcome {
    test: InsertTest,
    rows: u64,
    seconds: f64,
    /// CPU seconds of this process and of the server's one for the connection, where they can be
    /// told.
    own_cpu: Option<f64>,
    server_cpu: Option<f64>,
}

pub(crate) fn run(args: &ConsumerArgs, test: &str) -> Result<Ended, Failure> {
    let tests: Vec<InsertTest> = InsertTest::ALL
        .into_iter()
        .filter(|t| test == "all" || t.name() == test)
        .collect();
    let batch = args.batch_size as usize;
    for test in &tests {
        test.check_batch(batch).map_err(Failure::usage)?;
    }
    let kind = consumer::driver(args)?;
    let database = Database::open_to_work(&args.database.target())?;
    let mut client = database.connect()?;
    let schema = &database.schema;
    let all = tests.len() > 1;
    if all {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM \"{schema}\".follow WHERE NOT starts_with(creator, $1))"
        );
        let real = client
            .query_one(&sql, &[&TEST_DID_PREFIX])
            .map_err(|error| database.failure(error))?;
        if real.get(0) {
            return Err(Failure::new(format!(
                "follow in {} holds real rows, and --db-test all empties it",
                database.shown()
            ))
            .hint("use an empty database, or one test by name, which only adds rows"));
        }
    } else {
        observe::log!(
            "generated rows stay in follow; remove them with: DELETE FROM \"{schema}\".follow WHERE starts_with(creator, '{TEST_DID_PREFIX}')"
        );
    }
    drop(client);
    let stop = signals::listen(Workers::default())?;
    let mut outcomes = Vec::new();
    for test in tests {
        let failed = |error: DbError| Failure::new(format!("{}: {error}", test.name()));
        let mut driver = kind.connect(&database.url).map_err(failed)?;
        driver
            .batch(&format!("SET search_path TO \"{schema}\", public"))
            .map_err(failed)?;
        if all {
            driver.batch("TRUNCATE follow").map_err(failed)?;
        }
        let outcome = insert(args, test, driver.as_mut(), &stop).map_err(failed)?;
        outcomes.push(outcome);
        if stop.is_set() {
            break;
        }
    }
    print_table(args, &outcomes);
    Ok(Ended::Well)
}

/// Inserts until stopped or until there are enough rows, in transactions, as the original does.
fn insert(
    args: &ConsumerArgs,
    test: InsertTest,
    driver: &mut dyn Driver,
    stop: &Stop,
) -> Result<Outcome, DbError> {
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let mut rows = FollowRows::new(u64::try_from(seed).unwrap_or(0));
    let backend = driver.number("SELECT pg_backend_pid()::bigint")?;
    let cpu_before = (
        cpu_seconds("self", "skyfill"),
        cpu_seconds(&backend.to_string(), "postgres"),
    );
    let interval = Duration::from_secs(args.output.logging_interval);
    let (started, mut last) = (Instant::now(), Instant::now());
    let (mut done, mut before, mut in_transaction) = (0u64, 0u64, 0u64);
    while !stop.is_set() && args.rows.is_none_or(|wanted| done < wanted) {
        if in_transaction == 0 {
            driver.batch("BEGIN; SET LOCAL synchronous_commit = off")?;
        }
        let left = args.rows.map_or(u64::MAX, |wanted| wanted - done);
        let count = u64::from(args.batch_size).min(left);
        insert_test::insert(
            test,
            driver,
            &mut rows,
            usize::try_from(count).unwrap_or(usize::MAX),
        )?;
        done += count;
        in_transaction += count;
        if in_transaction >= u64::from(args.transaction_size) {
            driver.batch("COMMIT")?;
            in_transaction = 0;
        }
        if last.elapsed() >= interval {
            observe::log!(
                "{}: {done} rows ({:.0}/s)",
                test.name(),
                rate(done - before, last.elapsed().as_secs_f64())
            );
            (last, before) = (Instant::now(), done);
        }
    }
    if in_transaction > 0 {
        driver.batch("COMMIT")?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let spent = |name: &str, of: &str, before: Option<f64>| Some(cpu_seconds(name, of)? - before?);
    Ok(Outcome {
        test,
        rows: done,
        seconds,
        own_cpu: spent("self", "skyfill", cpu_before.0),
        server_cpu: spent(&backend.to_string(), "postgres", cpu_before.1),
    })
}

#[allow(clippy::cast_precision_loss)]
fn rate(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds.max(0.001)
}

/// CPU seconds of a process of this machine, if it is called `name` (a remote server's process id
/// means nothing here).
#[allow(clippy::cast_precision_loss)]
fn cpu_seconds(pid: &str, name: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, fields) = stat.rsplit_once(") ")?;
    if !head.contains(name) {
        return None;
    }
    // utime and stime are the 14th and 15th field; the third one comes first here.
    let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn print_table(args: &ConsumerArgs, outcomes: &[Outcome]) {
    if args.output.json {
        let tests: Vec<_> = outcomes
            .iter()
            .map(|o| {
                serde_json::json!({
                    "test": o.test.name(), "rows": o.rows, "seconds": o.seconds, "rowsPerSecond": rate(o.rows, o.seconds),
                    "ownCpuSeconds": o.own_cpu, "serverCpuSeconds": o.server_cpu,
                })
            })
            .collect();
        observe::data!(
            "{}",
            serde_json::json!({ "batchSize": args.batch_size, "tests": tests })
        );
        return;
    }
    let cpu = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| format!("{s:.2}"));
    observe::data!(
        "{:<14} {:>10} {:>10} {:>9} {:>13}",
        "test",
        "rows",
        "rows/s",
        "our CPU",
        "server's CPU"
    );
    for o in outcomes {
        observe::data!(
            "{:<14} {:>10} {:>10.0} {:>9} {:>13}",
            o.test.name(),
            o.rows,
            rate(o.rows, o.seconds),
            cpu(o.own_cpu),
            cpu(o.server_cpu)
        );
    }
}
