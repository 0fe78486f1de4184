//! Arguments about the network: how hosts are asked, where accounts are looked up, where repos are
//! looked for; and the practice network.

use super::{DatabaseArgs, MemoryArgs, OutputArgs};
use clap::Args;
use std::path::PathBuf;

/// How repos are fetched.
#[derive(Args, Clone, Debug)]
pub(crate) struct FetchArgs {
    /// Requests under way at once, to all hosts [default: 16 for the producer, else 512].
    #[arg(long, value_name = "N", env = "PRODUCER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Fetching")]
    pub(crate) concurrency: Option<u32>,
    /// Seconds that one attempt at a repo may take.
    #[arg(long, value_name = "S", env = "PRODUCER_PROCESSING_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Fetching")]
    pub(crate) processing_timeout: u64,
    /// Seconds without a byte after which a host counts as stalled.
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600), help_heading = "Fetching")]
    pub(crate) stall_timeout: u64,
    /// Attempts at a repo before it has failed.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Fetching")]
    pub(crate) max_attempts: u32,
    /// Largest repo, in bytes after decompression. A repo that decompresses to more than 100 times
    /// what came is refused, too.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30, help_heading = "Fetching")]
    pub(crate) max_repo_bytes: u64,
    /// Also fetch from private networks and from this machine.
    #[arg(long, help_heading = "Fetching")]
    pub(crate) allow_private_hosts: bool,
    /// URLs of the hosts that the operator names: these may lie on private networks. Sources imply
    /// it; as an option, it is remembered.
    #[arg(long, value_name = "URL", hide = true)]
    pub(crate) named: Vec<String>,
    /// Leave this host and its subdomains out. May be given several times.
    #[arg(
        long,
        value_name = "HOST",
        default_value = "blueski.social",
        help_heading = "Fetching"
    )]
    pub(crate) skip_host: Vec<String>,
    /// Leave out the hosts and accounts of this list: a host (with its subdomains) or a DID a
    /// line, # begins a comment.
    #[arg(long, value_name = "FILE", help_heading = "Fetching")]
    pub(crate) opt_out: Option<PathBuf>,
    /// Most requests a second, to all hosts together.
    #[arg(long, value_name = "R", value_parser = rate, help_heading = "Fetching")]
    pub(crate) max_rate: Option<f64>,
    /// Most requests a second to a host that announces no limit. One that does is asked a hair
    /// below it.
    #[arg(long, value_name = "R", default_value_t = fetch::schedule::HOST_RATE, value_parser = rate, help_heading = "Fetching")]
    pub(crate) host_rate: f64,
    /// Seconds for which a host that does not answer is tried again, and for which a run waits for
    /// hosts that hardly give anything, before their repos have failed [default: 60 for the
    /// producer, else 600].
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Fetching")]
    pub(crate) host_patience: Option<u64>,
}

/// Where bodies wait that are too large for memory.
#[derive(Args, Clone, Debug)]
pub(crate) struct SpoolArgs {
    /// Folder for repos that are too large to wait in memory; they lie there without a name
    /// [default: the system's for temporary files]
    #[arg(
        long,
        value_name = "DIR",
        env = "SKYFILL_SPOOL_DIR",
        help_heading = "Fetching"
    )]
    pub(crate) spool_dir: Option<PathBuf>,
    /// Most that they may take there, in bytes or with KiB, MiB, GiB; one host gets at most half
    /// [default: half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = super::size, help_heading = "Fetching")]
    pub(crate) spool_size: Option<u64>,
}

/// Who asks.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CallerArgs {
    /// How to reach you, for those whose hosts are asked: a mail address or URL, sent in the
    /// User-Agent.
    #[arg(long, value_name = "TEXT", env = "SKYFILL_CONTACT", value_parser = contact, help_heading = "Network")]
    pub(crate) contact: Option<String>,
}

/// Where documents and handles are asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct DirectoryArgs {
    /// Seconds for each question about documents and handles.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600), help_heading = "Network")]
    pub(crate) timeout: u64,
    /// The PLC directory.
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_DID_PLC_URL",
        default_value = "https://plc.directory",
        help_heading = "Network"
    )]
    pub(crate) plc_url: String,
    /// Most requests a second to the PLC directory.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Network")]
    pub(crate) plc_rate: u32,
    /// Ask this DNS server instead of the system's.
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Network")]
    pub(crate) dns_server: Option<std::net::SocketAddr>,
    /// Ask this server for all well-known files of handles; the handle goes into the Host header.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(crate) well_known_server: Option<String>,
    /// Ask this server for all documents of did:web; the host's name goes into the Host header.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(crate) did_web_server: Option<String>,
}

/// Where repos are looked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceArgs {
    /// The relay: whose hosts are listed, and whose sequence numbers count for the hand-over.
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_REPO_PROVIDER",
        help_heading = "Sources"
    )]
    pub(crate) relay: Option<String>,
    /// Take the relay's own list of repos, not those of its hosts. It does not say where they are:
    /// their DID documents are asked.
    #[arg(long, help_heading = "Sources")]
    pub(crate) relay_repos: bool,
    /// The repos of this PDS. May be given several times.
    #[arg(long, value_name = "URL", help_heading = "Sources")]
    pub(crate) pds: Vec<String>,
    /// The repos of the PDSes of this file, a URL a line.
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pub(crate) pds_file: Option<PathBuf>,
    /// The accounts of the PLC directory's export, where their documents say.
    #[arg(long, help_heading = "Sources")]
    pub(crate) plc_export: bool,
    /// The accounts that have records of this collection, as the relay lists them.
    #[arg(long, value_name = "NSID", value_parser = nsid, help_heading = "Sources")]
    pub(crate) collection: Option<String>,
    /// Time for which hosts that list their repos far too slowly are waited for when all others
    /// are done [seconds].
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Sources")]
    pub(crate) straggler_grace: u64,
}

impl SourceArgs {
    /// Whether it names repos to look for; a relay alone may also be there for its sequence
    /// numbers.
    pub(crate) fn names_repos(&self) -> bool {
        self.relay_repos
            || !self.pds.is_empty()
            || self.pds_file.is_some()
            || self.plc_export
            || self.collection.is_some()
    }
}

/// Finds the repos of the network and their hosts.
///
/// Without a source: all hosts of the public relay, then the list of each. What is found is kept in
/// the database, in schema `skyfill`, for `skyfill run` to load; a repo that is known is opened
/// again if it is newer, its account's state is noted. An account that two hosts claim is
/// settled by its DID document. Stopped, it goes on where it was. Exit code 1 if hosts could not be
/// listed or accounts not be settled.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill discover --contact ops@example.com
  skyfill discover --relay https://relay.example
  skyfill discover --pds https://pds.example --did-file dids.jsonl
  skyfill discover --plc-export
  skyfill discover --collection app.bsky.feed.generator --did-file - | head
  skyfill run                                      # loads what was found")]
pub(crate) struct DiscoverArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Also write all repos that are known then to FILE, as a DID file; - for stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) did_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Serves a generated network on loopback, to practise on: PDSes, a PLC directory, a relay,
/// handles.
///
/// Prints a line of JSON with their URLs and stays until it is stopped. The same seed gives the
/// same accounts, repos and faults. With faults, hosts and repos go wrong in every known way; what
/// each does is told by a wrong name.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill simnet --repos 1000 --hosts 20
  skyfill simnet --repos 20000 --hosts 300 --faults all --limit 100/10
  skyfill simnet --faults limits-429,html,dead-host --hosts 30 --limit 50/10
  skyfill simnet --dids dids.jsonl & skyfill run dids.jsonl --allow-private-hosts --handles skip")]
pub(crate) struct SimnetArgs {
    /// Also write all accounts to FILE, as a DID file.
    #[arg(long, value_name = "FILE")]
    pub(crate) dids: Option<PathBuf>,
    /// Number of accounts.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) repos: u32,
    /// Number of records in all, about.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) records: u32,
    /// Number of PDSes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) hosts: u32,
    /// Share of the accounts that the fullest host has.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub(crate) fullest_share: f64,
    /// Faults that are on, separated by commas; all or none.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "none"
    )]
    pub(crate) faults: Vec<String>,
    /// The limit of hosts that have one, announced or not: with the faults limits-429, silent-429,
    /// shared-address.
    #[arg(long, value_name = "REQUESTS/SECONDS", value_parser = crate::practice::limit)]
    pub(crate) limit: Option<simnet::Limit>,
    /// Events that the relay keeps.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) replay_events: u32,
    /// Changes each second: commits, deletions, moves, new accounts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) changes: u32,
    /// What all of it is made from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the records as messages in the line form to FILE, repo after repo, and end.
    #[arg(long, value_name = "FILE")]
    pub(crate) lines: Option<PathBuf>,
}

/// Requests a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number of requests a second, from 0.001 to 1000000".to_owned()),
    }
}

fn contact(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| (0x20..0x7f).contains(&b) && !matches!(b, b'(' | b')' | b'\\');
    if !text.is_empty() && text.len() <= 200 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("a mail address or URL: up to 200 plain characters".to_owned())
    }
}

fn nsid(text: &str) -> Result<String, String> {
    if atrepo::syntax::is_nsid(text) {
        Ok(text.to_owned())
    } else {
        Err("a collection, for example app.bsky.feed.post".to_owned())
    }
}
