//! Handles that are stored as their documents claim them and wait to be verified, and counts of
//! handles by state (table `handle_count`).
//!
//! At 45 million accounts nobody goes over all of them to find those that wait, or to count them.
//! The index `identity_claimed_idx` has an entry for each handle that is only claimed: 2.6 GB at
//! that size, and none when all are verified. The counts are kept as accounts change
//! (`kept_counts.rs`).

use crate::identity::{DocumentState, Due, HandleNote, HandleState, reasons};
use crate::kept_counts::triggers;
use postgres::{Error, GenericClient};

/// Adds up accounts, each with its sign `n`.
macro_rules! sums {
    ($from:expr) => {
        concat!(
            "INSERT INTO skyfill.handle_count SELECT schema_name, document, handle, sum(n) FROM (",
            $from,
            ") i GROUP BY schema_name, document, handle HAVING sum(n) <> 0;"
        )
    };
}

/// The step of the ledger's schema that makes it.
pub(crate) const STEP: &str = concat!(
    "CREATE INDEX identity_claimed_idx ON skyfill.identity (schema_name, did) WHERE handle = 'claimed';
     CREATE TABLE skyfill.handle_count (
        schema_name text NOT NULL,
        document text NOT NULL,
        handle text NOT NULL,
        accounts bigint NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);",
    triggers!("handle_count", "identity", sums, "schema_name, document, handle")
);

/// Adds up the rows of differences to one per kind; a single row stays.
pub(crate) fn compact(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        "WITH several AS MATERIALIZED (
           SELECT document, handle FROM skyfill.handle_count WHERE schema_name = $1 GROUP BY document, handle HAVING count(*) > 1),
         old AS (DELETE FROM skyfill.handle_count c USING several s
                 WHERE c.schema_name = $1 AND (c.document, c.handle) = (s.document, s.handle) RETURNING c.*)
         INSERT INTO skyfill.handle_count SELECT schema_name, document, handle, sum(accounts) FROM old GROUP BY 1, 2, 3
         HAVING sum(accounts) <> 0",
        &[&schema],
    )
}

/// How many accounts are in which state of document and handle.
///
/// # Errors
/// The server refused, or a state is not known.
pub fn by_state(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Vec<(DocumentState, HandleState, u64)>, Error> {
    let rows = client.query(
        "SELECT document, handle, sum(accounts)::bigint FROM skyfill.handle_count WHERE schema_name = $1
         GROUP BY 1, 2 HAVING sum(accounts) > 0 ORDER BY 1, 2",
        &[&schema],
    )?;
    rows.iter()
        .map(|row| {
            let accounts = u64::try_from(row.get::<_, i64>(2)).unwrap_or(0);
            Ok((row.try_get(0)?, row.try_get(1)?, accounts))
        })
        .collect()
}

/// How many accounts have a handle in which state. Accounts at which nobody looked are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandleCounts {
    /// See [`HandleState::Verified`].
    pub verified: u64,
    /// See [`HandleState::Claimed`].
    pub claimed: u64,
    /// See [`HandleState::Mismatch`].
    pub mismatch: u64,
    /// See [`HandleState::Unreachable`].
    pub unreachable: u64,
    /// See [`HandleState::NoDocument`].
    pub without_document: u64,
}

impl HandleCounts {
    /// Whether nobody looked at any account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts handles.
///
/// # Errors
/// The server refused, or a state is not known.
pub fn counts(client: &mut impl GenericClient, schema: &str) -> Result<HandleCounts, Error> {
    let mut counts = HandleCounts::default();
    for (_, handle, accounts) in by_state(client, schema)? {
        *match handle {
            HandleState::Unknown => continue,
            HandleState::Verified => &mut counts.verified,
            HandleState::Claimed => &mut counts.claimed,
            HandleState::Mismatch => &mut counts.mismatch,
            HandleState::Unreachable => &mut counts.unreachable,
            HandleState::NoDocument => &mut counts.without_document,
        } += accounts;
    }
    Ok(counts)
}

/// An account whose handle is stored as its document claims it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The handle.
    pub handle: Option<String>,
    /// The account, as one that is due.
    pub due: Due,
}

/// The next `count` claims after `after`, by DID. An account that is due is looked up for that, and
/// is not among them. Documents of did:plc are good at any age if
/// `plc_is_fresh`.
///
/// # Errors
/// The server refused.
pub fn claims(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
    plc_is_fresh: bool,
) -> Result<Vec<Claim>, Error> {
    let rows = client.query(
        "SELECT did, coalesce(document = 'good' AND (documented_at > now() - interval '1 day' OR $4 AND did LIKE 'did:plc:%'), false),
           claimed_handle, attempts, heard
         FROM skyfill.identity WHERE schema_name = $1 AND handle = 'claimed' AND due IS NULL AND did > $2
         ORDER BY did LIMIT $3",
        &[&schema, &after, &count, &plc_is_fresh],
    )?;
    let claim = |row: &postgres::Row| {
        let handle: Option<String> = row.get(2);
        Claim {
            due: Due {
                did: row.get(0),
                document: row.get::<_, bool>(1).then(|| handle.clone()),
                attempts: row.get(3),
                heard: row.get(4),
            },
            handle,
        }
    };
    Ok(rows.iter().map(claim).collect())
}

/// Notes how looks at claims ended, each with the handle that the ledger must have for that. An
/// account keeps what the ledger has if its document changed meanwhile or may have, or if somebody
/// else looked at it. The accounts that were noted.
///
/// # Errors
/// The server refused.
pub fn note_settled(
    client: &mut impl GenericClient,
    schema: &str,
    notes: &[(HandleNote, Option<String>)],
) -> Result<Vec<String>, Error> {
    let dids: Vec<&str> = notes.iter().map(|(n, _)| n.did.as_str()).collect();
    let claimed: Vec<Option<&str>> = notes.iter().map(|(_, c)| c.as_deref()).collect();
    let states: Vec<&str> = notes.iter().map(|(n, _)| n.state.word()).collect();
    let errors = reasons(notes.iter().map(|(n, _)| n.error.as_deref()));
    let again: Vec<Option<i32>> = notes.iter().map(|(n, _)| n.again_in).collect();
    let heard: Vec<Option<i64>> = notes.iter().map(|(n, _)| n.heard).collect();
    let rows = client.query(
        "UPDATE skyfill.identity i SET handle = n.state, error = coalesce(n.error, i.error),
           attempts = CASE WHEN n.again IS NULL THEN 0 ELSE i.attempts + 1 END, due = now() + make_interval(secs => n.again)
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[])
           n (did, claimed, state, error, again, heard)
         WHERE i.schema_name = $1 AND i.did = n.did AND i.heard = coalesce(n.heard, i.heard) AND i.handle = 'claimed' AND i.claimed_handle IS NOT DISTINCT FROM n.claimed
         RETURNING i.did",
        &[&schema, &dids, &claimed, &states, &errors, &again, &heard],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
