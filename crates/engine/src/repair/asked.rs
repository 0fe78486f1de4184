//! What a repair is asked for, and what it asks of the network for an account.

use crate::documents::Directory;
use crate::fresh_repo::{Fresh, FreshRepos, NoRepo};
use fetch::Spool;
use identity::document::Document;
use std::sync::Arc;

/// What is repaired, and how.
pub struct Options {
    /// The accounts, by DID or handle.
    pub accounts: Vec<String>,
    /// The latest that any record's `indexedAt` can be, in milliseconds since 1970.
    pub now: i64,
    /// Whether the rows of an account go if its host no longer has it while its document still
    /// names that host.
    pub accept_deletions: bool,
    /// How hosts are asked.
    pub fetch: fetch::Options,
    /// Where bodies lie that are too large for memory.
    pub spool: Spool,
    /// Where documents and handles are asked for.
    pub directory: Directory,
}

/// What was fetched of an account: its document, and its repo.
pub(super) type Fetched = (Option<Document>, Result<Fresh, NoRepo>);

/// Fetches both.
pub(super) async fn fetched(fresh: Arc<FreshRepos>, did: String) -> Fetched {
    match fresh.document(&did).await {
        Ok(document) => {
            let repo = fresh.repo_of(&did, document.clone()).await;
            (Some(document), repo)
        }
        Err(no_repo) => (None, Err(no_repo)),
    }
}
