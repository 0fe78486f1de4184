//! What is known of one account, and the next step for it.

use ledger::about::{self, Identity, Repo};
use ledger::proofs::Proof;
use ledger::states::{Inactive, State};
use observe::printable;
use observe::units::counted;
use postgres::{Client, Error};
use serde_json::{Value, json};

/// What is known of an account.
#[derive(Clone, Debug)]
pub struct About {
    /// The account.
    pub did: String,
    /// Its repo; nothing if the ledger does not know the account.
    pub repo: Option<Repo>,
    /// Its document and handle.
    pub identity: Option<Identity>,
    /// Hosts whose claims to it its document refuted.
    pub lost_claims: Vec<String>,
    /// The last pass over its host, and why the host's list is not whole, if it is not.
    pub listing: Option<(i64, Option<String>)>,
    /// Its row in the table `actor`.
    pub actor: Option<Value>,
}

/// What to do next for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextFor {
    /// Nobody knows it: name it.
    Name,
    /// It is pending, or due to be tried again: run.
    Run,
    /// It failed: retry it now.
    Retry,
    /// Its host has a newer rev: catch up.
    CatchUp,
    /// Nobody checked its signature: look up its document.
    Prove,
}

impl NextFor {
    /// The command, and what it is for.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Name => "skyfill run --did DID loads it",
            Self::Run => "skyfill run loads what is pending",
            Self::Retry => {
                "skyfill run --retry-failed retries it now; later runs retry it when it is due"
            }
            Self::CatchUp => "skyfill catch-up, or skyfill run, loads the newer rev",
            Self::Prove => "skyfill identities looks up its document, and proves it",
        }
    }
}

/// What stands behind a stored commit, for people.
pub(crate) fn proof_text(proof: Option<Proof>) -> &'static str {
    match proof {
        Some(Proof::Signed) => "signed by the key in the account's DID document",
        Some(Proof::OlderKey) => "signed by an older key of the account",
        Some(Proof::Elsewhere) => {
            "not proved: it came from another host than the DID document names"
        }
        Some(Proof::Forged) => "forged: no key of the account signed it",
        None => "not proved yet: nobody checked the signature",
    }
}

impl About {
    pub(crate) fn read(client: &mut Client, schema: &str, did: &str) -> Result<Self, Error> {
        let repo = about::repo(client, schema, did)?;
        let listing = match &repo {
            Some(repo) => about::listing_of(client, schema, &repo.host)?,
            None => None,
        };
        Ok(Self {
            did: did.to_owned(),
            listing,
            identity: about::identity(client, schema, did)?,
            lost_claims: about::lost_claims(client, schema, did)?,
            actor: verify::record::actor(client, did)?,
            repo,
        })
    }

    /// CID of the stored commit.
    pub(crate) fn stored_commit(&self) -> Option<(&str, &str)> {
        let repo = self.repo.as_ref()?;
        repo.rev.as_deref().zip(repo.commit_cid.as_deref())
    }

    /// What to do next, if something is left to do.
    #[must_use]
    pub fn next(&self) -> Option<NextFor> {
        let Some(repo) = &self.repo else {
            return Some(NextFor::Name);
        };
        match repo.state {
            State::Pending | State::Partial | State::Unresolved => Some(NextFor::Run),
            State::Failed => Some(NextFor::Retry),
            _ if repo.newer => Some(NextFor::CatchUp),
            State::Loaded if !repo.proof.is_some_and(Proof::is_good) => Some(NextFor::Prove),
            _ => None,
        }
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let repo = self.repo.as_ref().map(|repo| {
            let [records, skipped, duplicates, bytes] =
                repo.counts.map_or([None; 4], |counts| counts.map(Some));
            let run = repo.run.as_ref().map(|run| {
                json!({
                    "id": run.id, "now": run.now, "phase": run.phase.word(), "collections": run.collections,
                    "notifications": run.notifications, "since": run.since,
                })
            });
            json!({
                "state": repo.state.word(), "meaning": repo.state.term(), "host": repo.host, "pds": repo.pds,
                "rev": repo.rev, "commit": repo.commit_cid, "proof": repo.proof.map(Proof::word),
                "records": records, "skipped": skipped, "duplicates": duplicates, "carBytes": bytes,
                "loadedAt": repo.loaded_at, "run": run, "attempts": repo.attempts, "nextAttempt": repo.next_attempt,
                "errorCode": repo.error.as_ref().map(|(code, _)| code), "error": repo.error.as_ref().map(|(_, text)| text),
                "contested": repo.contested, "claimant": repo.claimant, "newer": repo.newer, "delisted": repo.delisted,
                "rebuild": repo.rebuild, "moves": repo.moves, "forks": repo.forks, "listedInPass": repo.listing,
                "parts": repo.parts.len(),
            })
        });
        let identity = self.identity.as_ref().map(|known| {
            json!({
                "status": known.status.map(Inactive::word), "document": known.document.word(), "pds": known.pds,
                "signingKey": known.signing_key, "documentedAt": known.documented_at,
                "claimedHandle": known.claimed_handle, "handle": known.handle.word(), "error": known.error,
            })
        });
        json!({
            "did": self.did, "repo": repo, "identity": identity, "actor": self.actor,
            "lostClaims": self.lost_claims,
            "hostListing": self.listing.as_ref().map(|(pass, why)| json!({"pass": pass, "error": why})),
            "next": self.next().map(NextFor::text),
        })
    }

    pub(crate) fn write(&self, lines: &mut Vec<String>) {
        let mut line = |name: &str, text: String| lines.push(format!("{name}: {text}"));
        line("account", self.did.clone());
        let handle = self
            .actor
            .as_ref()
            .and_then(|actor| actor.get("handle")?.as_str());
        if let Some(known) = &self.identity {
            let claimed = known.claimed_handle.as_deref().map(printable);
            line(
                "handle",
                match (handle, claimed) {
                    (Some(handle), _) => format!("{} ({})", printable(handle), known.handle.word()),
                    (None, Some(claimed)) => format!(
                        "none; its document claims {claimed} ({})",
                        known.handle.word()
                    ),
                    (None, None) => format!("none ({})", known.handle.word()),
                },
            );
            let pds = known.pds.as_deref().map_or_else(String::new, |pds| {
                format!(", which names {}", printable(pds))
            });
            line("document", format!("{}{pds}", known.document.word()));
            if let Some(error) = &known.error {
                line("document's error", printable(error).to_string());
            }
        }
        let Some(repo) = &self.repo else {
            line(
                "repo",
                "the ledger does not know the account: no list had it, and nobody named it"
                    .to_owned(),
            );
            return;
        };
        line(
            "repo",
            format!("{}; on {}", repo.state.term(), on_host(&repo.host)),
        );
        if let (Some(rev), Some(commit)) = (&repo.rev, &repo.commit_cid) {
            let at = repo
                .loaded_at
                .as_deref()
                .unwrap_or("a time that is not known");
            let run = repo
                .run
                .as_ref()
                .map_or_else(String::new, |run| format!(" by run {}", run.id));
            line(
                "stored",
                format!("rev {rev}, commit {commit}, on {at}{run}"),
            );
            line("proof", proof_text(repo.proof).to_owned());
        }
        if let Some([records, skipped, duplicates, bytes]) =
            repo.counts.filter(|_| repo.rev.is_some())
        {
            line(
                "records",
                format!(
                    "{records} stored, {duplicates} of them duplicates; {skipped} skipped; {bytes} bytes of CAR"
                ),
            );
        }
        for text in self.trouble(repo) {
            line("note", text);
        }
    }

    /// What is out of the ordinary.
    fn trouble(&self, repo: &Repo) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some((code, error)) = &repo.error {
            let next = repo.next_attempt.as_deref().map_or_else(String::new, |at| {
                format!("; the next attempt is due on {at}")
            });
            notes.push(format!(
                "the last error: {code}: {}; {} failed{next}",
                printable(error),
                number_of(repo.attempts, "attempt")
            ));
        }
        if let Some(claimant) = repo.claimant.as_deref().filter(|_| repo.contested) {
            notes.push(format!("{} lists it as active, too", printable(claimant)));
        }
        if !self.lost_claims.is_empty() {
            let hosts: Vec<String> = self
                .lost_claims
                .iter()
                .map(|host| printable(host).to_string())
                .collect();
            notes.push(format!(
                "its document refuted the claims of {}",
                hosts.join(", ")
            ));
        }
        if repo.newer {
            notes.push("a list has a newer rev than the stored one".to_owned());
        }
        if repo.delisted {
            notes.push("its host does not list it any more".to_owned());
        }
        if repo.rebuild {
            notes.push("all of its rows are going to be written again".to_owned());
        }
        if repo.moves > 0 {
            let times = number_of(repo.moves, "time");
            notes.push(format!("it was found on another host {times}"));
        }
        if repo.forks > 0 {
            notes.push(format!(
                "another commit of the same rev was replaced {}",
                number_of(repo.forks, "time")
            ));
        }
        if let Some((of, _)) = repo.parts.first() {
            notes.push(format!(
                "stored so far: {} of {}",
                repo.parts.len(),
                number_of(i32::from(*of).max(1), "part")
            ));
        }
        match (&self.listing, repo.listing) {
            (Some((pass, Some(why))), _) => notes.push(format!(
                "pass {pass} could not list all of its host: {}",
                printable(why)
            )),
            (Some((pass, None)), Some(last)) if last < *pass => notes.push(format!(
                "its host listed it last in pass {last}; the last one was {pass}"
            )),
            _ => {}
        }
        notes
    }
}

/// A number of things that the ledger counts, for people.
fn number_of(number: i32, one: &str) -> String {
    counted(u64::try_from(number).unwrap_or(0), one)
}

fn on_host(host: &str) -> String {
    match host {
        "" => "no host that is known".to_owned(),
        host => printable(host).to_string(),
    }
}
