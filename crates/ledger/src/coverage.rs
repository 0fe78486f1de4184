//! What is loaded and what is not, according to the ledger: hosts, repos, and what was left out by
//! choice. `verify::verdict` turns it into one word.

use crate::handles::{self, HandleCounts};
use crate::listing::{self, Listed};
use crate::proofs::Counts;
use crate::runs::{self, Run};
use crate::settings::{self, Setting};
use crate::states::State;
use crate::tally;
use postgres::{Error, GenericClient};
use std::collections::BTreeMap;

/// What a database is known to hold and to lack.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Passes of discovery; nothing if all repos were named by the operator.
    pub discovery: Option<Discovery>,
    /// The number of repos in each state.
    pub repos: BTreeMap<State, u64>,
    /// Repos that a host other than theirs lists as active, too, in whatever state they are.
    pub contested: u64,
    /// Who vouches for the repos that are stored.
    pub proofs: Counts,
    /// Handles by state.
    pub handles: HandleCounts,
    /// The run that is not done, else the last one.
    pub run: Option<Run>,
    /// The last comparison of all tables with the signed commits.
    pub proof: Option<Proof>,
    /// How accounts were chosen ([`settings::chosen`]); nothing if none were left out by that.
    pub chosen: Vec<Setting>,
}

/// What passes of discovery have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Whether the last pass came to its end.
    pub is_ended: bool,
    /// Hosts whose list of repos was read to its end.
    pub listed: u64,
    /// Hosts whose list was not, with the reasons.
    pub not_listed: Vec<(String, String)>,
    /// Hosts that the operator's opt-out list names.
    pub opted_out: Vec<String>,
}

/// A comparison of all tables with the signed commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it began, as an ISO time.
    pub began: String,
    /// How many differences it found.
    pub differences: u64,
    /// Whether no repo was stored since.
    pub is_current: bool,
}

impl Coverage {
    /// Reads it. Goes over all repos once.
    ///
    /// # Errors
    /// The server refused, or a repo is in a state that is not known.
    pub fn read(client: &mut impl GenericClient, schema: &str) -> Result<Self, Error> {
        let mut coverage = Self {
            discovery: discovery(client, schema)?,
            handles: handles::counts(client, schema)?,
            run: runs::last(client, schema)?,
            ..Self::default()
        };
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let rows = client.query(
            "SELECT state, count(*), count(*) FILTER (WHERE contested),
               count(*) FILTER (WHERE rev IS NOT NULL AND proof = 'signed'), count(*) FILTER (WHERE rev IS NOT NULL AND proof = 'older key'),
               count(*) FILTER (WHERE rev IS NOT NULL AND (proof IS NULL OR proof = 'elsewhere')),
               count(*) FILTER (WHERE rev IS NOT NULL AND proof = 'forged'), sum(forks)::bigint
             FROM skyfill.repo WHERE schema_name = $1 GROUP BY state",
            &[&schema],
        )?;
        for row in rows {
            coverage.repos.insert(row.try_get(0)?, number(row.get(1)));
            coverage.contested += number(row.get(2));
            let proofs = &mut coverage.proofs;
            proofs.signed += number(row.get(3));
            proofs.older_key += number(row.get(4));
            proofs.unchecked += number(row.get(5));
            proofs.forged += number(row.get(6));
            proofs.forks += number(row.get(7));
        }
        let nothing_loaded = "NOT EXISTS (SELECT FROM skyfill.repo r WHERE r.schema_name = $1 AND r.loaded_at >= p.began_at)";
        coverage.proof = proof(client, schema, nothing_loaded)?;
        coverage.chosen = settings::chosen(client, schema)?;
        Ok(coverage)
    }

    /// The same from the counts that are kept ([`tally`]): it takes as long for 45 million repos as
    /// for a few.
    ///
    /// # Errors
    /// The server refused, or a repo is in a state that is not known.
    pub fn kept(
        client: &mut impl GenericClient,
        schema: &str,
    ) -> Result<(Self, tally::Stored), Error> {
        let tally = tally::read(client, schema)?;
        let coverage = Self {
            discovery: discovery(client, schema)?,
            repos: tally.repos,
            contested: tally.contested,
            proofs: tally.proofs,
            handles: handles::counts(client, schema)?,
            run: runs::last(client, schema)?,
            proof: proof(client, schema, &tally::nothing_loaded("p.began_at"))?,
            chosen: settings::chosen(client, schema)?,
        };
        Ok((coverage, tally.stored))
    }

    /// Repos in any of these states.
    pub fn count(&self, wanted: impl Fn(State) -> bool) -> u64 {
        let chosen = self.repos.iter().filter(|(state, _)| wanted(**state));
        chosen.map(|(_, repos)| repos).sum()
    }
}

fn discovery(client: &mut impl GenericClient, schema: &str) -> Result<Option<Discovery>, Error> {
    let last = client.query_opt(
        "SELECT ended_at IS NOT NULL FROM skyfill.listing WHERE schema_name = $1 ORDER BY id DESC LIMIT 1",
        &[&schema],
    )?;
    let Some(last) = last else { return Ok(None) };
    let mut discovery = Discovery {
        is_ended: last.get(0),
        ..Discovery::default()
    };
    for (host, listed) in listing::hosts(client, schema)? {
        match listed {
            Listed::Whole => discovery.listed += 1,
            Listed::Not(why) => discovery.not_listed.push((host, why)),
            Listed::OptedOut => discovery.opted_out.push(host),
        }
    }
    Ok(Some(discovery))
}

/// The server's time, for [`crate::verified::note_proof`].
///
/// # Errors
/// The server refused.
pub fn now(client: &mut impl GenericClient) -> Result<String, Error> {
    Ok(client.query_one("SELECT now()::text", &[])?.get(0))
}

/// `is_current` is the condition that nothing was loaded since.
fn proof(
    client: &mut impl GenericClient,
    schema: &str,
    is_current: &str,
) -> Result<Option<Proof>, Error> {
    let sql = format!(
        "SELECT to_char(p.began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), p.differences, {is_current}
         FROM skyfill.proof p WHERE p.schema_name = $1"
    );
    let row = client.query_opt(&sql, &[&schema])?;
    Ok(row.map(|row| Proof {
        began: row.get(0),
        differences: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
        is_current: row.get(2),
    }))
}
