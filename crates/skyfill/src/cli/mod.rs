//! All arguments and environment variables, each defined once. Help, usage errors and
//! docs/reference/commands.md are generated from here.

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
mod transport;
mod values;

pub(crate) use archive::{ArchiveAction, ArchiveArgs, CarsArgs, StoreArgs};
pub(crate) use database::{DataDirArgs, DatabaseArgs, DbAction, DbArgs, SchemaArgs};
pub(crate) use database::{
    IndexMemoryArgs, IndexesAction, IndexesArgs, IndexesTarget, MigrateArgs, RestoreArgs,
};
pub(crate) use doctor::DoctorArgs;
pub(crate) use export::{ExportArgs, ExportFormat};
pub(crate) use follow::FollowArgs;
pub(crate) use listen::{AccessArgs, DashboardArgs, ListenArgs};
pub(crate) use loading::{
    CatchUpArgs, FillArgs, LoadArgs, LoadMode, ProofArgs, RunArgs, RunDocuments, RunHandles,
    WorkerArgs,
};
pub(crate) use logging::{LogArgs, log_plainly};
pub(crate) use network::{CallerArgs, DirectoryArgs, DiscoverArgs, FetchArgs, LookupServersArgs};
pub(crate) use network::{HostsArgs, MemoryArgs, SourceArgs, SpoolArgs};
pub(crate) use output::OutputArgs;
pub(crate) use packages::{CompletionsArgs, ManPagesArgs};
pub(crate) use plan::PlanArgs;
pub(crate) use practice::SimnetArgs;
pub(crate) use questions::{AuditArgs, CompareArgs, ExplainArgs};
pub(crate) use records::RecordsArgs;
pub(crate) use repair::RepairArgs;
pub(crate) use sockets::{ConsumerArgs, Form, ProducerArgs, UnpackArgs};
pub(crate) use status::{ReportArgs, StatusArgs};
pub(crate) use steps::{FinalizeArgs, HandleMode, IdentitiesArgs, VerifyArgs};
pub(crate) use transport::{NewStreamArgs, TransportArgs};

use clap::{CommandFactory, Parser, Subcommand};

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
    pub(crate) fn output(&self) -> Option<&OutputArgs> {
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
            Self::Archive(args) => Some(&args.cars().output),
            _ => None,
        }
    }
}

/// The definition of the arguments in this environment: an empty variable counts as unset.
pub(crate) fn definition() -> clap::Command {
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
