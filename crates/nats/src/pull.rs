//! Pulling messages from a durable consumer: requests that are bounded in messages and bytes, one
//! after the other, until the connection is lost.

use crate::connect::{Connection, Link};
use crate::error::NatsError;
use async_nats::jetstream::ErrorCode;
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Time for which a request for messages stands.
const EXPIRES: Duration = Duration::from_secs(5);
/// Maximum number of messages per request.
const MOST_MESSAGES: usize = 256;
/// Bytes that a message has beside its content: its subjects.
const SUBJECTS: usize = 1 << 16;
/// What the server says when the next message exceeds what is left of a request's bytes.
const REQUEST_IS_FULL: &str = "Message Size Exceeds MaxBytes";
/// What servers from 2.10 on say after the last message of a request that has bytes left.
const REQUEST_IS_DONE: &str = "Batch Completed";

/// Pulls the messages of one consumer, over one connection until that is lost.
pub(crate) struct Pull {
    link: Link,
    /// Name of the consumer.
    consumer: String,
    inbox: String,
    messages: Subscriber,
    /// Bytes per request.
    bytes: usize,
    /// Messages that were asked for and have not come.
    outstanding: usize,
    asked: Instant,
    /// Losses of the connection when it began.
    losses: u64,
}

impl Pull {
    /// Begins to pull, with so much memory for messages that have come, or for one message if that
    /// is more.
    pub(crate) fn begin(
        connection: &Connection,
        consumer: &str,
        memory: usize,
    ) -> Result<Self, NatsError> {
        let link = connection.link();
        let losses = link.losses();
        let inbox = link.client.new_inbox();
        let subscribed = connection.wait(link.client.subscribe(inbox.clone()));
        let messages = subscribed.map_err(|error| NatsError::Away(error.to_string()))?;
        let one = link.client.max_payload().saturating_add(SUBJECTS);
        Ok(Self {
            link,
            consumer: consumer.to_owned(),
            inbox,
            messages,
            bytes: memory.max(one),
            outstanding: 0,
            asked: Instant::now(),
            losses,
        })
    }

    /// The next message; nothing if none came within `wait`.
    ///
    /// # Errors
    /// The consumer has to be read from its beginning again.
    pub(crate) fn next(
        &mut self,
        connection: &Connection,
        wait: Duration,
    ) -> Result<Option<async_nats::Message>, NatsError> {
        let deadline = Instant::now().checked_add(wait);
        loop {
            if self.link.losses() != self.losses {
                return Err(self.away("the connection was lost"));
            }
            if self.outstanding == 0 {
                self.ask(connection)?;
            }
            let now = Instant::now();
            let left = deadline.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
            let next = in_time(left, &mut self.messages);
            let Ok(message) = connection.wait(next) else {
                // Only now: what has come meanwhile was waiting to be read.
                if self.asked.elapsed() > EXPIRES.saturating_mul(2) {
                    self.outstanding = 0;
                }
                return Ok(None);
            };
            let message = message.ok_or_else(|| self.away("the subscription has ended"))?;
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    self.asked = Instant::now();
                    return Ok(Some(message));
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => self.outstanding = 0,
                Some(status) => {
                    let text = message.description.unwrap_or_default();
                    if text.eq_ignore_ascii_case(REQUEST_IS_FULL) {
                        self.outstanding = 0;
                    } else if !text.eq_ignore_ascii_case(REQUEST_IS_DONE) {
                        return Err(self.away(&format!("{status} {text}")));
                    }
                    // After the last message of a request, the next one may stand already.
                }
            }
        }
    }

    /// Why the consumer has to be read from its beginning again.
    pub(crate) fn away(&self, why: &str) -> NatsError {
        let Link { stream, shown, .. } = &self.link;
        NatsError::Away(format!(
            "{} of stream {stream} on {shown}: {why}",
            self.consumer
        ))
    }

    /// Asks for messages.
    fn ask(&mut self, connection: &Connection) -> Result<(), NatsError> {
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let request =
            json!({ "batch": MOST_MESSAGES, "max_bytes": self.bytes, "expires": expires })
                .to_string();
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.link.stream, self.consumer
        );
        let client = &self.link.client;
        let asked = client.publish_with_reply(subject, self.inbox.clone(), request.into());
        connection
            .wait(asked)
            .map_err(|error| self.away(&error.to_string()))?;
        (self.outstanding, self.asked) = (MOST_MESSAGES, Instant::now());
        Ok(())
    }
}

/// The next message, if it comes in time.
async fn in_time(
    time: Duration,
    messages: &mut Subscriber,
) -> Result<Option<async_nats::Message>, tokio::time::error::Elapsed> {
    tokio::time::timeout(time, messages.next()).await
}

impl Link {
    /// Deletes a consumer, if it is there.
    pub(crate) async fn delete_consumer(&self, name: &str) -> Result<(), NatsError> {
        let subject = format!("CONSUMER.DELETE.{}.{name}", self.stream);
        match self.api::<Value>(&subject, &()).await? {
            Ok(_) => Ok(()),
            Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(()),
            Err(error) => Err(self.refused_by(&error, "delete a consumer")),
        }
    }
}
