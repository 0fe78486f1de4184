//! The options of a new run, and whether they fit what is in the database.

use crate::run::choice::{Requested, Selection};
use ledger::runs::{self, Mode, Phase, Run};
use load::fresh::{self, FreshError};
use pg::DbErrorKind;
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
    /// Whether consumers store its repos, as a whole and as a merge.
    pub is_sent: bool,
}

impl NewRun {
    /// How a new run loads, where `filled` is a table with rows.
    pub(crate) fn mode_over(&self, filled: Option<&str>) -> Mode {
        self.mode.unwrap_or(match filled {
            None if !self.is_sent => Mode::Fresh,
            _ => Mode::Merge,
        })
    }

    /// The collections and notifications of a new run, if it may have them.
    pub(crate) fn selection(
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

    /// Makes sure, before any repo is opened, that what is asked for goes with what is there, and
    /// with what other workers do if it joins some.
    pub(crate) fn require_fit(
        &self,
        client: &mut Client,
        database: &Database,
        is_joining: bool,
    ) -> Result<(), Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let is_part = self.choice.as_ref().is_some_and(Requested::narrows);
        self.require_sendable(self.mode.unwrap_or(Mode::Merge), is_part)?;
        let last = runs::last(client, &database.schema).map_err(refused)?;
        if let Some(run) = last.as_ref().filter(|run| run.phase != Phase::Done) {
            if let Some(mode) = self.mode.filter(|mode| is_joining && *mode != run.mode) {
                return Err(Failure::usage(format!(
                    "other workers load run {} as a {} load, and this command says --mode {}",
                    run.id,
                    run.mode.word(),
                    mode.word()
                ))
                .hint("leave the option out to load as they do"));
            }
            if let Some(requested) = &self.choice {
                requested.require_of(run)?;
            }
            return self.require_sendable_run(run);
        }
        let filled = fresh::filled_table(client, &database.schema).map_err(refused)?;
        match (self.mode_over(filled), filled) {
            (Mode::Fresh, Some(table)) => Err(refused_begin(
                database,
                &FreshError::NotEmpty(table.to_owned()),
            )),
            (mode, _) => {
                let selection = self.selection(mode, last.as_ref(), database)?;
                self.require_sendable(mode, selection != Selection::everything())
            }
        }
    }

    /// Makes sure that consumers can store the repos of a run that has begun.
    pub(crate) fn require_sendable_run(&self, run: &Run) -> Result<(), Failure> {
        self.require_sendable(run.mode, Selection::of(run) != Selection::everything())
    }

    /// Makes sure that consumers, which know nothing of the run, can store its repos.
    fn require_sendable(&self, mode: Mode, is_part: bool) -> Result<(), Failure> {
        let refused = |why: &str| {
            Err(
                Failure::usage(format!("with --transport, consumers store repos {why}"))
                    .hint("leave the option out to load in this process"),
            )
        };
        match mode {
            _ if !self.is_sent => Ok(()),
            Mode::Fresh => refused("as a merge, and this run loads fresh"),
            Mode::Merge if is_part => refused("as a whole, and this run loads a part of each"),
            Mode::Merge => Ok(()),
        }
    }
}

/// Why a run cannot begin, and what mends it.
pub(crate) fn refused_begin(database: &Database, error: &FreshError) -> Failure {
    let failure = Failure::new(format!(
        "schema {} of {}: {error}",
        database.schema,
        database.shown()
    ));
    match error {
        FreshError::Database(error) if error.kind == DbErrorKind::Stopped => failure.stopped(),
        FreshError::NotEmpty(_) => {
            failure.hint_to_run("load with --mode merge, or empty it", "migrate --recreate-schema")
        }
        FreshError::InUse(_) => {
            failure.hint("stop the programs that read or write these tables, or load with --mode merge")
        }
        FreshError::Database(_) => failure.hint(
            "a fresh load drops and rebuilds indexes, so the user must own the tables; or load with --mode merge",
        ),
    }
}
