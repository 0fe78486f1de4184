//! Arguments about the network: limits and pace of requests, directories of accounts, sources of
//! repos, and the command that discovers them.

use super::{DatabaseArgs, OutputArgs, values};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How to fetch repos.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Maximum concurrent requests, over all hosts [default: 16 for the producer, else 512]
    #[arg(long, value_name = "N", env = "PRODUCER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Fetching")]
    pub concurrency: Option<u32>,
    /// Maximum time of one attempt at a repo [seconds]
    #[arg(long, value_name = "S", env = "PRODUCER_PROCESSING_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Fetching")]
    pub processing_timeout: u64,
    /// Time without a byte after which a response counts as stalled [seconds]
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600), help_heading = "Fetching")]
    pub stall_timeout: u64,
    /// Attempts per repo before it counts as failed
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Fetching")]
    pub max_attempts: u32,
    /// Maximum size of a repo after decompression; 100 times its compressed size is a limit as well
    /// [bytes]
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30, help_heading = "Fetching")]
    pub max_repo_bytes: u64,
    /// Send requests to private networks and to this machine, too
    #[arg(long, help_heading = "Fetching")]
    pub allow_private_hosts: bool,
    /// URLs of hosts that the operator named, which may be on private networks; a stopped command
    /// prints them in the line that continues it
    #[arg(long, value_name = "URL", hide = true)]
    pub named: Vec<String>,
    /// Host to leave out, with its subdomains [repeatable]
    #[arg(
        long,
        value_name = "HOST",
        default_value = "blueski.social",
        help_heading = "Fetching"
    )]
    pub skip_host: Vec<String>,
    /// File with hosts (and their subdomains) and accounts to leave out: one host or DID per line,
    /// # begins a comment
    #[arg(long, value_name = "FILE", help_heading = "Fetching")]
    pub opt_out: Option<PathBuf>,
    /// Maximum rate over all hosts [requests per second]
    #[arg(long, value_name = "R", value_parser = rate, help_heading = "Fetching")]
    pub max_rate: Option<f64>,
    /// Maximum rate per host that announces no limit; a host that announces one is used just below
    /// it [requests per second]
    #[arg(long, value_name = "R", default_value_t = fetch::schedule::HOST_RATE, value_parser = rate, help_heading = "Fetching")]
    pub host_rate: f64,
    /// Time after which the repos of a host that does not answer, or delivers almost nothing, count
    /// as failed [seconds] [default: 60 for the producer, else 600]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Fetching")]
    pub host_patience: Option<u64>,
}

/// Where bodies that are too large for memory wait.
#[derive(Args, Clone, Debug)]
pub struct SpoolArgs {
    /// Folder for unnamed temporary files of what is too large for memory [default: the system's
    /// temporary folder]
    #[arg(
        long,
        value_name = "DIR",
        env = "SKYFILL_SPOOL_DIR",
        help_heading = "Fetching"
    )]
    pub spool_dir: Option<PathBuf>,
    /// Maximum disk space for those files, of which a host or a producer gets at most half [bytes,
    /// or with KiB, MiB, GiB] [default: half of the free space]
    #[arg(long, value_name = "SIZE", value_parser = process::disk_size, help_heading = "Fetching")]
    pub spool_size: Option<u64>,
}

/// Who sends the requests.
#[derive(Args, Clone, Debug, Default)]
pub struct CallerArgs {
    /// Mail address or URL at which hosts can reach you, sent in the User-Agent header
    #[arg(long, value_name = "TEXT", env = "SKYFILL_CONTACT", value_parser = contact, help_heading = "Network")]
    pub contact: Option<String>,
}

/// The servers that know accounts.
#[derive(Args, Clone, Debug)]
pub struct LookupServersArgs {
    /// URL of the PLC directory
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_DID_PLC_URL",
        default_value = "https://plc.directory",
        value_parser = values::web_url,
        help_heading = "Network"
    )]
    pub plc_url: String,
    /// DNS server to query instead of the system's
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::address, help_heading = "Network")]
    pub dns_server: Option<SocketAddr>,
}

/// Where DID documents and handles are looked up.
#[derive(Args, Clone, Debug)]
pub struct DirectoryArgs {
    /// Maximum time of one request for a document or handle [seconds]
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600), help_heading = "Network")]
    pub timeout: u64,
    #[command(flatten)]
    pub servers: LookupServersArgs,
    /// Maximum rate at the PLC directory [requests per second]
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Network")]
    pub plc_rate: u32,
    /// Server to request the well-known files of all handles from, with the handle in the Host
    /// header
    #[arg(long, value_name = "URL", value_parser = values::web_url, help_heading = "Network")]
    pub well_known_server: Option<String>,
    /// Server to request all did:web documents from, with the host's name in the Host header
    #[arg(long, value_name = "URL", value_parser = values::web_url, help_heading = "Network")]
    pub did_web_server: Option<String>,
}

/// How hosts and directories are asked, by a command that fetches repos and looks up accounts.
#[derive(Args, Clone, Debug)]
pub struct HostsArgs {
    #[command(flatten)]
    pub fetch: FetchArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub directory: DirectoryArgs,
    #[command(flatten)]
    pub caller: CallerArgs,
}

/// What earlier commands stored about the network.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct MemoryArgs {
    /// Forget the network settings that earlier commands stored in this schema (`skyfill status`
    /// shows them), and use only this command line and the environment
    #[arg(long, help_heading = "Network")]
    pub forget_settings: bool,
}

/// Where to discover repos.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Relay whose hosts are listed, and whose sequence numbers decide when an AppView can take
    /// over; it is stored in the database [default: that of the last run, else the public relay]
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_REPO_PROVIDER",
        help_heading = "Sources"
    )]
    pub relay: Option<String>,
    /// Use the relay's own list of repos, and look up the host of each in its DID document
    #[arg(long, help_heading = "Sources")]
    pub relay_repos: bool,
    /// PDS whose repos are listed [repeatable]
    #[arg(long, value_name = "URL", help_heading = "Sources")]
    pub pds: Vec<String>,
    /// File with PDSes whose repos are listed: one URL per line
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pub pds_file: Option<PathBuf>,
    /// List the accounts of the PLC directory's export, on the hosts that their documents name
    #[arg(long, help_heading = "Sources")]
    pub plc_export: bool,
    /// Collection whose accounts are listed, according to the relay [repeatable]
    #[arg(long, value_name = "NSID", value_parser = nsid, help_heading = "Sources")]
    pub collection: Vec<String>,
    /// Time to wait for hosts that list their repos very slowly, once all others are listed
    /// [seconds]
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Sources")]
    pub straggler_grace: u64,
}

/// Finds the repos of the network and their hosts.
///
/// Without a source, skyfill lists all hosts of the relay, then the repos of each host. The
/// result is stored in schema `skyfill`, for `skyfill run` to load. A known repo becomes pending
/// again if a newer rev is listed, and its account state is stored. If two hosts list the same
/// account as active, its DID document decides. After a stop, discovery continues where it was. The
/// exit code is 1 if a host could not be listed or an account could not be decided.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill discover --contact ops@example.com
  skyfill discover --relay https://relay.example
  skyfill discover --pds https://pds.example --did-file dids.jsonl
  skyfill discover --plc-export
  skyfill discover --collection app.bsky.feed.generator --did-file - | head
  skyfill run                                      # load the repos that were found")]
pub struct DiscoverArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// File to write all known repos to at the end, as a DID file; - is stdout
    #[arg(long, value_name = "FILE")]
    pub did_file: Option<PathBuf>,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    #[command(flatten)]
    pub directory: DirectoryArgs,
    #[command(flatten)]
    pub caller: CallerArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Parses a rate, in requests per second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected requests per second, from 0.001 to 1000000".to_owned()),
    }
}

fn contact(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| (0x20..0x7f).contains(&b) && !matches!(b, b'(' | b')' | b'\\');
    if !text.is_empty() && text.len() <= 200 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected a mail address or URL of up to 200 ASCII characters".to_owned())
    }
}

fn nsid(text: &str) -> Result<String, String> {
    if atrepo::syntax::is_nsid(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a collection, for example app.bsky.feed.post".to_owned())
    }
}
