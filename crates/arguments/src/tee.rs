//! Arguments of `tee`.

use super::{ExportFormat, OutputArgs, SpoolArgs, TransportArgs};
use clap::Args;
use process::size;
use std::path::PathBuf;

/// Writes records to files as they change, from the stream of `skyfill records`.
///
/// The folder gets a file per collection, month and part of the stream, in the form of `skyfill
/// export`, with the operation of each row: a record that came, changed or went. A part is written
/// when it has so many messages or is so old; what is in its files is then acknowledged. It goes on
/// until it is stopped, and continues where it ended, however it ended: no file is torn, no message
/// is in two files, and none is missing. It needs no database. See docs/how-to/records.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill tee records --transport nats://127.0.0.1:4222
  skyfill tee posts --transport nats://127.0.0.1:4222 --collections posts --every 3600
  skyfill tee lines --transport nats://127.0.0.1:4222 --format jsonl --until-read")]
pub struct TeeArgs {
    /// Folder for the files; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub transport: TransportArgs,
    /// Form of the files: Parquet, or the messages as JSON lines, compressed with zstd
    #[arg(long, value_name = "FORM", default_value = "parquet", value_enum)]
    pub format: ExportFormat,
    /// Collections to write, separated by commas: names, wildcards such as app.bsky.graph.*, or
    /// groups such as posts and graph [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub collections: Vec<String>,
    /// Maximum number of messages per part
    #[arg(long, value_name = "N", default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub part_records: u64,
    /// Longest time from the first message of a part to its files [seconds]
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every: u64,
    /// End when the stream has nothing that is not in the files
    #[arg(long)]
    pub until_read: bool,
    /// Memory budget of the whole process [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
