//! Arguments of `run` and `catch-up`.

use super::{
    CallerArgs, DatabaseArgs, DirectoryArgs, FetchArgs, LoadMode, MemoryArgs, OutputArgs,
    RunHandles, SourceArgs, SpoolArgs,
};
use super::{collection, notifications, size};
use clap::Args;
use std::path::PathBuf;

/// Takes repos to a servable database: fetches, checks, loads, makes indexes, looks up accounts,
/// finalizes, verifies.
///
/// What is to be loaded is kept in the database, in schema `skyfill`, with how far it has come:
/// without arguments it goes on with what is open, whatever stopped it. Given repos that are loaded
/// already it fetches those again whose PDS has a newer rev. Empty tables are loaded fresh, at the
/// speed of COPY, with indexes made at the end; tables with rows are merged into, while an AppView
/// serves from them (its ingester must be stopped). Exit code 0 if the database is "complete" at
/// the end (docs/certificate.md), else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill run dids.jsonl
  skyfill run                                       # go on with what is open
  skyfill run --handle bsky.app --did did:plc:z72i7hdynmk6r22z27h6tvur
  skyfill run dids.jsonl --keep-cars cars           # and a second load that needs no network:
  skyfill run --from-cars cars
  skyfill run dids.jsonl --collections app.bsky.graph.follow,app.bsky.actor.profile --notifications none
  skyfill run --retry-failed")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) what: WhatArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// What is loaded, and how a new run begins.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhatArgs {
    /// One JSON array a line: ["did:plc:...","https://pds.example"].
    #[arg(value_name = "DID-FILE")]
    pub(crate) did_file: Option<PathBuf>,
    /// This account; its PDS is looked up. May be given several times.
    #[arg(long, value_name = "DID")]
    pub(crate) did: Vec<String>,
    /// The account of this handle. May be given several times.
    #[arg(long, value_name = "HANDLE")]
    pub(crate) handle: Vec<String>,
    /// Also try now the repos that failed, whatever their time.
    #[arg(long)]
    pub(crate) retry_failed: bool,
    /// How a new run loads: fresh needs empty tables, merge takes any.
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub(crate) mode: LoadMode,
    /// Only these collections, separated by commas [default: those of the last run, else all].
    /// What is left out is accounted for as left out by choice.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = collection)]
    pub(crate) collections: Vec<rows::Collection>,
    /// Which notifications are stored: all, none, or since=DATE [default: those of the last run,
    /// else all].
    #[arg(long, value_name = "WHICH", value_parser = notifications)]
    pub(crate) notifications: Option<load::Notifications>,
    /// Take repos from such an archive, or from a folder of .car files, instead of from the
    /// network.
    #[arg(long, value_name = "DIR", conflicts_with = "keep_cars")]
    pub(crate) from_cars: Option<PathBuf>,
    /// Time of a new run, which no record's indexedAt passes [default: the clock].
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    /// Look for repos first, as `skyfill discover` does: with the sources that are named, or the
    /// public relay.
    #[arg(long, help_heading = "Sources")]
    pub(crate) discover: bool,
}

/// How it is loaded.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Add what is fetched to this folder: an archive of CARs, compressed.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep_cars: Option<PathBuf>,
    /// What to do about handles at the end: check them, take them as claimed, or leave the table
    /// `actor` alone.
    #[arg(long, value_name = "MODE", default_value = "verified", value_enum)]
    pub(crate) handles: RunHandles,
    /// Do not compare the tables with the signed commits at the end.
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Write what the comparison found to FILE, as JSON, host by host.
    #[arg(long, value_name = "FILE", conflicts_with = "no_verify")]
    pub(crate) certificate: Option<PathBuf>,
    /// Remove the rows of accounts that their hosts do not know any more even where a host lost
    /// more than a tenth of its accounts. Without this, such a host is taken for one that
    /// forgot them.
    #[arg(long)]
    pub(crate) accept_deletions: bool,
    /// Memory of the whole process, in bytes or with KiB, MiB, GiB. Not PostgreSQL's.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// Threads that check and encode [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Connections that load, make indexes and finalize.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) max_db_connections: u8,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    #[command(flatten)]
    pub(crate) remember: MemoryArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Brings tables that were loaded up to the present, until an AppView can take over.
///
/// Lists the repos of all known hosts and compares: newer ones are fetched again and merged,
/// accounts that are gone lose their rows, states are noted. It repeats that until the relay still
/// has everything that happened since the last comparison began; from then on an AppView that
/// subscribes to this relay misses nothing. Its ingester must not run before. See
/// docs/hand-over.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill catch-up
  skyfill catch-up --relay https://relay.example --contact ops@example.com")]
pub(crate) struct CatchUpArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Most passes; it ends earlier when there is no gap left.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) passes: u32,
    /// Time of the passes, which no record's indexedAt passes [default: the clock].
    #[arg(long, value_name = "ISO-TIME")]
    pub(crate) now: Option<String>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}
