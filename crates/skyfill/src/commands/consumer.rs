//! `skyfill consumer`: see the crate `consumer`.

use crate::commands::judged;
use crate::{fetch_args, signals};
use arguments::ConsumerArgs;
use consumer::lines::driver::DriverKind;
use consumer::lines::insert_test::{self, InsertTest, InsertTests};
use consumer::{Consumed, Consumer, Options, Source, StreamOptions};
use engine::next;
use engine::recorder::Recorder;
use observe::Workers;
use process::{Ended, Failure};
use std::time::Duration;

/// Runs the command.
pub(crate) fn run(args: &ConsumerArgs) -> Result<Ended, Failure> {
    if let Some(test) = &args.db_test {
        return run_insert_tests(args, test);
    }
    let source = match (args.transport.settings()?, &args.socket) {
        (Some(settings), _) => Source::Stream(StreamOptions {
            settings,
            until_empty: args.until_empty,
        }),
        (None, Some(socket)) => Source::Socket(socket.clone()),
        (None, None) => return Err(Failure::usage("no socket path given")),
    };
    let consumer = Consumer::open(Options {
        source,
        target: args.database.target(),
        batch_size: args.batch_size as usize,
        memory: args.memory,
        transaction_records: args.transaction_size as usize,
        connections: args.max_db_connections as usize,
        driver: DriverKind::chosen(args.pg_native)?,
        part_timeout: Duration::from_secs(args.part_timeout),
        spool: fetch_args::spool(&args.spool)?,
        rejects: args.rejects.clone(),
    })?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let recorder = Recorder::start(consumer.database());
    let Consumed { summary, outcome } = consumer.run(&workers, &stop)?;
    drop(recorder);
    if args.output.json {
        observe::data!("{}", summary.json());
    }
    for line in summary.report() {
        observe::log!("{line}");
    }
    if matches!(outcome, Ok(Ended::Well)) {
        judged::log_next(next::AFTER_CONSUMER);
    }
    outcome
}

/// `--db-test`.
fn run_insert_tests(args: &ConsumerArgs, test: &str) -> Result<Ended, Failure> {
    let tests = InsertTest::ALL
        .into_iter()
        .filter(|known| test == "all" || known.name() == test)
        .collect();
    let tests = InsertTests::open(insert_test::Options {
        target: args.database.target(),
        driver: DriverKind::chosen(args.pg_native)?,
        tests,
        batch_size: args.batch_size.into(),
        transaction_rows: args.transaction_size.into(),
        rows: args.rows,
        logging_interval: Duration::from_secs(args.output.logging_interval),
    })?;
    let stop = signals::listen(Workers::default())?;
    let measured = tests.run(&stop)?;
    match args.output.json {
        true => observe::data!("{}", insert_test::json(args.batch_size, &measured)),
        false => observe::data!("{}", insert_test::table(&measured)),
    }
    Ok(Ended::Well)
}
