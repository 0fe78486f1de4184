//! Arguments of `skyfill plan`.

use super::{DatabaseArgs, RunHandles};
use clap::Args;
use process::{disk_size, server_size};

/// Estimates the time, disk and memory of a load, and says what would change them.
///
/// The answer is calculated from the costs of a record in each phase, which were measured, from the
/// machine and from the server's settings (docs/explanation/plan.md). It is for the repos that are
/// pending in the ledger; if there is no ledger or no database, for the full network. No request is
/// sent and nothing is changed. The exit code is 1 if the disk is clearly too small, else 0.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill plan
  skyfill plan --repos 1000000
  skyfill plan --cores 64 --memory 256GiB --disk 50TiB --disk-rate 3GiB
  skyfill plan --measure-disk --json | jq '.phases[] | {phase, seconds, boundBy}'")]
pub struct PlanArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Number of repos to plan for [default: those that are pending, else those of the full
    /// network]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub repos: Option<u64>,
    /// Number of records to plan for [default: as in average repos]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000_000))]
    pub records: Option<u64>,
    /// Cores of another machine [default: this one's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Machine")]
    pub cores: Option<u16>,
    /// Memory of another machine [bytes, or with KiB, MiB, GiB, TiB; default: this one's]
    #[arg(long, value_name = "SIZE", value_parser = disk_size, help_heading = "Machine")]
    pub memory: Option<u64>,
    /// Free disk of another machine [bytes, or with KiB, MiB, GiB, TiB; default: what is free where
    /// the database lies, if that can be seen]
    #[arg(long, value_name = "SIZE", value_parser = disk_size, help_heading = "Machine")]
    pub disk: Option<u64>,
    /// Rate at which the disk reads and writes, per second [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", value_parser = disk_size, conflicts_with = "measure_disk", help_heading = "Machine")]
    pub disk_rate: Option<u64>,
    /// Measure the rate of the disk where the database lies, for some seconds, with an unnamed file
    /// of up to 2 GiB
    #[arg(long, conflicts_with = "disk", help_heading = "Machine")]
    pub measure_disk: bool,
    /// Connections that the load is to use [default: as for `skyfill run`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: Option<u8>,
    /// Memory budget of PostgreSQL's index builds [bytes, or with KiB, MiB, GiB; default: as for
    /// `skyfill run`]
    #[arg(long, value_name = "SIZE", value_parser = server_size)]
    pub server_memory: Option<u64>,
    /// Treatment of handles, as for `skyfill run`
    #[arg(long, value_name = "MODE", default_value = "auto", value_enum)]
    pub handles: RunHandles,
    /// Notifications to store: all, none, or since=DATE, which counts as all
    #[arg(long, value_name = "WHICH")]
    pub notifications: Option<load::Notifications>,
    /// Plan without the comparison of the tables with the signed commits
    #[arg(long)]
    pub no_verify: bool,
    /// Print as JSON on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}
