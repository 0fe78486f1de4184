//! The arguments of the dashboard.

use super::values;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the dashboard is served.
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// Serve a dashboard, /metrics, /health and /ready at this address, such as 127.0.0.1:7455; one
    /// that other machines can reach needs a token
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "SKYFILL_LISTEN",
        value_parser = values::address,
        help_heading = "Dashboard"
    )]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Who may see it.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// File with the token that the dashboard asks for; SKYFILL_LISTEN_TOKEN holds the token itself
    #[arg(
        long,
        value_name = "FILE",
        env = "SKYFILL_LISTEN_TOKEN_FILE",
        help_heading = "Dashboard"
    )]
    pub listen_token_file: Option<PathBuf>,
    /// Name under which browsers reach the dashboard, besides localhost and addresses [repeatable]
    #[arg(long, value_name = "NAME", help_heading = "Dashboard")]
    pub listen_name: Vec<String>,
}

/// Serves a dashboard of a database until stopped.
///
/// It shows what the ledger says: the same page that --listen serves beside a command, for a run
/// that has ended or that another process or machine works on. The AppView's tables are not
/// changed. A link is printed; where a token is needed, the link works once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill dashboard
  SKYFILL_LISTEN_TOKEN_FILE=token skyfill dashboard --listen 0.0.0.0:7455 --listen-name fill.example")]
pub struct DashboardArgs {
    #[command(flatten)]
    pub database: super::DatabaseArgs,
    /// Address and port to listen at; one that other machines can reach needs a token
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "SKYFILL_LISTEN",
        value_parser = values::address,
        default_value = "127.0.0.1:7455",
        help_heading = "Dashboard"
    )]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub access: AccessArgs,
}
