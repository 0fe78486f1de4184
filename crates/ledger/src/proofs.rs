//! Proofs: who vouches for the stored rows of a repo (column `proof` of table `repo`).
//!
//! A repo is proved when a key in its account's DID document signed the stored commit, and the host
//! that the document names served it. The index `repo_unproved_idx` contains only unproved repos,
//! so that they are found without reading the table.

use crate::column::column;
use postgres::{Error, GenericClient};

/// What is known of a stored repo; none if nobody could check it yet: it is *unproved*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The key of the account's document signed it, and the host that the document names served it.
    Signed,
    /// The same, but the key is an older one, which the PLC directory's log names.
    OlderKey,
    /// It was stored from another host than the one that the document names.
    Elsewhere,
    /// No key of the account signed it.
    Forged,
}

impl Proof {
    const ALL: [Self; 4] = [Self::Signed, Self::OlderKey, Self::Elsewhere, Self::Forged];

    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::OlderKey => "older key",
            Self::Elsewhere => "elsewhere",
            Self::Forged => "forged",
        }
    }

    /// Whether the account vouches for the repo.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Signed | Self::OlderKey)
    }
}

column!(Proof, "skyfill.repo", "proof");

/// The condition that a repo `r` is stored and not proved, word by word that of
/// `repo_unproved_idx`.
pub(crate) const IS_UNPROVED: &str =
    "r.rev IS NOT NULL AND (r.proof IS NULL OR r.proof IN ('forged', 'elsewhere'))";

/// How many stored repos are proved, and how many are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// See [`Proof::Signed`].
    pub signed: u64,
    /// See [`Proof::OlderKey`].
    pub older_key: u64,
    /// Nobody could check these yet, or they came from another host than their documents name.
    pub unchecked: u64,
    /// See [`Proof::Forged`].
    pub forged: u64,
    /// Commits that took the place of another one of the same rev.
    pub forks: u64,
}

impl Counts {
    /// Stored repos behind which no account's word stands, as far as anybody knows.
    #[must_use]
    pub fn unproved(&self) -> u64 {
        self.unchecked.saturating_add(self.forged)
    }
}

/// A stored repo that is not proved, and what is known of its account's document.
#[derive(Clone, Debug)]
pub struct Unproved {
    /// The account.
    pub did: String,
    /// The name of the host that the ledger has it on; empty if it came from files.
    pub host: String,
    /// What was found of it before.
    pub proof: Option<Proof>,
    /// CID of the stored commit.
    pub commit_cid: String,
    /// Its block.
    pub commit: Vec<u8>,
    /// PDS and signing key of the document, if it is known.
    pub document: Option<(String, String)>,
    /// Whether the document was fetched within a day.
    pub is_fresh: bool,
    /// How often something had been heard of the account, if its document is known.
    pub heard: Option<i64>,
}

/// Stored repos that are not proved, after `after` in the order of DIDs.
///
/// # Errors
/// The server refused.
pub fn unproved(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
) -> Result<Vec<Unproved>, Error> {
    // Lookups by index, one for each, whatever the statistics say.
    let rows = client.query(
        &format!(
            "SELECT r.did, r.host, r.proof, r.commit_cid, r.commit, i.pds, i.signing_key, i.is_fresh, i.heard
             FROM (SELECT did, host, proof, commit_cid, commit FROM skyfill.repo r
                   WHERE r.schema_name = $1 AND r.did > $2 AND {IS_UNPROVED} ORDER BY r.did LIMIT $3) r
               LEFT JOIN LATERAL (
                 SELECT pds, signing_key, coalesce(documented_at > now() - interval '1 day', false) AS is_fresh, heard
                 FROM skyfill.identity WHERE schema_name = $1 AND did = r.did AND document = 'good' OFFSET 0) i ON true
             ORDER BY r.did"
        ),
        &[&schema, &after, &count],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Unproved {
                did: row.get(0),
                host: row.get(1),
                proof: row.try_get(2)?,
                commit_cid: row.get::<_, Option<String>>(3).unwrap_or_default(),
                commit: row.get::<_, Option<Vec<u8>>>(4).unwrap_or_default(),
                document: row.get::<_, Option<String>>(5).zip(row.get(6)),
                is_fresh: row.get::<_, Option<bool>>(7).unwrap_or(false),
                heard: row.get(8),
            })
        })
        .collect()
}

/// What a look at a stored commit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The account.
    pub did: String,
    /// CID of the commit that was looked at: a repo that was loaded again meanwhile is left alone.
    pub commit_cid: String,
    /// What it is.
    pub proof: Proof,
    /// If it is to be fetched again: URL and name of the host that the document names.
    pub at: Option<(String, String)>,
}

/// Notes what was found, and opens what is to be fetched again; returns how many repos were opened
/// that were not open before. A repo that failed on the same host keeps its next attempt, and one
/// that its host does not give is not asked for again for the same reason.
///
/// # Errors
/// The server refused.
pub fn note(client: &mut impl GenericClient, schema: &str, found: &[Found]) -> Result<u64, Error> {
    let column =
        |pick: fn(&Found) -> Option<&str>| found.iter().map(pick).collect::<Vec<Option<&str>>>();
    let pds = column(|one| one.at.as_ref().map(|(pds, _)| pds.as_str()));
    let hosts = column(|one| one.at.as_ref().map(|(_, host)| host.as_str()));
    crate::hosts::add(
        client,
        schema,
        hosts.iter().copied().zip(pds.iter().copied()),
    )?;
    let dids = column(|one| Some(&one.did));
    crate::plans::hold(client, schema, &dids)?;
    // Whose host the document does not name, claimed it and lost.
    let lost = client.query(
        "SELECT x.did, r.host FROM unnest($2::text[], $3::text[]) x (did, host) JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = x.did
         WHERE x.host <> r.host",
        &[&schema, &dids, &hosts],
    )?;
    let lost: Vec<(String, String)> = lost.iter().map(|row| (row.get(0), row.get(1))).collect();
    crate::claims::note_lost(client, schema, &lost, &[])?;
    let row = client.query_one(
        "WITH n AS MATERIALIZED (
           SELECT x.*, x.host IS NOT NULL AND (x.host <> r.host OR r.state = 'loaded'
               OR r.state NOT IN ('open', 'failed') AND r.proof IS DISTINCT FROM x.proof) AS opens, r.state AS old_state
           FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) x (did, commit_cid, proof, pds, host)
             JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = x.did AND r.commit_cid = x.commit_cid
         ), changed AS (
           UPDATE skyfill.repo r SET proof = n.proof, pds = coalesce(n.pds, r.pds), host = coalesce(n.host, r.host),
             state = CASE WHEN n.opens THEN 'open' ELSE r.state END,
             contested = r.contested AND NOT n.opens, claimant = CASE WHEN NOT n.opens THEN r.claimant END,
             attempts = CASE WHEN n.opens THEN 0 ELSE r.attempts END, moves = CASE WHEN n.opens THEN 0 ELSE r.moves END,
             next_attempt = CASE WHEN n.opens THEN NULL ELSE r.next_attempt END
           FROM n WHERE r.schema_name = $1 AND r.did = n.did RETURNING n.opens AND n.old_state <> 'open' AS opened
         )
         SELECT count(*) FILTER (WHERE opened) FROM changed",
        &[
            &schema,
            &dids,
            &column(|one| Some(&one.commit_cid)),
            &column(|one| Some(one.proof.word())),
            &pds,
            &hosts,
        ],
    )?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
