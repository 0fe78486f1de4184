//! The consumer's end: the messages of one shard, in order, each until it is acknowledged.
//!
//! A shard has one durable pull consumer on the server. Whoever begins to read the shard deletes it
//! and creates it anew: the server then delivers everything that was not acknowledged, from the
//! oldest, without waiting for a time limit of a reader that is gone. That is also how a reader
//! goes on after any fault: it forgets what it has, and begins again. A message that comes twice
//! does no harm, since the ledger knows what is stored.
//!
//! The server limits the time until an acknowledgement. A task tells it for each message that is
//! still under way that it is, so that a database that is away for an hour costs nothing.

use crate::connect::{Connection, Link};
use crate::error::NatsError;
use crate::message::{CHUNK, Place, subjects, upload_of};
use crate::publish::is_not_found;
use crate::pull::Pull;
use crate::stream::Stream;
use async_nats::Subject;
use async_nats::jetstream;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Time until the server delivers a message again that is neither acknowledged nor under way.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// How often the server is told what is under way.
const KEEP_EVERY: Duration = Duration::from_secs(15);
/// Maximum number of messages that are under way: those of a part are so together.
const MOST_UNDER_WAY: u32 = 1 << 18;

/// Messages that are under way: their numbers, and where to acknowledge them.
type Unacknowledged = Arc<Mutex<BTreeMap<u64, Subject>>>;

/// A message.
#[derive(Debug)]
pub struct Delivery {
    /// Its number in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its place in a part; nothing if no producer has sent it.
    pub place: Option<Place>,
    /// Its content.
    pub payload: Bytes,
}

/// A reader of one shard.
pub struct Shard {
    connection: Arc<Connection>,
    link: Link,
    pull: Pull,
    /// Deliveries so far.
    deliveries: u64,
    /// Highest number of a message so far.
    highest: u64,
    unacknowledged: Unacknowledged,
    /// The subjects of the shard.
    subjects: String,
    /// The newest message in it, if nothing has come since it was looked for.
    newest: Option<u64>,
    keeper: JoinHandle<()>,
}

impl Shard {
    /// Begins to read a shard, with so much memory for messages that have come, or for one message
    /// if that is more.
    ///
    /// # Errors
    /// The server refuses it, is away, or it was stopped.
    pub fn open(
        connection: &Arc<Connection>,
        stream: &Stream,
        shard: u32,
        memory: usize,
    ) -> Result<Self, NatsError> {
        let link = connection.link();
        let consumer = format!("shard-{shard}");
        let subjects = subjects(&stream.name, shard);
        connection.wait(link.create_consumer(&consumer, &subjects))?;
        let pull = Pull::begin(connection, &consumer, memory)?;
        let unacknowledged = Unacknowledged::default();
        let keeper = connection.spawn(keep(link.clone(), Arc::clone(&unacknowledged)));
        Ok(Self {
            connection: Arc::clone(connection),
            link,
            pull,
            deliveries: 0,
            highest: 0,
            unacknowledged,
            subjects,
            newest: None,
            keeper,
        })
    }

    /// The next message; nothing if none came within `wait`. It is under way until it is
    /// acknowledged.
    ///
    /// # Errors
    /// The shard has to be opened again.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Delivery>, NatsError> {
        let deadline = Instant::now().checked_add(wait);
        loop {
            let now = Instant::now();
            let left = deadline.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
            let Some(message) = self.pull.next(&self.connection, left)? else {
                return Ok(None);
            };
            if let Some(delivery) = self.on_message(message)? {
                return Ok(Some(delivery));
            }
        }
    }

    fn away(&self, why: &str) -> NatsError {
        self.pull.away(why)
    }

    /// A message has come; nothing if it came before.
    fn on_message(&mut self, message: async_nats::Message) -> Result<Option<Delivery>, NatsError> {
        let message = jetstream::Message {
            message,
            context: self.link.jetstream.clone(),
        };
        let (sequence, delivery) = match message.info() {
            Ok(info) => (info.stream_sequence, info.consumer_sequence),
            Err(error) => return Err(self.away(&error.to_string())),
        };
        let async_nats::Message {
            subject,
            reply: Some(reply),
            payload,
            headers,
            ..
        } = message.message
        else {
            return Err(self.away("a message that cannot be acknowledged"));
        };
        self.newest = None;
        self.deliveries = self.deliveries.saturating_add(1);
        if delivery != self.deliveries {
            return Err(self.away("messages were lost on the way"));
        }
        if sequence <= self.highest {
            // If it is not under way, it was acknowledged, and the server has not heard of it.
            if let Some(known) = self.lock().get_mut(&sequence) {
                *known = reply;
                return Ok(None);
            }
            self.tell(reply, "+ACK");
            return Ok(None);
        }
        self.highest = sequence;
        self.lock().insert(sequence, reply);
        let place = headers
            .as_ref()
            .and_then(|headers| headers.get(CHUNK))
            .and_then(|value| Place::parse(value.as_str()));
        let subject = subject.to_string();
        // A complete message has no upload, a piece has one.
        let is_known = upload_of(&subject)
            .is_some_and(|upload| upload.is_none() == (place == Some(Place::Whole)));
        Ok(Some(Delivery {
            sequence,
            place: place.filter(|_| is_known),
            subject,
            payload,
        }))
    }

    /// Acknowledges messages: what they carry is durable.
    pub fn acknowledge(&self, sequences: impl IntoIterator<Item = u64>) {
        self.settle(sequences, "+ACK");
    }

    /// Acknowledges messages that will never be stored.
    pub fn refuse(&self, sequences: impl IntoIterator<Item = u64>) {
        self.settle(sequences, "+TERM");
    }

    fn settle(&self, sequences: impl IntoIterator<Item = u64>, how: &'static str) {
        for sequence in sequences {
            let reply = self.lock().remove(&sequence);
            if let Some(reply) = reply {
                self.tell(reply, how);
            }
        }
    }

    /// Sends an acknowledgement. One that is lost is sent again when the message comes again.
    fn tell(&self, reply: Subject, how: &'static str) {
        let told = self
            .link
            .client
            .publish(reply, Bytes::from_static(how.as_bytes()));
        if let Err(error) = self.connection.wait(told) {
            tracing::debug!("acknowledge: {error}");
        }
    }

    /// Whether an upload that does not go on can be removed, see the crate's header. `first` is its
    /// first message, if it has come; `last` the last one that has come.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn claim(&self, subject: &str, first: Option<u64>, last: u64) -> Result<bool, NatsError> {
        self.connection.wait(async {
            if let Some(first) = first
                && self.link.delete(first).await?
            {
                return Ok(true);
            }
            let newest = self.link.last_of(subject).await?;
            Ok(newest.is_none_or(|newest| newest <= last))
        })
    }

    /// Makes sure that nothing is in the shard that does not come: to be called when nothing has
    /// come for a while, and again after another while. A replica that missed acknowledgements has
    /// messages that were delivered. When it leads, nobody gets them until the shard is opened
    /// anew.
    ///
    /// # Errors
    /// The shard has to be opened again.
    pub fn require_all_came(&mut self) -> Result<(), NatsError> {
        let newest = self.connection.wait(self.link.last_of(&self.subjects))?;
        let newest = newest.filter(|newest| !self.lock().contains_key(newest));
        if newest.is_some() && newest == self.newest {
            return Err(self.away("messages are in the stream and do not come"));
        }
        self.newest = newest;
        Ok(())
    }

    /// The content of a message that is in the stream.
    ///
    /// # Errors
    /// The server does not answer, or the message is not there.
    pub fn content_of(&self, sequence: u64) -> Result<Bytes, NatsError> {
        let found = self.connection.wait(self.link.message(sequence))?;
        found.ok_or_else(|| self.away("a message that is under way is not in the stream"))
    }

    /// Waits until the server has what was sent to it.
    pub fn flush(&self) {
        if let Err(error) = self.connection.wait(self.link.client.flush()) {
            tracing::debug!("flush: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Subject>> {
        lock(&self.unacknowledged)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn lock(unacknowledged: &Unacknowledged) -> MutexGuard<'_, BTreeMap<u64, Subject>> {
    unacknowledged
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Tells the server from time to time what is under way.
async fn keep(link: Link, unacknowledged: Unacknowledged) {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        let under_way: Vec<Subject> = lock(&unacknowledged).values().cloned().collect();
        for reply in under_way {
            // One that is lost counts until the next one.
            drop(
                link.client
                    .publish(reply, Bytes::from_static(b"+WPI"))
                    .await,
            );
        }
    }
}

impl Link {
    /// Creates the durable consumer of a shard anew.
    async fn create_consumer(&self, name: &str, filter: &str) -> Result<(), NatsError> {
        let stream = &self.stream;
        self.delete_consumer(name).await?;
        let ack_wait = u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({
            "stream_name": stream,
            "config": {
                "durable_name": name,
                "filter_subject": filter,
                "deliver_policy": "all",
                "replay_policy": "instant",
                "ack_policy": "explicit",
                "ack_wait": ack_wait,
                "max_ack_pending": MOST_UNDER_WAY,
                "max_deliver": -1,
            },
        });
        let subject = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
        match self.api::<Value>(&subject, &request).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused_by(&error, "read a shard")),
        }
    }

    /// The number of the last message on a subject, or on several by a wildcard.
    async fn last_of(&self, subject: &str) -> Result<Option<u64>, NatsError> {
        let request = format!("STREAM.MSG.GET.{}", self.stream);
        let wanted = json!({ "last_by_subj": subject });
        match self.api::<Value>(&request, &wanted).await? {
            Ok(found) => Ok(found.pointer("/message/seq").and_then(Value::as_u64)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(self.refused_by(&error, "look for a message")),
        }
    }
}
