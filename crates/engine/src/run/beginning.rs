//! Begins a run: continues the one that is not done, or starts a new one.

use crate::observer::Milestone;
use crate::run::new_run::{NewRun, refused_begin};
use crate::run::session::Session;
use ledger::runs::{Mode, Phase, Run};
use load::fresh::{self, FreshError};
use pg::Waits;
use postgres::Client;
use process::{Database, Failure};

/// The run to continue with, or a new one; nothing if there is nothing to do.
pub(crate) fn current_run(
    session: &Session<'_>,
    new: &NewRun,
    client: &mut Client,
    last: Option<&Run>,
    open: u64,
) -> Result<Option<Run>, Failure> {
    let database = session.database;
    let refused = |error: postgres::Error| database.failure(error);
    let begun = |is_new| session.observer.reached(Milestone::RunBegun { is_new });
    if let Some(run) = last.filter(|run| run.phase != Phase::Done) {
        observe::log!(
            "continuing run {} of {}, a {} load, in phase {}",
            run.id,
            run.now,
            run.mode.word(),
            run.phase.word()
        );
        if let Some(requested) = &new.choice {
            requested.require_of(run)?;
        }
        begun(false)?;
        return Ok(Some(run.clone()));
    }
    if open == 0 {
        return Ok(None);
    }
    let filled = fresh::filled_table(client, &database.schema).map_err(refused)?;
    let mode = new.mode_over(filled);
    let selection = new.selection(mode, last, database)?;
    let mut run = Run {
        id: 0,
        now: rows::datetime::print(new.now),
        mode,
        phase: Phase::Load,
        collections: selection.collections,
        notifications: selection.notifications,
        since: selection.since,
    };
    let (may_merge, waits) = (new.mode.is_none(), session.stop.waits());
    run.id = begin(client, database, &mut run, may_merge, waits)?;
    begun(true)?;
    observe::log!("run {} of {}: a {} load", run.id, run.now, run.mode.word());
    if let (Some(table), true, None) = (filled, run.mode == Mode::Merge, last) {
        observe::log!(
            "note: table {table} has rows that no run of skyfill loaded, so this is a merge, which costs more per record; if they may go, stop it and empty the tables with skyfill migrate --recreate-schema"
        );
    }
    Ok(Some(run))
}

/// Begins a run.
fn begin(
    client: &mut Client,
    database: &Database,
    run: &mut Run,
    may_merge: bool,
    waits: Waits<'_>,
) -> Result<i64, Failure> {
    match fresh::begin(client, &database.schema, run, waits) {
        Ok(id) => Ok(id),
        Err(FreshError::NotEmpty(_)) if may_merge => {
            run.mode = Mode::Merge;
            fresh::begin(client, &database.schema, run, waits)
                .map_err(|error| refused_begin(database, &error))
        }
        Err(error) => Err(refused_begin(database, &error)),
    }
}
