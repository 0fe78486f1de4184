//! One attempt at `com.atproto.sync.getLatestCommit`.

use crate::client::Client;
use crate::error::FetchError;
use crate::get_repo::repo_url;
use crate::get_small::SmallRequest;
use crate::schedule::Observed;
use serde::Deserialize;

/// Largest response of `getLatestCommit`, in bytes.
const MAX_LATEST: u64 = 64 << 10;

/// The newest commit of a repo, according to its host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// Its rev.
    pub rev: String,
    /// Its CID.
    pub cid: String,
}

impl Client {
    /// Requests rev and CID of the newest commit of `did` from `pds`, once
    /// (`com.atproto.sync.getLatestCommit`).
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn latest_commit(
        &self,
        did: &str,
        pds: &str,
        seen: &mut Observed,
    ) -> Result<Latest, FetchError> {
        let mut url = repo_url(did, pds)?;
        url.set_path("/xrpc/com.atproto.sync.getLatestCommit");
        let request = SmallRequest {
            url: url.as_str(),
            accept: "application/json",
            host: None,
        };
        let body = self.get_small_within(request, seen, MAX_LATEST).await?;
        serde_json::from_slice(&body)
            .map_err(|_| FetchError::BrokenBody("no commit in it".to_owned()))
    }
}
