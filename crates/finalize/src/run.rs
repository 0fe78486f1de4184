//! Running the stages: planning, workers, going on after a crash.

use crate::slicing;
use crate::stage::{STAGES, Slicing, Stage};
use ledger::locks::{self, Hold, Lock};
use ledger::{failpoint, slices};
use load::{DbError, Notifications};
use pg::{DbErrorKind, Persistent, Waits};
use postgres::{Client, Transaction};
use std::fmt;
use std::time::Instant;

/// How to finalize.
pub struct Finalize<'f> {
    /// Where the database is.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// Connections that work concurrently.
    pub connections: usize,
    /// Rows of a slice, about.
    pub slice_rows: u64,
    /// Begin again, even if an earlier run can be continued.
    pub restart: bool,
    /// Which notifications are stored.
    pub notifications: Notifications,
    /// Called with each event.
    pub report: &'f (dyn Fn(Report<'_>) + Sync),
    /// Takes a line about somebody else who is waited for.
    pub say: &'f (dyn Fn(&str) + Sync),
    /// Asked before each slice whether to stop.
    pub stop: &'f (dyn Fn() -> bool + Sync),
}

/// What happens.
#[derive(Debug)]
pub enum Report<'r> {
    /// It continues where an earlier run stopped.
    GoingOn,
    /// Tables are vacuumed and analyzed, since the planner does not know them.
    Vacuum(&'r str),
    /// There are about so many slices in all.
    Slices(u64),
    /// A stage begins: the number of its slices, and how many of them are done already.
    Stage(&'r Stage, u64, u64),
    /// A slice of the stage is done.
    Slice(&'r Stage),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is done.
    Done,
    /// It was stopped.
    Stopped,
    /// Rows were loaded while it worked, so it has to be run again.
    OutOfDate,
}

/// Why it could not.
#[derive(Debug)]
pub enum FinalizeError {
    /// Another process finalizes in this database.
    Busy,
    /// These indexes, which it needs, are dropped.
    Indexes(Vec<String>),
    /// The database.
    Database(DbError),
}

impl fmt::Display for FinalizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "another skyfill finalizes in this database"),
            Self::Indexes(names) => write!(f, "these indexes are dropped: {}", names.join(", ")),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FinalizeError {}

impl<E: Into<DbError>> From<E> for FinalizeError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// Tables that are read by index, or joined: the planner must know them.
const TABLES: &[&str] = &[
    "record",
    "post",
    "like",
    "repost",
    "follow",
    "quote",
    "post_embed_record",
    "thread_gate",
    "post_gate",
    "list_item",
    "notification",
];

impl Finalize<'_> {
    /// Does all stages that are not done. When the server goes away, it is waited for.
    ///
    /// # Errors
    /// See [`FinalizeError`]. What was done stays done.
    pub fn run(&self) -> Result<Outcome, FinalizeError> {
        // Whether the server is there at all shows at once.
        drop(pg::connect(&self.url)?);
        let ended = self.session().run(|client| match self.run_with(client) {
            Err(FinalizeError::Database(error)) => Err(error),
            ended => Ok(ended),
        });
        match ended {
            Ok(ended) => ended,
            Err(error) if error.kind == DbErrorKind::Stopped => Ok(Outcome::Stopped),
            Err(error) => Err(error.into()),
        }
    }

    fn run_with(&self, client: &mut Client) -> Result<Outcome, FinalizeError> {
        if !locks::try_take(client, Lock::Finalize, Hold::Session)? {
            return Err(FinalizeError::Busy);
        }
        ledger::prepare(client, self.waits())?;
        let missing = load::indexes::missing(client, &self.schema)?;
        if !missing.is_empty() {
            return Err(FinalizeError::Indexes(
                missing.into_iter().map(|d| d.name).collect(),
            ));
        }
        self.begin(client)?;
        for (at, stage) in STAGES.iter().enumerate() {
            if at > 0 {
                self.plan(client, stage)?;
            }
            if let Some(outcome) = self.work(client, stage)? {
                return Ok(outcome);
            }
        }
        self.end(client)
    }

    fn waits(&self) -> Waits<'_> {
        Waits {
            stop: &self.stop,
            say: self.say,
        }
    }

    /// A connection that comes back, with the settings of the stages.
    fn session(&self) -> Persistent<'_> {
        Persistent::new(&self.url, self.waits()).with_setup(|client| {
            Ok(client.batch_execute(&format!(
                "{}; SET client_min_messages = error; SET jit = off; SET work_mem = '64MB'",
                pg::search_path(&self.schema)
            ))?)
        })
    }

    /// Continues with an earlier run, or makes the work tables.
    fn begin(&self, client: &mut Client) -> Result<(), FinalizeError> {
        let mut txn = client.transaction()?;
        // The first stage is planned here and nowhere else, and a load forgets all stages: if it is
        // there, so is the rest.
        let going_on =
            !self.restart && slices::count(&mut txn, &self.schema, STAGES[0].name)?.0 > 0;
        if going_on {
            (self.report)(Report::GoingOn);
        } else {
            slices::forget(&mut txn)?;
            txn.batch_execute(include_str!("../sql/drop.sql"))?;
            txn.batch_execute(include_str!("../sql/tables.sql"))?;
        }
        txn.commit()?;
        vacuum(client, self.report)?;
        let mut total = 0;
        for stage in STAGES {
            total += slicing::estimate(client, stage.slicing, self.slice_rows)?;
        }
        (self.report)(Report::Slices(total));
        if !going_on {
            self.plan(client, &STAGES[0])?;
            // A load that deleted nothing because nothing was planned may not have committed yet:
            // its rows must be seen.
            let mut txn = client.transaction()?;
            slices::after_loads(&mut txn, self.waits())?;
            txn.commit()?;
        }
        Ok(())
    }

    fn plan(&self, client: &mut Client, stage: &Stage) -> Result<(), FinalizeError> {
        let mut txn = client.transaction()?;
        if slices::count(&mut txn, &self.schema, stage.name)?.0 == 0 {
            let bounds = slicing::bounds(&mut txn, stage.slicing, self.slice_rows)?;
            let is_closed = matches!(stage.slicing, Slicing::Numbers);
            slices::plan(&mut txn, &self.schema, stage.name, &bounds, is_closed)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Does the slices of a stage; an outcome if it ends here.
    fn work(&self, client: &mut Client, stage: &Stage) -> Result<Option<Outcome>, FinalizeError> {
        let (planned, before) = slices::count(client, &self.schema, stage.name)?;
        (self.report)(Report::Stage(stage, planned, before));
        let workers = self
            .connections
            .min(usize::try_from(planned - before).unwrap_or(usize::MAX));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|_| scope.spawn(|| self.worker(stage)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let (left, done) = slices::count(client, &self.schema, stage.name)?;
        Ok(if left != planned {
            Some(Outcome::OutOfDate)
        } else if done < planned {
            Some(Outcome::Stopped)
        } else {
            None
        })
    }

    /// Does slices until none is left.
    fn worker(&self, stage: &Stage) -> Result<(), FinalizeError> {
        let mut session = self.session();
        // A slice that an earlier run still works on (its server process outlives it) is waited
        // for, at the end.
        let mut wait = false;
        while !(self.stop)() {
            match session.run(|client| self.slice(client, stage, wait)) {
                Ok(true) => {}
                Ok(false) if wait => break,
                Ok(false) => wait = true,
                Err(error) if error.kind == DbErrorKind::Stopped => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Does one slice; false if there was none.
    fn slice(&self, client: &mut Client, stage: &Stage, wait: bool) -> Result<bool, DbError> {
        let begun = Instant::now();
        let mut txn: Transaction<'_> = client.transaction()?;
        let Some(slice) = slices::take(&mut txn, &self.schema, stage.name, wait)? else {
            return Ok(false);
        };
        txn.batch_execute(&stage.statements(
            slice.lower.as_deref(),
            slice.upper.as_deref(),
            &self.notifications,
        ))?;
        slices::done(&mut txn, &self.schema, stage.name, slice.number)?;
        failpoint::pass("slice");
        txn.commit()?;
        let (number, seconds) = (slice.number, begun.elapsed().as_secs_f64());
        tracing::debug!(
            stage = stage.name,
            slice = number,
            seconds,
            "a slice is done"
        );
        (self.report)(Report::Slice(stage));
        Ok(true)
    }

    /// Drops the work tables, if all stages are still as they were done.
    fn end(&self, client: &mut Client) -> Result<Outcome, FinalizeError> {
        let mut txn = client.transaction()?;
        slices::after_loads(&mut txn, self.waits())?;
        for stage in STAGES {
            let (planned, done) = slices::count(&mut txn, &self.schema, stage.name)?;
            if planned == 0 || done < planned {
                return Ok(Outcome::OutOfDate);
            }
        }
        txn.batch_execute(include_str!("../sql/drop.sql"))?;
        slices::forget(&mut txn)?;
        txn.commit()?;
        Ok(Outcome::Done)
    }
}

/// Vacuums and analyzes tables of which the planner knows little, or whose indexes could not be
/// read alone.
fn vacuum(client: &mut Client, report: &dyn Fn(Report<'_>)) -> Result<(), FinalizeError> {
    let tables: Vec<String> = TABLES.iter().map(|&table| table.to_owned()).collect();
    let stale = client.query(
        "SELECT c.relname::text FROM pg_class c
         WHERE c.oid = ANY (SELECT format('%I', t)::regclass FROM unnest($1::text[]) t)
           AND (c.reltuples < 0 OR c.relallvisible < 0.9 * c.relpages
                OR c.relpages < 0.8 * (pg_relation_size(c.oid) / current_setting('block_size')::bigint))",
        &[&tables],
    )?;
    for row in stale {
        let table: String = row.get(0);
        report(Report::Vacuum(&table));
        // The owner alone may: others get a warning, and slower plans.
        client.batch_execute(&format!("VACUUM (ANALYZE) \"{table}\""))?;
    }
    Ok(())
}
