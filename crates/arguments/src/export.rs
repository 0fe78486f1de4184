//! Arguments of `export`.

use super::{DatabaseArgs, OutputArgs, SpoolArgs, StoreArgs};
use archive::Place;
use clap::{Args, ValueEnum};
use process::size;
use std::path::PathBuf;

/// Writes records to files for DuckDB, polars and other programs.
///
/// The folder gets a file per collection, month and part of the accounts, with the columns of the
/// AppView's tables, typed, and each record as JSON. Without --from-cars, the table `record` is
/// exported, and the number of records of each repo is compared with the ledger. The month is
/// that of sortAt: createdAt or indexedAt, whichever is earlier. manifest.json is written last,
/// with counts and hashes by collection. An export that was stopped or killed continues: no file is
/// torn, and no record is there twice.
///
/// The exit code is 1 if an account does not have the records that the ledger counted, or if repos
/// of the archive are damaged. See docs/how-to/research.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill export records
  skyfill export posts --collections posts,likes
  skyfill export lines --format jsonl
  skyfill export others --from-cars cars --collections 'com.example.*'")]
pub struct ExportArgs {
    /// Folder for the files; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Form of the files: Parquet, or the lines of the original scripts, compressed with zstd
    #[arg(long, value_name = "FORM", default_value = "parquet", value_enum)]
    pub format: ExportFormat,
    /// Collections to export, separated by commas: names, wildcards such as com.example.*, or
    /// groups such as posts and graph; those that an AppView does not know are only in archives
    /// [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub collections: Vec<String>,
    /// Archive made by --keep-cars, or folder or bucket of .car files, to read records from instead
    /// of the database: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long = "from-cars", value_name = "PLACE")]
    pub archive: Option<Place>,
    #[command(flatten)]
    pub store: StoreArgs,
    /// Approximate number of records per part; a part that was interrupted is begun again
    #[arg(long, value_name = "N", default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub part_records: u64,
    /// Parts to export concurrently [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Memory budget of the whole process, without PostgreSQL [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    /// Time of the export, the latest month with a folder of its own, and with --from-cars the
    /// latest that any record's indexedAt can be [default: the present time]
    #[arg(long, value_name = "ISO-TIME")]
    pub now: Option<String>,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The form of exported files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Parquet
    Parquet,
    /// JSON lines, compressed with zstd
    Jsonl,
}
