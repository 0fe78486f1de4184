//! All that the ledger has of one account: `skyfill status --did`.

use super::{help, iso, open};
use ledger::account::{self, IdentityOf, RepoOf};
use ledger::states::State;
use observe::printable;
use observe::units::{bytes, count};
use process::{Database, Failure};
use serde_json::{Value, json};

/// An account.
pub struct Account {
    did: String,
    repo: Option<RepoOf>,
    identity: Option<IdentityOf>,
}

/// Reads it.
///
/// # Errors
/// The database cannot be read, or the ledger does not know the account.
pub fn read(database: &Database, did: &str) -> Result<Account, Failure> {
    let mut client = open(database)?;
    let (repo, identity) =
        account::of(&mut client, &database.schema, did).map_err(|error| database.failure(error))?;
    if repo.is_none() && identity.is_none() {
        return Err(Failure::usage(format!(
            "--did {did}: the ledger does not know this account"
        ))
        .hint_to_run("load it with", format!("run --did {did}")));
    }
    Ok(Account {
        did: did.to_owned(),
        repo,
        identity,
    })
}

impl Account {
    /// It as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let repo = self.repo.as_ref().map(|repo| {
            let [records, skipped, duplicates] = repo.records;
            json!({
                "state": repo.state.word(), "pds": repo.pds, "host": repo.host, "rev": repo.rev, "commit": repo.commit_cid,
                "proof": repo.proof.map(ledger::proofs::Proof::word), "records": records, "skipped": skipped,
                "duplicates": duplicates, "bytes": repo.bytes, "failures": repo.attempts,
                "nextAt": repo.next_attempt.map(iso), "reason": repo.error.0, "error": repo.error.1,
                "helps": self.helps(), "loadedAt": repo.loaded.map(iso), "run": repo.run, "claimant": repo.claimant,
                "toBeRebuilt": repo.is_rebuilt,
            })
        });
        let identity = self.identity.as_ref().map(|identity| {
            json!({
                "status": identity.status.map(ledger::states::Inactive::word), "document": identity.document.to_string(),
                "pds": identity.pds, "claimedHandle": identity.claimed_handle, "handle": identity.handle.to_string(),
                "readAt": identity.documented.map(iso), "error": identity.error,
            })
        });
        json!({"did": self.did, "repo": repo, "identity": identity})
    }

    fn helps(&self) -> Option<&'static str> {
        let repo = self.repo.as_ref()?;
        let code = repo.error.0.as_deref()?;
        (repo.state == State::Failed).then(|| help::against(code))
    }

    /// It as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![printable(&self.did).into_owned()];
        let mut add = |left: &str, text: String| lines.push(format!("{left:<11}{text}"));
        if let Some(repo) = &self.repo {
            add("repo", repo.state.term().to_owned());
            add(
                "host",
                match repo.pds.as_str() {
                    "" => "unknown".to_owned(),
                    pds => printable(pds).into_owned(),
                },
            );
            if let Some(rev) = &repo.rev {
                let [records, skipped, duplicates] = repo.records.map(number);
                add(
                    "stored",
                    format!(
                        "rev {}: {} records, {} skipped, {} duplicates, {}",
                        printable(rev),
                        count(records),
                        count(skipped),
                        count(duplicates),
                        bytes(number(repo.bytes))
                    ),
                );
            }
            if let Some(loaded) = repo.loaded {
                let run = repo
                    .run
                    .map_or_else(String::new, |run| format!(", by run {run}"));
                add("loaded", format!("{}{run}", iso(loaded)));
            }
            if let Some(proof) = repo.proof {
                add("proof", proof.word().to_owned());
            } else if repo.rev.is_some() {
                add("proof", "unproved".to_owned());
            }
            if let Some(claimant) = &repo.claimant {
                add("claimed by", printable(claimant).into_owned());
            }
            if let (Some(code), error) = (&repo.error.0, &repo.error.1) {
                let error = error.as_deref().unwrap_or_default();
                add(
                    "error",
                    format!("{}: {}", printable(code), printable(error)),
                );
            }
            if repo.attempts > 0 {
                let next = repo.next_attempt.map_or_else(String::new, |next| {
                    format!("; the next attempt is due {}", iso(next))
                });
                add("failures", format!("{}{next}", repo.attempts));
            }
        }
        if let Some(identity) = &self.identity {
            let status = identity
                .status
                .map_or("active", ledger::states::Inactive::word);
            add("account", status.to_owned());
            let handle = identity.claimed_handle.as_deref().unwrap_or("no handle");
            add(
                "handle",
                format!("{} ({})", printable(handle), identity.handle),
            );
            add(
                "document",
                format!(
                    "{}{}",
                    identity.document,
                    identity
                        .documented
                        .map_or_else(String::new, |at| format!(", read {}", iso(at)))
                ),
            );
            if let Some(error) = &identity.error {
                add("trouble", printable(error).into_owned());
            }
        }
        if let Some(helps) = self.helps() {
            add("helps", helps.to_owned());
        }
        lines
    }
}

fn number(number: Option<i64>) -> u64 {
    number
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0)
}
