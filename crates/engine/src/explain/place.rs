//! What is asked about: an account, or a record of it.

use crate::documents::Directory;
use identity::handle;
use postgres::Client;
use process::{Database, Failure};
use rows::aturi::AtUri;
use tokio::runtime::Runtime;

/// A record's place.
pub(crate) struct Place {
    pub(crate) did: String,
    /// Collection and record key, if a record is meant.
    pub(crate) key: Option<(String, String)>,
}

impl Place {
    /// The key in the tree.
    pub(crate) fn key(&self) -> Option<String> {
        let (collection, rkey) = self.key.as_ref()?;
        Some(format!("{collection}/{rkey}"))
    }

    /// What a target names.
    pub(crate) fn find(
        target: &str,
        directory: &Directory,
        database: &Database,
        client: &mut Client,
        runtime: &Runtime,
    ) -> Result<Self, Failure> {
        find(target, directory, database, client, runtime)
    }

    /// The AT-URI of the record.
    pub(crate) fn uri(&self) -> Option<String> {
        Some(format!("at://{}/{}", self.did, self.key()?))
    }
}

/// What the target names. A handle is looked up in the table `actor`, then in the network.
fn find(
    target: &str,
    directory: &Directory,
    database: &Database,
    client: &mut Client,
    runtime: &Runtime,
) -> Result<Place, Failure> {
    let target = target.trim();
    let (authority, key) = match target.strip_prefix("at://") {
        None => (target.trim_start_matches('@').to_owned(), None),
        Some(_) => {
            let parsed = AtUri::parse(target).ok_or_else(|| no_target(target))?;
            let key = match (parsed.collection, parsed.rkey) {
                ("", "") => None,
                (collection, rkey)
                    if atrepo::syntax::is_nsid(collection) && atrepo::syntax::is_rkey(rkey) =>
                {
                    Some((collection.to_owned(), rkey.to_owned()))
                }
                _ => return Err(no_target(target)),
            };
            (parsed.authority.to_owned(), key)
        }
    };
    if atrepo::syntax::is_did(&authority) {
        return Ok(Place {
            did: authority,
            key,
        });
    }
    if !atrepo::syntax::is_handle(&authority) {
        return Err(no_target(target));
    }
    let known = verify::record::account_of_handle(client, &authority);
    if let Some(did) = known.map_err(|error| database.failure(error))? {
        return Ok(Place { did, key });
    }
    let resolver = directory.handles()?;
    match runtime.block_on(resolver.resolve(&authority)) {
        handle::Leads::To(did) => Ok(Place { did, key }),
        handle::Leads::Nowhere => Err(Failure::new(format!(
            "handle {authority} is not in the database, and does not resolve"
        ))
        .hint("check its spelling, or give the account's DID")),
        handle::Leads::Unreachable(error) => Err(Failure::new(format!(
            "handle {authority} is not in the database, and could not be looked up: {error}"
        ))
        .hint("give the account's DID")),
    }
}

fn no_target(target: &str) -> Failure {
    Failure::usage(format!("{target} names neither an account nor a record"))
        .hint("give a DID, a handle, or at://DID-OR-HANDLE/COLLECTION/RKEY")
}
