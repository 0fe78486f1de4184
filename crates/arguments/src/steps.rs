//! Arguments of the steps after a load, each alone: `identities`, `finalize` and `verify`.

use super::{CallerArgs, DatabaseArgs, DirectoryArgs, MemoryArgs, OutputArgs, values};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Looks up the loaded accounts and writes the table `actor`.
///
/// For each account, skyfill reads the DID document and verifies its handle in both directions, by
/// DNS first, then by HTTPS. A handle that cannot be verified is stored as NULL. A document or
/// handle that could not be reached is retried by a later run, once it is due.
///
/// Handles that a run stored as claimed are verified, too, and only rows that turn out different
/// are written. The AppView, `follow` and `catch-up` can work meanwhile, and so can a load. The
/// command continues where it was stopped. The exit code is 1 if something could not be reached.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill identities
  skyfill identities --plc-export                  # documents in bulk, then handles
  skyfill identities --handles claimed             # store handles as claimed, verify them later:
  skyfill identities
  BSKY_DID_PLC_URL=http://localhost:2582 skyfill identities --well-known-server http://localhost:2583")]
pub struct IdentitiesArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Treatment of handles: verify them, or store them as claimed for a later run to verify
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub handles: HandleMode,
    /// Read documents in bulk from the PLC directory's export first, continuing where the last run
    /// stopped; the default if 300,000 accounts or more are to be looked up
    #[arg(long)]
    pub plc_export: bool,
    /// Retry now what could not be reached, whenever it is due
    #[arg(long)]
    pub retry: bool,
    /// Look up all accounts again
    #[arg(long)]
    pub recheck: bool,
    /// DID file with more accounts to look up; only the DIDs of its lines are read
    #[arg(long, value_name = "DID-FILE")]
    pub dids: Option<PathBuf>,
    /// Time of the run, stored as indexedAt [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    #[command(flatten)]
    pub directory: DirectoryArgs,
    #[command(flatten)]
    pub caller: CallerArgs,
    /// Maximum concurrent account lookups
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Network")]
    pub concurrency: u16,
    /// Send requests to private networks and to this machine, too, where DIDs and handles lead
    /// there
    #[arg(long, help_heading = "Network")]
    pub allow_private_hosts: bool,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `identities` does with handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HandleMode {
    /// Verify them; if 300,000 accounts or more are due, store them as claimed first, so that an
    /// AppView can serve meanwhile
    Auto,
    /// Verify them, in both directions
    Verified,
    /// Store them as claimed, to be verified later
    Claimed,
}

/// Computes the derived rows: those that need rows of other repos.
///
/// These are the flags of replies, gates and embeds, the notifications of quotes and replies, and
/// the counts of posts and accounts. They are computed from the AppView's tables alone, as the
/// official indexer would have written them. Run it when a load has ended. It works in slices and
/// commits each. If it was stopped, it continues with the remaining slices, unless rows were loaded
/// since. A second run changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill finalize
  skyfill finalize --max-db-connections 8 --json")]
pub struct FinalizeArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Database connections that work concurrently
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: u8,
    /// Approximate number of rows per slice
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub slice_rows: u64,
    /// Start over instead of continuing an interrupted run; needed if another program wrote to the
    /// tables since
    #[arg(long)]
    pub restart: bool,
    /// Notifications to store: all, none, or since=DATE, as the loads did [default: those of the
    /// loads]
    #[arg(long, value_name = "WHICH")]
    pub notifications: Option<load::Notifications>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Compares the tables with the signed commits of the loaded repos.
///
/// For each repo, verify recomputes the root of its tree from `record` and the list of skipped
/// records, and compares it with the commit. It converts the JSON of each record back to DAG-CBOR
/// and compares the CID. It recomputes the rows that follow from a record alone and compares them.
/// Each missing, extra or changed row is printed on stdout, as one JSON object per line.
///
/// The last line on stderr is the verdict, one word for what the database holds
/// (docs/reference/certificate.md). The exit code is 0 if the verdict is "complete", else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill verify
  skyfill verify --certificate certificate.json
  skyfill verify --signatures
  skyfill verify --repair; skyfill run              # fetch repos that differ again")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Database connections that compare concurrently [default: one per core, as far as the server
    /// has room]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub max_db_connections: Option<u8>,
    /// Mark repos that differ, so that `skyfill run` fetches them again and rewrites all of their
    /// rows
    #[arg(long)]
    pub repair: bool,
    /// Check the signatures of the commits, too, against the keys in the DID documents
    #[arg(long)]
    pub signatures: bool,
    /// File for the certificate: verdict and findings per host, as JSON
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// List all stored repos in a file beside the certificate, FILE.repos: DID, rev, root and host,
    /// so that `skyfill compare` names the repos in which two certificates differ
    #[arg(long, requires = "certificate", conflicts_with = "did")]
    pub certificate_repos: bool,
    /// Account to compare, instead of all [repeatable]
    #[arg(long, value_name = "DID", value_parser = values::did)]
    pub did: Vec<String>,
    /// Compare all repos, not only those that were stored since they were compared
    #[arg(long, conflicts_with_all = ["did", "sample"])]
    pub all: bool,
    /// Compare this number of repos, chosen at random
    #[arg(long, value_name = "N", conflicts_with = "did")]
    pub sample: Option<u64>,
    #[command(flatten)]
    pub directory: DirectoryArgs,
    #[command(flatten)]
    pub caller: CallerArgs,
    /// Request did:web documents from private networks and from this machine, too
    #[arg(long, help_heading = "Network")]
    pub allow_private_hosts: bool,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
