//! What a load learns about accounts: `actor_sync`, and states for the rows of `actor` that
//! [`ledger::identity`] leads to.

use crate::revs;
use ledger::states::Inactive;
use postgres::types::ToSql;
use postgres::{Client, Error};
use std::collections::{BTreeSet, HashMap};

/// Some accounts. If one is named twice, the last one counts.
#[derive(Default)]
pub struct Accounts {
    /// DID to rev and commit.
    repos: HashMap<String, (String, String)>,
    /// DID to state; `None` for an active account.
    statuses: HashMap<String, Option<String>>,
    /// Accounts whose stored rev is ignored.
    overruled: BTreeSet<String>,
}

impl Accounts {
    /// A complete repo: its account is active. A rev in the future is not stored, because it would
    /// exclude all later ones.
    pub fn repo(&mut self, did: &str, rev: &str, commit: &str) {
        if revs::refuse(rev).is_none() {
            self.repos
                .insert(did.to_owned(), (rev.to_owned(), commit.to_owned()));
        }
        self.statuses.insert(did.to_owned(), None);
    }

    /// Lets the rev of this account replace a newer stored one.
    pub(crate) fn overrule(&mut self, did: &str) {
        self.overruled.insert(did.to_owned());
    }

    /// An account without a repo to fetch.
    pub fn status(&mut self, did: &str, status: &str) {
        self.statuses
            .insert(did.to_owned(), Some(status.to_owned()));
    }

    /// Number of accounts.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.statuses.len()
    }

    /// The statements that store them, with their parameters, all of which are text. An older rev
    /// never replaces a newer one, unless that was overruled. A commit that was signed again at the
    /// same rev replaces the stored one.
    #[must_use]
    pub fn statements(&self, schema: &str) -> [(String, Vec<String>); 3] {
        let mut repos: Vec<_> = self.repos.iter().collect();
        repos.sort();
        let sync = "INSERT INTO actor_sync AS a (did, \"commitCid\", \"repoRev\")
             SELECT * FROM unnest($1::text::text[], $2::text::text[], $3::text::text[])
             ON CONFLICT (did) DO UPDATE SET \"commitCid\" = excluded.\"commitCid\", \"repoRev\" = excluded.\"repoRev\"
             WHERE a.\"repoRev\" IS NULL OR a.\"repoRev\" COLLATE \"C\" < excluded.\"repoRev\" COLLATE \"C\"
               OR a.\"repoRev\" = excluded.\"repoRev\" AND a.\"commitCid\" <> excluded.\"commitCid\"
               OR a.did = ANY ($4::text::text[])";
        let synced = vec![
            array(repos.iter().map(|(did, _)| Some(did.as_str()))),
            array(repos.iter().map(|(_, (_, commit))| Some(commit.as_str()))),
            array(repos.iter().map(|(_, (rev, _))| Some(rev.as_str()))),
            array(self.overruled.iter().map(|did| Some(did.as_str()))),
        ];
        let mut statuses: Vec<_> = self.statuses.iter().collect();
        statuses.sort();
        let dids = array(statuses.iter().map(|(did, _)| Some(did.as_str())));
        let states = array(statuses.iter().map(|(_, status)| status.as_deref()));
        [
            (sync.to_owned(), synced),
            (
                ledger::identity::NOTE_STATUSES.to_owned(),
                vec![schema.to_owned(), dids.clone(), states.clone()],
            ),
            (update_actors(schema), vec![dids, states]),
        ]
    }

    /// Stores them, see [`Accounts::statements`].
    pub(crate) fn store(&self, client: &mut Client, schema: &str) -> Result<(), Error> {
        for (sql, parameters) in self.statements(schema) {
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters
                .iter()
                .map(|text| text as &(dyn ToSql + Sync))
                .collect();
            client.execute(&sql, &parameters)?;
        }
        Ok(())
    }
}

/// Stores states of accounts; `None` for an active one.
///
/// # Errors
/// The server refused.
pub fn store_states(
    client: &mut impl postgres::GenericClient,
    schema: &str,
    states: &[(&str, Option<Inactive>)],
) -> Result<(), postgres::Error> {
    if states.is_empty() {
        return Ok(());
    }
    let dids = array(states.iter().map(|(did, _)| Some(*did)));
    let statuses = array(states.iter().map(|(_, status)| status.map(Inactive::word)));
    client.execute(
        ledger::identity::NOTE_STATUSES,
        &[&schema, &dids, &statuses],
    )?;
    client.execute(&update_actors(schema), &[&dids, &statuses])?;
    Ok(())
}

/// Locks the row of an account in `actor` until the transaction ends, so that whoever else stores
/// its state does so before or after.
///
/// # Errors
/// The server refused.
pub fn hold_actor(
    client: &mut impl postgres::GenericClient,
    schema: &str,
    did: &str,
) -> Result<(), postgres::Error> {
    let sql = format!("SELECT FROM \"{schema}\".actor WHERE did = $1 FOR UPDATE");
    client.execute(&sql, &[&did])?;
    Ok(())
}

/// SQL: sets the states of these accounts in `actor`.
fn update_actors(schema: &str) -> String {
    format!(
        "UPDATE \"{schema}\".actor a SET \"upstreamStatus\" = s.status
         FROM unnest($1::text::text[], $2::text::text[]) s (did, status)
         WHERE a.did = s.did AND a.\"upstreamStatus\" IS DISTINCT FROM s.status"
    )
}

/// An array literal. DIDs, CIDs, TIDs and states contain nothing that needs escaping inside quotes.
fn array<'a>(items: impl Iterator<Item = Option<&'a str>>) -> String {
    let items: Vec<String> = items
        .map(|item| item.map_or_else(|| "NULL".to_owned(), |item| format!("\"{item}\"")))
        .collect();
    format!("{{{}}}", items.join(","))
}
