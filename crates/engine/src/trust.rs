//! Decides whether a fetched repo is the account's own: the key in the account's DID document must
//! have signed its commit, and the host that the document names must have served it.
//!
//! A document that is in the ledger costs no request. Only if it contradicts the commit, skyfill
//! asks the directory for the present document and, for did:plc, for the account's older keys.

use crate::documents::good;
use atrepo::Commit;
use fetch::FetchError;
use fetch::hosts::host_of;
use identity::document::Document;
use identity::resolve::{Found, Resolver};
use identity::signature;
use ledger::identity::DocumentNote;
use ledger::proofs::Proof;

/// What is known of an account's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The name of the host that it names.
    pub(crate) host: String,
    /// The signing key in it.
    pub(crate) key: String,
    /// The keys that the account had before, if they were asked for.
    pub(crate) older_keys: Option<Vec<String>>,
}

/// What a commit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be stored, with this proof; without one it is unproved.
    Accepted(Option<Proof>),
    /// The key that is known did not sign it: the directory has to be asked.
    Doubtful,
    /// No key of the account signed it.
    Forged,
}

/// Judges a commit that `host` served; it has no name where the repo came from files. Takes some 80
/// microseconds where a document is known.
pub(crate) fn judge_commit(commit: &Commit, host: &str, known: Option<&Known>) -> Verdict {
    let Some(known) = known else {
        return Verdict::Accepted(None);
    };
    let is_from_there = host.is_empty() || host == known.host;
    let proved = |proof| Verdict::Accepted(is_from_there.then_some(proof));
    if signature::check(&known.key, commit).is_ok() {
        return proved(Proof::Signed);
    }
    match &known.older_keys {
        None => Verdict::Doubtful,
        Some(keys) if keys.iter().any(|key| signature::check(key, commit).is_ok()) => {
            proved(Proof::OlderKey)
        }
        Some(_) => Verdict::Forged,
    }
}

/// Why a commit that was judged [`Verdict::Forged`] is refused.
pub(crate) fn forged(did: &str, rev: &str) -> String {
    let why = if did.starts_with("did:plc:") {
        "it was made neither by the key of the account's DID document nor by an older one"
    } else {
        "it was not made by the key of the account's DID document, and its method keeps no log of older ones"
    };
    format!("the signature of rev {rev}: {why}")
}

/// What the directory says now.
pub(crate) enum Now {
    /// The document, its older keys too if they were asked for.
    Known(Known),
    /// Another host than the one that was asked: the URL of the PDS.
    Elsewhere(String),
    /// It cannot be told.
    Unknown(FetchError),
}

impl Known {
    /// What the ledger knows.
    pub(crate) fn of_ledger(document: Option<&(String, String)>) -> Option<Self> {
        document.map(|(pds, key)| Self {
            host: host_of(pds),
            key: key.clone(),
            older_keys: None,
        })
    }

    fn of(document: Document) -> Self {
        Self {
            host: host_of(&document.pds),
            key: document.signing_key,
            older_keys: None,
        }
    }
}

/// Asks how the document of an account is now whose repo `host` is to serve; `learned` gets a good
/// one. Where its key did not sign `commit` either, the log of older ones is asked, too.
pub(crate) async fn ask(
    documents: &Resolver,
    (did, host): (&str, &str),
    commit: Option<&Commit>,
    learned: impl FnOnce(DocumentNote),
) -> Now {
    let unknown = |why: String| Now::Unknown(FetchError::NoDocument(why));
    let document = match documents.resolve(did).await {
        Found::Document(document) => document,
        Found::Gone => return unknown("the account no longer has one".to_owned()),
        Found::Useless(why) => return unknown(why.to_string()),
        Found::Unreachable(why) => return unknown(why),
        Found::Unsupported => return unknown("its DID method cannot be resolved".to_owned()),
    };
    learned(good(did.to_owned(), document.clone()));
    let pds = document.pds.clone();
    let mut known = Known::of(document);
    if known.host != host {
        return Now::Elsewhere(pds);
    }
    if let Some(commit) = commit
        && signature::check(&known.key, commit).is_err()
    {
        match documents.older_keys(did).await {
            Ok(keys) => known.older_keys = Some(keys),
            Err(error) => return unknown(format!("the log of its older keys: {error}")),
        }
    }
    Now::Known(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit_of(did: &str) -> Commit {
        let car = simnet::build_repo(did, "3jzfcijpj2z2a", Vec::new());
        atrepo::Repo::open(&car, did).unwrap().commit().clone()
    }

    #[test]
    fn only_a_key_of_the_account_and_the_host_of_its_document_prove_a_commit() {
        let did = "did:plc:a";
        let key = |generation| format!("did:key:{}", simnet::signing_key_of(did, generation));
        let known = |generation, older_keys| Known {
            host: "pds.example".to_owned(),
            key: key(generation),
            older_keys,
        };
        let judge_at =
            |host: &str, known: Option<Known>| judge_commit(&commit_of(did), host, known.as_ref());
        assert_eq!(judge_at("pds.example", None), Verdict::Accepted(None));
        for (host, proof) in [
            ("pds.example", Some(Proof::Signed)),
            ("", Some(Proof::Signed)),
            ("evil.example", None),
        ] {
            assert_eq!(
                judge_at(host, Some(known(0, None))),
                Verdict::Accepted(proof),
                "{host}"
            );
        }
        // The document has a newer key.
        let judged = |older_keys| judge_at("pds.example", Some(known(1, older_keys)));
        assert_eq!(judged(None), Verdict::Doubtful);
        assert_eq!(
            judged(Some(vec![key(0)])),
            Verdict::Accepted(Some(Proof::OlderKey))
        );
        assert_eq!(judged(Some(vec![key(2)])), Verdict::Forged);
    }
}
