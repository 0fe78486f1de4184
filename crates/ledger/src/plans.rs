//! How sessions that work on single repos find them.

use postgres::{Error, GenericClient};

/// Settings of a session that works on single repos, in pages or batches: each is looked up by
/// index. Without statistics, as in the first hours of a first load, PostgreSQL would read all
/// repos for a page of a thousand. A fresh load turns autovacuum off, so that its tables have no
/// statistics until it is over.
pub const BY_INDEX: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// Locks the repos of these accounts until the transaction ends, in the order in which loaders lock
/// them.
pub(crate) fn hold(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[Option<&str>],
) -> Result<(), Error> {
    // One lookup by index for each, whatever the statistics say.
    client.execute(
        "SELECT FROM (SELECT DISTINCT did COLLATE \"C\" AS did FROM unnest($2::text[]) d (did) ORDER BY 1 OFFSET 0) d
           CROSS JOIN LATERAL (
             SELECT FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = d.did OFFSET 0 FOR NO KEY UPDATE) r",
        &[&schema, &dids],
    )?;
    Ok(())
}
