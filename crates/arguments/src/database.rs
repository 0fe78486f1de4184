//! Arguments about the database and its schema: which one, and the commands `migrate`, `indexes`
//! and `db`.

use clap::{Args, Subcommand};
use process::server_size;
use std::path::PathBuf;

/// The target database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// Target database, as a URL or libpq's key=value pairs [default: a private PostgreSQL in
    /// --data-dir]
    #[arg(
        long,
        value_name = "URL",
        env = "BSKY_DB_POSTGRES_URL",
        hide_env_values = true,
        help_heading = "Database"
    )]
    pub database_url: Option<String>,
    #[command(flatten)]
    pub schema: SchemaArgs,
    #[command(flatten)]
    pub folder: DataDirArgs,
}

impl DatabaseArgs {
    /// The database that the arguments name.
    pub fn target(&self) -> process::Target {
        process::Target {
            url: self.database_url.clone(),
            schema: self.schema.schema.clone(),
            data_dir: self.folder.data_dir.clone(),
        }
    }
}

/// The AppView's tables in a database.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Name of the AppView's schema: letters and underscores
    #[arg(long, value_name = "NAME", env = "BSKY_DB_POSTGRES_SCHEMA", default_value = "bsky", value_parser = schema_name, help_heading = "Database")]
    pub schema: String,
}

/// The folder of the private PostgreSQL.
#[derive(Args, Clone, Debug)]
pub struct DataDirArgs {
    /// Folder of the private PostgreSQL
    #[arg(
        long,
        value_name = "DIR",
        env = "SKYFILL_DATA_DIR",
        default_value = "skyfill-data",
        help_heading = "Database"
    )]
    pub data_dir: PathBuf,
}

/// Brings the database to the official AppView's schema.
///
/// Runs the missing official migrations under their official names, so that the official service
/// finds nothing pending. It starts from whatever official state the database is in. A second run
/// changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill migrate
  skyfill migrate --drop-follow-indexes     # before many inserts into follow; then `skyfill indexes restore`
  BSKY_DB_POSTGRES_URL=postgresql://bsky@localhost/bsky skyfill migrate --recreate-schema")]
pub struct MigrateArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Drop the schema with all its contents first; refused while another skyfill uses it, or if it
    /// holds data that no repo can restore
    #[arg(long)]
    pub recreate_schema: bool,
    /// Drop rows without confirmation, with --recreate-schema
    #[arg(long, requires = "recreate_schema")]
    pub yes: bool,
    /// Drop mutes, bookmarks, drafts, labels and other private data as well, without confirmation,
    /// with --recreate-schema
    #[arg(long, requires = "recreate_schema")]
    pub discard_private_data: bool,
    /// Drop the indexes and the unique constraint of `follow`, and save their DDL for `skyfill
    /// indexes restore`
    #[arg(long)]
    pub drop_follow_indexes: bool,
}

/// Rebuilds the indexes that skyfill dropped, or lists them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill indexes status
  skyfill indexes restore")]
pub struct IndexesArgs {
    #[command(subcommand)]
    pub action: IndexesAction,
}

#[derive(Debug, Subcommand)]
pub enum IndexesAction {
    /// Lists the dropped indexes and constraints. The exit code is 1 if there are any.
    Status(IndexesTarget),
    /// Rebuilds all dropped indexes and constraints.
    Restore(RestoreArgs),
}

#[derive(Args, Debug)]
pub struct RestoreArgs {
    #[command(flatten)]
    pub target: IndexesTarget,
    /// Indexes to build concurrently, each on a database connection [default: one per two cores, 2
    /// to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_db_connections: Option<u8>,
    #[command(flatten)]
    pub server: IndexMemoryArgs,
}

/// What index builds may use of the server.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct IndexMemoryArgs {
    /// Memory budget of PostgreSQL's index builds, all together [bytes, or with KiB, MiB, GiB;
    /// default: a quarter of what its machine has beside shared_buffers, where that is this one]
    #[arg(long, value_name = "SIZE", value_parser = server_size)]
    pub server_memory: Option<u64>,
}

#[derive(Args, Debug)]
pub struct IndexesTarget {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Starts, stops or locates the private PostgreSQL.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  psql \"$(skyfill db url)\"
  skyfill db stop")]
pub struct DbArgs {
    #[command(subcommand)]
    pub action: DbAction,
}

#[derive(Debug, Subcommand)]
pub enum DbAction {
    /// Starts the private PostgreSQL, and creates it on first use.
    Start(DataDirArgs),
    /// Stops the private PostgreSQL.
    Stop(DataDirArgs),
    /// Reports whether it is running. The exit code is 1 if it is not.
    Status(DataDirArgs),
    /// Prints its URL, and starts it if it is stopped; only `start` creates it.
    Url(DataDirArgs),
}

fn schema_name(text: &str) -> Result<String, String> {
    if appview::is_schema_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected letters and underscores only, as the official service does".to_owned())
    }
}
