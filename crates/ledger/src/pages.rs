//! Pages of a list, compared with what the ledger knows.
//!
//! A known repo becomes pending again if its listed rev is newer than the stored one; its account
//! state is stored. What a page does not change is neither written nor locked: of such repos the
//! pass keeps a hash of eight bytes (table `listed`), so that those that are missing are known at
//! its end. A pass over 45 million repos that changes nothing writes 0.4 GB; marking each repo, it
//! wrote 20 GB and as much WAL.

use crate::claims::{IS_LIAR, IS_PROVED};
use crate::states::Inactive;
use postgres::{Error, GenericClient};
use std::collections::HashSet;

/// The step of the ledger's schema that makes the table of hashes.
pub(crate) const STEP: &str = "CREATE TABLE skyfill.listed (
        schema_name text NOT NULL,
        listing bigint NOT NULL,
        hashes bigint[] NOT NULL);
    ALTER TABLE skyfill.listed ALTER COLUMN hashes SET STORAGE EXTERNAL;
    CREATE INDEX listed_listing_idx ON skyfill.listed (listing)";

/// A line of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The account.
    pub did: String,
    /// URL of the PDS and the name under which that is paced; nothing where the list does not say.
    pub pds: Option<(String, String)>,
    /// The rev of its repo.
    pub rev: Option<String>,
    /// Why it is not active, if it is not.
    pub status: Option<Inactive>,
    /// Whether the list is the authority on who its PDS is.
    pub is_settled: bool,
}

/// What a page changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Repos that were not known.
    pub new: u64,
    /// Repos that are opened again: newer, or back.
    pub opened: u64,
    /// Repos that another host claims, too.
    pub contested: u64,
}

/// The hash of an account on a host, of two columns.
pub(crate) fn hash_of(did: &str, host: &str) -> String {
    format!("hashtextextended({did} || ' ' || {host}, 0)")
}

/// What the lines of a page make of the repos that are known (`next`), with what they were.
///
/// An active repo in the list of another host than its own is contested, unless the DID document
/// has spoken; that a host still has it as not active says nothing, and neither does the rev that
/// another host names. A deletion is looked into where rows are stored, not believed: it only
/// opens the repo. The same for a repo of which no host is known. What claims are worth:
/// [`crate::claims`].
fn judged() -> String {
    format!(
        "WITH n AS MATERIALIZED (
           SELECT DISTINCT ON (did) did, pds, host, CASE WHEN rev COLLATE \"C\" <= $9 THEN rev COLLATE \"C\" END AS rev,
             status, settled
           FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[]) WITH ORDINALITY
             x (did, pds, host, rev, status, settled, number)
           ORDER BY did, number DESC
         ), liar AS MATERIALIZED (
           SELECT host FROM skyfill.host h WHERE schema_name = $1 AND {IS_LIAR}
         ), known AS MATERIALIZED (
           -- One lookup by index for each line, whatever the statistics say.
           SELECT n.*, r.place, r.pds AS old_pds, r.host AS old_host, r.proof, r.contested AS old_contested, r.claimant AS old_claimant,
             r.delisted AS old_delisted, r.newer AS old_newer, r.attempts, r.moves, r.stored_rev, r.state AS old_state,
             CASE WHEN r.stored_rev COLLATE \"C\" > $9 THEN '' ELSE r.stored_rev COLLATE \"C\" END AS old_rev, {IS_PROVED} AS is_proved,
             n.host IN (SELECT host FROM liar) AS is_liar, r.host IN (SELECT host FROM liar) AS is_on_liar,
             r.claimant IS NOT NULL AND r.claimant NOT IN (SELECT host FROM liar) AS has_claimant,
             EXISTS (SELECT FROM skyfill.lost_claim c WHERE c.schema_name = $1 AND c.did = n.did AND c.host = n.host OFFSET 0) AS is_lost
           FROM n CROSS JOIN LATERAL (
             SELECT r.ctid AS place, r.pds, r.host, r.proof, r.contested, r.claimant, r.delisted, r.newer, r.attempts, r.moves,
               r.rev AS stored_rev, r.state
             FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = n.did OFFSET 0) r
         ), other AS (
           SELECT k.*, k.host IS NOT NULL AND k.old_host <> '' AND k.host <> k.old_host AND NOT k.settled AS is_other,
             k.old_state IN ('deactivated', 'suspended', 'takendown', 'deleted', 'not found') AS is_inactive
           FROM known k
         ), claims AS (
           SELECT o.*, o.is_other AND o.status IS NULL AND NOT o.is_liar
               AND (NOT o.is_lost OR o.old_state IN ('deactivated', 'suspended', 'takendown')) AS counts,
             o.is_on_liar AND NOT o.is_proved AND NOT o.is_lost AS takes_over
           FROM other o
         ), judged AS (
           SELECT c.*, c.counts AND NOT c.takes_over AS is_claim, c.counts AND c.takes_over AS is_taken_over,
             c.settled AND c.host <> c.old_host OR c.old_host = '' AND c.host IS NOT NULL OR c.counts AND c.takes_over AS is_new_host,
             NOT c.is_other AND coalesce(c.rev > c.old_rev, false) AS has_newer_rev,
             c.status IS NULL AND (c.is_inactive OR c.old_state IN ('failed', 'unresolved', 'host opted out')
               OR NOT c.is_other AND coalesce(c.rev > c.old_rev, false)) AS is_newer
           FROM claims c
         ), next AS MATERIALIZED (
           SELECT j.*,
             CASE WHEN j.is_new_host THEN j.pds ELSE j.old_pds END AS new_pds,
             CASE WHEN j.is_new_host THEN j.host ELSE j.old_host END AS new_host,
             CASE WHEN j.is_new_host AND j.old_host <> '' AND j.stored_rev IS NOT NULL THEN coalesce(j.proof, 'elsewhere') ELSE j.proof END
               AS new_proof,
             NOT j.settled AND NOT j.is_taken_over AND (j.old_contested OR j.is_claim) AS new_contested,
             CASE WHEN j.settled OR j.is_taken_over THEN NULL WHEN j.is_claim AND NOT j.has_claimant THEN j.host ELSE j.old_claimant END
               AS new_claimant,
             CASE WHEN j.is_other OR j.host IS NULL THEN j.old_delisted ELSE j.status IS NOT DISTINCT FROM 'deleted' END AS new_delisted,
             NOT j.is_other OR j.is_taken_over AS is_listed,
             j.old_newer OR j.has_newer_rev AS new_newer,
             CASE WHEN j.is_newer OR j.is_new_host THEN 0 ELSE j.attempts END AS new_attempts,
             CASE WHEN j.is_newer OR j.is_new_host THEN 0 ELSE j.moves END AS new_moves,
             CASE
               WHEN j.is_claim THEN CASE WHEN j.old_state = 'open' AND j.stored_rev IS NULL THEN 'unresolved' ELSE j.old_state END
               WHEN j.is_taken_over THEN 'open'
               WHEN j.is_other THEN j.old_state
               WHEN j.status = 'deleted' THEN CASE WHEN j.stored_rev IS NULL THEN 'deleted'
                 WHEN j.old_host = '' AND NOT j.is_new_host THEN 'unresolved' ELSE 'open' END
               WHEN j.status IS NOT NULL THEN j.status
               WHEN j.old_contested AND NOT j.settled THEN
                 CASE WHEN j.is_newer AND j.old_state <> 'loaded' THEN 'unresolved' ELSE j.old_state END
               WHEN j.old_host = '' AND NOT j.is_new_host THEN CASE WHEN j.is_newer THEN 'unresolved' ELSE j.old_state END
               WHEN j.is_newer OR j.is_new_host THEN 'open' ELSE j.old_state END AS new_state
           FROM judged j
         )"
    )
}

/// Compares a page of a pass with the ledger, in the caller's transaction. Of a DID that a page has
/// twice the last line counts. A rev after `newest_believed` says nothing, and a stored one keeps
/// nothing out.
///
/// # Errors
/// The server refused.
pub fn page(
    client: &mut impl GenericClient,
    schema: &str,
    listing: i64,
    lines: &[Line],
    newest_believed: &str,
) -> Result<Changes, Error> {
    client.batch_execute(&crate::plans::BY_INDEX.replace("SET", "SET LOCAL"))?;
    let page = Page {
        schema,
        listing,
        newest_believed,
    };
    let all: Vec<&Line> = lines.iter().collect();
    let concerned = page.concerned(client, &all)?;
    if concerned.is_empty() {
        return Ok(Changes::default());
    }
    let lines: Vec<&Line> = all
        .into_iter()
        .filter(|line| concerned.contains(&line.did))
        .collect();
    page.apply(client, &lines)
}

/// What the lines of a page are compared with.
struct Page<'p> {
    schema: &'p str,
    listing: i64,
    newest_believed: &'p str,
}

fn column<'l>(lines: &[&'l Line], pick: fn(&Line) -> Option<&str>) -> Vec<Option<&'l str>> {
    lines.iter().map(|line| pick(line)).collect()
}

impl Page<'_> {
    /// The accounts that are new or that the page changes. Of the others their hashes are kept.
    /// Nothing is locked: a repo that somebody changes meanwhile is as if the page had come before.
    fn concerned(
        &self,
        client: &mut impl GenericClient,
        lines: &[&Line],
    ) -> Result<HashSet<String>, Error> {
        let sql = format!(
            "{}, unchanged AS (
               SELECT did, old_host, is_listed FROM next
               WHERE (old_pds, old_host, proof, old_contested, old_claimant, old_delisted, old_newer, attempts, moves, old_state)
                 IS NOT DISTINCT FROM
                 (new_pds, new_host, new_proof, new_contested, new_claimant, new_delisted, new_newer, new_attempts, new_moves, new_state)
             ), kept AS (
               INSERT INTO skyfill.listed (schema_name, listing, hashes)
               SELECT $1, $8, array_agg({}) FROM unchanged WHERE is_listed HAVING count(*) > 0)
             SELECT did FROM n EXCEPT SELECT did FROM unchanged",
            judged(),
            hash_of("did", "old_host")
        );
        let rows = self.query(client, &sql, lines)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Adds what is new and changes what is known.
    fn apply(&self, client: &mut impl GenericClient, lines: &[&Line]) -> Result<Changes, Error> {
        let hosts = column(lines, |line| {
            line.pds.as_ref().map(|(_, host)| host.as_str())
        });
        let pds = column(lines, |line| line.pds.as_ref().map(|(pds, _)| pds.as_str()));
        // What no host is known of has the host without a name.
        let named = hosts
            .iter()
            .zip(&pds)
            .map(|(host, pds)| (host.or(Some("")), *pds));
        crate::hosts::add(client, self.schema, named)?;
        crate::plans::hold(client, self.schema, &column(lines, |line| Some(&line.did)))?;
        let sql = format!(
            "{}, added AS (
               INSERT INTO skyfill.repo (schema_name, did, pds, host, state, listing, delisted)
               SELECT $1, did, coalesce(pds, ''), coalesce(host, ''),
                 coalesce(status, CASE WHEN host IS NULL THEN 'unresolved' ELSE 'open' END), $8,
                 host IS NOT NULL AND status IS NOT DISTINCT FROM 'deleted'
               FROM n WHERE NOT EXISTS (SELECT FROM known k WHERE k.did = n.did)
               ON CONFLICT DO NOTHING RETURNING 1
             ), changed AS (
               -- The rows are locked, so they are where they were found.
               UPDATE skyfill.repo r SET pds = j.new_pds, host = j.new_host, proof = j.new_proof, contested = j.new_contested,
                 claimant = j.new_claimant, delisted = j.new_delisted, listing = CASE WHEN j.is_listed THEN $8 ELSE r.listing END,
                 newer = j.new_newer, attempts = j.new_attempts, moves = j.new_moves, state = j.new_state
               FROM next j WHERE r.ctid = j.place AND r.schema_name = $1 AND r.did = j.did
               RETURNING j.is_claim AND NOT j.old_contested AS claim, r.state = 'open' AND j.old_state <> 'open' AS opened
             )
             SELECT (SELECT count(*) FROM added), count(*) FILTER (WHERE opened), count(*) FILTER (WHERE claim) FROM changed",
            judged()
        );
        let rows = self.query(client, &sql, lines)?;
        let number = |at: usize| {
            let count = rows.first().map_or(0, |row| row.get::<_, i64>(at));
            u64::try_from(count).unwrap_or(0)
        };
        Ok(Changes {
            new: number(0),
            opened: number(1),
            contested: number(2),
        })
    }

    fn query(
        &self,
        client: &mut impl GenericClient,
        sql: &str,
        lines: &[&Line],
    ) -> Result<Vec<postgres::Row>, Error> {
        client.query(
            sql,
            &[
                &self.schema,
                &column(lines, |line| Some(&line.did)),
                &column(lines, |line| line.pds.as_ref().map(|(pds, _)| pds.as_str())),
                &column(lines, |line| {
                    line.pds.as_ref().map(|(_, host)| host.as_str())
                }),
                &column(lines, |line| line.rev.as_deref()),
                &column(lines, |line| line.status.map(Inactive::word)),
                &lines
                    .iter()
                    .map(|line| line.is_settled)
                    .collect::<Vec<bool>>(),
                &self.listing,
                &self.newest_believed,
            ],
        )
    }
}
