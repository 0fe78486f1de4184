//! Follows the event stream of a relay or a PDS for as long as it lasts.
//!
//! A task reads the socket and puts frames into a buffer that is bounded in bytes. While the buffer
//! is full, the task does not read, so that the sender has to wait: nothing piles up here. The task
//! answers pings, and sends some when nothing comes, to find out whether the other side is there.
//!
//! When a stream ends, it ends for good. Whoever follows it knows the last event that was handled,
//! and decides when and where to open the next one: a [`StreamError`] says what happened.

use crate::client::Client;
use crate::error::FetchError;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use observe::printable;
use reqwest::Upgraded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::{Error, Message};

pub use crate::subscribe::MAX_MESSAGE;

/// How a stream is followed.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Time without anything from the other side after which it is asked for a sign of life.
    pub ping: Duration,
    /// Time without anything, an answer to that included, after which it counts as gone.
    pub idle: Duration,
    /// Time without an event after which the stream counts as stalled, if there is such a time. The
    /// stream of a busy relay is never silent; that of a small PDS is for hours.
    pub quiet: Option<Duration>,
    /// Maximum size of the frames that wait to be taken, in bytes.
    pub buffer_bytes: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(45),
            quiet: None,
            buffer_bytes: 64 << 20,
        }
    }
}

/// Why a stream could not be opened, or why it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// It was not opened.
    Open(FetchError),
    /// Nothing came for so long, not even an answer to a ping.
    Idle(Duration),
    /// No event came for so long.
    Quiet(Duration),
    /// A message is larger than [`MAX_MESSAGE`]. It comes again if the stream is opened after the
    /// last event that was received; one event further on, it does not.
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The other side closed it, with this code and reason if it gave any.
    Closed {
        /// The code (RFC 6455, section 7.4).
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// The connection broke, or what came is no WebSocket.
    Broken(String),
}

impl StreamError {
    /// A short name for counts, the same for all errors of a kind.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Open(error) => error.reason(),
            Self::Idle(_) => "no sign of life",
            Self::Quiet(_) => "no events",
            Self::TooLarge { .. } => "message too large",
            Self::Closed { .. } => "closed",
            Self::Broken(_) => "connection broke",
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Idle(time) => write!(
                f,
                "no sign of life for {} s, though a ping was sent",
                time.as_secs()
            ),
            Self::Quiet(time) => write!(f, "no event for {} s", time.as_secs()),
            Self::TooLarge { bytes } => write!(
                f,
                "a message of {bytes} bytes, more than the limit of {MAX_MESSAGE}"
            ),
            Self::Closed { code: None, .. } => write!(f, "the stream was closed"),
            Self::Closed {
                code: Some(code),
                reason,
            } => write!(
                f,
                "the stream was closed with code {code} {}",
                printable(reason)
            ),
            Self::Broken(why) => write!(f, "the connection broke: {}", printable(why)),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<FetchError> for StreamError {
    fn from(error: FetchError) -> Self {
        Self::Open(error)
    }
}

/// The frames of an open stream. The connection ends with the value.
pub struct Frames {
    frames: mpsc::UnboundedReceiver<Bytes>,
    /// Bytes that the buffer has left.
    room: Arc<Semaphore>,
    most: u32,
    skipped: Arc<AtomicU64>,
    reader: JoinHandle<StreamError>,
    /// Why it ended, once that was seen.
    end: Option<StreamError>,
}

impl Client {
    /// Opens the stream of `url`, a relay or a PDS, after event `cursor`, or at the present, and
    /// follows it. The client must be one of [`Client::for_streams`].
    ///
    /// # Errors
    /// The stream is not opened.
    pub async fn follow(
        &self,
        url: &str,
        cursor: Option<i64>,
        limits: StreamLimits,
    ) -> Result<Frames, StreamError> {
        let socket = self.subscribe(url, cursor).await?.stream;
        let (sender, frames) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(
            usize::try_from(limits.buffer_bytes).unwrap_or(usize::MAX),
        ));
        let skipped = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            socket,
            sender,
            room: Arc::clone(&room),
            skipped: Arc::clone(&skipped),
            limits,
        };
        Ok(Frames {
            frames,
            room,
            most: limits.buffer_bytes,
            skipped,
            reader: tokio::spawn(reader.run()),
            end: None,
        })
    }
}

impl Frames {
    /// The next frame, once it is there. Canceling the call loses nothing.
    ///
    /// # Errors
    /// The stream ended. All frames before its end were given.
    pub async fn next(&mut self) -> Result<Bytes, StreamError> {
        if let Some(frame) = self.frames.recv().await {
            self.room.add_permits(cost(&frame, self.most));
            return Ok(frame);
        }
        if self.end.is_none() {
            let end = (&mut self.reader).await;
            self.end = Some(end.unwrap_or_else(|error| StreamError::Broken(error.to_string())));
        }
        Err(self
            .end
            .clone()
            .unwrap_or(StreamError::Broken(String::new())))
    }

    /// Bytes of the frames that wait to be taken.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        usize::try_from(self.most)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.room.available_permits())
    }

    /// Messages that were no frames of an event stream, such as text.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What a frame takes of the buffer: one that is larger than the buffer fills it.
fn cost(frame: &Bytes, most: u32) -> usize {
    let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    usize::try_from(bytes.clamp(1, most.max(1))).unwrap_or(usize::MAX)
}

/// The task that reads the socket.
struct Reader {
    socket: WebSocketStream<Upgraded>,
    sender: mpsc::UnboundedSender<Bytes>,
    room: Arc<Semaphore>,
    skipped: Arc<AtomicU64>,
    limits: StreamLimits,
}

impl Reader {
    /// Reads until the stream ends.
    async fn run(mut self) -> StreamError {
        let (mut last_sign, mut last_event) = (Instant::now(), Instant::now());
        let mut pinged = false;
        loop {
            let wait = self.patience(last_sign, last_event, pinged);
            let message = match tokio::time::timeout_at(wait, self.socket.next()).await {
                Err(_) => {
                    let now = Instant::now();
                    if now.duration_since(last_sign) >= self.limits.idle {
                        return StreamError::Idle(self.limits.idle);
                    }
                    match self.limits.quiet {
                        Some(quiet) if now.duration_since(last_event) >= quiet => {
                            return StreamError::Quiet(quiet);
                        }
                        _ => {}
                    }
                    if !pinged {
                        pinged = true;
                        if let Err(error) = self.ping().await {
                            return error;
                        }
                    }
                    continue;
                }
                Ok(None) => {
                    return StreamError::Closed {
                        code: None,
                        reason: String::new(),
                    };
                }
                Ok(Some(Err(error))) => return end_of(&error),
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Binary(frame) => {
                    if !self.hand_over(frame).await {
                        return StreamError::Broken("nobody reads it".to_owned());
                    }
                    // The time for which nobody took frames is not that of the other side.
                    last_event = Instant::now();
                }
                Message::Close(close) => {
                    return StreamError::Closed {
                        code: close.as_ref().map(|close| close.code.into()),
                        reason: close.map_or_else(String::new, |close| {
                            close.reason.chars().take(200).collect()
                        }),
                    };
                }
                Message::Text(_) => _ = self.skipped.fetch_add(1, Ordering::Relaxed),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            (last_sign, pinged) = (Instant::now(), false);
        }
    }

    /// Until when the next message is waited for.
    fn patience(&self, last_sign: Instant, last_event: Instant, pinged: bool) -> Instant {
        let limit = if pinged {
            self.limits.idle
        } else {
            self.limits.ping.min(self.limits.idle)
        };
        let until = last_sign + limit;
        let quiet = self.limits.quiet.map(|quiet| last_event + quiet);
        quiet.map_or(until, |quiet| quiet.min(until))
    }

    /// Sends a ping; a socket that takes nothing counts as gone.
    async fn ping(&mut self) -> Result<(), StreamError> {
        let ping = self.socket.send(Message::Ping(Bytes::new()));
        match tokio::time::timeout(self.limits.idle, ping).await {
            Err(_) => Err(StreamError::Idle(self.limits.idle)),
            Ok(sent) => sent.map_err(|error| end_of(&error)),
        }
    }

    /// Puts a frame into the buffer once there is room. False if nobody takes frames any more.
    async fn hand_over(&mut self, frame: Bytes) -> bool {
        let most = self.limits.buffer_bytes;
        let cost = u32::try_from(cost(&frame, most)).unwrap_or(most);
        let Ok(permits) = self.room.acquire_many(cost).await else {
            return false;
        };
        permits.forget();
        self.sender.send(frame).is_ok()
    }
}

/// The end that an error of the socket is.
fn end_of(error: &Error) -> StreamError {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => StreamError::Closed {
            code: None,
            reason: String::new(),
        },
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            StreamError::TooLarge { bytes: *size }
        }
        other => StreamError::Broken(other.to_string()),
    }
}
