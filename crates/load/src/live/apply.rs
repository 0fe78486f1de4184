//! A connection that applies batches of commits. One transaction holds the rows of a batch, what it
//! changes in the ledger, and what could not be applied.

use super::making::{About, Made, Making, RecordOutcome};
use super::{LiveCommit, rivals};
use crate::accounts::Accounts;
use crate::choice::Choice;
use crate::chunk::LoadedRepo;
use crate::differing::Difference;
use crate::encode_repo::masks_of;
use crate::fresh::Probes;
use crate::loader::commit;
use crate::staged::Staged;
use crate::{replace, revs};
use appview::table::{self, TableInfo};
use atrepo::{Cid, Commit};
use bytes::Bytes;
use ledger::changes::Noting;
use ledger::failpoint;
use ledger::fold;
use ledger::follow::{self, Advanced, Behind, Held};
use ledger::skipped::{self, Change, Reason, Skipped};
use ledger::states::State;
use pg::{DbError, DbErrorKind};
use postgres::Client;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Commits are applied in one transaction up to this size. The rows of a record may take six times
/// its size as JSON, and are held twice until the server has them: 48 MiB for a connection.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// The options of an applier.
#[derive(Clone, Debug)]
pub struct ApplierOptions {
    /// Where to connect to.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// What is loaded.
    pub choice: Choice,
    /// Columns of btree indexes, as [`crate::fresh::indexed_columns`] finds them.
    pub indexed: Vec<(String, String)>,
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Commits whose rows are stored now.
    pub commits: u64,
    /// Commits that were stored before.
    pub repeated: u64,
    /// Commits with a rev in the future.
    pub refused: u64,
    /// Repos that were opened, to be fetched.
    pub opened: u64,
}

/// A connection that applies commits.
pub struct Applier {
    options: ApplierOptions,
    making: Making,
    client: Option<Client>,
    probes: Probes,
    staged: Staged,
}

/// The commits of a repo that are applied.
struct Applying<'c> {
    held: &'c Held,
    commits: Vec<&'c LiveCommit>,
}

/// What becomes of a key.
struct Fate<'c> {
    did: &'c str,
    existed: bool,
    time: &'c str,
    now: Option<&'c (Cid, Bytes)>,
}

/// How the counts of a repo change.
#[derive(Clone, Copy, Default)]
struct Delta {
    records: i64,
    skipped: i64,
    duplicates: i64,
}

impl Applier {
    /// An applier that connects at the first use.
    #[must_use]
    pub fn new(options: ApplierOptions) -> Self {
        Self {
            making: Making {
                choice: options.choice.clone(),
                indexed: masks_of(&options.indexed),
            },
            client: None,
            probes: Probes::new(&options.url, &options.schema),
            staged: Staged::default(),
            options,
        }
    }

    /// Applies commits, those of a repo in their order, and notes `behind`. Where the server
    /// refuses a value, the repo that has it is left to a merge.
    ///
    /// # Errors
    /// See [`DbError`]. What was stored before, a second call finds stored.
    pub fn apply(&mut self, commits: &[LiveCommit], behind: &[Behind]) -> Result<Applied, DbError> {
        let (mut total, mut rest) = (Applied::default(), commits);
        loop {
            let (part, after) = rest.split_at(fitting(rest));
            let behind = if after.is_empty() { behind } else { &[] };
            total.add(match self.apply_once(part, behind) {
                Err(error) if error.kind == DbErrorKind::Data => self.apply_apart(part, behind)?,
                outcome => outcome?,
            });
            if after.is_empty() {
                return Ok(total);
            }
            rest = after;
        }
    }

    fn apply_once(
        &mut self,
        commits: &[LiveCommit],
        behind: &[Behind],
    ) -> Result<Applied, DbError> {
        let outcome = self.try_apply(commits, behind.to_vec());
        if let Err(error) = &outcome {
            tracing::debug!(%error, commits = commits.len(), "a batch of commits was not stored");
            self.client = None;
        }
        outcome
    }

    /// Halves a batch until the repo that the server refuses stands alone.
    fn apply_apart(
        &mut self,
        commits: &[LiveCommit],
        behind: &[Behind],
    ) -> Result<Applied, DbError> {
        let mut total = self.apply_once(&[], behind)?;
        let mut dids: Vec<&str> = commits.iter().map(|commit| commit.did.as_str()).collect();
        dids.sort_unstable();
        dids.dedup();
        let mut halves = vec![dids];
        while let Some(dids) = halves.pop() {
            let part = |commit: &&LiveCommit| dids.binary_search(&commit.did.as_str()).is_ok();
            let part: Vec<LiveCommit> = commits.iter().filter(part).cloned().collect();
            let applied = match self.apply_once(&part, &[]) {
                Err(error) if error.kind == DbErrorKind::Data && dids.len() > 1 => {
                    let (left, right) = dids.split_at(dids.len() / 2);
                    halves.extend([left.to_vec(), right.to_vec()]);
                    continue;
                }
                Err(error) if error.kind == DbErrorKind::Data => {
                    let refused = part
                        .iter()
                        .map(|commit| fall(commit, "it cannot be stored by itself"));
                    self.apply_once(&[], &refused.collect::<Vec<_>>())?
                }
                applied => applied?,
            };
            total.add(applied);
        }
        Ok(total)
    }

    fn try_apply(
        &mut self,
        commits: &[LiveCommit],
        mut behind: Vec<Behind>,
    ) -> Result<Applied, DbError> {
        let schema = self.options.schema.clone();
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                let mut client = pg::connect(&self.options.url)?;
                replace::prepare_session(&mut client, &schema)?;
                self.staged = Staged::default();
                client
            }
        };
        client.batch_execute(&format!("BEGIN; {}", replace::BY_INDEX))?;
        if !commits.is_empty() {
            self.staged.begin(&mut client)?;
        }
        // All at once, in the order in which loaders lock them.
        let named = behind.iter().map(|behind| behind.did.clone());
        let commits_of = commits.iter().map(|commit| commit.did.clone());
        let dids: BTreeSet<String> = named.chain(commits_of).collect();
        let dids: Vec<&str> = dids.iter().map(String::as_str).collect();
        let held = follow::lock(&mut client, &schema, &dids)?;
        let mut applied = Applied::default();
        let applying = choose(&held, commits, &mut behind, &mut applied);
        let noting = Noting::begin(&mut client, &schema)?;
        if !applying.is_empty() {
            self.store(&mut client, &applying, &noting)?;
        }
        applied.opened = follow::note_behind(&mut client, &schema, &behind)?;
        failpoint::pass("commit");
        commit(&mut client, &noting)?;
        failpoint::pass("committed");
        if !commits.is_empty() {
            self.staged.committed();
        }
        self.client = Some(client);
        Ok(applied)
    }

    /// Stores the rows of commits that continue what is stored.
    fn store(
        &mut self,
        client: &mut Client,
        applying: &[Applying<'_>],
        noting: &Noting,
    ) -> Result<(), DbError> {
        let schema = self.options.schema.clone();
        let fates = fates(applying);
        let touched = stored_of(client, &fates)?;
        let mut deltas: HashMap<&str, Delta> = HashMap::new();
        let (made, changes) = self.make(&fates, &touched, &mut deltas)?;
        let rivals = rivals::read(client, &self.making, &made, &touched)?;
        let all: Vec<&Made> = made.iter().chain(&rivals).collect();
        let winners = rivals::winners(&all);
        self.stage(client, &all, &winners)?;
        let known: HashMap<&str, &str> = applying
            .iter()
            .map(|one| (one.held.did.as_str(), one.held.did.as_str()))
            .collect();
        for (made, winner) in all.iter().zip(&winners) {
            if let Some(did) = known.get(made.did.as_str()) {
                deltas.entry(*did).or_default().duplicates += i64::from(winner.is_some());
            }
        }
        let difference = Difference {
            accounts: known.keys().map(|did| (*did).to_owned()).collect(),
            touched: touched
                .iter()
                .cloned()
                .chain(rivals.iter().map(|rival| rival.uri.clone()))
                .collect(),
        };
        for did in duplicates_of(client, &difference.touched)? {
            if let Some(did) = known.get(did.as_str()) {
                deltas.entry(*did).or_default().duplicates -= 1;
            }
        }
        let repos: Vec<LoadedRepo> = known.keys().map(|did| repo_of(did)).collect();
        let staged = (repos.as_slice(), &mut self.staged);
        // What is applied continues a stored commit, and is not to be written anew.
        replace::apply_to_own(client, staged, &difference, noting)?;
        skipped::store_changes(client, &schema, &changes)?;
        let changed: BTreeSet<&str> = changes.iter().map(|change| change.did.as_str()).collect();
        fold::fold_long(client, &schema, &changed.into_iter().collect::<Vec<_>>())?;
        note(client, &schema, applying, &deltas)?;
        Ok(())
    }

    /// The rows of what came and changed, and how the lists of skipped records change.
    fn make<'c>(
        &mut self,
        fates: &BTreeMap<String, Fate<'c>>,
        touched: &BTreeSet<String>,
        deltas: &mut HashMap<&'c str, Delta>,
    ) -> Result<(Vec<Made>, Vec<Change>), DbError> {
        let (mut all, mut changes) = (Vec::new(), Vec::new());
        for (uri, fate) in fates {
            let delta = deltas.entry(fate.did).or_default();
            let key = uri
                .get("at://".len() + fate.did.len() + 1..)
                .unwrap_or_default();
            let had_row = touched.contains(uri);
            let was_skipped = fate.existed && !had_row;
            delta.records -= i64::from(had_row);
            delta.skipped -= i64::from(was_skipped);
            let mut change = |entry| {
                changes.push(Change {
                    did: fate.did.to_owned(),
                    key: key.as_bytes().to_vec(),
                    entry,
                });
            };
            let Some((cid, block)) = fate.now else {
                if was_skipped {
                    change(None);
                }
                continue;
            };
            let cid_text = cid.to_string();
            let about = About {
                did: fate.did,
                cid: &cid_text,
                indexed_at: fate.time,
            };
            let probes = &mut self.probes;
            let mut refused = None;
            let mut probe = |rows: &[(TableInfo, &[u8])]| {
                probes.ask(rows).map_err(|error| {
                    let why = error.to_string();
                    refused = Some(error);
                    why
                })
            };
            let made = self.making.of_block(&about, (key, *cid, block), &mut probe);
            let entry = |reason, detail| Skipped {
                key: key.as_bytes().to_vec(),
                cid: cid.to_bytes(),
                reason,
                detail,
            };
            match made {
                Ok(RecordOutcome::Rows(made)) => {
                    delta.records += 1;
                    match &made.irreversible {
                        Some(digest) => change(Some(entry(Reason::Irreversible, digest.clone()))),
                        None if was_skipped => change(None),
                        None => {}
                    }
                    all.push(*made);
                }
                Ok(RecordOutcome::Skipped(reason, detail)) => {
                    delta.skipped += 1;
                    change(Some(entry(reason, detail)));
                }
                Err(why) => return Err(refused.unwrap_or_else(|| DbError::other(why))),
            }
        }
        Ok((all, changes))
    }

    fn stage(
        &mut self,
        client: &mut Client,
        all: &[&Made],
        winners: &[Option<String>],
    ) -> Result<(), DbError> {
        let mut staged: Vec<Vec<u8>> = table::ALL.iter().map(|_| Vec::new()).collect();
        for (made, winner) in all.iter().zip(winners) {
            made.append_to(&mut staged, winner.as_deref());
        }
        let tables = table::ALL.iter().zip(&staged);
        let tables: Vec<(TableInfo, &[u8])> = tables
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(info, rows)| (*info, rows.as_slice()))
            .collect();
        self.staged.stage(client, &tables)
    }
}

/// How many of the commits are applied in one transaction: as many as fit, and at least one.
fn fitting(commits: &[LiveCommit]) -> usize {
    let mut bytes = 0usize;
    let fits = |commit: &&LiveCommit| {
        bytes = bytes.saturating_add(commit.bytes());
        bytes <= MOST_BYTES
    };
    let count = commits.iter().take_while(fits).count();
    count.max(1).min(commits.len())
}

impl Applied {
    /// Adds what came of another batch.
    pub fn add(&mut self, other: Self) {
        self.commits += other.commits;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.opened += other.opened;
    }
}

fn repo_of(did: &str) -> LoadedRepo {
    LoadedRepo {
        did: did.to_owned(),
        ..LoadedRepo::default()
    }
}

/// A repo whose commit cannot be applied.
fn behind_of(commit: &LiveCommit, reason: &'static str) -> Behind {
    Behind {
        did: commit.did.clone(),
        rev: commit.rev.clone(),
        is_signed: true,
        reason,
        is_fall: false,
        is_deleted: false,
        at: Some(commit.at.clone()),
    }
}

/// The same where the repo or its host is the cause.
fn fall(commit: &LiveCommit, reason: &'static str) -> Behind {
    Behind {
        is_fall: true,
        ..behind_of(commit, reason)
    }
}

/// The commits that continue what is stored, by repo. Others are counted or are behind.
fn choose<'c>(
    held: &'c [Held],
    commits: &'c [LiveCommit],
    behind: &mut Vec<Behind>,
    applied: &mut Applied,
) -> Vec<Applying<'c>> {
    let newest_believed = revs::newest_believed();
    let mut by_did: BTreeMap<&str, Vec<&LiveCommit>> = BTreeMap::new();
    for commit in commits {
        by_did.entry(&commit.did).or_default().push(commit);
    }
    let mut all = Vec::new();
    for (did, commits) in by_did {
        let held = held
            .binary_search_by(|held| held.did.as_str().cmp(did))
            .ok()
            .and_then(|at| held.get(at));
        let mut chosen = Vec::new();
        let stored = held.and_then(|held| held.stored.as_ref());
        let mut at = stored.map(|(rev, block)| {
            let root = Commit::parse(block).ok().map(|commit| commit.data);
            (rev.as_str(), root)
        });
        for commit in commits {
            if commit.rev > newest_believed {
                applied.refused += 1;
                continue;
            }
            let Some((rev, root)) = at.filter(|_| held.is_some()) else {
                // Its document may name a host that does not have it.
                behind.push(fall(commit, "it is not stored yet"));
                continue;
            };
            if commit.rev.as_str() <= rev {
                applied.repeated += 1;
                continue;
            }
            let state = held.map(|held| (held.state, held.is_rebuilt));
            match state {
                Some((State::Loaded | State::Failed, false)) => {}
                Some((State::Pending | State::Partial | State::Unresolved, _) | (_, true)) => {
                    behind.push(behind_of(commit, "it is being fetched"));
                    continue;
                }
                _ => {
                    behind.push(fall(commit, "the account was not active"));
                    continue;
                }
            }
            if root != Some(commit.prev_data) {
                behind.push(fall(commit, "it does not continue what is stored"));
                continue;
            }
            chosen.push(commit);
            at = Some((commit.rev.as_str(), Some(commit.data)));
        }
        applied.commits += chosen.len() as u64;
        if let (Some(held), false) = (held, chosen.is_empty()) {
            all.push(Applying {
                held,
                commits: chosen,
            });
        }
    }
    all
}

/// What becomes of each record, by URI.
fn fates<'c>(applying: &[Applying<'c>]) -> BTreeMap<String, Fate<'c>> {
    let mut fates: BTreeMap<String, Fate<'c>> = BTreeMap::new();
    for commit in applying.iter().flat_map(|one| one.commits.iter().copied()) {
        for op in &commit.ops {
            let uri = format!("at://{}/{}", commit.did, op.key);
            let fate = fates.entry(uri).or_insert(Fate {
                did: &commit.did,
                existed: op.existed,
                time: &commit.time,
                now: None,
            });
            (fate.now, fate.time) = (op.now.as_ref(), &commit.time);
        }
    }
    // What came and went within the batch was never there.
    fates.retain(|_, fate| fate.existed || fate.now.is_some());
    fates
}

/// Of the records that were there before the ones that are in `record`; the others were skipped.
fn stored_of(
    client: &mut Client,
    fates: &BTreeMap<String, Fate<'_>>,
) -> Result<BTreeSet<String>, DbError> {
    let existed = fates.iter().filter(|(_, fate)| fate.existed);
    let uris: Vec<&String> = existed.map(|(uri, _)| uri).collect();
    if uris.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = client.query(
        "SELECT r.uri FROM unnest($1::text[]) n (uri)
           CROSS JOIN LATERAL (SELECT uri FROM record r WHERE r.uri = n.uri OFFSET 0) r",
        &[&uris],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The accounts of those of these records that are duplicates, once for each.
fn duplicates_of(client: &mut Client, uris: &[String]) -> Result<Vec<String>, DbError> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(
        "SELECT split_part(d.uri, '/', 3) FROM unnest($1::text[]) n (uri)
           CROSS JOIN LATERAL (SELECT uri FROM duplicate_record d WHERE d.uri = n.uri OFFSET 0) d",
        &[&uris],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Marks the repos as stored at their newest commits.
fn note(
    client: &mut Client,
    schema: &str,
    applying: &[Applying<'_>],
    deltas: &HashMap<&str, Delta>,
) -> Result<(), DbError> {
    let mut accounts = Accounts::default();
    let mut cids = Vec::new();
    let last = |one: &'_ Applying<'_>| {
        one.commits
            .last()
            .map(|commit| commit.commit_cid.to_string())
    };
    cids.extend(applying.iter().filter_map(last));
    let mut advanced = Vec::new();
    for (one, cid) in applying.iter().zip(&cids) {
        let Some(commit) = one.commits.last() else {
            continue;
        };
        let delta = deltas.get(commit.did.as_str()).copied().unwrap_or_default();
        let (pds, host) = &commit.at;
        advanced.push(Advanced {
            did: &commit.did,
            rev: &commit.rev,
            commit_cid: cid,
            commit: &commit.commit,
            records: delta.records,
            skipped: delta.skipped,
            duplicates: delta.duplicates,
            moved_to: (*host != one.held.host).then_some((pds.as_str(), host.as_str())),
        });
        accounts.repo(&commit.did, &commit.rev, cid);
    }
    follow::advanced(client, schema, &advanced)?;
    accounts.store(client, schema)?;
    Ok(())
}
