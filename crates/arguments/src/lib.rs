//! The arguments and environment variables of every command, each defined once. Help, usage errors
//! and docs/reference/commands.md are generated from here.
//!
//! What the commands do with them is in the binary (`crates/skyfill/src/commands`).
#![allow(
    missing_docs,
    reason = "an option's documentation is its help; one of several options has that of its structure"
)]
#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "help texts are plain text: [seconds] is a unit"
)]

mod archive;
mod database;
#[cfg(test)]
mod docs_test;
mod doctor;
mod export;
mod follow;
mod listen;
mod loading;
mod logging;
mod network;
mod output;
mod packages;
mod plan;
mod practice;
mod questions;
mod records;
mod repair;
mod sockets;
mod status;
mod steps;
mod tee;
mod transport;
mod values;

pub use archive::{ArchiveAction, ArchiveArgs, CarsArgs, StoreArgs};
pub use database::{DataDirArgs, DatabaseArgs, DbAction, DbArgs, SchemaArgs};
pub use database::{
    IndexMemoryArgs, IndexesAction, IndexesArgs, IndexesTarget, MigrateArgs, RestoreArgs,
};
pub use doctor::DoctorArgs;
pub use export::{ExportArgs, ExportFormat};
pub use follow::FollowArgs;
pub use listen::{AccessArgs, DashboardArgs, ListenArgs};
pub use loading::{
    CatchUpArgs, FillArgs, LoadArgs, LoadMode, ProofArgs, RunArgs, RunDocuments, RunHandles,
    WorkerArgs,
};
pub use logging::{LogArgs, log_plainly};
pub use network::{CallerArgs, DirectoryArgs, DiscoverArgs, FetchArgs, LookupServersArgs};
pub use network::{HostsArgs, MemoryArgs, SourceArgs, SpoolArgs};
pub use output::OutputArgs;
pub use packages::{CompletionsArgs, ManPagesArgs};
pub use plan::PlanArgs;
pub use practice::SimnetArgs;
pub use questions::{AuditArgs, CompareArgs, ExplainArgs};
pub use records::RecordsArgs;
pub use repair::RepairArgs;
pub use sockets::{ConsumerArgs, Form, ProducerArgs, UnpackArgs};
pub use status::{ReportArgs, StatusArgs};
pub use steps::{FinalizeArgs, HandleMode, IdentitiesArgs, VerifyArgs};
pub use tee::TeeArgs;
pub use transport::{NewStreamArgs, TransportArgs};

use clap::{CommandFactory, Parser, Subcommand};

/// Fills the PostgreSQL database of a Bluesky AppView from the repos of the AT Protocol network.
#[derive(Debug, Parser)]
#[command(name = "skyfill", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Migrate(MigrateArgs),
    UnpackAsDidFile(UnpackArgs),
    Producer(ProducerArgs),
    Consumer(ConsumerArgs),
    Discover(Box<DiscoverArgs>),
    Plan(Box<PlanArgs>),
    Run(Box<RunArgs>),
    CatchUp(Box<CatchUpArgs>),
    Repair(Box<RepairArgs>),
    Follow(Box<FollowArgs>),
    Identities(IdentitiesArgs),
    Finalize(FinalizeArgs),
    Verify(VerifyArgs),
    Status(StatusArgs),
    Dashboard(DashboardArgs),
    Report(ReportArgs),
    Explain(Box<ExplainArgs>),
    Audit(Box<AuditArgs>),
    Compare(CompareArgs),
    Export(Box<ExportArgs>),
    Records(Box<RecordsArgs>),
    Tee(Box<TeeArgs>),
    Archive(ArchiveArgs),
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
    pub fn output(&self) -> Option<&OutputArgs> {
        match self {
            Self::Producer(args) => Some(&args.output),
            Self::Consumer(args) => Some(&args.output),
            Self::Discover(args) => Some(&args.output),
            Self::Run(args) => Some(&args.load.fill.output),
            Self::CatchUp(args) => Some(&args.load.fill.output),
            Self::Follow(args) => Some(&args.fill.output),
            Self::Identities(args) => Some(&args.output),
            Self::Finalize(args) => Some(&args.output),
            Self::Verify(args) => Some(&args.output),
            Self::Audit(args) => Some(&args.output),
            Self::Export(args) => Some(&args.output),
            Self::Records(args) => Some(&args.output),
            Self::Tee(args) => Some(&args.output),
            Self::Archive(args) => Some(&args.cars().output),
            _ => None,
        }
    }
}

/// The definition of the arguments in this environment: an empty variable counts as unset.
pub fn definition() -> clap::Command {
    commandline::variables::without_empty(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
