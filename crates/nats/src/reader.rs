//! A reader of the stream of records that loses none and writes down how far it came itself.
//!
//! What it has stored durably ends with a message, the mark; it is acknowledged up to there. After
//! a fault or a crash it needs every message after the mark once more. A consumer on the server
//! would deliver those that it delivered already only after a time limit. So the reader creates
//! another consumer, from the mark on, has its caller write down that one's number, and then
//! deletes the one before: at every moment there is a consumer that has acknowledged nothing beyond
//! the mark, so that a stream that keeps messages until they are read keeps them.

use crate::connect::{Connection, Link};
use crate::error::NatsError;
use crate::pull::Pull;
use crate::room::numbers_of;
use crate::stream::Stream;
use async_nats::Subject;
use async_nats::jetstream::stream::{Info, RetentionPolicy};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

/// Time until the server delivers a message again that was not acknowledged. Faults lead to another
/// consumer; this only has to be longer than a part takes.
const ACK_WAIT: Duration = Duration::from_secs(72 * 3600);

/// What helps when the stream lacks what was not read.
const AGAIN: &str = "begin with a new folder; to have all records in it, publish them once more: skyfill records --restart";

/// A message about a record.
#[derive(Debug)]
pub struct RecordMessage {
    /// Its number in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub content: Bytes,
}

/// How far a reader came, as its caller has written it down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When the stream was created, as the server says; empty before the first time.
    pub created: String,
    /// What names of the reader's consumers begin with: no other reader's do.
    pub reader: String,
    /// The number of its consumer; 0 before the first time.
    pub consumer: u64,
    /// The last message that is stored durably.
    pub through: u64,
}

/// A stream that is read.
pub struct RecordReader {
    connection: Connection,
    link: Link,
    pull: Pull,
    /// Deliveries so far.
    deliveries: u64,
    /// The highest message so far.
    highest: u64,
    /// Where to acknowledge that one.
    reply: Option<Subject>,
}

impl RecordReader {
    /// Waits for the stream, and begins to read after the mark. `note` writes down what changes in
    /// the mark.
    ///
    /// # Errors
    /// The server refuses it; the stream is another one than before, or lacks messages after the
    /// mark; it was stopped. Or `note` fails.
    pub fn open<E: From<NatsError>>(
        connection: Connection,
        mark: &mut Mark,
        memory: usize,
        mut note: impl FnMut(&Mark) -> Result<(), E>,
    ) -> Result<Self, E> {
        let link = connection.link();
        let info = Stream::wait_for_info(&connection, "skyfill records")?;
        let created = info.created.to_string();
        check(&connection, &link, &info, mark, &created)?;
        let before = mark.consumer;
        let next = before.saturating_add(1);
        let name = name_of(mark, next);
        connection.persist(async || {
            // What starts that were killed have left: this one, and the one before the one before.
            for left in [next, before.saturating_sub(1)] {
                link.delete_consumer(&name_of(mark, left)).await?;
            }
            link.create_reader(&name, mark.through.saturating_add(1))
                .await
        })?;
        (mark.consumer, mark.created) = (next, created);
        note(mark)?;
        if before > 0 {
            let name = name_of(mark, before);
            connection.persist(async || link.delete_consumer(&name).await)?;
        }
        let pull = Pull::begin(&connection, &name, memory)?;
        Ok(Self {
            connection,
            link,
            pull,
            deliveries: 0,
            highest: mark.through,
            reply: None,
        })
    }

    /// The servers and the stream, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.connection.shown()
    }

    /// The next message; nothing if none came within `wait`.
    ///
    /// # Errors
    /// The stream has to be opened again.
    pub fn next(&mut self, wait: Duration) -> Result<Option<RecordMessage>, NatsError> {
        let Some(message) = self.pull.next(&self.connection, wait)? else {
            return Ok(None);
        };
        let message = jetstream::Message {
            message,
            context: self.link.jetstream.clone(),
        };
        let (sequence, delivery) = match message.info() {
            Ok(info) => (info.stream_sequence, info.consumer_sequence),
            Err(error) => return Err(self.pull.away(&error.to_string())),
        };
        self.deliveries = self.deliveries.saturating_add(1);
        // Acknowledged are all up to one: none may be missing between.
        if delivery != self.deliveries || sequence <= self.highest {
            return Err(self
                .pull
                .away("messages were lost on the way, or came twice"));
        }
        self.highest = sequence;
        self.reply = message.message.reply;
        Ok(Some(RecordMessage {
            sequence,
            subject: message.message.subject.to_string(),
            content: message.message.payload,
        }))
    }

    /// Acknowledges all messages that have come: they are stored durably, and the mark is written
    /// down. An acknowledgement that is lost is made up by the next one.
    pub fn acknowledge(&mut self) {
        let Some(reply) = self.reply.take() else {
            return;
        };
        let told = self.link.client.publish(reply, Bytes::from_static(b"+ACK"));
        let told = self.connection.wait(async {
            told.await.map_err(|error| error.to_string())?;
            let flushed = self.link.client.flush().await;
            flushed.map_err(|error| error.to_string())
        });
        if let Err(error) = told {
            tracing::debug!("acknowledge: {error}");
        }
    }

    /// Whether nothing is in the stream after the last message that has come.
    ///
    /// # Errors
    /// The server refuses to say, or it was stopped.
    pub fn is_at_end(&self) -> Result<bool, NatsError> {
        let link = &self.link;
        let info = self.connection.persist(async || link.stream_info().await)?;
        let Some(info) = info else {
            return Err(NatsError::Refused(
                format!("{}: it was deleted", self.shown()),
                AGAIN.to_owned(),
            ));
        };
        Ok(info.state.messages == 0 || info.state.last_sequence <= self.highest)
    }

    /// The connection, to open the stream again.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }
}

fn name_of(mark: &Mark, consumer: u64) -> String {
    format!("{}-{consumer}", mark.reader)
}

/// Makes sure that the stream has all that comes after the mark.
fn check(
    connection: &Connection,
    link: &Link,
    info: &Info,
    mark: &Mark,
    created: &str,
) -> Result<(), NatsError> {
    let shown = connection.shown();
    let refused = |why: String| {
        Err(NatsError::Refused(
            format!("{shown}: {why}"),
            AGAIN.to_owned(),
        ))
    };
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if info.config.retention == RetentionPolicy::WorkQueue {
        return Err(NatsError::Refused(
            format!("{shown}: it is a work queue, so each message has one reader"),
            "name the stream of skyfill records with --nats-stream, without -records".to_owned(),
        ));
    }
    if info.config.retention == RetentionPolicy::Interest {
        note_slow_acknowledgements(link);
    }
    if mark.consumer == 0 {
        if first > 1 {
            observe::log!(
                "{shown} begins with message {first}; what was published before is not in the folder"
            );
        }
        return Ok(());
    }
    if mark.created != created || last < mark.through {
        return refused("it is another stream than the one that was read before".to_owned());
    }
    let next = mark.through.saturating_add(1);
    if first > next {
        return refused(format!(
            "messages {next} to {} are gone and were not read",
            first.saturating_sub(1)
        ));
    }
    // Without a consumer, such a stream lets go of what others have read.
    if info.config.retention == RetentionPolicy::Interest {
        let name = name_of(mark, mark.consumer);
        let is_there = connection.persist(async || link.has_consumer(&name).await)?;
        if !is_there {
            return refused(format!(
                "the consumer {name} was deleted, so messages after {} may be gone",
                mark.through
            ));
        }
    }
    Ok(())
}

/// Names a server that takes ever longer for an acknowledgement of all messages up to one, in a
/// stream that keeps messages until they are read: a step for each message that the stream ever had
/// (`processAckMsg` in `server/consumer.go` of nats-server, from 2.10.16 on; mended in 2.10.28 and
/// 2.11.2).
fn note_slow_acknowledgements(link: &Link) {
    let version = link.client.server_info().version;
    if are_slow(&version) {
        observe::log!(
            "note: nats-server {version} takes ever longer to let go of messages that were read; use 2.10.28, 2.11.2 or later, or a stream without --nats-until-read"
        );
    }
}

/// Whether this version of a server is one of those.
fn are_slow(version: &str) -> bool {
    numbers_of(version).is_some_and(|numbers| {
        ([2, 10, 16]..=[2, 10, 27]).contains(&numbers)
            || ([2, 11, 0]..=[2, 11, 1]).contains(&numbers)
    })
}

impl Link {
    async fn has_consumer(&self, name: &str) -> Result<bool, NatsError> {
        let subject = format!("CONSUMER.INFO.{}.{name}", self.stream);
        match self.api::<Value>(&subject, &()).await? {
            Ok(_) => Ok(true),
            Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(false),
            Err(error) => Err(self.refused_by(&error, "look for a consumer")),
        }
    }

    async fn create_reader(&self, name: &str, from: u64) -> Result<(), NatsError> {
        let stream = &self.stream;
        let ack_wait = u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({
            "stream_name": stream,
            "config": {
                "durable_name": name,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": from,
                "replay_policy": "instant",
                "ack_policy": "all",
                "ack_wait": ack_wait,
                "max_ack_pending": -1,
                "max_deliver": -1,
            },
        });
        let subject = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
        match self.api::<Value>(&subject, &request).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused_by(&error, "read the stream")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::are_slow;

    #[test]
    fn versions_that_acknowledge_slowly_are_known() {
        for slow in ["2.10.16", "2.10.22", "2.10.27", "2.11.0-RC.1", "2.11.1"] {
            assert!(are_slow(slow), "{slow}");
        }
        for quick in ["2.9.10", "2.10.15", "2.10.28", "2.11.2", "2.12.0", "next"] {
            assert!(!are_slow(quick), "{quick}");
        }
    }
}
