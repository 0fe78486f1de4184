//! Freezing: the VACUUM of tables that were loaded fresh.
//!
//! A row that was loaded is written once more when a VACUUM freezes it, and its page with it. If
//! the page is on the disk by then, it is read and written a second time, and a copy of it goes to
//! the WAL; an index build in between sets hint bits, and writes it once more. So a fresh load
//! freezes beside itself ([`Freezer`]), while the pages are in the server's buffers. What is left
//! is frozen before the indexes are built. A page that is frozen is never looked at again: a
//! VACUUM that was killed, or that comes again, goes on with the others.
//!
//! Autovacuum is off for these tables meanwhile (`pause_autovacuum`): it would do the same work
//! later, and without freezing. What was set before is in the ledger, and is set back when the
//! indexes are there, by whoever rebuilds them.

use crate::indexes::Resources;
use appview::table;
use ledger::table_settings::{self, Changed};
use pg::{Connection, DbError};
use postgres::{Client, Error};
use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a load looks at how far tables have grown.
const EVERY: Duration = Duration::from_secs(2);
/// A table is frozen when it has grown by this part of the server's buffers, so that its new pages
/// are still there,
const PART_OF_BUFFERS: u64 = 16;
/// and by this part of its own size: a VACUUM looks at two bits of each page.
pub const PART_OF_TABLE: u64 = 400;
/// A table that grew by less waits, in bytes.
const LEAST: u64 = 16 << 20;
/// Brings all commits to the disk. A load does not wait for that, and a VACUUM takes no page for
/// visible to all whose rows' commits are only in the server's memory.
const FLUSH: &str =
    "SET synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'skyfill', '')";
/// The setting that turns autovacuum off for a table.
const AUTOVACUUM: &str = "autovacuum_enabled";

/// What a VACUUM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It freezes tables that have no indexes.
    Freeze,
    /// It freezes and analyzes.
    FreezeAndAnalyze,
}

impl Work {
    const fn options(self) -> &'static str {
        match self {
            // A table that cannot be locked has an index build of an earlier start, which came
            // after this.
            Self::Freeze => "FREEZE, TRUNCATE off, INDEX_CLEANUP off, SKIP_LOCKED",
            Self::FreezeAndAnalyze => "FREEZE, ANALYZE",
        }
    }
}

/// By how many bytes a table grows at least before a load freezes it, on a server with so many
/// bytes of buffers.
#[must_use]
pub fn step(shared_buffers: u64) -> u64 {
    (shared_buffers / PART_OF_BUFFERS).max(LEAST)
}

/// The tables that [`vacuum`] goes over.
pub fn vacuumed() -> impl Iterator<Item = &'static str> {
    let tables = table::ALL.iter().map(|info| info.name);
    tables.chain(["actor_sync"])
}

/// Vacuums all tables that repos fill, large ones first, on several connections, which share the
/// memory of `resources`. False if it was stopped.
///
/// # Errors
/// The first error.
pub fn vacuum(
    url: &str,
    schema: &str,
    work: Work,
    resources: Resources,
    done: &(dyn Fn() + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<bool, DbError> {
    let mut client = Connection::open(url)?;
    client.batch_execute(FLUSH)?;
    let tables = by_size(&mut client, schema)?;
    drop(client);
    let memory = resources.memory / resources.builds.max(1) as u64;
    let settings = format!(
        "{}; SET maintenance_work_mem = '{}kB'; SET client_min_messages = error",
        pg::search_path(schema),
        (memory >> 10).clamp(1024, 1 << 30)
    );
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || -> Result<(), DbError> {
        let mut client = pg::connect(url)?;
        client.batch_execute(&settings)?;
        while let Some((table, _)) =
            tables.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        {
            if stop() {
                return Ok(());
            }
            vacuum_one(&mut client, schema, table, work)?;
            ledger::failpoint::pass("freeze");
            done();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..resources.builds.max(1))
            .map(|_| scope.spawn(worker))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(DbError::lost("a thread failed")))
        })
    })?;
    Ok(!stop())
}

fn vacuum_one(client: &mut Client, schema: &str, table: &str, work: Work) -> Result<(), DbError> {
    let options = work.options();
    Ok(client.batch_execute(&format!("VACUUM ({options}) \"{schema}\".\"{table}\""))?)
}

/// The tables that [`vacuum`] goes over with their sizes in bytes, the largest first.
fn by_size(client: &mut Client, schema: &str) -> Result<Vec<(String, i64)>, Error> {
    let tables: Vec<&str> = vacuumed().collect();
    let rows = client.query(
        "SELECT c.relname::text, pg_table_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname::text = ANY($2) ORDER BY 2 DESC, 1",
        &[&schema, &tables],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Turns autovacuum off for all tables that repos fill, and remembers in the same transaction what
/// was set.
///
/// # Errors
/// The server refused.
pub(crate) fn pause_autovacuum(
    txn: &mut postgres::Transaction<'_>,
    schema: &str,
) -> Result<(), Error> {
    for (table, value) in settings(txn, schema)? {
        if value.as_deref() == Some("false") {
            continue;
        }
        let was = Changed {
            table,
            name: AUTOVACUUM.to_owned(),
            value,
        };
        table_settings::save(txn, schema, &was)?;
        set(
            txn,
            schema,
            &was.table,
            &format!("SET ({AUTOVACUUM} = false)"),
        )?;
    }
    Ok(())
}

/// Sets autovacuum back to what it was before a load turned it off; of how many tables.
///
/// # Errors
/// The server refused.
pub fn resume_autovacuum(client: &mut Client, schema: &str) -> Result<usize, Error> {
    let mut txn = client.transaction()?;
    let changed = table_settings::list(&mut txn, schema)?;
    // A table that somebody dropped meanwhile has nothing to be set back.
    let known: HashMap<String, Option<String>> = settings(&mut txn, schema)?.into_iter().collect();
    let there = changed.iter().filter(|was| known.contains_key(&was.table));
    for was in there {
        let change = match &was.value {
            Some(value) => format!("SET ({AUTOVACUUM} = '{}')", value.replace('\'', "''")),
            None => format!("RESET ({AUTOVACUUM})"),
        };
        set(&mut txn, schema, &was.table, &change)?;
    }
    table_settings::forget(&mut txn, schema)?;
    txn.commit()?;
    Ok(changed.len())
}

fn set(
    txn: &mut postgres::Transaction<'_>,
    schema: &str,
    table: &str,
    change: &str,
) -> Result<(), Error> {
    txn.batch_execute(&format!("ALTER TABLE \"{schema}\".\"{table}\" {change}"))
}

/// What the tables have of the setting.
fn settings(
    txn: &mut postgres::Transaction<'_>,
    schema: &str,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let tables: Vec<&str> = vacuumed().collect();
    let rows = txn.query(
        "SELECT c.relname::text, (SELECT o.option_value FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = $3)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname::text = ANY($2) AND c.relkind = 'r' ORDER BY 1",
        &[&schema, &tables, &AUTOVACUUM],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A thread that freezes beside a fresh load, until it is dropped. It holds nobody up: COPY goes on
/// beside a VACUUM. If it cannot work, more is left for later.
pub struct Freezer {
    /// Its end is the sign to stop.
    loading: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Freezer {
    /// Starts it.
    #[must_use]
    pub fn start(url: &str, schema: &str) -> Self {
        let (loading, over) = channel();
        let (url, schema) = (url.to_owned(), schema.to_owned());
        let name = "freezer".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let mut work: Option<Frozen> = None;
            while over.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if work.is_none() {
                    work = Frozen::connect(&url).ok();
                }
                let is_over = || over.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
                if let Some(Err(error)) = work.as_mut().map(|work| work.round(&schema, &is_over)) {
                    // Next time on a new connection.
                    tracing::debug!(%error, "tables are not frozen while loading");
                    work = None;
                }
            }
        });
        Self {
            loading: Some(loading),
            thread: thread.ok(),
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(self.loading.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing that could be lost.
            drop(thread.join());
        }
    }
}

/// How large tables were when they were frozen last.
struct Frozen {
    client: Client,
    step: i64,
    sizes: HashMap<String, i64>,
}

impl Frozen {
    fn connect(url: &str) -> Result<Self, DbError> {
        let mut client = pg::connect(url)?;
        client.batch_execute("SET client_min_messages = error")?;
        let sql = "SELECT pg_size_bytes(current_setting('shared_buffers'))";
        let buffers: i64 = client.query_one(sql, &[])?.get(0);
        Ok(Self {
            client,
            step: i64::try_from(step(u64::try_from(buffers).unwrap_or(0))).unwrap_or(i64::MAX),
            sizes: HashMap::new(),
        })
    }

    fn round(&mut self, schema: &str, is_over: &dyn Fn() -> bool) -> Result<(), DbError> {
        for (table, size) in by_size(&mut self.client, schema)? {
            let grown = size - self.sizes.get(&table).copied().unwrap_or(0);
            if is_over() {
                break;
            }
            let part = size / i64::try_from(PART_OF_TABLE).unwrap_or(i64::MAX);
            if grown >= self.step.max(part) {
                vacuum_one(&mut self.client, schema, &table, Work::Freeze)?;
                self.sizes.insert(table, size);
            }
        }
        Ok(())
    }
}
