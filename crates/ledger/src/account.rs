//! All that the ledger has of one account, for people.

use crate::identity::{DocumentState, HandleState};
use crate::proofs::Proof;
use crate::states::{Inactive, State};
use postgres::{Error, GenericClient};

/// The repo of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct RepoOf {
    /// The result for it.
    pub state: State,
    /// The URL of its PDS.
    pub pds: String,
    /// The name of its host.
    pub host: String,
    /// The rev that is stored.
    pub rev: Option<String>,
    /// CID of the commit that is stored.
    pub commit_cid: Option<String>,
    /// Who vouches for it.
    pub proof: Option<Proof>,
    /// Entries in `record`, entries that were skipped, duplicates.
    pub records: [Option<i64>; 3],
    /// Bytes of its CAR.
    pub bytes: Option<i64>,
    /// How often it failed.
    pub attempts: i32,
    /// Seconds since 1970 when it is tried again.
    pub next_attempt: Option<f64>,
    /// The short name of the last error, and the error.
    pub error: (Option<String>, Option<String>),
    /// Seconds since 1970 when it was loaded.
    pub loaded: Option<f64>,
    /// The run that loaded it.
    pub run: Option<i64>,
    /// The host that claims it, too.
    pub claimant: Option<String>,
    /// Whether all of its rows are to be written again.
    pub is_rebuilt: bool,
}

/// The identity of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityOf {
    /// Why it is not active, if it is not.
    pub status: Option<Inactive>,
    /// What is known of its DID document.
    pub document: DocumentState,
    /// The PDS that the document names.
    pub pds: Option<String>,
    /// The handle that the document claims.
    pub claimed_handle: Option<String>,
    /// What is known of that.
    pub handle: HandleState,
    /// Seconds since 1970 when the document was read.
    pub documented: Option<f64>,
    /// What was wrong.
    pub error: Option<String>,
}

/// Both, as far as they are known.
///
/// # Errors
/// The server refused, or a value is not known.
pub fn of(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<(Option<RepoOf>, Option<IdentityOf>), Error> {
    let row = client.query_opt(
        "SELECT state, pds, host, rev, commit_cid, proof, records, skipped, duplicates, car_bytes, attempts,
           extract(epoch FROM next_attempt)::float8, error_code, error, extract(epoch FROM loaded_at)::float8, run, claimant, rebuild
         FROM skyfill.repo WHERE schema_name = $1 AND did = $2",
        &[&schema, &did],
    )?;
    let repo = row.map(|row| -> Result<RepoOf, Error> {
        Ok(RepoOf {
            state: row.try_get(0)?,
            pds: row.get(1),
            host: row.get(2),
            rev: row.get(3),
            commit_cid: row.get(4),
            proof: row.try_get(5)?,
            records: [row.get(6), row.get(7), row.get(8)],
            bytes: row.get(9),
            attempts: row.get(10),
            next_attempt: row.get(11),
            error: (row.get(12), row.get(13)),
            loaded: row.get(14),
            run: row.get(15),
            claimant: row.get(16),
            is_rebuilt: row.get(17),
        })
    });
    let row = client.query_opt(
        "SELECT status, document, pds, claimed_handle, handle, extract(epoch FROM documented_at)::float8, error
         FROM skyfill.identity WHERE schema_name = $1 AND did = $2",
        &[&schema, &did],
    )?;
    let identity = row.map(|row| -> Result<IdentityOf, Error> {
        Ok(IdentityOf {
            status: row.try_get(0)?,
            document: row.try_get(1)?,
            pds: row.get(2),
            claimed_handle: row.get(3),
            handle: row.try_get(4)?,
            documented: row.get(5),
            error: row.get(6),
        })
    });
    Ok((repo.transpose()?, identity.transpose()?))
}
