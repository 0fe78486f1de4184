//! `skyfill export`.

use crate::commands::stopped;
use crate::{fetch_args, listening, signals};
use archive::OpenOptions;
use arguments::{ExportArgs, ExportFormat};
use engine::archives;
use export::{Choice, ExportEnd, Format, Options, Source};
use observe::Workers;
use process::{Database, Ended, Failure, Machine, clock};

pub(crate) fn run(args: &ExportArgs) -> Result<Ended, Failure> {
    let options = options(args)?;
    let export = |source: Source<'_>| {
        let stop = signals::listen(Workers::default())?;
        export::export(&options, source, &stop)
    };
    let outcome = match &args.archive {
        Some(place) => {
            let open = OpenOptions {
                access: args.store.access()?,
                spool: options.spool.clone(),
                memory: args.memory,
            };
            export(Source::Archive(&archives::open(place, &open)?))?
        }
        None => {
            let database = Database::open_to_compare(&args.database.target())?;
            listening::shows(&database);
            export(Source::Database(&database))?
        }
    };
    let ExportEnd::Done(exported) = outcome else {
        return Ok(stopped());
    };
    if args.output.json {
        observe::data!("{}", exported.json());
    }
    for line in exported.lines() {
        observe::log!("{line}");
    }
    Ok(Ended::well_if(exported.is_whole()))
}

fn options(args: &ExportArgs) -> Result<Options, Failure> {
    let cores = || Machine::this().cores;
    Ok(Options {
        folder: args.folder.clone(),
        format: format(args.format),
        choice: choice(&args.collections)?,
        part_records: args.part_records,
        threads: args.threads.map_or_else(cores, usize::from),
        memory: args.memory,
        spool: fetch_args::spool(&args.spool)?,
        now: clock::now(args.now.as_deref())?,
    })
}

/// The form of files.
pub(crate) fn format(form: ExportFormat) -> Format {
    match form {
        ExportFormat::Parquet => Format::Parquet,
        ExportFormat::Jsonl => Format::Jsonl,
    }
}

/// The collections that words name.
pub(crate) fn choice(words: &[String]) -> Result<Choice, Failure> {
    Choice::of(words).map_err(|error| Failure::usage(format!("--collections: {error}")))
}
