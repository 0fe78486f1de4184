//! One producer's connection: frames to whole parts.
//!
//! A part is encoded when its end has come. Until then its entries are kept, so nothing in the
//! database waits for a producer.

use crate::frames::answers::Answers;
use crate::frames::disconnect::Disconnect;
use crate::frames::encoder::PartEncoder;
use crate::frames::kept::KeptPart;
use crate::frames::peer::Peer;
use crate::frames::store::PartStore;
use atrepo::{Cid, RecordError};
use handoff::frames::{Frame, FrameError, Frames, PartHeader, Step};
use handoff::part::{IncomingPart, PartError};
use handoff::send::COMMITTED;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without a frame for so long, what is pending is stored.
pub(crate) const IDLE: Duration = Duration::from_millis(100);
/// Whole parts wait no longer than this for more to fill a chunk, whatever comes meanwhile.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A part of which fewer bytes come within the time limit for silence counts as silent.
const LEAST_BYTES: u64 = 2048;

/// Reads a connection, of which `read` was read already, until its end.
pub(crate) fn read(store: &PartStore, stream: &UnixStream, read: &[u8], speaks: &dyn Fn()) {
    let answers = stream
        .set_read_timeout(Some(IDLE))
        .and_then(|()| stream.try_clone());
    let outcome = match answers {
        Ok(answers) => {
            let peer = Arc::new(Peer::new(answers));
            let number = store.connect(Arc::<Peer>::clone(&peer));
            let mut reader = FrameReader {
                store,
                encoder: PartEncoder::new(store, number, Arc::<Peer>::clone(&peer)),
                peer,
                owner: owner_of(stream).into(),
                part: None,
            };
            let outcome = reader.read(stream, read, speaks);
            if outcome.is_err() {
                reader.encoder.discard();
            }
            store.disconnect(number);
            outcome
        }
        Err(error) => Err(FrameError::Io(error).into()),
    };
    if let Err(why) = outcome {
        tracing::warn!("a producer's connection ended: {why}");
    }
}

/// A connection that is read.
struct FrameReader<'s> {
    store: &'s PartStore,
    peer: Arc<Peer>,
    /// The producer, for the spool.
    owner: Arc<str>,
    /// The part that is coming in, and its entries so far.
    part: Option<(IncomingPart, KeptPart)>,
    encoder: PartEncoder<'s>,
}

impl FrameReader<'_> {
    fn read(
        &mut self,
        stream: &UnixStream,
        read: &[u8],
        speaks: &dyn Fn(),
    ) -> Result<(), Disconnect> {
        let mut frames = Frames::new(stream, read);
        let mut silence = Silence::new(self.store.0.part_timeout);
        loop {
            self.encoder.go_on()?;
            if self.peer.is_behind() {
                // It has to read its answers before it may send more.
                std::thread::sleep(IDLE / 10);
                continue;
            }
            let step = frames.step(|frame| {
                speaks();
                self.on_frame(frame)
            });
            match step? {
                Step::Read => {}
                Step::Idle => self.encoder.flush()?,
                Step::End => break,
            }
            self.encoder.flush_after(LONGEST_WAIT)?;
            let is_within = self.part.is_some() || frames.is_within();
            if silence.note_bytes(is_within, frames.bytes()) {
                return Err(Disconnect::Part(format!(
                    "almost nothing of a part arrived for {} s; the producer has to send it again",
                    self.store.0.part_timeout.as_secs()
                )));
            }
        }
        if self.part.is_some() {
            return Err(Disconnect::Part("the stream ended in a part".to_owned()));
        }
        self.encoder.flush()?;
        // All answers first, then the end.
        self.wait_until(Peer::is_answered)?;
        self.peer.queue(COMMITTED);
        self.wait_until(Peer::has_read_all)
    }

    /// Waits for the end of a connection whose producer has sent all; being told to stop does not
    /// end that.
    fn wait_until(&self, done: impl Fn(&Peer) -> bool) -> Result<(), Disconnect> {
        let since = Instant::now();
        while !done(&self.peer) {
            self.peer.send();
            if self.peer.is_lost() || self.store.broken().is_some() {
                return Err(Disconnect::Lost);
            }
            let is_fresh = since.elapsed() < Duration::from_secs(1);
            std::thread::sleep(Duration::from_millis(if is_fresh { 1 } else { 50 }));
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Disconnect> {
        match frame {
            Frame::Part(header) => self.begin(header),
            Frame::Entry(key, cid, block) => self.add_entry(key, &cid, &Ok(block)),
            Frame::Unread(key, cid, error) => self.add_entry(key, &cid, &Err(error)),
            Frame::End(entries) => self.end(entries),
            Frame::Status(did, status) => self.encoder.store_status(&did, &status),
        }
    }

    fn begin(&mut self, header: PartHeader) -> Result<(), Disconnect> {
        if self.part.is_some() {
            return Err(Disconnect::Part("a part began in a part".to_owned()));
        }
        let part = IncomingPart::begin(header)?;
        self.peer.expect_answer();
        let kept = KeptPart::new(&self.store.0.spool, &self.owner);
        self.part = Some((part, kept));
        Ok(())
    }

    fn add_entry(
        &mut self,
        key: &[u8],
        cid: &Cid,
        block: &Result<&[u8], RecordError>,
    ) -> Result<(), Disconnect> {
        let Some((part, kept)) = &mut self.part else {
            return Err(Disconnect::Part("an entry outside of a part".to_owned()));
        };
        part.entry(key, cid, block)?;
        kept.add(key, cid, block).map_err(|error| {
            let why = format!("its entries cannot be kept: {error}");
            PartError::new(&part.header().did, why)
        })?;
        let bytes = block.as_ref().map_or(0, |block| block.len() as u64);
        self.store.0.counts.entry(bytes);
        Ok(())
    }

    /// A part is whole: it is encoded, unless the ledger has it.
    fn end(&mut self, entries: u64) -> Result<(), Disconnect> {
        let Some((part, kept)) = self.part.take() else {
            return Err(Disconnect::Part(
                "the end of a part outside of a part".to_owned(),
            ));
        };
        part.end(entries)?;
        self.encoder.add(part, kept.end())
    }
}

/// Who is at the other end: a process, however many connections it has.
fn owner_of(stream: &UnixStream) -> String {
    #[cfg(target_os = "linux")]
    if let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) {
        return format!("the producer with process id {}", peer.pid.as_raw_nonzero());
    }
    let _ = stream;
    "the producers".to_owned()
}

/// How long next to nothing has come.
struct Silence {
    most: Duration,
    since: Instant,
    bytes: u64,
}

impl Silence {
    fn new(most: Duration) -> Self {
        Self {
            most,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Notes that `bytes` have come in all; whether that is too little for too long, which counts
    /// only within a part or a frame.
    fn note_bytes(&mut self, is_within: bool, bytes: u64) -> bool {
        let came = bytes.saturating_sub(self.bytes);
        if is_within && came < LEAST_BYTES {
            return self.since.elapsed() >= self.most;
        }
        (self.since, self.bytes) = (Instant::now(), bytes);
        false
    }
}
