//! `skyfill finalize`.

use crate::command_line::command_line;
use crate::commands::{judged, stopped};
use crate::signals;
use arguments::FinalizeArgs;
use engine::finalize::{self, OUT_OF_DATE, Options};
use engine::next;
use engine::recorder::Recorder;
use observe::Workers;
use process::{Database, Ended, Failure};

pub(crate) fn run(args: &FinalizeArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&args.database.target())?;
    let _recorder = Recorder::start(&database);
    let stop = signals::listen(Workers::default())?;
    crate::listening::shows(&database);
    let options = Options {
        connections: usize::from(args.max_db_connections),
        slice_rows: args.slice_rows,
        restart: args.restart,
        is_beside: false,
        notifications: args.notifications.clone(),
        is_patient: false,
    };
    let summary = finalize::finalize(&options, &database, &stop)?;
    if args.output.json {
        observe::data!("{}", summary.json());
    }
    match summary.outcome {
        finalize::FinalizeEnd::Done => {
            judged::log_next(next::AFTER_FINALIZE);
            Ok(Ended::Well)
        }
        finalize::FinalizeEnd::Stopped => {
            command_line().on_effective(&["restart"]);
            Ok(stopped())
        }
        finalize::FinalizeEnd::OutOfDate => {
            observe::log!("{OUT_OF_DATE}");
            Ok(Ended::WithFailures)
        }
    }
}
