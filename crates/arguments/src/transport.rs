//! Arguments about NATS JetStream.

use clap::Args;
use process::{Failure, disk_size};
use std::path::PathBuf;

/// Smallest stream, in bytes.
const LEAST_STREAM: u64 = 64 << 10;

/// The server, how to log in, and the stream.
#[derive(Args, Clone, Debug)]
pub struct TransportArgs {
    /// NATS servers with JetStream whose stream carries repos or records: nats:// or tls://,
    /// several separated by commas
    #[arg(long, value_name = "URL", help_heading = "NATS")]
    pub transport: Option<String>,
    /// Name of the stream, and first part of its subjects
    #[arg(
        long,
        value_name = "NAME",
        default_value = "skyfill",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_stream: String,
    /// Credentials file, with a JWT and its key
    #[arg(
        long,
        value_name = "FILE",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_creds: Option<PathBuf>,
    /// User name
    #[arg(
        long,
        value_name = "NAME",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_user: Option<String>,
    /// File with the user's password
    #[arg(
        long,
        value_name = "FILE",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_password_file: Option<PathBuf>,
    /// File with a token
    #[arg(
        long,
        value_name = "FILE",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_token_file: Option<PathBuf>,
    /// PEM file with the authorities that may sign the server's certificate; implies TLS [default:
    /// the system's, for tls://]
    #[arg(
        long,
        value_name = "FILE",
        requires = "transport",
        help_heading = "NATS"
    )]
    pub nats_ca: Option<PathBuf>,
}

/// What the stream is to be.
#[derive(Args, Clone, Debug)]
pub struct NewStreamArgs {
    /// Servers that keep each message of a new stream [default: 3 in a cluster that has them, else
    /// 1]
    #[arg(long, value_name = "N", requires = "transport", value_parser = clap::value_parser!(u8).range(1..=5), help_heading = "NATS")]
    pub nats_replicas: Option<u8>,
    /// Size of the stream from which no repo begins until an eighth of it is free [bytes, or with
    /// KiB, MiB, GiB, TiB] [default: 8GiB]
    #[arg(long, value_name = "SIZE", requires = "transport", value_parser = stream_size, help_heading = "NATS")]
    pub nats_max_bytes: Option<u64>,
    /// Number of shards of a new stream; at most this many consumers can share the work [default:
    /// 8]
    #[arg(long, value_name = "N", requires = "transport", value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "NATS")]
    pub nats_shards: Option<u32>,
}

impl TransportArgs {
    /// The server and the stream, if there is one.
    pub fn settings(&self) -> Result<Option<nats::Settings>, Failure> {
        let Some(urls) = &self.transport else {
            return Ok(None);
        };
        let login = nats::Login {
            credentials: self.nats_creds.clone(),
            user: self.nats_user.clone(),
            password: self.nats_password_file.clone(),
            token: self.nats_token_file.clone(),
        };
        let settings =
            nats::Settings::new(urls, &login, self.nats_ca.as_deref(), &self.nats_stream);
        Ok(Some(settings?))
    }
}

impl NewStreamArgs {
    /// What a new stream is to be.
    pub fn limits(&self) -> nats::Limits {
        nats::Limits {
            replicas: self.nats_replicas.map(usize::from),
            max_bytes: self.nats_max_bytes,
            shards: self.nats_shards,
        }
    }
}

/// Parses the size of a stream.
pub(crate) fn stream_size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes) if bytes >= LEAST_STREAM => Ok(bytes),
        _ => disk_size(text),
    }
}
