//! Accounts (table `identity`): their state, their DID document, whether their handle is verified;
//! and how far the PLC's export was read.
//!
//! A document may be known before its account is loaded. Such an account has the handle state
//! `unknown` and is not due; the load makes it due.
//!
//! Whoever asks for a document may be overtaken by the news that it changed. So the ledger counts
//! such news (column `heard`), and what was asked for before the last one is not stored.

use crate::column::column;
use crate::text::reason;
use postgres::{Error, GenericClient};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The step of the ledger's schema for the number of times that something was heard of an account:
/// its document or its handle may have changed.
pub(crate) const HEARD_STEP: &str =
    "ALTER TABLE skyfill.identity ADD COLUMN heard bigint NOT NULL DEFAULT 0";

/// The result of looking for an account's DID document: column `document`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentState {
    /// Nobody looked yet.
    Unknown,
    /// It is there, and good.
    Good,
    /// It is there, and of no use.
    Useless,
    /// There is none: the DID was never there, or is no more.
    Gone,
    /// The DID is of a method that nobody resolves.
    Unsupported,
    /// It could not be fetched.
    Unreachable,
}

impl DocumentState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Good,
        Self::Useless,
        Self::Gone,
        Self::Unsupported,
        Self::Unreachable,
    ];

    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Useless => "useless",
            Self::Gone => "gone",
            Self::Unsupported => "unsupported",
            Self::Unreachable => "unreachable",
        }
    }
}

column!(DocumentState, "skyfill.identity", "document state");

/// The result of looking at an account's handle: column `handle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandleState {
    /// Nobody looked yet.
    Unknown,
    /// It leads to the account.
    Verified,
    /// It leads elsewhere or nowhere, or the document names none.
    Mismatch,
    /// The document names it, and nobody was asked.
    Claimed,
    /// It could not be asked.
    Unreachable,
    /// There is no document that could name one.
    NoDocument,
}

impl HandleState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Verified,
        Self::Mismatch,
        Self::Claimed,
        Self::Unreachable,
        Self::NoDocument,
    ];

    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Verified => "verified",
            Self::Mismatch => "mismatch",
            Self::Claimed => "claimed",
            Self::Unreachable => "unreachable",
            Self::NoDocument => "none",
        }
    }
}

column!(HandleState, "skyfill.identity", "handle state");

/// Notes states that a load learned: schema, DIDs and states as array literals; a NULL state is an
/// active account. Rows that say so already are not locked: a load would lock those of all its
/// accounts. It has locked their repos, so no other load is about to change them.
pub const NOTE_STATUSES: &str = "INSERT INTO skyfill.identity AS i (schema_name, did, status)
     SELECT $1::text, n.did, n.status FROM unnest($2::text::text[], $3::text::text[]) n (did, status)
     WHERE NOT EXISTS (SELECT FROM skyfill.identity k WHERE k.schema_name = $1::text AND k.did = n.did
       AND k.status IS NOT DISTINCT FROM n.status AND NOT (k.handle = 'unknown' AND k.due IS NULL))
     ON CONFLICT (schema_name, did) DO UPDATE SET status = excluded.status,
       due = CASE WHEN i.handle = 'unknown' AND i.due IS NULL THEN '-infinity' ELSE i.due END
     WHERE i.status IS DISTINCT FROM excluded.status OR i.handle = 'unknown' AND i.due IS NULL";

/// Adds accounts of which nothing is known yet.
///
/// # Errors
/// The server refused.
pub fn enroll(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<u64, Error> {
    client.execute(
        "INSERT INTO skyfill.identity AS i (schema_name, did) SELECT $1, * FROM unnest($2::text[])
         ON CONFLICT (schema_name, did) DO UPDATE SET due = '-infinity' WHERE i.handle = 'unknown' AND i.due IS NULL",
        &[&schema, &dids],
    )
}

/// Adds the accounts of the AppView's `actor_sync` of which nothing is known yet.
///
/// # Errors
/// The server refused.
pub fn enroll_loaded(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        &format!(
            "INSERT INTO skyfill.identity (schema_name, did) SELECT $1, did FROM \"{schema}\".actor_sync ON CONFLICT DO NOTHING"
        ),
        &[&schema],
    )
}

/// The status of the account in column `did`, NULL if it is active, in a statement whose `$1` is
/// the schema.
#[must_use]
pub fn status_of(did: &str) -> String {
    format!("(SELECT i.status FROM skyfill.identity i WHERE i.schema_name = $1 AND i.did = {did})")
}

/// The condition that the handle of the account in column `did` is in this state, in a statement
/// whose `$1` is the schema.
#[must_use]
pub fn has_state(did: &str, state: HandleState) -> String {
    format!(
        "EXISTS (SELECT FROM skyfill.identity v WHERE v.schema_name = $1 AND v.did = {did} AND v.handle = '{state}')"
    )
}

/// Which accounts are to be looked at again, whatever their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// What could not be reached.
    Unreachable,
    /// Those of did:web: nothing tells of their changes.
    Web,
    /// All.
    All,
}

/// Makes accounts due now.
///
/// # Errors
/// The server refused.
pub fn look_again(
    client: &mut impl GenericClient,
    schema: &str,
    again: Again,
) -> Result<u64, Error> {
    let which = match again {
        Again::Unreachable => "due > now()",
        Again::Web => "did LIKE 'did:web:%'",
        Again::All => "true",
    };
    client.execute(
        &format!(
            "UPDATE skyfill.identity SET due = '-infinity', documented_at = CASE WHEN $2 THEN NULL ELSE documented_at END
             WHERE schema_name = $1 AND {which} AND NOT (handle = 'unknown' AND due IS NULL)"
        ),
        &[&schema, &matches!(again, Again::All | Again::Web)],
    )
}

/// An account that is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its DID.
    pub did: String,
    /// The handle of its document, if that was read lately; a good document may have none.
    pub document: Option<Option<String>>,
    /// How often it could not be reached.
    pub attempts: i32,
    /// How often something had been heard of it, if that was read.
    pub heard: Option<i64>,
}

/// How many are due.
///
/// # Errors
/// The server refused.
pub fn count_due(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM skyfill.identity WHERE schema_name = $1 AND due <= now()";
    Ok(u64::try_from(client.query_one(sql, &[&schema])?.get::<_, i64>(0)).unwrap_or(0))
}

/// Whether `most` or more are due.
///
/// # Errors
/// The server refused.
pub fn are_so_many_due(
    client: &mut impl GenericClient,
    schema: &str,
    most: u64,
) -> Result<bool, Error> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let sql = "SELECT count(*) >= $2 FROM (
           SELECT FROM skyfill.identity WHERE schema_name = $1 AND due <= now() LIMIT $2) i";
    Ok(client.query_one(sql, &[&schema, &most])?.get(0))
}

/// Which of the accounts that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// All.
    AtAny,
    /// Those at whose handle nobody has looked.
    Never,
}

/// The next `count` that are due after `after`, by DID. Documents of did:plc are good at any age if
/// `plc_is_fresh`.
///
/// # Errors
/// The server refused.
pub fn due(
    client: &mut impl GenericClient,
    schema: &str,
    (after, count): (&str, i64),
    plc_is_fresh: bool,
    looked: Looked,
) -> Result<Vec<Due>, Error> {
    let rows = client.query(
        "SELECT did, document = 'good' AND (documented_at > now() - interval '1 day' OR $4 AND did LIKE 'did:plc:%'),
           claimed_handle, attempts, heard
         FROM skyfill.identity WHERE schema_name = $1 AND due <= now() AND did > $2 AND ($5 OR handle IN ('unknown', 'claimed'))
         ORDER BY did LIMIT $3",
        &[&schema, &after, &count, &plc_is_fresh, &(looked == Looked::AtAny)],
    )?;
    Ok(rows
        .iter()
        .map(|row| Due {
            did: row.get(0),
            document: row
                .get::<_, Option<bool>>(1)
                .unwrap_or(false)
                .then(|| row.get(2)),
            attempts: row.get(3),
            heard: row.get(4),
        })
        .collect())
}

/// Locks accounts until the transaction ends, in the order of DIDs; returns those that are loaded,
/// or are looked up for another reason. Repos whose documents name another PDS than before are
/// locked first, since whoever stores repos locks them before their accounts.
///
/// # Errors
/// The server refused.
pub fn hold<'n>(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
    documents: impl Iterator<Item = &'n DocumentNote>,
) -> Result<HashSet<String>, Error> {
    let good = documents.filter(|note| note.state == DocumentState::Good);
    let places: Vec<(&str, &str)> = good
        .filter_map(|note| Some((note.did.as_str(), note.pds.as_deref()?)))
        .collect();
    if !places.is_empty() {
        let (of, pds): (Vec<&str>, Vec<&str>) = places.into_iter().unzip();
        client.execute(
            "SELECT FROM (
               SELECT i.did FROM unnest($2::text[], $3::text[]) n (did, pds)
                 JOIN skyfill.identity i ON i.schema_name = $1 AND i.did = n.did
               WHERE i.pds <> n.pds ORDER BY 1 OFFSET 0) m
             CROSS JOIN LATERAL (
               SELECT FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = m.did FOR NO KEY UPDATE) r",
            &[&schema, &of, &pds],
        )?;
    }
    let rows = client.query(
        "SELECT did, handle = 'unknown' AND due IS NULL FROM skyfill.identity
         WHERE schema_name = $1 AND did = ANY($2) ORDER BY did FOR NO KEY UPDATE",
        &[&schema, &dids],
    )?;
    let known = rows.iter().filter(|row| !row.get::<_, bool>(1));
    Ok(known.map(|row| row.get(0)).collect())
}

/// What was learned of a document.
#[derive(Clone, Debug)]
pub struct DocumentNote {
    /// Whose.
    pub did: String,
    /// The result of looking for it.
    pub state: DocumentState,
    /// The handle in it.
    pub claimed_handle: Option<String>,
    /// The PDS in it.
    pub pds: Option<String>,
    /// The signing key in it.
    pub signing_key: Option<String>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Whether it is good for a day: it was fetched now. One of an export is good when the export
    /// was read to its end.
    pub is_fresh: bool,
    /// How often something had been heard of the account when the document was asked for. Nothing,
    /// if it was asked for after all that was heard.
    pub heard: Option<i64>,
}

/// Notes documents, also of accounts that nobody has loaded yet: those are not looked up before
/// they are.
///
/// # Errors
/// The server refused.
pub fn add_documents(
    client: &mut impl GenericClient,
    schema: &str,
    notes: &[DocumentNote],
) -> Result<u64, Error> {
    let dids: Vec<&str> = notes.iter().map(|note| note.did.as_str()).collect();
    client.execute(
        "INSERT INTO skyfill.identity (schema_name, did, due) SELECT $1, did, NULL FROM unnest($2::text[]) n (did) ORDER BY did
         ON CONFLICT DO NOTHING",
        &[&schema, &dids],
    )?;
    note_documents(client, schema, notes)
}

/// Notes documents of accounts that are known. An account whose document changed is due again; what
/// could not be reached keeps what was known of it. A document that was asked for before something
/// was heard of its account is left out.
///
/// # Errors
/// The server refused.
pub fn note_documents(
    client: &mut impl GenericClient,
    schema: &str,
    notes: &[DocumentNote],
) -> Result<u64, Error> {
    let column = |pick: fn(&DocumentNote) -> Option<&str>| {
        notes.iter().map(pick).collect::<Vec<Option<&str>>>()
    };
    let heard: Vec<Option<i64>> = notes.iter().map(|n| n.heard).collect();
    // Where a document names another PDS than before, what was proved and what was claimed has to
    // be looked at again.
    client.execute(
        "WITH moved AS MATERIALIZED (
           SELECT i.did FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) n (did, state, pds, heard)
             JOIN skyfill.identity i ON i.schema_name = $1 AND i.did = n.did
           WHERE n.state = 'good' AND i.pds <> n.pds AND i.heard = coalesce(n.heard, i.heard)
           ORDER BY i.did
         ), heard AS (
           DELETE FROM skyfill.lost_claim c USING moved m WHERE c.schema_name = $1 AND c.did = m.did
         ), held AS MATERIALIZED (
           SELECT m.did FROM moved m CROSS JOIN LATERAL (
             SELECT FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = m.did FOR NO KEY UPDATE) r)
         UPDATE skyfill.repo r SET proof = NULL FROM held m
         WHERE r.schema_name = $1 AND r.did = m.did AND r.proof IN ('signed', 'older key')",
        &[
            &schema,
            &column(|n| Some(&n.did)),
            &column(|n| Some(n.state.word())),
            &column(|n| n.pds.as_deref()),
            &heard,
        ],
    )?;
    client.execute(
        "WITH held AS MATERIALIZED (
           SELECT did FROM skyfill.identity WHERE schema_name = $1 AND did = ANY($2) ORDER BY did FOR NO KEY UPDATE)
         UPDATE skyfill.identity i SET document = n.state,
           claimed_handle = CASE WHEN n.state = 'unreachable' THEN i.claimed_handle ELSE n.handle END,
           pds = CASE WHEN n.state = 'unreachable' THEN i.pds ELSE n.pds END,
           signing_key = CASE WHEN n.state = 'unreachable' THEN i.signing_key ELSE n.key END,
           error = n.error, documented_at = CASE WHEN n.fresh THEN now() END,
           due = CASE WHEN i.handle = 'unknown' AND i.due IS NULL THEN NULL
                      WHEN (i.document, i.claimed_handle) IS DISTINCT FROM (n.state, n.handle) THEN '-infinity' ELSE i.due END
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::bigint[])
           n (did, state, handle, pds, key, error, fresh, heard) JOIN held h ON h.did = n.did
         WHERE i.schema_name = $1 AND i.did = n.did AND i.heard = coalesce(n.heard, i.heard)",
        &[
            &schema,
            &column(|n| Some(&n.did)),
            &column(|n| Some(n.state.word())),
            &column(|n| n.claimed_handle.as_deref()),
            &column(|n| n.pds.as_deref()),
            &column(|n| n.signing_key.as_deref()),
            &reasons(notes.iter().map(|n| n.error.as_deref())),
            &notes.iter().map(|n| n.is_fresh).collect::<Vec<bool>>(),
            &heard,
        ],
    )
}

pub(crate) fn reasons<'e>(
    errors: impl Iterator<Item = Option<&'e str>>,
) -> Vec<Option<Cow<'e, str>>> {
    errors.map(|error| error.map(reason)).collect()
}

/// How a look at an account ended.
#[derive(Clone, Debug)]
pub struct HandleNote {
    /// Whose.
    pub did: String,
    /// The result of it.
    pub state: HandleState,
    /// Why it could not be reached.
    pub error: Option<String>,
    /// Seconds until the next look, if there is to be one.
    pub again_in: Option<i32>,
    /// How often something had been heard of the account when the look began, if that is known.
    pub heard: Option<i64>,
}

/// Notes how looks at accounts ended. An account of which something was heard since the look began
/// stays due.
///
/// # Errors
/// The server refused.
pub fn note_handles(
    client: &mut impl GenericClient,
    schema: &str,
    notes: &[HandleNote],
) -> Result<u64, Error> {
    let dids: Vec<&str> = notes.iter().map(|n| n.did.as_str()).collect();
    let states: Vec<&str> = notes.iter().map(|n| n.state.word()).collect();
    let errors = reasons(notes.iter().map(|n| n.error.as_deref()));
    let again: Vec<Option<i32>> = notes.iter().map(|n| n.again_in).collect();
    let heard: Vec<Option<i64>> = notes.iter().map(|n| n.heard).collect();
    client.execute(
        "UPDATE skyfill.identity i SET handle = n.state, error = coalesce(n.error, i.error),
           attempts = CASE WHEN n.again IS NULL THEN 0 ELSE i.attempts + 1 END,
           due = CASE WHEN i.heard = coalesce(n.heard, i.heard) THEN now() + make_interval(secs => n.again) ELSE i.due END
         FROM unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[]) n (did, state, error, again, heard)
         WHERE i.schema_name = $1 AND i.did = n.did",
        &[&schema, &dids, &states, &errors, &again, &heard],
    )
}

/// The signing key of an account's document, if it is known.
///
/// # Errors
/// The server refused.
pub fn signing_key(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<Option<String>, Error> {
    let sql = "SELECT signing_key FROM skyfill.identity WHERE schema_name = $1 AND did = $2";
    Ok(client
        .query_opt(sql, &[&schema, &did])?
        .and_then(|row| row.get(0)))
}

/// The PDSes of accounts whose documents are known, by DID.
///
/// # Errors
/// The server refused.
pub fn pds_of(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&String],
) -> Result<HashMap<String, String>, Error> {
    let sql = "SELECT did, pds FROM skyfill.identity
         WHERE schema_name = $1 AND did = ANY($2) AND document = 'good' AND pds IS NOT NULL";
    let rows = client.query(sql, &[&schema, &dids])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Where reading of `name` stopped.
///
/// # Errors
/// The server refused.
pub fn cursor(client: &mut impl GenericClient, name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT value FROM skyfill.cursor WHERE name = $1";
    Ok(client.query_opt(sql, &[&name])?.map(|row| row.get(0)))
}

/// Notes where to continue reading; in the transaction that stored what was read.
///
/// # Errors
/// The server refused.
pub fn set_cursor(client: &mut impl GenericClient, name: &str, value: &str) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.cursor (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        &[&name, &value],
    )?;
    Ok(())
}
