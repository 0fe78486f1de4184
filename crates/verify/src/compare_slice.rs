//! Compares a slice: its repos, its records and the rows of all other tables, each in the order of
//! URIs, are gone through side by side. A row whose URI comes by before a record of that URI
//! belongs to none.

use crate::compare_repo::{self, RepoComparison, Stored, Wanted};
use crate::finding::{Finding, What};
use crate::ordered_rows::{self, OrderedRows, Prepared};
use crate::record_rows::{self, Row as Values};
use crate::report::HostCounts;
use crate::run_settings::Runs;
use crate::stray_rows::Strays;
use crate::tree::List;
use appview::table::{self, Kind, TableInfo};
use ledger::repos::Known;
use ledger::skipped;
use ledger::verified::{self, Note};
use load::DbError;
use postgres::{Portal, Row, Transaction};
use rows::Collection;
use std::collections::{HashMap, VecDeque};

/// Repos that are read from the ledger together.
const PAGE: i32 = 100;

/// What is compared, and how.
pub(crate) struct Job<'j> {
    pub(crate) schema: &'j str,
    pub(crate) runs: &'j Runs,
    /// Returns the reason if the signature of a commit does not hold.
    pub(crate) signature: Option<&'j (dyn Fn(&str, &[u8]) -> Option<String> + Sync)>,
    /// Receives the records of each repo.
    pub(crate) progress: &'j (dyn Fn(u64) + Sync),
    /// Whether to stop.
    pub(crate) stop: &'j (dyn Fn() -> bool + Sync),
}

/// The repos of a slice, in the order of their URIs.
pub(crate) enum Repos {
    /// Those of a range.
    Range(Portal),
    /// These.
    Some(Vec<Known>),
}

/// What came of a slice.
#[derive(Default)]
pub(crate) struct Compared {
    /// Counts of each repo, with its host.
    pub(crate) repos: Vec<(String, HostCounts)>,
    /// What was found, repo by repo, and then rows without a record.
    pub(crate) findings: Vec<Finding>,
    /// The repos, as they are to be noted.
    pub(crate) notes: Vec<Note>,
}

/// A repo before it is begun: with what the ledger and `actor_sync` say of it.
struct Next {
    repo: Known,
    sync: Option<(Option<String>, String)>,
    list: Option<List>,
}

/// The repo that records belong to now.
struct Current<'j> {
    repo: Known,
    /// What its URIs begin with.
    prefix: String,
    /// Its comparison; nothing, if it is not compared.
    comparison: Option<RepoComparison<'j>>,
    counts: HostCounts,
    findings: Vec<Finding>,
}

/// A comparison of a slice.
pub(crate) struct SliceComparison<'j, 't, 'c> {
    job: &'j Job<'j>,
    txn: &'t mut Transaction<'c>,
    records: OrderedRows,
    /// The other tables.
    tables: Vec<Table>,
    repos: Repos,
    next: VecDeque<Next>,
    current: Option<Current<'j>>,
    strays: Strays,
    compared: Compared,
}

/// A table and its rows.
struct Table {
    rows: OrderedRows,
    /// The collections whose records may have rows in it; none means any.
    collections: Vec<Collection>,
}

impl Table {
    fn may_have(&self, collection: Option<Collection>) -> bool {
        self.collections.is_empty()
            || collection.is_some_and(|collection| self.collections.contains(&collection))
    }
}

impl<'j, 't, 'c> SliceComparison<'j, 't, 'c> {
    pub(crate) fn new(
        job: &'j Job<'j>,
        txn: &'t mut Transaction<'c>,
        prepared: &Prepared,
        repos: Repos,
    ) -> Result<Self, DbError> {
        let mut tables = prepared.open(txn)?.into_iter();
        let Some(records) = tables.next() else {
            return Err(DbError::other("there is no table of records"));
        };
        let others = tables.map(|rows| Table {
            collections: ordered_rows::collections_of(&rows.table),
            rows,
        });
        Ok(Self {
            job,
            txn,
            records,
            tables: others.collect(),
            repos,
            next: VecDeque::new(),
            current: None,
            strays: Strays::default(),
            compared: Compared::default(),
        })
    }

    /// Compares all of it; nothing, if it was told to stop.
    pub(crate) fn run(mut self) -> Result<Option<Compared>, DbError> {
        self.begin_next()?;
        let mut number: u32 = 0;
        while self.records.key(self.txn)?.is_some() {
            number = number.wrapping_add(1);
            if number.is_multiple_of(256) && (self.job.stop)() {
                return Ok(None);
            }
            if let Some(row) = self.records.take() {
                self.record(&row)?;
            }
        }
        while self.current.is_some() {
            if (self.job.stop)() {
                return Ok(None);
            }
            self.finish_current()?;
            self.begin_next()?;
        }
        self.rows_before(None)?;
        let stored: Vec<&str> = self
            .compared
            .notes
            .iter()
            .map(|note| note.did.as_str())
            .collect();
        let strays = self.strays.findings(self.txn, self.job.schema, &stored)?;
        self.compared.findings.extend(strays);
        let findings = &self.compared.findings;
        let differing: std::collections::HashSet<&str> = findings
            .iter()
            .filter(|finding| finding.is_difference())
            .map(|finding| finding.did.as_str())
            .collect();
        for note in &mut self.compared.notes {
            note.is_equal = !differing.contains(note.did.as_str());
        }
        Ok(Some(self.compared))
    }

    fn record(&mut self, row: &Row) -> Result<(), DbError> {
        let uri: &str = row.get(0);
        let owner: &str = row.get(ordered_rows::DID);
        while let Some(current) = &self.current {
            if uri < current.prefix.as_str() || uri.starts_with(&current.prefix) {
                break;
            }
            self.finish_current()?;
            self.begin_next()?;
        }
        self.rows_before(Some(uri))?;
        let current = self
            .current
            .as_mut()
            .filter(|current| uri.starts_with(&current.prefix));
        let mut wanted = None;
        match current {
            Some(current) if owner == current.repo.did => {
                let stored = Stored {
                    uri,
                    cid: row.get(ordered_rows::CID),
                    json: row.get(ordered_rows::JSON),
                    indexed_at: row.get(ordered_rows::INDEXED_AT),
                };
                if let Some(comparison) = &mut current.comparison {
                    let (did, findings) = (owner, &mut current.findings);
                    let mut tell = |what| findings.push(finding(did, what));
                    wanted =
                        comparison.record(self.txn, &stored, &mut current.counts, &mut tell)?;
                } else if current.repo.rev.is_none() {
                    self.strays.never_loaded(owner, uri);
                }
            }
            // It names another account than its URI, or one that the ledger does not know.
            _ => self.strays.record(owner, uri),
        }
        let is_of_owner = || {
            let rest = uri.strip_prefix("at://")?.strip_prefix(owner)?;
            rest.starts_with('/').then_some(())
        };
        match is_of_owner() {
            Some(()) => self.rows_of(uri, wanted),
            // The account of the URI has no such record.
            None => self.strays_while(|key| key == uri),
        }
    }

    /// Takes the rows that come before a URI, or all that are left: they belong to no record.
    fn rows_before(&mut self, uri: Option<&str>) -> Result<(), DbError> {
        self.strays_while(|key| uri.is_none_or(|uri| key < uri))
    }

    /// Takes rows as long as their URIs are such: they belong to no record.
    fn strays_while(&mut self, is_such: impl Fn(&str) -> bool) -> Result<(), DbError> {
        for table in &mut self.tables {
            while table.rows.key(self.txn)?.is_some_and(&is_such) {
                if let Some(row) = table.rows.take() {
                    self.strays.row(&table.rows.table, &row);
                }
            }
        }
        Ok(())
    }

    /// Takes the rows of a record, and compares them with those that it should have, if that is
    /// known.
    fn rows_of(&mut self, uri: &str, wanted: Option<Wanted>) -> Result<(), DbError> {
        let collection = uri.split('/').nth(3).and_then(Collection::parse);
        let is_compared = wanted.is_some();
        let (rows, has_foreign_time) = wanted.map_or_else(
            || (Vec::new(), false),
            |wanted| (wanted.rows, wanted.has_foreign_time),
        );
        let mut wanted = Unmatched::new(rows, has_foreign_time);
        // The root of the thread that a stored post is in.
        let mut root: Option<String> = None;
        for table in &mut self.tables {
            while table.rows.key(self.txn)? == Some(uri) {
                let Some(row) = table.rows.take() else {
                    break;
                };
                let info = table.rows.table;
                if info.id == table::POST.info().id {
                    root = row.get(1 + REPLY_ROOT);
                }
                let is_of_root =
                    info.lead.is_none() || row.get::<_, Option<&str>>(1) == root.as_deref();
                if !table.may_have(collection) || !is_of_root {
                    self.strays.row(&info, &row);
                    continue;
                }
                if !is_compared || is_relational(&info, &row) {
                    continue;
                }
                if wanted.take(&info, &row) {
                    continue;
                }
                if let Some(current) = &mut self.current {
                    let row = record_rows::shown(&info, &values_of(&info, &row));
                    let what = What::Extra {
                        table: info.name,
                        uri: uri.to_owned(),
                        row,
                    };
                    current.findings.push(finding(&current.repo.did, what));
                }
            }
        }
        for (info, row) in wanted.left() {
            if info.id == table::NOTIFICATION.info().id && record_rows::is_muted(self.txn, &row)? {
                continue;
            }
            if let Some(current) = &mut self.current {
                let what = What::Missing {
                    table: info.name,
                    uri: uri.to_owned(),
                    row: record_rows::shown(&info, &row),
                };
                current.findings.push(finding(&current.repo.did, what));
            }
        }
        Ok(())
    }

    /// Begins the next repo, if there is one.
    fn begin_next(&mut self) -> Result<(), DbError> {
        if self.next.is_empty() {
            self.read_repos()?;
        }
        let Some(Next { repo, sync, list }) = self.next.pop_front() else {
            self.current = None;
            return Ok(());
        };
        let mut findings = Vec::new();
        let mut counts = HostCounts::default();
        *counts.states.entry(repo.state).or_default() += 1;
        let mut comparison = None;
        if compare_repo::is_compared(&repo) {
            counts.verified = 1;
            let mut tell = |what| findings.push(finding(&repo.did, what));
            match compare_repo::checked_commit(&repo) {
                Ok(commit) => {
                    if let Some(signature) = self.job.signature
                        && let Some(why) = signature(&repo.did, &commit.block)
                    {
                        tell(What::Signature(why));
                    }
                    let is_same = sync.as_ref().is_some_and(|(rev, cid)| {
                        *rev == repo.rev && Some(cid) == repo.commit_cid.as_ref()
                    });
                    if !is_same {
                        tell(What::Sync {
                            loaded: repo.rev.clone().unwrap_or_default(),
                            stored: sync.and_then(|(rev, _)| rev),
                        });
                    }
                    let job = self.job;
                    comparison = Some(RepoComparison::new(
                        job.schema, job.runs, &repo, commit, list,
                    ));
                }
                Err(why) => tell(What::Commit(why)),
            }
        }
        self.current = Some(Current {
            prefix: format!("at://{}/", repo.did),
            repo,
            comparison,
            counts,
            findings,
        });
        Ok(())
    }

    fn finish_current(&mut self) -> Result<(), DbError> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let (repo, findings) = (&current.repo, &mut current.findings);
        if let Some(comparison) = current.comparison {
            let mut tell = |what| findings.push(finding(&repo.did, what));
            comparison.finish(self.txn, &mut current.counts, &mut tell)?;
        }
        current.counts.differing = u64::from(!findings.is_empty());
        if compare_repo::is_compared(repo) {
            let commit_cid = repo.commit_cid.clone();
            self.compared
                .notes
                .extend(commit_cid.map(|commit_cid| Note {
                    did: repo.did.clone(),
                    commit_cid,
                    is_equal: true,
                }));
        }
        (self.job.progress)(current.counts.records);
        let host = current.repo.host;
        self.compared.repos.push((host, current.counts));
        self.compared.findings.append(&mut current.findings);
        Ok(())
    }

    /// Reads repos, and what the ledger and `actor_sync` say of them.
    fn read_repos(&mut self) -> Result<(), DbError> {
        let repos = match &mut self.repos {
            Repos::Range(portal) => verified::next_of_range(self.txn, portal, PAGE)?,
            Repos::Some(repos) => std::mem::take(repos),
        };
        if repos.is_empty() {
            return Ok(());
        }
        let schema = self.job.schema;
        let compared = repos.iter().filter(|repo| compare_repo::is_compared(repo));
        let dids: Vec<&str> = compared.map(|repo| repo.did.as_str()).collect();
        let rows = self.txn.query(
            "SELECT did, \"repoRev\", \"commitCid\" FROM actor_sync WHERE did = ANY($1)",
            &[&dids],
        )?;
        let mut syncs: HashMap<String, (Option<String>, String)> = rows
            .iter()
            .map(|row| (row.get(0), (row.get(1), row.get(2))))
            .collect();
        let beginnings = skipped::beginnings(self.txn, schema, &dids)?;
        let changed = skipped::changed(self.txn, schema, &dids)?;
        for repo in repos {
            let from = beginnings.partition_point(|one| one.did < repo.did);
            let own = beginnings.get(from..).unwrap_or_default();
            let own = own.iter().take_while(|one| one.did == repo.did);
            let own: Vec<_> = own.cloned().collect();
            let list = List::of(&repo.did, &own, changed.contains(&repo.did));
            self.next.push_back(Next {
                sync: syncs.remove(&repo.did),
                list: list.ok(),
                repo,
            });
        }
        Ok(())
    }
}

/// Where the root of a post's thread is among its columns.
const REPLY_ROOT: usize = 4;
/// Where the reason of a notification is among its columns.
const REASON: usize = 4;

fn finding(did: &str, what: What) -> Finding {
    Finding {
        did: did.to_owned(),
        what,
    }
}

/// Whether a row follows from other repos as well.
fn is_relational(info: &TableInfo, row: &Row) -> bool {
    info.id == table::NOTIFICATION.info().id && is_relational_reason(row.get(1 + REASON))
}

fn is_relational_reason(reason: &str) -> bool {
    load::RELATIONAL_REASONS
        .split(", ")
        .any(|known| known.trim_matches('\'') == reason)
}

/// The rows of a record that none of the stored ones equals so far.
struct Unmatched {
    rows: Vec<(TableInfo, Values)>,
    /// Its notifications, if they are many, and how many are the same. A post may mention ten
    /// thousand accounts: each is not compared with each.
    notifications: HashMap<Values, u32>,
    has_foreign_time: bool,
}

/// Notifications of a record that are compared one by one.
const FEW: usize = 16;

impl Unmatched {
    fn new(mut rows: Vec<(TableInfo, Values)>, has_foreign_time: bool) -> Self {
        let id = table::NOTIFICATION.info().id;
        let is_notification = |(info, _): &(TableInfo, Values)| info.id == id;
        let mut notifications = HashMap::new();
        if rows.len() > FEW && rows.iter().filter(|row| is_notification(row)).count() > FEW {
            let (many, others) = rows.into_iter().partition::<Vec<_>, _>(is_notification);
            for (_, values) in many {
                *notifications.entry(values).or_default() += 1;
            }
            rows = others;
        }
        Self {
            rows,
            notifications,
            has_foreign_time,
        }
    }

    /// Takes the row that equals this one; whether there was one.
    fn take(&mut self, info: &TableInfo, row: &Row) -> bool {
        let is_notification = info.id == table::NOTIFICATION.info().id;
        if is_notification && !self.notifications.is_empty() {
            let same = self.notifications.get_mut(&values_of(info, row));
            let same = same.filter(|same| **same > 0);
            return same.map(|same| *same -= 1).is_some();
        }
        let is_free = |name: &str| {
            self.has_foreign_time && info.id == table::PROFILE.info().id && name == "createdAt"
        };
        let is_equal = |values: &Values| {
            let columns = info.columns.iter().zip(values).enumerate();
            columns.into_iter().all(|(at, (column, value))| {
                let stored: Option<&str> = row.get(at + 1);
                let is_same = match (column.kind, stored, value.as_deref()) {
                    (Kind::Jsonb, Some(stored), Some(value)) => {
                        stored == value || record_rows::canonical(stored) == value
                    }
                    (_, stored, value) => stored == value,
                };
                is_same || is_free(column.name)
            })
        };
        let mut rows = self.rows.iter();
        let found = rows.position(|(of, values)| of.id == info.id && is_equal(values));
        found.map(|at| self.rows.swap_remove(at)).is_some()
    }

    /// What is left.
    fn left(self) -> impl Iterator<Item = (TableInfo, Values)> {
        let notifications = self.notifications.into_iter();
        let notifications = notifications.flat_map(|(values, count)| {
            let same = std::iter::repeat_n(values, usize::try_from(count).unwrap_or(0));
            same.map(|values| (table::NOTIFICATION.info(), values))
        });
        self.rows.into_iter().chain(notifications)
    }
}

/// The values of a stored row.
fn values_of(info: &TableInfo, row: &Row) -> Values {
    let columns = info.columns.iter().enumerate();
    columns
        .map(|(at, column)| {
            let text: Option<String> = row.get(at + 1);
            match column.kind {
                Kind::Text => text,
                Kind::Jsonb => text.map(|json| record_rows::canonical(&json)),
            }
        })
        .collect()
}
