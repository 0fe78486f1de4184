//! What people look at in the dashboard: pages of failed repos, an account with what happened to
//! it, runs. Nothing here writes, and no answer is longer than the caller asks for, however many
//! repos there are.

use crate::states::State;
use postgres::{Error, GenericClient};

/// An ISO time of a column, for people and programs.
macro_rules! iso {
    ($column:literal) => {
        concat!(
            "to_char(",
            $column,
            " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        )
    };
}

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
    let sql = concat!(
        "SELECT did, host, coalesce(error_code, 'no reason'), left(coalesce(error, ''), 1000), attempts, ",
        iso!("next_attempt"),
        ", coalesce(next_attempt, 'infinity')::text FROM skyfill.repo
         WHERE schema_name = $1 AND state = 'failed' AND ($2::text IS NULL OR coalesce(error_code, 'no reason') = $2)
           AND ($3::text IS NULL OR host = $3)
           AND next_attempt >= $4::text::timestamptz AND (next_attempt, did) > ($4::text::timestamptz, $5)
         ORDER BY next_attempt, did LIMIT $6"
    );
    let rows = client.query(sql, &[&schema, &page.code, &page.host, &time, &did, &count])?;
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
    let mut account = Account::default();
    let is_repo = repo_of(client, schema, did, &mut account)?;
    let is_identity = identity_of(client, schema, did, &mut account)?;
    if !is_repo && !is_identity {
        return Ok(None);
    }
    let lost = client.query(
        "SELECT host FROM skyfill.lost_claim WHERE schema_name = $1 AND did = $2 ORDER BY host LIMIT 20",
        &[&schema, &did],
    )?;
    for row in lost {
        account.fact("claimed in vain by", Some(row.try_get(0)?));
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
}

fn repo_of(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    account: &mut Account,
) -> Result<bool, Error> {
    let sql = concat!(
        "SELECT r.state, r.host, r.pds, r.rev, r.commit_cid, r.records::text, r.skipped::text, r.duplicates::text, r.car_bytes::text,
           r.attempts::text, r.error_code, left(r.error, 1000), r.proof, r.forks, r.moves, r.contested, r.claimant, r.delisted,
           r.newer, r.rebuild, r.run, n.mode, ",
        iso!("r.next_attempt"),
        ", ",
        iso!("r.loaded_at"),
        ", ",
        iso!("n.started_at"),
        ", l.id, ",
        iso!("l.started_at"),
        " FROM skyfill.repo r LEFT JOIN skyfill.run n ON n.id = r.run LEFT JOIN skyfill.listing l ON l.id = r.listing
         WHERE r.schema_name = $1 AND r.did = $2"
    );
    let Some(row) = client.query_opt(sql, &[&schema, &did])? else {
        return Ok(false);
    };
    let state: State = row.try_get(0)?;
    account.fact("state", Some(state.term().to_owned()));
    for (at, name) in [
        (1, "host"),
        (2, "PDS"),
        (3, "rev"),
        (4, "commit"),
        (5, "records stored"),
        (6, "records skipped"),
        (7, "duplicates"),
        (8, "bytes fetched"),
        (9, "attempts"),
        (10, "error code"),
        (11, "error"),
        (12, "proof"),
        (16, "claimed by"),
    ] {
        account.fact(name, row.try_get(at)?);
    }
    for (at, name) in [(13, "forks"), (14, "moves")] {
        let times: i32 = row.try_get(at)?;
        account.fact(name, (times > 0).then(|| times.to_string()));
    }
    for (at, name) in [
        (15, "contested"),
        (17, "its host lists it no more"),
        (18, "a newer rev is listed"),
        (19, "all rows are to be written again"),
    ] {
        let is_so: bool = row.try_get(at)?;
        account.fact(name, is_so.then(|| "yes".to_owned()));
    }
    if let Some(run) = row.try_get::<_, Option<i64>>(20)? {
        let mode: Option<String> = row.try_get(21)?;
        let what = format!("run {run} began ({})", mode.unwrap_or_default());
        account.event(row.try_get(24)?, what);
    }
    let next = match state {
        State::Failed => "the next attempt is due",
        _ => "the next look is due",
    };
    account.event(row.try_get(22)?, next.to_owned());
    account.event(row.try_get(23)?, "the repo was stored".to_owned());
    if let Some(pass) = row.try_get::<_, Option<i64>>(25)? {
        account.event(
            row.try_get(26)?,
            format!("pass {pass} of discovery began, which listed it"),
        );
    }
    Ok(true)
}

fn identity_of(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    account: &mut Account,
) -> Result<bool, Error> {
    let sql = concat!(
        "SELECT status, document, claimed_handle, handle, pds, signing_key, left(error, 1000), attempts::text, ",
        iso!("documented_at"),
        ", CASE WHEN isfinite(due) THEN ",
        iso!("due"),
        " END FROM skyfill.identity WHERE schema_name = $1 AND did = $2"
    );
    let Some(row) = client.query_opt(sql, &[&schema, &did])? else {
        return Ok(false);
    };
    for (at, name) in [
        (0, "account status"),
        (1, "DID document"),
        (2, "claimed handle"),
        (3, "handle"),
        (4, "PDS of the document"),
        (5, "signing key"),
        (6, "error of the look-up"),
        (7, "look-ups that failed"),
    ] {
        account.fact(name, row.try_get(at)?);
    }
    account.event(row.try_get(8)?, "the DID document was read".to_owned());
    account.event(row.try_get(9)?, "the next look-up is due".to_owned());
    Ok(true)
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
    let sql = concat!(
        "SELECT id, mode, phase, ",
        iso!("started_at"),
        ", ",
        iso!("ended_at"),
        " FROM skyfill.run WHERE schema_name = $1 ORDER BY id DESC LIMIT $2"
    );
    let rows = client.query(sql, &[&schema, &count])?;
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
