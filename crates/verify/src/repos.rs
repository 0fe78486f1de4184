//! Compares the tables with the signed commits, repo by repo.

use crate::finding::{Finding, What};
use crate::pure::{Batch, Rules, Winners};
use crate::strays;
use crate::tree::{List, ListError, is_stored};
use atrepo::{Cid, Codec, Commit, Link, RootBuilder, syntax};
use ledger::repos::{self, Known};
use ledger::runs::{self, Mode};
use ledger::states::State;
use ledger::verified::{self, Note, Which};
use load::{DbError, Notifications};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, Error};
use rows::{Collection, Record, datetime};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Repos that a thread reads from the ledger together.
const PAGE: i64 = 200;
/// Records whose rows are compared together.
const BATCH: usize = 2000;

/// How to verify.
pub struct Verify<'v> {
    /// URL of the database.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// Number of connections that work concurrently.
    pub connections: usize,
    /// Which repos.
    pub which: Which,
    /// Also checks each commit: returns the reason if its signature does not hold.
    pub signature: Option<&'v (dyn Fn(&str, &[u8]) -> Option<String> + Sync)>,
    /// Receives the number of repos that were compared.
    pub progress: &'v (dyn Fn(u64) + Sync),
    /// Receives each finding.
    pub finding: &'v (dyn Fn(&Finding) + Sync),
    /// Whether to stop.
    pub stop: &'v (dyn Fn() -> bool + Sync),
}

/// Counts for one host.
#[derive(Clone, Debug, Default)]
pub struct HostCounts {
    /// Repos by their state.
    pub states: BTreeMap<State, u64>,
    /// Repos that were compared.
    pub verified: u64,
    /// Of those, repos with findings.
    pub differing: u64,
    /// Stored records in the trees of compared repos.
    pub records: u64,
    /// Skipped records in those trees, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By host.
    pub hosts: BTreeMap<String, HostCounts>,
    /// Number of differences between tables and commits.
    pub differences: u64,
    /// Accounts with differences.
    pub differing: Vec<String>,
    /// Rows of accounts that skyfill never loaded, by account.
    pub never_loaded: BTreeMap<String, u64>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// Settings of the runs that filled the tables.
struct Runs {
    /// Whether the first of them found the tables empty: then all times are skyfill's.
    alone: bool,
    nows: Vec<String>,
    notifications: HashMap<i64, Notifications>,
}

impl Verify<'_> {
    /// Compares the repos, and looks for rows without a record. Notes which repos were found equal.
    ///
    /// # Errors
    /// The database. What was found equal stays noted.
    pub fn run(&self) -> Result<Report, DbError> {
        let runs = self.runs(&mut self.connect()?)?;
        let report = Mutex::new(Report::default());
        let cursor = Mutex::new(Some(String::new()));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections.max(1))
                .map(|_| scope.spawn(|| self.worker(&runs, &cursor, &report)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Which::Named(dids) = &self.which {
            for did in repos::unknown(&mut self.connect()?, &self.schema, dids)? {
                let what = What::Commit("the ledger does not know the account".to_owned());
                self.found(&mut report, &Finding { did, what });
            }
        }
        report.stopped = (self.stop)();
        if !report.stopped && matches!(self.which, Which::All(_)) {
            let mut strays = Vec::new();
            strays::find(&mut self.connect()?, &self.schema, &mut |finding| {
                strays.push(finding);
            })?;
            for finding in strays {
                self.found(&mut report, &finding);
            }
        }
        report.differing.sort();
        report.differing.dedup();
        verified::note_differing(&mut self.connect()?, &self.schema, &report.differing)?;
        Ok(report)
    }

    fn found(&self, report: &mut Report, finding: &Finding) {
        if let What::NeverLoaded { rows, .. } = &finding.what {
            *report.never_loaded.entry(finding.did.clone()).or_default() += rows;
        } else {
            report.differences += 1;
            if report.differing.last() != Some(&finding.did) {
                report.differing.push(finding.did.clone());
            }
        }
        (self.finding)(finding);
    }

    fn connect(&self) -> Result<Client, DbError> {
        let mut client = pg::connect(&self.url)?;
        client.batch_execute(&format!(
            "{};
             SET jit = off;
             SET client_min_messages = error",
            pg::search_path(&self.schema)
        ))?;
        Ok(client)
    }

    /// A connection that compares, and writes nothing.
    fn connect_to_compare(&self) -> Result<Client, DbError> {
        let mut client = self.connect()?;
        client.batch_execute("SET default_transaction_read_only = on")?;
        if self.is_of_few() {
            // Of few repos, no table is read as a whole, whatever its statistics say.
            client.batch_execute(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
            )?;
        }
        Ok(client)
    }

    fn is_of_few(&self) -> bool {
        !matches!(self.which, Which::All(_))
    }

    fn runs(&self, client: &mut Client) -> Result<Runs, Error> {
        let all = runs::all(client, &self.schema)?;
        Ok(Runs {
            alone: all.first().is_some_and(|run| run.mode == Mode::Fresh),
            nows: all.iter().map(|run| run.now.clone()).collect(),
            notifications: all
                .iter()
                .map(|run| {
                    let parsed = Notifications::parse(&run.notifications);
                    (run.id, parsed.unwrap_or_default())
                })
                .collect(),
        })
    }

    fn worker(
        &self,
        runs: &Runs,
        cursor: &Mutex<Option<String>>,
        report: &Mutex<Report>,
    ) -> Result<(), DbError> {
        let mut client = self.connect_to_compare()?;
        // A second connection, because the first one is busy with records while lists are read.
        let mut lists = self.connect_to_compare()?;
        let mut notes = self.connect()?;
        while !(self.stop)() {
            let page = {
                let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(after) = cursor.clone() else { break };
                let page = verified::page(&mut client, &self.schema, &after, &self.which, PAGE)?;
                *cursor = page.last().map(|repo| repo.did.clone());
                page
            };
            let mut compared = Vec::new();
            for repo in page {
                if (self.stop)() {
                    break;
                }
                let (mut counts, mut findings) = (HostCounts::default(), Vec::new());
                *counts.states.entry(repo.state).or_default() += 1;
                // A repo that is stored in part has two revs at once.
                if repo.rev.is_some() && repo.state != State::Partial {
                    self.repo(
                        &mut client,
                        &mut lists,
                        runs,
                        &repo,
                        &mut counts,
                        &mut |f| {
                            findings.push(f);
                        },
                    )?;
                    if self.is_of_few() {
                        strays::find_of(&mut client, &self.schema, &repo.did, &mut |finding| {
                            findings.push(finding);
                        })?;
                    }
                    counts.verified = 1;
                    counts.differing = u64::from(!findings.is_empty());
                    compared.extend(repo.commit_cid.clone().map(|commit_cid| Note {
                        did: repo.did.clone(),
                        commit_cid,
                        is_equal: !findings.iter().any(Finding::is_difference),
                    }));
                }
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report
                    .hosts
                    .entry(repo.host.clone())
                    .or_default()
                    .add(&counts);
                for finding in &findings {
                    self.found(&mut report, finding);
                }
                (self.progress)(counts.records);
            }
            verified::note(&mut notes, &self.schema, &compared)?;
        }
        Ok(())
    }

    /// Compares one repo.
    fn repo(
        &self,
        client: &mut Client,
        lists: &mut Client,
        runs: &Runs,
        repo: &Known,
        counts: &mut HostCounts,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), DbError> {
        let did = repo.did.as_str();
        let mut tell = |what| {
            report(Finding {
                did: did.to_owned(),
                what,
            });
        };
        let commit = match checked_commit(repo) {
            Ok(commit) => commit,
            Err(why) => {
                tell(What::Commit(why));
                return Ok(());
            }
        };
        if let Some(signature) = self.signature
            && let Some(why) = signature(did, &commit.block)
        {
            tell(What::Signature(why));
        }
        self.sync(client, repo, &mut tell)?;
        let all = Notifications::All;
        let notifications = repo
            .run
            .and_then(|run| runs.notifications.get(&run))
            .unwrap_or(&all);
        let mut walk = Walk {
            did,
            schema: &self.schema,
            root: RootBuilder::default(),
            list: match List::open(lists, &self.schema, did) {
                Ok(list) => list,
                Err(ListError::Database(error)) => return Err(error.into()),
                Err(ListError::Broken) => {
                    tell(What::List);
                    return Ok(());
                }
            },
            irreversible: HashMap::new(),
            broken_list: false,
            batch: Batch::new(Rules::Own),
            winners: Winners::default(),
            runs,
            notifications,
            found: 0,
        };
        // Two connections: the first streams rows, the second reads what they are compared with,
        // a batch at a time.
        let mut stream = client.query_raw(
            "SELECT uri, cid, json, \"indexedAt\" FROM record WHERE did = $1 ORDER BY uri COLLATE \"C\"",
            [did].iter().map(|did| did as &(dyn ToSql + Sync)),
        )?;
        while let Some(row) = stream.next()? {
            walk.record(
                lists,
                row.get(0),
                row.get(1),
                row.get(2),
                row.get(3),
                counts,
                &mut tell,
            )?;
        }
        drop(stream);
        walk.skip_to(lists, None, counts)?;
        walk.batch
            .compare(lists, did, &mut |finding| tell(finding.what))?;
        let found = walk.found;
        counts.records += found;
        if walk.broken_list {
            tell(What::List);
        }
        let root = walk.root.root();
        if root != commit.data {
            tell(What::Root {
                signed: commit.data.to_string(),
                stored: root.to_string(),
                records: (repo.records, found),
            });
        }
        Ok(())
    }

    fn sync(
        &self,
        client: &mut Client,
        repo: &Known,
        tell: &mut dyn FnMut(What),
    ) -> Result<(), Error> {
        let row = client.query_opt(
            "SELECT \"repoRev\", \"commitCid\" FROM actor_sync WHERE did = $1",
            &[&repo.did],
        )?;
        let stored: Option<(Option<String>, String)> = row.map(|row| (row.get(0), row.get(1)));
        let same = stored
            .as_ref()
            .is_some_and(|(rev, cid)| *rev == repo.rev && Some(cid) == repo.commit_cid.as_ref());
        if !same {
            tell(What::Sync {
                loaded: repo.rev.clone().unwrap_or_default(),
                stored: stored.and_then(|(rev, _)| rev),
            });
        }
        Ok(())
    }
}

impl HostCounts {
    fn add(&mut self, other: &Self) {
        for (state, repos) in &other.states {
            *self.states.entry(*state).or_default() += repos;
        }
        for (reason, records) in &other.skipped {
            *self.skipped.entry(reason.clone()).or_default() += records;
        }
        self.verified += other.verified;
        self.differing += other.differing;
        self.records += other.records;
    }
}

/// The commit in the ledger, if its CID is right and it belongs to this repo.
fn checked_commit(repo: &Known) -> Result<Commit, String> {
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

/// The state of the comparison of one repo.
struct Walk<'w> {
    did: &'w str,
    schema: &'w str,
    root: RootBuilder,
    list: List,
    /// Records whose JSON cannot be converted back: CID and hash of the JSON by key, until the
    /// record is reached.
    irreversible: HashMap<Vec<u8>, ([u8; 36], String)>,
    broken_list: bool,
    batch: Batch<'static>,
    winners: Winners,
    runs: &'w Runs,
    notifications: &'w Notifications,
    found: u64,
}

impl Walk<'_> {
    /// Reads the entries of the list up to `key`.
    fn skip_to(
        &mut self,
        lists: &mut Client,
        key: Option<&[u8]>,
        counts: &mut HostCounts,
    ) -> Result<(), DbError> {
        while !self.broken_list {
            let entry = match self.list.next(lists, self.schema, key) {
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

    #[allow(clippy::too_many_arguments)]
    fn record(
        &mut self,
        lists: &mut Client,
        uri: &str,
        cid_text: &str,
        json: &str,
        indexed_at: &str,
        counts: &mut HostCounts,
        tell: &mut dyn FnMut(What),
    ) -> Result<(), DbError> {
        self.found += 1;
        let wrong = |why: &str| What::Json {
            uri: uri.to_owned(),
            why: why.to_owned(),
        };
        let key = uri
            .strip_prefix("at://")
            .and_then(|rest| rest.strip_prefix(self.did))
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(key) = key else {
            tell(wrong("its URI belongs to another account"));
            return Ok(());
        };
        self.skip_to(lists, Some(key.as_bytes()), counts)?;
        let cid = Link::parse(cid_text).and_then(|bytes| Cid::from_bytes(&bytes));
        let Some(cid) = cid else {
            tell(wrong("its CID is not a CID"));
            return Ok(());
        };
        if !self.root.add(key.as_bytes(), cid) {
            tell(wrong(
                "it is also on the list of skipped records, or stored twice",
            ));
        }
        let irreversible = self.irreversible.remove(key.as_bytes());
        let Some(bytes) = rows::from_stored_json(json) else {
            tell(wrong("its JSON is not that of a record"));
            return Ok(());
        };
        let is_right = match irreversible {
            Some((of, digest)) => {
                of == cid.to_bytes() && digest == Cid::of(Codec::Raw, json.as_bytes()).to_string()
            }
            None => cid.matches(&bytes),
        };
        if !is_right {
            tell(wrong("its content does not match its CID"));
        }
        let parts = syntax::split_key(key.as_bytes());
        let known =
            parts.and_then(|(collection, rkey)| Some((Collection::parse(collection)?, rkey)));
        let value = atrepo::cbor::check(&bytes)
            .ok()
            .and_then(|item| item.as_map());
        let (Some((collection, rkey)), Some(value)) = (known, value) else {
            tell(wrong("its collection is not indexed"));
            return Ok(());
        };
        // JavaScript has read it already, so no byte order mark is dropped.
        let created_at = value.get("createdAt").and_then(|item| item.as_text());
        if !self.is_time(created_at, rkey, indexed_at) {
            tell(What::IndexedAt {
                uri: uri.to_owned(),
                stored: indexed_at.to_owned(),
            });
        }
        let record = Record {
            did: self.did,
            collection,
            rkey,
            uri,
            cid: cid_text,
            indexed_at,
            value,
        };
        if let Err(why) = self.batch.add(
            &record,
            self.notifications,
            &mut self.winners,
            self.runs.alone,
        ) {
            // Its JSON is wrong, or it should have been skipped.
            tell(wrong(&why));
        }
        if self.batch.len() >= BATCH {
            let did = self.did;
            self.batch
                .compare(lists, did, &mut |finding| tell(finding.what))?;
        }
        Ok(())
    }

    /// Whether `indexedAt` follows from the record, or is the time of a run.
    fn is_time(&self, created_at: Option<&str>, rkey: &str, stored: &str) -> bool {
        if !self.runs.alone {
            return true;
        }
        let of_record = datetime::indexed_at(created_at, rkey, i64::MAX);
        if of_record != i64::MAX && datetime::print(of_record) == stored {
            return true;
        }
        self.runs.nows.iter().any(|now| now == stored)
    }
}
