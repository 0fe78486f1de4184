//! `skyfill producer`: see the crate `producer`.

use crate::cli::{Form, ProducerArgs};
use crate::{fetch_args, signals, told};
use observe::Workers;
use process::{Ended, Failure, clock};
use producer::{Options, Producer};

/// Seconds: lines are taken in order, so that a host that is away holds up others.
const PATIENCE: u64 = 60;

/// Runs the command.
pub(crate) fn run(args: &ProducerArgs) -> Result<Ended, Failure> {
    let producer = Producer::open(Options {
        did_file: args.did_file.clone(),
        sockets: args.sockets.clone(),
        starting_line: args.starting_line,
        ending_line: args.ending_line,
        form: match args.form {
            Form::Auto => producer::Form::Auto,
            Form::Lines => producer::Form::Lines,
        },
        fetch: fetch_args::options(&args.fetch, &args.caller, PATIENCE)?,
        spool: fetch_args::spool(&args.spool)?,
        memory: args.memory,
        buffer_bytes: args.buffer_bytes,
        failures: args.failures.clone(),
        now: clock::now(args.now.as_deref())?,
    })?;
    let workers = Workers::default();
    let stop = signals::listen(workers.clone())?;
    let (summary, ended) = producer.run(&workers, &stop)?;
    if args.output.json {
        observe::data!("{}", summary.json());
    }
    for line in summary.report() {
        observe::log!("{line}");
    }
    if let Some(next) = summary.next {
        told::done(&["starting_line"]);
        observe::log!(
            "stopped; continue with: {} --starting-line {next}",
            told::line_to_go_on_with()
        );
    }
    Ok(ended)
}
