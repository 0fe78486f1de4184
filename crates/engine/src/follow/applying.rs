//! Stores verified batches: commits on several connections, each account always on the same one;
//! then what was learned of accounts, and the cursor.
//!
//! The cursor moves when all connections have committed. After a crash in between, what some of
//! them stored comes again, is older than what is stored, and changes nothing.

use super::verifying::Batch;
use ledger::follow::{self, Behind};
use ledger::identity::DocumentNote;
use ledger::{failpoint, identity, repos};
use load::live::{Applied, Applier, ApplierOptions, LiveCommit};
use pg::{DbError, Step};
use postgres::Client;
use process::stop::UNTIL_HURRIED;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Connections that store commits.
pub(super) struct Appliers {
    appliers: Vec<Applier>,
}

impl Appliers {
    pub(super) fn new(options: &ApplierOptions, connections: usize) -> Self {
        let applier = |_| Applier::new(options.clone());
        Self {
            appliers: (0..connections.max(1)).map(applier).collect(),
        }
    }

    /// Stores the commits of a batch, and notes what is behind.
    pub(super) fn apply(&mut self, batch: &mut Batch) -> Result<Applied, DbError> {
        let count = self.appliers.len();
        let mut shares: Vec<(Vec<LiveCommit>, Vec<Behind>)> =
            (0..count).map(|_| Default::default()).collect();
        for commit in std::mem::take(&mut batch.commits) {
            shares[share_of(&commit.did, count)].0.push(commit);
        }
        for behind in std::mem::take(&mut batch.behind) {
            shares[share_of(&behind.did, count)].1.push(behind);
        }
        let outcomes: Vec<Result<Applied, DbError>> = std::thread::scope(|scope| {
            let work = self.appliers.iter_mut().zip(&shares);
            let work =
                work.filter(|(_, (commits, behind))| !(commits.is_empty() && behind.is_empty()));
            let threads: Vec<_> = work
                .map(|(applier, (commits, behind))| {
                    scope.spawn(move || {
                        pg::persist(Step::Short, UNTIL_HURRIED, || {
                            applier.apply(commits, behind)
                        })
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let mut total = Applied::default();
        for outcome in outcomes {
            total.add(outcome?);
        }
        Ok(total)
    }
}

/// The connection that an account has.
fn share_of(did: &str, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    did.hash(&mut hasher);
    // The remainder is less than the number of connections.
    usize::try_from(hasher.finish() % count as u64).unwrap_or(0)
}

/// Stores what a batch says of accounts, and the cursor, once its commits are stored. Of accounts
/// whose repos the ledger does not know nothing is kept: anybody can make them up.
pub(super) fn note(
    client: &mut Client,
    schema: &str,
    batch: &Batch,
    cursors: &[(String, i64)],
) -> Result<(), DbError> {
    failpoint::pass("event-batch");
    let mut txn = client.transaction()?;
    let named = batch.documents.iter().map(|note| &note.did);
    let named: HashSet<&String> = named.chain(&batch.changed).collect();
    let mut named: Vec<String> = named.into_iter().cloned().collect();
    named.sort_unstable();
    if !named.is_empty() {
        let unknown: HashSet<String> = repos::unknown(&mut txn, schema, &named)?
            .into_iter()
            .collect();
        named.retain(|did| !unknown.contains(did));
        let dids: Vec<&str> = named.iter().map(String::as_str).collect();
        identity::hold(&mut txn, schema, &dids, batch.documents.iter())?;
    }
    let is_named = |did: &String| named.binary_search(did).is_ok();
    // The documents came before the events of this batch were read.
    let documents = batch.documents.iter().filter(|note| is_named(&note.did));
    let documents: Vec<DocumentNote> = documents.cloned().collect();
    if !documents.is_empty() {
        identity::add_documents(&mut txn, schema, &documents)?;
    }
    let mut changed: Vec<&String> = batch.changed.iter().filter(|did| is_named(did)).collect();
    changed.sort_unstable();
    changed.dedup();
    let changed: Vec<&str> = changed.into_iter().map(String::as_str).collect();
    follow::look_up_again(&mut txn, schema, &changed)?;
    if let Some(cursor) = batch.cursor {
        follow::set_cursor(&mut txn, schema, &batch.relay, cursor)?;
    }
    for (relay, cursor) in cursors {
        if *relay != batch.relay {
            follow::set_cursor(&mut txn, schema, relay, *cursor)?;
        }
    }
    txn.commit()?;
    Ok(())
}
