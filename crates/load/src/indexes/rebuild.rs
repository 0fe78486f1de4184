//! The workers of a rebuild, each with a connection.

use super::board::{Board, Next};
use super::build::{self, Built};
use super::{Conflicts, Resources};
use ledger::dropped::Dropped;
use pg::{DbError, Waits};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A worker that has nothing to do looks this often whether it is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why not all indexes were rebuilt.
#[derive(Debug)]
pub struct RebuildError {
    /// The index that failed, as its name and its table, if it was one.
    pub at: Option<Box<(String, String)>>,
    /// The error.
    pub error: DbError,
}

impl RebuildError {
    fn of(what: Option<&Dropped>, error: DbError) -> Self {
        let at = what.map(|what| Box::new((what.name.clone(), what.table.clone())));
        Self { at, error }
    }
}

impl<E: Into<DbError>> From<E> for RebuildError {
    fn from(error: E) -> Self {
        Self::of(None, error.into())
    }
}

/// What happens while indexes are rebuilt.
#[derive(Debug)]
pub enum Rebuilding<'r> {
    /// An index build begins.
    Begins(&'r Dropped),
    /// An index is rebuilt, with the constraint that stands on it.
    Done(&'r Dropped),
    /// A build found no room on the server beside others. It comes again when they are done, and
    /// from then on one runs at a time.
    Alone(&'r Dropped, &'r DbError),
}

/// A rebuild of what is missing.
pub struct Rebuild<'r> {
    /// The database.
    pub url: &'r str,
    /// The AppView's schema in it.
    pub schema: &'r str,
    /// What it may take of the server.
    pub resources: Resources,
    /// What happens to rows that violate a unique key.
    pub conflicts: Conflicts,
    /// What tells it to stop, and where it says which builds it waits for.
    pub waits: Waits<'r>,
    /// Takes what happens, in order.
    pub report: &'r (dyn Fn(Rebuilding<'_>) + Sync),
}

/// What the workers share.
struct SharedBoard<'m> {
    board: Mutex<Board<'m>>,
    changed: Condvar,
}

impl<'m> SharedBoard<'m> {
    fn lock(&self) -> MutexGuard<'_, Board<'m>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the board, and wakes who waits for that.
    fn change<T>(&self, change: impl FnOnce(&mut Board<'m>) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        outcome
    }
}

impl Rebuild<'_> {
    /// Rebuilds every index and constraint of `missing`; false if it was stopped before.
    ///
    /// # Errors
    /// The first error. No build begins after it, but those that run are finished. What was rebuilt
    /// stays; the rest can be rebuilt later.
    pub fn run(&self, missing: &[Dropped]) -> Result<bool, RebuildError> {
        let sizes = build::session(self.url, self.schema)?.query(
            "SELECT c.relname::text, pg_relation_size(c.oid)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind = 'r'",
            &[&self.schema],
        )?;
        let table_bytes = |table: &str| {
            let row = sizes.iter().find(|row| row.get::<_, &str>(0) == table);
            row.map_or(0, |row| u64::try_from(row.get::<_, i64>(1)).unwrap_or(0))
        };
        let shared = SharedBoard {
            board: Mutex::new(Board::new(missing, table_bytes, self.resources)),
            changed: Condvar::new(),
        };
        let workers = self.resources.builds.min(missing.len()).max(1);
        let outcomes: Vec<Result<(), RebuildError>> = std::thread::scope(|scope| {
            let start = |_| scope.spawn(|| self.work(&shared));
            let threads: Vec<_> = (0..workers).map(start).collect();
            let failed = || Err(DbError::lost("a thread failed").into());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| failed()))
                .collect()
        });
        outcomes.into_iter().collect::<Result<Vec<()>, _>>()?;
        let is_done = shared.lock().is_done();
        Ok(is_done)
    }

    /// A worker. Whatever ends it, the others begin nothing more.
    fn work(&self, shared: &SharedBoard<'_>) -> Result<(), RebuildError> {
        let outcome = build::session(self.url, self.schema)
            .map_err(RebuildError::from)
            .and_then(|mut client| {
                while let Some(next) = self.next(shared) {
                    self.step(&mut client, shared, next)?;
                }
                Ok(())
            });
        if outcome.is_err() {
            shared.change(Board::close);
        }
        outcome
    }

    /// What to do next; nothing if that is all.
    fn next(&self, shared: &SharedBoard<'_>) -> Option<Next> {
        let mut board = shared.lock();
        loop {
            if self.waits.stop.is_set() {
                board.close();
            }
            match board.next() {
                Next::End => return None,
                Next::Wait => {
                    let waited = shared.changed.wait_timeout(board, LOOK_EVERY);
                    board = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                next => {
                    if let Next::Build(at, _) = next
                        && let Some(what) = board.at(at)
                    {
                        (self.report)(Rebuilding::Begins(what));
                    }
                    return Some(next);
                }
            }
        }
    }

    fn step(
        &self,
        client: &mut postgres::Client,
        shared: &SharedBoard<'_>,
        next: Next,
    ) -> Result<(), RebuildError> {
        match next {
            Next::Build(at, share) => {
                let Some(what) = shared.lock().at(at) else {
                    return Ok(());
                };
                let (schema, waits) = (self.schema, self.waits);
                let outcome = build::build(client, schema, what, share, self.conflicts, waits);
                match outcome {
                    Ok(built) => {
                        if built == Built::Whole {
                            (self.report)(Rebuilding::Done(what));
                        }
                        shared.change(|board| board.built(at, built == Built::Whole));
                        Ok(())
                    }
                    Err(error)
                        if error.is_exhausted() && shared.change(|board| board.retry_alone(at)) =>
                    {
                        (self.report)(Rebuilding::Alone(what, &error));
                        Ok(ledger::locks::release_build(client, schema, &what.name)?)
                    }
                    Err(error) => Err(RebuildError::of(Some(what), error)),
                }
            }
            Next::Add(constraints) => {
                let all: Vec<&Dropped> = {
                    let board = shared.lock();
                    constraints.iter().filter_map(|at| board.at(*at)).collect()
                };
                build::add_constraints(client, self.schema, &all, self.waits)
                    .map_err(|error| RebuildError::of(all.first().copied(), error))?;
                for what in all {
                    (self.report)(Rebuilding::Done(what));
                }
                shared.change(|board| board.added(&constraints));
                Ok(())
            }
            Next::Wait | Next::End => Ok(()),
        }
    }
}
