//! Reads the event stream of a relay, whatever happens to the connection.
//!
//! Frames wait in a channel that is bounded by their bytes. When it is full, nothing is read from
//! the socket, so that the relay notices. A stream that breaks off is continued after the last
//! frame that was passed on. A relay that does not answer several times gives way to the next one,
//! whose numbers are its own: its position is noted every minute, and a stream that takes over
//! begins at one that is minutes old. What comes twice changes nothing.
//!
//! A relay that no longer has all events after a cursor may say so, or begin with a later one. If
//! the first event leaves out numbers, the relay is asked for its oldest one.

use crate::discovery::relay::{current_seq, oldest_seq};
use discover::events::{self, Frame as Position};
use fetch::Client as HttpClient;
use fetch::stream::{StreamError, StreamLimits};
use process::Stop;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A relay from which nothing comes for so long is asked again.
const SILENCE: Duration = Duration::from_secs(20);
/// Frames that wait in front of the channel, in bytes.
const BUFFER: u32 = 8 << 20;
/// Pauses between attempts.
const PAUSES: &[Duration] = &[
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Attempts in a row that may fail before another relay is taken.
const ATTEMPTS: usize = 3;
/// Positions of other relays are noted this often, and so many of them are kept: a stream that
/// takes over begins at the oldest.
const POSITIONS_EVERY: Duration = Duration::from_secs(60);
const POSITIONS: usize = 4;

/// What is read.
pub(super) enum Read {
    /// A frame of the stream, with its share of the memory.
    Frame(bytes::Bytes, OwnedSemaphorePermit),
    /// From here on, frames come from this relay.
    From(String),
    /// The relay no longer has all events after this cursor.
    Outdated(String, i64),
    /// The relay knows no event as late as this cursor.
    Future(String, i64),
}

/// A reader.
pub(super) struct Reader {
    pub(super) http: HttpClient,
    /// The relays, the preferred one first.
    pub(super) relays: Vec<String>,
    /// The cursors of relays.
    pub(super) cursors: Mutex<HashMap<String, VecDeque<i64>>>,
    pub(super) memory: Arc<Semaphore>,
    pub(super) stop: Stop,
}

/// Why a stream ended.
enum End {
    /// It is to be continued.
    Broken(String),
    /// Nothing came for a while: perhaps nothing happens.
    Quiet,
    Outdated,
    Future,
    /// Nobody listens any more.
    Over,
}

impl Reader {
    /// Reads until it is stopped.
    pub(super) async fn run(self: Arc<Self>, to: Sender<Read>) {
        let positions = tokio::spawn(Arc::clone(&self).note_positions());
        let reading = self.read_all(&to);
        tokio::select! {
            () = reading => {}
            () = self.stop.wait() => {}
        }
        positions.abort();
    }

    async fn read_all(&self, to: &Sender<Read>) {
        let (mut at, mut failures) = (0, 0usize);
        let mut is_new = true;
        loop {
            let Some(relay) = self.relays.get(at) else {
                return;
            };
            if is_new && to.send(Read::From(relay.clone())).await.is_err() {
                return;
            }
            let Some(mut cursor) = self.cursor(relay) else {
                return;
            };
            let began = Instant::now();
            let before = cursor;
            let end = self.read(relay, &mut cursor, to).await;
            self.set_cursor(relay, cursor);
            if cursor > before {
                failures = 0;
            }
            let why = match end {
                End::Broken(why) => why,
                End::Quiet => {
                    failures = 0;
                    is_new = false;
                    continue;
                }
                End::Over => return,
                End::Outdated if at > 0 => "it no longer has all events".to_owned(),
                End::Outdated => {
                    drop(to.send(Read::Outdated(relay.clone(), cursor)).await);
                    return;
                }
                End::Future => {
                    drop(to.send(Read::Future(relay.clone(), cursor)).await);
                    return;
                }
            };
            is_new = false;
            if began.elapsed() > SILENCE * 3 {
                failures = 0;
            }
            let pause = PAUSES[failures.min(PAUSES.len() - 1)];
            failures += 1;
            tracing::debug!(relay, why, failures, "the stream broke off");
            if failures > 1 {
                observe::log!("{relay}: {why}; asking again in {} s", pause.as_secs_f64());
            }
            if failures >= ATTEMPTS && self.relays.len() > 1 {
                let next = (at + 1) % self.relays.len();
                if let Some(other) = self.relays.get(next)
                    && self.cursor(other).is_some()
                {
                    observe::log!("{relay} does not answer; following {other}");
                    (at, failures, is_new) = (next, 0, true);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a stream until it ends.
    async fn read(&self, relay: &str, cursor: &mut i64, to: &Sender<Read>) -> End {
        let limits = StreamLimits {
            quiet: Some(SILENCE),
            buffer_bytes: BUFFER,
            ..StreamLimits::default()
        };
        let mut stream = match self.http.follow(relay, Some(*cursor), limits).await {
            Ok(stream) => stream,
            Err(error) => return End::Broken(error.to_string()),
        };
        let mut is_first = true;
        loop {
            let frame = match stream.next().await {
                Ok(frame) => frame,
                Err(StreamError::Quiet(_)) => return End::Quiet,
                Err(error) => {
                    if matches!(error, StreamError::TooLarge { .. }) {
                        // Nobody can say whose it is; the next commit of its repo shows it.
                        *cursor += 1;
                    }
                    return End::Broken(error.to_string());
                }
            };
            match events::read(&frame) {
                Position::Event(seq) => {
                    let leaves_out = is_first && seq > *cursor + 1;
                    if leaves_out && self.has_lost(relay, *cursor).await {
                        return End::Outdated;
                    }
                    (is_first, *cursor) = (false, (*cursor).max(seq));
                }
                Position::Outdated => return End::Outdated,
                Position::Refused(name) if name == "FutureCursor" => return End::Future,
                Position::Refused(name) => return End::Broken(format!("it refuses: {name}")),
                // What cannot be read has no place in the stream; whoever decodes it decides.
                Position::Other => {}
            }
            let bytes = u32::try_from(frame.len() + 256).unwrap_or(u32::MAX);
            let Ok(share) = Arc::clone(&self.memory).acquire_many_owned(bytes).await else {
                return End::Over;
            };
            if to.send(Read::Frame(frame, share)).await.is_err() {
                return End::Over;
            }
        }
    }

    /// Whether a relay has no event any more that is as old as this cursor.
    async fn has_lost(&self, relay: &str, cursor: i64) -> bool {
        match oldest_seq(&self.http, relay, &self.stop).await {
            Ok(oldest) => oldest.is_some_and(|oldest| oldest > cursor + 1),
            Err(error) => {
                tracing::debug!(relay, %error, "its oldest event is unknown");
                false
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, VecDeque<i64>>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the stream of a relay is to begin.
    fn cursor(&self, relay: &str) -> Option<i64> {
        self.lock().get(relay)?.front().copied()
    }

    fn set_cursor(&self, relay: &str, cursor: i64) {
        self.lock()
            .insert(relay.to_owned(), VecDeque::from([cursor]));
    }

    /// Where the relays begin that may take over from this one.
    pub(super) fn other_cursors(&self, relay: &str) -> Vec<(String, i64)> {
        let cursors = self.lock();
        let others = cursors.iter().filter(|(other, _)| *other != relay);
        let first =
            |(other, kept): (&String, &VecDeque<i64>)| Some((other.clone(), *kept.front()?));
        others.filter_map(first).collect()
    }

    /// Notes now and then where the relays are that may take over.
    async fn note_positions(self: Arc<Self>) {
        let mut is_first = true;
        loop {
            for relay in self.relays.iter().skip(1) {
                let known = self.cursor(relay);
                if is_first && known.is_some() {
                    continue;
                }
                match current_seq(&self.http, relay, &self.stop).await {
                    Ok(seq) => {
                        let mut cursors = self.lock();
                        let kept = cursors.entry(relay.clone()).or_default();
                        kept.push_back(seq);
                        if kept.len() > POSITIONS {
                            kept.pop_front();
                        }
                    }
                    Err(error) => tracing::debug!(relay, %error, "its position is unknown"),
                }
            }
            is_first = false;
            tokio::time::sleep(POSITIONS_EVERY).await;
        }
    }
}
