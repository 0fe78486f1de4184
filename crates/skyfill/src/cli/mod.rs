//! All arguments and environment variables, defined once: help, errors and docs/reference are made
//! from here.

mod loading;
mod network;

pub(crate) use loading::{CatchUpArgs, LoadArgs, RunArgs, WhatArgs};
pub(crate) use network::{
    CallerArgs, DirectoryArgs, DiscoverArgs, FetchArgs, SimnetArgs, SourceArgs, SpoolArgs,
};

use crate::exit;
use clap::builder::{PossibleValuesParser, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Fills the PostgreSQL database of a Bluesky AppView from the repos of the AT Protocol network.
#[derive(Debug, Parser)]
#[command(name = "skyfill", version, max_term_width = 110)]
pub(crate) struct Cli {
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
    Indexes(IndexesArgs),
    Db(DbArgs),
    Simnet(SimnetArgs),
    /// Prints docs/reference/commands.md.
    #[command(hide = true)]
    Reference,
}

/// The database.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatabaseArgs {
    /// Target database, as a PostgreSQL URL. Without it, a private PostgreSQL in --data-dir is
    /// used.
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_DB_POSTGRES_URL",
        hide_env_values = true,
        help_heading = "Database"
    )]
    pub(crate) database_url: Option<String>,
    /// The AppView's schema in it: letters and underscores.
    #[arg(long, value_name = "NAME", env = "BSKY_DB_POSTGRES_SCHEMA", default_value = "bsky", value_parser = schema_name, help_heading = "Database")]
    pub(crate) schema: String,
    #[command(flatten)]
    pub(crate) folder: DataDirArgs,
}

impl DatabaseArgs {
    /// The database that they name.
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
    /// Folder of the private PostgreSQL.
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
/// Runs the official migrations that are missing, by their official names, so that the official
/// service finds nothing pending. A database at any official state is carried on from there; a
/// second run does nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill migrate
  skyfill migrate --drop-follow-indexes     # before many inserts into follow; `skyfill indexes restore` after
  BSKY_DB_POSTGRES_URL=postgresql://bsky@localhost/bsky skyfill migrate --recreate-schema")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Drop the schema with all in it first. Refused if it holds what no repo can refill, or while
    /// a skyfill works on it.
    #[arg(long)]
    pub(crate) recreate_schema: bool,
    /// With --recreate-schema: drop rows without being asked. Without it, a schema with rows is
    /// dropped only if somebody at a terminal says so.
    #[arg(long, requires = "recreate_schema")]
    pub(crate) yes: bool,
    /// With --recreate-schema: drop mutes, bookmarks, drafts, labels and other private data, too,
    /// without being asked.
    #[arg(long, requires = "recreate_schema")]
    pub(crate) discard_private_data: bool,
    /// Drop the indexes of `follow` and its unique constraint, and remember how to put them back.
    #[arg(long)]
    pub(crate) drop_follow_indexes: bool,
}

/// Prints a DID cache as a DID file.
///
/// The cache is MessagePack or CBOR, one array of [did, pds] pairs or pairs end to end; which it
/// is, is told from its bytes. Entries that are no pair of strings are reported and skipped, and
/// the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  skyfill unpack-as-did-file did-cache.bin | sort > dids.jsonl")]
pub(crate) struct UnpackArgs {
    /// The cache.
    #[arg(value_name = "DID-CACHE-PATH")]
    pub(crate) path: PathBuf,
}

/// Fetches the repos of a DID file and sends their records to consumers.
///
/// Each repo is fetched from the PDS in its line, checked as a whole, and only then sent to one
/// socket, or to three by collection. A consumer of skyfill's acknowledges each part of a repo when
/// it is durable; what was not acknowledged is sent again. Exit code 1 if repos failed; they are
/// listed in --failures, which is a DID file. SIGUSR1 prints what each worker is doing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill producer dids.jsonl /tmp/skyfill.sock
  skyfill producer dids.jsonl /tmp/a.sock /tmp/b.sock /tmp/c.sock --concurrency 64
  skyfill producer dids.jsonl /tmp/skyfill.sock --starting-line 1000 --ending-line 2000
  skyfill producer skyfill-failures.jsonl /tmp/skyfill.sock --failures still-failing.jsonl")]
pub(crate) struct ProducerArgs {
    /// One JSON array a line: ["did:plc:...","https://pds.example"].
    #[arg(value_name = "DID-FILE")]
    pub(crate) did_file: PathBuf,
    /// Socket of a consumer: one, or three, which share the collections.
    #[arg(value_name = "SOCKET-PATH", required = true, num_args = 1..=3)]
    pub(crate) sockets: Vec<PathBuf>,
    /// First line to take, from 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) starting_line: u64,
    /// First line not to take, from 0; 0 means to the end.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) ending_line: u64,
    /// The form on the sockets: frames if the consumer takes them (skyfill's does), else the lines
    /// of the original scripts; or lines in any case.
    #[arg(long, value_name = "FORM", default_value = "auto", value_enum)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Memory of the whole process, in bytes or with KiB, MiB, GiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// Most bytes of checked repos that wait in memory for the consumers; not more than a quarter
    /// of --memory.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..))]
    pub(crate) buffer_bytes: u32,
    /// Failed repos are added to this file, a DID file with reasons.
    #[arg(long, value_name = "FILE", default_value = "skyfill-failures.jsonl")]
    pub(crate) failures: PathBuf,
    /// Time of the run, which no record's indexedAt passes [default: the clock].
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Frames, each part of a repo acknowledged when it is durable, if the consumer takes them;
    /// else lines.
    Auto,
    /// Lines.
    Lines,
}

/// What was told before.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct MemoryArgs {
    /// Forget what earlier commands on this schema were told: begin with what this line and the
    /// environment say. `skyfill status` shows what is remembered.
    #[arg(long, help_heading = "Network")]
    pub(crate) forget_settings: bool,
}

/// What is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Seconds between rate lines.
    #[arg(long, value_name = "S", env = "LOGGING_INTERVAL", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Output")]
    pub(crate) logging_interval: u64,
    /// Print the summary as JSON on stdout.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Stores the records that producers send to a socket.
///
/// Takes frames or lines, makes the rows of the official indexer, and merges them into the
/// AppView's tables. What comes in frames is kept account of in schema `skyfill`, so that it is
/// stored exactly once, and `skyfill verify` can prove it. The same lines a second time change
/// nothing. Ends at SIGINT or SIGTERM, after committing what it has read. Lines that are refused go
/// to --rejects; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill consumer /tmp/skyfill.sock
  skyfill consumer /tmp/skyfill.sock --batch-size 20000 --max-db-connections 4
  skyfill consumer --db-test copy-binary
  skyfill consumer --db-test all --rows 200000")]
pub(crate) struct ConsumerArgs {
    /// Socket to listen on. A file left by a dead consumer is replaced. With --db-test, which the
    /// original takes beside it, it is not used.
    #[arg(value_name = "SOCKET-PATH", required_unless_present = "db_test")]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Records of a collection a COPY.
    #[arg(long, value_name = "N", env = "CONSUMER_BATCH_SIZE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) batch_size: u32,
    /// Memory of the whole process, in bytes or with KiB, MiB, GiB. Not PostgreSQL's.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// Maximum records per transaction. It ends earlier when its records take more than a quarter
    /// of --memory or 128 MiB, over all connections.
    #[arg(long, value_name = "N", env = "CONSUMER_TRANSACTION_SIZE", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) transaction_size: u32,
    /// Connections to the database.
    #[arg(long, value_name = "N", env = "CONSUMER_MAX_DB_CONNECTIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) max_db_connections: u32,
    /// Use libpq instead of the Rust driver [environment: any value but 0, false and nothing].
    #[arg(long, env = "CONSUMER_PG_NATIVE", action = ArgAction::SetTrue, value_parser = switch)]
    pub(crate) pg_native: bool,
    /// Insert generated follow rows instead, until stopped, and print rows a second.
    #[arg(long, value_name = "TEST", value_parser = PossibleValuesParser::new(["no-params", "with-params", "with-prepared", "copy", "copy-binary", "all"]))]
    pub(crate) db_test: Option<String>,
    /// With --db-test: end after N rows (of each test).
    #[arg(long, value_name = "N", requires = "db_test", required_if_eq("db_test", "all"), value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// End the connection of a producer that begins a part of a repo, and sends next to nothing of
    /// it for so long [seconds].
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) part_timeout: u64,
    /// Refused lines are added to this file, with their reasons.
    #[arg(long, value_name = "FILE", default_value = "skyfill-rejects.jsonl")]
    pub(crate) rejects: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How a run loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LoadMode {
    /// Fresh if the tables are empty, else merge.
    Auto,
    /// Into empty tables, without indexes until the end.
    Fresh,
    /// Beside rows that are there.
    Merge,
}

/// What a run does about handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunHandles {
    /// Check them both ways.
    Verified,
    /// Take them as claimed, and mark them.
    Claimed,
    /// Leave the table `actor` alone.
    Skip,
}

/// Compares the tables with the signed commits of the repos that were loaded.
///
/// For every repo the root of its tree is computed again, from `record` and the list of skipped
/// records, and compared with the commit; the JSON of each record is turned back into DAG-CBOR and
/// compared with its CID; the rows that follow from a record alone are made again and
/// compared. What is missing, extra or changed is named on stdout, one JSON object a line. The last
/// line on stderr is the verdict, one word for what the database holds (docs/certificate.md). Exit
/// code 0 if it is "complete", else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill verify
  skyfill verify --certificate certificate.json
  skyfill verify --signatures
  skyfill verify --repair; skyfill run              # fetch again what differs")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Mark the repos that differ, so that `skyfill run` fetches them again and writes all of
    /// their rows anew.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Also check the signatures of the commits against the keys of the DID documents.
    #[arg(long)]
    pub(crate) signatures: bool,
    /// Write the result to FILE, as JSON, with counts host by host.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Only these accounts.
    #[arg(long, value_name = "DID")]
    pub(crate) did: Vec<String>,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Also ask hosts on private networks and on this machine for the documents of did:web.
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_private_hosts: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Tells how far a run has come, and what the database holds.
///
/// Exit code 0 if the verdict, by the last comparison with the commits, is "complete", else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill status --json
  skyfill status --hosts")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Also tell what was learned of each host: limits, ceilings, requests at once.
    #[arg(long)]
    pub(crate) hosts: bool,
    /// Print as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Looks up who the loaded accounts are, and writes the table `actor`.
///
/// For each account that a consumer stored: its DID document, then its handle, checked both ways
/// (DNS, then HTTPS). Unverified handles are NULL; what could not be reached is tried again by a
/// later run, when its time has come. Can run beside a load, be stopped and run again. Exit code 1
/// if something could not be reached.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill identities
  skyfill identities --plc-export                  # documents in bulk, then handles
  skyfill identities --handles claimed             # take handles as documents claim them, check them later:
  skyfill identities --handles verified
  BSKY_DID_PLC_URL=http://localhost:2582 skyfill identities --well-known-server http://localhost:2583")]
pub(crate) struct IdentitiesArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Check handles, or take them as claimed and mark them to be checked by a later run.
    #[arg(long, value_name = "MODE", default_value = "verified", value_enum)]
    pub(crate) handles: HandleMode,
    /// Read documents in bulk from the PLC directory's export first, going on where the last run
    /// stopped.
    #[arg(long)]
    pub(crate) plc_export: bool,
    /// Try now what could not be reached, whatever its time.
    #[arg(long)]
    pub(crate) retry: bool,
    /// Look at all accounts again.
    #[arg(long)]
    pub(crate) recheck: bool,
    /// The accounts of a DID file, too; of all its lines the DIDs alone are read.
    #[arg(long, value_name = "DID-FILE")]
    pub(crate) dids: Option<PathBuf>,
    /// The time of the run, for `indexedAt`; without it, the clock's.
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Accounts that are looked up at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Network")]
    pub(crate) concurrency: u16,
    /// Also ask hosts on private networks and on this machine, where DIDs and handles lead there.
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_private_hosts: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to do about handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HandleMode {
    /// Check them both ways.
    Verified,
    /// Take them as claimed, and mark them.
    Claimed,
}

/// Computes the rows that need rows of other repos.
///
/// Flags of replies, gates and embeds, notifications of quotes and replies, counts of posts and
/// accounts: from the AppView's tables alone, as the official indexer would have written them. Run
/// it when a load has ended. It works in slices, each of which is committed, and goes on where it
/// was stopped, unless rows were loaded since. A second run changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill finalize
  skyfill finalize --max-db-connections 8 --json")]
pub(crate) struct FinalizeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Database connections that work at once.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) max_db_connections: u8,
    /// Rows of a slice, about.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) slice_rows: u64,
    /// Begin again, even if an earlier run could be gone on with: for when another program wrote
    /// to the tables since.
    #[arg(long)]
    pub(crate) restart: bool,
    /// Which notifications are stored: all, none, or since=DATE, the same as the loads stored
    /// [default: those].
    #[arg(long, value_name = "WHICH", value_parser = notifications)]
    pub(crate) notifications: Option<load::Notifications>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Puts back indexes that skyfill dropped, or tells which.
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
    /// Tells which indexes and constraints are dropped. Exit code 1 if any.
    Status(IndexesTarget),
    /// Puts all of them back.
    Restore(IndexesTarget),
}

#[derive(Args, Debug)]
pub(crate) struct IndexesTarget {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Print as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Starts, stops or names the private PostgreSQL.
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
    /// Starts it, making it on first use.
    Start(DataDirArgs),
    /// Stops it.
    Stop(DataDirArgs),
    /// Tells whether it runs. Exit code 1 if not.
    Status(DataDirArgs),
    /// Starts it if need be and prints its URL; `start` makes it.
    Url(DataDirArgs),
}

fn collection(text: &str) -> Result<rows::Collection, String> {
    rows::Collection::parse(text.trim()).ok_or_else(|| {
        let known: Vec<&str> = rows::Collection::ALL
            .iter()
            .map(|known| known.nsid())
            .collect();
        format!("an AppView indexes these: {}", known.join(", "))
    })
}

fn notifications(text: &str) -> Result<load::Notifications, String> {
    load::Notifications::parse(text).ok_or_else(|| "all, none, or since=2024-05-01".to_owned())
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 128 << 20;
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err("a number of bytes, or with KiB, MiB, GiB".to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or("a number of bytes, or with KiB, MiB, GiB")?;
    if bytes < LEAST {
        return Err("at least 128 MiB".to_owned());
    }
    Ok(bytes)
}

fn schema_name(text: &str) -> Result<String, String> {
    if appview::is_schema_name(text) {
        Ok(text.to_owned())
    } else {
        Err("the official service takes letters and underscores only".to_owned())
    }
}

/// A switch in the environment: on, unless it is empty, 0 or false.
fn switch(text: &str) -> Result<bool, String> {
    Ok(!matches!(text, "" | "0" | "false"))
}

/// The definition of the arguments, as this environment has it: an empty variable counts as none.
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

/// Prints what is wrong with the arguments, and where it came from if that was the environment.
pub(crate) fn complain(error: &clap::Error) -> ExitCode {
    // Nothing to be done if even this cannot be printed.
    drop(error.print());
    if let Some(variable) = variable_behind(error) {
        observe::log!("note: the value comes from the environment variable {variable}");
    }
    if error.use_stderr() {
        ExitCode::from(exit::USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// The environment variable that a wrong value came from.
fn variable_behind(error: &clap::Error) -> Option<String> {
    let (ContextValue::String(arg), ContextValue::String(value)) = (
        error.get(ContextKind::InvalidArg)?,
        error.get(ContextKind::InvalidValue)?,
    ) else {
        return None;
    };
    let long = arg.split(' ').next()?.trim_start_matches("--");
    let root = Cli::command();
    let variable = root
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .find_map(|argument| {
            (argument.get_long() == Some(long))
                .then(|| argument.get_env())
                .flatten()?
                .to_str()
                .map(str::to_owned)
        })?;
    (std::env::var(&variable).as_deref() == Ok(value)).then_some(variable)
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
