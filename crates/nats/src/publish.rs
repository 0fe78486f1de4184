//! The producer's end: parts of repos to messages. A part is settled when the stream has all of it.
//!
//! Parts that fit into one message go out side by side, within a window in bytes. An upload goes
//! out message by message, since each one names the one before it. The order of the parts among
//! each other does not matter: the ledger knows the newest rev of a repo.

use crate::connect::{Connection, Link, pause_after, unanswered_request};
use crate::error::NatsError;
use crate::message::{CHUNK, Place, shard_of, subject};
use crate::room::Room;
use crate::stream::Stream;
use async_nats::jetstream::{ErrorCode, response::Response};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use handoff::frames::MAGIC;
use handoff::send_frames::FramedParcel;
use serde_json::Value;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of messages that are on their way to the server.
const WINDOW: u32 = 8 << 20;
/// Bytes by which a message counts in the window at least.
const LEAST: u32 = 1 << 10;

/// A message to publish.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Sends parts to a stream.
pub struct Sender {
    connection: Arc<Connection>,
    stream: Stream,
    window: Arc<Semaphore>,
    room: Room,
    /// Why no message will be taken any more.
    refused: Arc<Mutex<Option<NatsError>>>,
}

impl Sender {
    /// A sender to this stream.
    #[must_use]
    pub fn new(connection: Arc<Connection>, stream: Stream) -> Self {
        Self {
            connection,
            room: Room::new(stream.limit),
            stream,
            window: Arc::new(Semaphore::new(WINDOW as usize)),
            refused: Arc::default(),
        }
    }

    /// Sends a part, and waits for the server as long as needed. The part is settled here or later.
    pub fn send<P: FramedParcel + Send + 'static>(&self, mut parcel: P) {
        if let Some(why) = self.refused() {
            return parcel.settle(Err(why.to_string()));
        }
        let most = self.stream.limit;
        if parcel.bytes() > most {
            // This part alone: others fit.
            return parcel.settle(Err(format!(
                "it is larger than the stream, which takes {most} bytes; make --nats-max-bytes \
                 several times the size of the largest repos"
            )));
        }
        loop {
            let mut writer = Writer::new(self, parcel.id().0);
            let written = parcel.write_frames(&mut |bytes| writer.add(bytes));
            let ended = match (writer.failure.take(), written) {
                (Some(why), _) => Err(why),
                // Only a broken disk can have changed it since it was checked.
                (None, Err(error)) => return parcel.settle(Err(error.to_string())),
                (None, Ok(())) => writer.end(),
            };
            match ended {
                Ok(None) => return parcel.settle(Ok(())),
                Ok(Some(whole)) => {
                    parcel.release();
                    return self.publish_later(whole, parcel);
                }
                Err(NatsError::Dropped) => {
                    tracing::info!("an upload was broken off; its part is sent again");
                }
                Err(why) => {
                    let text = why.to_string();
                    self.note(why);
                    return parcel.settle(Err(text));
                }
            }
        }
    }

    /// Waits until every part is settled; why the stream takes nothing any more, if that is so.
    ///
    /// # Errors
    /// The server refuses messages.
    pub fn finish(self) -> Result<(), NatsError> {
        let all = self.window.acquire_many(WINDOW);
        drop(self.connection.wait(all));
        self.refused().map_or(Ok(()), Err)
    }

    fn refused(&self) -> Option<NatsError> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps why nothing can be sent any more, if `why` is such a reason, and ends the work.
    fn note(&self, why: NatsError) {
        note(&self.refused, &self.connection.link(), why);
    }

    /// Waits until a part may begin.
    fn wait_for_room(&self) -> Result<(), NatsError> {
        let link = self.connection.link();
        self.connection.wait(self.room.wait(&link))
    }

    /// Publishes a message of its own, within the window.
    fn publish_later<P: FramedParcel + Send + 'static>(&self, message: Outgoing, parcel: P) {
        self.room.take(message.payload.len());
        let size = u32::try_from(message.payload.len()).unwrap_or(WINDOW);
        let wanted = Arc::clone(&self.window).acquire_many_owned(size.clamp(LEAST, WINDOW));
        let share: Option<OwnedSemaphorePermit> = self.connection.wait(wanted).ok();
        let (link, refused) = (self.connection.link(), Arc::clone(&self.refused));
        self.connection.spawn(async move {
            match link.publish_for_sure(&message).await {
                Ok(_) => parcel.settle(Ok(())),
                Err(why) => {
                    parcel.settle(Err(why.to_string()));
                    note(&refused, &link, why);
                }
            }
            drop(share);
        });
    }
}

/// Keeps the first reason for which the server takes no message, and stops the process's work.
fn note(refused: &Mutex<Option<NatsError>>, link: &Link, why: NatsError) {
    if matches!(why, NatsError::Refused(..)) {
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get_or_insert(why);
        link.stop.set();
    }
}

/// An upload that has begun.
struct Upload {
    name: String,
    /// Sequence of its first message, and of its last one so far.
    first: u64,
    last: u64,
    /// Pieces so far.
    pieces: u32,
    /// Losses of the connection when it began.
    losses: u64,
}

/// Cuts the frames of one part into messages.
struct Writer<'s> {
    sender: &'s Sender,
    shard: u32,
    buffer: Vec<u8>,
    upload: Option<Upload>,
    failure: Option<NatsError>,
}

impl<'s> Writer<'s> {
    fn new(sender: &'s Sender, did: &str) -> Self {
        Self {
            sender,
            shard: shard_of(did, sender.stream.shards),
            buffer: MAGIC.to_vec(),
            upload: None,
            failure: None,
        }
    }

    /// Takes frames, and publishes the pieces that are full.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        // The last piece is never empty.
        while self.buffer.len() > self.sender.stream.chunk {
            let rest = self.buffer.split_off(self.sender.stream.chunk);
            let piece = std::mem::replace(&mut self.buffer, rest);
            if let Err(why) = self.publish_piece(piece, false) {
                self.failure = Some(why);
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    }

    /// Ends the part: the message that is all of it, if it is small; else nothing is left to do.
    fn end(&mut self) -> Result<Option<Outgoing>, NatsError> {
        let piece = std::mem::take(&mut self.buffer);
        if self.upload.is_none() {
            self.sender.wait_for_room()?;
            let name = new_name()?;
            let mut headers = HeaderMap::new();
            headers.insert(CHUNK, Place::Whole.text());
            headers.insert(async_nats::header::NATS_MESSAGE_ID, name);
            return Ok(Some(Outgoing {
                subject: subject(&self.sender.stream.name, self.shard, None),
                headers,
                payload: piece.into(),
            }));
        }
        self.publish_piece(piece, true)?;
        self.confirm()?;
        Ok(None)
    }

    fn publish_piece(&mut self, piece: Vec<u8>, is_last: bool) -> Result<(), NatsError> {
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.open()?,
        };
        upload.pieces = upload.pieces.saturating_add(1);
        let place = match is_last {
            true => Place::Last(upload.pieces),
            false => Place::More(upload.pieces),
        };
        upload.last = self.publish(&upload.name, place, piece, Some(upload.last))?;
        self.upload = Some(upload);
        Ok(())
    }

    fn open(&self) -> Result<Upload, NatsError> {
        self.sender.wait_for_room()?;
        let name = new_name()?;
        let losses = self.sender.connection.link().losses();
        let first = self.publish(&name, Place::Open, Vec::new(), None)?;
        Ok(Upload {
            name,
            first,
            last: first,
            pieces: 0,
            losses,
        })
    }

    /// Publishes a message of an upload; its sequence.
    fn publish(
        &self,
        name: &str,
        place: Place,
        piece: Vec<u8>,
        after: Option<u64>,
    ) -> Result<u64, NatsError> {
        let mut headers = HeaderMap::new();
        headers.insert(CHUNK, place.text());
        let id = format!("{name} {}", place.text());
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        if let Some(after) = after {
            let before = async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
            headers.insert(before, HeaderValue::from(after));
        }
        self.sender.room.take(piece.len());
        let message = Outgoing {
            subject: subject(&self.sender.stream.name, self.shard, Some(name)),
            headers,
            payload: piece.into(),
        };
        let link = self.sender.connection.link();
        self.sender.connection.wait(link.publish_for_sure(&message))
    }

    /// Makes sure that no consumer has dropped the upload before its end, and that its server was
    /// not killed meanwhile: see the crate's header.
    fn confirm(&self) -> Result<(), NatsError> {
        let Some(upload) = &self.upload else {
            return Ok(());
        };
        let link = self.sender.connection.link();
        let deleted = self
            .sender
            .connection
            .persist(async || link.delete(upload.first).await)?;
        if deleted && link.losses() == upload.losses {
            Ok(())
        } else {
            Err(NatsError::Dropped)
        }
    }
}

/// A name that no other upload or message has.
fn new_name() -> Result<String, NatsError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| NatsError::Settings(format!("no random numbers: {error}")))?;
    Ok(HEXLOWER.encode(&bytes))
}

impl Link {
    /// Publishes until the stream has the message; its sequence.
    pub(crate) async fn publish_for_sure(&self, message: &Outgoing) -> Result<u64, NatsError> {
        let (mut tries, mut was_full) = (0u32, false);
        loop {
            let error = match self.publish(message).await {
                Err(error) if error.may_pass() => error,
                done => {
                    if done.is_ok() && was_full {
                        self.on_taken();
                    }
                    return done;
                }
            };
            tries = tries.saturating_add(1);
            match &error {
                NatsError::Full(why) => {
                    was_full = true;
                    self.on_full(why);
                }
                error if tries.is_power_of_two() => tracing::warn!("waiting: {error}"),
                _ => {}
            }
            pause_after(tries, &self.stop).await?;
        }
    }

    /// Publishes once.
    async fn publish(&self, message: &Outgoing) -> Result<u64, NatsError> {
        let Outgoing {
            subject,
            headers,
            payload,
        } = message.clone();
        let asked = self.client.request_with_headers(subject, headers, payload);
        let answer = match self.while_connected(asked).await {
            Ok(answer) => answer.map_err(|error| unanswered_request(&error)),
            Err(why) => Err(why),
        };
        let answer = answer.map_err(|why| self.unanswered(why))?;
        let answer: Response<Value> = serde_json::from_slice(&answer.payload)
            .map_err(|error| NatsError::Away(format!("{}: {error}", self.shown)))?;
        let error = match answer {
            Response::Ok(ack) => {
                // A cluster says 0 for a message that came before and that it may still lose.
                let sequence = ack.get("seq").and_then(Value::as_u64);
                let sequence = sequence.filter(|sequence| *sequence > 0);
                let none =
                    || NatsError::Away(format!("{}: an answer without a number", self.shown));
                return sequence.ok_or_else(none);
            }
            Response::Err { error } => error,
        };
        let full = || {
            NatsError::Full(format!(
                "stream {} on {} is full ({error})",
                self.stream, self.shown
            ))
        };
        Err(match error.error_code() {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE => NatsError::Dropped,
            // What later servers say in that case.
            ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => NatsError::Away(format!(
                "{}: the same message is still on its way",
                self.shown
            )),
            ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => full(),
            _ => self.refused_by(&error, "store a message"),
        })
    }

    /// Deletes a message; whether it was there.
    pub(crate) async fn delete(&self, sequence: u64) -> Result<bool, NatsError> {
        let subject = format!("STREAM.MSG.DELETE.{}", self.stream);
        let wanted = serde_json::json!({ "seq": sequence, "no_erase": true });
        match self.api::<Value>(&subject, &wanted).await? {
            Ok(_) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            // A server may answer with a general error, so the message is looked for.
            Err(_) if self.message(sequence).await?.is_none() => Ok(false),
            Err(error) => Err(self.refused_by(&error, "delete a message")),
        }
    }

    /// The content of the message with this number.
    pub(crate) async fn message(&self, sequence: u64) -> Result<Option<Bytes>, NatsError> {
        let subject = format!("STREAM.MSG.GET.{}", self.stream);
        let wanted = serde_json::json!({ "seq": sequence });
        let found = match self.api::<Value>(&subject, &wanted).await? {
            Ok(found) => found,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(self.refused_by(&error, "look for a message")),
        };
        let content = found.pointer("/message/data").and_then(Value::as_str);
        let content = BASE64.decode(content.unwrap_or_default().as_bytes());
        let content = content.map_err(|error| NatsError::Away(error.to_string()))?;
        Ok(Some(content.into()))
    }
}

/// Whether a message is not there.
pub(crate) fn is_not_found(error: &async_nats::jetstream::Error) -> bool {
    matches!(
        error.error_code(),
        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND
    )
}
