//! Workers (table `worker`): the processes that load repos into one schema, with the name, share,
//! rate and health of each.
//!
//! A worker writes its row with each renewal of its leases, in one statement. Its share of the
//! hosts follows from the rows of all workers that live. All times are those of the database's
//! clock: what the clock of a worker's machine says decides nothing.

use crate::host_counts;
use crate::hosts::{alive, holding};
use crate::locks::HOLDERS;
use crate::open::Which;
use crate::runs::Phase;
use postgres::{Error, GenericClient, Row};
use std::time::Duration;

/// The step of the ledger's schema that makes the table. A row, like that of a host, is written
/// every few seconds: most of its page is room for that.
pub(crate) const STEP: &str = "CREATE TABLE skyfill.worker (
        id integer PRIMARY KEY,
        schema_name text NOT NULL,
        name text NOT NULL,
        machine text NOT NULL,
        pid integer NOT NULL,
        run bigint NOT NULL,
        slots integer NOT NULL,
        joined_at timestamptz NOT NULL DEFAULT now(),
        seen_at timestamptz NOT NULL DEFAULT now(),
        lease_until timestamptz NOT NULL,
        left_at timestamptz,
        hosts bigint NOT NULL DEFAULT 0,
        pending bigint NOT NULL DEFAULT 0,
        repos bigint NOT NULL DEFAULT 0,
        failed bigint NOT NULL DEFAULT 0,
        records bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        repos_per_second float8 NOT NULL DEFAULT 0,
        records_per_second float8 NOT NULL DEFAULT 0,
        under_way integer NOT NULL DEFAULT 0,
        leases_lost bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
     ALTER TABLE skyfill.host ADD COLUMN paused_until timestamptz;
     ALTER TABLE skyfill.host SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)";

/// So many workers of a schema are remembered.
const REMEMBERED: i64 = 200;

/// A worker that joins.
#[derive(Clone, Debug)]
pub struct Joining<'j> {
    /// Its name, for people.
    pub name: &'j str,
    /// The name of its machine.
    pub machine: &'j str,
    /// Its process's id there.
    pub pid: u32,
    /// The run that it works on.
    pub run: i64,
    /// Requests that it can have under way: its weight where hosts are shared out.
    pub slots: usize,
}

/// Adds a worker; its number, under which its sessions hold leases ([`hold`]). Forgets those that
/// joined long ago.
///
/// # Errors
/// The server refused.
pub fn join(
    client: &mut impl GenericClient,
    schema: &str,
    joining: &Joining<'_>,
    lasts: Duration,
) -> Result<i32, Error> {
    let row = client.query_one(
        "INSERT INTO skyfill.worker (id, schema_name, name, machine, pid, run, slots, lease_until)
         VALUES (nextval('skyfill.holder_number'), $1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) RETURNING id",
        &[
            &schema,
            &joining.name,
            &joining.machine,
            &i32::try_from(joining.pid).unwrap_or(0),
            &joining.run,
            &i32::try_from(joining.slots).unwrap_or(i32::MAX),
            &lasts.as_secs_f64(),
        ],
    )?;
    let id: i32 = row.get(0);
    client.execute(
        "DELETE FROM skyfill.worker WHERE schema_name = $1 AND id <> $2 AND joined_at <=
           (SELECT joined_at FROM skyfill.worker WHERE schema_name = $1 ORDER BY joined_at DESC OFFSET $3 LIMIT 1)",
        &[&schema, &id, &REMEMBERED],
    )?;
    Ok(id)
}

/// Makes this session the one that leases hosts for a worker.
///
/// # Errors
/// The server refused.
pub fn hold(client: &mut impl GenericClient, id: i32) -> Result<(), Error> {
    client.batch_execute(&holding(&id.to_string()))
}

/// Makes this session one in which a worker stores rows: if the worker is lost, others end it
/// ([`end_lost`]).
///
/// # Errors
/// The server refused.
pub fn attach(client: &mut impl GenericClient, id: i32) -> Result<(), Error> {
    client.batch_execute(&format!("SELECT pg_advisory_lock_shared({HOLDERS}, {id})"))
}

/// Ends the sessions of other workers whose leases have been over for the time that one `lasts`,
/// and that did not leave: their machines are away, or their processes are stopped. What such a
/// session has locked would keep its hosts from others for good. A worker that is only slow has
/// that time; if it is ended all the same, it connects again, and fetches again what was not
/// committed. Only sessions of this session's own role are ended; how many there were.
///
/// # Errors
/// The server refused.
pub fn end_lost(
    client: &mut impl GenericClient,
    schema: &str,
    lasts: Duration,
) -> Result<u64, Error> {
    let rows = client.query(
        &format!(
            "SELECT pg_terminate_backend(a.pid) FROM skyfill.worker w
               JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = {HOLDERS}
                 AND l.objid::bigint = w.id AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
             WHERE w.schema_name = $1 AND w.left_at IS NULL AND w.lease_until < now() - make_interval(secs => $2)
               AND w.id IS DISTINCT FROM nullif(current_setting('skyfill.holder', true), '')::integer"
        ),
        &[&schema, &lasts.as_secs_f64()],
    )?;
    Ok(rows.len() as u64)
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Pending repos of the hosts that it leases, about.
    pub pending: u64,
    /// Repos that it stored since it joined.
    pub repos: u64,
    /// Repos that failed.
    pub failed: u64,
    /// Records of the repos that it stored.
    pub records: u64,
    /// Bytes of those repos.
    pub bytes: u64,
    /// Repos that it stored per second lately.
    pub repos_per_second: f64,
    /// The same of records.
    pub records_per_second: f64,
    /// Requests that it has under way.
    pub under_way: u64,
    /// Leases that it held and that somebody else took.
    pub leases_lost: u64,
}

/// Renews the leases of a worker and writes what it says of itself; the numbers of the leases that
/// it still holds.
///
/// # Errors
/// The server refused.
pub fn renew(
    client: &mut impl GenericClient,
    schema: &str,
    leases: &[i64],
    lasts: Duration,
    report: &Report,
) -> Result<Vec<i64>, Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let rows = client.query(
        "WITH me AS (SELECT nullif(current_setting('skyfill.holder', true), '')::integer AS id),
         held AS (
           UPDATE skyfill.host SET lease_until = now() + make_interval(secs => $3), holder = (SELECT id FROM me)
           WHERE schema_name = $1 AND lease = ANY($2) AND lease_until IS NOT NULL RETURNING lease),
         said AS (
           UPDATE skyfill.worker SET seen_at = now(), lease_until = now() + make_interval(secs => $3), left_at = NULL,
             hosts = (SELECT count(*) FROM held), pending = $4, repos = $5, failed = $6, records = $7, bytes = $8,
             repos_per_second = $9, records_per_second = $10, under_way = $11, leases_lost = $12
           WHERE schema_name = $1 AND id = (SELECT id FROM me))
         SELECT lease FROM held",
        &[
            &schema,
            &leases,
            &lasts.as_secs_f64(),
            &number(report.pending),
            &number(report.repos),
            &number(report.failed),
            &number(report.records),
            &number(report.bytes),
            &report.repos_per_second,
            &report.records_per_second,
            &i32::try_from(report.under_way).unwrap_or(i32::MAX),
            &number(report.leases_lost),
        ],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notes that the worker of this session leaves.
///
/// # Errors
/// The server refused.
pub fn leave(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.worker SET left_at = now(), seen_at = now(), lease_until = now(), hosts = 0, pending = 0, under_way = 0,
           repos_per_second = 0, records_per_second = 0
         WHERE id = nullif(current_setting('skyfill.holder', true), '')::integer",
        &[],
    )?;
    Ok(())
}

/// A worker lives: its lease is not over, and neither is the session of `w`.
const LIVES: &str =
    "w.left_at IS NULL AND w.lease_until > now() AND w.id IN (SELECT holder FROM alive)";

/// How the hosts with pending repos are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Hosts that the worker of this session should have: all of them, by its part of the slots of
    /// all workers that live, rounded up.
    pub hosts: u64,
    /// Workers that live, this one included.
    pub workers: u64,
}

/// The share of this session's worker.
///
/// # Errors
/// The server refused.
pub fn share(client: &mut impl GenericClient, schema: &str, which: Which) -> Result<Share, Error> {
    let (open, alive) = (host_counts::pending(which), alive());
    let sql = format!(
        "WITH {alive},
         living AS (
           SELECT w.id, w.slots FROM skyfill.worker w
           WHERE w.schema_name = $1 AND ({LIVES} OR w.id = nullif(current_setting('skyfill.holder', true), '')::integer)),
         me AS (SELECT slots FROM living WHERE id = nullif(current_setting('skyfill.holder', true), '')::integer)
         SELECT ceil((SELECT count(*) FROM {open} o) * (SELECT slots FROM me)::numeric / greatest(sum(slots), 1))::bigint, count(*) FROM living"
    );
    let row = client.query_one(&sql, &[&schema])?;
    let number = |at: usize| u64::try_from(row.get::<_, Option<i64>>(at).unwrap_or(0)).unwrap_or(0);
    Ok(Share {
        hosts: number(0),
        workers: number(1),
    })
}

/// Whether any worker lives that loads a run which is not done.
///
/// # Errors
/// The server refused.
pub fn any_loads(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let sql = format!(
        "WITH {}
         SELECT EXISTS (SELECT FROM skyfill.worker w JOIN skyfill.run r ON r.id = w.run
           WHERE w.schema_name = $1 AND {LIVES} AND r.phase <> $2)",
        alive()
    );
    client
        .query_one(&sql, &[&schema, &Phase::Done.word()])?
        .try_get(0)
}

/// A worker, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// The name of its machine.
    pub machine: String,
    /// Its process's id there.
    pub pid: i32,
    /// The run that it works or worked on.
    pub run: i64,
    /// Requests that it can have under way.
    pub slots: u64,
    /// Hosts that it leases.
    pub hosts: u64,
    /// What it said of itself last.
    pub report: Report,
    /// Seconds since 1970 when it joined.
    pub joined: f64,
    /// Seconds since it was last heard of.
    pub seen_ago: f64,
    /// Whether it lives. One that does not, and did not leave, was killed, is stopped, or cannot
    /// reach the database.
    pub is_alive: bool,
    /// Whether it left by itself.
    pub has_left: bool,
}

/// The workers of the last run of `schema` that had some, the first one first.
///
/// # Errors
/// The server refused.
pub fn of_last_run(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Worker>, Error> {
    let sql = format!(
        "WITH {}
         SELECT w.id, w.name, w.machine, w.pid, w.run, w.slots, w.hosts, w.pending, w.repos, w.failed, w.records, w.bytes,
           w.repos_per_second, w.records_per_second, w.under_way, w.leases_lost, extract(epoch FROM w.joined_at)::float8,
           extract(epoch FROM now() - w.seen_at)::float8, {LIVES}, w.left_at IS NOT NULL
         FROM skyfill.worker w WHERE w.schema_name = $1 AND w.run = (SELECT max(run) FROM skyfill.worker WHERE schema_name = $1)
         ORDER BY w.joined_at, w.id",
        alive()
    );
    let rows = client.query(&sql, &[&schema])?;
    Ok(rows.iter().map(Worker::of_row).collect())
}

impl Worker {
    fn of_row(row: &Row) -> Self {
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let small = |at: usize| u64::try_from(row.get::<_, i32>(at)).unwrap_or(0);
        Self {
            id: row.get(0),
            name: row.get(1),
            machine: row.get(2),
            pid: row.get(3),
            run: row.get(4),
            slots: small(5),
            hosts: number(6),
            report: Report {
                pending: number(7),
                repos: number(8),
                failed: number(9),
                records: number(10),
                bytes: number(11),
                repos_per_second: row.get(12),
                records_per_second: row.get(13),
                under_way: small(14),
                leases_lost: number(15),
            },
            joined: row.get(16),
            seen_ago: row.get(17),
            is_alive: row.get(18),
            has_left: row.get(19),
        }
    }
}
