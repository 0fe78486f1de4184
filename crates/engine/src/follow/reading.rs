//! Reads the event stream of a relay, whatever happens to the connection.
//!
//! Frames wait in a channel that is bounded by their bytes. When it is full, nothing is read from
//! the socket, so that the relay notices. A stream that breaks off is continued after the last
//! frame that was passed on. A relay that does not answer several times, or sends nothing while
//! others go on, gives way to the next one, whose numbers are its own: its position is noted every
//! minute, and a stream that takes over begins at one that is minutes older than the last event
//! that is stored. What comes twice changes nothing.
//!
//! A relay that no longer has all events after a cursor may say so, or begin with a later one. If
//! the first event leaves out numbers, the relay is asked for its oldest one.

use super::shared::{Lost, LostWhy};
use crate::discovery::relay::{current_seq, oldest_seq};
use discover::events::{self, Frame};
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
/// Positions of other relays are noted this often.
const POSITIONS_EVERY: Duration = Duration::from_secs(60);
/// A stream that takes over begins at a position that was noted so long before the last event that
/// is stored.
const MARGIN: Duration = Duration::from_secs(180);
/// So many positions are kept while little is stored: those of a week.
const POSITIONS: usize = 10_080;
/// Other relays go on if one of them had new events within this time.
const GOES_ON: Duration = Duration::from_secs(150);

/// What is read.
pub(super) enum Read {
    /// A frame of the stream, with its share of the memory.
    Frame(bytes::Bytes, OwnedSemaphorePermit),
    /// From here on, frames come from this relay.
    From(String),
    /// Events of the relay are lost.
    Lost(Lost),
}

/// A reader.
pub(super) struct Reader {
    pub(super) http: HttpClient,
    /// The relays, the preferred one first.
    pub(super) relays: Vec<String>,
    /// The positions of relays, the oldest first: there its stream begins.
    pub(super) positions: Mutex<HashMap<String, Positions>>,
    pub(super) memory: Arc<Semaphore>,
    /// How much memory that is.
    pub(super) bytes: u32,
    pub(super) stop: Stop,
}

/// The positions of a relay, the oldest first.
pub(super) type Positions = VecDeque<Position>;

/// A position of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) seq: i64,
    /// When the relay was there; nothing for one that was read or stored before.
    noted: Option<Instant>,
    /// Whether its stream was read up to there, which may be further than what is stored.
    is_read: bool,
}

impl Position {
    /// One up to which everything is stored.
    pub(super) fn stored(seq: i64) -> Self {
        Self {
            seq,
            noted: None,
            is_read: false,
        }
    }
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
                End::Quiet if self.do_others_go_on(relay) => {
                    "it sends nothing, while another relay goes on".to_owned()
                }
                End::Quiet => {
                    failures = 0;
                    is_new = false;
                    continue;
                }
                End::Over => return,
                End::Outdated if at > 0 => "it no longer has all events".to_owned(),
                End::Future if at > 0 => {
                    // Its position is noted anew; the first relay always has one.
                    observe::log!("{relay} has no event as late as {cursor}; it is left");
                    self.lock().remove(relay);
                    (at, failures, is_new) = (0, 0, true);
                    continue;
                }
                End::Outdated | End::Future => {
                    let why = match end {
                        End::Future => LostWhy::Renumbered,
                        _ => LostWhy::Forgotten,
                    };
                    let relay = relay.clone();
                    let lost = Lost { relay, cursor, why };
                    drop(to.send(Read::Lost(lost)).await);
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
                        *cursor = cursor.saturating_add(1);
                    }
                    return End::Broken(error.to_string());
                }
            };
            match events::read(&frame) {
                Frame::Event(seq) => {
                    let leaves_out = is_first && seq > cursor.saturating_add(1);
                    if leaves_out && self.has_lost(relay, *cursor).await {
                        return End::Outdated;
                    }
                    (is_first, *cursor) = (false, (*cursor).max(seq));
                }
                Frame::Outdated => return End::Outdated,
                Frame::Refused(name) if name == "FutureCursor" => return End::Future,
                Frame::Refused(name) => return End::Broken(format!("it refuses: {name}")),
                // What cannot be read has no place in the stream; whoever decodes it decides.
                Frame::Other => {}
            }
            // A frame that is larger than all of the memory for frames has it alone.
            let bytes = u32::try_from(frame.len() + 256).unwrap_or(u32::MAX);
            let bytes = bytes.min(self.bytes);
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
            Ok(oldest) => oldest.is_some_and(|oldest| oldest > cursor.saturating_add(1)),
            Err(error) => {
                tracing::debug!(relay, %error, "its oldest event is unknown");
                false
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Positions>> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the stream of a relay is to begin.
    fn cursor(&self, relay: &str) -> Option<i64> {
        Some(self.lock().get(relay)?.front()?.seq)
    }

    /// The stream of a relay was read up to there.
    fn set_cursor(&self, relay: &str, seq: i64) {
        let read = Position {
            is_read: true,
            ..Position::stored(seq)
        };
        self.lock()
            .insert(relay.to_owned(), Positions::from([read]));
    }

    /// Whether another relay had new events lately.
    fn do_others_go_on(&self, relay: &str) -> bool {
        let positions = self.lock();
        let mut others = positions.iter().filter(|(other, _)| *other != relay);
        others.any(|(_, positions)| {
            let mut latest = positions.iter().rev();
            let (Some(last), Some(before)) = (latest.next(), latest.next()) else {
                return false;
            };
            last.seq > before.seq && before.noted.is_some_and(|at| at.elapsed() < GOES_ON)
        })
    }

    /// Where the relays begin that may take over from this one, when everything is stored up to an
    /// event that happened so long ago. What was read of them may not be stored yet.
    pub(super) fn other_cursors(&self, relay: &str, lag: Duration) -> Vec<(String, i64)> {
        let mut positions = self.lock();
        let others = positions.iter_mut().filter(|(other, _)| *other != relay);
        let first = |(other, positions): (&String, &mut Positions)| {
            drop_older(positions, lag + MARGIN);
            let first = positions.front().filter(|first| !first.is_read)?;
            Some((other.clone(), first.seq))
        };
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
                        let mut positions = self.lock();
                        let positions = positions.entry(relay.clone()).or_default();
                        // An older one is right, too.
                        if positions.len() < POSITIONS {
                            positions.push_back(Position {
                                noted: Some(Instant::now()),
                                ..Position::stored(seq)
                            });
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

/// Drops the positions before the last one that was noted at least so long ago.
fn drop_older(positions: &mut Positions, age: Duration) {
    let is_old = |position: &Position| position.noted.is_some_and(|at| at.elapsed() >= age);
    while positions.get(1).is_some_and(is_old) {
        positions.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::{MARGIN, Position, Positions, drop_older};
    use std::time::{Duration, Instant};

    #[test]
    fn a_stream_takes_over_at_a_position_before_what_is_stored() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let at = |seq, noted| Position {
            noted,
            ..Position::stored(seq)
        };
        let all = || {
            Positions::from([
                at(1, None),
                at(2, ago(3600)),
                at(3, ago(600)),
                at(4, ago(60)),
            ])
        };
        let first = |lag| {
            let mut positions = all();
            drop_older(&mut positions, Duration::from_secs(lag) + MARGIN);
            positions.front().map(|position| position.seq)
        };
        assert_eq!(first(0), Some(3));
        assert_eq!(first(900), Some(2));
        assert_eq!(first(7200), Some(1));
    }
}
