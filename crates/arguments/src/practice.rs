//! Arguments of the practice network.

use clap::Args;
use std::path::PathBuf;

/// Serves the practice network on loopback: generated PDSes, a PLC directory, a relay and handles.
///
/// Prints one line of JSON with their URLs, and serves until it is stopped. The same seed gives the
/// same accounts, repos and faults. Faults make hosts and repos fail in every known way; an unknown
/// name prints the list of them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill simnet --repos 1000 --hosts 20
  skyfill simnet --repos 20000 --hosts 300 --faults all --limit 100/10
  skyfill simnet --faults limits-429,html,dead-host --hosts 30 --limit 50/10
  skyfill simnet --dids dids.jsonl & skyfill run dids.jsonl --allow-private-hosts --handles skip")]
pub struct SimnetArgs {
    /// File to write all accounts to, as a DID file
    #[arg(long, value_name = "FILE")]
    pub dids: Option<PathBuf>,
    /// Number of accounts
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub repos: u32,
    /// Approximate number of records over all accounts
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub records: u32,
    /// Number of PDSes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub hosts: u32,
    /// Share of all accounts that the fullest host has, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub fullest_share: f64,
    /// Faults to switch on, separated by commas, or all or none
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "none"
    )]
    pub faults: Vec<String>,
    /// Request limit of the hosts with the faults limits-429, silent-429 and shared-address
    #[arg(long, value_name = "REQUESTS/SECONDS")]
    pub limit: Option<simnet::Limit>,
    /// Number of events that the relay keeps
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub replay_events: u32,
    /// Rate of commits, deletions, moves and new accounts [changes per second]
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub changes: u32,
    /// Seed of the generated network
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// File to write the records to in the line form, repo after repo, instead of serving them
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,
}
