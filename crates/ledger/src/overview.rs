//! What people look at in the dashboard: pages of failed repos, an account with what happened to
//! it, runs. Nothing here writes, and no answer is longer than the caller asks for, however many
//! repos there are.

use crate::about::{self, Identity, Repo, RunOf, iso};
use crate::states::State;
use postgres::{Error, GenericClient};

/// Hosts that claimed an account in vain that are named.
const CLAIMS: usize = 20;
/// Characters of an error that are shown.
const LONGEST_ERROR: usize = 1000;

/// A repo that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The account.
    pub did: String,
    /// Its host.
    pub host: String,
    /// The error's code.
    pub code: String,
    /// The error.
    pub error: String,
    /// Attempts so far.
    pub attempts: i32,
    /// The time of the next attempt, as an ISO time.
    pub next_attempt: Option<String>,
    /// Where the page after this repo begins ([`FailedPage::after`]).
    pub place: String,
}

/// Which failed repos are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FailedPage {
    /// With this code alone, as [`crate::failures::by_reason`] has it.
    pub code: Option<String>,
    /// Of this host alone.
    pub host: Option<String>,
    /// After this time of the next attempt and this account.
    pub after: Option<(String, String)>,
}

/// Failed repos, those whose next attempt comes first before others. Goes along the index of failed
/// repos: a page costs what it shows, unless the filter leaves few.
///
/// # Errors
/// The server refused, or the place to begin after is none.
pub fn failed(
    client: &mut impl GenericClient,
    schema: &str,
    page: &FailedPage,
    count: i64,
) -> Result<Vec<Failed>, Error> {
    let (time, did) = match &page.after {
        Some((time, did)) => (time.as_str(), did.as_str()),
        None => ("-infinity", ""),
    };
    let sql = format!(
        "SELECT did, host, coalesce(error_code, 'no reason'), left(coalesce(error, ''), {LONGEST_ERROR}), attempts, {},
           coalesce(next_attempt, 'infinity')::text FROM skyfill.repo
         WHERE schema_name = $1 AND state = 'failed' AND ($2::text IS NULL OR coalesce(error_code, 'no reason') = $2)
           AND ($3::text IS NULL OR host = $3)
           AND next_attempt >= $4::text::timestamptz AND (next_attempt, did) > ($4::text::timestamptz, $5)
         ORDER BY next_attempt, did LIMIT $6",
        iso("next_attempt")
    );
    let rows = client.query(
        &sql,
        &[&schema, &page.code, &page.host, &time, &did, &count],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Failed {
                did: row.try_get(0)?,
                host: row.try_get(1)?,
                code: row.try_get(2)?,
                error: row.try_get(3)?,
                attempts: row.try_get(4)?,
                next_attempt: row.try_get(5)?,
                place: row.try_get(6)?,
            })
        })
        .collect()
}

/// Facts of an account, in the order in which people read them, and what happened to it, the oldest
/// first: (ISO time, what).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Name and value.
    pub facts: Vec<(&'static str, String)>,
    /// ISO time, and what happened or is to happen then.
    pub events: Vec<(String, String)>,
}

/// What the ledger knows of an account; nothing, if it does not know it.
///
/// # Errors
/// The server refused, or the repo is in a state that is not known.
pub fn account(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
) -> Result<Option<Account>, Error> {
    let repo = about::repo(client, schema, did)?;
    let identity = about::identity(client, schema, did)?;
    if repo.is_none() && identity.is_none() {
        return Ok(None);
    }
    let mut account = Account::default();
    if let Some(repo) = repo {
        account.add_repo(repo);
    }
    if let Some(identity) = identity {
        account.add_identity(identity);
    }
    for host in about::lost_claims(client, schema, did)?
        .into_iter()
        .take(CLAIMS)
    {
        account.fact("claimed in vain by", Some(host));
    }
    account.events.sort();
    Ok(Some(account))
}

impl Account {
    fn fact(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.facts.push((name, value));
        }
    }

    fn event(&mut self, time: Option<String>, what: String) {
        self.events.extend(time.map(|time| (time, what)));
    }

    fn add_repo(&mut self, repo: Repo) {
        let (code, error) = repo.error.unzip();
        let counts = repo
            .counts
            .map(|counts| counts.map(|count| count.to_string()));
        let [records, skipped, duplicates, bytes] =
            counts.map_or([None, None, None, None], |all| all.map(Some));
        for (name, value) in [
            ("state", Some(repo.state.term().to_owned())),
            ("host", Some(repo.host)),
            ("PDS", Some(repo.pds)),
            ("rev", repo.rev),
            ("commit", repo.commit_cid),
            ("records stored", records),
            ("records skipped", skipped),
            ("duplicates", duplicates),
            ("bytes fetched", bytes),
            ("attempts", Some(repo.attempts.to_string())),
            ("error code", code),
            ("error", error.map(short)),
            ("proof", repo.proof.map(|proof| proof.word().to_owned())),
            ("claimed by", repo.claimant),
            ("forks", (repo.forks > 0).then(|| repo.forks.to_string())),
            ("moves", (repo.moves > 0).then(|| repo.moves.to_string())),
        ] {
            self.fact(name, value);
        }
        for (name, is_so) in [
            ("contested", repo.contested),
            ("its host lists it no more", repo.delisted),
            ("a newer rev is listed", repo.newer),
            ("all rows are to be written again", repo.rebuild),
        ] {
            self.fact(name, is_so.then(|| "yes".to_owned()));
        }
        if let Some(RunOf {
            id, mode, began, ..
        }) = repo.run
        {
            self.event(Some(began), format!("run {id} began ({mode})"));
        }
        let next = match repo.state {
            State::Failed => "the next attempt is due",
            _ => "the next look is due",
        };
        self.event(repo.next_attempt, next.to_owned());
        self.event(repo.loaded_at, "the repo was stored".to_owned());
        if let Some(pass) = repo.listing {
            self.event(
                repo.listing_began,
                format!("pass {pass} of discovery began, which listed it"),
            );
        }
    }

    fn add_identity(&mut self, identity: Identity) {
        for (name, value) in [
            (
                "account status",
                identity.status.map(|status| status.word().to_owned()),
            ),
            ("DID document", Some(identity.document.word().to_owned())),
            ("claimed handle", identity.claimed_handle),
            ("handle", Some(identity.handle.word().to_owned())),
            ("PDS of the document", identity.pds),
            ("signing key", identity.signing_key),
            ("error of the look-up", identity.error.map(short)),
            ("look-ups that failed", Some(identity.attempts.to_string())),
        ] {
            self.fact(name, value);
        }
        self.event(
            identity.documented_at,
            "the DID document was read".to_owned(),
        );
        self.event(identity.due, "the next look-up is due".to_owned());
    }
}

/// An error as far as people read it.
fn short(error: String) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => error[..end].to_owned(),
        None => error,
    }
}

/// A run, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTimes {
    /// Its number.
    pub id: i64,
    /// `fresh`, `merge` or `frames`.
    pub mode: String,
    /// The phase that it has reached.
    pub phase: String,
    /// When it began, as an ISO time.
    pub began: String,
    /// When it ended.
    pub ended: Option<String>,
}

/// The last runs, the newest first.
///
/// # Errors
/// The server refused.
pub fn runs(
    client: &mut impl GenericClient,
    schema: &str,
    count: i64,
) -> Result<Vec<RunTimes>, Error> {
    let sql = format!(
        "SELECT id, mode, phase, {}, {} FROM skyfill.run WHERE schema_name = $1 ORDER BY id DESC LIMIT $2",
        iso("started_at"),
        iso("ended_at")
    );
    let rows = client.query(&sql, &[&schema, &count])?;
    rows.iter()
        .map(|row| {
            Ok(RunTimes {
                id: row.try_get(0)?,
                mode: row.try_get(1)?,
                phase: row.try_get(2)?,
                began: row.try_get(3)?,
                ended: row.try_get(4)?,
            })
        })
        .collect()
}
