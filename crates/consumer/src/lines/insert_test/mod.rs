//! `--db-test`: how fast generated follow rows go into `follow`, by each of five ways
//! ([`InsertTest`]).

mod ways;

pub use ways::{BatchTooLarge, InsertTest, TEST_DID_PREFIX};

use crate::lines::driver::{Driver, DriverKind};
use pg::DbError;
use process::{Database, Failure, Stop, Target};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ways::FollowRows;

/// What to test, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database.
    pub target: Target,
    /// What writes.
    pub driver: DriverKind,
    /// The tests, in order. With more than one, `follow` is emptied before each.
    pub tests: Vec<InsertTest>,
    /// Rows per statement.
    pub batch_size: u64,
    /// Rows per transaction.
    pub transaction_rows: u64,
    /// Rows of each test; without it, a test lasts until it is stopped.
    pub rows: Option<u64>,
    /// Time between two rate lines.
    pub logging_interval: Duration,
}

/// What one test showed.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The test.
    pub test: InsertTest,
    /// Rows that it inserted.
    pub rows: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// CPU seconds of this process, where they are known.
    pub own_cpu: Option<f64>,
    /// CPU seconds of the server's process for the connection, where they are known.
    pub server_cpu: Option<f64>,
}

impl Measured {
    /// Rows per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        rate(self.rows, self.seconds)
    }
}

/// What tests showed, as JSON.
#[must_use]
pub fn json(batch_size: u32, measured: &[Measured]) -> serde_json::Value {
    let tests = measured.iter().map(|m| {
        serde_json::json!({
            "test": m.test.name(),
            "rows": m.rows,
            "seconds": m.seconds,
            "rowsPerSecond": m.rate(),
            "ownCpuSeconds": m.own_cpu,
            "serverCpuSeconds": m.server_cpu,
        })
    });
    serde_json::json!({ "batchSize": batch_size, "tests": tests.collect::<Vec<_>>() })
}

/// What tests showed, as a table for people.
#[must_use]
pub fn table(measured: &[Measured]) -> String {
    let cpu = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| format!("{s:.2}"));
    let head = format!(
        "{:<14} {:>10} {:>10} {:>9} {:>13}",
        "test", "rows", "rows/s", "our CPU", "server's CPU"
    );
    let row = |m: &Measured| {
        format!(
            "{:<14} {:>10} {:>10.0} {:>9} {:>13}",
            m.test.name(),
            m.rows,
            m.rate(),
            cpu(m.own_cpu),
            cpu(m.server_cpu)
        )
    };
    let lines: Vec<String> = std::iter::once(head)
        .chain(measured.iter().map(row))
        .collect();
    lines.join("\n")
}

/// Tests whose database is open.
pub struct InsertTests {
    options: Options,
    database: Database,
}

impl InsertTests {
    /// Checks that the tests can be done, and that they lose no real rows.
    pub fn open(options: Options) -> Result<Self, Failure> {
        for test in &options.tests {
            let batch = usize::try_from(options.batch_size).unwrap_or(usize::MAX);
            test.check_batch(batch).map_err(Failure::usage)?;
        }
        let database = Database::open_to_work(&options.target)?;
        let mut client = database.connect()?;
        let schema = &database.schema;
        if options.tests.len() > 1 {
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
        Ok(Self { options, database })
    }

    /// Runs the tests until they end or are stopped.
    pub fn run(self, stop: &Stop) -> Result<Vec<Measured>, Failure> {
        let Self { options, database } = self;
        let mut measured = Vec::new();
        for test in &options.tests {
            let failed = |error: DbError| Failure::new(format!("{}: {error}", test.name()));
            let mut driver = options.driver.connect(&database.url).map_err(failed)?;
            driver
                .batch(&format!(
                    "SET search_path TO \"{}\", public",
                    database.schema
                ))
                .map_err(failed)?;
            if options.tests.len() > 1 {
                driver.batch("TRUNCATE follow").map_err(failed)?;
            }
            measured.push(insert(&options, *test, driver.as_mut(), stop).map_err(failed)?);
            if stop.is_set() {
                break;
            }
        }
        Ok(measured)
    }
}

/// Inserts until stopped or until there are enough rows, in transactions, as the original does.
fn insert(
    options: &Options,
    test: InsertTest,
    driver: &mut dyn Driver,
    stop: &Stop,
) -> Result<Measured, DbError> {
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
    let (started, mut last) = (Instant::now(), Instant::now());
    let (mut done, mut before, mut in_transaction) = (0u64, 0u64, 0u64);
    while !stop.is_set() && options.rows.is_none_or(|wanted| done < wanted) {
        if in_transaction == 0 {
            driver.batch("BEGIN; SET LOCAL synchronous_commit = off")?;
        }
        let left = options.rows.map_or(u64::MAX, |wanted| wanted - done);
        let count = options.batch_size.min(left);
        ways::insert(
            test,
            driver,
            &mut rows,
            usize::try_from(count).unwrap_or(usize::MAX),
        )?;
        done += count;
        in_transaction += count;
        if in_transaction >= options.transaction_rows {
            driver.batch("COMMIT")?;
            in_transaction = 0;
        }
        if last.elapsed() >= options.logging_interval {
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
    Ok(Measured {
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
