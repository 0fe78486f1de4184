//! Advisory locks: their keys, and how to wait for one.
//!
//! If two purposes shared a key, they would wait for each other for no reason. So all keys are in
//! this file.

use pg::{DbError, Waits};
use postgres::GenericClient;
use std::time::{Duration, Instant};

/// Something that one session, or one transaction, does alone in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Making skyfill's own tables.
    Schema,
    /// Finalizing.
    Finalize,
    /// Loads share it while they commit, see [`crate::slices::after_loads`].
    Loads,
    /// Looking up identities.
    Identities,
    /// What comes after loading.
    AfterLoad,
    /// Beginning a run.
    Begin,
    /// Passes of discovery.
    Passes,
    /// Making the empty twins of the AppView's tables.
    Probes,
    /// Reading the documents of all accounts.
    Export,
    /// Following the event stream.
    Follow,
    /// Verifying handles that are stored as claimed.
    Claims,
    /// Publishing records.
    Records,
}

/// First half of the keys, of two numbers each, by which sessions that lease hosts are known to be
/// alive.
pub const HOLDERS: i32 = 0x736b_7966;
/// The same of the keys by which commands say that they work on a schema, see [`crate::presence`].
pub const PRESENCE: i32 = 0x736b_7967;
/// The same of the keys of index builds, see [`acquire_build`].
const BUILDS: i32 = 0x736b_7968;
/// The same of the keys by which processes are known to be alive, see [`crate::processes`].
pub const PROCESSES: i32 = 0x736b_7969;
/// The same of the keys of shards of a stream, see [`crate::shards`].
pub const SHARDS: i32 = 0x736b_796a;
/// The same of the keys by which consumers say that they read from a stream.
pub const READERS: i32 = 0x736b_796b;

/// How long a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Until [`unlock`], or whoever holds it has done with the connection.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// How often a lock that is held by somebody else is tried.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// How often it is said that it is waited for.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// A wait that is over sooner is not worth a line.
const SHORT: Duration = Duration::from_millis(500);

impl Lock {
    #[cfg(test)]
    const ALL: [Self; 12] = [
        Self::Schema,
        Self::Finalize,
        Self::Loads,
        Self::Identities,
        Self::AfterLoad,
        Self::Begin,
        Self::Passes,
        Self::Probes,
        Self::Export,
        Self::Follow,
        Self::Claims,
        Self::Records,
    ];

    /// Its key: `skyfil` in ASCII, then a number that was never another lock's.
    #[must_use]
    pub const fn key(self) -> i64 {
        let number = match self {
            Self::Schema => 1,
            Self::Finalize => 2,
            Self::Loads => 3,
            Self::Identities => 4,
            Self::AfterLoad => 5,
            Self::Begin => 6,
            Self::Passes => 7,
            Self::Probes => 8,
            Self::Export => 9,
            Self::Follow => 10,
            Self::Claims => 11,
            Self::Records => 12,
        };
        0x736b_7966_696c_6c00 | number
    }

    /// What whoever holds it does.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Schema => "makes skyfill's own tables",
            Self::Finalize => "finalizes",
            Self::Loads => "commits a load, or waits for the loads to be committed",
            Self::Identities => "looks up identities",
            Self::AfterLoad => "does what comes after loading",
            Self::Begin => "begins a run",
            Self::Passes => "looks for repos",
            Self::Export => "reads the documents of all accounts",
            Self::Follow => "follows the event stream",
            Self::Claims => "verifies claimed handles",
            Self::Records => "publishes records",
            Self::Probes => "makes skyfill's copies of the AppView's tables, or begins a run",
        }
    }
}

/// Takes a lock if nobody holds it.
///
/// # Errors
/// The server refused.
pub fn try_acquire(
    client: &mut impl GenericClient,
    lock: Lock,
    hold: Hold,
) -> Result<bool, postgres::Error> {
    let function = match hold {
        Hold::Session => "pg_try_advisory_lock",
        Hold::Transaction => "pg_try_advisory_xact_lock",
    };
    let sql = format!("SELECT {function}({})", lock.key());
    Ok(client.query_one(&sql, &[])?.get(0))
}

/// Acquires a lock; while somebody else holds it, waits, and says for whom.
///
/// # Errors
/// The server refused, or it was stopped: [`pg::DbErrorKind::Stopped`].
pub fn acquire(
    client: &mut impl GenericClient,
    lock: Lock,
    hold: Hold,
    waits: Waits<'_>,
) -> Result<(), DbError> {
    acquire_with(
        client,
        lock.about(),
        waits,
        |client| try_acquire(client, lock, hold),
        |client| holder(client, lock),
    )
}

/// Tries to acquire a lock until that works; says who holds it meanwhile.
fn acquire_with<C: GenericClient>(
    client: &mut C,
    about: &str,
    waits: Waits<'_>,
    mut try_acquire: impl FnMut(&mut C) -> Result<bool, postgres::Error>,
    mut holder: impl FnMut(&mut C) -> Result<Option<String>, postgres::Error>,
) -> Result<(), DbError> {
    let since = Instant::now();
    let mut say_at = SHORT;
    while !try_acquire(client)? {
        if since.elapsed() >= say_at {
            say_at = since.elapsed() + SAY_EVERY;
            let who = holder(client)?.unwrap_or_else(|| "another session".to_owned());
            (waits.say)(&format!(
                "{who} {about} in this database; waiting for it, for {} s now",
                since.elapsed().as_secs()
            ));
        }
        if !waits.sleep(TRY_EVERY) {
            return Err(DbError::stopped(&format!("another session that {about}")));
        }
    }
    Ok(())
}

/// Acquires the lock on the build of `name` in `schema`, until the session ends or
/// [`release_build`]. The server finishes a build whose client was killed, and its session holds
/// the lock until then: whoever comes next waits for that build and does not begin a second one.
/// Two builds whose names have one hash wait for each other, which costs time and nothing else.
///
/// # Errors
/// The server refused, or it was stopped: [`pg::DbErrorKind::Stopped`].
pub fn acquire_build(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
    waits: Waits<'_>,
) -> Result<(), DbError> {
    let build = format!("{schema}.{name}");
    acquire_with(
        client,
        &format!("builds {name}"),
        waits,
        |client| {
            let sql = format!("SELECT pg_try_advisory_lock({BUILDS}, hashtext($1))");
            client.query_one(&sql, &[&build])?.try_get(0)
        },
        |client| {
            let of_key = format!(
                "l.objsubid = 2 AND l.classid = {BUILDS} AND l.objid::bigint = hashtext($1)::bigint & 4294967295"
            );
            holder_of(client, &of_key, &[&build])
        },
    )
}

/// Releases the lock on a build.
///
/// # Errors
/// The server refused.
pub fn release_build(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
) -> Result<(), postgres::Error> {
    let sql = format!("SELECT pg_advisory_unlock({BUILDS}, hashtext($1))");
    client.query_one(&sql, &[&format!("{schema}.{name}")])?;
    Ok(())
}

/// Releases a lock that the session holds.
///
/// # Errors
/// The server refused.
pub fn unlock(client: &mut impl GenericClient, lock: Lock) -> Result<(), postgres::Error> {
    client.batch_execute(&format!("SELECT pg_advisory_unlock({})", lock.key()))
}

/// Who holds a lock, if anybody does: the name of the session and its process.
///
/// # Errors
/// The server refused.
pub fn holder(
    client: &mut impl GenericClient,
    lock: Lock,
) -> Result<Option<String>, postgres::Error> {
    let of_key = "l.objsubid = 1 AND l.classid::bigint = $1::bigint >> 32
         AND l.objid::bigint = $1::bigint & 4294967295";
    holder_of(client, of_key, &[&lock.key()])
}

/// The same of the locks that a condition describes.
fn holder_of(
    client: &mut impl GenericClient,
    condition: &str,
    values: &[&(dyn postgres::types::ToSql + Sync)],
) -> Result<Option<String>, postgres::Error> {
    let sql = format!(
        "SELECT l.pid, coalesce(nullif(a.application_name, ''), 'a session') FROM pg_locks l
           LEFT JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND {condition}
         ORDER BY l.pid LIMIT 1"
    );
    Ok(client.query_opt(&sql, values)?.map(|row| {
        format!(
            "{} (server process {})",
            row.get::<_, String>(1),
            row.get::<_, i32>(0)
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::{BUILDS, HOLDERS, Lock, PRESENCE, PROCESSES};
    use std::collections::HashSet;

    #[test]
    fn no_two_locks_have_one_key() {
        let keys: HashSet<i64> = Lock::ALL.iter().map(|lock| lock.key()).collect();
        assert_eq!(keys.len(), Lock::ALL.len());
        // The one key that is not skyfill's own: whoever migrates the AppView's schema has it.
        assert!(!keys.contains(&appview::migrate::KYSELY_LOCK));
        // Keys of two numbers are never those of one.
        let pairs: HashSet<i32> = [HOLDERS, PRESENCE, BUILDS, PROCESSES].into();
        assert_eq!(pairs.len(), 4);
    }
}
