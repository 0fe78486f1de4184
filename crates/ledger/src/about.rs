//! All that the ledger knows of one account, for whoever asks about it. Each statement is a lookup
//! by primary key.

use crate::identity::{DocumentState, HandleState};
use crate::proofs::Proof;
use crate::runs::Phase;
use crate::skipped::{self, Skipped};
use crate::states::{Inactive, State};
use postgres::{Error, GenericClient};

/// A repo, with all columns that say something to people.
#[derive(Clone, Debug)]
pub struct Repo {
    /// The URL of its PDS.
    pub pds: String,
    /// The name under which that is paced.
    pub host: String,
    /// The result for it.
    pub state: State,
    /// The rev that is stored.
    pub rev: Option<String>,
    /// CID of the commit that is stored.
    pub commit_cid: Option<String>,
    /// The commit's block.
    pub commit: Option<Vec<u8>>,
    /// Entries in `record`, skipped entries, duplicates, and bytes of the CAR.
    pub counts: Option<[i64; 4]>,
    /// Failed attempts since it was last loaded or opened.
    pub attempts: i32,
    /// When it is tried again, as an ISO time.
    pub next_attempt: Option<String>,
    /// One short name of the last error, and the error.
    pub error: Option<(String, String)>,
    /// Whether all of its rows are to be written again.
    pub rebuild: bool,
    /// When it was stored, as an ISO time.
    pub loaded_at: Option<String>,
    /// Whether another host claims it.
    pub contested: bool,
    /// That host.
    pub claimant: Option<String>,
    /// Whether a list says that there is a newer rev than the stored one.
    pub newer: bool,
    /// Whether its host said in a list that it has it no more.
    pub delisted: bool,
    /// How often it was found elsewhere since it was opened.
    pub moves: i32,
    /// Who vouches for what is stored.
    pub proof: Option<Proof>,
    /// How often a commit took the place of another one of the same rev.
    pub forks: i32,
    /// The pass of discovery in which its host listed it last.
    pub listing: Option<i64>,
    /// When that pass began, as an ISO time.
    pub listing_began: Option<String>,
    /// The run that stored it.
    pub run: Option<RunOf>,
    /// Parts of it that came over sockets, while others are still to come: the number of each, and
    /// of how many.
    pub parts: Vec<(i16, i16)>,
}

/// The run that stored a repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOf {
    /// Its number.
    pub id: i64,
    /// `fresh`, `merge` or `frames`.
    pub mode: String,
    /// When it began, as an ISO time.
    pub began: String,
    /// Its time.
    pub now: String,
    /// How far it has come.
    pub phase: Phase,
    /// The collections that it took; nothing means all.
    pub collections: Option<Vec<String>>,
    /// The notifications that it took.
    pub notifications: String,
    /// The time before which it left out events.
    pub since: Option<String>,
}

/// What is known of an account's document and handle.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Why the account is not active, if it is not.
    pub status: Option<Inactive>,
    /// The result of looking for its document.
    pub document: DocumentState,
    /// The handle in it.
    pub claimed_handle: Option<String>,
    /// The PDS in it.
    pub pds: Option<String>,
    /// The signing key in it.
    pub signing_key: Option<String>,
    /// When it was read, as an ISO time.
    pub documented_at: Option<String>,
    /// The result of looking at the handle.
    pub handle: HandleState,
    /// What is wrong with either.
    pub error: Option<String>,
    /// Look-ups that failed.
    pub attempts: i32,
    /// When the next look-up is due, as an ISO time.
    pub due: Option<String>,
}

/// SQL of an ISO time, for people and programs.
pub(crate) fn iso(column: &str) -> String {
    format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
}

/// The repo of an account; nothing if the ledger does not know it.
///
/// # Errors
/// The server refused, or a state is not known.
pub fn repo(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<Option<Repo>, Error> {
    let row = client.query_opt(
        &format!(
            "SELECT r.pds, r.host, r.state, r.rev, r.commit_cid, r.commit, r.records, r.skipped, r.duplicates, r.car_bytes,
               r.attempts, {}, r.error_code, r.error, r.rebuild, {}, r.contested, r.claimant, r.newer, r.delisted,
               r.moves, r.proof, r.forks, r.listing, n.id, n.now, n.phase, n.collections, n.notifications, n.since,
               n.mode, {}, {}
             FROM skyfill.repo r LEFT JOIN skyfill.run n ON n.id = r.run LEFT JOIN skyfill.listing l ON l.id = r.listing
             WHERE r.schema_name = $1 AND r.did = $2",
            iso("r.next_attempt"),
            iso("r.loaded_at"),
            iso("n.started_at"),
            iso("l.started_at")
        ),
        &[&schema, &did],
    )?;
    let Some(row) = row else { return Ok(None) };
    let run = match row.get::<_, Option<i64>>(24) {
        None => None,
        Some(id) => Some(RunOf {
            id,
            now: row.get(25),
            phase: row.try_get(26)?,
            collections: row.get(27),
            notifications: row.get(28),
            since: row.get(29),
            mode: row.get(30),
            began: row.get(31),
        }),
    };
    let counts = [6, 7, 8, 9].map(|at| row.get::<_, Option<i64>>(at));
    let parts = client.query(
        "SELECT part, parts FROM skyfill.part WHERE schema_name = $1 AND did = $2 ORDER BY part",
        &[&schema, &did],
    )?;
    Ok(Some(Repo {
        pds: row.get(0),
        host: row.get(1),
        state: row.try_get(2)?,
        rev: row.get(3),
        commit_cid: row.get(4),
        commit: row.get(5),
        counts: counts[0].map(|_| counts.map(Option::unwrap_or_default)),
        attempts: row.get(10),
        next_attempt: row.get(11),
        error: row
            .get::<_, Option<String>>(12)
            .or_else(|| row.get::<_, Option<String>>(13).map(|_| String::new()))
            .map(|code| (code, row.get::<_, Option<String>>(13).unwrap_or_default())),
        rebuild: row.get(14),
        loaded_at: row.get(15),
        contested: row.get(16),
        claimant: row.get(17),
        newer: row.get(18),
        delisted: row.get(19),
        moves: row.get(20),
        proof: row.try_get(21)?,
        forks: row.get(22),
        listing: row.get(23),
        listing_began: row.get(32),
        run,
        parts: parts.iter().map(|row| (row.get(0), row.get(1))).collect(),
    }))
}

/// What is known of an account's document and handle; nothing if nobody looked.
///
/// # Errors
/// The server refused, or a state is not known.
pub fn identity(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<Option<Identity>, Error> {
    let row = client.query_opt(
        &format!(
            "SELECT status, document, claimed_handle, pds, signing_key, {}, handle, error, attempts,
               CASE WHEN isfinite(due) THEN {} END
             FROM skyfill.identity WHERE schema_name = $1 AND did = $2",
            iso("documented_at"),
            iso("due")
        ),
        &[&schema, &did],
    )?;
    row.map(|row| {
        Ok(Identity {
            status: row.try_get(0)?,
            document: row.try_get(1)?,
            claimed_handle: row.get(2),
            pds: row.get(3),
            signing_key: row.get(4),
            documented_at: row.get(5),
            handle: row.try_get(6)?,
            error: row.get(7),
            attempts: row.get(8),
            due: row.get(9),
        })
    })
    .transpose()
}

/// The hosts whose claims to an account its document refuted.
///
/// # Errors
/// The server refused.
pub fn lost_claims(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<Vec<String>, Error> {
    let sql =
        "SELECT host FROM skyfill.lost_claim WHERE schema_name = $1 AND did = $2 ORDER BY host";
    let rows = client.query(sql, &[&schema, &did])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What became of the list of a host in the last pass: its number, and why it is not whole, if it
/// is not. Nothing if no pass was over the host.
///
/// # Errors
/// The server refused.
pub fn listing_of(
    client: &mut impl GenericClient,
    schema: &str,
    host: &str,
) -> Result<Option<(i64, Option<String>)>, Error> {
    let row = client.query_opt(
        "SELECT listing, listing_error FROM skyfill.host WHERE schema_name = $1 AND host = $2 AND listing IS NOT NULL",
        &[&schema, &host],
    )?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Why a list of skipped records could not be searched.
#[derive(Debug)]
pub enum ListError {
    /// The server refused.
    Database(Error),
    /// A piece of it is corrupt.
    Broken,
}

/// The entry of a key on an account's list of skipped records. Reads the list piece by piece.
///
/// # Errors
/// See [`ListError`].
pub fn skipped(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    key: &[u8],
) -> Result<Option<Skipped>, ListError> {
    let change = skipped::change(client, schema, did, key).map_err(ListError::Database)?;
    if let Some(change) = change {
        return Ok(change.entry);
    }
    let parts = skipped::parts(client, schema, did).map_err(ListError::Database)?;
    for part in parts {
        for number in 0.. {
            let piece = skipped::piece(client, schema, did, (part, number));
            let Some(piece) = piece.map_err(ListError::Database)? else {
                break;
            };
            let entries = skipped::read_piece(&piece).map_err(|_| ListError::Broken)?;
            if let Some(found) = entries.into_iter().find(|entry| entry.key == key) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}
