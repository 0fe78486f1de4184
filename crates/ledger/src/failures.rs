//! Repos that failed, by reason, for people.

use postgres::{Error, GenericClient};

/// So many failed repos are grouped; a statement over more would take longer than anybody waits.
pub const GROUPED: i64 = 200_000;
/// So many examples of a reason are read.
const EXAMPLES: i64 = 3;

/// A failed repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The account.
    pub did: String,
    /// The name of its host.
    pub host: String,
    /// The error.
    pub error: String,
}

/// Repos that failed for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The short name of the error.
    pub code: String,
    /// How many there are.
    pub repos: u64,
    /// On how many hosts.
    pub hosts: u64,
    /// How many of them are due to be tried again.
    pub due: u64,
    /// Seconds since 1970 when the next one is due.
    pub next: Option<f64>,
    /// The first ones, by DID.
    pub examples: Vec<Example>,
}

/// Failed repos by reason, the most frequent first; of `host` alone, if one is given. More than
/// [`GROUPED`] of them are not read.
///
/// # Errors
/// The server refused.
pub fn by_reason(
    client: &mut impl GenericClient,
    schema: &str,
    host: Option<&str>,
) -> Result<Vec<Group>, Error> {
    let rows = client.query(
        "WITH failed AS MATERIALIZED (
           SELECT did, host, coalesce(error_code, 'no reason') AS code, coalesce(error, '') AS error, next_attempt FROM skyfill.repo
           WHERE schema_name = $1 AND state = 'failed' AND ($2::text IS NULL OR host = $2) LIMIT $3),
         ranked AS (SELECT *, row_number() OVER (PARTITION BY code ORDER BY did) AS number FROM failed)
         SELECT code, count(*), count(DISTINCT host), count(*) FILTER (WHERE next_attempt <= now()), extract(epoch FROM min(next_attempt))::float8,
           array_agg(did ORDER BY number) FILTER (WHERE number <= $4), array_agg(host ORDER BY number) FILTER (WHERE number <= $4),
           array_agg(error ORDER BY number) FILTER (WHERE number <= $4)
         FROM ranked GROUP BY code ORDER BY count(*) DESC, code",
        &[&schema, &host, &GROUPED, &EXAMPLES],
    )?;
    let group = |row: &postgres::Row| {
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let texts = |at: usize| row.get::<_, Option<Vec<String>>>(at).unwrap_or_default();
        let places = texts(6).into_iter().zip(texts(7));
        let example = |(did, (host, error))| Example { did, host, error };
        Group {
            code: row.get(0),
            repos: number(1),
            hosts: number(2),
            due: number(3),
            next: row.get(4),
            examples: texts(5).into_iter().zip(places).map(example).collect(),
        }
    };
    Ok(rows.iter().map(group).collect())
}

/// Failed repos whose next attempt is due, at most `most`.
///
/// # Errors
/// The server refused.
pub fn count_due(client: &mut impl GenericClient, schema: &str, most: i64) -> Result<u64, Error> {
    let row = client.query_one(
        "SELECT count(*) FROM (SELECT FROM skyfill.repo WHERE schema_name = $1 AND state = 'failed' AND next_attempt <= now() LIMIT $2) due",
        &[&schema, &most],
    )?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
