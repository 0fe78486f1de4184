//! Following the event stream: cursors of relays, which repos are behind, and what people are shown
//! (tables `stream`, `behind` and `followed`).
//!
//! A cursor is the sequence number up to which everything is either in the tables or in `behind`.
//! `behind` is the list of repos of which an event could not be applied: its rev is the newest that
//! the stream named. Such a repo is pending, so a merge fetches it. What the merge stored decides
//! whether the repo is still behind ([`settle`]). A repo that keeps falling behind is fetched ever
//! more rarely, so that a host that breaks its own chain of commits costs little.

use crate::proofs::Proof;
use crate::states::State;
use postgres::{Error, GenericClient};
use std::time::SystemTime;

/// The step of the ledger's schema that makes the tables.
pub(crate) const STEP: &str = "CREATE TABLE skyfill.stream (
        schema_name text NOT NULL,
        relay text NOT NULL,
        cursor bigint NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, relay)) WITH (fillfactor = 20);
     CREATE TABLE skyfill.behind (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        rev text COLLATE \"C\" NOT NULL,
        reason text NOT NULL,
        falls integer NOT NULL DEFAULT 0,
        due timestamptz NOT NULL DEFAULT now(),
        is_settled boolean NOT NULL DEFAULT false,
        PRIMARY KEY (schema_name, did)) WITH (fillfactor = 50);
     CREATE TABLE skyfill.followed (
        schema_name text PRIMARY KEY,
        relay text NOT NULL,
        first_event_at timestamptz NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now(),
        seen_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        event_at timestamptz,
        waiting bigint NOT NULL DEFAULT 0,
        per_second float8 NOT NULL DEFAULT 0,
        events bigint NOT NULL DEFAULT 0,
        commits bigint NOT NULL DEFAULT 0,
        repeated bigint NOT NULL DEFAULT 0,
        refused bigint NOT NULL DEFAULT 0,
        fetched bigint NOT NULL DEFAULT 0,
        fallbacks bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
     CREATE TABLE skyfill.skipped_change (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        cid bytea,
        reason smallint,
        detail text,
        PRIMARY KEY (schema_name, did, key))";

/// `is_opened` says that a merge may have the repo now, or had it since it was looked at last;
/// `is_heard` that something was said of the account meanwhile, so that what comes of the merge may
/// be older than that; `is_deleted` that its deletion was said.
pub(crate) const OPENED_STEP: &str = "ALTER TABLE skyfill.behind ADD COLUMN is_opened boolean NOT NULL DEFAULT false,
        ADD COLUMN is_heard boolean NOT NULL DEFAULT false, ADD COLUMN is_deleted boolean NOT NULL DEFAULT false";

/// `told_at` is when something was last said of the repo that nobody had signed: what is said again
/// soon after it waits. `is_hurried` says that what was heard does not.
pub(crate) const TOLD_STEP: &str = "ALTER TABLE skyfill.behind ADD COLUMN told_at timestamptz, ADD COLUMN is_hurried boolean NOT NULL DEFAULT false;
     CREATE INDEX behind_due_idx ON skyfill.behind (schema_name, due) WHERE NOT is_settled";

/// What is proved beside the stream goes round the repos, over and over: how many were compared
/// with their commits, and how many of them differed; `proved_up_to` is the last account of the
/// round under way.
pub(crate) const PROVED_STEP: &str =
    "ALTER TABLE skyfill.followed ADD COLUMN proved bigint NOT NULL DEFAULT 0,
        ADD COLUMN differed bigint NOT NULL DEFAULT 0, ADD COLUMN rounds bigint NOT NULL DEFAULT 0,
        ADD COLUMN proved_up_to text NOT NULL DEFAULT ''";

/// The cursor of a relay's stream.
///
/// # Errors
/// The server refused.
pub fn cursor(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT cursor FROM skyfill.stream WHERE schema_name = $1 AND relay = $2";
    Ok(client
        .query_opt(sql, &[&schema, &relay])?
        .map(|row| row.get(0)))
}

/// Notes the cursor of a relay's stream, when all before it is stored.
///
/// # Errors
/// The server refused.
pub fn set_cursor(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
    cursor: i64,
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.stream (schema_name, relay, cursor) VALUES ($1, $2, $3)
         ON CONFLICT (schema_name, relay) DO UPDATE SET cursor = excluded.cursor, noted_at = now()",
        &[&schema, &relay, &cursor],
    )?;
    Ok(())
}

/// Moves the cursor of a relay's stream forward: all before it is stored in another way. A cursor
/// that is later than `head`, the present position of the relay, is of numbers that began anew
/// since, and gives way.
///
/// # Errors
/// The server refused.
pub fn move_cursor(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
    cursor: i64,
    head: Option<i64>,
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.stream AS s (schema_name, relay, cursor) VALUES ($1, $2, $3)
         ON CONFLICT (schema_name, relay) DO UPDATE SET noted_at = now(),
           cursor = CASE WHEN s.cursor > $4 THEN excluded.cursor ELSE greatest(s.cursor, excluded.cursor) END",
        &[&schema, &relay, &cursor, &head],
    )?;
    Ok(())
}

/// The sequence number of a relay that the last finished run noted before its first fetch, or that
/// its pass of catching up began at: all before it is in the tables. Beside it, when the run ended.
///
/// # Errors
/// The server refused.
fn cursor_of_runs(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
) -> Result<Option<(i64, Option<SystemTime>)>, Error> {
    // A merge of named repos brings nothing of the others: a run counts if it is the first one, or
    // if a pass over all hosts began with it.
    let row = client.query_opt(
        "SELECT r.relay_seq, r.ended_at FROM skyfill.run r
         WHERE r.schema_name = $1 AND r.relay = $2 AND r.phase = 'done' AND r.relay_seq IS NOT NULL
           AND (r.id = (SELECT min(id) FROM skyfill.run WHERE schema_name = $1)
                OR EXISTS (SELECT FROM skyfill.listing l WHERE l.schema_name = $1 AND l.relay = $2 AND l.seq = r.relay_seq AND l.ended_at IS NOT NULL))
         ORDER BY r.id DESC LIMIT 1",
        &[&schema, &relay],
    )?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The sequence number of a relay after which its stream continues: where following it ended, or
/// where a load began, whichever is later; where following ended after that load, if the numbers of
/// the relay began anew meanwhile. Nothing, if it is unknown which of its events are in the tables.
///
/// # Errors
/// The server refused.
pub fn begins_at(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT cursor, noted_at FROM skyfill.stream WHERE schema_name = $1 AND relay = $2";
    let followed = client.query_opt(sql, &[&schema, &relay])?;
    let followed = followed.map(|row| (row.get::<_, i64>(0), row.get::<_, SystemTime>(1)));
    let loaded = cursor_of_runs(client, schema, relay)?;
    Ok(match (followed, loaded) {
        (Some((cursor, noted)), Some((_, Some(ended)))) if noted > ended => Some(cursor),
        (followed, loaded) => followed.map(|(at, _)| at).max(loaded.map(|(at, _)| at)),
    })
}

/// A repo as the ledger has it, locked until the transaction ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The account.
    pub did: String,
    /// Its state.
    pub state: State,
    /// The name of its host.
    pub host: String,
    /// Whether all of its rows are to be written again.
    pub is_rebuilt: bool,
    /// The stored rev and the block of its commit.
    pub stored: Option<(String, Vec<u8>)>,
}

/// Locks repos in the order in which loaders lock them. Unknown ones are left out.
///
/// # Errors
/// The server refused, or a state is not known.
pub fn lock(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<Held>, Error> {
    let rows = client.query(
        "SELECT did, state, host, rebuild, rev, commit FROM skyfill.repo
         WHERE schema_name = $1 AND did = ANY($2) ORDER BY did FOR NO KEY UPDATE",
        &[&schema, &dids],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Held {
                did: row.get(0),
                state: row.try_get(1)?,
                host: row.get(2),
                is_rebuilt: row.get(3),
                stored: row.get::<_, Option<String>>(4).zip(row.get(5)),
            })
        })
        .collect()
}

/// A repo that commits of the stream brought forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced<'a> {
    /// The account.
    pub did: &'a str,
    /// Its rev now.
    pub rev: &'a str,
    /// CID of its commit.
    pub commit_cid: &'a str,
    /// The commit's block.
    pub commit: &'a [u8],
    /// How many more entries are in `record`.
    pub records: i64,
    /// How many more were skipped.
    pub skipped: i64,
    /// How many more are duplicates.
    pub duplicates: i64,
    /// URL and name of the host that its document names, if that is another one than the ledger
    /// has.
    pub moved_to: Option<(&'a str, &'a str)>,
}

/// Notes repos as stored at a newer rev, in the transaction that stores their rows. Every commit
/// was signed by the key of the account's document.
///
/// # Errors
/// The server refused.
pub fn advanced(
    client: &mut impl GenericClient,
    schema: &str,
    repos: &[Advanced<'_>],
) -> Result<(), Error> {
    let texts = |pick: for<'a> fn(&Advanced<'a>) -> &'a str| -> Vec<&str> {
        repos.iter().map(pick).collect()
    };
    let numbers = |pick: fn(&Advanced<'_>) -> i64| repos.iter().map(pick).collect::<Vec<i64>>();
    let commits: Vec<&[u8]> = repos.iter().map(|repo| repo.commit).collect();
    let pds = |repo: &Advanced<'_>| repo.moved_to.map(|(pds, _)| pds.to_owned());
    let host = |repo: &Advanced<'_>| repo.moved_to.map(|(_, host)| host.to_owned());
    let (pds, hosts): (Vec<Option<String>>, Vec<Option<String>>) =
        repos.iter().map(|repo| (pds(repo), host(repo))).unzip();
    let named = hosts.iter().zip(&pds);
    crate::hosts::add(
        client,
        schema,
        named.map(|(host, pds)| (host.as_deref(), pds.as_deref())),
    )?;
    client.execute(
        "UPDATE skyfill.repo r SET state = 'loaded', rev = n.rev, commit_cid = n.commit_cid, commit = n.block, proof = $2,
           records = coalesce(r.records, 0) + n.records, skipped = coalesce(r.skipped, 0) + n.skipped,
           duplicates = coalesce(r.duplicates, 0) + n.duplicates, loaded_at = now(), verified = NULL, newer = false, delisted = false,
           attempts = 0, next_attempt = NULL, error_code = NULL, error = NULL, pds = coalesce(n.pds, r.pds), host = coalesce(n.host, r.host)
         FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[])
           n (did, rev, commit_cid, block, records, skipped, duplicates, pds, host)
         WHERE r.schema_name = $1 AND r.did = n.did",
        &[
            &schema,
            &Proof::Signed.word(),
            &texts(|repo| repo.did),
            &texts(|repo| repo.rev),
            &texts(|repo| repo.commit_cid),
            &commits,
            &numbers(|repo| repo.records),
            &numbers(|repo| repo.skipped),
            &numbers(|repo| repo.duplicates),
            &pds,
            &hosts,
        ],
    )?;
    Ok(())
}

/// A repo of which an event could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The account.
    pub did: String,
    /// The rev that the event named; empty if it named none.
    pub rev: String,
    /// Whether the account signed that rev. One that it did not sign is nothing to wait for: what
    /// its host has is compared once.
    pub is_signed: bool,
    /// Why it could not be applied, in a few words.
    pub reason: &'static str,
    /// Whether the repo broke its own chain of commits: the next time, it waits longer.
    pub is_fall: bool,
    /// Whether its host is said to have deleted the account.
    pub is_deleted: bool,
    /// URL and name of its host, if the document is known. A repo that the ledger does not know is
    /// only added with it.
    pub at: Option<(String, String)>,
}

/// Whether something that nobody signed is said of a repo for the second time within ten minutes.
const AGAIN: &str = "coalesce(excluded.told_at - b.told_at < interval '10 minutes', false)";

/// How long a repo waits that fell behind so often.
const PAUSE: &str = "least(interval '1 hour', interval '10 seconds' * 2 ^ least(b.falls, 10))";

/// Notes repos as behind, and opens those whose time has come; how many were opened.
///
/// What is said of an account does not wait for what its repo has to wait for, but what nobody
/// signed hurries a repo once in ten minutes: a relay that repeats itself, or that makes things up,
/// has a host asked ever more rarely.
///
/// # Errors
/// The server refused.
pub fn note_behind(
    client: &mut impl GenericClient,
    schema: &str,
    repos: &[Behind],
) -> Result<u64, Error> {
    if repos.is_empty() {
        return Ok(0);
    }
    let at = |repo: &'_ Behind| repo.at.clone().unwrap_or_default();
    let (pds, hosts): (Vec<String>, Vec<String>) = repos.iter().map(at).unzip();
    let named = hosts.iter().zip(&pds).filter(|(host, _)| !host.is_empty());
    crate::hosts::add(
        client,
        schema,
        named.map(|(host, pds)| (Some(host.as_str()), Some(pds.as_str()))),
    )?;
    let dids: Vec<&str> = repos.iter().map(|repo| repo.did.as_str()).collect();
    let revs: Vec<&str> = repos.iter().map(|repo| repo.rev.as_str()).collect();
    let reasons: Vec<&str> = repos.iter().map(|repo| repo.reason).collect();
    let falls: Vec<i32> = repos.iter().map(|repo| i32::from(repo.is_fall)).collect();
    let deleted: Vec<bool> = repos.iter().map(|repo| repo.is_deleted).collect();
    let signed: Vec<bool> = repos.iter().map(|repo| repo.is_signed).collect();
    client.execute(
        "INSERT INTO skyfill.repo (schema_name, did, pds, host, state)
         SELECT DISTINCT ON (did) $1, did, pds, host, 'unresolved' FROM unnest($2::text[], $3::text[], $4::text[]) n (did, pds, host)
         WHERE host <> '' ORDER BY did ON CONFLICT (schema_name, did) DO NOTHING",
        &[&schema, &dids, &pds, &hosts],
    )?;
    client.execute(
        &format!(
            "INSERT INTO skyfill.behind AS b (schema_name, did, rev, reason, falls, is_heard, is_hurried, is_deleted, told_at)
             SELECT $1, n.did, max(CASE WHEN n.signed THEN n.rev ELSE '' END COLLATE \"C\"), max(n.reason), max(n.fall),
               bool_or(NOT n.signed AND r.state IN ('open', 'coming')), bool_or(NOT n.signed AND n.fall = 0 AND r.state IN ('open', 'coming')),
               bool_or(n.is_deleted), CASE WHEN bool_or(NOT n.signed) THEN now() END
             FROM unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::boolean[], $7::boolean[]) n (did, rev, reason, fall, is_deleted, signed)
               JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = n.did
             WHERE n.rev = '' OR r.rev IS NULL OR n.rev COLLATE \"C\" > r.rev COLLATE \"C\"
             GROUP BY n.did ORDER BY n.did
             ON CONFLICT (schema_name, did) DO UPDATE SET rev = greatest(b.rev, excluded.rev), reason = excluded.reason,
               is_heard = b.is_heard OR excluded.is_heard, is_hurried = b.is_hurried OR excluded.is_hurried AND NOT {AGAIN}, is_deleted = b.is_deleted OR excluded.is_deleted,
               falls = CASE WHEN b.is_settled THEN b.falls + greatest(excluded.falls, ({AGAIN})::int) ELSE greatest(b.falls, excluded.falls) END,
               due = CASE WHEN b.is_settled AND {AGAIN} THEN greatest(b.due, now() + {PAUSE})
                          WHEN excluded.told_at IS NOT NULL AND excluded.falls = 0 AND NOT {AGAIN} THEN least(b.due, now()) ELSE b.due END,
               told_at = coalesce(excluded.told_at, b.told_at), is_settled = false"
        ),
        &[&schema, &dids, &revs, &reasons, &falls, &deleted, &signed],
    )?;
    open(client, schema, Some(&dids))
}

/// Opens repos that are behind and whose time has come, of these accounts or of all; how many.
fn open(
    client: &mut impl GenericClient,
    schema: &str,
    dids: Option<&[&str]>,
) -> Result<u64, Error> {
    client.execute(
        "UPDATE skyfill.behind b SET is_opened = true FROM skyfill.repo r
         WHERE b.schema_name = $1 AND NOT b.is_settled AND NOT b.is_opened AND b.due <= now() AND ($2::text[] IS NULL OR b.did = ANY($2))
           AND r.schema_name = $1 AND r.did = b.did AND r.state IN ('open', 'coming')",
        &[&schema, &dids],
    )?;
    let row = client.query_one(
        "WITH opened AS (
           UPDATE skyfill.repo r SET state = 'open', newer = b.rev > coalesce(r.rev, '') COLLATE \"C\", delisted = r.delisted OR b.is_deleted,
             attempts = 0, moves = 0, next_attempt = NULL
           FROM skyfill.behind b
           WHERE b.schema_name = $1 AND NOT b.is_settled AND b.due <= now() AND ($2::text[] IS NULL OR b.did = ANY($2))
             AND r.schema_name = $1 AND r.did = b.did AND r.state NOT IN ('open', 'coming') AND NOT (r.state = 'unresolved' AND r.contested)
           RETURNING r.did),
         noted AS (
           UPDATE skyfill.behind b SET is_opened = true FROM opened o WHERE b.schema_name = $1 AND b.did = o.did)
         SELECT count(*) FROM opened",
        &[&schema, &dids],
    )?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// Looks at repos that are behind after a merge. Those that reached the signed rev which the stream
/// named are settled, and so are those whose host says that there is no active account. One of
/// which something was said while it was being fetched is opened again, the first time at once.
/// Those that did not get there are opened again when their time has come: after ten seconds, and
/// twice as long each time, up to an hour. Settled ones are forgotten after a while. Returns how
/// many were opened.
///
/// # Errors
/// The server refused.
pub fn settle(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let mut txn = client.transaction()?;
    // What is noted meanwhile waits, and is seen the next time.
    txn.execute(
        "SELECT FROM skyfill.behind WHERE schema_name = $1 AND NOT is_settled AND due <= now() ORDER BY did FOR NO KEY UPDATE",
        &[&schema],
    )?;
    txn.execute(
        &format!(
            "UPDATE skyfill.behind b SET is_opened = false, is_heard = false, is_hurried = false, is_settled = n.is_done AND NOT b.is_heard,
               is_deleted = b.is_deleted AND (b.is_heard OR NOT n.is_done), falls = b.falls + (NOT b.is_hurried AND (b.is_heard OR NOT n.is_done))::int,
               due = CASE WHEN b.is_hurried OR b.falls = 0 AND n.is_done AND NOT b.is_heard THEN now() ELSE now() + {PAUSE} END
             FROM (SELECT r.did, r.state NOT IN ('failed', 'unresolved') AND NOT (r.state = 'loaded' AND coalesce(r.rev, '') COLLATE \"C\" < b.rev) AS is_done
                   FROM skyfill.behind b JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = b.did
                   WHERE b.schema_name = $1 AND NOT b.is_settled AND b.due <= now()
                     AND (b.is_opened AND r.state NOT IN ('open', 'coming') OR r.state = 'unresolved' AND r.contested)) n
             WHERE b.schema_name = $1 AND b.did = n.did"
        ),
        &[&schema],
    )?;
    txn.commit()?;
    client.execute(
        "DELETE FROM skyfill.behind WHERE schema_name = $1 AND is_settled
           AND (falls = 0 OR due < now() - interval '1 hour') AND (told_at IS NULL OR told_at < now() - interval '10 minutes')",
        &[&schema],
    )?;
    open(client, schema, None)
}

/// Lets no repo that is behind wait for its time.
///
/// # Errors
/// The server refused.
pub fn hasten(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "UPDATE skyfill.behind SET due = now() WHERE schema_name = $1 AND NOT is_settled AND due > now()";
    client.execute(sql, &[&schema])
}

/// How many repos are behind.
///
/// # Errors
/// The server refused.
pub fn count_behind(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM skyfill.behind WHERE schema_name = $1 AND NOT is_settled";
    let row = client.query_one(sql, &[&schema])?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// How many repos are behind and are to be fetched now; others wait for their time.
///
/// # Errors
/// The server refused.
pub fn count_untried(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM skyfill.behind WHERE schema_name = $1 AND NOT is_settled AND due <= now()";
    let row = client.query_one(sql, &[&schema])?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// Makes accounts due for a look-up, documents included: something about them changed. An account
/// that is not known is added, so that no document that was asked for before is stored after this.
///
/// # Errors
/// The server refused.
pub fn look_up_again(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<(), Error> {
    if dids.is_empty() {
        return Ok(());
    }
    client.execute(
        // An account that is not loaded yet is looked up once it is: not by its older document.
        "INSERT INTO skyfill.identity AS i (schema_name, did, due, heard) SELECT DISTINCT $1, did, NULL::timestamptz, 1 FROM unnest($2::text[]) n (did) ORDER BY did
         ON CONFLICT (schema_name, did) DO UPDATE SET heard = i.heard + 1, documented_at = NULL,
           due = CASE WHEN i.handle = 'unknown' AND i.due IS NULL THEN NULL ELSE '-infinity'::timestamptz END",
        &[&schema, &dids],
    )?;
    Ok(())
}

/// What is known of the keys of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOf {
    /// The account.
    pub did: String,
    /// The PDS of its document.
    pub pds: String,
    /// The signing key of its document.
    pub key: String,
}

/// PDS and signing key of accounts whose documents are known.
///
/// # Errors
/// The server refused.
pub fn keys(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<KeyOf>, Error> {
    let rows = client.query(
        "SELECT did, pds, signing_key FROM skyfill.identity
         WHERE schema_name = $1 AND did = ANY($2) AND document = 'good' AND pds IS NOT NULL AND signing_key IS NOT NULL",
        &[&schema, &dids],
    )?;
    Ok(rows
        .iter()
        .map(|row| KeyOf {
            did: row.get(0),
            pds: row.get(1),
            key: row.get(2),
        })
        .collect())
}

/// What following came to, for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Followed {
    /// The relay.
    pub relay: String,
    /// The cursor of its stream.
    pub cursor: Option<i64>,
    /// Whether a process follows now: it was seen within the last half minute.
    pub is_alive: bool,
    /// Seconds since it was last seen.
    pub seen_ago: f64,
    /// Seconds between the last event that was stored and the time when that was noted.
    pub lag: Option<f64>,
    /// Events that were received and not stored yet.
    pub waiting: u64,
    /// Events per second, lately.
    pub per_second: f64,
    /// Events.
    pub events: u64,
    /// Commits whose rows were stored.
    pub commits: u64,
    /// Commits that were stored before.
    pub repeated: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Repos that were fetched because an event could not be applied.
    pub fetched: u64,
    /// How often another relay was taken.
    pub fallbacks: u64,
    /// Repos that are behind now.
    pub behind: u64,
    /// Comparisons of a repo with its commit beside the stream.
    pub proved: u64,
    /// Comparisons in which something differed.
    pub differed: u64,
    /// Rounds over all repos that are done.
    pub rounds: u64,
}

/// Notes that following begins at a relay, at an event of this time; clocks of relays may differ by
/// an hour. Counts go on.
///
/// # Errors
/// The server refused.
pub fn begin(
    client: &mut impl GenericClient,
    schema: &str,
    relay: &str,
    event_at: &str,
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.followed AS f (schema_name, relay, first_event_at) VALUES ($1, $2, $3::text::timestamptz - interval '1 hour')
         ON CONFLICT (schema_name) DO UPDATE SET relay = excluded.relay, began_at = now(), seen_at = now(), ended_at = NULL,
           first_event_at = least(f.first_event_at, excluded.first_event_at)",
        &[&schema, &relay, &event_at],
    )?;
    Ok(())
}

/// Counts since they were last noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Events.
    pub events: u64,
    /// Commits whose rows were stored.
    pub commits: u64,
    /// Commits that were stored before.
    pub repeated: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Repos that were opened.
    pub fetched: u64,
    /// How often another relay was taken.
    pub fallbacks: u64,
}

/// Notes how it goes. `event_at` is the time of the last event that was stored.
///
/// # Errors
/// The server refused.
pub fn note(
    client: &mut impl GenericClient,
    schema: &str,
    (relay, event_at): (&str, Option<&str>),
    counted: Counted,
    (waiting, per_second): (u64, f64),
    is_end: bool,
) -> Result<(), Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    client.execute(
        "UPDATE skyfill.followed SET relay = $2, seen_at = now(), event_at = coalesce($3::text::timestamptz, event_at), events = events + $4,
           commits = commits + $5, repeated = repeated + $6, refused = refused + $7, fetched = fetched + $8, fallbacks = fallbacks + $9,
           waiting = $10, per_second = $11, ended_at = CASE WHEN $12 THEN now() END
         WHERE schema_name = $1",
        &[
            &schema,
            &relay,
            &event_at,
            &number(counted.events),
            &number(counted.commits),
            &number(counted.repeated),
            &number(counted.refused),
            &number(counted.fetched),
            &number(counted.fallbacks),
            &number(waiting),
            &per_second,
            &is_end,
        ],
    )?;
    Ok(())
}

/// The last account of the round of comparisons under way; empty, if none has begun.
///
/// # Errors
/// The server refused.
pub fn proved_up_to(client: &mut impl GenericClient, schema: &str) -> Result<String, Error> {
    let sql = "SELECT proved_up_to FROM skyfill.followed WHERE schema_name = $1";
    let row = client.query_opt(sql, &[&schema])?;
    Ok(row.map(|row| row.get(0)).unwrap_or_default())
}

/// Notes that repos were compared with their commits, up to this account; nothing, if the round is
/// done. Those that differ are opened, so that all of their rows are written again.
///
/// # Errors
/// The server refused.
pub fn note_proved(
    client: &mut impl GenericClient,
    schema: &str,
    up_to: Option<&str>,
    repos: u64,
    differing: &[String],
) -> Result<(), Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut txn = client.transaction()?;
    txn.execute(
        "UPDATE skyfill.followed SET proved = proved + $2, differed = differed + $3, rounds = rounds + ($4::text IS NULL)::int,
           proved_up_to = coalesce($4, '')
         WHERE schema_name = $1",
        &[&schema, &number(repos), &number(differing.len() as u64), &up_to],
    )?;
    let behind: Vec<Behind> = differing.iter().map(|did| differs(did)).collect();
    note_behind(&mut txn, schema, &behind)?;
    crate::repos::rebuild(&mut txn, schema, differing)?;
    txn.commit()
}

fn differs(did: &str) -> Behind {
    Behind {
        did: did.to_owned(),
        rev: String::new(),
        is_signed: true,
        reason: "its rows differ from its commit",
        is_fall: false,
        is_deleted: false,
        at: None,
    }
}

/// What following came to; nothing, if nobody ever followed.
///
/// # Errors
/// The server refused.
pub fn followed(client: &mut impl GenericClient, schema: &str) -> Result<Option<Followed>, Error> {
    let row = client.query_opt(
        "SELECT f.relay, s.cursor, f.ended_at IS NULL AND f.seen_at > now() - interval '30 seconds',
           extract(epoch FROM now() - f.seen_at)::float8, extract(epoch FROM f.seen_at - f.event_at)::float8, f.waiting, f.per_second,
           f.events, f.commits, f.repeated, f.refused, f.fetched, f.fallbacks,
           (SELECT count(*) FROM skyfill.behind b WHERE b.schema_name = $1 AND NOT b.is_settled), f.proved, f.differed, f.rounds
         FROM skyfill.followed f LEFT JOIN skyfill.stream s ON s.schema_name = f.schema_name AND s.relay = f.relay
         WHERE f.schema_name = $1",
        &[&schema],
    )?;
    let Some(row) = row else { return Ok(None) };
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok(Some(Followed {
        relay: row.get(0),
        cursor: row.get(1),
        is_alive: row.get(2),
        seen_ago: row.get(3),
        lag: row.get(4),
        waiting: number(5),
        per_second: row.get(6),
        events: number(7),
        commits: number(8),
        repeated: number(9),
        refused: number(10),
        fetched: number(11),
        fallbacks: number(12),
        behind: number(13),
        proved: number(14),
        differed: number(15),
        rounds: number(16),
    }))
}

/// The time of the first event that was followed, as `indexedAt` has it: records have the times of
/// their events since then.
///
/// # Errors
/// The server refused.
pub fn first_event(client: &mut impl GenericClient, schema: &str) -> Result<Option<String>, Error> {
    let row = client.query_opt(
        "SELECT to_char(first_event_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM skyfill.followed WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(row.map(|row| row.get(0)))
}
