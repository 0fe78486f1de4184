//! `skyfill tee`.

use crate::commands::{export, stopped};
use crate::{fetch_args, signals};
use ::export::tee::{self, Options};
use arguments::TeeArgs;
use observe::Workers;
use observe::units::counted;
use process::{Ended, Failure};
use std::time::Duration;

pub(crate) fn run(args: &TeeArgs) -> Result<Ended, Failure> {
    let settings = args.transport.settings()?.ok_or_else(|| {
        Failure::usage("no server to read from").hint("name it with --transport nats://HOST:4222")
    })?;
    let stream = format!("{}-records", settings.stream());
    let settings = settings.with_stream(stream);
    let options = Options {
        folder: args.folder.clone(),
        format: export::format(args.format),
        choice: export::choice(&args.collections)?,
        part_records: args.part_records,
        every: Duration::from_secs(args.every),
        until_read: args.until_read,
        memory: args.memory,
        spool: fetch_args::spool(&args.spool)?,
    };
    let stop = signals::listen(Workers::default())?;
    let teed = tee::tee(&options, &settings, &stop)?;
    if args.output.json {
        observe::data!("{}", teed.json());
    }
    let manifest = &teed.manifest;
    observe::log!(
        "{} has {} of {}, {}, through message {}",
        args.folder.display(),
        counted(manifest.rows, "row"),
        counted(manifest.collections.len() as u64, "collection"),
        observe::bytes(manifest.bytes),
        manifest.through
    );
    if teed.is_stopped && args.until_read {
        return Ok(stopped());
    }
    if teed.unknown > 0 {
        let unknown = counted(teed.unknown, "message");
        observe::log!(
            "{unknown} that skyfill records did not send, or that this version does not understand"
        );
    }
    Ok(Ended::well_if(teed.unknown == 0))
}
