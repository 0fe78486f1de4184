//! Compares the tables with one repo that was fetched now, whoever filled them: no ledger is
//! needed.
//!
//! The rows that the repo's records should have are made as a load makes them, and compared with
//! what is stored. Times at which the indexer saw a record are its own, so they are not compared.
//! Rows that name records of the account which the repo does not have are extra.

use crate::finding::{Finding, What};
use crate::record_rows::{Batch, Facts, Winners};
use appview::table::{self, TableInfo};
use atrepo::{Cid, Codec, Entry, Repo, RepoError};
use load::{Choice, Taken};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, Error};
use rows::{Record, datetime};
use std::collections::{BTreeMap, HashSet};

/// Records whose rows are compared together.
const BATCH: usize = 2000;

/// Rows of one table and one repo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rowcount {
    /// Rows that there should be.
    pub expected: u64,
    /// Of those, rows that are missing or differ.
    pub missing: u64,
    /// Rows that there should not be.
    pub extra: u64,
}

/// What a comparison with one repo counted.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// By table.
    pub tables: BTreeMap<&'static str, Rowcount>,
    /// The rev that the database says it has; nothing if it does not know the account.
    pub synced: Option<String>,
}

impl Compared {
    /// Over all tables.
    #[must_use]
    pub fn sum(&self) -> Rowcount {
        let mut sum = Rowcount::default();
        for rows in self.tables.values() {
            sum.expected += rows.expected;
            sum.missing += rows.missing;
            sum.extra += rows.extra;
        }
        sum
    }
}

/// Why a comparison ended early.
#[derive(Debug)]
pub enum AuditError {
    /// The server refused.
    Database(Error),
    /// The repo is not whole, although it was checked.
    Repo(RepoError),
}

impl From<Error> for AuditError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<RepoError> for AuditError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Compares the tables with a repo; each difference goes to `report`. The search path of `client`
/// is the AppView's schema.
///
/// # Errors
/// See [`AuditError`].
pub fn compare<C: AsRef<[u8]>>(
    client: &mut Client,
    facts: &Facts,
    repo: &Repo<C>,
    report: &mut dyn FnMut(Finding),
) -> Result<Compared, AuditError> {
    let did = repo.did();
    let mut audit = Audit {
        did,
        batch: Batch::new(facts),
        winners: Winners::default(),
        had: HashSet::new(),
        compared: Compared::default(),
    };
    repo.entries(|entry| -> Result<(), AuditError> {
        audit.entry(&entry);
        if audit.batch.len() >= BATCH {
            audit.compare(client, report)?;
        }
        Ok(())
    })?;
    audit.compare(client, report)?;
    audit.strays(client, facts, report)?;
    audit.compare(client, report)?;
    let sync = client.query_opt("SELECT \"repoRev\" FROM actor_sync WHERE did = $1", &[&did])?;
    audit.compared.synced = sync.and_then(|row| row.get(0));
    Ok(audit.compared)
}

struct Audit<'a> {
    did: &'a str,
    batch: Batch<'a>,
    winners: Winners,
    /// Hashes of the URIs of all records of the repo.
    had: HashSet<[u8; 16]>,
    compared: Compared,
}

fn hash(uri: &str) -> [u8; 16] {
    let digest = *Cid::of(Codec::Raw, uri.as_bytes()).digest();
    let (half, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}

impl Audit<'_> {
    /// Adds an entry of the tree. One that an AppView does not index has no rows.
    fn entry(&mut self, entry: &Entry<'_, '_>) {
        let Ok(taken) = load::taken(entry, &Choice::ALL) else {
            return;
        };
        let Taken {
            collection,
            rkey,
            cid,
            value,
        } = taken;
        let uri = format!("at://{}/{}/{rkey}", self.did, collection.nsid());
        let created_at = rows::created_at(&value);
        let time = datetime::indexed_at(created_at, rkey, datetime::LATEST);
        let (cid, indexed_at) = (cid.to_string(), datetime::print(time));
        let record = Record {
            did: self.did,
            collection,
            rkey,
            uri: &uri,
            cid: &cid,
            indexed_at: &indexed_at,
            value,
        };
        // What the official indexer refuses has no rows: if there are some, they are extra.
        if self.batch.add(&record, &mut self.winners).is_ok() {
            self.had.insert(hash(&uri));
        }
    }

    fn compare(
        &mut self,
        client: &mut Client,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        let tables = &mut self.compared.tables;
        self.batch
            .expected(|info, rows| tables.entry(info.name).or_default().expected += rows);
        self.batch.compare(client, self.did, &mut |finding| {
            match &finding.what {
                What::Missing { table, .. } => tables.entry(table).or_default().missing += 1,
                What::Extra { table, .. } => tables.entry(table).or_default().extra += 1,
                _ => {}
            }
            report(finding);
        })
    }

    /// Looks for rows of the account that name records which the repo does not have.
    fn strays(
        &mut self,
        client: &mut Client,
        facts: &Facts,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        for info in table::ALL.iter().filter(|info| facts.has(info)) {
            for uri in self.strays_of(client, info)? {
                self.batch.add_stray(&uri);
                if self.batch.len() >= BATCH {
                    self.compare(client, report)?;
                }
            }
        }
        Ok(())
    }

    /// URIs of a table's rows, found by the account that they name, that are not of the repo. Each
    /// is returned once over all tables.
    fn strays_of(&mut self, client: &mut Client, info: &TableInfo) -> Result<Vec<String>, Error> {
        let is_record = info.id == table::RECORD.info().id;
        let owner = match is_record {
            true => "did",
            false => match load::indexed_owner(info) {
                Some(owner) => owner,
                None => return Ok(Vec::new()),
            },
        };
        let sql = format!(
            "SELECT x.\"{}\" FROM \"{}\" x WHERE x.\"{owner}\" = $1{}",
            info.uri,
            info.name,
            // The official code notifies of a deleted verification after its record is gone.
            match info.id == table::NOTIFICATION.info().id {
                true => " AND x.reason <> 'unverified'",
                false => "",
            }
        );
        let mut rows = client.query_raw(&sql, [&self.did as &(dyn ToSql + Sync)])?;
        let mut strays = Vec::new();
        while let Some(row) = rows.next()? {
            let uri: String = row.get(0);
            if self.had.insert(hash(&uri)) {
                strays.push(uri);
            }
        }
        Ok(strays)
    }
}
