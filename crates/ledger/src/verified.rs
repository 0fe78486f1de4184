//! Which stored commits were compared with the tables (columns `verified` and `verified_at` of
//! `repo`, tables `proof` and `verified_range`).
//!
//! `verified` is the CID of the commit with which the rows of a repo were compared and found equal.
//! A load that stores the repo again empties it, so what is left to compare is a matter of one
//! index. A comparison of everything is a *pass*: it has a beginning, and goes over ranges of
//! accounts. The transaction that notes the repos of a range notes the range as well, so a pass
//! that was interrupted continues with the ranges that it had not ended.

use crate::changes::{Finalized, Writers};
use crate::repos::Known;
use postgres::{Error, GenericClient, Portal, Transaction};

/// Ranges of accounts that the pass under way compared. `found` is what a comparison found in a
/// range and what belongs to none of its repos, as its crate writes it.
pub(crate) const RANGES_STEP: &str = "CREATE TABLE skyfill.verified_range (
    schema_name text NOT NULL,
    lower_bound text COLLATE \"C\" NOT NULL,
    upper_bound text COLLATE \"C\",
    found text NOT NULL,
    PRIMARY KEY (schema_name, lower_bound))";

/// Repos that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All, in the pass that began at this time.
    All(String),
    /// Those that were stored since they were compared, or were found to differ.
    Changed,
    /// These accounts.
    Named(Vec<String>),
}

/// Repos after `after` in the order of DIDs that are to be compared: these accounts, or those that
/// were stored since they were compared, or were found to differ.
///
/// # Errors
/// The server refused, or a repo is in a state that is not known.
pub fn page(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    named: Option<&[String]>,
    count: i64,
) -> Result<Vec<Known>, Error> {
    let condition = match named {
        Some(_) => "did = ANY($4)",
        None => {
            "rev IS NOT NULL AND verified IS DISTINCT FROM commit_cid AND $4::text[] IS NOT NULL"
        }
    };
    let rows = client.query(
        &format!(
            "SELECT {KNOWN} FROM skyfill.repo
             WHERE schema_name = $1 AND did > $2 AND {condition} ORDER BY did LIMIT $3"
        ),
        &[&schema, &after, &count, &named.unwrap_or_default()],
    )?;
    rows.iter().map(Known::of_row).collect()
}

/// The columns of [`Known`].
const KNOWN: &str = "did, host, state, rev, commit_cid, commit, coalesce(records, 0), run";

/// Accounts from a DID on, up to another one that is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first DID, or what comes before it.
    pub lower: String,
    /// What comes after the last one; nothing, if none does.
    pub upper: Option<String>,
}

/// SQL: the condition that an account is in the range from `$2` to `$3`.
const IN_RANGE: &str = "schema_name = $1 AND did >= $2 AND did < $3";
/// The same, without an end.
const FROM_ON: &str = "schema_name = $1 AND did >= $2 AND $3::text IS NULL";

impl Range {
    fn condition(&self) -> &'static str {
        match self.upper {
            Some(_) => IN_RANGE,
            None => FROM_ON,
        }
    }
}

/// The first repos of a range, with the number of their records, stored and skipped.
///
/// # Errors
/// The server refused.
pub fn sizes(
    client: &mut impl GenericClient,
    schema: &str,
    range: &Range,
    count: i64,
) -> Result<Vec<(String, u64)>, Error> {
    let rows = client.query(
        &format!(
            "SELECT did, coalesce(records, 0) + coalesce(skipped, 0) FROM skyfill.repo WHERE {} ORDER BY did LIMIT $4",
            range.condition()
        ),
        &[&schema, &range.lower, &range.upper, &count],
    )?;
    let size = |row: &postgres::Row| u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
    Ok(rows.iter().map(|row| (row.get(0), size(row))).collect())
}

/// Loaded repos after `after` in the order of DIDs, with the number of their records, stored and
/// skipped.
///
/// # Errors
/// The server refused.
pub fn loaded_after(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
) -> Result<Vec<(String, u64)>, Error> {
    let rows = client.query(
        "SELECT did, coalesce(records, 0) + coalesce(skipped, 0) FROM skyfill.repo
         WHERE schema_name = $1 AND did > $2 AND state = 'loaded' AND rev IS NOT NULL ORDER BY did LIMIT $3",
        &[&schema, &after, &count],
    )?;
    let size = |row: &postgres::Row| u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
    Ok(rows.iter().map(|row| (row.get(0), size(row))).collect())
}

/// The accounts of a range.
///
/// # Errors
/// The server refused.
pub fn dids(
    client: &mut impl GenericClient,
    schema: &str,
    range: &Range,
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT did FROM skyfill.repo WHERE {} AND rev IS NOT NULL",
        range.condition()
    );
    let rows = client.query(&sql, &[&schema, &range.lower, &range.upper])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Opens the repos of a range, in the order of their URIs, for [`next_of_range`].
///
/// # Errors
/// The server refused.
pub fn open_range(txn: &mut Transaction<'_>, schema: &str, range: &Range) -> Result<Portal, Error> {
    let sql = format!(
        "SELECT {KNOWN} FROM skyfill.repo WHERE {} ORDER BY (did || '/') COLLATE \"C\"",
        range.condition()
    );
    txn.bind(&sql, &[&schema, &range.lower, &range.upper])
}

/// The next repos of a range.
///
/// # Errors
/// The server refused, or a repo is in a state that is not known.
pub fn next_of_range(
    txn: &mut Transaction<'_>,
    repos: &Portal,
    count: i32,
) -> Result<Vec<Known>, Error> {
    let rows = txn.query_portal(repos, count)?;
    rows.iter().map(Known::of_row).collect()
}

/// The ranges that are done in the pass under way, in order, with what was found in them.
///
/// # Errors
/// The server refused.
pub fn ranges(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Vec<(Range, String)>, Error> {
    let rows = client.query(
        "SELECT lower_bound, upper_bound, found FROM skyfill.verified_range WHERE schema_name = $1 ORDER BY lower_bound",
        &[&schema],
    )?;
    let range = |row: &postgres::Row| Range {
        lower: row.get(0),
        upper: row.get(1),
    };
    Ok(rows.iter().map(|row| (range(row), row.get(2))).collect())
}

/// Notes that a range is done, in the transaction that notes its repos.
///
/// # Errors
/// The server refused.
pub fn note_range(
    txn: &mut Transaction<'_>,
    schema: &str,
    range: &Range,
    found: &str,
) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO skyfill.verified_range (schema_name, lower_bound, upper_bound, found) VALUES ($1, $2, $3, $4)
         ON CONFLICT (schema_name, lower_bound) DO UPDATE SET upper_bound = excluded.upper_bound, found = excluded.found",
        &[&schema, &range.lower, &range.upper, &found],
    )?;
    Ok(())
}

fn forget_ranges(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.verified_range WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(())
}

/// A comparison of one repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The account.
    pub did: String,
    /// CID of the commit that was compared.
    pub commit_cid: String,
    /// Whether nothing differed.
    pub is_equal: bool,
}

/// Notes comparisons. A repo that was stored again meanwhile is left alone, and so is one that
/// somebody is storing now: whoever follows the stream does not wait for comparisons, nor they for
/// it.
///
/// # Errors
/// The server refused.
pub fn note(client: &mut impl GenericClient, schema: &str, notes: &[Note]) -> Result<(), Error> {
    let dids: Vec<&str> = notes.iter().map(|note| note.did.as_str()).collect();
    let commits: Vec<&str> = notes.iter().map(|note| note.commit_cid.as_str()).collect();
    let equal: Vec<bool> = notes.iter().map(|note| note.is_equal).collect();
    client.execute(
        "UPDATE skyfill.repo r SET verified = CASE WHEN n.is_equal THEN n.commit_cid END, verified_at = now()
         FROM (SELECT did COLLATE \"C\" AS did, commit_cid, is_equal
               FROM unnest($2::text[], $3::text[], $4::boolean[]) n (did, commit_cid, is_equal) ORDER BY 1 OFFSET 0) n
           CROSS JOIN LATERAL (
             SELECT r.did FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = n.did AND r.commit_cid = n.commit_cid
             OFFSET 0 FOR NO KEY UPDATE SKIP LOCKED) free
         WHERE r.schema_name = $1 AND r.did = free.did",
        &[&schema, &dids, &commits, &equal],
    )?;
    Ok(())
}

/// Notes that something of these accounts differs, whatever was found before.
///
/// # Errors
/// The server refused.
pub fn note_differing(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.repo SET verified = NULL WHERE schema_name = $1 AND did = ANY($2) AND verified IS NOT NULL",
        &[&schema, &dids],
    )?;
    Ok(())
}

/// Whether it is enough to compare what changed: everything was compared once, and since then no
/// other program wrote to the tables, as far as anybody knows.
///
/// # Errors
/// The server refused.
pub fn changes_suffice(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let proved = client.query_one(
        "SELECT EXISTS (SELECT FROM skyfill.proof WHERE schema_name = $1 AND all_at IS NOT NULL)",
        &[&schema],
    )?;
    Ok(proved.get(0) && is_trusted(client, schema)?)
}

/// Whether no other program wrote to the tables since derived rows were computed, as far as anybody
/// knows.
///
/// # Errors
/// The server refused.
pub fn is_trusted(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let finalized = Finalized::read(client, schema)?;
    Ok(finalized.is_some_and(|known| known.writers() != Writers::Foreign))
}

/// Begins a pass, or continues the one that was interrupted: when it began, and whether it is
/// continued.
///
/// # Errors
/// The server refused.
pub fn begin_pass(
    client: &mut impl GenericClient,
    schema: &str,
    anew: bool,
) -> Result<(String, bool), Error> {
    let name = pass_of(schema);
    if anew {
        client.execute("DELETE FROM skyfill.cursor WHERE name = $1", &[&name])?;
    }
    let is_new = client.execute(
        "INSERT INTO skyfill.cursor (name, value) VALUES ($1, now()::text) ON CONFLICT DO NOTHING",
        &[&name],
    )? > 0;
    if is_new {
        forget_ranges(client, schema)?;
    }
    let row = client.query_one("SELECT value FROM skyfill.cursor WHERE name = $1", &[&name])?;
    Ok((row.get(0), !is_new))
}

fn pass_of(schema: &str) -> String {
    format!("verify for {schema}")
}

/// Notes what a comparison found that began at `began` (what [`crate::coverage::now`] or
/// [`begin_pass`] answered), of everything or of what changed.
///
/// # Errors
/// The server refused.
pub fn note_proof(
    client: &mut impl GenericClient,
    schema: &str,
    began: &str,
    differences: u64,
    is_pass: bool,
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.proof AS p (schema_name, began_at, differences, all_at)
         VALUES ($1, $2::text::timestamptz, $3, CASE WHEN $4 THEN $2::text::timestamptz END)
         ON CONFLICT (schema_name) DO UPDATE SET began_at = excluded.began_at, differences = excluded.differences,
           all_at = coalesce(excluded.all_at, p.all_at)",
        &[
            &schema,
            &began,
            &i64::try_from(differences).unwrap_or(i64::MAX),
            &is_pass,
        ],
    )?;
    if is_pass {
        client.execute(
            "DELETE FROM skyfill.cursor WHERE name = $1",
            &[&pass_of(schema)],
        )?;
        forget_ranges(client, schema)?;
    }
    Ok(())
}

/// What is verified as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored repos whose rows were compared with the stored commit and found equal.
    pub equal: u64,
    /// The other stored repos.
    pub others: u64,
    /// When the first of the equal ones was compared, as an ISO time.
    pub oldest: Option<String>,
    /// When the last comparison of everything began, as an ISO time.
    pub all_at: Option<String>,
}

/// Counts it. Goes over all repos once.
///
/// # Errors
/// The server refused.
pub fn count(client: &mut impl GenericClient, schema: &str) -> Result<Counts, Error> {
    const ISO: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'";
    let row = client.query_one(
        &format!(
            "SELECT count(*) FILTER (WHERE verified = commit_cid), count(*) FILTER (WHERE verified IS DISTINCT FROM commit_cid),
               to_char(min(verified_at) FILTER (WHERE verified = commit_cid) AT TIME ZONE 'UTC', {ISO}),
               (SELECT to_char(all_at AT TIME ZONE 'UTC', {ISO}) FROM skyfill.proof WHERE schema_name = $1)
             FROM skyfill.repo WHERE schema_name = $1 AND rev IS NOT NULL"
        ),
        &[&schema],
    )?;
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok(Counts {
        equal: number(0),
        others: number(1),
        oldest: row.get(2),
        all_at: row.get(3),
    })
}

/// About `count` stored repos, chosen at random.
///
/// # Errors
/// The server refused.
pub fn sample(
    client: &mut impl GenericClient,
    schema: &str,
    count: u64,
) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT did FROM skyfill.repo WHERE schema_name = $1 AND rev IS NOT NULL ORDER BY random() LIMIT $2",
        &[&schema, &i64::try_from(count).unwrap_or(i64::MAX)],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
