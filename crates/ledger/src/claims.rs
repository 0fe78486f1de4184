//! Claims: hosts that list accounts which, according to the ledger, are on another host (table
//! `lost_claim`), and how far such hosts are believed.
//!
//! The DID document decides a claim. A lost claim stays lost: it is not examined again until the
//! document changes, or until the host that has the account reports it as inactive there. A host
//! that loses many claims is a *liar*. Its claims are ignored, and its unproved accounts go to any
//! other host that claims them, without a request to the directory. The number of a host's lost
//! claims is halved at each pass, so that a host that was wrong once is believed again.

use postgres::{Error, GenericClient};

/// The condition that host `h` is a liar. A host that merged with another one wins what it claims.
pub(crate) const IS_LIAR: &str = "h.claims_lost >= 20 AND h.claims_lost > 4 * h.claims_won";

/// The condition that the account vouches for repo `r`.
pub(crate) const IS_PROVED: &str = "coalesce(r.proof IN ('signed', 'older key'), false)";

/// Settles what liars contest, or have and nobody proved, without asking anybody; how many repos.
///
/// # Errors
/// The server refused.
pub fn pass_over_liars(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        &format!(
            "WITH liar AS MATERIALIZED (SELECT host FROM skyfill.host h WHERE schema_name = $1 AND {IS_LIAR}),
             judged AS MATERIALIZED (
               SELECT r.did, c.url, r.host IN (SELECT host FROM liar) AND NOT {IS_PROVED} AS goes, r.claimant IN (SELECT host FROM liar) AS stays
               FROM skyfill.repo r JOIN skyfill.host c ON c.schema_name = $1 AND c.host = r.claimant
               WHERE r.schema_name = $1 AND (r.contested OR r.state = 'unresolved') AND r.contested)
             UPDATE skyfill.repo r SET contested = false, claimant = NULL, attempts = 0, moves = 0, next_attempt = NULL,
               host = CASE WHEN stays THEN r.host ELSE r.claimant END, pds = CASE WHEN stays THEN r.pds ELSE j.url END,
               proof = CASE WHEN stays OR r.rev IS NULL THEN r.proof ELSE coalesce(r.proof, 'elsewhere') END,
               state = CASE WHEN NOT stays OR r.state = 'unresolved' OR r.newer AND r.state = 'loaded' THEN 'open' ELSE r.state END
             FROM judged j WHERE r.schema_name = $1 AND r.did = j.did AND (j.goes <> j.stays) AND (j.stays OR j.url IS NOT NULL)"
        ),
        &[&schema],
    )
}

/// Counts the claims that hosts lost and won: accounts with the hosts that claimed them. Returns
/// the ones that are new.
///
/// # Errors
/// The server refused.
pub fn note_lost(
    client: &mut impl GenericClient,
    schema: &str,
    lost: &[(String, String)],
    won: &[String],
) -> Result<(), Error> {
    let (dids, hosts): (Vec<&str>, Vec<&str>) = lost
        .iter()
        .map(|(did, host)| (did.as_str(), host.as_str()))
        .unzip();
    client.execute(
        "WITH lost AS (
           INSERT INTO skyfill.lost_claim (schema_name, did, host) SELECT $1, * FROM unnest($2::text[], $3::text[]) n (did, host)
           WHERE host <> '' ORDER BY did ON CONFLICT DO NOTHING RETURNING host
         ), counts AS (
           SELECT host, sum(lost) AS lost, sum(won) AS won
           FROM (SELECT host, 1 AS lost, 0 AS won FROM lost UNION ALL SELECT host, 0, 1 FROM unnest($4::text[]) w (host)) c GROUP BY host)
         UPDATE skyfill.host h SET claims_lost = h.claims_lost + c.lost, claims_won = h.claims_won + c.won
         FROM counts c WHERE h.schema_name = $1 AND h.host = c.host",
        &[&schema, &dids, &hosts, &won],
    )?;
    Ok(())
}
