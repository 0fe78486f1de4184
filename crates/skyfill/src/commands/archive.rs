//! `skyfill archive`.

use crate::fetch_args;
use crate::signals;
use archive::Finding;
use arguments::{ArchiveAction, ArchiveArgs};
use engine::archives::Archives;
use observe::Workers;
use process::{Ended, Failure, Machine};

pub(crate) fn run(args: &ArchiveArgs) -> Result<Ended, Failure> {
    let cars = args.cars();
    let options = fetch_args::of_cars(cars)?;
    let stop = signals::listen(Workers::default())?;
    let archives = Archives {
        options: &options,
        found: &print,
        stop: &stop,
    };
    let done = match &args.action {
        ArchiveAction::Verify(args) => {
            let cores = || Machine::this().cores;
            let threads = args.threads.map_or_else(cores, usize::from);
            let Some(checked) = archives.verify(&args.place, threads)? else {
                observe::log!("stopped; nothing was changed, and nothing is kept");
                return Ok(Ended::Stopped);
            };
            if cars.output.json {
                observe::data!("{}", checked.json());
            }
            observe::log!("{}", checked.line());
            return Ok(Ended::well_if(checked.bad == 0));
        }
        ArchiveAction::Merge(args) => archives.merge(&args.from, &args.into)?,
        ArchiveAction::Prune(args) => archives.prune(&args.place)?,
    };
    if cars.output.json {
        observe::data!("{}", done.json());
    }
    observe::log!("{}", done.line());
    if stop.is_set() {
        observe::log!("stopped; the same command does the rest");
        return Ok(Ended::Stopped);
    }
    Ok(Ended::well_if(done.bad == 0))
}

/// Prints a finding as a line of JSON.
fn print(finding: &Finding) {
    observe::data!("{}", finding.json());
}
