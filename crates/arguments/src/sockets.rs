//! Arguments of the original scripts' commands: `unpack-as-did-file`, `producer` and `consumer`.

use super::{
    CallerArgs, DatabaseArgs, FetchArgs, NewStreamArgs, OutputArgs, SpoolArgs, TransportArgs,
};
use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, ValueEnum};
use commandline::variables;
use process::size;
use std::path::PathBuf;

/// Converts a DID cache to a DID file, on stdout.
///
/// The cache is MessagePack or CBOR: one array of [did, pds] pairs, or pairs end to end. skyfill
/// detects the format from the bytes. An entry that is not a pair of strings is reported and
/// skipped; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  skyfill unpack-as-did-file did-cache.bin | sort > dids.jsonl")]
pub struct UnpackArgs {
    /// DID cache to read
    #[arg(value_name = "DID-CACHE-PATH")]
    pub path: PathBuf,
}

/// Fetches the repos of a DID file and sends their records to consumers.
///
/// Each repo is fetched from the PDS in its line and checked as a whole before any of it is sent.
/// It goes to one socket, or to three by collection. A skyfill consumer acknowledges each part of a
/// repo once it is durable; parts that were not acknowledged are sent again. With --transport,
/// repos go to a stream of NATS JetStream instead, and a repo is done when the stream has it. If
/// repos failed, the exit code is 1, and --failures lists them as a DID file with reasons. SIGUSR1
/// prints what each worker is doing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill producer dids.jsonl /tmp/skyfill.sock
  skyfill producer dids.jsonl /tmp/a.sock /tmp/b.sock /tmp/c.sock --concurrency 64
  skyfill producer dids.jsonl /tmp/skyfill.sock --starting-line 1000 --ending-line 2000
  skyfill producer skyfill-failures.jsonl /tmp/skyfill.sock --failures still-failing.jsonl
  skyfill producer dids.jsonl --transport nats://nats.example:4222")]
pub struct ProducerArgs {
    /// DID file with the accounts to fetch: one JSON array per line,
    /// ["did:plc:...","https://pds.example"]
    #[arg(value_name = "DID-FILE")]
    pub did_file: PathBuf,
    /// Socket of a consumer, or three sockets that share the collections
    #[arg(value_name = "SOCKET-PATH", required_unless_present = "transport", conflicts_with = "transport", num_args = 1..=3)]
    pub sockets: Vec<PathBuf>,
    /// First line to read, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub starting_line: u64,
    /// Line to stop before, counted from 0; 0 means the end of the file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ending_line: u64,
    /// Form on the sockets: auto sends frames to a skyfill consumer and lines to any other; lines
    /// sends the lines of the original scripts
    #[arg(long, value_name = "FORM", default_value = "auto", value_enum)]
    pub form: Form,
    #[command(flatten)]
    pub transport: TransportArgs,
    #[command(flatten)]
    pub new_stream: NewStreamArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub caller: CallerArgs,
    /// Memory budget of the whole process [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    /// Maximum size of checked repos that wait for the consumers, at most a quarter of --memory
    /// [bytes]
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..))]
    pub buffer_bytes: u32,
    /// File to append failed repos to: a DID file with reasons
    #[arg(long, value_name = "FILE", default_value = "skyfill-failures.jsonl")]
    pub failures: PathBuf,
    /// Time of the run, the latest that any record's indexedAt can be [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The form in which records travel from producer to consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Frames if the consumer accepts them, else lines
    Auto,
    /// Lines in any case
    Lines,
}

/// Stores the records that producers send to a socket, or to a stream of NATS JetStream.
///
/// On a socket, the consumer accepts frames and lines. With --transport, it reads frames from a
/// stream, which it shares with other consumers of the database; a message leaves the stream once
/// it is durable. It computes the rows that the official indexer would store and merges them into
/// the AppView's tables. For frames it keeps a ledger in schema `skyfill`, so that each record is
/// stored exactly once and `skyfill verify` can prove it. Lines have no ledger; the same lines a
/// second time change nothing. On SIGINT or SIGTERM the consumer commits what it has read, then
/// ends. Refused lines and messages go to --rejects; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill consumer /tmp/skyfill.sock
  skyfill consumer /tmp/skyfill.sock --batch-size 20000 --max-db-connections 4
  skyfill consumer --transport nats://nats.example:4222 --until-empty
  skyfill consumer --db-test copy-binary
  skyfill consumer --db-test all --rows 200000")]
pub struct ConsumerArgs {
    /// Socket to listen on; replaces the socket file of a dead consumer, and is ignored with
    /// --db-test
    #[arg(value_name = "SOCKET-PATH", required_unless_present_any = ["db_test", "transport"], conflicts_with = "transport")]
    pub socket: Option<PathBuf>,
    #[command(flatten)]
    pub transport: TransportArgs,
    /// End when the stream has nothing that is not stored; without it, the consumer waits for more
    #[arg(long, requires = "transport", help_heading = "NATS")]
    pub until_empty: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Maximum records per COPY, for each collection
    #[arg(long, value_name = "N", env = "CONSUMER_BATCH_SIZE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub batch_size: u32,
    /// Memory budget of the whole process, without PostgreSQL [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    /// Maximum records per transaction; a transaction also ends when the records of all connections
    /// exceed 128 MiB or a quarter of --memory
    #[arg(long, value_name = "N", env = "CONSUMER_TRANSACTION_SIZE", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub transaction_size: u32,
    /// Database connections for loading
    #[arg(long, value_name = "N", env = "CONSUMER_MAX_DB_CONNECTIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_db_connections: u32,
    /// Use libpq instead of the Rust driver [variable: on, unless empty, 0 or false]
    #[arg(long, env = "CONSUMER_PG_NATIVE", action = ArgAction::SetTrue, value_parser = switch)]
    pub pg_native: bool,
    /// Insert generated follow rows until stopped, and print rows per second
    #[arg(long, value_name = "TEST", value_parser = PossibleValuesParser::new(["no-params", "with-params", "with-prepared", "copy", "copy-binary", "all"]))]
    pub db_test: Option<String>,
    /// Rows after which --db-test ends, for each of its tests
    #[arg(long, value_name = "N", requires = "db_test", required_if_eq("db_test", "all"), value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Time after which a part without progress is dropped; on a socket, its producer is
    /// disconnected [seconds]
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub part_timeout: u64,
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// File to append refused lines and messages to, with reasons
    #[arg(long, value_name = "FILE", default_value = "skyfill-rejects.jsonl")]
    pub rejects: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Parses a switch from the environment.
fn switch(text: &str) -> Result<bool, String> {
    Ok(variables::is_on(text))
}
