//! `skyfill plan`, and `skyfill run --dry-run`.

use crate::commands::print;
use crate::fetch_args;
use archive::OpenOptions;
use arguments::{PlanArgs, RunArgs, RunHandles};
use engine::identities::Documents;
use engine::planning::{self, DIRECTORY_RATE, DiskRate, Question};
use engine::run::{Options, Wanted};
use load::Notifications;
use plan::{Choice, Handles, Work};
use process::{Ended, Failure};

/// Memory of an archive's index, in bytes, unless --memory says otherwise.
const ARCHIVE_MEMORY: u64 = 1 << 30;

pub(crate) fn run(args: &PlanArgs) -> Result<Ended, Failure> {
    let is_given = args.repos.is_some() || args.records.is_some();
    let question = Question {
        target: args.database.target(),
        work: is_given.then(|| Work::given(args.repos, args.records)),
        cores: args.cores.map(usize::from),
        memory: args.memory,
        free: args.disk,
        disk_rate: match (args.measure_disk, args.disk_rate) {
            (true, _) => DiskRate::Measured,
            (false, Some(rate)) => DiskRate::Given(rate),
            (false, None) => DiskRate::Unknown,
        },
        wanted: Wanted {
            connections: args.max_db_connections.map(usize::from),
            server_memory: args.server_memory,
            ..Wanted::default()
        },
        choice: choice(args.handles, !args.no_verify, args.notifications.as_ref()),
        documents: Documents::Auto,
        directory_rate: DIRECTORY_RATE,
        is_part: false,
        notes: Vec::new(),
    };
    answer(&question, args.json)
}

/// What a run with these arguments, which are these options, would take.
pub(crate) fn dry_run(args: &RunArgs, options: Options) -> Result<Ended, Failure> {
    let (what, load) = (&args.what, &args.load);
    let archive = || {
        Ok(OpenOptions {
            access: load.store.access()?,
            spool: fetch_args::spool(&load.fill.hosts.spool)?,
            memory: load.fill.memory.unwrap_or(ARCHIVE_MEMORY),
        })
    };
    let (work, notes) = planning::named(options, archive)?;
    let question = Question {
        target: load.database.target(),
        work,
        cores: None,
        memory: None,
        free: None,
        disk_rate: DiskRate::Unknown,
        wanted: fetch_args::wanted(load),
        choice: choice(load.handles, !load.no_verify, what.notifications.as_ref()),
        documents: fetch_args::documents(load.documents),
        directory_rate: load.fill.hosts.directory.plc_rate.into(),
        is_part: !what.collections.is_empty() || what.since.is_some(),
        notes,
    };
    answer(&question, load.fill.output.json)
}

fn choice(handles: RunHandles, verifies: bool, kept: Option<&Notifications>) -> Choice {
    Choice {
        handles: match handles {
            RunHandles::Auto => Handles::Auto,
            RunHandles::Verified => Handles::Verified,
            RunHandles::Claimed => Handles::Claimed,
            RunHandles::Skip => Handles::Skipped,
        },
        verifies,
        notifies: kept != Some(&Notifications::None),
    }
}

fn answer(question: &Question, as_json: bool) -> Result<Ended, Failure> {
    let Some(answer) = planning::answer(question)? else {
        observe::log!("nothing is pending; --repos plans for so many repos");
        return Ok(Ended::Well);
    };
    print(as_json, || answer.json(), || answer.lines());
    Ok(Ended::well_if(!answer.clearly_lacks_disk()))
}
