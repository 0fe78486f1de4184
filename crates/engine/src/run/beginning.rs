//! How a run begins: the one that is not done goes on, else a new one begins.

use crate::observer::Milestone;
use crate::run::choice::{Requested, Selection};
use crate::run::session::Session;
use ledger::runs::{self, Mode, Phase, Run};
use load::fresh::{self, FreshError};
use pg::{DbErrorKind, Waits};
use postgres::Client;
use process::{Database, Failure};

/// How a run begins, if a new one is to begin.
pub struct NewRun {
    /// Its time, in milliseconds since 1970.
    pub now: i64,
    /// How it loads; without a word, fresh if the tables are empty, else as a merge.
    pub mode: Option<Mode>,
    /// Its collections and notifications; nothing means those of the last one.
    pub choice: Option<Requested>,
}

impl NewRun {
    /// How a new run loads, where `filled` is a table with rows.
    fn mode_over(&self, filled: Option<&str>) -> Mode {
        self.mode.unwrap_or(match filled {
            Some(_) => Mode::Merge,
            None => Mode::Fresh,
        })
    }

    /// The collections and notifications of a new run, if it may have them.
    fn selection(
        &self,
        mode: Mode,
        last: Option<&Run>,
        database: &Database,
    ) -> Result<Selection, Failure> {
        let Some(requested) = &self.choice else {
            return Ok(last.map_or_else(Selection::everything, Selection::of));
        };
        if mode == Mode::Merge {
            requested.require_same(last, database)?;
        }
        Ok(requested.selection(mode, last))
    }

    /// Makes sure, before any repo is opened, that what is asked for goes with what is there.
    pub(crate) fn require_fit(
        &self,
        client: &mut Client,
        database: &Database,
    ) -> Result<(), Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let last = runs::last(client, &database.schema).map_err(refused)?;
        if let Some(run) = last.as_ref().filter(|run| run.phase != Phase::Done) {
            return self
                .choice
                .as_ref()
                .map_or(Ok(()), |requested| requested.require_of(run));
        }
        let filled = fresh::filled_table(client, &database.schema).map_err(refused)?;
        match (self.mode_over(filled), filled) {
            (Mode::Fresh, Some(table)) => {
                Err(failure(database, &FreshError::NotEmpty(table.to_owned())))
            }
            (mode, _) => self.selection(mode, last.as_ref(), database).map(drop),
        }
    }
}

/// The run to go on with, or a new one; nothing if there is nothing to do.
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
            "going on with run {} of {}, a {} load, in phase {}",
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
    };
    let (may_merge, waits) = (new.mode.is_none(), session.stop.waits());
    run.id = begin(client, database, &mut run, may_merge, waits)?;
    begun(true)?;
    observe::log!("run {} of {}: a {} load", run.id, run.now, run.mode.word());
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
                .map_err(|error| failure(database, &error))
        }
        Err(error) => Err(failure(database, &error)),
    }
}

fn failure(database: &Database, error: &FreshError) -> Failure {
    let failure = Failure::new(format!(
        "schema {} of {}: {error}",
        database.schema,
        database.shown()
    ));
    match error {
        FreshError::Database(error) if error.kind == DbErrorKind::Stopped => failure.stopped(),
        FreshError::NotEmpty(_) => {
            failure.hint("load with --mode merge, or empty it: skyfill migrate --recreate-schema")
        }
        FreshError::InUse(_) => {
            failure.hint("stop whatever reads or writes these tables, or load with --mode merge")
        }
        FreshError::Database(_) => failure.hint(
            "a fresh load drops and makes indexes: the user must own the tables; or load with --mode merge",
        ),
    }
}
