//! All arguments and environment variables, each defined once. Help, usage errors and
//! docs/reference/commands.md are generated from here.

#[cfg(test)]
mod docs_test;
mod doctor;
mod listen;
mod loading;
mod logging;
mod network;
mod questions;
mod status;

pub(crate) use doctor::DoctorArgs;
pub(crate) use listen::{AccessArgs, DashboardArgs, ListenArgs};
pub(crate) use loading::{CatchUpArgs, LoadArgs, RunArgs};
pub(crate) use logging::{LogArgs, log_plainly};
pub(crate) use network::{
    CallerArgs, DirectoryArgs, DiscoverArgs, FetchArgs, SimnetArgs, SourceArgs, SpoolArgs,
};
pub(crate) use status::{ReportArgs, StatusArgs};

pub(crate) use questions::{AuditArgs, CompareArgs, ExplainArgs};

use clap::builder::{PossibleValuesParser, Resettable};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use observe::view;
use process::{server_size, size};
use std::path::PathBuf;
use std::time::Duration;

/// Fills the PostgreSQL database of a Bluesky AppView from the repos of the AT Protocol network.
#[derive(Debug, Parser)]
#[command(name = "skyfill", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Migrate(MigrateArgs),
    UnpackAsDidFile(UnpackArgs),
    Producer(ProducerArgs),
    Consumer(ConsumerArgs),
    Discover(Box<DiscoverArgs>),
    Run(Box<RunArgs>),
    CatchUp(Box<CatchUpArgs>),
    Identities(IdentitiesArgs),
    Finalize(FinalizeArgs),
    Verify(VerifyArgs),
    Status(StatusArgs),
    Dashboard(DashboardArgs),
    Report(ReportArgs),
    Explain(Box<ExplainArgs>),
    Audit(Box<AuditArgs>),
    Compare(CompareArgs),
    Doctor(DoctorArgs),
    Indexes(IndexesArgs),
    Db(DbArgs),
    Simnet(SimnetArgs),
    Completions(CompletionsArgs),
    /// Writes the man pages of all commands to a folder.
    #[command(hide = true)]
    ManPages(ManPagesArgs),
    /// Prints docs/reference/commands.md.
    #[command(hide = true)]
    Reference,
}

impl Command {
    /// What it prints, if it is one that shows progress.
    pub(crate) fn output(&self) -> Option<&OutputArgs> {
        match self {
            Self::Producer(args) => Some(&args.output),
            Self::Consumer(args) => Some(&args.output),
            Self::Discover(args) => Some(&args.output),
            Self::Run(args) => Some(&args.load.output),
            Self::CatchUp(args) => Some(&args.load.output),
            Self::Identities(args) => Some(&args.output),
            Self::Finalize(args) => Some(&args.output),
            Self::Verify(args) => Some(&args.output),
            Self::Audit(args) => Some(&args.output),
            _ => None,
        }
    }
}

/// The target database.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatabaseArgs {
    /// Target database, as a URL or libpq's key=value pairs [default: a private PostgreSQL in
    /// --data-dir]
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_DB_POSTGRES_URL",
        hide_env_values = true,
        help_heading = "Database"
    )]
    pub(crate) database_url: Option<String>,
    /// Name of the AppView's schema: letters and underscores
    #[arg(long, value_name = "NAME", env = "BSKY_DB_POSTGRES_SCHEMA", default_value = "bsky", value_parser = schema_name, help_heading = "Database")]
    pub(crate) schema: String,
    #[command(flatten)]
    pub(crate) folder: DataDirArgs,
}

impl DatabaseArgs {
    /// The database that the arguments name.
    pub(crate) fn target(&self) -> process::Target {
        process::Target {
            url: self.database_url.clone(),
            schema: self.schema.clone(),
            data_dir: self.folder.data_dir.clone(),
        }
    }
}

/// The folder of the private PostgreSQL.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataDirArgs {
    /// Folder of the private PostgreSQL
    #[arg(
        long,
        value_name = "DIR",
        env = "SKYFILL_DATA_DIR",
        default_value = "skyfill-data",
        help_heading = "Database"
    )]
    pub(crate) data_dir: PathBuf,
}

/// Brings the database to the official AppView's schema.
///
/// Runs the missing official migrations under their official names, so that the official service
/// finds nothing pending. It starts from whatever official state the database is in. A second run
/// changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill migrate
  skyfill migrate --drop-follow-indexes     # before many inserts into follow; then `skyfill indexes restore`
  BSKY_DB_POSTGRES_URL=postgresql://bsky@localhost/bsky skyfill migrate --recreate-schema")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Drop the schema with all its contents first; refused while another skyfill uses it, or if it
    /// holds data that no repo can restore
    #[arg(long)]
    pub(crate) recreate_schema: bool,
    /// Drop rows without confirmation, with --recreate-schema
    #[arg(long, requires = "recreate_schema")]
    pub(crate) yes: bool,
    /// Drop mutes, bookmarks, drafts, labels and other private data as well, without confirmation,
    /// with --recreate-schema
    #[arg(long, requires = "recreate_schema")]
    pub(crate) discard_private_data: bool,
    /// Drop the indexes and the unique constraint of `follow`, and save their DDL for `skyfill
    /// indexes restore`
    #[arg(long)]
    pub(crate) drop_follow_indexes: bool,
}

/// Converts a DID cache to a DID file, on stdout.
///
/// The cache is MessagePack or CBOR: one array of [did, pds] pairs, or pairs end to end. skyfill
/// detects the format from the bytes. An entry that is not a pair of strings is reported and
/// skipped; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  skyfill unpack-as-did-file did-cache.bin | sort > dids.jsonl")]
pub(crate) struct UnpackArgs {
    /// DID cache to read
    #[arg(value_name = "DID-CACHE-PATH")]
    pub(crate) path: PathBuf,
}

/// Fetches the repos of a DID file and sends their records to consumers.
///
/// Each repo is fetched from the PDS in its line and checked as a whole before any of it is sent.
/// It goes to one socket, or to three by collection. A skyfill consumer acknowledges each part of a
/// repo once it is durable; parts that were not acknowledged are sent again. If repos failed, the
/// exit code is 1, and --failures lists them as a DID file with reasons. SIGUSR1 prints what each
/// worker is doing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill producer dids.jsonl /tmp/skyfill.sock
  skyfill producer dids.jsonl /tmp/a.sock /tmp/b.sock /tmp/c.sock --concurrency 64
  skyfill producer dids.jsonl /tmp/skyfill.sock --starting-line 1000 --ending-line 2000
  skyfill producer skyfill-failures.jsonl /tmp/skyfill.sock --failures still-failing.jsonl")]
pub(crate) struct ProducerArgs {
    /// DID file with the accounts to fetch: one JSON array per line,
    /// ["did:plc:...","https://pds.example"]
    #[arg(value_name = "DID-FILE")]
    pub(crate) did_file: PathBuf,
    /// Socket of a consumer, or three sockets that share the collections
    #[arg(value_name = "SOCKET-PATH", required = true, num_args = 1..=3)]
    pub(crate) sockets: Vec<PathBuf>,
    /// First line to read, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) starting_line: u64,
    /// Line to stop before, counted from 0; 0 means the end of the file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) ending_line: u64,
    /// Form on the sockets: auto sends frames to a skyfill consumer and lines to any other; lines
    /// sends the lines of the original scripts
    #[arg(long, value_name = "FORM", default_value = "auto", value_enum)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Memory budget of the whole process [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// Maximum size of checked repos that wait for the consumers, at most a quarter of --memory
    /// [bytes]
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..))]
    pub(crate) buffer_bytes: u32,
    /// File to append failed repos to: a DID file with reasons
    #[arg(long, value_name = "FILE", default_value = "skyfill-failures.jsonl")]
    pub(crate) failures: PathBuf,
    /// Time of the run, the latest that any record's indexedAt can be [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The form in which records travel from producer to consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Frames if the consumer accepts them, else lines
    Auto,
    /// Lines in any case
    Lines,
}

/// What earlier commands stored about the network.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct MemoryArgs {
    /// Forget the network settings that earlier commands stored in this schema (`skyfill status`
    /// shows them), and use only this command line and the environment
    #[arg(long, help_heading = "Network")]
    pub(crate) forget_settings: bool,
}

/// What to print.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Time between progress lines [seconds]
    #[arg(long, value_name = "S", env = "LOGGING_INTERVAL", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Output")]
    pub(crate) logging_interval: u64,
    /// Print the summary as JSON on stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// How to show progress
    #[arg(
        long,
        value_name = "FORM",
        default_value = "auto",
        value_enum,
        help_heading = "Output"
    )]
    pub(crate) progress: ProgressForm,
    #[command(flatten)]
    pub(crate) dashboard: ListenArgs,
}

impl OutputArgs {
    /// Begins to show progress.
    pub(crate) fn show_progress(&self) {
        let form = match self.progress {
            ProgressForm::Auto => view::Form::Auto,
            ProgressForm::Plain => view::Form::Plain,
            ProgressForm::Json => view::Form::Json,
            ProgressForm::None => view::Form::None,
        };
        view::start(form, Duration::from_secs(self.logging_interval));
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// A live view on a terminal, else plain lines.
    Auto,
    /// Lines on stderr.
    Plain,
    /// Events on stdout, one JSON object per line.
    Json,
    /// Nothing.
    None,
}

/// Stores the records that producers send to a socket.
///
/// The consumer accepts frames and lines. It computes the rows that the official indexer would
/// store and merges them into the AppView's tables. For frames it keeps a ledger in schema
/// `skyfill`, so that each record is stored exactly once and `skyfill verify` can prove it. Lines
/// have no ledger; the same lines a second time change nothing. On SIGINT or SIGTERM the consumer
/// commits what it has read, then ends. Refused lines go to --rejects; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill consumer /tmp/skyfill.sock
  skyfill consumer /tmp/skyfill.sock --batch-size 20000 --max-db-connections 4
  skyfill consumer --db-test copy-binary
  skyfill consumer --db-test all --rows 200000")]
pub(crate) struct ConsumerArgs {
    /// Socket to listen on; replaces the socket file of a dead consumer, and is ignored with
    /// --db-test
    #[arg(value_name = "SOCKET-PATH", required_unless_present = "db_test")]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Maximum records per COPY, for each collection
    #[arg(long, value_name = "N", env = "CONSUMER_BATCH_SIZE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) batch_size: u32,
    /// Memory budget of the whole process, without PostgreSQL [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// Maximum records per transaction; a transaction also ends when the records of all connections
    /// exceed 128 MiB or a quarter of --memory
    #[arg(long, value_name = "N", env = "CONSUMER_TRANSACTION_SIZE", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) transaction_size: u32,
    /// Database connections for loading
    #[arg(long, value_name = "N", env = "CONSUMER_MAX_DB_CONNECTIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) max_db_connections: u32,
    /// Use libpq instead of the Rust driver [variable: on, unless empty, 0 or false]
    #[arg(long, env = "CONSUMER_PG_NATIVE", action = ArgAction::SetTrue, value_parser = switch)]
    pub(crate) pg_native: bool,
    /// Insert generated follow rows until stopped, and print rows per second
    #[arg(long, value_name = "TEST", value_parser = PossibleValuesParser::new(["no-params", "with-params", "with-prepared", "copy", "copy-binary", "all"]))]
    pub(crate) db_test: Option<String>,
    /// Rows after which --db-test ends, for each of its tests
    #[arg(long, value_name = "N", requires = "db_test", required_if_eq("db_test", "all"), value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// Time after which a producer that sends almost nothing of a part it began is disconnected
    /// [seconds]
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) part_timeout: u64,
    /// File to append refused lines to, with reasons
    #[arg(long, value_name = "FILE", default_value = "skyfill-rejects.jsonl")]
    pub(crate) rejects: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The way in which a run loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LoadMode {
    /// Fresh if the tables are empty, else merge
    Auto,
    /// Load into empty tables, with indexes built at the end
    Fresh,
    /// Merge with existing rows
    Merge,
}

/// What a run does with handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunHandles {
    /// Check them in both directions
    Verified,
    /// Store them as claimed, to be checked later
    Claimed,
    /// Leave the table `actor` alone
    Skip,
}

/// How a run reads the DID documents of many accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunDocuments {
    /// From the PLC directory's export, beside loading, where there are 300,000 accounts or more
    Auto,
    /// From the export in any case
    Export,
    /// One by one
    Single,
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
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Mark repos that differ, so that `skyfill run` fetches them again and rewrites all of their
    /// rows
    #[arg(long)]
    pub(crate) repair: bool,
    /// Check the signatures of the commits, too, against the keys in the DID documents
    #[arg(long)]
    pub(crate) signatures: bool,
    /// File for the certificate: verdict and findings per host, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// List all stored repos in a file beside the certificate, FILE.repos: DID, rev, root and host,
    /// so that `skyfill compare` names the repos in which two certificates differ
    #[arg(long, requires = "certificate", conflicts_with = "did")]
    pub(crate) certificate_repos: bool,
    /// Account to compare, instead of all [repeatable]
    #[arg(long, value_name = "DID")]
    pub(crate) did: Vec<String>,
    /// Compare all repos, not only those that were stored since they were compared
    #[arg(long, conflicts_with_all = ["did", "sample"])]
    pub(crate) all: bool,
    /// Compare this number of repos, chosen at random
    #[arg(long, value_name = "N", conflicts_with = "did")]
    pub(crate) sample: Option<u64>,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Request did:web documents from private networks and from this machine, too
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_private_hosts: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Looks up the loaded accounts and writes the table `actor`.
///
/// For each account, skyfill reads the DID document and checks its handle in both directions, by
/// DNS first, then by HTTPS. A handle that cannot be verified is stored as NULL. A document or
/// handle that could not be reached is retried by a later run, once it is due. The command can run
/// beside a load, and continues where it was stopped. The exit code is 1 if something could not be
/// reached.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill identities
  skyfill identities --plc-export                  # documents in bulk, then handles
  skyfill identities --handles claimed             # store handles as claimed, check them later:
  skyfill identities --handles verified
  BSKY_DID_PLC_URL=http://localhost:2582 skyfill identities --well-known-server http://localhost:2583")]
pub(crate) struct IdentitiesArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Treatment of handles: check them, or store them as claimed for a later run to check
    #[arg(long, value_name = "MODE", default_value = "verified", value_enum)]
    pub(crate) handles: HandleMode,
    /// Read documents in bulk from the PLC directory's export first, continuing where the last run
    /// stopped
    #[arg(long)]
    pub(crate) plc_export: bool,
    /// Retry now what could not be reached, whenever it is due
    #[arg(long)]
    pub(crate) retry: bool,
    /// Look up all accounts again
    #[arg(long)]
    pub(crate) recheck: bool,
    /// DID file with more accounts to look up; only the DIDs of its lines are read
    #[arg(long, value_name = "DID-FILE")]
    pub(crate) dids: Option<PathBuf>,
    /// Time of the run, stored as indexedAt [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Maximum concurrent account lookups
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Network")]
    pub(crate) concurrency: u16,
    /// Send requests to private networks and to this machine, too, where DIDs and handles lead
    /// there
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_private_hosts: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `identities` does with handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HandleMode {
    /// Check them in both directions
    Verified,
    /// Store them as claimed, to be checked later
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
pub(crate) struct FinalizeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Database connections that work concurrently
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) max_db_connections: u8,
    /// Approximate number of rows per slice
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) slice_rows: u64,
    /// Start over instead of continuing an interrupted run; needed if another program wrote to the
    /// tables since
    #[arg(long)]
    pub(crate) restart: bool,
    /// Notifications to store: all, none, or since=DATE, as the loads did [default: those of the
    /// loads]
    #[arg(long, value_name = "WHICH", value_parser = notifications)]
    pub(crate) notifications: Option<load::Notifications>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Rebuilds the indexes that skyfill dropped, or lists them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill indexes status
  skyfill indexes restore")]
pub(crate) struct IndexesArgs {
    #[command(subcommand)]
    pub(crate) action: IndexesAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexesAction {
    /// Lists the dropped indexes and constraints. The exit code is 1 if there are any.
    Status(IndexesTarget),
    /// Rebuilds all of them.
    Restore(RestoreArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) target: IndexesTarget,
    /// Indexes to build concurrently, each on a database connection [default: one per two cores, 2
    /// to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) max_db_connections: Option<u8>,
    /// Memory budget of PostgreSQL's index builds, all together [bytes, or with KiB, MiB, GiB;
    /// default: a quarter of what its machine has beside shared_buffers, where that is this one]
    #[arg(long, value_name = "SIZE", value_parser = server_size)]
    pub(crate) server_memory: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct IndexesTarget {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Print as JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// Starts, stops or locates the private PostgreSQL.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  psql \"$(skyfill db url)\"
  skyfill db stop")]
pub(crate) struct DbArgs {
    #[command(subcommand)]
    pub(crate) action: DbAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbAction {
    /// Starts it, and creates it on first use.
    Start(DataDirArgs),
    /// Stops it.
    Stop(DataDirArgs),
    /// Reports whether it is running. The exit code is 1 if it is not.
    Status(DataDirArgs),
    /// Prints its URL, and starts it if it is stopped; only `start` creates it.
    Url(DataDirArgs),
}

/// Prints the completions of commands and options for a shell.
///
/// Packages install them. Otherwise, save them where your shell looks for completions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill completions bash > ~/.local/share/bash-completion/completions/skyfill
  skyfill completions fish > ~/.config/fish/completions/skyfill.fish")]
pub(crate) struct CompletionsArgs {
    /// Shell that reads them
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManPagesArgs {
    /// Folder to write them to; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// The collections that a value of `--collections` means.
#[derive(Clone, Debug)]
pub(crate) struct Collections(pub(crate) Vec<rows::Collection>);

fn collections(text: &str) -> Result<Collections, String> {
    rows::meant_by(text.trim()).map(Collections).ok_or_else(|| {
        let known: Vec<&str> = rows::Collection::ALL
            .iter()
            .map(|known| known.nsid())
            .collect();
        let groups: Vec<&str> = rows::GROUPS.iter().map(|(name, _)| *name).collect();
        format!(
            "expected collections of an AppView ({}), a wildcard such as app.bsky.graph.*, or a group ({})",
            known.join(", "),
            groups.join(", ")
        )
    })
}

fn since(text: &str) -> Result<String, String> {
    load::parse_since(text).ok_or_else(|| "expected a date such as 2024-05-01".to_owned())
}

fn notifications(text: &str) -> Result<load::Notifications, String> {
    load::Notifications::parse(text)
        .ok_or_else(|| "expected all, none, or since=DATE such as since=2024-05-01".to_owned())
}

fn schema_name(text: &str) -> Result<String, String> {
    if appview::is_schema_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected letters and underscores only, as the official service does".to_owned())
    }
}

/// Parses a switch from the environment: on, unless the value is empty, 0 or false.
fn switch(text: &str) -> Result<bool, String> {
    Ok(!matches!(text, "" | "0" | "false"))
}

/// The definition of the arguments in this environment: an empty variable counts as unset.
pub(crate) fn definition() -> clap::Command {
    without_empty_variables(Cli::command())
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let is_empty = arg
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty());
            if is_empty {
                arg.env(Resettable::<clap::builder::OsStr>::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_switch_in_the_environment_is_on_unless_it_says_no() {
        assert_eq!(
            ["", "0", "false", "1", "true", "no"].map(|t| switch(t).unwrap()),
            [false, false, false, true, true, true]
        );
    }
}
