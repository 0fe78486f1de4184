//! Counts of repos by state and proof (table `tally`), kept as repos change
//! (`kept_counts.rs`).

use crate::kept_counts::triggers;
use crate::proofs::{Counts, Proof};
use crate::states::State;
use postgres::{Error, GenericClient};
use std::collections::BTreeMap;

/// Who vouches for what is stored of a repo `r`: the words of [`Proof`], and two more.
macro_rules! kinds {
    () => {
        "schema_name, state, CASE WHEN rev IS NULL THEN 'nothing' ELSE coalesce(proof, 'unchecked') END AS proof, contested, forks,
           CASE WHEN rev IS NULL THEN 0 ELSE coalesce(records, 0) END AS records,
           CASE WHEN rev IS NULL THEN 0 ELSE coalesce(car_bytes, 0) END AS bytes, loaded_at"
    };
}

/// Adds up repos, each with its sign `n`. What only changed in other columns leaves nothing.
macro_rules! sums {
    ($from:expr) => {
        concat!(
            "INSERT INTO skyfill.tally
         SELECT schema_name, state, proof, contested, sum(n), sum(n * forks), sum(n * records), sum(n * bytes),
           max(loaded_at) FILTER (WHERE n > 0)
         FROM (",
            $from,
            ") r GROUP BY schema_name, state, proof, contested
         HAVING sum(n) <> 0 OR sum(n * forks) <> 0 OR sum(n * records) <> 0 OR sum(n * bytes) <> 0
           OR max(loaded_at) FILTER (WHERE n > 0) IS DISTINCT FROM max(loaded_at) FILTER (WHERE n < 0);"
        )
    };
}

/// The step of the ledger's schema that makes it.
pub(crate) const STEP: &str = concat!(
    "CREATE TABLE skyfill.tally (
        schema_name text NOT NULL,
        state text NOT NULL,
        proof text NOT NULL,
        contested boolean NOT NULL,
        repos bigint NOT NULL,
        forks bigint NOT NULL,
        records bigint NOT NULL,
        bytes bigint NOT NULL,
        loaded_at timestamptz) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);",
    triggers!("tally", "repo", sums, kinds!())
);

/// What is stored, by the counts that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Records in `record`, of all repos that are stored.
    pub records: u64,
    /// Bytes of their CARs.
    pub bytes: u64,
}

/// All counts that are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) repos: BTreeMap<State, u64>,
    pub(crate) contested: u64,
    pub(crate) proofs: Counts,
    pub(crate) stored: Stored,
}

/// Adds up the rows of differences to one per kind, and those of hosts and handles. Two at once do
/// no harm: what one has taken, the other does not find.
///
/// # Errors
/// The server refused.
pub fn compact(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    crate::host_counts::compact(client, schema)?;
    crate::handles::compact(client, schema)?;
    client.execute(
        "WITH old AS (DELETE FROM skyfill.tally WHERE schema_name = $1 RETURNING *)
         INSERT INTO skyfill.tally SELECT schema_name, state, proof, contested, sum(repos), sum(forks), sum(records), sum(bytes), max(loaded_at)
         FROM old GROUP BY schema_name, state, proof, contested",
        &[&schema],
    )
}

/// Adds up the counts.
///
/// # Errors
/// The server refused, or a repo is in a state that is not known.
pub(crate) fn read(client: &mut impl GenericClient, schema: &str) -> Result<Tally, Error> {
    let rows = client.query(
        "SELECT state, proof, contested, sum(repos)::bigint, sum(forks)::bigint, sum(records)::bigint, sum(bytes)::bigint
         FROM skyfill.tally WHERE schema_name = $1 GROUP BY state, proof, contested",
        &[&schema],
    )?;
    let mut tally = Tally::default();
    for row in rows {
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let repos = number(3);
        let proofs = &mut tally.proofs;
        match row.get::<_, &str>(1) {
            "nothing" => {}
            word if word == Proof::Signed.word() => proofs.signed += repos,
            word if word == Proof::OlderKey.word() => proofs.older_key += repos,
            word if word == Proof::Forged.word() => proofs.forged += repos,
            _ => proofs.unchecked += repos,
        }
        proofs.forks += number(4);
        if row.get(2) {
            tally.contested += repos;
        }
        tally.stored.records += number(5);
        tally.stored.bytes += number(6);
        if repos > 0 {
            *tally.repos.entry(row.try_get(0)?).or_default() += repos;
        }
    }
    Ok(tally)
}

/// The condition that nothing was loaded at or after the time `since`, in a statement whose `$1` is
/// the schema.
pub(crate) fn nothing_loaded(since: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM skyfill.tally t WHERE t.schema_name = $1 AND t.loaded_at >= {since})"
    )
}
