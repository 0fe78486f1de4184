//! What is still to be published of the table `record` (tables `publication` and `unpublished`).
//!
//! A schema in `publication` has its records published to a stream. From then on each transaction
//! that writes `record` notes what it did, itself: a repo that is stored for the first time as one
//! row, else each record that came, changed or went ([`crate::changes::Noting::with`]). A note is
//! deleted when the stream has what it stands for.
//!
//! A transaction that was open when the publication began may have noted nothing. The publication
//! waits for it ([`is_settled`]) before it reads any record. For that, a transaction asks whether
//! there is a publication only after it has its number, that is after it locked a row.

use postgres::{Error, GenericClient};

/// The step of the ledger's schema that makes the tables. `published_to` is the last account of the
/// first round over all repos, NULL once that is done; `settled` the first transaction number that
/// was not given out when the publication began.
pub(crate) const STEP: &str = "CREATE TABLE skyfill.publication (
        schema_name text PRIMARY KEY,
        name text NOT NULL,
        stream text NOT NULL,
        collections text[] NOT NULL,
        published_to text COLLATE \"C\" DEFAULT '',
        settled text,
        batch bigint NOT NULL DEFAULT 0,
        began_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE skyfill.unpublished (
        schema_name text NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        did text COLLATE \"C\" NOT NULL,
        key text,
        operation text NOT NULL,
        PRIMARY KEY (schema_name, number)) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)";

/// What a transaction did to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It came.
    Create,
    /// It changed.
    Update,
    /// It went.
    Delete,
}

impl Operation {
    /// Its word in the ledger and in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// SQL: whether the schema has a publication.
pub(crate) fn exists(schema: &str) -> String {
    format!("EXISTS (SELECT FROM skyfill.publication WHERE schema_name = '{schema}')")
}

/// SQL: notes the records whose URIs the statement `changed` returned, except those of repos that
/// are stored for the first time.
pub(crate) fn note_records(schema: &str, operation: Operation) -> String {
    let word = operation.word();
    format!(
        "INSERT INTO skyfill.unpublished (schema_name, did, key, operation)
         SELECT '{schema}', d.did, substr(c.uri, length(d.did) + 7), '{word}'
         FROM changed c CROSS JOIN LATERAL (SELECT split_part(c.uri, '/', 3) AS did) d
           CROSS JOIN LATERAL (SELECT FROM skyfill.repo r
             WHERE r.schema_name = '{schema}' AND r.did = d.did AND r.rev IS NOT NULL OFFSET 0) r"
    )
}

/// Notes those of the repos that this transaction stores for the first time.
pub(crate) fn note_new(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO skyfill.unpublished (schema_name, did, operation)
         SELECT $1, r.did, 'create' FROM skyfill.repo r
         WHERE {} AND r.schema_name = $1 AND r.did = ANY($2) AND r.rev IS NULL ORDER BY r.did",
        exists(schema)
    );
    client.execute(&sql, &[&schema, &dids])?;
    Ok(())
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// A name that no other publication has.
    pub name: String,
    /// The stream.
    pub stream: String,
    /// The collections that are published, as words; all if there are none.
    pub collections: Vec<String>,
    /// The last account of the first round; nothing once that is done.
    pub published_to: Option<String>,
    /// How many batches were begun.
    pub batch: i64,
}

/// Reads the publication of a schema.
///
/// # Errors
/// The server refused.
pub fn read(client: &mut impl GenericClient, schema: &str) -> Result<Option<Publication>, Error> {
    let row = client.query_opt(
        "SELECT name, stream, collections, published_to, batch FROM skyfill.publication WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(row.map(|row| Publication {
        name: row.get(0),
        stream: row.get(1),
        collections: row.get(2),
        published_to: row.get(3),
        batch: row.get(4),
    }))
}

/// Begins a publication, or begins it again: everything is to be published.
///
/// # Errors
/// The server refused.
pub fn begin(
    client: &mut impl GenericClient,
    schema: &str,
    (stream, collections): (&str, &[String]),
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.publication AS p (schema_name, name, stream, collections)
         VALUES ($1, md5(random()::text || clock_timestamp()::text), $2, $3)
         ON CONFLICT (schema_name) DO UPDATE SET name = excluded.name, stream = excluded.stream, collections = excluded.collections,
           published_to = '', began_at = now()",
        &[&schema, &stream, &collections],
    )?;
    Ok(())
}

/// Ends a publication; whether there was one.
///
/// # Errors
/// The server refused.
pub fn end(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let sql = "DELETE FROM skyfill.publication WHERE schema_name = $1";
    let was_there = client.execute(sql, &[&schema])? > 0;
    let sql = "DELETE FROM skyfill.unpublished WHERE schema_name = $1";
    client.execute(sql, &[&schema])?;
    Ok(was_there)
}

/// Whether every transaction that may have missed the begin of the publication has ended. To be
/// asked in a transaction of its own, after that which began it.
///
/// # Errors
/// The server refused.
pub fn is_settled(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    client.execute(
        "UPDATE skyfill.publication SET settled = pg_snapshot_xmax(pg_current_snapshot())::text WHERE schema_name = $1 AND settled IS NULL",
        &[&schema],
    )?;
    let row = client.query_opt(
        "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= settled::xid8 FROM skyfill.publication WHERE schema_name = $1",
        &[&schema],
    )?;
    row.map_or(Ok(true), |row| row.try_get(0))
}

/// Counts a batch, and returns its number; nothing if the publication has ended.
///
/// # Errors
/// The server refused.
pub fn next_batch(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(
        "UPDATE skyfill.publication SET batch = batch + 1 WHERE schema_name = $1 AND name = $2 RETURNING batch",
        &[&schema, &name],
    )?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Something that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its number: later ones are higher, of one repo.
    pub number: i64,
    /// The account.
    pub did: String,
    /// Collection and rkey; nothing for all records of the repo.
    pub key: Option<String>,
    /// Whether this transaction was the one in which the record came.
    pub is_create: bool,
    /// The rev that is stored, if one is.
    pub rev: Option<String>,
    /// Records that are stored of the repo.
    pub records: u64,
}

/// The oldest notes.
///
/// # Errors
/// The server refused.
pub fn notes(
    client: &mut impl GenericClient,
    schema: &str,
    count: i64,
) -> Result<Vec<Note>, Error> {
    let rows = client.query(
        "SELECT u.number, u.did, u.key, u.operation = 'create', r.rev, coalesce(r.records, 0)
         FROM (SELECT number, did, key, operation FROM skyfill.unpublished WHERE schema_name = $1 ORDER BY number LIMIT $2) u
           LEFT JOIN LATERAL (SELECT rev, records FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = u.did OFFSET 0) r ON true
         ORDER BY u.number",
        &[&schema, &count],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Note {
                number: row.get(0),
                did: row.get(1),
                key: row.get(2),
                is_create: row.get(3),
                rev: row.get(4),
                records: u64::try_from(row.try_get::<_, i64>(5)?).unwrap_or(0),
            })
        })
        .collect()
}

/// How many notes there are; not more than `most` of them are counted.
///
/// # Errors
/// The server refused.
pub fn count(client: &mut impl GenericClient, schema: &str, most: i64) -> Result<u64, Error> {
    let row = client.query_one(
        "SELECT count(*) FROM (SELECT FROM skyfill.unpublished WHERE schema_name = $1 LIMIT $2) u",
        &[&schema, &most],
    )?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

/// Notes each record of a repo by itself, in place of a note for all of them: a batch need not hold
/// the whole repo then. To be done in the transaction that forgets that note.
///
/// # Errors
/// The server refused.
pub fn note_each(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
    did: &str,
) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.unpublished (schema_name, did, key, operation)
         SELECT $1, $3, substr(uri, length($3) + 7), 'create' FROM record
         WHERE did = $3 AND starts_with(uri, 'at://' || $3 || '/')
           AND EXISTS (SELECT FROM skyfill.publication WHERE schema_name = $1 AND name = $2)",
        &[&schema, &name, &did],
    )?;
    Ok(())
}

/// Deletes notes whose messages the stream has.
///
/// # Errors
/// The server refused.
pub fn forget(client: &mut impl GenericClient, schema: &str, numbers: &[i64]) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.unpublished WHERE schema_name = $1 AND number = ANY($2)",
        &[&schema, &numbers],
    )?;
    Ok(())
}

/// Notes how far the first round came; nothing if it is done.
///
/// # Errors
/// The server refused.
pub fn came_to(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
    did: Option<&str>,
) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.publication SET published_to = $3 WHERE schema_name = $1 AND name = $2",
        &[&schema, &name, &did],
    )?;
    Ok(())
}
