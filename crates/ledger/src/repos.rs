//! Repos (table `repo`): those that are to be loaded, and the result for each. The table is also
//! the queue of work, host by host ([`crate::hosts`]).

use crate::host_counts;
use crate::open::Which;
use crate::proofs::Proof;
use crate::runs::Phase;
use crate::states::State;
use crate::text::reason;
use postgres::{Error, GenericClient, Row};
use std::borrow::Cow;

/// A repo to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The account.
    pub did: String,
    /// The URL of its PDS.
    pub pds: String,
    /// The name under which the PDS is paced.
    pub host: String,
}

/// How many repos a statement adds.
pub const ADD_AT_ONCE: usize = 10_000;

/// Adds repos. Those that are there are opened again, so that a newer rev is looked for, except
/// those that the run which is not done has loaded: it continues, and does nothing twice. Of a DID
/// that is given twice in one call the last one stands.
///
/// # Errors
/// The server refused.
pub fn add(client: &mut impl GenericClient, schema: &str, repos: &[Wanted]) -> Result<u64, Error> {
    let column = |pick: fn(&Wanted) -> &str| repos.iter().map(pick).collect::<Vec<&str>>();
    let (dids, pds, hosts) = (column(|r| &r.did), column(|r| &r.pds), column(|r| &r.host));
    let named = hosts
        .iter()
        .zip(&pds)
        .map(|(host, pds)| (Some(*host), Some(*pds)));
    crate::hosts::add(client, schema, named)?;
    client.execute(
        "INSERT INTO skyfill.repo AS r (schema_name, did, pds, host)
         SELECT DISTINCT ON (did) $1, did, pds, host
         FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY n (did, pds, host, number) ORDER BY did, number DESC
         ON CONFLICT (schema_name, did) DO UPDATE SET pds = excluded.pds, host = excluded.host, state = 'open', attempts = 0, moves = 0,
           next_attempt = NULL, error_code = NULL, error = NULL
         WHERE r.state <> 'loaded' OR r.run IS DISTINCT FROM
           (SELECT max(id) FROM skyfill.run WHERE schema_name = $1 AND phase <> $5)",
        &[&schema, &dids, &pds, &hosts, &Phase::Done.word()],
    )
}

/// An account whose DID document leads to no PDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfound {
    /// The account.
    pub did: String,
    /// [`State::Failed`], or [`State::NotFound`].
    pub state: State,
    /// One short name of the error.
    pub code: &'static str,
    /// The error.
    pub error: String,
}

/// Adds accounts without a PDS, with the reasons. One that is known already is opened where it is
/// known to be: its host and its document are asked there.
///
/// # Errors
/// The server refused.
pub fn add_unfound(
    client: &mut impl GenericClient,
    schema: &str,
    accounts: &[Unfound],
) -> Result<u64, Error> {
    if accounts.is_empty() {
        return Ok(0);
    }
    crate::hosts::add(client, schema, std::iter::once((Some(""), None)))?;
    let column = |pick: fn(&Unfound) -> &str| accounts.iter().map(pick).collect::<Vec<&str>>();
    client.execute(
        "INSERT INTO skyfill.repo AS r (schema_name, did, pds, host, state, error_code, error, attempts, next_attempt)
         SELECT DISTINCT ON (did) $1, did, '', '', state, code, error, 1, CASE WHEN state = 'failed' THEN now() + interval '1 hour' END
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) n (did, state, code, error) ORDER BY did
         ON CONFLICT (schema_name, did) DO UPDATE SET state = CASE WHEN r.pds = '' THEN excluded.state ELSE 'open' END,
           attempts = 0, moves = 0, next_attempt = CASE WHEN r.pds = '' THEN excluded.next_attempt END,
           error_code = excluded.error_code, error = excluded.error",
        &[
            &schema,
            &column(|a| &a.did),
            &column(|a| a.state.word()),
            &column(|a| a.code),
            &column(|a| &a.error),
        ],
    )
}

/// Which failed repos are opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryFailed {
    /// Those whose next attempt is due.
    Due,
    /// Of those the ones that failed less than so many times: a run that opens repos again must
    /// come to an end.
    DueBelow(i32),
    /// All, as if they had never been tried.
    All,
}

/// Opens repos that failed; how many.
///
/// # Errors
/// The server refused.
pub fn retry_failed(
    client: &mut impl GenericClient,
    schema: &str,
    which: RetryFailed,
) -> Result<u64, Error> {
    let (all, below) = match which {
        RetryFailed::All => (true, i32::MAX),
        RetryFailed::Due => (false, i32::MAX),
        RetryFailed::DueBelow(attempts) => (false, attempts),
    };
    client.execute(
        "UPDATE skyfill.repo SET state = 'open', next_attempt = NULL, attempts = CASE WHEN $2 THEN 0 ELSE attempts END
         WHERE schema_name = $1 AND state = 'failed' AND ($2 OR next_attempt <= now() AND attempts < $3)",
        &[&schema, &all, &below],
    )
}

/// Opens repos so that all of their rows are written again, whatever their rev.
///
/// # Errors
/// The server refused.
pub fn rebuild(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.repo SET state = 'open', attempts = 0, next_attempt = NULL, rebuild = true
         WHERE schema_name = $1 AND did = ANY($2)",
        &[&schema, &dids],
    )
}

/// A repo that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The account.
    pub did: String,
    /// The URL of its PDS.
    pub pds: String,
    /// The rev that is stored, if one is.
    pub rev: Option<String>,
    /// CID of the commit that is stored.
    pub commit_cid: Option<String>,
    /// Whether all of its rows are to be written again.
    pub rebuild: bool,
    /// Whether a list says that it is newer than what is stored.
    pub is_newer: bool,
    /// Whether its host said in a list that it has it no more.
    pub is_delisted: bool,
    /// How often it was found elsewhere since it was opened.
    pub moves: i32,
    /// Who vouches for what is stored.
    pub proof: Option<Proof>,
    /// PDS and signing key of the account's document, if the ledger has it.
    pub document: Option<(String, String)>,
}

/// Open repos of a host after `after`, in the order of DIDs.
///
/// # Errors
/// The server refused.
pub fn open(
    client: &mut impl GenericClient,
    schema: &str,
    (host, which): (&str, Which),
    after: &str,
    count: i64,
) -> Result<Vec<Open>, Error> {
    let rows = client.query(
        // Documents are looked up by index, one for each repo, whatever the statistics say.
        "SELECT r.did, r.pds, r.rev, r.commit_cid, r.rebuild, r.newer, r.moves, r.proof, i.pds, i.signing_key, r.delisted
         FROM (SELECT did, pds, rev, commit_cid, rebuild, newer, moves, proof, delisted FROM skyfill.repo
               WHERE schema_name = $1 AND host = $2 AND state = 'open' AND did > $3 AND ($5 IS FALSE OR rev IS NULL)
               ORDER BY did LIMIT $4) r
           LEFT JOIN LATERAL (SELECT pds, signing_key FROM skyfill.identity
                              WHERE schema_name = $1 AND did = r.did AND document = 'good' OFFSET 0) i ON true
         ORDER BY r.did",
        &[&schema, &host, &after, &count, &which.is_new()],
    )?;
    rows.iter().map(Open::of).collect()
}

impl Open {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            did: row.get(0),
            pds: row.get(1),
            rev: row.get(2),
            commit_cid: row.get(3),
            rebuild: row.get(4),
            is_newer: row.get(5),
            moves: row.get(6),
            proof: row.try_get(7)?,
            document: row.get::<_, Option<String>>(8).zip(row.get(9)),
            is_delisted: row.get(10),
        })
    }
}

/// Those of the named repos that are open, each with its host, in the order of their names here.
///
/// # Errors
/// The server refused.
pub fn open_named(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
    which: Which,
) -> Result<Vec<(Open, String)>, Error> {
    let rows = client.query(
        // Both are looked up by index, one for each repo, whatever the statistics say.
        "SELECT r.did, r.pds, r.rev, r.commit_cid, r.rebuild, r.newer, r.moves, r.proof, i.pds, i.signing_key, r.delisted, r.host
         FROM unnest($2::text[]) WITH ORDINALITY n (did, number)
           JOIN LATERAL (SELECT did, pds, rev, commit_cid, rebuild, newer, moves, proof, delisted, host FROM skyfill.repo
                         WHERE schema_name = $1 AND did = n.did AND state = 'open' AND ($3 IS FALSE OR rev IS NULL) OFFSET 0) r ON true
           LEFT JOIN LATERAL (SELECT pds, signing_key FROM skyfill.identity
                              WHERE schema_name = $1 AND did = r.did AND document = 'good' OFFSET 0) i ON true
         ORDER BY n.number",
        &[&schema, &dids, &which.is_new()],
    )?;
    rows.iter()
        .map(|row| Ok((Open::of(row)?, row.get(11))))
        .collect()
}

/// How many repos there are.
///
/// # Errors
/// The server refused.
pub fn count(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "SELECT coalesce(sum(repos), 0)::bigint FROM skyfill.tally WHERE schema_name = $1";
    Ok(u64::try_from(client.query_one(sql, &[&schema])?.get::<_, i64>(0)).unwrap_or(0))
}

/// Whether there are so many repos; not more of them are counted.
///
/// # Errors
/// The server refused.
pub fn has_so_many(
    client: &mut impl GenericClient,
    schema: &str,
    many: u64,
) -> Result<bool, Error> {
    let many = i64::try_from(many).unwrap_or(i64::MAX);
    let sql = "SELECT count(*) >= $2 FROM
         (SELECT FROM skyfill.repo WHERE schema_name = $1 LIMIT $2) r";
    client.query_one(sql, &[&schema, &many])?.try_get(0)
}

/// How many repos are open.
///
/// # Errors
/// The server refused.
pub fn count_open(
    client: &mut impl GenericClient,
    schema: &str,
    which: Which,
) -> Result<u64, Error> {
    let sql = format!(
        "SELECT coalesce(sum(repos), 0)::bigint FROM {} o",
        host_counts::pending(which)
    );
    let row = client.query_one(&sql, &[&schema])?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// So many of the hosts that have the most pending repos are named.
const FULLEST: i64 = 100;

/// How much is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Repos.
    pub repos: u64,
    /// Hosts that have them.
    pub hosts: u64,
    /// The hosts that have the most of them, the fullest first.
    pub fullest: Vec<PendingAt>,
}

/// How much is pending at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingAt {
    /// Its name.
    pub host: String,
    /// Its repos.
    pub repos: u64,
    /// What was learned of its limits, as it was stored.
    pub learned: Option<String>,
}

/// How much is pending, by host.
///
/// # Errors
/// The server refused.
pub fn pending(client: &mut impl GenericClient, schema: &str) -> Result<Pending, Error> {
    let sql = format!(
        "SELECT o.all_repos, o.hosts, o.host, o.repos, h.learned FROM (
           SELECT sum(repos) OVER ()::bigint AS all_repos, count(*) OVER () AS hosts, host, repos FROM {} o
           ORDER BY repos DESC, host LIMIT $2) o
         LEFT JOIN skyfill.host h ON h.schema_name = $1 AND h.host = o.host ORDER BY o.repos DESC, o.host",
        host_counts::pending(Which::All)
    );
    let rows = client.query(&sql, &[&schema, &FULLEST])?;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let mut pending = Pending::default();
    for row in rows {
        (pending.repos, pending.hosts) = (number(row.get(0)), number(row.get(1)));
        pending.fullest.push(PendingAt {
            host: row.get(2),
            repos: number(row.get(3)),
            learned: row.get(4),
        });
    }
    Ok(pending)
}

/// The result for a repo that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The account.
    pub did: String,
    /// The lease under which it was asked for.
    pub lease: i64,
    /// [`State::Failed`], or the account's state; [`State::Deleted`] when its rows were removed;
    /// [`State::Loaded`] when the stored rev is the newest.
    pub state: State,
    /// One short name of the error.
    pub code: Option<&'static str>,
    /// The error.
    pub error: Option<String>,
    /// What was found of the stored rev, if it is the newest.
    pub proof: Option<Proof>,
}

/// Notes the result for repos; only for those whose lease is held.
///
/// # Errors
/// The server refused.
pub fn note(client: &mut impl GenericClient, schema: &str, notes: &[Note]) -> Result<u64, Error> {
    let texts =
        |pick: fn(&Note) -> Option<&str>| notes.iter().map(pick).collect::<Vec<Option<&str>>>();
    client.execute(
        // A stored commit that the host of its document confirms did not come from elsewhere, and
        // whoever said that the host has it no more was wrong.
        "UPDATE skyfill.repo r SET state = n.state, newer = false, delisted = r.delisted AND n.state <> 'loaded', error_code = n.code, error = n.error,
           proof = CASE WHEN n.state = 'loaded' THEN coalesce(n.proof, nullif(r.proof, 'elsewhere')) ELSE r.proof END,
           attempts = r.attempts + (n.state = 'failed')::int,
           next_attempt = CASE WHEN n.state = 'failed' THEN now() + interval '1 hour' * 2 ^ least(r.attempts, 5) END
         FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) n (did, lease, state, code, error, proof),
           skyfill.host h
         WHERE r.schema_name = $1 AND r.did = n.did AND r.state = 'open'
           AND h.schema_name = $1 AND h.host = r.host AND h.lease = n.lease",
        &[
            &schema,
            &texts(|n| Some(&n.did)),
            &notes.iter().map(|n| n.lease).collect::<Vec<i64>>(),
            &texts(|n| Some(n.state.word())),
            &texts(|n| n.code),
            &notes
                .iter()
                .map(|n| n.error.as_deref().map(reason))
                .collect::<Vec<Option<Cow<'_, str>>>>(),
            &texts(|n| n.proof.map(Proof::word)),
        ],
    )
}

/// A repo that was found to lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The account.
    pub did: String,
    /// The lease under which it was asked for.
    pub lease: i64,
    /// The URL of its PDS.
    pub pds: String,
    /// The name under which that is paced.
    pub host: String,
}

/// Notes where repos went; they stay open. Only for those whose lease is held.
///
/// # Errors
/// The server refused.
pub fn moved(client: &mut impl GenericClient, schema: &str, moved: &[Moved]) -> Result<u64, Error> {
    let column = |pick: fn(&Moved) -> &str| moved.iter().map(pick).collect::<Vec<&str>>();
    let (hosts, pds) = (column(|m| &m.host), column(|m| &m.pds));
    let named = hosts
        .iter()
        .zip(&pds)
        .map(|(host, pds)| (Some(*host), Some(*pds)));
    crate::hosts::add(client, schema, named)?;
    client.execute(
        "UPDATE skyfill.repo r SET pds = n.pds, host = n.host, moves = r.moves + 1, contested = false, claimant = NULL, delisted = false,
           proof = CASE WHEN r.rev IS NOT NULL AND r.host <> n.host THEN coalesce(r.proof, 'elsewhere') ELSE r.proof END
         FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) n (did, lease, pds, host), skyfill.host h
         WHERE r.schema_name = $1 AND r.did = n.did AND r.state = 'open'
           AND h.schema_name = $1 AND h.host = r.host AND h.lease = n.lease",
        &[
            &schema,
            &column(|m| &m.did),
            &moved.iter().map(|m| m.lease).collect::<Vec<i64>>(),
            &pds,
            &hosts,
        ],
    )
}

/// Notes the pending repos of a host after `after` as failed; how many.
///
/// # Errors
/// The server refused.
pub fn fail_host(
    client: &mut impl GenericClient,
    schema: &str,
    (host, lease): (&str, i64),
    after: &str,
    (code, error): (&str, &str),
    retry_in: std::time::Duration,
) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.repo r SET state = 'failed', error_code = $5, error = $6, attempts = r.attempts + 1,
           next_attempt = now() + make_interval(secs => $7)
         FROM skyfill.host h
         WHERE r.schema_name = $1 AND r.host = $2 AND r.state = 'open' AND r.did > $4
           AND h.schema_name = $1 AND h.host = $2 AND h.lease = $3",
        &[
            &schema,
            &host,
            &lease,
            &after,
            &code,
            &reason(error),
            &retry_in.as_secs_f64(),
        ],
    )
}

/// Repos that are stored, of the host of a lease.
///
/// # Errors
/// The server refused.
pub fn count_stored(
    client: &mut impl GenericClient,
    schema: &str,
    lease: i64,
) -> Result<u64, Error> {
    let sql = "SELECT coalesce(sum(c.stored), 0)::bigint
         FROM skyfill.host_count c JOIN skyfill.host h USING (schema_name, host)
         WHERE c.schema_name = $1 AND h.lease = $2";
    Ok(u64::try_from(client.query_one(sql, &[&schema, &lease])?.get::<_, i64>(0)).unwrap_or(0))
}

/// Notes that an account is deleted, in the transaction that removed its rows.
///
/// # Errors
/// The server refused.
pub fn deleted(client: &mut impl GenericClient, schema: &str, did: &str) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.repo SET state = 'deleted', rev = NULL, commit = NULL, commit_cid = NULL, verified = NULL, records = NULL, skipped = NULL,
           duplicates = NULL, car_bytes = NULL, newer = false, rebuild = false, delisted = false, proof = NULL, error_code = NULL, error = NULL
         WHERE schema_name = $1 AND did = $2",
        &[&schema, &did],
    )?;
    for table in ["skipped", "skipped_change", "part", "identity"] {
        client.execute(
            &format!("DELETE FROM skyfill.{table} WHERE schema_name = $1 AND did = $2"),
            &[&schema, &did],
        )?;
    }
    Ok(())
}

/// What is stored of a repo that is about to be stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The account.
    pub did: String,
    /// The rev that `actor_sync` of the AppView has.
    pub synced: Option<String>,
    /// The rev that the ledger has.
    pub rev: Option<String>,
    /// Whether all of its rows are to be written again.
    pub rebuild: bool,
    /// Who vouches for it.
    pub proof: Option<Proof>,
}

/// Whether a stored rev keeps an older one out. A rev does not if it lies in the future (after
/// `newest_believed`), nor if the repo is to be rebuilt, nor if nobody proved it and the one that
/// comes is proved.
#[must_use]
pub fn is_binding(
    stored: &str,
    newest_believed: &str,
    rebuild: bool,
    proof: Option<Proof>,
    coming: Option<Proof>,
) -> bool {
    let is_proved = |proof: Option<Proof>| proof.is_some_and(Proof::is_good);
    !rebuild && stored <= newest_believed && (is_proved(proof) || !is_proved(coming))
}

/// Locks repos that are about to be stored until the transaction ends; returns those that are open
/// and whose lease is held. That another host claimed one while it was under way does not throw it
/// away: it is stored as contested, so that whoever claims it does not cost its host another fetch.
///
/// # Errors
/// The server refused.
pub fn lock(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
    leases: &[i64],
) -> Result<Vec<Held>, Error> {
    let rows = client.query(
        &format!(
            // One lookup by index for each, in the order of DIDs, whatever the statistics say.
            "SELECT r.did, a.\"repoRev\", r.rev, r.rebuild, r.proof
             FROM (SELECT did COLLATE \"C\" AS did, lease FROM unnest($2::text[], $3::bigint[]) n (did, lease) ORDER BY 1 OFFSET 0) n
               CROSS JOIN LATERAL (
                 SELECT r.did, r.host, r.rev, r.rebuild, r.proof FROM skyfill.repo r
                 WHERE r.schema_name = $1 AND r.did = n.did AND (r.state = 'open' OR r.state = 'unresolved' AND r.contested)
                 OFFSET 0 FOR NO KEY UPDATE) r
               CROSS JOIN LATERAL (
                 SELECT FROM skyfill.host h WHERE h.schema_name = $1 AND h.host = r.host AND h.lease = n.lease
                 OFFSET 0 FOR KEY SHARE) h
               LEFT JOIN LATERAL (SELECT a.\"repoRev\" FROM \"{schema}\".actor_sync a WHERE a.did = r.did COLLATE \"default\" OFFSET 0) a ON true"
        ),
        &[&schema, &dids, &leases],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Held {
                did: row.get(0),
                synced: row.get(1),
                rev: row.get(2),
                rebuild: row.get(3),
                proof: row.try_get(4)?,
            })
        })
        .collect()
}

/// What is known of a repo whose rows are all stored by this transaction.
#[derive(Clone, Debug)]
pub struct Stored<'s> {
    /// The account.
    pub did: &'s str,
    /// Its rev.
    pub rev: &'s str,
    /// CID of the commit.
    pub commit_cid: &'s str,
    /// The commit's block.
    pub commit: &'s [u8],
    /// Entries in `record`.
    pub records: u64,
    /// Entries that were skipped.
    pub skipped: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Bytes of the CAR.
    pub car_bytes: u64,
    /// Who vouches for it.
    pub proof: Option<Proof>,
    /// Whether it takes the place of another commit of the same rev.
    pub is_fork: bool,
}

/// Notes repos as loaded, in the transaction that stores their rows.
///
/// # Errors
/// The server refused.
pub fn loaded(
    client: &mut impl GenericClient,
    schema: &str,
    run: i64,
    repos: &[Stored<'_>],
) -> Result<(), Error> {
    let texts =
        |pick: for<'a> fn(&Stored<'a>) -> &'a str| repos.iter().map(pick).collect::<Vec<&str>>();
    let numbers = |pick: fn(&Stored<'_>) -> u64| {
        repos
            .iter()
            .map(|repo| i64::try_from(pick(repo)).unwrap_or(i64::MAX))
            .collect::<Vec<i64>>()
    };
    crate::publication::note_new(client, schema, &texts(|r| r.did))?;
    client.execute(
        "UPDATE skyfill.repo r SET state = 'loaded', run = $2, loaded_at = now(), verified = NULL, rebuild = false, newer = false, delisted = false, attempts = 0, moves = 0,
           error_code = NULL, error = NULL,
           rev = n.rev, commit_cid = n.commit_cid, commit = n.block, records = n.records, skipped = n.skipped,
           duplicates = n.duplicates, car_bytes = n.bytes, proof = n.proof, forks = r.forks + n.fork::int
         FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[],
             $12::boolean[]) n (did, rev, commit_cid, block, records, skipped, duplicates, bytes, proof, fork)
         WHERE r.schema_name = $1 AND r.did = n.did",
        &[
            &schema,
            &run,
            &texts(|r| r.did),
            &texts(|r| r.rev),
            &texts(|r| r.commit_cid),
            &repos.iter().map(|r| r.commit).collect::<Vec<&[u8]>>(),
            &numbers(|r| r.records),
            &numbers(|r| r.skipped),
            &numbers(|r| r.duplicates),
            &numbers(|r| r.car_bytes),
            &repos.iter().map(|r| r.proof.map(Proof::word)).collect::<Vec<Option<&str>>>(),
            &repos.iter().map(|r| r.is_fork).collect::<Vec<bool>>(),
        ],
    )?;
    Ok(())
}

/// Of these repos the ones that are to be rebuilt, and those of the others that skyfill stored no
/// rev of yet.
///
/// # Errors
/// The server refused.
pub fn rebuilt_and_new(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<(Vec<String>, Vec<String>), Error> {
    let rows = client.query(
        "SELECT did, rebuild FROM skyfill.repo
         WHERE schema_name = $1 AND did = ANY($2) AND (rebuild OR rev IS NULL)",
        &[&schema, &dids],
    )?;
    let (rebuilt, new): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get(1));
    let names = |rows: Vec<&Row>| rows.iter().map(|row| row.get(0)).collect();
    Ok((names(rebuilt), names(new)))
}

/// Forgets all that was loaded, for a load into empty tables: those repos are pending again.
///
/// # Errors
/// The server refused.
pub fn forget_loaded(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    let sql = "SELECT coalesce(sum(stored), 0) > 0 FROM skyfill.host_count WHERE schema_name = $1";
    let is_any_stored: bool = client.query_one(sql, &[&schema])?.get(0);
    // No index leads to stored repos, and a first load has none among 45 million.
    let stored = [
        "UPDATE skyfill.repo SET rev = NULL, commit_cid = NULL, commit = NULL, verified = NULL, state = 'open'
         WHERE schema_name = $1 AND rev IS NOT NULL",
        // Readers cannot learn from messages that everything went.
        "DELETE FROM skyfill.publication WHERE schema_name = $1",
        "DELETE FROM skyfill.unpublished WHERE schema_name = $1",
    ];
    let stored = stored.into_iter().filter(|_| is_any_stored);
    let rest = [
        "DELETE FROM skyfill.skipped WHERE schema_name = $1",
        "DELETE FROM skyfill.skipped_change WHERE schema_name = $1",
        "DELETE FROM skyfill.part WHERE schema_name = $1",
    ];
    for statement in stored.chain(rest) {
        client.execute(statement, &[&schema])?;
    }
    Ok(())
}

/// A repo as the ledger has it, for whoever compares it with the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The account.
    pub did: String,
    /// The name of its host.
    pub host: String,
    /// The result for it.
    pub state: State,
    /// The rev that is stored.
    pub rev: Option<String>,
    /// CID of the commit that is stored.
    pub commit_cid: Option<String>,
    /// The commit's block.
    pub commit: Option<Vec<u8>>,
    /// Entries in `record`.
    pub records: u64,
    /// The run that stored it.
    pub run: Option<i64>,
}

impl Known {
    /// Of a row with these columns in this order.
    pub(crate) fn of_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            did: row.get(0),
            host: row.get(1),
            state: row.try_get(2)?,
            rev: row.get(3),
            commit_cid: row.get(4),
            commit: row.get(5),
            records: u64::try_from(row.get::<_, i64>(6)).unwrap_or(0),
            run: row.get(7),
        })
    }
}

/// A repo that is stored, with its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRepo {
    /// The account.
    pub did: String,
    /// The name of its host.
    pub host: String,
    /// The rev that is stored.
    pub rev: String,
    /// The commit's block.
    pub commit: Vec<u8>,
}

/// Stored repos after `after`, in the order of DIDs.
///
/// # Errors
/// The server refused.
pub fn stored_after(
    client: &mut impl GenericClient,
    schema: &str,
    after: &str,
    count: i64,
) -> Result<Vec<StoredRepo>, Error> {
    let rows = client.query(
        "SELECT did, host, rev, coalesce(commit, '') FROM skyfill.repo
         WHERE schema_name = $1 AND did > $2 AND rev IS NOT NULL ORDER BY did LIMIT $3",
        &[&schema, &after, &count],
    )?;
    Ok(rows
        .iter()
        .map(|row| StoredRepo {
            did: row.get(0),
            host: row.get(1),
            rev: row.get(2),
            commit: row.get(3),
        })
        .collect())
}

/// Of these accounts the ones of which a rev is stored.
///
/// # Errors
/// The server refused.
pub fn stored_of(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT did FROM skyfill.repo WHERE schema_name = $1 AND did = ANY($2) AND rev IS NOT NULL",
        &[&schema, &dids],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Of these accounts the ones that the ledger does not know.
///
/// # Errors
/// The server refused.
pub fn unknown(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT n.did FROM unnest($2::text[]) WITH ORDINALITY n (did, number)
         WHERE NOT EXISTS (SELECT FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = n.did)
         ORDER BY n.number",
        &[&schema, &dids],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The condition that a rev of the account in column `did` is stored, in a statement whose `$1` is
/// the schema.
#[must_use]
pub fn is_stored(did: &str) -> String {
    format!(
        "EXISTS (SELECT FROM skyfill.repo l WHERE l.schema_name = $1 AND l.did = {did} AND l.rev IS NOT NULL)"
    )
}
