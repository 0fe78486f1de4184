//! How work went over time: samples every few seconds (table `sample`), and the time of each phase
//! with what limited it (table `phase_time`), by process ([`crate::processes`]).
//!
//! What is kept is bounded: of a run, [`thin`] leaves no more than [`MOST`] samples, evenly spread
//! over its time, so that a run of days takes as little as one of an hour (some 300 KiB).

use postgres::{Error, GenericClient, Row};

/// Samples that are kept of a run.
pub const MOST: u64 = 2000;

/// How far a process was at some moment. Counts are those of the process, from its beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The run, if one had begun.
    pub run: Option<i64>,
    /// The process, see [`crate::processes::Process::id`].
    pub process: i32,
    /// Seconds since 1970.
    pub at: f64,
    /// The phase, by its name: `discover`, or that of [`crate::runs::Phase`]; else the command.
    pub phase: String,
    /// How much of the phase is done, in units of its own.
    pub done: Option<u64>,
    /// How much there is in all, if that was known.
    pub total: Option<u64>,
    /// Seconds that were left for the phase, if there was an estimate.
    pub seconds_left: Option<f64>,
    /// Repos whose result is known.
    pub repos: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Records that were stored.
    pub records: u64,
    /// Bytes of the repos that were stored.
    pub bytes: u64,
    /// Rows that came into the schema's tables, whoever wrote them, as the server counts.
    pub rows: u64,
    /// What limited, for people: `hosts`, `encoding`, `PostgreSQL`, `disk`.
    pub limit: Option<String>,
    /// Why that was believed.
    pub why: Option<String>,
}

/// A phase of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseTime {
    /// The process.
    pub process: i32,
    /// The place of the phase among those of the process, counted from 1.
    pub number: i16,
    /// Its name.
    pub phase: String,
    /// Seconds since 1970 when it was first seen open.
    pub began: f64,
    /// How long it has been open, in all.
    pub seconds: f64,
    /// Whether it came to its end.
    pub is_done: bool,
    /// What limited it for how many seconds, the longest first.
    pub limits: Vec<(String, f64)>,
}

impl PhaseTime {
    /// What limited it for the longest time.
    #[must_use]
    pub fn bound_by(&self) -> Option<&str> {
        self.limits.first().map(|(limit, _)| limit.as_str())
    }
}

/// The rows that the server has counted into the tables of `schema`, whoever wrote them.
///
/// # Errors
/// The server refused.
pub fn rows_inserted(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql =
        "SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $1";
    Ok(number(&client.query_one(sql, &[&schema])?, 0))
}

fn number(row: &Row, at: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(at)).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Stores a sample of the present moment.
///
/// # Errors
/// The server refused.
pub fn note(client: &mut impl GenericClient, sample: &Sample) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.sample (process, at, phase, done, total, seconds_left, repos, failed, records, bytes, rows, limited_by, limit_why)
         VALUES ($1, clock_timestamp(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        &[
            &sample.process,
            &sample.phase,
            &sample.done.map(signed),
            &sample.total.map(signed),
            &sample.seconds_left,
            &signed(sample.repos),
            &signed(sample.failed),
            &signed(sample.records),
            &signed(sample.bytes),
            &signed(sample.rows),
            &sample.limit,
            &sample.why,
        ],
    )?;
    Ok(())
}

/// Leaves no more than [`MOST`] samples of the run that `process` works on: when there are more,
/// the last one of each of half as many equal spans of time stays.
///
/// # Errors
/// The server refused.
pub fn thin(client: &mut impl GenericClient, process: i32) -> Result<u64, Error> {
    client.execute(
        "WITH one AS (SELECT schema_name, run FROM skyfill.process WHERE id = $1),
         ours AS MATERIALIZED (
           SELECT s.process, s.at FROM skyfill.sample s JOIN skyfill.process p ON p.id = s.process JOIN one o
             ON o.schema_name = p.schema_name AND p.run IS NOT DISTINCT FROM o.run),
         ends AS (SELECT extract(epoch FROM min(at)) AS first, extract(epoch FROM max(at)) + 1 AS last, count(*) AS samples FROM ours),
         ranked AS (
           SELECT o.process, o.at, row_number() OVER (
             PARTITION BY width_bucket(extract(epoch FROM o.at), e.first, e.last, $2::integer) ORDER BY o.at DESC) > 1 AS goes
           FROM ours o, ends e WHERE e.samples > $3)
         DELETE FROM skyfill.sample s USING ranked r WHERE r.goes AND s.process = r.process AND s.at = r.at",
        &[
            &process,
            &i32::try_from(MOST / 2).unwrap_or(i32::MAX),
            &signed(MOST),
        ],
    )
}

/// Stores what is known of a phase, instead of what was known before.
///
/// # Errors
/// The server refused.
pub fn note_phase(client: &mut impl GenericClient, time: &PhaseTime) -> Result<(), Error> {
    let (limits, seconds): (Vec<&str>, Vec<f64>) = time
        .limits
        .iter()
        .map(|(limit, seconds)| (limit.as_str(), *seconds))
        .unzip();
    client.execute(
        "INSERT INTO skyfill.phase_time (process, number, phase, began_at, seconds, is_done, limits, limit_seconds)
         VALUES ($1, $2, $3, to_timestamp($4), $5, $6, $7, $8)
         ON CONFLICT (process, phase) DO UPDATE SET seconds = excluded.seconds, is_done = excluded.is_done,
           limits = excluded.limits, limit_seconds = excluded.limit_seconds",
        &[
            &time.process,
            &time.number,
            &time.phase,
            &time.began,
            &time.seconds,
            &time.is_done,
            &limits,
            &seconds,
        ],
    )?;
    Ok(())
}

const COLUMNS: &str =
    "p.run, s.process, extract(epoch FROM s.at)::float8, s.phase, s.done, s.total, s.seconds_left,
    s.repos, s.failed, s.records, s.bytes, s.rows, s.limited_by, s.limit_why";

fn sample(row: &Row) -> Sample {
    let maybe = |at: usize| {
        let value: Option<i64> = row.get(at);
        value.and_then(|value| u64::try_from(value).ok())
    };
    Sample {
        run: row.get(0),
        process: row.get(1),
        at: row.get(2),
        phase: row.get(3),
        done: maybe(4),
        total: maybe(5),
        seconds_left: row.get(6),
        repos: number(row, 7),
        failed: number(row, 8),
        records: number(row, 9),
        bytes: number(row, 10),
        rows: number(row, 11),
        limit: row.get(12),
        why: row.get(13),
    }
}

/// All samples of a run, of all processes that worked on it, the first one first.
///
/// # Errors
/// The server refused.
pub fn of_run(
    client: &mut impl GenericClient,
    schema: &str,
    run: i64,
) -> Result<Vec<Sample>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM skyfill.sample s JOIN skyfill.process p ON p.id = s.process
         WHERE p.schema_name = $1 AND p.run = $2 ORDER BY s.at LIMIT $3"
    );
    // A run that was continued many times at once has somewhat more than `MOST`.
    let rows = client.query(&sql, &[&schema, &run, &signed(MOST * 4)])?;
    Ok(rows.iter().map(sample).collect())
}

/// All samples of a process, the first one first.
///
/// # Errors
/// The server refused.
pub fn of_process(client: &mut impl GenericClient, process: i32) -> Result<Vec<Sample>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM skyfill.sample s JOIN skyfill.process p ON p.id = s.process
         WHERE s.process = $1 ORDER BY s.at"
    );
    let rows = client.query(&sql, &[&process])?;
    Ok(rows.iter().map(sample).collect())
}

/// The last samples of a process, at most `count`, the latest first.
///
/// # Errors
/// The server refused.
pub fn latest(
    client: &mut impl GenericClient,
    process: i32,
    count: i64,
) -> Result<Vec<Sample>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM skyfill.sample s JOIN skyfill.process p ON p.id = s.process
         WHERE s.process = $1 ORDER BY s.at DESC LIMIT $2"
    );
    let rows = client.query(&sql, &[&process, &count])?;
    Ok(rows.iter().map(sample).collect())
}

/// The phases of all processes that worked on a run, by process and then in order.
///
/// # Errors
/// The server refused.
pub fn phases_of_run(
    client: &mut impl GenericClient,
    schema: &str,
    run: i64,
) -> Result<Vec<PhaseTime>, Error> {
    let rows = client.query(
        "SELECT t.process, t.number, t.phase, extract(epoch FROM t.began_at)::float8, t.seconds, t.is_done, t.limits, t.limit_seconds
         FROM skyfill.phase_time t JOIN skyfill.process p ON p.id = t.process
         WHERE p.schema_name = $1 AND p.run = $2 ORDER BY t.process, t.number",
        &[&schema, &run],
    )?;
    let phase = |row: &Row| {
        let (limits, seconds): (Vec<String>, Vec<f64>) = (row.get(6), row.get(7));
        PhaseTime {
            process: row.get(0),
            number: row.get(1),
            phase: row.get(2),
            began: row.get(3),
            seconds: row.get(4),
            is_done: row.get(5),
            limits: limits.into_iter().zip(seconds).collect(),
        }
    };
    Ok(rows.iter().map(phase).collect())
}
