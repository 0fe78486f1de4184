//! `skyfill records`.

use crate::commands::{export, stopped};
use crate::{fetch_args, signals};
use arguments::RecordsArgs;
use engine::recorder::Recorder;
use observe::Workers;
use observe::units::counted;
use process::{Database, Ended, Failure};
use records::Options;
use serde_json::json;

pub(crate) fn run(args: &RecordsArgs) -> Result<Ended, Failure> {
    if args.end_publication {
        return end(args);
    }
    let settings = args.transport.settings()?.ok_or_else(|| {
        Failure::usage("no server to publish to").hint("name it with --transport nats://HOST:4222")
    })?;
    let options = Options {
        settings,
        limits: args.limits(),
        choice: export::choice(&args.collections)?,
        restart: args.restart,
        until_published: args.until_published,
        spool: fetch_args::spool(&args.spool)?,
    };
    let database = Database::open_to_go_on(&args.database.target())?;
    crate::listening::shows(&database);
    let stop = signals::listen(Workers::default())?;
    let recorder = Recorder::start(&database);
    let summary = records::publish(&database, &options, &stop)?;
    drop(recorder);
    if args.output.json {
        let (messages, batches) = (summary.messages, summary.batches);
        observe::data!("{}", json!({ "messages": messages, "batches": batches }));
    }
    observe::log!(
        "{} in {}",
        counted(summary.messages, "message"),
        counted(summary.batches, "batch")
    );
    Ok(match summary.is_stopped && args.until_published {
        true => stopped(),
        false => Ended::Well,
    })
}

fn end(args: &RecordsArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&args.database.target())?;
    let stop = signals::listen(Workers::default())?;
    match records::end(&database, &stop)? {
        true => observe::log!("the publication has ended; changes are no longer noted for it"),
        false => observe::log!("there is no publication"),
    }
    Ok(Ended::Well)
}
