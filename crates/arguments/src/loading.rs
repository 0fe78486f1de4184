//! Arguments of `run` and `catch-up`.

use super::{DatabaseArgs, HostsArgs, IndexMemoryArgs, MemoryArgs, OutputArgs};
use super::{NewStreamArgs, SourceArgs, StoreArgs, TransportArgs, values};
use archive::Place;
use clap::{Args, ValueEnum};
use process::size;
use std::path::PathBuf;

/// Loads repos into a database that an AppView can serve from.
///
/// The phases are: fetch, check and load; rebuild the indexes; vacuum; look up the accounts;
/// finalize; verify. The database keeps the list of repos and the state of each, in schema
/// `skyfill`. Without arguments, `run` continues with the repos that are pending, whatever stopped
/// it. Repos that are loaded already are fetched again only if their PDS has a newer rev.
///
/// Empty tables are loaded fresh: by COPY, with the indexes built at the end. Into tables with
/// rows, `run` merges. An AppView may serve from them meanwhile, but its ingester must be stopped.
/// The exit code is 0 if the database is "complete" at the end (docs/reference/certificate.md),
/// else 1.
///
/// With --follow it goes on, as `skyfill follow` does, until it is stopped. The events begin at the
/// position that the relay had before the first fetch. If the relay no longer has them, all hosts
/// are listed once more. The same command starts it again: what is loaded is not loaded again.
///
/// With --transport, repos that were fetched and checked go to a stream of NATS JetStream, and
/// `skyfill consumer`, on any machine, stores them in the same database, as a merge. Then `run`
/// waits until that is done, and goes on with the other phases.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill run dids.jsonl
  skyfill run                                       # continue with what is pending
  skyfill run --handle bsky.app --did did:plc:z72i7hdynmk6r22z27h6tvur
  skyfill run dids.jsonl --keep-cars cars           # a second load then needs no network:
  skyfill run --from-cars cars
  skyfill run dids.jsonl --collections graph,profiles --since 2026-01-01 --notifications none
  skyfill run --followed-by bsky.app --hops 2
  skyfill run --retry-failed
  skyfill run --discover --follow                   # from nothing to live
  skyfill run --discover --transport nats://nats.example:4222")]
pub struct RunArgs {
    #[command(flatten)]
    pub what: WhatArgs,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub foresight: ForesightArgs,
    #[command(flatten)]
    pub transport: TransportArgs,
    #[command(flatten)]
    pub new_stream: NewStreamArgs,
    /// Follow the event stream of the relay afterwards, until stopped
    #[arg(long, conflicts_with_all = ["did_file", "did", "handle", "followed_by", "list", "from_cars", "collection", "transport"])]
    pub follow: bool,
    #[command(flatten)]
    pub proof: ProofArgs,
}

/// What a run does about its plan.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ForesightArgs {
    /// Print what the run is going to take, as `skyfill plan` does, and end before the first
    /// request
    #[arg(long)]
    pub dry_run: bool,
    /// Begin even if the disk is clearly too small
    #[arg(long)]
    pub force: bool,
}

/// What to load, and how a new run begins.
#[derive(Args, Clone, Debug)]
pub struct WhatArgs {
    /// DID file with the accounts to load: one JSON array per line,
    /// ["did:plc:...","https://pds.example"]
    #[arg(value_name = "DID-FILE")]
    pub did_file: Option<PathBuf>,
    /// Account to load, at the PDS that its DID document names [repeatable]
    #[arg(long, value_name = "DID", value_parser = values::did)]
    pub did: Vec<String>,
    /// Account to load, by its handle [repeatable]
    #[arg(long, value_name = "HANDLE")]
    pub handle: Vec<String>,
    /// Account, by its DID or handle, that is loaded with the accounts that it follows [repeatable]
    #[arg(long, value_name = "ACCOUNT")]
    pub followed_by: Vec<String>,
    /// Largest distance from an account of --followed-by [follows]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3), requires = "followed_by")]
    pub hops: u8,
    /// List whose members are loaded with its owner: at://DID/app.bsky.graph.list/RKEY [repeatable]
    #[arg(long, value_name = "AT-URI")]
    pub list: Vec<String>,
    /// Maximum number of accounts that --followed-by and --list may lead to; more are refused
    /// before any is loaded
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub most_accounts: u64,
    /// Retry failed repos now, also those whose next attempt is due later
    #[arg(long)]
    pub retry_failed: bool,
    /// Way in which a new run loads: fresh needs empty tables, merge accepts any
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub mode: LoadMode,
    /// Collections to load, separated by commas: names, wildcards such as app.bsky.graph.*, or
    /// groups such as posts and graph; all others count as left out by choice [default: those of
    /// the last run, else all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub collections: Vec<rows::Meant>,
    /// Leave out posts, gates, likes and reposts whose indexedAt is before this date [default: that
    /// of the last run, else none]
    #[arg(long, value_name = "DATE", value_parser = since)]
    pub since: Option<String>,
    /// Notifications to store: all, none, or since=DATE [default: those of the last run, else all]
    #[arg(long, value_name = "WHICH")]
    pub notifications: Option<load::Notifications>,
    /// Archive made by --keep-cars, or folder or bucket of .car files, to read repos from instead
    /// of the network: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, value_name = "PLACE", conflicts_with = "keep_cars")]
    pub from_cars: Option<Place>,
    /// With --from-cars: request from their hosts the repos that the archive lacks, and those that
    /// are newer there
    #[arg(long, requires = "from_cars")]
    pub fetch_missing: bool,
    /// Time of a new run, the latest that any record's indexedAt can be [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    /// Discover repos first, as `skyfill discover` does, from the sources given or the relay
    #[arg(long, help_heading = "Sources")]
    pub discover: bool,
}

/// The way in which a run loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadMode {
    /// Fresh if the tables are empty, else merge
    Auto,
    /// Load into empty tables, with indexes built at the end
    Fresh,
    /// Merge with existing rows
    Merge,
}

/// How to load.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Archive to add every fetched CAR to, compressed: a folder, s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub keep_cars: Option<Place>,
    #[command(flatten)]
    pub store: StoreArgs,
    /// Treatment of handles at the end: verify them, store them as claimed, or leave the table
    /// `actor` alone
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub handles: RunHandles,
    /// Source of the DID documents of did:plc accounts
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub documents: RunDocuments,
    /// Skip the comparison of the tables with the signed commits at the end
    #[arg(long)]
    pub no_verify: bool,
    /// File for the certificate: verdict and findings per host, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "no_verify")]
    pub certificate: Option<PathBuf>,
    #[command(flatten)]
    pub server: IndexMemoryArgs,
    /// Threads that check and encode [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Database connections for loading, index builds and finalize [default: one per two cores, 2
    /// to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: Option<u8>,
    #[command(flatten)]
    pub worker: WorkerArgs,
    #[command(flatten)]
    pub fill: FillArgs,
}

/// What all commands have in common that keep tables filled: `run`, `catch-up` and `follow`.
#[derive(Args, Clone, Debug)]
pub struct FillArgs {
    /// Remove the rows of accounts that are gone from their host even if the host lost more than a
    /// tenth of its accounts
    #[arg(long)]
    pub accept_deletions: bool,
    /// Memory budget of the whole process, without PostgreSQL [bytes, or with KiB, MiB, GiB;
    /// default: an eighth of the machine's, 1 to 16 GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    #[command(flatten)]
    pub hosts: HostsArgs,
    #[command(flatten)]
    pub remember: MemoryArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the process is as one of the workers on its database.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// Name of this worker in `skyfill status`, where several load into one database [default: the
    /// name of the machine]
    #[arg(long, value_name = "NAME", env = "SKYFILL_WORKER", value_parser = worker_name)]
    pub worker: Option<String>,
    /// Time after which another worker may take over the hosts of this one, if it does not renew
    /// its leases; the same for all workers [seconds]
    #[arg(long, value_name = "S", default_value_t = WorkerArgs::LEASE, value_parser = clap::value_parser!(u16).range(2..=3_600))]
    pub lease: u16,
}

impl WorkerArgs {
    const LEASE: u16 = 60;
}

impl Default for WorkerArgs {
    fn default() -> Self {
        Self {
            worker: None,
            lease: Self::LEASE,
        }
    }
}

/// What a run does with handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunHandles {
    /// Verify them where fewer than 300,000 accounts are due; store those of more as claimed, to be
    /// verified by `skyfill identities` beside the serving AppView
    Auto,
    /// Verify them, in both directions
    Verified,
    /// Store them as claimed, to be verified later
    Claimed,
    /// Leave the table `actor` alone
    Skip,
}

/// How a run reads the DID documents of many accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunDocuments {
    /// From the PLC directory's export, beside loading, where there are 300,000 accounts or more
    Auto,
    /// From the export in any case
    Export,
    /// One by one
    Single,
}

/// The proof that goes on beside the stream.
#[derive(Args, Clone, Copy, Debug)]
pub struct ProofArgs {
    /// Rate of the comparison with the commits while following [records per second]; 0 turns it off
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub proof_rate: u32,
}

/// Brings loaded tables up to the present, until an AppView can take over.
///
/// Each pass lists the repos of all known hosts and compares them with the ledger. It fetches and
/// merges repos that have a newer rev, removes the rows of accounts that are gone, and stores the
/// new account states. Passes repeat until the relay still holds every event since the last
/// comparison began. From then on, an AppView that subscribes to this relay misses nothing. Until
/// then its ingester must be stopped. See docs/how-to/live-appview.md. With --follow it then goes
/// on, as `skyfill follow` does, until it is stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill catch-up
  skyfill catch-up --follow
  skyfill catch-up --relay https://relay.example --contact ops@example.com")]
pub struct CatchUpArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Maximum number of passes; catch-up ends earlier when no gap is left
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub passes: u32,
    /// Time of the passes, the latest that any record's indexedAt can be [default: the present
    /// time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    /// Follow the event stream of the relay afterwards, until stopped
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub proof: ProofArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

fn worker_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    if (1..=64).contains(&text.chars().count()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of up to 64 characters without spaces".to_owned())
    }
}

fn since(text: &str) -> Result<String, String> {
    load::parse_since(text).ok_or_else(|| "expected a date such as 2024-05-01".to_owned())
}
