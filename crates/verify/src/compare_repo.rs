//! One repo under comparison: its commit, the root of the tree over what is stored, and each record
//! against its CID.

use crate::finding::What;
use crate::record_rows::{Making, Row, Winners};
use crate::report::HostCounts;
use crate::run_settings::Runs;
use crate::tree::{List, ListError, is_stored};
use appview::table::TableInfo;
use atrepo::{Cid, Codec, Commit, Link, RootBuilder, syntax};
use ledger::repos::Known;
use ledger::states::State;
use load::{DbError, Notifications};
use postgres::Transaction;
use rows::{Collection, Record};
use std::collections::HashMap;

/// Whether a repo is compared: it is stored, and not in part, with two revs at once.
pub(crate) fn is_compared(repo: &Known) -> bool {
    repo.rev.is_some() && repo.state != State::Partial
}

/// The commit in the ledger, if its CID is right and it belongs to this repo.
pub(crate) fn checked_commit(repo: &Known) -> Result<Commit, String> {
    let block = repo.commit.as_deref().ok_or("it is not in the ledger")?;
    let cid = Cid::of(Codec::DagCbor, block).to_string();
    if Some(&cid) != repo.commit_cid.as_ref() {
        return Err(format!("its CID is {cid}"));
    }
    let commit = Commit::parse(block).map_err(str::to_owned)?;
    if commit.did != repo.did {
        return Err(format!("it belongs to {}", commit.did));
    }
    if Some(&commit.rev) != repo.rev.as_ref() {
        return Err(format!("its rev is {}", commit.rev));
    }
    Ok(commit)
}

/// A row of `record`.
pub(crate) struct Stored<'s> {
    pub(crate) uri: &'s str,
    pub(crate) cid: &'s str,
    pub(crate) json: &'s str,
    pub(crate) indexed_at: &'s str,
}

/// The rows that a record should have.
pub(crate) struct Wanted {
    pub(crate) rows: Vec<(TableInfo, Row)>,
    /// Whether another indexer took the clock's time for one that the record does not have.
    pub(crate) has_foreign_time: bool,
}

fn wrong(uri: &str, why: &str) -> What {
    What::Json {
        uri: uri.to_owned(),
        why: why.to_owned(),
    }
}

/// The state of the comparison of one repo.
pub(crate) struct RepoComparison<'w> {
    schema: &'w str,
    runs: &'w Runs,
    notifications: &'w Notifications,
    did: String,
    commit: Commit,
    /// Records when it was loaded.
    loaded: u64,
    root: RootBuilder,
    list: List,
    /// Records whose JSON cannot be converted back: CID and hash of the JSON by key, until the
    /// record is reached.
    irreversible: HashMap<Vec<u8>, ([u8; 36], String)>,
    broken_list: bool,
    winners: Winners,
    found: u64,
}

impl<'w> RepoComparison<'w> {
    /// One with this list of skipped records, or with one that cannot be read.
    pub(crate) fn new(
        schema: &'w str,
        runs: &'w Runs,
        repo: &Known,
        commit: Commit,
        list: Option<List>,
    ) -> Self {
        Self {
            broken_list: list.is_none(),
            list: list.unwrap_or_default(),
            schema,
            runs,
            notifications: runs.notifications_of(repo.run),
            did: repo.did.clone(),
            commit,
            loaded: repo.records,
            root: RootBuilder::default(),
            irreversible: HashMap::new(),
            winners: Winners::default(),
            found: 0,
        }
    }

    /// Reads the entries of the list up to `key`.
    fn skip_to(
        &mut self,
        txn: &mut Transaction<'_>,
        key: Option<&[u8]>,
        counts: &mut HostCounts,
    ) -> Result<(), DbError> {
        while !self.broken_list {
            let entry = match self.list.next(txn, self.schema, key) {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(ListError::Database(error)) => return Err(error.into()),
                Err(ListError::Broken) => {
                    self.broken_list = true;
                    break;
                }
            };
            if is_stored(&entry) {
                self.irreversible
                    .insert(entry.key, (entry.cid, entry.detail));
                continue;
            }
            *counts
                .skipped
                .entry(entry.reason.word().to_owned())
                .or_default() += 1;
            match Cid::from_bytes(&entry.cid) {
                Some(cid) => self.broken_list |= !self.root.add(&entry.key, cid),
                None => self.broken_list = true,
            }
        }
        Ok(())
    }

    /// Takes the next record of the repo; the rows that it should have, if it can be read.
    pub(crate) fn record(
        &mut self,
        txn: &mut Transaction<'_>,
        stored: &Stored<'_>,
        counts: &mut HostCounts,
        tell: &mut dyn FnMut(What),
    ) -> Result<Option<Wanted>, DbError> {
        self.found += 1;
        let uri = stored.uri;
        // The `at://`, the DID and a slash.
        let key = uri.get(self.did.len() + 6..).unwrap_or_default();
        self.skip_to(txn, Some(key.as_bytes()), counts)?;
        let cid = Link::parse(stored.cid).and_then(|bytes| Cid::from_bytes(&bytes));
        let Some(cid) = cid else {
            tell(wrong(uri, "its CID is not a CID"));
            return Ok(None);
        };
        if !self.root.add(key.as_bytes(), cid) {
            tell(wrong(
                uri,
                "it is also on the list of skipped records, or stored twice",
            ));
        }
        let irreversible = self.irreversible.remove(key.as_bytes());
        let Some(bytes) = rows::from_stored_json(stored.json) else {
            tell(wrong(uri, "its JSON is not that of a record"));
            return Ok(None);
        };
        let is_right = match irreversible {
            // An entry of another version of the record says nothing.
            Some((of, digest)) if of == cid.to_bytes() => {
                digest == Cid::of(Codec::Raw, stored.json.as_bytes()).to_string()
            }
            _ => cid.matches(&bytes),
        };
        if !is_right {
            tell(wrong(uri, "its content does not match its CID"));
        }
        Ok(self.wanted(stored, key, &bytes, tell))
    }

    /// The rows that a record should have, whose DAG-CBOR is `bytes`; nothing, if it should have
    /// been skipped.
    fn wanted(
        &mut self,
        stored: &Stored<'_>,
        key: &str,
        bytes: &[u8],
        tell: &mut dyn FnMut(What),
    ) -> Option<Wanted> {
        let uri = stored.uri;
        let parts = syntax::split_key(key.as_bytes());
        let known =
            parts.and_then(|(collection, rkey)| Some((Collection::parse(collection)?, rkey)));
        let value = atrepo::cbor::check(bytes)
            .ok()
            .and_then(|item| item.as_map());
        let (Some((collection, rkey)), Some(value)) = (known, value) else {
            tell(wrong(uri, "its collection is not indexed"));
            return None;
        };
        // JavaScript has read it already, so no byte order mark is dropped.
        let created_at = value.get("createdAt").and_then(|item| item.as_text());
        if !self.runs.is_time(created_at, rkey, stored.indexed_at) {
            tell(What::IndexedAt {
                uri: uri.to_owned(),
                stored: stored.indexed_at.to_owned(),
            });
        }
        let record = Record {
            did: &self.did,
            collection,
            rkey,
            uri,
            cid: stored.cid,
            indexed_at: stored.indexed_at,
            value,
        };
        let making = Making {
            notifications: self.notifications,
            is_own: true,
        };
        match making.rows(&record, &mut self.winners) {
            Ok(rows) => Some(Wanted {
                rows,
                has_foreign_time: !self.runs.alone && crate::record_rows::has_no_time(&record),
            }),
            Err(why) => {
                // Its JSON is wrong, or it should have been skipped.
                tell(wrong(uri, &why));
                None
            }
        }
    }

    /// Ends it: what is left of the list, and the root.
    pub(crate) fn finish(
        mut self,
        txn: &mut Transaction<'_>,
        counts: &mut HostCounts,
        tell: &mut dyn FnMut(What),
    ) -> Result<(), DbError> {
        self.skip_to(txn, None, counts)?;
        counts.records += self.found;
        if self.broken_list {
            tell(What::List);
        }
        let root = self.root.root();
        if root != self.commit.data {
            tell(What::Root {
                signed: self.commit.data.to_string(),
                stored: root.to_string(),
                records: (self.loaded, self.found),
            });
        }
        Ok(())
    }
}
