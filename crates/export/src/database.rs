//! Records from the table `record`, repo by repo as the ledger has them.
//!
//! The accounts of a part are read from the ledger in the order of DIDs, some hundred at a time,
//! and their records by the index of `record` on the account. A load stores a repo's rows together,
//! so each repo is a few pages. Both are read in one snapshot, so that the ledger's count of a repo
//! is that of the rows that are read, whatever is loaded meanwhile.
//!
//! For 20 billion records of 45 million repos: the index and the table are read once, some 12 TB by
//! the size of a row, and 112,500 statements are sent. The table's order is that of loading, so a
//! disk that seeks slowly reads each repo with one seek.

use crate::encode::Source;
use crate::part::Part;
use crate::plan::{Accounts, Mismatch};
use atrepo::syntax;
use ledger::stored::{self, Stored};
use observe::Counter;
use pg::DbError;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, IsolationLevel, Transaction};
use process::{Database, Failure, Stop};
use rows::Collection;
use std::collections::HashMap;

/// Accounts whose records one statement reads.
const ACCOUNTS: i64 = 400;
/// Records of a part, unless it is told otherwise: smaller ones make small files.
const LEAST_RECORDS: u64 = 1_000_000;
/// Mismatches of a part whose collections are looked up.
const MOST_EXPLAINED: u32 = 100;

/// Why a part ended early.
pub(crate) enum CutShort {
    /// It may be done again on another connection.
    Database(DbError),
    /// It may not.
    Failed(Failure),
    /// It was stopped.
    Stopped,
}

impl From<postgres::Error> for CutShort {
    fn from(error: postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The records that the ledger counts, and the accounts at which they are cut into parts.
pub(crate) fn plan(
    database: &Database,
    part_records: u64,
    least_parts: u64,
) -> Result<Vec<String>, Failure> {
    let mut client = database.connect()?;
    let at = |error| database.failure(error);
    let dropped = ledger::dropped::list(&mut *client, &database.schema).map_err(at)?;
    if dropped.iter().any(|what| what.table == "record") {
        return Err(Failure::new(format!(
            "an index of the table record of {} is dropped, by which its records are read",
            database.shown()
        ))
        .hint_to_run("rebuild it", "indexes restore"));
    }
    let total = records(database)?;
    if total == 0 {
        return Err(
            Failure::new(format!("the ledger of {} has no records", database.shown()))
                .hint("load repos first; records that another program stored are not exported"),
        );
    }
    let of_part = (total / least_parts.max(1))
        .max(LEAST_RECORDS)
        .min(part_records);
    stored::cuts(&mut *client, &database.schema, of_part.max(1)).map_err(at)
}

/// The number of records that the ledger counts.
pub(crate) fn records(database: &Database) -> Result<u64, Failure> {
    let mut client = database.connect()?;
    let kept = ledger::coverage::Coverage::kept(&mut *client, &database.schema);
    let (_, stored) = kept.map_err(|error| database.failure(error))?;
    Ok(stored.records)
}

/// Prepares a session for reading.
pub(crate) fn begin(client: &mut Client, schema: &str) -> Result<(), DbError> {
    client.batch_execute(&format!(
        "{};
         SET jit = off;
         SET default_transaction_read_only = on;
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
        pg::search_path(schema)
    ))?;
    Ok(())
}

/// Reads all records of a part.
pub(crate) fn read(
    client: &mut Client,
    schema: &str,
    (part, accounts): (&mut Part<'_>, Accounts),
    counter: &Counter,
    stop: &Stop,
) -> Result<(), CutShort> {
    let (mut after, until) = (accounts.after, accounts.until);
    let mut explained = 0;
    loop {
        if stop.is_set() {
            return Err(CutShort::Stopped);
        }
        let mut txn = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()?;
        let repos = stored::page(&mut txn, schema, (&after, until.as_deref()), ACCOUNTS)?;
        let Some(last) = repos.last() else {
            return Ok(());
        };
        after.clone_from(&last.did);
        let found = read_repos(&mut txn, &repos, part, stop)?;
        for repo in repos {
            part.count_repo();
            let found = found.get(&repo.did).copied().unwrap_or(0);
            // Of a repo that is stored in part, nobody knows yet how much there should be.
            if found == repo.records || !repo.is_whole {
                continue;
            }
            explained += 1;
            let collections = match explained <= MOST_EXPLAINED {
                true => explain(&mut txn, &repo.did)?,
                false => Vec::new(),
            };
            part.note_mismatch(Mismatch {
                did: repo.did,
                ledger: repo.records,
                found,
                collections,
            });
        }
        txn.commit()?;
        counter.add(found.values().sum());
    }
}

/// Reads the records of some repos; how many each has.
fn read_repos(
    txn: &mut Transaction<'_>,
    repos: &[Stored],
    part: &mut Part<'_>,
    stop: &Stop,
) -> Result<HashMap<String, u64>, CutShort> {
    let revs: HashMap<&str, &str> = repos
        .iter()
        .map(|repo| (repo.did.as_str(), repo.rev.as_str()))
        .collect();
    let dids: Vec<&str> = repos.iter().map(|repo| repo.did.as_str()).collect();
    let mut found: HashMap<String, u64> = HashMap::with_capacity(repos.len());
    let mut rows = txn.query_raw(
        "SELECT did, uri, cid, json, \"indexedAt\" FROM record WHERE did = ANY($1)",
        [&dids],
    )?;
    let mut read = 0u32;
    while let Some(row) = rows.next()? {
        read = read.wrapping_add(1);
        if read.is_multiple_of(10_000) && stop.is_set() {
            return Err(CutShort::Stopped);
        }
        let (did, uri): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        match found.get_mut(did) {
            Some(count) => *count += 1,
            None => {
                found.insert(did.to_owned(), 1);
            }
        }
        let key = uri
            .strip_prefix("at://")
            .and_then(|rest| rest.strip_prefix(did))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|key| syntax::split_key(key.as_bytes()));
        // Another program may have stored what is no record of the account.
        let Some((collection, rkey)) = key else {
            part.count_unreadable("unknown");
            continue;
        };
        if !part.has(collection) {
            continue;
        }
        let source = Source {
            did,
            collection,
            rkey,
            uri,
            cid: row.try_get(2)?,
            rev: revs.get(did).copied(),
            indexed_at: row.try_get(4)?,
        };
        part.add_stored(&source, row.try_get(3)?)
            .map_err(CutShort::Failed)?;
    }
    Ok(found)
}

/// The collections of an account in which `record` and the collection's own table differ.
fn explain(txn: &mut Transaction<'_>, did: &str) -> Result<Vec<String>, CutShort> {
    let mut found = Vec::new();
    for collection in Collection::ALL {
        let Some(table) = rows::own_table(*collection) else {
            continue;
        };
        let (name, table) = (collection.nsid(), table.name);
        let mut count = |sql: &str| -> Result<i64, CutShort> {
            let prefix = format!("at://{did}/{name}/");
            Ok(txn.query_one(sql, &[&did, &prefix])?.get(0))
        };
        let without_record = count(&format!(
            "SELECT count(*) FROM \"{table}\" t WHERE creator = $1 AND $2::text IS NOT NULL
               AND NOT EXISTS (SELECT FROM record r WHERE r.uri = t.uri)"
        ))?;
        if without_record > 0 {
            found.push(format!(
                "{name}: {without_record} in {table} that record lacks"
            ));
        }
        let without_row = count(&format!(
            "SELECT count(*) FROM record r WHERE did = $1 AND starts_with(uri, $2)
               AND NOT EXISTS (SELECT FROM \"{table}\" t WHERE t.uri = r.uri)
               AND NOT EXISTS (SELECT FROM duplicate_record d WHERE d.uri = r.uri)"
        ))?;
        if without_row > 0 {
            found.push(format!(
                "{name}: {without_row} in record that {table} lacks"
            ));
        }
    }
    Ok(found)
}
