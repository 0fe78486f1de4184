//! The thread that sends repos to a stream of NATS JetStream. A repo is done when the stream has
//! all of it, on as many servers as the stream has replicas: consumers store it later.

use crate::parcel::{FramedParcel, ToSend};
use crate::tally::Tally;
use nats::publish::Sender;
use nats::{Connection, Limits, NatsError, Settings, Stream};
use process::Stop;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{self, UnboundedSender};

/// Where repos go.
#[derive(Clone)]
pub struct StreamOptions {
    /// The server, and the stream.
    pub settings: Settings,
    /// What a new stream is to be.
    pub limits: Limits,
}

/// What sends to a stream.
pub(crate) struct Sending {
    pub(crate) thread: JoinHandle<Result<(), NatsError>>,
    /// The stream, for people.
    pub(crate) shown: String,
}

/// Connects, opens the stream, and starts the thread.
pub(crate) fn start(
    options: &StreamOptions,
    now: i64,
    tally: &Arc<Tally>,
    stop: &Stop,
) -> Result<(UnboundedSender<ToSend>, Sending), NatsError> {
    let connection = Arc::new(Connection::open(&options.settings, stop)?);
    let stream = Stream::create(&connection, &options.limits)?;
    let shown = connection.shown();
    observe::log!("sending to {shown} ({})", stream.described());
    // Unbounded in number, bounded in bytes: each repo in it holds a share of the buffer.
    let (sender, mut receiver) = mpsc::unbounded_channel::<ToSend>();
    let tally = Arc::clone(tally);
    let thread = std::thread::spawn(move || {
        let sender = Sender::new(connection, stream);
        while let Some(to_send) = receiver.blocking_recv() {
            sender.send(FramedParcel {
                to_send,
                socket: 0,
                sockets: 1,
                now,
                tally: Arc::clone(&tally),
            });
        }
        sender.finish()
    });
    Ok((sender, Sending { thread, shown }))
}

impl Sending {
    /// Waits until the stream has everything that was sent.
    pub(crate) fn wait(self) -> Result<(), NatsError> {
        let broken = |_| Err(NatsError::Away("the thread that sends failed".to_owned()));
        self.thread.join().unwrap_or_else(broken)
    }
}
