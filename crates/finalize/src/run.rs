//! Running the stages: planning, workers, going on after a crash.

use crate::slicing;
use crate::stage::{self, Extent, Slicing, Stage};
use crate::work_tables;
use ledger::changes::{self, Finalized, Writers};
use ledger::locks::{self, Hold, Lock};
use ledger::{failpoint, slices};
use load::{DbError, Notifications};
use pg::{Connection, DbErrorKind, Persistent, Waits};
use postgres::{Client, Transaction};
use std::fmt;
use std::time::{Duration, Instant};

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
    /// Compute everything from the start, even if an earlier run can be continued or changes are
    /// known.
    pub restart: bool,
    /// Compute only what depends on noted changes, whoever else writes to the tables.
    pub is_beside: bool,
    /// Of changes, leave those for the next time that loads note meanwhile. Where loads never
    /// cease, it would not end otherwise.
    pub is_once: bool,
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
    /// Nothing changed since the last time.
    Unchanged,
    /// So many changes are known since the last time; what depends on them is computed.
    Changes(u64),
    /// Another program wrote to the tables since the last time: everything is computed.
    Foreign,
    /// Everything is computed. Whoever stores records meanwhile lets it begin anew.
    Everything,
    /// Tables are vacuumed and analyzed, since the planner does not know them.
    Vacuum(&'r str),
    /// There are about so many slices in all.
    Slices(u64),
    /// A stage begins.
    Stage {
        /// Which.
        stage: &'r Stage,
        /// Its number, from 1, and the number of stages.
        number: (usize, usize),
        /// The number of its slices.
        planned: u64,
        /// How many of them are done already.
        done: u64,
    },
    /// A slice of the stage is done.
    Slice(&'r Stage),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizeEnd {
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

/// How long the server is given to count what loads wrote.
const COUNTING: Duration = Duration::from_secs(2);

impl Finalize<'_> {
    /// Does all stages that are not done. When the server goes away, it is waited for.
    ///
    /// # Errors
    /// See [`FinalizeError`]. What was done stays done.
    pub fn run(&self) -> Result<FinalizeEnd, FinalizeError> {
        // Whether the server is there at all shows at once.
        drop(Connection::open(&self.url)?);
        let ended = self.session().run(|client| match self.run_with(client) {
            Err(FinalizeError::Database(error)) => Err(error),
            ended => Ok(ended),
        });
        match ended {
            Ok(ended) => ended,
            Err(error) if error.kind == DbErrorKind::Stopped => Ok(FinalizeEnd::Stopped),
            Err(error) => Err(error.into()),
        }
    }

    fn run_with(&self, client: &mut Client) -> Result<FinalizeEnd, FinalizeError> {
        if !locks::try_acquire(client, Lock::Finalize, Hold::Session)? {
            return Err(FinalizeError::Busy);
        }
        ledger::prepare(client, self.waits())?;
        let missing = load::indexes::missing(client, &self.schema)?;
        if !missing.is_empty() {
            return Err(FinalizeError::Indexes(
                missing.into_iter().map(|d| d.name).collect(),
            ));
        }
        loop {
            let Some(extent) = self.begin(client)? else {
                return Ok(FinalizeEnd::Done);
            };
            if let Some(outcome) = self.do_stages(client, extent)? {
                return Ok(outcome);
            }
            let outcome = self.end(client, extent)?;
            // Loads may have noted changes meanwhile.
            if outcome != FinalizeEnd::Done || extent != Extent::Changes || self.is_once {
                return Ok(outcome);
            }
        }
    }

    /// Does all stages; an outcome if it ends here.
    fn do_stages(
        &self,
        client: &mut Client,
        extent: Extent,
    ) -> Result<Option<FinalizeEnd>, FinalizeError> {
        let stages = extent.stages();
        let is_small = |client: &mut Client, at: usize| match (extent, at) {
            (Extent::Changes, 1) => slicing::are_posts_few(client, self.slice_rows),
            _ => Ok(false),
        };
        for (at, stage) in stages.iter().enumerate() {
            // The first stage has found the posts.
            if is_small(client, at)? {
                return self.do_small(client, at, &stages);
            }
            if at > 0 {
                self.plan(client, stage, extent)?;
            }
            if let Some(outcome) = self.work(client, stage, (at + 1, stages.len()), extent)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Does the stages from the one at `first` on, of few changes: a slice each, and one request to
    /// the server for each slice. Its commit does not wait for the disk: that of [`Self::end`]
    /// does, for all before it.
    fn do_small(
        &self,
        client: &mut Client,
        first: usize,
        stages: &[&Stage],
    ) -> Result<Option<FinalizeEnd>, FinalizeError> {
        let extent = Extent::Changes;
        let names: Vec<&str> = stages.iter().map(|stage| stage.name).collect();
        slices::plan_whole(client, &self.schema, &names[first..])?;
        let counts = slices::counts(client, &self.schema)?;
        for (at, stage) in stages.iter().enumerate().skip(first) {
            let number = (at + 1, stages.len());
            let (planned, done) = counts.get(stage.name).copied().unwrap_or((0, 0));
            // An earlier run with smaller slices began it.
            if planned > 1 {
                if let Some(outcome) = self.work(client, stage, number, extent)? {
                    return Ok(Some(outcome));
                }
                continue;
            }
            if (self.stop)() {
                return Ok(Some(FinalizeEnd::Stopped));
            }
            (self.report)(Report::Stage {
                stage,
                number,
                planned,
                done,
            });
            if done == planned {
                continue;
            }
            let statements = self.statements(stage, extent, (None, None));
            let done = slices::whole_is_done(&self.schema, stage.name);
            client.batch_execute(&format!(
                "SET LOCAL synchronous_commit = off; {statements}; {done}"
            ))?;
            failpoint::pass("slice");
            (self.report)(Report::Slice(stage));
        }
        Ok(None)
    }

    /// The statements of a slice.
    fn statements(
        &self,
        stage: &Stage,
        extent: Extent,
        bounds: (Option<&str>, Option<&str>),
    ) -> String {
        let mut statements = stage.statements(extent, bounds, &self.notifications);
        if extent != Extent::Noted && stage.updates_rows_of_loads() {
            statements = changes::noting_updates(&self.schema, &statements);
        }
        format!("{}{statements}", Self::setting(extent))
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

    /// The setting for the statements of an extent. Of what changed, no large table is read as a
    /// whole, whatever its statistics say.
    fn setting(extent: Extent) -> &'static str {
        match extent {
            Extent::Everything => "",
            Extent::Changes | Extent::Noted => "SET LOCAL enable_seqscan = off;",
        }
    }

    /// Continues with an earlier run, or begins one; nothing if there is nothing to compute.
    fn begin(&self, client: &mut Client) -> Result<Option<Extent>, FinalizeError> {
        let extent = match self.going_on(client)? {
            Some(extent) => {
                (self.report)(Report::GoingOn);
                if extent == Extent::Everything {
                    (self.report)(Report::Everything);
                }
                extent
            }
            None => match self.known(client)? {
                Some(known) if known.changes == 0 => {
                    (self.report)(Report::Unchanged);
                    return Ok(None);
                }
                Some(known) => {
                    (self.report)(Report::Changes(known.changes));
                    if !self.begin_changes(client, known.writers())? {
                        return self.begin(client);
                    }
                    Extent::Changes
                }
                None if self.is_beside => {
                    if !self.begin_noted(client)? {
                        (self.report)(Report::Unchanged);
                        return Ok(None);
                    }
                    Extent::Noted
                }
                None => {
                    (self.report)(Report::Everything);
                    self.begin_everything(client)?;
                    Extent::Everything
                }
            },
        };
        let mut total = 0;
        for stage in extent.stages() {
            total += slicing::estimate(client, stage.slicing(extent), self.slice_rows)?;
        }
        (self.report)(Report::Slices(total));
        Ok(Some(extent))
    }

    /// What an earlier run was at that can be continued.
    fn going_on(&self, client: &mut Client) -> Result<Option<Extent>, FinalizeError> {
        if self.restart {
            return Ok(None);
        }
        // The first stage is planned when a run begins and at no other time, and a load that makes
        // it useless forgets all stages: if it is there, so is the rest.
        let begun = |client: &mut Client, extent: Extent| -> Result<bool, FinalizeError> {
            let first = extent.stages()[0];
            Ok(slices::count(client, &self.schema, first.name)?.0 > 0)
        };
        // What was begun beside another indexer is begun anew, with what it had taken.
        let is_finalized = Finalized::read(client, &self.schema)?.is_some();
        if is_finalized && begun(client, Extent::Changes)? {
            return Ok(Some(Extent::Changes));
        }
        let goes_on = !self.is_beside && begun(client, Extent::Everything)?;
        Ok(goes_on.then_some(Extent::Everything))
    }

    /// What is known of the changes; nothing if everything has to be computed.
    fn known(&self, client: &mut Client) -> Result<Option<Finalized>, FinalizeError> {
        if self.restart {
            return Ok(None);
        }
        let since = Instant::now();
        loop {
            let mut txn = client.transaction()?;
            slices::after_loads(&mut txn, self.waits())?;
            let known = Finalized::read(&mut txn, &self.schema)?
                .filter(|known| known.notifications == self.notifications.text());
            let Some(known) = known else { return Ok(None) };
            let is_foreign = match known.writers() {
                Writers::Ours => false,
                Writers::Foreign => true,
                Writers::Uncounted if known.counts() && since.elapsed() < COUNTING => {
                    drop(txn);
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                // It reads all accounts, which is too much for one.
                Writers::Uncounted if self.is_beside => true,
                Writers::Uncounted => changes::is_moved_on(&mut txn, &self.schema)?,
            };
            txn.commit()?;
            if is_foreign && !self.is_beside {
                (self.report)(Report::Foreign);
            }
            // From about there on, lookups cost more than reading all.
            let rows = slicing::rows(client, "record")?;
            let is_few = self.is_beside || known.changes < rows.max(FEW) / 4;
            return Ok((!is_foreign && is_few).then_some(known));
        }
    }

    /// Takes the changes; false if the loads have stopped to note them.
    fn begin_changes(&self, client: &mut Client, writers: Writers) -> Result<bool, FinalizeError> {
        let mut txn = client.transaction()?;
        slices::after_loads(&mut txn, self.waits())?;
        let Some(known) = Finalized::read(&mut txn, &self.schema)? else {
            return Ok(false);
        };
        slices::forget(&mut txn)?;
        work_tables::ready(&mut txn)?;
        // After some time of waiting, what the server has not counted is lost.
        let are_counts_lost = writers == Writers::Uncounted;
        let into = "skyfill.finalize_change";
        changes::take(&mut txn, &self.schema, into, Some(&known), are_counts_lost)?;
        if known.changes > MANY {
            txn.batch_execute(&format!("ANALYZE {into}"))?;
        }
        let first = Extent::Changes.stages()[0];
        slices::plan(&mut txn, &self.schema, first.name, &[], false)?;
        txn.commit()?;
        Ok(true)
    }

    /// Takes what was noted, also by an earlier run that was interrupted; false if nothing was.
    /// What finalize keeps does not follow another indexer, so from now on everything is to be
    /// computed before changes alone are.
    fn begin_noted(&self, client: &mut Client) -> Result<bool, FinalizeError> {
        let mut txn = client.transaction()?;
        slices::after_loads(&mut txn, self.waits())?;
        let is_left = "SELECT to_regclass('skyfill.finalize_change') IS NOT NULL";
        let left = match txn.query_one(is_left, &[])?.get(0) {
            true => "SELECT kind, key, other, difference FROM skyfill.finalize_change",
            false => {
                "SELECT '' AS kind, '' AS key, NULL::text AS other, 0::bigint AS difference WHERE false"
            }
        };
        txn.batch_execute(&format!(
            "CREATE TEMPORARY TABLE left_change ON COMMIT DROP AS {left}"
        ))?;
        slices::forget(&mut txn)?;
        work_tables::make(&mut txn)?;
        work_tables::make_derived(&mut txn)?;
        changes::take(
            &mut txn,
            &self.schema,
            "skyfill.finalize_change",
            None,
            false,
        )?;
        changes::distrust_all(&mut txn)?;
        txn.batch_execute(
            "INSERT INTO skyfill.finalize_change (kind, key, other, difference)
             SELECT kind, key, other, difference FROM pg_temp.left_change",
        )?;
        let noted: i64 = txn
            .query_one("SELECT count(*) FROM skyfill.finalize_change", &[])?
            .get(0);
        if noted == 0 {
            return Ok(false);
        }
        let first = Extent::Noted.stages()[0];
        slices::plan(&mut txn, &self.schema, first.name, &[], false)?;
        txn.commit()?;
        (self.report)(Report::Changes(u64::try_from(noted).unwrap_or(0)));
        Ok(true)
    }

    fn begin_everything(&self, client: &mut Client) -> Result<(), FinalizeError> {
        let mut txn = client.transaction()?;
        slices::forget(&mut txn)?;
        txn.batch_execute(&stage::gone(&self.schema))?;
        changes::begin_everything(&mut txn, &self.schema)?;
        work_tables::make(&mut txn)?;
        work_tables::make_derived(&mut txn)?;
        txn.commit()?;
        vacuum(client, self.report)?;
        self.plan(client, Extent::Everything.stages()[0], Extent::Everything)?;
        // A load that deleted nothing because nothing was planned may not have committed yet: its
        // rows must be seen.
        let mut txn = client.transaction()?;
        slices::after_loads(&mut txn, self.waits())?;
        txn.commit()?;
        Ok(())
    }

    fn plan(
        &self,
        client: &mut Client,
        stage: &Stage,
        extent: Extent,
    ) -> Result<(), FinalizeError> {
        let mut txn = client.transaction()?;
        if slices::count(&mut txn, &self.schema, stage.name)?.0 == 0 {
            let slicing = stage.slicing(extent);
            let bounds = slicing::bounds(&mut txn, slicing, self.slice_rows)?;
            let is_closed = matches!(slicing, Slicing::Numbers);
            slices::plan(&mut txn, &self.schema, stage.name, &bounds, is_closed)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Does the slices of a stage; an outcome if it ends here.
    fn work(
        &self,
        client: &mut Client,
        stage: &Stage,
        number: (usize, usize),
        extent: Extent,
    ) -> Result<Option<FinalizeEnd>, FinalizeError> {
        let (planned, done) = slices::count(client, &self.schema, stage.name)?;
        (self.report)(Report::Stage {
            stage,
            number,
            planned,
            done,
        });
        let workers = self
            .connections
            .min(usize::try_from(planned - done).unwrap_or(usize::MAX));
        if workers == 1 && extent != Extent::Everything {
            self.slices_of(client, stage, extent)?;
        } else {
            self.in_threads(workers, stage, extent)?;
        }
        let (left, done) = slices::count(client, &self.schema, stage.name)?;
        Ok(if left != planned {
            Some(FinalizeEnd::OutOfDate)
        } else if done < planned {
            Some(FinalizeEnd::Stopped)
        } else {
            None
        })
    }

    /// Does the slices of a small stage on this connection: another one would take longer to
    /// connect. Long slices have one of their own: the server finishes the slice of a process that
    /// was killed, and must not hold the lock of the whole for that.
    fn slices_of(&self, client: &mut Client, stage: &Stage, extent: Extent) -> Result<(), DbError> {
        let mut wait = false;
        while !(self.stop)() {
            match self.slice(client, stage, extent, wait)? {
                true => {}
                false if wait => break,
                false => wait = true,
            }
        }
        Ok(())
    }

    fn in_threads(
        &self,
        workers: usize,
        stage: &Stage,
        extent: Extent,
    ) -> Result<(), FinalizeError> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|_| scope.spawn(|| self.worker(stage, extent)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// Does slices until none is left.
    fn worker(&self, stage: &Stage, extent: Extent) -> Result<(), FinalizeError> {
        let mut session = self.session();
        // A slice that an earlier run still works on (its server process outlives it) is waited
        // for, at the end.
        let mut wait = false;
        while !(self.stop)() {
            match session.run(|client| self.slice(client, stage, extent, wait)) {
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
    fn slice(
        &self,
        client: &mut Client,
        stage: &Stage,
        extent: Extent,
        wait: bool,
    ) -> Result<bool, DbError> {
        let begun = Instant::now();
        let mut txn: Transaction<'_> = client.transaction()?;
        let Some(slice) = slices::claim(&mut txn, &self.schema, stage.name, wait)? else {
            return Ok(false);
        };
        let bounds = (slice.lower.as_deref(), slice.upper.as_deref());
        txn.batch_execute(&self.statements(stage, extent, bounds))?;
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

    /// Leaves the work tables empty, if all stages are still as they were done.
    fn end(&self, client: &mut Client, extent: Extent) -> Result<FinalizeEnd, FinalizeError> {
        if extent == Extent::Everything {
            client.batch_execute(
                "ANALYZE skyfill.derived_stray, skyfill.derived_gated, skyfill.derived_quoted",
            )?;
        }
        let mut txn = client.transaction()?;
        slices::after_loads(&mut txn, self.waits())?;
        let counts = slices::counts(&mut txn, &self.schema)?;
        for stage in extent.stages() {
            match counts.get(stage.name) {
                Some((planned, done)) if done == planned => {}
                _ => return Ok(FinalizeEnd::OutOfDate),
            }
        }
        let is_impossible =
            extent == Extent::Changes && txn.query_one(&impossible(&self.schema), &[])?.get(0);
        match extent {
            Extent::Changes => work_tables::empty(&mut txn)?,
            Extent::Everything => work_tables::make(&mut txn)?,
            Extent::Noted => work_tables::drop_all(&mut txn)?,
        }
        slices::forget(&mut txn)?;
        match extent {
            Extent::Everything => {
                // Also of loads that had begun before, and ended before anything was planned.
                txn.batch_execute(&stage::gone(&self.schema))?;
                let notifications = self.notifications.text();
                changes::end_everything(&mut txn, &self.schema, &notifications)?;
            }
            Extent::Changes if is_impossible => changes::distrust(&mut txn, &self.schema)?,
            Extent::Changes => {}
            Extent::Noted => work_tables::drop_derived(&mut txn)?,
        }
        txn.commit()?;
        if is_impossible {
            (self.report)(Report::Foreign);
        }
        Ok(FinalizeEnd::Done)
    }
}

/// SQL: whether a count is one that differences cannot lead to.
fn impossible(schema: &str) -> String {
    include_str!("../sql/impossible.sql").replace("{noted}", &changes::noted_replies(schema))
}

/// So many changes are worth a look before statements about them are planned.
const MANY: u64 = 1000;

/// Fewer changes than a quarter of this are never too many.
const FEW: u64 = 40_000;

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
