//! The table `actor`, whose unique key, the handle, spans repos.

use ledger::identity;
use postgres::{Error, GenericClient};
use std::collections::HashMap;

/// The columns of `actor` that follow from an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The account.
    pub did: String,
    /// Its handle in lower case, if it has one.
    pub handle: Option<String>,
}

/// Writes rows. Of two accounts that claim a handle, the one that is verified later holds it, and
/// in one call the one with the greater DID; the other's becomes NULL (`indexHandle` in
/// `data-plane/server/indexing/index.ts`). A handle that is only claimed (`verified` is false) is
/// never taken from an account that is verified for it, and does not depend on the order of calls:
/// the greater DID holds it. States of accounts come from [`ledger::identity`]. Other columns are
/// not touched.
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
    let (loses, keeps) = if verified {
        ("a.did <> g.did".to_owned(), "false".to_owned())
    } else {
        let is_verified = identity::is_verified("a.did");
        (
            format!("a.did COLLATE \"C\" < g.did COLLATE \"C\" AND NOT {is_verified}"),
            format!(
                "a.did <> g.did AND (a.did COLLATE \"C\" > g.did COLLATE \"C\" OR {is_verified})"
            ),
        )
    };
    // First, all accounts in this call give up other handles, so that others can get them.
    client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($1::text[], $2::text[]) g (did, handle)
             WHERE a.did = g.did AND a.handle IS DISTINCT FROM g.handle"
        ),
        &[&dids, &handles],
    )?;
    client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($2::text[], $3::text[]) g (did, handle)
             WHERE a.handle = g.handle AND {loses} AND $1::text IS NOT NULL"
        ),
        &[&schema, &dids, &handles],
    )?;
    let status = identity::status_of("g.did");
    client.execute(
        &format!(
            "INSERT INTO \"{schema}\".actor AS held (did, handle, \"indexedAt\", \"upstreamStatus\")
             SELECT g.did, CASE WHEN NOT EXISTS (
                 SELECT FROM \"{schema}\".actor a WHERE a.handle = g.handle AND {keeps}) THEN g.handle END, $4, {status}
             FROM unnest($2::text[], $3::text[]) g (did, handle)
             ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, \"indexedAt\" = excluded.\"indexedAt\",
               \"upstreamStatus\" = excluded.\"upstreamStatus\""
        ),
        &[&schema, &dids, &handles, &indexed_at],
    )?;
    Ok(())
}

/// Adds rows without a handle for accounts that have no row; existing rows stay.
///
/// # Errors
/// The server refused.
pub fn add(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
    indexed_at: &str,
) -> Result<(), Error> {
    let status = identity::status_of("g.did");
    client.execute(
        &format!(
            "INSERT INTO \"{schema}\".actor (did, \"indexedAt\", \"upstreamStatus\")
             SELECT g.did, $3, {status} FROM unnest($2::text[]) g (did) ON CONFLICT (did) DO NOTHING"
        ),
        &[&schema, &dids, &indexed_at],
    )?;
    Ok(())
}
