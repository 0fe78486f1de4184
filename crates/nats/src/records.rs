//! The stream of records for other programs: its definition, and publishing in batches.
//!
//! A batch is published side by side, within a window in bytes. It ends when the stream has all of
//! it ([`Publisher::finish_batch`]). So messages of one batch may change places, and those of two
//! batches do not.
//!
//! A stream that keeps messages until they are read drops at once what comes while it has no
//! consumer, and answers as if it had it. So after each batch it is asked whether it has one
//! ([`Publisher::was_kept`]), which costs a request.

use crate::connect::{Connection, Link};
use crate::error::NatsError;
use crate::publish::Outgoing;
use crate::room::{self, Room};
use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of messages that are on their way to the server.
const WINDOW: u32 = 8 << 20;
/// Bytes by which a message counts in the window at least.
const LEAST: u32 = 1 << 10;
/// Space for the subject and the headers of a message.
const HEADERS: usize = 4096;
/// How often it is looked for a reader.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a new stream is to be; of one that exists, what it must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordLimits {
    /// Servers that keep each message.
    pub replicas: Option<usize>,
    /// Size of the stream, in bytes, from which publishing waits.
    pub max_bytes: Option<u64>,
    /// Whether a message leaves the stream when all durable consumers have acknowledged it.
    pub until_read: bool,
}

/// Publishes messages about records.
pub struct Publisher {
    connection: Connection,
    prefix: String,
    window: Arc<Semaphore>,
    room: Room,
    failed: Arc<Mutex<Option<NatsError>>>,
    /// Largest content of a message.
    largest: usize,
    /// Whether the stream was created now.
    is_new: bool,
    /// Whether the stream drops what comes while nobody reads it.
    drops_unread: bool,
}

impl Publisher {
    /// Opens the stream, and creates it if it is not there. `connection` names it; its subjects are
    /// `PREFIX.records.>`. If messages leave the stream when they are read, waits for a reader.
    ///
    /// # Errors
    /// The server refuses it; the stream is not as `limits` say, or would lose messages; it was
    /// stopped.
    pub fn open(
        connection: Connection,
        prefix: &str,
        limits: &RecordLimits,
    ) -> Result<Self, NatsError> {
        let link = connection.link();
        let (info, is_new) = connection.persist(async || {
            if let Some(info) = link.stream_info().await? {
                return Ok((info, false));
            }
            let config = link.config_of_records(prefix, limits);
            match link.create_stream(&config).await? {
                Ok(info) => Ok((info, true)),
                Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Err(
                    NatsError::Away("another process has just created the stream".to_owned()),
                ),
                Err(error) => Err(link.refused_stream(&error, &config)),
            }
        })?;
        let config = &info.config;
        check(&link, config, prefix)?;
        compare(&link, config, limits)?;
        let mut largest = link.client.max_payload();
        if let Ok(size @ 1..) = usize::try_from(config.max_message_size) {
            largest = largest.min(size);
        }
        let publisher = Self {
            connection,
            prefix: prefix.to_owned(),
            window: Arc::new(Semaphore::new(WINDOW as usize)),
            room: Room::new(link.limit_of(config, limits.max_bytes)?),
            failed: Arc::default(),
            largest: largest.saturating_sub(HEADERS),
            is_new,
            drops_unread: config.retention == RetentionPolicy::Interest,
        };
        if config.retention != RetentionPolicy::Limits {
            publisher.wait_for_reader("has no consumer yet")?;
        }
        Ok(publisher)
    }

    /// The servers and the stream, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.connection.shown()
    }

    /// Whether the stream was created now, so that nothing that was published before is in it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the stream drops what comes while it has no consumer. A batch may have to be
    /// published again then, under other ids: the stream knows those of messages that it dropped.
    #[must_use]
    pub fn drops_unread(&self) -> bool {
        self.drops_unread
    }

    /// Largest content of a message, in bytes.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Publishes a message about a record of a collection, as soon as there is space on the way.
    ///
    /// # Errors
    /// A message before was refused, or it was stopped.
    pub fn publish(&self, collection: &str, id: &str, content: Vec<u8>) -> Result<(), NatsError> {
        if let Some(why) = self.failed().clone() {
            return Err(why);
        }
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        let size = u32::try_from(content.len()).unwrap_or(WINDOW);
        let message = Outgoing {
            subject: format!("{}.records.{collection}", self.prefix),
            headers,
            payload: content.into(),
        };
        let (link, failed) = (self.connection.link(), Arc::clone(&self.failed));
        if let Err(why) = self.connection.wait(self.room.wait(&link)) {
            self.failed().get_or_insert(why.clone());
            return Err(why);
        }
        self.room.take(message.payload.len());
        let wanted = Arc::clone(&self.window).acquire_many_owned(size.clamp(LEAST, WINDOW));
        let share = self.connection.wait(wanted).ok();
        self.connection.spawn(async move {
            if let Err(why) = link.publish_for_sure(&message).await {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(why);
            }
            drop(share);
        });
        Ok(())
    }

    /// Waits until the stream has everything that was published.
    ///
    /// # Errors
    /// The stream does not have all of it: the server refused a message, or it was stopped.
    pub fn finish_batch(&self) -> Result<(), NatsError> {
        let all = self.window.acquire_many(WINDOW);
        drop(self.connection.wait(all));
        self.failed().take().map_or(Ok(()), Err)
    }

    /// Whether the stream kept the batch that was finished. If not, waits for a reader first: the
    /// batch is to be published again.
    ///
    /// # Errors
    /// The server refuses to say; it was stopped.
    pub fn was_kept(&self) -> Result<bool, NatsError> {
        if !self.drops_unread || self.has_reader()? {
            return Ok(true);
        }
        self.wait_for_reader("has no consumer any more")?;
        Ok(false)
    }

    fn failed(&self) -> MutexGuard<'_, Option<NatsError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_reader(&self) -> Result<bool, NatsError> {
        let link = self.connection.link();
        let info = self.connection.persist(async || link.stream_info().await)?;
        Ok(info.is_some_and(|info| info.state.consumer_count > 0))
    }

    fn wait_for_reader(&self, why: &str) -> Result<(), NatsError> {
        let mut said = false;
        while !self.has_reader()? {
            if !std::mem::replace(&mut said, true) {
                observe::log!(
                    "{} keeps messages until they are read, and {why}: waiting until one is created",
                    self.shown()
                );
            }
            self.connection.pause(LOOK_EVERY)?;
        }
        Ok(())
    }
}

/// Makes sure that a stream loses nothing.
fn check(link: &Link, config: &Config, prefix: &str) -> Result<(), NatsError> {
    let refused = |why: &str| {
        Err(NatsError::Refused(
            format!("stream {} on {}: {why}", link.stream, link.shown),
            "name another stream with --nats-stream; skyfill creates it".to_owned(),
        ))
    };
    let has_limit =
        config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    if config.discard != DiscardPolicy::New && has_limit {
        return refused("it discards its oldest messages when it is full");
    }
    if config.storage != StorageType::File {
        return refused("it is kept in memory, so it does not survive its server");
    }
    link.require_kept_limits(config)?;
    if !config.subjects.contains(&subjects(prefix)) {
        return refused(&format!(
            "it does not have the subjects {}",
            subjects(prefix)
        ));
    }
    Ok(())
}

/// Makes sure that a stream is what the options say, where they say something.
fn compare(link: &Link, config: &Config, limits: &RecordLimits) -> Result<(), NatsError> {
    let differs = |option: &str, is: &str| {
        Err(NatsError::Refused(
            format!(
                "stream {} on {} exists with {is}, but {option} says otherwise",
                link.stream, link.shown
            ),
            format!(
                "leave out {option}, or change the stream with: nats stream edit {}",
                link.stream
            ),
        ))
    };
    if limits
        .replicas
        .is_some_and(|count| count != config.num_replicas)
    {
        return differs(
            "--nats-replicas",
            &format!("{} replicas", config.num_replicas),
        );
    }
    if limits.until_read && config.retention == RetentionPolicy::Limits {
        return differs("--nats-until-read", "messages that stay when they are read");
    }
    Ok(())
}

fn subjects(prefix: &str) -> String {
    format!("{prefix}.records.>")
}

impl Link {
    fn config_of_records(&self, prefix: &str, limits: &RecordLimits) -> Config {
        Config {
            description: Some(room::description(
                "records from skyfill records",
                limits.max_bytes,
            )),
            subjects: vec![subjects(prefix)],
            retention: match limits.until_read {
                true => RetentionPolicy::Interest,
                false => RetentionPolicy::Limits,
            },
            ..self.lossless_config(limits.replicas)
        }
    }
}
