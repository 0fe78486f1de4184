//! Hands out the repos of an archive in an object store in the order in which they lie there, so
//! that each segment is read once, from its start to its end. Hosts in the order of DIDs would cost
//! a request per repo.
//!
//! The ledger says which of them are pending, and under which lease. What is left when the archive
//! has come to its end (hosts that another process had leased, repos that it lacks) is handed out
//! host by host, as from the network.

use archive::{Archive, InOrder};
use ledger::open::Which;
use ledger::repos::{self, Open};
use load::DbError;
use postgres::Client;
use std::collections::VecDeque;
use std::sync::Arc;

/// Accounts that the ledger is asked for at once.
const PAGE: usize = 500;
/// Repos that wait for their bytes at once. They lie side by side, in a few pieces of a segment.
pub(crate) const ASKING: u64 = 64;

/// The repos of an archive, in its order.
pub(crate) struct InOrderFeed {
    archive: Arc<Archive>,
    at: InOrder,
    page: VecDeque<(Open, String)>,
}

impl InOrderFeed {
    pub(crate) fn new(archive: Arc<Archive>) -> Self {
        archive.expect_order(true);
        Self {
            archive,
            at: InOrder::default(),
            page: VecDeque::new(),
        }
    }

    /// The next pending repo, with its host; nothing at the end.
    pub(crate) fn next(
        &mut self,
        client: &mut Client,
        (schema, which): (&str, Which),
    ) -> Result<Option<(Open, String)>, DbError> {
        while self.page.is_empty() {
            let dids = match self.archive.in_order(&mut self.at, PAGE) {
                Ok(dids) => dids,
                Err(error) => {
                    tracing::warn!("{error}; the rest is read repo by repo");
                    return Ok(None);
                }
            };
            if dids.is_empty() {
                return Ok(None);
            }
            self.page
                .extend(repos::open_named(client, schema, &dids, which)?);
        }
        Ok(self.page.pop_front())
    }
}

impl Drop for InOrderFeed {
    fn drop(&mut self) {
        self.archive.expect_order(false);
    }
}
