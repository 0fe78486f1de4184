//! Arguments of `skyfill doctor`.

use super::{CallerArgs, DatabaseArgs, LookupServersArgs, MemoryArgs};
use clap::Args;

/// Checks what a load stands on: the server, its schema, this machine and the network.
///
/// Each finding says what there is, what it means for a load, and the line that changes it. Nothing
/// is changed, and no private PostgreSQL is created. The network is checked with the arguments that
/// earlier commands stored. The exit code is 1 if there is a problem, else 0.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill doctor
  skyfill doctor --json | jq '.findings[] | select(.level != \"ok\")'
  skyfill doctor --no-network --max-db-connections 8")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Connections that a load is to use, as for `skyfill run` [default: as for `skyfill run`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: Option<u8>,
    /// Leave out the checks of the PLC directory, the relay and DNS
    #[arg(long, help_heading = "Network")]
    pub no_network: bool,
    #[command(flatten)]
    pub servers: LookupServersArgs,
    /// URL of the relay [default: the public one]
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_REPO_PROVIDER",
        help_heading = "Network"
    )]
    pub relay: Option<String>,
    /// Maximum time of one request [seconds]
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600), help_heading = "Network")]
    pub timeout: u64,
    #[command(flatten)]
    pub caller: CallerArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Print the findings as JSON on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}
