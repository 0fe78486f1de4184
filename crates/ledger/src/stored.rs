//! Repos that are stored, in the order of DIDs: what an export goes through.

use crate::states::State;
use postgres::{Error, GenericClient};

/// A repo that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The account.
    pub did: String,
    /// Its rev.
    pub rev: String,
    /// Rows in `record`.
    pub records: u64,
    /// Whether all of its parts are stored.
    pub is_whole: bool,
}

/// Repos after `after`, up to and with `until`, in the order of DIDs.
///
/// # Errors
/// The server refused, or a repo is in a state that is not known.
pub fn page(
    client: &mut impl GenericClient,
    schema: &str,
    (after, until): (&str, Option<&str>),
    count: i64,
) -> Result<Vec<Stored>, Error> {
    let rows = client.query(
        "SELECT did, rev, coalesce(records, 0), state FROM skyfill.repo
         WHERE schema_name = $1 AND did > $2 AND ($3::text IS NULL OR did <= $3) AND rev IS NOT NULL ORDER BY did LIMIT $4",
        &[&schema, &after, &until, &count],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Stored {
                did: row.get(0),
                rev: row.get(1),
                records: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
                is_whole: row.try_get::<_, State>(3)? != State::Partial,
            })
        })
        .collect()
}

/// Accounts at which the stored repos are cut into parts of about so many records, each the last of
/// its part; the last part has none. Reads the index of all repos once, and the repos: a minute or
/// two for 45 million.
///
/// # Errors
/// The server refused.
pub fn cuts(
    client: &mut impl GenericClient,
    schema: &str,
    records: u64,
) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT max(did) FROM (
           SELECT did, div(sum(coalesce(records, 0) + 1) OVER (ORDER BY did ROWS UNBOUNDED PRECEDING) - 1, $2::bigint::numeric) AS part
           FROM skyfill.repo WHERE schema_name = $1 AND rev IS NOT NULL) r
         GROUP BY part ORDER BY part",
        &[&schema, &i64::try_from(records).unwrap_or(i64::MAX)],
    )?;
    let mut cuts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    cuts.pop();
    Ok(cuts)
}
