//! Arguments of `records`.

use super::transport::stream_size;
use super::{DatabaseArgs, OutputArgs, SpoolArgs, TransportArgs};
use clap::Args;
use nats::records::RecordLimits;

/// Publishes records, and each change of them, to a stream for other programs.
///
/// The stream NAME-records of NATS JetStream gets a message in JSON for each record of the table
/// `record`, with the subject NAME.records.COLLECTION, and then one for each record that comes,
/// changes or goes. It continues where it ended, however it ended: a message may come twice, and
/// none is lost. While the stream is full, it waits. See docs/how-to/records.md.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill records --transport nats://127.0.0.1:4222
  skyfill records --transport nats://127.0.0.1:4222 --collections 'posts,app.bsky.graph.*'
  skyfill records --end-publication")]
pub struct RecordsArgs {
    #[command(flatten)]
    pub transport: TransportArgs,
    /// Servers that keep each message of a new stream [default: 3 in a cluster that has them, else
    /// 1]
    #[arg(long, value_name = "N", requires = "transport", value_parser = clap::value_parser!(u8).range(1..=5), help_heading = "NATS")]
    pub nats_replicas: Option<u8>,
    /// Size of the stream from which publishing waits until an eighth of it is free [bytes, or with
    /// KiB, MiB, GiB, TiB] [default: 8GiB]
    #[arg(long, value_name = "SIZE", requires = "transport", value_parser = stream_size, help_heading = "NATS")]
    pub nats_max_bytes: Option<u64>,
    /// Keep a message of a new stream until all durable consumers have acknowledged it, not longer
    #[arg(long, requires = "transport", help_heading = "NATS")]
    pub nats_until_read: bool,
    /// Collections to publish, separated by commas: names, wildcards such as app.bsky.graph.*, or
    /// groups such as posts and graph [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub collections: Vec<String>,
    /// Publish everything once more
    #[arg(long, requires = "transport")]
    pub restart: bool,
    /// End when nothing is left to publish
    #[arg(long, requires = "transport")]
    pub until_published: bool,
    /// End the publication, so that changes are no longer noted for it
    #[arg(long, conflicts_with = "transport")]
    pub end_publication: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl RecordsArgs {
    /// What a new stream is to be.
    pub fn limits(&self) -> RecordLimits {
        RecordLimits {
            replicas: self.nats_replicas.map(usize::from),
            max_bytes: self.nats_max_bytes,
            until_read: self.nats_until_read,
        }
    }
}
