//! All that the ledger has of one account: `skyfill status --did`.

use super::{help, open};
use ledger::about::{self, Identity, Repo};
use ledger::proofs::Proof;
use ledger::states::{Inactive, State};
use observe::printable;
use observe::units::{bytes, count, counted};
use process::{Database, Failure};
use serde_json::{Value, json};

/// An account.
pub struct Account {
    did: String,
    repo: Option<Repo>,
    identity: Option<Identity>,
}

/// Reads it.
///
/// # Errors
/// The database cannot be read, or the ledger does not know the account.
pub fn read(database: &Database, did: &str) -> Result<Account, Failure> {
    let mut client = open(database)?;
    let refused = |error| database.failure(error);
    let repo = about::repo(&mut *client, &database.schema, did).map_err(refused)?;
    let identity = about::identity(&mut *client, &database.schema, did).map_err(refused)?;
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
            let [records, skipped, duplicates, bytes] =
                repo.counts.map_or([None; 4], |counts| counts.map(Some));
            let reason = error_of(repo).map(|(code, _)| code);
            let error = repo.error.as_ref().map(|(_, error)| error);
            json!({
                "state": repo.state.word(), "pds": repo.pds, "host": repo.host, "rev": repo.rev, "commit": repo.commit_cid,
                "proof": repo.proof.map(Proof::word), "records": records, "skipped": skipped,
                "duplicates": duplicates, "bytes": bytes, "failures": repo.attempts,
                "nextAt": repo.next_attempt, "reason": reason, "error": error,
                "helps": self.helps(), "loadedAt": repo.loaded_at, "run": repo.run.as_ref().map(|run| run.id), "claimant": repo.claimant,
                "toBeRebuilt": repo.rebuild,
            })
        });
        let identity = self.identity.as_ref().map(|identity| {
            json!({
                "status": identity.status.map(Inactive::word), "document": identity.document.to_string(),
                "pds": identity.pds, "claimedHandle": identity.claimed_handle, "handle": identity.handle.to_string(),
                "readAt": identity.documented_at, "error": identity.error,
            })
        });
        json!({"did": self.did, "repo": repo, "identity": identity})
    }

    fn helps(&self) -> Option<&'static str> {
        let repo = self.repo.as_ref()?;
        let (code, _) = error_of(repo)?;
        (repo.state == State::Failed).then(|| help::against(code))
    }

    /// It as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![printable(&self.did).into_owned()];
        let mut add = |left: &str, text: String| lines.push(format!("{left:<11}{text}"));
        if let Some(repo) = &self.repo {
            about_repo(repo, &mut add);
        }
        if let Some(identity) = &self.identity {
            about_identity(identity, &mut add);
        }
        if let Some(helps) = self.helps() {
            add("helps", helps.to_owned());
        }
        lines
    }
}

fn about_repo(repo: &Repo, add: &mut impl FnMut(&str, String)) {
    add("repo", repo.state.term().to_owned());
    let host = match repo.pds.as_str() {
        "" => "unknown".to_owned(),
        pds => printable(pds).into_owned(),
    };
    add("host", host);
    if let Some(rev) = &repo.rev {
        let counts = repo.counts.unwrap_or_default();
        let [records, skipped, duplicates, size] =
            counts.map(|count| u64::try_from(count).unwrap_or(0));
        add(
            "stored",
            format!(
                "rev {}: {}, {} skipped, {}, {}",
                printable(rev),
                counted(records, "record"),
                count(skipped),
                counted(duplicates, "duplicate"),
                bytes(size)
            ),
        );
    }
    if let Some(loaded) = &repo.loaded_at {
        let run = repo.run.as_ref();
        let run = run.map_or_else(String::new, |run| format!(", by run {}", run.id));
        add("loaded", format!("{loaded}{run}"));
    }
    if let Some(proof) = repo.proof {
        add("proof", proof.word().to_owned());
    } else if repo.rev.is_some() {
        add("proof", "unproved".to_owned());
    }
    if let Some(claimant) = &repo.claimant {
        add("claimed by", printable(claimant).into_owned());
    }
    if let Some((code, error)) = error_of(repo) {
        let text = format!("{}: {}", printable(code), printable(error));
        add("error", text);
    }
    if repo.attempts > 0 {
        let next = repo.next_attempt.as_ref();
        let next = next.map_or_else(String::new, |next| {
            format!("; the next attempt is due {next}")
        });
        add("failures", format!("{}{next}", repo.attempts));
    }
}

fn about_identity(identity: &Identity, add: &mut impl FnMut(&str, String)) {
    let status = identity.status.map_or("active", Inactive::word);
    add("account", status.to_owned());
    let handle = identity.claimed_handle.as_deref().unwrap_or("no handle");
    let handle = printable(handle);
    add("handle", format!("{handle} ({})", identity.handle));
    let read = identity.documented_at.as_ref();
    let read = read.map_or_else(String::new, |at| format!(", read {at}"));
    add("document", format!("{}{read}", identity.document));
    if let Some(error) = &identity.error {
        add("trouble", printable(error).into_owned());
    }
}

/// The last error, by its short name and in full; without a name, there is none to speak of.
fn error_of(repo: &Repo) -> Option<(&str, &str)> {
    let (code, error) = repo.error.as_ref()?;
    (!code.is_empty()).then_some((code, error))
}
