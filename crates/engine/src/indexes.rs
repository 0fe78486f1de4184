//! Rebuilding the indexes that skyfill dropped.

use ledger::dropped::Dropped;
use load::freeze;
use load::indexes::{self, Conflicts, Rebuild, RebuildError, Rebuilding, Resources};
use observe::printable;
use pg::{DbError, DbErrorKind, Persistent, Step};
use process::{Database, Failure, Stop};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes what happens in a rebuild.
pub(crate) type Report<'r> = &'r (dyn Fn(Rebuilding<'_>) + Sync);
/// Rebuilds, and reports.
pub(crate) type Go<'g> = &'g dyn Fn(Report<'_>) -> Result<bool, RebuildError>;

/// The indexes and constraints that skyfill dropped, and that are missing still.
///
/// # Errors
/// The database cannot be used, or what lies in schema `skyfill` is not skyfill's.
pub fn missing(database: &Database) -> Result<Vec<Dropped>, Failure> {
    let mut client = database.connect()?;
    database.require_trusted(&mut client)?;
    indexes::missing(&mut client, &database.schema).map_err(|error| database.failure(error))
}

/// Indexes and constraints as JSON.
#[must_use]
pub fn json(missing: &[Dropped]) -> Value {
    let all = missing
        .iter()
        .map(|what| json!({"table": what.table, "name": what.name, "ddl": what.ddl}));
    all.collect()
}

/// Rebuilds every index and constraint that is dropped, with this memory of PostgreSQL's or a
/// budget from its settings, and this many builds at once. Their names; nothing if it was stopped.
///
/// # Errors
/// One of them cannot be rebuilt; what was rebuilt before stays.
pub fn restore(
    database: &Database,
    resources: Resources,
    stop: &Stop,
) -> Result<Option<Vec<String>>, Failure> {
    let mut client = database.connect()?;
    database.require_trusted(&mut client)?;
    drop(client);
    let begun = AtomicUsize::new(0);
    let mut names = Vec::new();
    let ended = rebuild(
        database,
        resources,
        Conflicts::Settle,
        stop,
        |missing, go| {
            if names.is_empty() {
                names = missing.iter().map(|what| what.name.clone()).collect();
            }
            let total = names.len();
            go(&|what| match what {
                Rebuilding::Begins(what) => observe::log!(
                    "{} of {total}: {} on {}",
                    begun.fetch_add(1, Ordering::Relaxed) + 1,
                    printable(&what.name),
                    printable(&what.table)
                ),
                Rebuilding::Alone(what, error) => warn_alone(&what.name, error),
                Rebuilding::Done(_) => {}
            })
        },
    )?;
    Ok(ended.then_some(names))
}

/// What people read when a build is put off.
pub(crate) fn warn_alone(name: &str, error: &DbError) {
    tracing::warn!(
        "{name}: {error}; it is built again when the other builds are done, and from then on one at a time"
    );
}

/// Rebuilds every index and constraint that is missing; false if it was stopped. Each attempt is
/// made through `attempt`: with what is missing, and what does it.
///
/// A server that goes away is waited for. One that has no disk space left is not: the sort of a
/// large table would fill it again, hours later.
///
/// # Errors
/// See [`restore`].
pub(crate) fn rebuild(
    database: &Database,
    resources: Resources,
    conflicts: Conflicts,
    stop: &Stop,
    mut attempt: impl FnMut(&[Dropped], Go<'_>) -> Result<bool, RebuildError>,
) -> Result<bool, Failure> {
    let mut failed_at = None;
    let schema = &database.schema;
    let rebuilt = pg::persist(Step::Long, stop.waits(), || -> Result<_, DbError> {
        let missing = Persistent::new(&database.url, stop.waits())
            .run(|client| indexes::missing(client, schema))?;
        if missing.is_empty() {
            resume_autovacuum(database, stop)?;
            return Ok(Ok(true));
        }
        let go = |report: Report<'_>| {
            let rebuild = Rebuild {
                url: &database.url,
                schema,
                resources,
                conflicts,
                waits: stop.waits(),
                report,
            };
            rebuild.run(&missing)
        };
        match attempt(&missing, &go) {
            Ok(ended) => {
                if ended {
                    resume_autovacuum(database, stop)?;
                }
                Ok(Ok(ended))
            }
            Err(RebuildError { at, error }) => {
                failed_at = at;
                if error.is_exhausted() || error.is_over_limit() {
                    return Ok(Err(error));
                }
                Err(error)
            }
        }
    });
    rebuilt
        .and_then(|outcome| outcome)
        .map_err(|error| not_rebuilt(database, failed_at.as_deref(), &error))
}

/// Sets autovacuum back to what it was before a load turned it off.
fn resume_autovacuum(database: &Database, stop: &Stop) -> Result<(), DbError> {
    let tables =
        Persistent::new(&database.url, stop.waits()).run(|client| -> Result<_, DbError> {
            match ledger::exists(client)? {
                true => Ok(freeze::resume_autovacuum(client, &database.schema)?),
                false => Ok(0),
            }
        })?;
    tracing::debug!(tables, "autovacuum is as it was before the load");
    Ok(())
}

/// Why an index could not be made, and what mends it.
fn not_rebuilt(database: &Database, at: Option<&(String, String)>, error: &DbError) -> Failure {
    if error.kind == DbErrorKind::Stopped {
        return database.db_failure(error);
    }
    let which = at.map_or_else(String::new, |(name, table)| format!("{name} on {table}: "));
    let failure = Failure::new(format!(
        "build indexes in schema {} of {}: {which}{error}",
        database.schema,
        database.shown()
    ));
    failure.hint_to_go_on(match error.sqlstate.as_deref() {
        Some("23505") => {
            "a row that skyfill did not write violates the constraint; remove it (the message names its key), then"
        }
        Some("53100") => {
            "the server's disk is full. The indexes that were built stay. A build sorts in temporary files (temp_tablespaces says where) and then writes the index: make room for both, then"
        }
        Some("53400") => {
            "a build sorts in temporary files, and temp_file_limit is smaller. The indexes that were built stay. Raise it (ALTER ROLE ... SET temp_file_limit), then"
        }
        _ => "what was built stays; fix this, then",
    })
}
