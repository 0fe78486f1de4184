//! Passes of discovery (table `listing`): the lists of hosts, relays and directories, page by page,
//! compared with what the ledger knows.
//!
//! One transaction stores a page (`pages`) and the cursor after it, so that a pass
//! continues where it was stopped. A repo that its host no longer lists, although the list was
//! read to the end, becomes pending, so that it is requested and found gone or moved. A repo that
//! two hosts list is contested until its DID document was read ([`settle`]), once
//! ([`crate::claims`]).

use crate::claims::IS_PROVED;
use crate::pages::hash_of;
pub use crate::pages::{Changes, Line, page};
use crate::states::Inactive;
use crate::text::reason;
use postgres::{Error, GenericClient, Row};

/// Begins a pass over `source`, or continues with the one that was not ended. Returns its number,
/// and whether it is a new one.
///
/// # Errors
/// The server refused.
pub fn begin(
    client: &mut impl GenericClient,
    schema: &str,
    source: &str,
    relay: Option<(&str, Option<i64>)>,
) -> Result<(i64, bool), Error> {
    let open = client.query_opt(
        "SELECT id FROM skyfill.listing WHERE schema_name = $1 AND source = $2 AND ended_at IS NULL ORDER BY id DESC LIMIT 1",
        &[&schema, &source],
    )?;
    if let Some(row) = open {
        return Ok((row.get(0), false));
    }
    let row = client.query_one(
        "INSERT INTO skyfill.listing (schema_name, source, relay, seq) VALUES ($1, $2, $3, $4) RETURNING id",
        &[
            &schema,
            &source,
            &relay.map(|(relay, _)| relay),
            &relay.and_then(|(_, seq)| seq),
        ],
    )?;
    Ok((row.get(0), true))
}

/// The relay's sequence number before a pass began, if it is known.
///
/// # Errors
/// The server refused.
pub fn seq(client: &mut impl GenericClient, listing: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT seq FROM skyfill.listing WHERE id = $1";
    Ok(client
        .query_opt(sql, &[&listing])?
        .and_then(|row| row.get(0)))
}

/// The last pass over `source` that came to its end.
///
/// # Errors
/// The server refused.
pub fn last_ended(
    client: &mut impl GenericClient,
    schema: &str,
    source: &str,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT max(id) FROM skyfill.listing WHERE schema_name = $1 AND source = $2 AND ended_at IS NOT NULL";
    client.query_one(sql, &[&schema, &source])?.try_get(0)
}

/// The last pass over `source`, if it came to its end since the run began that loads now.
///
/// # Errors
/// The server refused.
pub fn ended_in_run(
    client: &mut impl GenericClient,
    schema: &str,
    source: &str,
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(
        "SELECT l.id FROM skyfill.listing l
         WHERE l.schema_name = $1 AND l.source = $2 AND l.id = (SELECT max(id) FROM skyfill.listing WHERE schema_name = $1 AND source = $2)
           AND l.ended_at >= (SELECT max(started_at) FROM skyfill.run WHERE schema_name = $1 AND phase = $3)",
        &[&schema, &source, &crate::runs::Phase::Load.word()],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// Ends a pass.
///
/// # Errors
/// The server refused.
pub fn end(client: &mut impl GenericClient, listing: i64) -> Result<(), Error> {
    for statement in [
        "UPDATE skyfill.listing SET ended_at = now() WHERE id = $1",
        "DELETE FROM skyfill.listed WHERE listing = $1",
    ] {
        client.execute(statement, &[&listing])?;
    }
    Ok(())
}

/// A host that is to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostToList {
    /// The name under which it is paced.
    pub host: String,
    /// Its URL.
    pub url: String,
    /// Where to go on, if it was begun.
    pub cursor: Option<String>,
    /// Whether the pass before ended there.
    pub goes_on: bool,
    /// What was learned of it, as it was stored.
    pub learned: Option<String>,
}

/// Adds hosts to a pass; those that are in it already stay as they are. One that the pass before
/// listed in part continues where that ended.
///
/// # Errors
/// The server refused.
pub fn add_hosts(
    client: &mut impl GenericClient,
    schema: &str,
    listing: i64,
    hosts: &[(String, String)],
) -> Result<u64, Error> {
    let (names, urls): (Vec<&str>, Vec<&str>) =
        hosts.iter().map(|(n, u)| (n.as_str(), u.as_str())).unzip();
    client.execute(
        "INSERT INTO skyfill.host AS h (schema_name, host, url, listing)
         SELECT DISTINCT ON (n.host) $1, n.host, n.url, $4::bigint FROM unnest($2::text[], $3::text[]) n (host, url) ORDER BY n.host
         ON CONFLICT (schema_name, host) DO UPDATE SET url = excluded.url, listing = excluded.listing, listed = 0, listed_at = NULL,
           cursor = CASE WHEN h.listing_error IS NOT NULL THEN h.cursor END,
           listing_error = CASE WHEN h.cursor IS NOT NULL THEN h.listing_error END,
           claims_lost = h.claims_lost / 2, claims_won = h.claims_won / 2
         WHERE h.listing IS DISTINCT FROM excluded.listing",
        &[&schema, &names, &urls, &listing],
    )
}

/// The hosts of a pass that are not listed to their end, those with the most repos first.
///
/// # Errors
/// The server refused.
pub fn hosts_to_list(
    client: &mut impl GenericClient,
    schema: &str,
    listing: i64,
) -> Result<Vec<HostToList>, Error> {
    let rows = client.query(
        "SELECT host, url, cursor, learned, listing_error IS NOT NULL FROM skyfill.host
         WHERE schema_name = $1 AND listing = $2 AND listed_at IS NULL AND url IS NOT NULL ORDER BY listed DESC, host",
        &[&schema, &listing],
    )?;
    let of = |row: &Row| HostToList {
        host: row.get(0),
        url: row.get(1),
        cursor: row.get(2),
        learned: row.get(3),
        goes_on: row.get(4),
    };
    Ok(rows.iter().map(of).collect())
}

/// All hosts whose URL the ledger knows: name and URL.
///
/// # Errors
/// The server refused.
pub fn known_hosts(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Vec<(String, String)>, Error> {
    let rows = client.query(
        "SELECT host, url FROM skyfill.host WHERE schema_name = $1 AND host <> '' AND url IS NOT NULL",
        &[&schema],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What column `listing_error` has for a host that the operator's opt-out list names.
const OPTED_OUT: &str = "it opted out";

/// How the list of a host ended in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing<'a> {
    /// At its end.
    Whole,
    /// Before that, and why; the next pass continues there.
    InPart(&'a str),
    /// It cannot be listed, and why; the next pass lists all of it.
    Failed(&'a str),
    /// It is not listed, because the operator's opt-out list names it.
    OptedOut,
}

/// What a pass has of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Its list was read to its end.
    Whole,
    /// It was not, and why.
    Not(String),
    /// The operator's opt-out list names it.
    OptedOut,
}

/// The hosts of all passes by name, and what the last pass over each has of it.
///
/// # Errors
/// The server refused.
pub fn hosts(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Vec<(String, Listed)>, Error> {
    let rows = client.query(
        "SELECT host, listed_at IS NOT NULL, listing_error FROM skyfill.host
         WHERE schema_name = $1 AND listing IS NOT NULL ORDER BY host",
        &[&schema],
    )?;
    let of = |row: &Row| {
        let listed = match row.get::<_, Option<String>>(2) {
            Some(error) if error == OPTED_OUT => Listed::OptedOut,
            Some(error) => Listed::Not(error),
            None if row.get(1) => Listed::Whole,
            None => Listed::Not("it was not listed, or not to the end".to_owned()),
        };
        (row.get(0), listed)
    };
    Ok(rows.iter().map(of).collect())
}

/// Hosts of the last pass, if that has not ended: those that are listed, and those that are left.
///
/// # Errors
/// The server refused.
pub fn unended(client: &mut impl GenericClient, schema: &str) -> Result<Option<(u64, u64)>, Error> {
    let row = client.query_opt(
        "SELECT count(h.host) FILTER (WHERE h.listed_at IS NOT NULL), count(h.host) FILTER (WHERE h.listed_at IS NULL)
         FROM (SELECT id, ended_at FROM skyfill.listing WHERE schema_name = $1 ORDER BY id DESC LIMIT 1) l
           LEFT JOIN skyfill.host h ON h.schema_name = $1 AND h.listing = l.id
         WHERE l.ended_at IS NULL GROUP BY l.id",
        &[&schema],
    )?;
    let number = |row: &Row, at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok(row.map(|row| (number(&row, 0), number(&row, 1))))
}

/// Notes how the list of a host ended.
///
/// # Errors
/// The server refused.
pub fn host_ended(
    client: &mut impl GenericClient,
    schema: &str,
    host: &str,
    end: Listing<'_>,
) -> Result<(), Error> {
    let (error, keeps_cursor) = match end {
        Listing::Whole => (None, false),
        Listing::InPart(why) => (Some(why), true),
        Listing::Failed(why) => (Some(why), false),
        Listing::OptedOut => (Some(OPTED_OUT), false),
    };
    client.execute(
        "UPDATE skyfill.host SET listed_at = now(), listing_error = $3, cursor = CASE WHEN $4 THEN cursor END
         WHERE schema_name = $1 AND host = $2",
        &[&schema, &host, &error.map(reason), &keeps_cursor],
    )?;
    Ok(())
}

/// Hosts of a pass that could not be listed, with the reasons. Those that the operator's opt-out
/// list names are none of them.
///
/// # Errors
/// The server refused.
pub fn failed_hosts(
    client: &mut impl GenericClient,
    schema: &str,
    listing: i64,
) -> Result<Vec<(String, String)>, Error> {
    let rows = client.query(
        "SELECT host, coalesce(listing_error, 'it was not asked') FROM skyfill.host
         WHERE schema_name = $1 AND listing = $2 AND (listing_error IS NOT NULL OR listed_at IS NULL)
           AND listing_error IS DISTINCT FROM $3 ORDER BY host",
        &[&schema, &listing, &OPTED_OUT],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Of these accounts those that are not active now, and not deleted, with their states.
///
/// # Errors
/// The server refused.
pub fn inactive(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<(String, Inactive)>, Error> {
    let rows = client.query(
        "SELECT did, state FROM skyfill.repo
         WHERE schema_name = $1 AND did = ANY($2) AND state IN ('deactivated', 'suspended', 'takendown')",
        &[&schema, &dids],
    )?;
    rows.iter()
        .map(|row| Ok((row.get(0), row.try_get(1)?)))
        .collect()
}

/// Stores how far a host was listed, in the transaction that stored the page.
///
/// # Errors
/// The server refused.
pub fn host_page(
    client: &mut impl GenericClient,
    schema: &str,
    host: &str,
    cursor: &str,
    lines: u64,
) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.host SET cursor = $3, listed = listed + $4 WHERE schema_name = $1 AND host = $2",
        &[&schema, &host, &cursor, &i64::try_from(lines).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// Opens the repos that hosts of a pass do not list any more, though they were listed to their end:
/// they are asked for one by one. Goes over all repos once, beside the hashes of the pass.
///
/// # Errors
/// The server refused.
pub fn open_unlisted(
    client: &mut impl GenericClient,
    schema: &str,
    listing: i64,
) -> Result<u64, Error> {
    let mut txn = client.transaction()?;
    // The hash of 45 million hashes goes to disk in parts; a loop over them would never end.
    txn.batch_execute("SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '256MB'")?;
    let opened = txn.execute(
        &format!(
            "UPDATE skyfill.repo r SET state = 'open', attempts = 0, moves = 0, delisted = true FROM skyfill.host h
             WHERE r.schema_name = $1 AND h.schema_name = $1 AND r.host = h.host AND h.listing = $2 AND h.listed_at IS NOT NULL
               AND h.listing_error IS NULL AND r.listing IS DISTINCT FROM $2 AND NOT r.contested
               AND (r.state IN ('loaded', 'deactivated', 'suspended', 'takendown') OR r.state IN ('open', 'failed') AND r.rev IS NOT NULL)
               AND NOT EXISTS (
                 SELECT FROM (SELECT unnest(l.hashes) AS hash FROM skyfill.listed l WHERE l.schema_name = $1 AND l.listing = $2) l
                 WHERE l.hash = {})",
            hash_of("r.did", "r.host")
        ),
        &[&schema, &listing],
    )?;
    txn.batch_execute("SET LOCAL enable_nestloop = on; SET LOCAL work_mem TO DEFAULT")?;
    txn.commit()?;
    Ok(opened)
}

/// Repos that are contested, or of which no host is known, after `after` in the order of DIDs;
/// `contested_too` or not.
///
/// # Errors
/// The server refused.
pub fn unsettled(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
    contested_too: bool,
) -> Result<Vec<(String, bool)>, Error> {
    let rows = client.query(
        "SELECT did, contested FROM skyfill.repo WHERE schema_name = $1 AND (contested OR state = 'unresolved') AND did > $2
           AND ($4 OR NOT contested) ORDER BY did LIMIT $3",
        &[&schema, &after, &count, &contested_too],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// How many there are.
///
/// # Errors
/// The server refused.
pub fn count_unsettled(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM skyfill.repo WHERE schema_name = $1 AND (contested OR state = 'unresolved')";
    Ok(u64::try_from(client.query_one(sql, &[&schema])?.get::<_, i64>(0)).unwrap_or(0))
}

/// What a DID document says of a repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is there: URL of the PDS and the name under which that is paced.
    On(String, String),
    /// The account has no document any more: it is asked for where it was, and deleted if it is not
    /// there.
    Nowhere,
}

/// Notes where repos are. One that is loaded and lies elsewhere now is opened: it may be newer
/// there.
///
/// # Errors
/// The server refused.
pub fn settle(
    client: &mut impl GenericClient,
    schema: &str,
    settled: &[(String, Settled)],
) -> Result<u64, Error> {
    let place = |pick: fn(&Settled) -> Option<&str>| {
        settled
            .iter()
            .map(|(_, at)| pick(at))
            .collect::<Vec<Option<&str>>>()
    };
    let dids: Vec<&str> = settled.iter().map(|(did, _)| did.as_str()).collect();
    let hosts = place(|at| match at {
        Settled::On(_, host) => Some(host),
        Settled::Nowhere => None,
    });
    let pds = place(|at| match at {
        Settled::On(pds, _) => Some(pds),
        Settled::Nowhere => None,
    });
    crate::hosts::add(
        client,
        schema,
        hosts.iter().copied().zip(pds.iter().copied()),
    )?;
    let rows = client.query(
        &format!(
            "SELECT r.did, r.host, r.claimant, {IS_PROVED}, n.host
             FROM unnest($2::text[], $3::text[]) n (did, host) JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = n.did
             WHERE r.contested ORDER BY r.did FOR NO KEY UPDATE OF r"
        ),
        &[&schema, &dids, &hosts],
    )?;
    let (mut lost, mut won) = (Vec::new(), Vec::new());
    for row in &rows {
        let (did, old, claimant): (String, String, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        let (is_proved, named): (bool, Option<String>) = (row.get(3), row.get(4));
        if named.as_ref().is_some_and(|named| *named != old) && !is_proved {
            lost.push((did.clone(), old));
        }
        match claimant {
            Some(claimant) if Some(&claimant) == named.as_ref() => won.push(claimant),
            Some(claimant) => lost.push((did, claimant)),
            None => {}
        }
    }
    crate::claims::note_lost(client, schema, &lost, &won)?;
    client.execute(
        "DELETE FROM skyfill.lost_claim c USING unnest($2::text[], $3::text[]) n (did, host)
         WHERE c.schema_name = $1 AND c.did = n.did AND c.host = n.host",
        &[&schema, &dids, &hosts],
    )?;
    client.execute(
        "UPDATE skyfill.repo r SET contested = false, claimant = NULL, pds = coalesce(n.pds, r.pds), host = coalesce(n.host, r.host),
           attempts = 0, moves = 0, next_attempt = NULL,
           proof = CASE WHEN n.host <> r.host AND r.rev IS NOT NULL THEN coalesce(r.proof, 'elsewhere') ELSE r.proof END,
           state = CASE WHEN n.host IS NULL THEN CASE WHEN r.host = '' THEN 'not found' ELSE 'open' END
                        WHEN r.state = 'unresolved' OR n.host <> r.host OR r.newer AND r.state = 'loaded' THEN 'open' ELSE r.state END
         FROM unnest($2::text[], $3::text[], $4::text[]) n (did, pds, host) WHERE r.schema_name = $1 AND r.did = n.did",
        &[
            &schema,
            &dids,
            &pds,
            &hosts,
        ],
    )
}

/// The repos that are there to be fetched or are loaded, by DID: DID and PDS, after `after`.
///
/// # Errors
/// The server refused.
pub fn repos(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
) -> Result<Vec<(String, String)>, Error> {
    let rows = client.query(
        "SELECT did, pds FROM skyfill.repo
         WHERE schema_name = $1 AND state IN ('open', 'loaded', 'coming', 'failed') AND pds <> '' AND did > $2 ORDER BY did LIMIT $3",
        &[&schema, &after, &count],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
