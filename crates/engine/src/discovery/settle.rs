//! Decides accounts that two hosts list, or that a list names without a host: their DID documents
//! name the host.

use crate::discovery::context::{Discovery, OpenPass};
use crate::documents::good;
use fetch::hosts::host_of;
use identity::resolve::{Found, Resolver};
use ledger::claims;
use ledger::identity::DocumentNote;
use ledger::listing::{self, Settled};
use process::{Failure, Stop};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Documents that are asked for concurrently; the directory's pace is its own.
const AT_ONCE: usize = 64;
/// Accounts of a batch, stored in one transaction.
const BATCH: i64 = 500;
/// Contested accounts that the directory is asked about in a pass: at its default pace that takes a
/// quarter of an hour. The others wait, so that nobody who claims what is not his holds up a pass.
const MOST_CONTESTED: usize = 20_000;

/// Asks for the documents of all accounts that are not settled. False if it was stopped.
pub(crate) fn settle(discovery: &Discovery<'_>, open: &mut OpenPass<'_>) -> Result<bool, Failure> {
    let OpenPass { client, counts, .. } = open;
    let (schema, stop) = (&discovery.database.schema, discovery.stop);
    let documents = discovery
        .directory
        .documents(discovery.fetch.max_attempts)?;
    let documents = Arc::new(documents);
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
        let dids = batch.into_iter().map(|(did, _)| did).collect();
        let found = discovery
            .runtime
            .block_on(look_up_all(dids, &documents, stop));
        let notes: Vec<DocumentNote> = found
            .iter()
            .filter_map(|(did, found)| match found {
                Found::Document(document) => Some(good(did.clone(), document.clone())),
                _ => None,
            })
            .collect();
        client.run(|client| ledger::identity::add_documents(client, schema, &notes))?;
        let settled: Vec<(String, Settled)> = found
            .into_iter()
            .filter_map(|(did, found)| Some((did, where_it_is(found)?)))
            .collect();
        client.run(|client| listing::settle(client, schema, &settled))?;
        counts.settled.add(settled.len() as u64);
        if stop.is_set() {
            return Ok(false);
        }
    }
}

/// Asks for documents; what was not answered when it was stopped is left out.
async fn look_up_all(
    dids: Vec<String>,
    documents: &Arc<Resolver>,
    stop: &Stop,
) -> Vec<(String, Found)> {
    let mut tasks = JoinSet::new();
    let mut found = Vec::new();
    for did in dids {
        if tasks.len() >= AT_ONCE
            && let Some(Ok(one)) = tasks.join_next().await
        {
            found.push(one);
        }
        if stop.is_set() {
            break;
        }
        let (documents, stop) = (Arc::clone(documents), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                document = documents.resolve(&did) => Some((did, document)),
                () = stop.wait() => None,
            }
        });
    }
    found.extend(tasks.join_all().await);
    found.into_iter().flatten().collect()
}

/// What a document says of where the account is, if it could be read.
fn where_it_is(found: Found) -> Option<Settled> {
    match found {
        Found::Document(document) => {
            let host = host_of(&document.pds);
            Some(Settled::On(document.pds, host))
        }
        // Without a document that can be read the network does not know the account.
        Found::Gone | Found::Useless(_) | Found::Unsupported => Some(Settled::Nowhere),
        Found::Unreachable(_) => None,
    }
}
