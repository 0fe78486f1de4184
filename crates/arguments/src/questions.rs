//! Arguments of the commands that answer questions: `explain`, `audit` and `compare`.

use super::{DatabaseArgs, HostsArgs, MemoryArgs, OutputArgs, SchemaArgs};
use clap::Args;
use std::path::PathBuf;

/// Explains what happened to a record or an account.
///
/// Of a record: whether it is stored, a duplicate, skipped, or not in the repo; its rows in each
/// table; why a gate hides it or its thread counts as invalid; who is notified of it, and who is
/// not and why. Of an account: its host, rev, proof, failures, and the next step. Nothing is
/// changed. See docs/how-to/questions.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill explain at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.post/3l6oveex3ii2l
  skyfill explain bsky.app
  skyfill explain at://bsky.app/app.bsky.actor.profile/self --fetch --json")]
pub struct ExplainArgs {
    /// Record (at://DID-OR-HANDLE/COLLECTION/RKEY), or account (DID or handle)
    #[arg(value_name = "RECORD-OR-ACCOUNT")]
    pub target: String,
    /// Ask the account's host, too, and check its answer: the signature of the commit, and whether
    /// the record is in the tree
    #[arg(long)]
    pub fetch: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub hosts: HostsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Print the answer as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Measures how complete an AppView's database is, whoever filled it.
///
/// skyfill draws accounts at random from a list of the network, fetches their repos, checks the
/// signatures, and compares the rows. It reports the share of rows that are there, by table, with
/// 95 % confidence intervals that take into account that rows come in repos. It needs no ledger,
/// only reads, and a role that may read the AppView's tables is enough. The exit code is 0 if
/// nothing is missing or extra and all accounts that were drawn could be compared, else 1. See
/// docs/how-to/questions.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill audit postgresql://reader@localhost/bsky --did-file dids.jsonl --sample 500
  skyfill audit postgresql://reader@localhost/bsky --relay https://relay.example --seed 7 --json")]
pub struct AuditArgs {
    /// Database to audit, as a URL or libpq's key=value pairs
    #[arg(
        value_name = "URL",
        env = "BSKY_DB_POSTGRES_URL",
        hide_env_values = true
    )]
    pub url: String,
    #[command(flatten)]
    pub schema: SchemaArgs,
    /// Number of accounts to draw
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sample: u32,
    /// Seed of the random numbers: the same seed draws the same accounts from the same list
    /// [default: the present time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub population: PopulationArgs,
    #[command(flatten)]
    pub hosts: HostsArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The accounts to draw from.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct PopulationArgs {
    /// DID file with the accounts to draw from
    #[arg(long, value_name = "FILE", help_heading = "Accounts to draw from")]
    pub did_file: Option<PathBuf>,
    /// Relay whose active accounts to draw from; all pages of its list are read
    #[arg(long, value_name = "URL", help_heading = "Accounts to draw from")]
    pub relay: Option<String>,
    /// PDS whose active accounts to draw from [repeatable]
    #[arg(long, value_name = "URL", help_heading = "Accounts to draw from")]
    pub pds: Vec<String>,
}

/// Names the hosts and repos in which two certificates differ.
///
/// Hosts are compared by their figures and by a hash of their repos. Repos are named if both
/// certificates were written with `--certificate-repos`. The exit code is 0 if nothing differs,
/// else 1.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  skyfill verify --certificate today.json --certificate-repos
  skyfill compare yesterday.json today.json")]
pub struct CompareArgs {
    /// First certificate
    #[arg(value_name = "CERTIFICATE")]
    pub first: PathBuf,
    /// Second certificate
    #[arg(value_name = "CERTIFICATE")]
    pub second: PathBuf,
    /// Print the differences as JSON on stdout
    #[arg(long)]
    pub json: bool,
}
