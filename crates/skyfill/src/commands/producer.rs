//! `skyfill producer`: see the crate `producer`.

use crate::cli::{Form, ProducerArgs};
use crate::{fetch_args, signals, told};
use observe::Workers;
use process::{Ended, Failure, clock};
use producer::{Options, Producer, Summary};
use std::collections::BTreeMap;

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
    print_summary(&summary, args.output.json);
    Ok(ended)
}

fn print_summary(summary: &Summary, as_json: bool) {
    let seconds = summary.elapsed.as_secs_f64();
    if as_json {
        observe::data!("{}", summary.json());
    }
    observe::log!(
        "{} repos sent, {} skipped{}, {} failed{}; {} records, {} bytes, {seconds:.1} s",
        summary.sent,
        summary.skipped.values().sum::<u64>(),
        listed(&summary.skipped),
        summary.failed.values().sum::<u64>(),
        listed(&summary.failed),
        summary.records,
        summary.bytes,
    );
    if summary.unusable_records > 0 {
        observe::log!(
            "{} entries of the repos are not records and were left out",
            summary.unusable_records
        );
    }
    if let Some(failures) = &summary.failures {
        observe::log!("{failures}");
    }
    if !summary.acknowledged {
        observe::log!(
            "a consumer closed its side without confirming that everything is committed, as skyfill's own does: check whether \
             everything is stored, or run this again from the start, which changes nothing that is stored"
        );
    }
    if summary.losses > 0 {
        observe::log!(
            "a consumer disconnected {} times; what it had not committed is lost. The line form does not \
             show which repos those are: run this again from the start, which changes nothing that is stored",
            summary.losses
        );
    }
    if let Some(next) = summary.next {
        told::done(&["starting_line"]);
        observe::log!(
            "stopped; continue with: {} --starting-line {next}",
            told::line_to_go_on_with()
        );
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}
