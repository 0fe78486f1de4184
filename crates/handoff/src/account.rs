//! Lines about accounts, which skyfill's own producer and consumer exchange in addition to the
//! records of the line form: `{"type":"repo","data":{"did":D,"rev":R,"commit":K}}` after the
//! records of a repo, and `{"type":"account","data":{"did":D,"status":S}}` for an account without a
//! repo to fetch.
//!
//! The original scripts know neither. A consumer that does sends a [`GREETING`] when a producer
//! connects; other consumers get nothing but records.

use atrepo::{Cid, Link, syntax};
use serde::Deserialize;
use std::borrow::Cow;

/// The first line of a consumer that knows lines about accounts.
pub const GREETING: &[u8] =
    b"{\"type\":\"consumer\",\"takes\":[\"commit\",\"repo\",\"account\",\"frames\"]}\n";

/// A line about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// All records of this repo have been sent.
    Repo {
        /// The account.
        did: String,
        /// Revision of the repo, a TID.
        rev: String,
        /// CID of its commit.
        commit: String,
    },
    /// The account is not active.
    Status {
        /// The account.
        did: String,
        /// `deactivated`, `suspended` or `takendown`.
        status: String,
    },
}

/// States that the AppView knows (`updateActorStatus` in `data-plane/server/indexing/index.ts`).
pub const STATUSES: &[&str] = &["deactivated", "suspended", "takendown"];

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    did: Cow<'a, str>,
    #[serde(borrow)]
    rev: Option<Cow<'a, str>>,
    #[serde(borrow)]
    commit: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

impl Account {
    /// Parses a line about an account; `None` if the line is about a record.
    ///
    /// # Errors
    /// What is wrong with a line about an account.
    pub fn parse(line: &[u8]) -> Option<Result<Self, String>> {
        let is_repo = line.starts_with(br#"{"type":"repo","#);
        if !is_repo && !line.starts_with(br#"{"type":"account","#) {
            return None;
        }
        Some(Self::read(line, is_repo))
    }

    fn read(line: &[u8], is_repo: bool) -> Result<Self, String> {
        let Envelope { data } =
            serde_json::from_slice(line).map_err(|error| format!("not a message: {error}"))?;
        if !syntax::is_did(&data.did) {
            return Err("data.did is not a DID".to_owned());
        }
        let did = data.did.into_owned();
        if is_repo {
            let rev = data.rev.filter(|rev| syntax::tid_micros(rev).is_some());
            let commit = data.commit.filter(|cid| Link::parse(cid).is_some());
            return Ok(Self::Repo {
                did,
                rev: rev.ok_or("data.rev is not a TID")?.into_owned(),
                commit: commit.ok_or("data.commit is not a CID")?.into_owned(),
            });
        }
        let status = data.status.filter(|status| STATUSES.contains(&&**status));
        let status =
            status.ok_or_else(|| format!("data.status is none of {}", STATUSES.join(", ")))?;
        Ok(Self::Status {
            did,
            status: status.into_owned(),
        })
    }
}

/// The line after the records of a repo.
#[must_use]
pub fn repo_line(did: &str, rev: &str, commit: &Cid) -> String {
    format!(
        "{{\"type\":\"repo\",\"data\":{{\"did\":\"{did}\",\"rev\":\"{rev}\",\"commit\":\"{commit}\"}}}}\n"
    )
}

/// The line about an account that is not active; one of [`STATUSES`].
#[must_use]
pub fn status_line(did: &str, status: &str) -> String {
    format!("{{\"type\":\"account\",\"data\":{{\"did\":\"{did}\",\"status\":\"{status}\"}}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::Codec;

    #[test]
    fn lines_go_both_ways_and_nonsense_is_named() {
        let cid = Cid::of(Codec::DagCbor, b"x");
        let parse = |line: &str| Account::parse(line.trim_end().as_bytes());
        assert_eq!(
            parse(&repo_line("did:plc:a", "3jzfcijpj2z2a", &cid)),
            Some(Ok(Account::Repo {
                did: "did:plc:a".to_owned(),
                rev: "3jzfcijpj2z2a".to_owned(),
                commit: cid.to_string(),
            }))
        );
        assert_eq!(
            parse(&status_line("did:plc:a", "takendown")),
            Some(Ok(Account::Status {
                did: "did:plc:a".to_owned(),
                status: "takendown".to_owned(),
            }))
        );
        assert_eq!(parse("{\"type\":\"commit\",\"data\":{}}"), None);
        for bad in [
            status_line("did:plc:a", "asleep"),
            status_line("alice", "takendown"),
            repo_line("did:plc:a", "now", &cid),
            "{\"type\":\"repo\",\"data\":{\"did\":\"did:plc:a\"}}".to_owned(),
            "{\"type\":\"account\",".to_owned(),
        ] {
            assert!(matches!(parse(&bad), Some(Err(_))), "{bad}");
        }
    }
}
