//! Accounts that two hosts claim, or that a list names without a host: their DID documents say
//! where they are.

use crate::discovery::{Listing, Scout};
use crate::fetch_args;
use crate::identities::good;
use fetch::hosts::host_of;
use identity::resolve::Found;
use ledger::claims;
use ledger::identity::DocumentNote;
use ledger::listing::{self, Settled};
use process::Failure;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Documents that are asked for at once; the directory's pace is its own.
const AT_ONCE: usize = 64;
/// Accounts of a batch, stored in one transaction.
const BATCH: i64 = 500;
/// Contested accounts that the directory is asked about in a pass: at its default pace that takes a
/// quarter of an hour. The others wait, so that nobody who claims what is not his holds up a pass.
const MOST_CONTESTED: usize = 20_000;

impl Scout<'_> {
    /// Asks for the documents of all accounts that are not settled. False if it was told to stop.
    pub(super) fn settle(&self, listing: &mut Listing<'_>) -> Result<bool, Failure> {
        let Listing { client, counts, .. } = listing;
        let schema = &self.database.schema;
        let documents = Arc::new(fetch_args::documents(
            self.directory,
            self.caller,
            self.fetch.allow_private_hosts,
            self.fetch.max_attempts,
        )?);
        let (mut after, mut contested) = (String::new(), 0);
        loop {
            // What a batch taught of hosts settles much of the rest.
            client.run(|client| claims::pass_over_liars(client, schema))?;
            let contested_too = contested < MOST_CONTESTED;
            let batch = client
                .run(|client| listing::unsettled(client, schema, &after, BATCH, contested_too))?;
            let Some((last, _)) = batch.last() else {
                return Ok(true);
            };
            after.clone_from(last);
            contested += batch
                .iter()
                .filter(|(_, is_contested)| *is_contested)
                .count();
            let found = self.runtime.block_on(async {
                let mut tasks = JoinSet::new();
                let mut found = Vec::new();
                for (did, _) in batch {
                    if tasks.len() >= AT_ONCE
                        && let Some(Ok(one)) = tasks.join_next().await
                    {
                        found.push(one);
                    }
                    if self.stop.is_set() {
                        break;
                    }
                    let (documents, stop) = (Arc::clone(&documents), self.stop.clone());
                    tasks.spawn(async move {
                        tokio::select! {
                            document = documents.resolve(&did) => (did, Some(document)),
                            () = stop.wait() => (did, None),
                        }
                    });
                }
                found.extend(tasks.join_all().await);
                found
            });
            let notes: Vec<DocumentNote> = found
                .iter()
                .filter_map(|(did, found)| match found {
                    Some(Found::Document(document)) => Some(good(did.clone(), document.clone())),
                    _ => None,
                })
                .collect();
            client.run(|client| ledger::identity::add_documents(client, schema, &notes))?;
            let settled: Vec<(String, Settled)> = found
                .into_iter()
                .filter_map(|(did, found)| {
                    Some(match found? {
                        Found::Document(document) => {
                            let host = host_of(&document.pds);
                            (did, Settled::On(document.pds, host))
                        }
                        // Without a document that can be read the network does not know the
                        // account.
                        Found::Gone | Found::Useless(_) | Found::Unsupported => {
                            (did, Settled::Nowhere)
                        }
                        Found::Unreachable(_) => return None,
                    })
                })
                .collect();
            client.run(|client| listing::settle(client, schema, &settled))?;
            counts.settled.add(settled.len() as u64);
            if self.stop.is_set() {
                return Ok(false);
            }
        }
    }
}
