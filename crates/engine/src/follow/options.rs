//! How a stream is followed, and whose.

use crate::discovery::{PUBLIC_RELAY, Source, base_url, relay_of_last_run};
use process::{Database, Failure};

/// How a stream is followed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Relays, the preferred one first.
    pub relays: Vec<String>,
    /// The sequence number of the first relay after which it begins; without one, where the last
    /// one ended, else where the load began.
    pub cursor: Option<i64>,
    /// Whether it ends when everything up to the present is stored.
    pub until_now: bool,
    /// Records per second that are compared with their commits beside the stream; 0 for none.
    pub proof_rate: u64,
}

/// The relays to follow: those that are named, else that of the last run, else the public one.
///
/// # Errors
/// One of them is no URL, or the database cannot be used.
pub fn relays(named: &[String], database: &Database) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return named.iter().map(|url| base_url("--relay", url)).collect();
    }
    relay_of_run(database).map(|relay| vec![relay])
}

/// The relay whose stream is followed after a load from a source: the one that is named, or a
/// single PDS; else that of the last run, else the public one.
///
/// # Errors
/// Several PDSes are named and no relay, or the database cannot be used.
pub fn relay_to_follow(source: &Source, database: &Database) -> Result<String, Failure> {
    match (&source.relay, source.named_pds().count()) {
        (Some(relay), _) => Ok(relay.clone()),
        (None, 0) => relay_of_run(database),
        (None, 1) => Ok(source.relay().to_owned()),
        (None, _) => Err(Failure::usage(
            "--follow: several hosts are named with --pds, and one stream is followed",
        )
        .hint("name the relay that has the events of these hosts: --relay URL")),
    }
}

/// The relay of the last run, else the public one.
fn relay_of_run(database: &Database) -> Result<String, Failure> {
    Ok(relay_of_last_run(database)?.unwrap_or_else(|| PUBLIC_RELAY.to_owned()))
}
