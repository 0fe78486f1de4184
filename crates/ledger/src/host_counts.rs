//! Counts of pending and stored repos by host (table `host_count`), kept as repos change
//! (`kept_counts.rs`): leasing hosts, starting a run and its estimates read some thousand
//! rows, and not an index of 45 million.

use crate::kept_counts::triggers;
use crate::open::Which;
use postgres::{Error, GenericClient};

/// Adds up repos, each with its sign `n`.
macro_rules! sums {
    ($from:expr) => {
        concat!(
            "INSERT INTO skyfill.host_count
         SELECT schema_name, host, sum(n * (state = 'open')::int), sum(n * (state = 'open' AND rev IS NULL)::int),
           sum(n * (rev IS NOT NULL)::int)
         FROM (",
            $from,
            ") r GROUP BY schema_name, host
         HAVING sum(n * (state = 'open')::int) <> 0 OR sum(n * (state = 'open' AND rev IS NULL)::int) <> 0
           OR sum(n * (rev IS NOT NULL)::int) <> 0;"
        )
    };
}

/// The step of the ledger's schema that makes it.
pub(crate) const STEP: &str = concat!(
    "CREATE TABLE skyfill.host_count (
        schema_name text NOT NULL,
        host text COLLATE \"C\" NOT NULL,
        pending bigint NOT NULL,
        new bigint NOT NULL,
        stored bigint NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);",
    triggers!("host_count", "repo", sums, "schema_name, host, state, rev")
);

/// Adds up the rows of differences to one per host; hosts that have one row keep it.
pub(crate) fn compact(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        "WITH several AS MATERIALIZED (
           SELECT host FROM skyfill.host_count WHERE schema_name = $1 GROUP BY host HAVING count(*) > 1),
         old AS (DELETE FROM skyfill.host_count c USING several s WHERE c.schema_name = $1 AND c.host = s.host RETURNING c.*)
         INSERT INTO skyfill.host_count SELECT schema_name, host, sum(pending), sum(new), sum(stored) FROM old GROUP BY schema_name, host
         HAVING sum(pending) <> 0 OR sum(new) <> 0 OR sum(stored) <> 0",
        &[&schema],
    )
}

/// The pending repos of each host of the schema `$1` that has some: a subquery with the columns
/// `host` and `repos`.
pub(crate) fn pending(which: Which) -> String {
    let column = if which.is_new() { "new" } else { "pending" };
    format!(
        "(SELECT host, sum({column})::bigint AS repos FROM skyfill.host_count WHERE schema_name = $1
          GROUP BY host HAVING sum({column}) > 0)"
    )
}
