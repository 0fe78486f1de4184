//! The table `actor`, whose unique key, the handle, spans repos.

use ledger::identity::{self, HandleState};
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

/// The row that has the handle `g.handle`, as `held`, in a LATERAL. The trigram index of handles
/// serves equality, too, and the server takes it for the cheaper one: at 200,000 accounts each
/// lookup reads 285 of its pages, and more with each account. It does not serve an order.
fn holder(schema: &str) -> String {
    format!(
        "(SELECT did, handle FROM \"{schema}\".actor o WHERE o.handle >= g.handle ORDER BY o.handle LIMIT 1) held"
    )
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
        ("held.did <> g.did".to_owned(), "false".to_owned())
    } else {
        let is_verified = identity::has_state("held.did", HandleState::Verified);
        (
            format!("held.did COLLATE \"C\" < g.did COLLATE \"C\" AND NOT {is_verified}"),
            format!(
                "held.did <> g.did AND (held.did COLLATE \"C\" > g.did COLLATE \"C\" OR {is_verified})"
            ),
        )
    };
    let holder = holder(schema);
    // First, all accounts in this call give up other handles, so that others can get them.
    client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($1::text[], $2::text[]) g (did, handle)
             WHERE a.did = g.did AND a.handle IS NOT NULL AND a.handle IS DISTINCT FROM g.handle"
        ),
        &[&dids, &handles],
    )?;
    client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($2::text[], $3::text[]) g (did, handle)
               CROSS JOIN LATERAL {holder}
             WHERE held.handle = g.handle AND a.did = held.did AND {loses} AND $1::text IS NOT NULL"
        ),
        &[&schema, &dids, &handles],
    )?;
    let status = identity::status_of("g.did");
    client.execute(
        &format!(
            "INSERT INTO \"{schema}\".actor (did, handle, \"indexedAt\", \"upstreamStatus\")
             SELECT g.did, CASE WHEN NOT EXISTS (
                 SELECT FROM {holder} WHERE held.handle = g.handle AND {keeps}) THEN g.handle END, $4, {status}
             FROM unnest($2::text[], $3::text[]) g (did, handle)
             ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, \"indexedAt\" = excluded.\"indexedAt\",
               \"upstreamStatus\" = excluded.\"upstreamStatus\""
        ),
        &[&schema, &dids, &handles, &indexed_at],
    )?;
    Ok(())
}

/// How a handle that was stored as claimed turned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The account.
    pub did: String,
    /// The handle that its document claims, in lower case.
    pub claimed: Option<String>,
    /// Whether it leads to the account.
    pub is_verified: bool,
}

/// Makes the rows of accounts whose handles were stored as claimed those that [`store`] would have
/// given once they were looked at. Writes only what differs, which is nothing for a claim that is
/// true and uncontested. A handle that somebody else has written for an account since stays.
///
/// # Errors
/// The server refused.
pub fn settle(
    client: &mut impl GenericClient,
    schema: &str,
    settled: &[Settled],
) -> Result<u64, Error> {
    let holder = holder(schema);
    let (mut holders, mut untrue): (HashMap<&str, &str>, Vec<(&str, &str)>) = Default::default();
    for one in settled {
        let Some(claimed) = &one.claimed else {
            continue;
        };
        if one.is_verified {
            let holder = holders.entry(claimed).or_insert(&one.did);
            *holder = (*holder).max(&one.did);
        } else {
            untrue.push((&one.did, claimed));
        }
    }
    let (dids, handles): (Vec<&str>, Vec<&str>) = untrue.into_iter().unzip();
    let mut written = client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($1::text[], $2::text[]) g (did, handle)
             WHERE a.did = g.did AND a.handle IS NOT DISTINCT FROM g.handle"
        ),
        &[&dids, &handles],
    )?;
    let (handles, dids): (Vec<&str>, Vec<&str>) = holders.into_iter().unzip();
    written += client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = NULL FROM unnest($1::text[], $2::text[]) g (did, handle)
               CROSS JOIN LATERAL (SELECT FROM \"{schema}\".actor m WHERE m.did = g.did AND m.handle IS NULL OFFSET 0) mine
               CROSS JOIN LATERAL {holder}
             WHERE held.handle = g.handle AND held.did <> g.did AND a.did = held.did"
        ),
        &[&dids, &handles],
    )?;
    written += client.execute(
        &format!(
            "UPDATE \"{schema}\".actor a SET handle = g.handle FROM unnest($1::text[], $2::text[]) g (did, handle)
             WHERE a.did = g.did AND a.handle IS NULL"
        ),
        &[&dids, &handles],
    )?;
    Ok(written)
}

/// Takes handles that were stored as claimed out of the rows of accounts that could not be reached.
/// What was verified before stays. The ledger must not say yet that they were not reached.
///
/// # Errors
/// The server refused.
pub fn withdraw_claims(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[String],
) -> Result<u64, Error> {
    if dids.is_empty() {
        return Ok(0);
    }
    let is_claimed = identity::has_state("a.did", HandleState::Claimed);
    let sql = format!(
        "UPDATE \"{schema}\".actor a SET handle = NULL WHERE a.did = ANY($2) AND a.handle IS NOT NULL AND {is_claimed}"
    );
    client.execute(&sql, &[&schema, &dids])
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
