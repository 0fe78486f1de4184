//! A repo that is fetched and opened as a whole: what a producer and a run do alike.
//!
//! Both make a request when it is the host's turn, hold the turn until there is room for the body,
//! and index the blocks of a CAR within a bound of memory before anything of it is used. The rest
//! differs, because a run has a ledger and a producer has none:
//!
//! - A run knows what is stored, so it may ask for the newest commit instead, or read the repo from
//!   an archive. It judges the commit by the account's DID document, and where the document names
//!   another host, the repo moves there in the ledger. It encodes while it checks.
//! - A producer follows redirects instead of documents. It checks every record before it sends the
//!   first one.

use crate::body::{Body, Pages};
use crate::client::Client;
use crate::error::FetchError;
use crate::turns::Turn;
use atrepo::{Repo, RepoError};

/// Makes one attempt at a repo, in its turn. The turn ends when the body is complete and `room` has
/// found a place for it: while those who check repos are behind, hosts are asked less.
///
/// # Errors
/// See [`FetchError`]; or the error of `room`.
pub async fn fetch<R>(
    client: &Client,
    mut turn: Turn,
    (did, pds): (&str, &str),
    room: impl Future<Output = Result<R, FetchError>>,
) -> Result<(Body, R), FetchError> {
    let got = match client.get_repo(did, pds, &mut turn.seen).await {
        Ok(body) => Ok((body, room.await?)),
        Err(error) => Err(error),
    };
    turn.end(&got);
    got
}

/// Opens the CAR of an account. `admit` gets the size of the index of its blocks, in bytes, before
/// the index is made; what it answers is given back with the repo. `pages` releases the pages
/// that were read.
///
/// # Errors
/// What is wrong with the CAR or its commit; or the error of `admit`.
pub fn open<M, E: From<RepoError>>(
    body: Body,
    did: &str,
    pages: &mut Pages,
    admit: impl FnOnce(usize) -> Result<M, E>,
) -> Result<(Repo<Body>, Option<M>), E> {
    let mut memory = None;
    let admit = |bytes: usize| -> Result<(), E> {
        memory = Some(admit(bytes)?);
        Ok(())
    };
    let repo = Repo::open_within(body, did, admit, |body, at| pages.read_to(body, at))?;
    Ok((repo, memory))
}
