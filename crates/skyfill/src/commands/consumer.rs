//! `skyfill consumer`: see the crate `consumer`.

use crate::cli::ConsumerArgs;
use crate::signals;
use consumer::lines::driver::DriverKind;
use consumer::lines::insert_test::{self, InsertTest, InsertTests, Measured};
use consumer::{Consumed, Consumer, Options, Summary};
use observe::Workers;
use process::{Ended, Failure};
use std::time::Duration;

/// Runs the command.
pub(crate) fn run(args: &ConsumerArgs) -> Result<Ended, Failure> {
    if let Some(test) = &args.db_test {
        return run_insert_tests(args, test);
    }
    let Some(socket) = &args.socket else {
        return Err(Failure::usage("no socket path given"));
    };
    let consumer = Consumer::open(Options {
        socket: socket.clone(),
        target: args.database.target(),
        batch_size: args.batch_size as usize,
        memory: args.memory,
        transaction_records: args.transaction_size as usize,
        connections: args.max_db_connections as usize,
        driver: driver(args)?,
        part_timeout: Duration::from_secs(args.part_timeout),
        rejects: args.rejects.clone(),
    })?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let Consumed { summary, outcome } = consumer.run(&workers, &stop)?;
    print_summary(&summary, args.output.json);
    outcome
}

fn print_summary(summary: &Summary, as_json: bool) {
    let seconds = summary.elapsed.as_secs_f64();
    if as_json {
        let summary = serde_json::json!({
            "lines": summary.lines,
            "committed": summary.committed,
            "newRows": summary.new_rows,
            "duplicates": summary.duplicates,
            "repeated": summary.repeated,
            "notIndexed": summary.not_indexed,
            "accounts": summary.accounts,
            "parts": summary.parts,
            "rejected": summary.rejected,
            "bytes": summary.bytes,
            "seconds": seconds,
        });
        observe::data!("{summary}");
    }
    observe::log!(
        "{} lines or entries: {} records committed, of which {} in lines added a new row; {} duplicates, \
         {} repeated in a batch, {} not indexed or skipped, {} about accounts, {} parts of repos, {} rejected; {seconds:.1} s",
        summary.lines,
        summary.committed,
        summary.new_rows,
        summary.duplicates,
        summary.repeated,
        summary.not_indexed,
        summary.accounts,
        summary.parts,
        summary.rejected,
    );
    if summary.rejected > 0 {
        observe::log!("rejected lines: {}", summary.rejects);
    }
}

/// `--db-test`.
fn run_insert_tests(args: &ConsumerArgs, test: &str) -> Result<Ended, Failure> {
    let tests = InsertTest::ALL
        .into_iter()
        .filter(|known| test == "all" || known.name() == test)
        .collect();
    let tests = InsertTests::open(insert_test::Options {
        target: args.database.target(),
        driver: driver(args)?,
        tests,
        batch_size: args.batch_size.into(),
        transaction_rows: args.transaction_size.into(),
        rows: args.rows,
        logging_interval: Duration::from_secs(args.output.logging_interval),
    })?;
    let stop = signals::listen(Workers::default())?;
    print_table(args, &tests.run(&stop)?);
    Ok(Ended::Well)
}

fn print_table(args: &ConsumerArgs, measured: &[Measured]) {
    if args.output.json {
        let tests: Vec<_> = measured
            .iter()
            .map(|m| {
                serde_json::json!({
                    "test": m.test.name(), "rows": m.rows, "seconds": m.seconds, "rowsPerSecond": m.rate(),
                    "ownCpuSeconds": m.own_cpu, "serverCpuSeconds": m.server_cpu,
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
    for m in measured {
        observe::data!(
            "{:<14} {:>10} {:>10.0} {:>9} {:>13}",
            m.test.name(),
            m.rows,
            m.rate(),
            cpu(m.own_cpu),
            cpu(m.server_cpu)
        );
    }
}

/// The driver of the arguments, if this build has it.
fn driver(args: &ConsumerArgs) -> Result<DriverKind, Failure> {
    let driver = if args.pg_native {
        DriverKind::Native
    } else {
        DriverKind::Rust
    };
    if driver.is_built_in() {
        return Ok(driver);
    }
    Err(
        Failure::usage("--pg-native or CONSUMER_PG_NATIVE asks for libpq, but this skyfill was built without it").hint(
            "leave it out to use the built-in driver, which does the same; or build skyfill with: cargo build --release --features pg-native \
             (Debian: libpq-dev is needed)",
        ),
    )
}
