//! Arguments of `follow`.

use super::{
    DatabaseArgs, FillArgs, IndexMemoryArgs, LoadArgs, ProofArgs, RunDocuments, RunHandles,
    StoreArgs, WorkerArgs,
};
use clap::Args;

/// Keeps loaded tables up to date by the event stream of a relay, commit by commit.
///
/// skyfill verifies the operations and the signature of each commit, stores its rows, computes the
/// derived rows that depend on them, and notes the cursor in the database. What does not verify, or
/// does not continue what is stored, is not stored: the repo is fetched and merged instead. It
/// begins where the last `follow` ended, else at the position that the relay had before `run` or
/// `catch-up` began. The official ingester must be stopped meanwhile; its API may run. On SIGTERM
/// skyfill stores what it has verified, then ends. See docs/how-to/stay-live.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill follow
  skyfill follow --relay https://relay.example --relay https://relay2.example
  skyfill follow --until-now")]
pub struct FollowArgs {
    /// Relay, or single PDS, whose events are followed; others that are named take over while it
    /// does not answer [repeatable] [default: that of the run, else the public relay]
    #[arg(
        long = "relay",
        value_name = "URL",
        env = "BSKY_REPO_PROVIDER",
        help_heading = "Sources"
    )]
    pub relays: Vec<String>,
    /// Sequence number after which to start on the first relay [default: where the last `follow`
    /// ended]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Sources")]
    pub cursor: Option<i64>,
    /// End when everything up to the present position of the relay is stored
    #[arg(long)]
    pub until_now: bool,
    #[command(flatten)]
    pub proof: ProofArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Treatment of handles of accounts that changed: verify them (auto does so, too), store them
    /// as claimed, or leave the table `actor` alone
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub handles: RunHandles,
    /// Threads that verify [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Database connections that store commits, and that compute derived rows [default: one per two
    /// cores, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: Option<u8>,
    #[command(flatten)]
    pub fill: FillArgs,
}

impl FollowArgs {
    /// The same as the arguments of a load; `relays` may be on private networks.
    pub fn load(&self, relays: &[String]) -> LoadArgs {
        let mut fill = self.fill.clone();
        fill.hosts.fetch.named.extend_from_slice(relays);
        LoadArgs {
            database: self.database.clone(),
            keep_cars: None,
            store: StoreArgs::default(),
            handles: self.handles,
            documents: RunDocuments::Single,
            no_verify: true,
            certificate: None,
            fill,
            server: IndexMemoryArgs::default(),
            threads: self.threads,
            max_db_connections: self.max_db_connections,
            worker: WorkerArgs::default(),
        }
    }
}
