//! What an account's host says now: of the repo, and with a proof of one record.
//!
//! `com.atproto.sync.getRecord` gives a CAR with the signed commit and the nodes on the path to a
//! record (`packages/pds/src/api/com/atproto/sync/getRecord.ts` of the official code), which proves
//! that the record is in the tree, or that it is not. A host that does not know the question is
//! asked for the whole repo.

use crate::explain::account::proof_text;
use crate::explain::place::Place;
use crate::fresh_repo::{FreshRepos, NoRepo};
use crate::trust::{self, Known, Verdict};
use atrepo::{BlockIndex, Cid, Commit, mst};
use fetch::hosts::host_of;
use fetch::{AccountState, FetchError};
use identity::document::Document;
use ledger::proofs::Proof;
use observe::printable;
use serde_json::{Value, json};

/// What a host says now.
#[derive(Clone, Debug)]
pub struct Live {
    /// The host that was asked, if the account's document names one.
    pub host: Option<String>,
    /// What it says; or why that is not known.
    pub said: Result<Said, String>,
}

/// A proved answer of a host.
#[derive(Clone, Debug)]
pub struct Said {
    /// Which question it answered.
    pub by: &'static str,
    /// The rev of its commit.
    pub rev: String,
    /// Who vouches for that.
    pub proof: Proof,
    /// Whether the commit is the stored one.
    pub is_stored_commit: bool,
    /// Whether the tree has the record, and its CID; nothing if no record was asked about.
    pub record: Option<Option<String>>,
    /// Whether that is what is stored.
    pub is_stored_record: Option<bool>,
}

/// What was proved: the question, the commit with its CID, and the record's CID if there is one.
struct Proved {
    by: &'static str,
    rev: String,
    commit: String,
    proof: Proof,
    record: Option<Cid>,
}

impl Live {
    /// Asks. `stored` is rev and CID of the stored commit, `known` the CID of the stored record.
    pub(crate) async fn ask(
        fresh: &FreshRepos,
        place: &Place,
        stored: Option<(&str, &str)>,
        known: Option<&str>,
    ) -> Self {
        let document = match fresh.document(&place.did).await {
            Ok(document) => document,
            Err(no_document) => {
                return Self {
                    host: None,
                    said: Err(format!("its DID document: {}", no_document.why())),
                };
            }
        };
        let key = place.key();
        let said = match prove(fresh, &place.did, &document, key.as_deref()).await {
            Err(why) => Err(why),
            Ok(proved) => {
                let record = proved.record.map(|cid| cid.to_string());
                Ok(Said {
                    by: proved.by,
                    is_stored_commit: stored.is_some_and(|(_, cid)| cid == proved.commit),
                    rev: proved.rev,
                    proof: proved.proof,
                    is_stored_record: key.is_some().then(|| record.as_deref() == known),
                    record: key.is_some().then_some(record),
                })
            }
        };
        Self {
            host: Some(host_of(&document.pds)),
            said,
        }
    }

    pub(crate) fn json(&self) -> Value {
        match &self.said {
            Err(why) => json!({"host": self.host, "error": why}),
            Ok(said) => json!({
                "host": self.host, "by": said.by, "rev": said.rev, "proof": said.proof.word(),
                "isStoredCommit": said.is_stored_commit,
                "inTree": said.record.as_ref().map(Option::is_some),
                "cid": said.record.as_ref().and_then(Option::as_ref),
                "isStoredRecord": said.is_stored_record,
            }),
        }
    }

    pub(crate) fn write(&self, lines: &mut Vec<String>) {
        let host = self.host.as_deref().unwrap_or("nobody");
        let said = match &self.said {
            Err(why) => {
                lines.push(format!("host now: {}: {}", printable(host), printable(why)));
                return;
            }
            Ok(said) => said,
        };
        let same = match said.is_stored_commit {
            true => "the stored commit",
            false => "another commit than the stored one",
        };
        lines.push(format!(
            "host now: {} has rev {}, {same}, {}",
            printable(host),
            said.rev,
            proof_text(Some(said.proof))
        ));
        if let Some(record) = &said.record {
            let is_same = said.is_stored_record == Some(true);
            lines.push(match record {
                Some(cid) if is_same => format!(
                    "proof: the tree has the record as it is stored, {cid} (by {})",
                    said.by
                ),
                Some(cid) => format!(
                    "proof: the tree has the record as {cid}, which is not what is stored (by {})",
                    said.by
                ),
                None => format!("proof: the tree has no such record (by {})", said.by),
            });
        }
    }
}

/// Asks for a proof of the record, else for the whole repo.
async fn prove(
    fresh: &FreshRepos,
    did: &str,
    document: &Document,
    key: Option<&str>,
) -> Result<Proved, String> {
    if let Some(key) = key {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let (collection, rkey) = key.split_once('/').unwrap_or((key, ""));
        query.append_pair("did", did);
        query.append_pair("collection", collection);
        query.append_pair("rkey", rkey);
        let path = format!("/xrpc/com.atproto.sync.getRecord?{}", query.finish());
        match fresh.ask(document, &path, "application/vnd.ipld.car").await {
            Ok(car) => return read_proof(fresh, did, document, key, &car).await,
            Err(
                FetchError::Account(AccountState::NotFound)
                | FetchError::Refused(..)
                | FetchError::Server(501, _),
            ) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    whole(fresh, did, key).await
}

/// Proves by the whole repo.
async fn whole(fresh: &FreshRepos, did: &str, key: Option<&str>) -> Result<Proved, String> {
    let got = fresh
        .repo(did)
        .await
        .map_err(|no_repo: NoRepo| no_repo.why())?;
    let mut record = None;
    let walked = got
        .repo
        .raw_entries(|at, cid, _| -> Result<(), atrepo::RepoError> {
            if key.is_some_and(|key| key.as_bytes() == at) {
                record = Some(cid);
            }
            Ok(())
        });
    walked.map_err(|error| error.to_string())?;
    Ok(Proved {
        by: "getRepo",
        rev: got.repo.commit().rev.clone(),
        commit: got.repo.commit_cid().to_string(),
        proof: got.proof,
        record,
    })
}

/// Checks a proof: hashes, commit, signature, and each node on the path.
async fn read_proof(
    fresh: &FreshRepos,
    did: &str,
    document: &Document,
    key: &str,
    car: &[u8],
) -> Result<Proved, String> {
    let not_one = |why: &dyn std::fmt::Display| format!("its answer is no proof: {why}");
    let (root, blocks) = BlockIndex::build(car).map_err(|error| not_one(&error))?;
    let block = blocks
        .get(&root)
        .ok_or_else(|| not_one(&"the commit is not in it"))?;
    let commit = Commit::parse(block).map_err(|why| not_one(&why))?;
    if commit.did != did {
        return Err(not_one(&"the commit is of another account"));
    }
    let host = host_of(&document.pds);
    let mut known = Known {
        host: host.clone(),
        key: document.signing_key.clone(),
        older_keys: None,
    };
    let mut verdict = trust::judge_commit(&commit, &host, Some(&known));
    if verdict == Verdict::Doubtful {
        known.older_keys = Some(
            fresh
                .older_keys(did)
                .await
                .map_err(|error| error.to_string())?,
        );
        verdict = trust::judge_commit(&commit, &host, Some(&known));
    }
    let Verdict::Accepted(Some(proof)) = verdict else {
        return Err(trust::forged(did, &commit.rev));
    };
    let record = mst::find(commit.data, key.as_bytes(), |cid| blocks.get(cid))
        .map_err(|error| not_one(&error))?;
    Ok(Proved {
        by: "getRecord",
        rev: commit.rev.clone(),
        commit: root.to_string(),
        proof,
        record,
    })
}
