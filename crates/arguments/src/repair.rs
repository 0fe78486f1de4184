//! Arguments of `repair`.

use super::{DatabaseArgs, HostsArgs, MemoryArgs};
use clap::Args;
use std::path::PathBuf;

/// Loads or reloads single accounts while the AppView's ingester runs.
///
/// Each account's document and repo are fetched and checked, whether or not skyfill filled the
/// database. One transaction stores the repo: it keeps the rows that are right, writes those that
/// differ, and removes those of records that are gone. It locks the table `record`, asks the host
/// once more whether the repo is still the newest, and commits only then. If it is not, nothing is
/// stored, and the repo is fetched again. So a repair never replaces a newer row with an older one.
/// Then it updates the account's handle, its state and the derived rows. The exit code is 0 if all
/// accounts are as their hosts have them, else 1. See docs/how-to/repair-accounts.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill repair did:plc:z72i7hdynmk6r22z27h6tvur
  skyfill repair bsky.app alice.example --contact ops@example.com --json
  skyfill repair --file accounts.txt")]
pub struct RepairArgs {
    /// Account, by its DID or handle
    #[arg(value_name = "DID-OR-HANDLE", required_unless_present = "file")]
    pub accounts: Vec<String>,
    /// File with more accounts: one DID or handle per line, or the lines of a DID file; # begins a
    /// comment
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Remove the rows of an account that its host no longer has, even if its DID document still
    /// names that host
    #[arg(long)]
    pub accept_deletions: bool,
    /// Latest time that any record's indexedAt can be [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub hosts: HostsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Print what became of each account as JSON on stdout, instead of a table
    #[arg(long)]
    pub json: bool,
}
