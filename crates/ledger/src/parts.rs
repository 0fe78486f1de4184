//! Parts of repos (table `part`), each of which comes over one of several sockets. A repo is loaded
//! when its last part is stored. And repos that a run sent to a stream, for consumers to store.

use crate::repos::{self, Stored, is_binding};
use postgres::{Error, GenericClient};

/// A part of a repo that came over one of several sockets.
#[derive(Clone, Debug)]
pub struct StoredPart<'s> {
    /// Its number, and of how many.
    pub part: (i16, i16),
    /// The URL of the PDS, and the name under which that is paced.
    pub pds: (&'s str, &'s str),
    /// The repo, with the counts of this part.
    pub repo: Stored<'s>,
}

/// What is known of a repo when a part of it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It is to be stored.
    Wanted,
    /// It is stored at this rev already.
    There,
    /// The repo is stored at this newer rev.
    Older(String),
}

/// Locks the repo of a part until the transaction ends, adding it if it is new; tells what is known
/// of it.
///
/// # Errors
/// The server refused.
pub fn lock(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    (pds, host): (&str, &str),
    (rev, newest_believed): (&str, &str),
    part: (i16, i16),
) -> Result<PartState, Error> {
    crate::hosts::add(client, schema, std::iter::once((Some(host), Some(pds))))?;
    client.execute(
        "INSERT INTO skyfill.repo (schema_name, did, pds, host, state) VALUES ($1, $2, $3, $4, 'coming')
         ON CONFLICT (schema_name, did) DO NOTHING",
        &[&schema, &did, &pds, &host],
    )?;
    let row = client.query_one(
        &format!(
            "SELECT r.state = 'loaded' AND NOT r.rebuild, r.rebuild, r.rev, a.\"repoRev\", (
               SELECT max(p.rev COLLATE \"C\") FROM skyfill.part p WHERE p.schema_name = r.schema_name AND p.did = r.did)
             FROM skyfill.repo r LEFT JOIN \"{schema}\".actor_sync a ON a.did = $2
             WHERE r.schema_name = $1 AND r.did = $2 FOR NO KEY UPDATE OF r"
        ),
        &[&schema, &did],
    )?;
    let (is_loaded, rebuild, loaded): (bool, bool, Option<String>) =
        (row.get(0), row.get(1), row.get(2));
    let stored = [loaded.clone(), row.get(3), row.get(4)]
        .into_iter()
        .flatten();
    let newest = stored
        .filter(|stored| is_binding(stored, newest_believed, rebuild, None, None))
        .max();
    if let Some(newest) = newest.filter(|newest| newest.as_str() > rev) {
        return Ok(PartState::Older(newest));
    }
    if is_loaded && loaded.as_deref() == Some(rev) {
        return Ok(PartState::There);
    }
    let there = client.query_opt(
        "SELECT FROM skyfill.part WHERE schema_name = $1 AND did = $2 AND part = $3 AND parts = $4 AND rev = $5",
        &[&schema, &did, &part.0, &part.1, &rev],
    )?;
    Ok(if there.is_some() {
        PartState::There
    } else {
        PartState::Wanted
    })
}

/// The accounts of repos that were sent to a stream and that no consumer has stored yet. Repos of
/// which parts came over sockets are none of them.
///
/// # Errors
/// The server refused.
pub fn sent(client: &mut impl GenericClient, schema: &str) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT did FROM skyfill.repo r WHERE schema_name = $1 AND state = 'coming'
           AND NOT EXISTS (SELECT FROM skyfill.part p WHERE p.schema_name = $1 AND p.did = r.did)",
        &[&schema],
    )?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Opens the repos that were sent to a stream and that no consumer has stored yet: this process
/// loads them itself. How many.
///
/// # Errors
/// The server refused.
pub fn reopen_sent(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.repo r SET state = 'open' WHERE schema_name = $1 AND state = 'coming'
           AND NOT EXISTS (SELECT FROM skyfill.part p WHERE p.schema_name = $1 AND p.did = r.did)",
        &[&schema],
    )
}

/// Notes those of these repos as failed that no consumer has stored; how many.
///
/// # Errors
/// The server refused.
pub fn give_up(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.repo SET state = 'failed', error_code = 'not stored',
           error = 'a consumer did not store it; the file that its --rejects names says why',
           attempts = attempts + 1, next_attempt = now() + interval '1 hour' * 2 ^ least(attempts, 5)
         WHERE schema_name = $1 AND state = 'coming' AND did = ANY($2)",
        &[&schema, &dids],
    )
}

/// Notes a part as stored, in the transaction that stores its rows. True if it was the last one:
/// the repo is loaded.
///
/// # Errors
/// The server refused.
pub fn loaded(
    client: &mut impl GenericClient,
    schema: &str,
    run: i64,
    part: &StoredPart<'_>,
) -> Result<bool, Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let repo = &part.repo;
    client.execute(
        "DELETE FROM skyfill.part WHERE schema_name = $1 AND did = $2 AND (rev <> $3 OR parts <> $4)",
        &[&schema, &repo.did, &repo.rev, &part.part.1],
    )?;
    client.execute(
        "INSERT INTO skyfill.part (schema_name, did, part, parts, rev, records, skipped, duplicates)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        &[
            &schema,
            &repo.did,
            &part.part.0,
            &part.part.1,
            &repo.rev,
            &number(repo.records),
            &number(repo.skipped),
            &number(repo.duplicates),
        ],
    )?;
    let row = client.query_one(
        "SELECT count(*), sum(records)::bigint, sum(skipped)::bigint, sum(duplicates)::bigint FROM skyfill.part
         WHERE schema_name = $1 AND did = $2",
        &[&schema, &repo.did],
    )?;
    let sum = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    if sum(0) < u64::try_from(part.part.1).unwrap_or(u64::MAX) {
        client.execute(
            "UPDATE skyfill.repo SET state = 'coming', pds = $3, host = $4 WHERE schema_name = $1 AND did = $2",
            &[&schema, &repo.did, &part.pds.0, &part.pds.1],
        )?;
        return Ok(false);
    }
    repos::loaded(
        client,
        schema,
        run,
        &[Stored {
            records: sum(1),
            skipped: sum(2),
            duplicates: sum(3),
            ..repo.clone()
        }],
    )?;
    client.execute(
        "DELETE FROM skyfill.part WHERE schema_name = $1 AND did = $2",
        &[&schema, &repo.did],
    )?;
    Ok(true)
}
