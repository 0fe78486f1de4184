//! Runs (table `run`): their options, their time, and the phase that they reached.

use crate::column::column;
use postgres::{Error, GenericClient};

/// How rows are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Into empty tables without indexes.
    Fresh,
    /// Beside rows that are there.
    Merge,
}

/// How far a run has come. Each phase can be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Repos are fetched and loaded.
    Load,
    /// Indexes and constraints are rebuilt.
    Indexes,
    /// Tables are vacuumed and analyzed.
    Vacuum,
    /// Accounts are looked up.
    Identities,
    /// Rows that need other repos are computed.
    Finalize,
    /// The tables are compared with the signed commits.
    Verify,
    /// Nothing is left to do.
    Done,
}

impl Mode {
    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fresh => Kind::Fresh.word(),
            Self::Merge => Kind::Merge.word(),
        }
    }
}

/// What a row of the table is: column `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A run that loads fresh.
    Fresh,
    /// A run that merges.
    Merge,
    /// The time of a producer, whose parts are merged.
    Frames,
    /// Following the event stream; its time is that of its last merge.
    Follow,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Fresh, Self::Merge, Self::Frames, Self::Follow];

    const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Merge => "merge",
            Self::Frames => "frames",
            Self::Follow => "follow",
        }
    }

    const fn mode(self) -> Mode {
        match self {
            Self::Fresh => Mode::Fresh,
            Self::Merge | Self::Frames | Self::Follow => Mode::Merge,
        }
    }
}

column!(Kind, "skyfill.run", "mode");

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Load,
        Self::Indexes,
        Self::Vacuum,
        Self::Identities,
        Self::Finalize,
        Self::Verify,
        Self::Done,
    ];

    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Indexes => "indexes",
            Self::Vacuum => "vacuum",
            Self::Identities => "identities",
            Self::Finalize => "finalize",
            Self::Verify => "verify",
            Self::Done => "done",
        }
    }

    /// What people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Load => "loading",
            Self::Indexes => "indexes",
            Self::Vacuum => "vacuum",
            Self::Identities => "accounts",
            Self::Finalize => "finalize",
            Self::Verify => "verify",
            Self::Done => "done",
        }
    }
}

column!(Phase, "skyfill.run", "phase");

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The time of the run: no `indexedAt` is later.
    pub now: String,
    /// How it loads.
    pub mode: Mode,
    /// How far it has come.
    pub phase: Phase,
    /// The collections that it takes; nothing means all.
    pub collections: Option<Vec<String>>,
    /// The notifications that it takes, as `--notifications` has it.
    pub notifications: String,
    /// The time before which it leaves out posts, gates, likes and reposts, if there is one.
    pub since: Option<String>,
}

/// The run of `schema` that is not done, else the last one.
///
/// # Errors
/// The server refused.
pub fn last(client: &mut impl GenericClient, schema: &str) -> Result<Option<Run>, Error> {
    let row = client.query_opt(
        "SELECT id, now, mode, phase, collections, notifications, since FROM skyfill.run
         WHERE schema_name = $1 AND mode NOT IN ($2, $4) ORDER BY phase = $3, id DESC LIMIT 1",
        &[
            &schema,
            &Kind::Frames.word(),
            &Phase::Done.word(),
            &Kind::Follow.word(),
        ],
    )?;
    row.map(|row| {
        Ok(Run {
            id: row.try_get(0)?,
            now: row.try_get(1)?,
            mode: row.try_get::<_, Kind>(2)?.mode(),
            phase: row.try_get(3)?,
            collections: row.try_get(4)?,
            notifications: row.try_get(5)?,
            since: row.try_get(6)?,
        })
    })
    .transpose()
}

/// Begins a run, or notes one that has no phases to go through; returns its number.
///
/// # Errors
/// The server refused.
pub fn begin(client: &mut impl GenericClient, schema: &str, run: &Run) -> Result<i64, Error> {
    let row = client.query_one(
        "INSERT INTO skyfill.run (schema_name, now, mode, phase, collections, notifications, since, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END) RETURNING id",
        &[
            &schema,
            &run.now,
            &run.mode.word(),
            &run.phase.word(),
            &run.collections,
            &run.notifications,
            &run.since,
            &(run.phase == Phase::Done),
        ],
    )?;
    Ok(row.get(0))
}

/// The run of a producer whose time is `now`; it is added if it is new. It has no phases: what
/// comes after loading is left to others.
///
/// # Errors
/// The server refused.
pub fn of_producer(client: &mut impl GenericClient, schema: &str, now: &str) -> Result<i64, Error> {
    let known = client.query_opt(
        "SELECT id FROM skyfill.run WHERE schema_name = $1 AND now = $2 AND mode = $3
         ORDER BY id LIMIT 1",
        &[&schema, &now, &Kind::Frames.word()],
    )?;
    if let Some(row) = known {
        return Ok(row.get(0));
    }
    let row = client.query_one(
        "INSERT INTO skyfill.run (schema_name, now, mode, phase, notifications, ended_at)
         VALUES ($1, $2, $3, $4, 'all', now()) RETURNING id",
        &[&schema, &now, &Kind::Frames.word(), &Phase::Done.word()],
    )?;
    Ok(row.get(0))
}

/// The run under which repos are merged while the event stream is followed, with the choices of
/// `like`. One row serves as long as the choices stay; its time becomes `now`.
///
/// # Errors
/// The server refused.
pub fn of_follow(
    client: &mut impl GenericClient,
    schema: &str,
    like: &Run,
    now: &str,
) -> Result<Run, Error> {
    let known = client.query_opt(
        "UPDATE skyfill.run SET now = greatest(now, $3) WHERE id = (
           SELECT id FROM skyfill.run WHERE schema_name = $1 AND mode = $2 AND notifications = $4
             AND (collections, since) IS NOT DISTINCT FROM ($5, $6) ORDER BY id LIMIT 1) RETURNING id",
        &[
            &schema,
            &Kind::Follow.word(),
            &now,
            &like.notifications,
            &like.collections,
            &like.since,
        ],
    )?;
    let id = match known {
        Some(row) => row.get(0),
        None => client
            .query_one(
                "INSERT INTO skyfill.run (schema_name, now, mode, phase, collections, notifications, since, ended_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, now()) RETURNING id",
                &[
                    &schema,
                    &now,
                    &Kind::Follow.word(),
                    &Phase::Done.word(),
                    &like.collections,
                    &like.notifications,
                    &like.since,
                ],
            )?
            .get(0),
    };
    Ok(Run {
        id,
        now: now.to_owned(),
        mode: Mode::Merge,
        phase: Phase::Load,
        ..like.clone()
    })
}

/// Notes that a run has come from one phase to another; when it is done, what it alone was told is
/// forgotten. False if somebody else has moved it meanwhile.
///
/// # Errors
/// The server refused.
pub fn advance(
    client: &mut impl GenericClient,
    id: i64,
    from: Phase,
    to: Phase,
) -> Result<bool, Error> {
    let moved = client.execute(
        "WITH moved AS (
           UPDATE skyfill.run SET phase = $3, ended_at = CASE WHEN $4 THEN now() END
           WHERE id = $1 AND phase = $2 RETURNING schema_name),
         forgotten AS (
           DELETE FROM skyfill.setting s USING moved m WHERE s.schema_name = m.schema_name AND s.of_run AND $4)
         SELECT FROM moved",
        &[&id, &from.word(), &to.word(), &(to == Phase::Done)],
    )?;
    Ok(moved > 0)
}

/// What records of a run were dated and chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The number of the run.
    pub id: i64,
    /// The time of the run: no `indexedAt` is later.
    pub now: String,
    /// The notifications that it takes, as `--notifications` has it.
    pub notifications: String,
    /// How it loaded.
    pub mode: Mode,
}

/// All runs of `schema`, those of producers too, the first one first.
///
/// # Errors
/// The server refused, or the mode of one is not known.
pub fn all(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Dated>, Error> {
    let rows = client.query(
        "SELECT id, now, notifications, mode FROM skyfill.run WHERE schema_name = $1 ORDER BY id",
        &[&schema],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Dated {
                id: row.try_get(0)?,
                now: row.try_get(1)?,
                notifications: row.try_get(2)?,
                mode: row.try_get::<_, Kind>(3)?.mode(),
            })
        })
        .collect()
}

/// When the first run of `schema` began, as an ISO time.
///
/// # Errors
/// The server refused.
pub fn first_began(client: &mut impl GenericClient, schema: &str) -> Result<Option<String>, Error> {
    let row = client.query_one(
        "SELECT to_char(min(started_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM skyfill.run WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(row.get(0))
}

/// When a run began and ended, in seconds since 1970.
///
/// # Errors
/// The server refused.
pub fn times(
    client: &mut impl GenericClient,
    id: i64,
) -> Result<(Option<f64>, Option<f64>), Error> {
    let row = client.query_opt(
        "SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM ended_at)::float8 FROM skyfill.run WHERE id = $1",
        &[&id],
    )?;
    Ok(row.map_or((None, None), |row| (row.get(0), row.get(1))))
}

/// The relay whose sequence number was noted for a run, if one was looked for: its URL, and the
/// number if it could be learned.
///
/// # Errors
/// The server refused.
pub fn relay(
    client: &mut impl GenericClient,
    id: i64,
) -> Result<Option<(String, Option<i64>)>, Error> {
    let row = client.query_opt(
        "SELECT relay, relay_seq FROM skyfill.run WHERE id = $1 AND relay IS NOT NULL",
        &[&id],
    )?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Notes where a relay was before the first repo of a run was fetched.
///
/// # Errors
/// The server refused.
pub fn note_relay(
    client: &mut impl GenericClient,
    id: i64,
    relay: &str,
    seq: Option<i64>,
) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.run SET relay = $2, relay_seq = $3 WHERE id = $1",
        &[&id, &relay, &seq],
    )?;
    Ok(())
}

/// Takes a run back to loading, for repos that were added after it had loaded: its tables have rows
/// and indexes now.
///
/// # Errors
/// The server refused.
pub fn load_again(client: &mut impl GenericClient, id: i64) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.run SET phase = $2, mode = $3, ended_at = NULL WHERE id = $1",
        &[&id, &Phase::Load.word(), &Mode::Merge.word()],
    )?;
    Ok(())
}
