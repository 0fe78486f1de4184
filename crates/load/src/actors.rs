//! The table `actor`, whose one key that crosses repos is the handle.

use postgres::{Error, GenericClient};
use std::collections::HashMap;

/// A row of `actor`, as far as an identity makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The account.
    pub did: String,
    /// Its handle in lower case, if it has one.
    pub handle: Option<String>,
}

/// Adds the accounts of `actor_sync` to those that identities are looked up for.
///
/// # Errors
/// The server refused.
pub fn enroll(client: &mut impl GenericClient, schema: &str) -> Result<u64, Error> {
    client.execute(
        &format!(
            "INSERT INTO skyfill.identity (schema_name, did) SELECT $1, did FROM \"{schema}\".actor_sync ON CONFLICT DO NOTHING"
        ),
        &[&schema],
    )
}

/// Writes rows. Of two that claim a handle, whoever is verified later holds it, and in one call the one with the greater DID; the other's
/// becomes NULL (`indexHandle` in `data-plane/server/indexing/index.ts`). Handles that are only claimed (`verified` is false) do not
/// depend on the order of calls: the greater DID holds them. States of accounts come from [`ledger::identity`]; other columns are not
/// touched.
///
/// # Errors
/// The server refused.
pub fn store(
    client: &mut impl GenericClient,
    schema: &str,
    actors: &[Actor],
    indexed_at: &str,
    verified: bool,
) -> Result<(), Error> {
    let mut holders: HashMap<&str, &str> = HashMap::new();
    for actor in actors {
        if let Some(handle) = &actor.handle {
            let holder = holders.entry(handle).or_insert(&actor.did);
            *holder = (*holder).max(&actor.did);
        }
    }
    let dids: Vec<&str> = actors.iter().map(|actor| actor.did.as_str()).collect();
    let handles: Vec<Option<&str>> = actors
        .iter()
        .map(|actor| {
            let handle = actor.handle.as_deref()?;
            (holders.get(handle) == Some(&actor.did.as_str())).then_some(handle)
        })
        .collect();
    let (lesser, greater) = if verified {
        ("a.did <> g.did", "false")
    } else {
        (
            "a.did COLLATE \"C\" < g.did COLLATE \"C\"",
            "a.did COLLATE \"C\" > g.did COLLATE \"C\"",
        )
    };
    client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($1::text[], $2::text[]) g (did, handle)
             WHERE a.handle = g.handle AND {lesser}"
        ),
        &[&dids, &handles],
    )?;
    client.execute(
        &format!(
            "INSERT INTO \"{schema}\".actor AS held (did, handle, \"indexedAt\", \"upstreamStatus\")
             SELECT g.did, CASE WHEN NOT EXISTS (
                 SELECT FROM \"{schema}\".actor a WHERE a.handle = g.handle AND {greater}) THEN g.handle END, $3, i.status
             FROM unnest($1::text[], $2::text[]) g (did, handle)
               LEFT JOIN skyfill.identity i ON i.schema_name = $4 AND i.did = g.did
             ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, \"indexedAt\" = excluded.\"indexedAt\",
               \"upstreamStatus\" = excluded.\"upstreamStatus\""
        ),
        &[&dids, &handles, &indexed_at, &schema],
    )?;
    Ok(())
}
