//! Hosts (table `host`): who leases them, and what was learned of them.
//!
//! Workers lease hosts, not repos, so that only one worker sends requests to a host, however many
//! there are. A lease has a number, and the transaction that stores rows compares it: a worker that
//! lost its lease cannot store any more. That transaction locks with `FOR KEY SHARE`, taking a
//! lease over with `FOR UPDATE`. So a lease is not taken from a running transaction, and renewing
//! it ([`crate::workers::renew`]) does not wait. When a lease ends, the database's clock decides.

use crate::locks::HOLDERS;
use crate::open::Which;
use postgres::{Error, GenericClient};
use std::time::Duration;

/// So many hosts of a domain (the last two labels of a name, here) are leased before all others
/// have their turn.
const FIRST_OF_DOMAIN: i64 = 256;

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// A lease that was renewed so lately stands, even if its holder's session is gone: that may be on
/// its way back.
const GRACE: Duration = Duration::from_secs(10);

/// Makes this session one that leases hosts under the number that an expression gives, and that
/// looks repos up by index. It takes a lock of that number, which the sessions of one worker share.
pub(crate) fn holding(number: &str) -> String {
    format!(
        "{};
         SELECT set_config('skyfill.holder', ({number})::text, false);
         SELECT pg_advisory_lock_shared({HOLDERS}, current_setting('skyfill.holder')::integer)",
        crate::plans::BY_INDEX
    )
}

/// Gives this session a number, and a lock of that number, so that others can tell that the leases
/// of a session that is gone are void before their time is over. What a lease is good for is still
/// decided by its own number. From then on the session looks repos up by index.
///
/// # Errors
/// The server refused.
pub fn enter(client: &mut impl GenericClient) -> Result<(), Error> {
    client.batch_execute(&holding("nextval('skyfill.holder_number')"))
}

/// Adds hosts of which repos are known: their names and the URLs of PDSes there. Only scheme and
/// authority of a URL count: it may come from a DID document, which speaks for its own account
/// alone. So nobody's URL takes TLS away from a host, whoever was first to name it.
///
/// # Errors
/// The server refused.
pub fn add<'a>(
    client: &mut impl GenericClient,
    schema: &str,
    hosts: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> Result<(), Error> {
    let (hosts, urls): (Vec<Option<&str>>, Vec<Option<&str>>) = hosts.unzip();
    // A host that is known keeps its row unlocked: every load and follower names the same ones.
    client.execute(
        "INSERT INTO skyfill.host AS h (schema_name, host, url)
         SELECT $1, n.host, n.url FROM (
           SELECT host, max(substring(url FROM '^https?://[^/?#]+') COLLATE \"C\") AS url FROM unnest($2::text[], $3::text[]) n (host, url)
           WHERE host IS NOT NULL GROUP BY host) n
         WHERE NOT EXISTS (
           SELECT FROM skyfill.host k WHERE k.schema_name = $1 AND k.host = n.host
             AND (n.url IS NULL OR k.url IS NOT NULL AND NOT (k.url LIKE 'http://%' AND n.url LIKE 'https://%')))
         ORDER BY n.host
         ON CONFLICT (schema_name, host) DO UPDATE SET url = excluded.url
         WHERE h.url IS NULL AND excluded.url IS NOT NULL OR h.url LIKE 'http://%' AND excluded.url LIKE 'https://%'",
        &[&schema, &hosts, &urls],
    )?;
    Ok(())
}

/// A host that is leased.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased {
    /// Its name.
    pub host: String,
    /// Number of the lease.
    pub lease: i64,
    /// Its pending repos.
    pub open: u64,
    /// What was learned of it, as it was stored.
    pub learned: Option<String>,
    /// How long whoever had it before was still to leave it alone.
    pub pause: Option<Duration>,
}

/// Which hosts a session wants to lease.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Which of their repos count.
    pub which: Which,
    /// Maximum number of hosts.
    pub count: i64,
    /// How long the leases last without being renewed.
    pub lasts: Duration,
    /// Whether hosts are left out that a pass of another process is still to list: it asks them at
    /// its own pace.
    pub leaves_unlisted: bool,
}

impl Wish {
    /// So many hosts for the usual time.
    #[must_use]
    pub const fn new(which: Which, count: i64) -> Self {
        Self {
            which,
            count,
            lasts: LEASE,
            leaves_unlisted: false,
        }
    }
}

/// The numbers of the sessions that are alive.
pub(crate) fn alive() -> String {
    format!(
        "alive AS MATERIALIZED (
           SELECT objid::bigint AS holder FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = {HOLDERS}
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
}

/// The condition that nobody has host `h`: `$4` is how long the lease of a session that is gone may
/// last.
const IS_FREE: &str = "(h.lease_until IS NULL OR h.lease_until < now()
             OR h.lease_until < now() + make_interval(secs => $4) AND h.holder NOT IN (SELECT holder FROM alive))";

/// Seconds that the lease of a session that is gone may last.
fn grace(lasts: Duration) -> f64 {
    lasts.saturating_sub(GRACE).as_secs_f64()
}

/// Leases hosts that have pending repos and that nobody else has, those with the most first; but
/// the many hosts of one domain (`FIRST_OF_DOMAIN`) do not keep others waiting.
///
/// # Errors
/// The server refused.
pub fn lease(
    client: &mut impl GenericClient,
    schema: &str,
    wish: Wish,
) -> Result<Vec<Leased>, Error> {
    let open = crate::host_counts::pending(wish.which);
    let alive = alive();
    let rows = client.query(
        &format!("WITH open AS MATERIALIZED {open}, {alive}, ranked AS MATERIALIZED (
           SELECT host, repos, row_number() OVER (
             PARTITION BY substring(host FROM '[^.]+[.][^.]+$') ORDER BY repos DESC, host) > $5 AS is_one_of_many
           FROM open
         ), picked AS (
           SELECT h.host, o.repos FROM skyfill.host h JOIN ranked o ON o.host = h.host
           WHERE h.schema_name = $1 AND {IS_FREE}
             AND NOT ($6 AND h.listed_at IS NULL AND h.listing IS NOT NULL AND h.listing IN
               (SELECT id FROM skyfill.listing WHERE schema_name = $1 AND ended_at IS NULL))
           ORDER BY o.is_one_of_many, o.repos DESC, h.host LIMIT $2 FOR UPDATE OF h SKIP LOCKED)
         UPDATE skyfill.host h SET lease = nextval('skyfill.lease_number'), lease_until = now() + make_interval(secs => $3),
           holder = nullif(current_setting('skyfill.holder', true), '')::integer
         FROM picked WHERE h.schema_name = $1 AND h.host = picked.host RETURNING h.host, h.lease, picked.repos, h.learned,
           extract(epoch FROM h.paused_until - now())::float8"),
        &[
            &schema,
            &wish.count,
            &wish.lasts.as_secs_f64(),
            &grace(wish.lasts),
            &FIRST_OF_DOMAIN,
            &wish.leaves_unlisted,
        ],
    )?;
    let pause = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    Ok(rows
        .iter()
        .map(|row| Leased {
            host: row.get(0),
            lease: row.get(1),
            open: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
            learned: row.get(3),
            pause: row.get::<_, Option<f64>>(4).and_then(pause),
        })
        .collect())
}

/// Leases one host, whether or not repos of it are pending; nothing if somebody else has it.
///
/// # Errors
/// The server refused.
pub fn lease_one(
    client: &mut impl GenericClient,
    schema: &str,
    host: &str,
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(
        &format!(
            "WITH {}
             UPDATE skyfill.host h SET lease = nextval('skyfill.lease_number'), lease_until = now() + make_interval(secs => $3),
               holder = nullif(current_setting('skyfill.holder', true), '')::integer
             WHERE h.schema_name = $1 AND h.host = $2 AND {IS_FREE} RETURNING h.lease",
            alive()
        ),
        &[&schema, &host, &LEASE.as_secs_f64(), &grace(LEASE)],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// Gives leases back.
///
/// # Errors
/// The server refused.
pub fn release(client: &mut impl GenericClient, schema: &str, leases: &[i64]) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.host SET lease_until = NULL WHERE schema_name = $1 AND lease = ANY($2)",
        &[&schema, &leases],
    )?;
    Ok(())
}

/// Keeps what was learned of hosts.
///
/// # Errors
/// The server refused.
pub fn learn(
    client: &mut impl GenericClient,
    schema: &str,
    learned: &[(String, String)],
) -> Result<u64, Error> {
    let (hosts, texts): (Vec<&str>, Vec<&str>) = learned
        .iter()
        .map(|(h, l)| (h.as_str(), l.as_str()))
        .unzip();
    client.execute(
        "UPDATE skyfill.host h SET learned = n.learned FROM unnest($2::text[], $3::text[]) n (host, learned)
         WHERE h.schema_name = $1 AND h.host = n.host AND h.learned IS DISTINCT FROM n.learned",
        &[&schema, &hosts, &texts],
    )
}

/// Notes for how long hosts are to be left alone from now on, by the database's clock.
///
/// # Errors
/// The server refused.
pub fn note_pauses(
    client: &mut impl GenericClient,
    schema: &str,
    pauses: &[(String, Duration)],
) -> Result<u64, Error> {
    let (hosts, seconds): (Vec<&str>, Vec<f64>) = pauses
        .iter()
        .map(|(host, pause)| (host.as_str(), pause.as_secs_f64()))
        .unzip();
    client.execute(
        "UPDATE skyfill.host h SET paused_until = now() + make_interval(secs => n.seconds)
         FROM unnest($2::text[], $3::float8[]) n (host, seconds)
         WHERE h.schema_name = $1 AND h.host = n.host",
        &[&schema, &hosts, &seconds],
    )
}

/// Forgets for how long hosts were to be left alone.
///
/// # Errors
/// The server refused.
pub fn forget_pauses(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.host SET paused_until = NULL WHERE schema_name = $1 AND paused_until IS NOT NULL",
        &[&schema],
    )
}

/// What a host gave since that was last noted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gave {
    /// Its name.
    pub host: String,
    /// Repos that are stored, or are as they were stored.
    pub given: u64,
    /// Repos that are not there, as it says: not found, or not active.
    pub absent: u64,
    /// Repos that failed.
    pub failed: u64,
    /// Records of the repos that were stored.
    pub records: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Its repos that are still pending.
    pub pending: u64,
    /// Results per second.
    pub pace: f64,
    /// Why one failed last.
    pub trouble: Option<String>,
}

/// Notes what hosts gave.
///
/// # Errors
/// The server refused.
pub fn note_given(
    client: &mut impl GenericClient,
    schema: &str,
    gave: &[Gave],
) -> Result<u64, Error> {
    let numbers = |pick: fn(&Gave) -> u64| {
        gave.iter()
            .map(|one| i64::try_from(pick(one)).unwrap_or(i64::MAX))
            .collect::<Vec<i64>>()
    };
    client.execute(
        "UPDATE skyfill.host h SET given = h.given + n.given, absent = h.absent + n.absent, failed = h.failed + n.failed,
           given_records = h.given_records + n.records, given_bytes = h.given_bytes + n.bytes, pending = n.pending, pace = n.pace,
           trouble = coalesce(n.trouble, h.trouble), worked_at = now()
         FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::float8[], $10::text[])
           n (host, given, absent, failed, records, bytes, pending, pace, trouble)
         WHERE h.schema_name = $1 AND h.host = n.host",
        &[
            &schema,
            &gave.iter().map(|one| one.host.as_str()).collect::<Vec<&str>>(),
            &numbers(|one| one.given),
            &numbers(|one| one.absent),
            &numbers(|one| one.failed),
            &numbers(|one| one.records),
            &numbers(|one| one.bytes),
            &numbers(|one| one.pending),
            &gave.iter().map(|one| one.pace).collect::<Vec<f64>>(),
            &gave.iter().map(|one| one.trouble.as_deref()).collect::<Vec<Option<&str>>>(),
        ],
    )
}

/// A host, for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its name.
    pub host: String,
    /// Its URL.
    pub url: Option<String>,
    /// Repos that its list has, if it was listed.
    pub listed: u64,
    /// Why its list could not be read, or not to the end.
    pub listing_error: Option<String>,
    /// What it gave so far, with what was pending and its pace when it was last worked on.
    pub gave: Gave,
    /// Seconds since 1970 when that was.
    pub worked: Option<f64>,
    /// Whether a session leases it at present.
    pub is_leased: bool,
    /// What was learned of its limits, as it was stored.
    pub learned: Option<String>,
    /// Claims to accounts that it lost and won.
    pub claims: (u64, u64),
}

/// Which hosts [`known`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen<'w> {
    /// At most so many: those with the most pending repos first, then those with the most failures,
    /// then those that gave the most.
    First(i64),
    /// One.
    One(&'w str),
}

/// Hosts, and how many there are in all.
///
/// # Errors
/// The server refused.
pub fn known(
    client: &mut impl GenericClient,
    schema: &str,
    which: Chosen<'_>,
) -> Result<(Vec<Known>, u64), Error> {
    let (one, count) = match which {
        Chosen::First(count) => (None, count),
        Chosen::One(host) => (Some(host), 1),
    };
    let rows = client.query(
        "SELECT host, url, listed, listing_error, given, absent, failed, given_records, given_bytes, coalesce(pending, 0), coalesce(pace, 0),
           trouble, extract(epoch FROM worked_at)::float8, coalesce(lease_until > now(), false), learned, claims_lost, claims_won, count(*) OVER ()
         FROM skyfill.host WHERE schema_name = $1 AND host <> '' AND ($2::text IS NULL OR host = $2)
         ORDER BY coalesce(pending, 0) DESC, failed DESC, given DESC, listed DESC, host LIMIT $3",
        &[&schema, &one, &count],
    )?;
    let all = rows.first().map_or(0, |row| row.get::<_, i64>(17));
    let host = |row: &postgres::Row| {
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        Known {
            host: row.get(0),
            url: row.get(1),
            listed: number(2),
            listing_error: row.get(3),
            gave: Gave {
                host: row.get(0),
                given: number(4),
                absent: number(5),
                failed: number(6),
                records: number(7),
                bytes: number(8),
                pending: number(9),
                pace: row.get(10),
                trouble: row.get(11),
            },
            worked: row.get(12),
            is_leased: row.get(13),
            learned: row.get(14),
            claims: (number(15), number(16)),
        }
    };
    Ok((
        rows.iter().map(host).collect(),
        u64::try_from(all).unwrap_or(0),
    ))
}

/// What was learned of hosts.
///
/// # Errors
/// The server refused.
pub fn learned(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT host, learned FROM skyfill.host WHERE schema_name = $1 AND learned IS NOT NULL ORDER BY host";
    let rows = client.query(sql, &[&schema])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
