//! The stream: created by producers, checked by both ends.

use crate::connect::{Connection, Link};
use crate::error::NatsError;
use crate::message::subjects;
use crate::room;
use crate::settings::Limits;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use std::time::Duration;

/// Shards of a new stream: as many consumers can share the work.
const SHARDS: u32 = 8;
/// Maximum number of shards.
const MAX_SHARDS: u32 = 256;
/// How long the server recognizes a message that comes twice.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Largest content of a message, however large the server lets it be.
const LARGEST_CHUNK: usize = 1 << 20;
/// Space for the headers of a message.
const HEADERS: usize = 1 << 10;
/// Content of a message below which splitting makes no sense.
const SMALLEST_CHUNK: usize = 1 << 10;
/// How often it is looked for a stream that is not there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A stream that was checked.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub(crate) name: String,
    /// Its shards.
    pub(crate) shards: u32,
    /// Maximum size, in bytes, which its producers keep.
    pub(crate) limit: u64,
    /// Largest content of a message.
    pub(crate) chunk: usize,
    /// How many servers keep it.
    replicas: usize,
}

impl Stream {
    /// Opens the stream of a producer, and creates it if it is not there.
    ///
    /// # Errors
    /// The server refuses it; the stream is not as `limits` say, or not one of skyfill's.
    pub fn create(connection: &Connection, limits: &Limits) -> Result<Self, NatsError> {
        let link = connection.link();
        let shards = limits.shards.unwrap_or(SHARDS);
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(NatsError::Settings(format!(
                "a stream has 1 to {MAX_SHARDS} shards, not {shards}"
            )));
        }
        let created = connection.persist(async || {
            if let Some(info) = link.stream_info().await? {
                return Ok(info);
            }
            let config = link.new_config(shards, limits);
            match link.create_stream(&config).await? {
                Ok(info) => Ok(info),
                // Another producer was quicker; what it made is checked.
                Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                    let info = link.stream_info().await?;
                    info.ok_or_else(|| NatsError::Away("the stream was deleted".to_owned()))
                }
                Err(error) => Err(link.refused_stream(&error, &config)),
            }
        })?;
        let stream = Self::checked(&link, &created.config, limits.max_bytes)?;
        stream.compare(&link, limits)?;
        Ok(stream)
    }

    /// Opens the stream of a consumer; waits until a producer has created it.
    ///
    /// # Errors
    /// The server refuses it, or the stream is not one of skyfill's.
    pub fn wait_for(connection: &Connection) -> Result<Self, NatsError> {
        let info = Self::wait_for_info(connection, "a producer")?;
        Self::checked(&connection.link(), &info.config, None)
    }

    /// Waits until the stream of the connection is there, which `creator` creates.
    pub(crate) fn wait_for_info(connection: &Connection, creator: &str) -> Result<Info, NatsError> {
        let link = connection.link();
        let mut said = false;
        loop {
            if let Some(info) = connection.persist(async || link.stream_info().await)? {
                return Ok(info);
            }
            if !std::mem::replace(&mut said, true) {
                observe::log!(
                    "no {} yet: waiting until {creator} creates it",
                    connection.shown()
                );
            }
            connection.pause(LOOK_EVERY)?;
        }
    }

    /// Whether nothing is left in it.
    ///
    /// # Errors
    /// The server refuses to say.
    pub fn is_empty(connection: &Connection) -> Result<bool, NatsError> {
        let link = connection.link();
        let info = connection.persist(async || link.stream_info().await)?;
        Ok(info.is_none_or(|info| info.state.messages == 0))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of its shards.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// Largest content of a message.
    #[must_use]
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Its limits, for people.
    #[must_use]
    pub fn described(&self) -> String {
        format!(
            "{} shards, {} replicas, at most {}",
            self.shards,
            self.replicas,
            observe::bytes(self.limit)
        )
    }

    /// A stream with this definition, if it loses nothing, and its limit is the one that was said.
    fn checked(link: &Link, config: &Config, said: Option<u64>) -> Result<Self, NatsError> {
        let refused = |why: &str, hint: &str| {
            let what = format!("stream {} on {}: {why}", link.stream, link.shown);
            Err(NatsError::Refused(what, hint.to_owned()))
        };
        let other = "name another stream with --nats-stream; skyfill creates it";
        if config.retention != RetentionPolicy::WorkQueue {
            return refused("it is not a work queue, so it keeps what is stored", other);
        }
        if config.discard != DiscardPolicy::New && (config.max_bytes > 0 || config.max_messages > 0)
        {
            return refused("it discards its oldest messages when it is full", other);
        }
        if !config.max_age.is_zero() || config.max_messages_per_subject > 0 {
            return refused("it discards messages that nobody has stored", other);
        }
        if config.storage != StorageType::File {
            return refused(
                "it is kept in memory, so it does not survive its server",
                other,
            );
        }
        link.require_kept_limits(config)?;
        let shards = u32::try_from(config.subjects.len()).unwrap_or(0);
        let is_ours = (0..shards).all(|shard| {
            let subject = subjects(&link.stream, shard);
            config.subjects.contains(&subject)
        });
        if !is_ours || !(1..=MAX_SHARDS).contains(&shards) {
            return refused("its subjects are not those of skyfill", other);
        }
        let mut chunk = link.client.max_payload().min(LARGEST_CHUNK);
        if let Ok(size @ 1..) = usize::try_from(config.max_message_size) {
            chunk = chunk.min(size);
        }
        chunk = chunk.saturating_sub(HEADERS);
        if chunk < SMALLEST_CHUNK {
            return refused(
                "its messages are limited to less than 2 KiB",
                "raise max_payload of the server, or max_msg_size of the stream",
            );
        }
        Ok(Self {
            name: link.stream.clone(),
            shards,
            limit: link.limit_of(config, said)?,
            chunk,
            replicas: config.num_replicas,
        })
    }

    /// Makes sure that a stream is what the options say, where they say something.
    fn compare(&self, link: &Link, limits: &Limits) -> Result<(), NatsError> {
        let differs = |option: &str, is: String, said: String| {
            Err(NatsError::Refused(
                format!(
                    "stream {} on {} exists with {is}, but {option} says {said}",
                    link.stream, link.shown
                ),
                format!(
                    "leave out {option}, or change the stream with: nats stream edit {}",
                    link.stream
                ),
            ))
        };
        if let Some(shards) = limits.shards.filter(|shards| *shards != self.shards) {
            let is = format!("{} shards", self.shards);
            return differs("--nats-shards", is, shards.to_string());
        }
        if let Some(replicas) = limits.replicas.filter(|count| *count != self.replicas) {
            let is = format!("{} replicas", self.replicas);
            return differs("--nats-replicas", is, replicas.to_string());
        }
        Ok(())
    }
}

impl Link {
    /// The stream's definition and state; nothing if there is none.
    pub(crate) async fn stream_info(&self) -> Result<Option<Info>, NatsError> {
        let subject = format!("STREAM.INFO.{}", self.stream);
        match self.api::<Info>(&subject, &()).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Err(error) => Err(self.refused_by(&error, "ask for the stream")),
        }
    }

    /// The limit of a stream, in bytes, if it is the one that was said.
    pub(crate) fn limit_of(&self, config: &Config, said: Option<u64>) -> Result<u64, NatsError> {
        room::limit(config, said).map_err(|is| {
            NatsError::Refused(
                format!(
                    "stream {} on {} exists with a limit of {is} bytes, but --nats-max-bytes says {}",
                    self.stream,
                    self.shown,
                    said.unwrap_or(is)
                ),
                format!(
                    "leave out --nats-max-bytes, or change the stream: nats stream edit {} \
                     --description '{}'",
                    self.stream,
                    room::description("skyfill", said)
                ),
            )
        })
    }

    /// Creates a stream; with a limit on the server, where the account demands one.
    pub(crate) async fn create_stream(
        &self,
        config: &Config,
    ) -> Result<Result<Info, async_nats::jetstream::Error>, NatsError> {
        let subject = format!("STREAM.CREATE.{}", config.name);
        let created = self.api::<Info>(&subject, config).await?;
        match created {
            Err(error) if is_without_limit(&error) && self.keeps_limits() => {
                let twice = room::described(config).unwrap_or(0).saturating_mul(2);
                let limited = Config {
                    max_bytes: i64::try_from(twice).unwrap_or(i64::MAX),
                    ..config.clone()
                };
                self.api(&subject, &limited).await
            }
            created => Ok(created),
        }
    }

    fn new_config(&self, shards: u32, limits: &Limits) -> Config {
        let what = "repos from skyfill producer to skyfill consumer";
        Config {
            description: Some(room::description(what, limits.max_bytes)),
            subjects: (0..shards)
                .map(|shard| subjects(&self.stream, shard))
                .collect(),
            retention: RetentionPolicy::WorkQueue,
            ..self.lossless_config(limits.replicas)
        }
    }

    /// What every stream of skyfill is: on disk, and without a limit (see [`crate::room`]).
    pub(crate) fn lossless_config(&self, replicas: Option<usize>) -> Config {
        Config {
            name: self.stream.clone(),
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: replicas.unwrap_or_else(|| self.usual_replicas()),
            // No limits.
            max_bytes: -1,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        }
    }

    /// Three where the cluster has them.
    fn usual_replicas(&self) -> usize {
        let server = self.client.server_info();
        let has_three = server.cluster.is_some() && server.connect_urls.len() >= 3;
        if has_three { 3 } else { 1 }
    }

    pub(crate) fn refused_stream(
        &self,
        error: &async_nats::jetstream::Error,
        config: &Config,
    ) -> NatsError {
        let lacks_space = matches!(
            error.error_code(),
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::CLUSTER_NO_PEERS
        );
        if lacks_space {
            return NatsError::Refused(
                format!(
                    "cannot create stream {} with {} replicas on {}: {error}",
                    config.name, config.num_replicas, self.shown
                ),
                "give the stream less with --nats-replicas or, where the account demands a limit \
                 on the server, which is twice --nats-max-bytes, with that; or raise \
                 max_file_store of the server or the limits of the account"
                    .to_owned(),
            );
        }
        if is_without_limit(error) {
            return NatsError::Refused(
                format!(
                    "cannot create stream {} on {}: {error}",
                    config.name, self.shown
                ),
                "the account demands a limit, with which nats-server before 2.10.11 may lose \
                 messages: update the server, or use an account without max_bytes_required"
                    .to_owned(),
            );
        }
        self.refused_by(error, "create the stream")
    }
}

/// Whether a stream was refused since the account demands a limit.
fn is_without_limit(error: &async_nats::jetstream::Error) -> bool {
    error.error_code() == ErrorCode::STREAM_MAX_BYTES_REQUIRED
}
