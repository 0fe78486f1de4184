//! `skyfill producer`: see the crate `producer`.

use crate::command_line::command_line;
use crate::{fetch_args, signals};
use arguments::{Form, ProducerArgs};
use observe::Workers;
use process::{Ended, Failure, clock};
use producer::{Destination, Options, Producer, StreamOptions};

/// Seconds: lines are taken in order, so that a host that is away holds up others.
const PATIENCE: u64 = 60;

/// Runs the command.
pub(crate) fn run(args: &ProducerArgs) -> Result<Ended, Failure> {
    let (from, to) = (args.starting_line, args.ending_line);
    if to != 0 && to < from {
        return Err(Failure::usage(format!(
            "--ending-line {to} is before --starting-line {from}"
        ))
        .hint("give the first line not to take, counted from 0; 0 is the end of the file"));
    }
    let destination = match args.transport.settings()? {
        Some(settings) => Destination::Stream(StreamOptions {
            settings,
            limits: args.new_stream.limits(),
        }),
        None => {
            let form = match args.form {
                Form::Auto => producer::Form::Auto,
                Form::Lines => producer::Form::Lines,
            };
            Destination::Sockets(args.sockets.clone(), form)
        }
    };
    let producer = Producer::open(Options {
        did_file: args.did_file.clone(),
        destination,
        starting_line: args.starting_line,
        ending_line: args.ending_line,
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
        command_line().on_effective(&["starting_line"]);
        observe::log!(
            "stopped; continue with: {} --starting-line {next}",
            command_line().to_continue()
        );
    }
    Ok(ended)
}
