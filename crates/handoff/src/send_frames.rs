//! The producer's end of the framed form: sends parts to one socket, and keeps each until the
//! consumer acknowledges it.

use crate::frames::{Answer, MAGIC};
use crate::send::{COMMITTED, Event, Opened, wait, write_patiently};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A unit that is sent as a whole, and acknowledged.
pub trait FramedParcel {
    /// DID and rev by which it is acknowledged; the rev is empty for the state of an account.
    fn id(&self) -> (&str, &str);

    /// Its size, in bytes: that of its CAR.
    fn bytes(&self) -> u64;

    /// Writes its frames, in pieces of about a megabyte.
    ///
    /// # Errors
    /// What `out` answers; `InvalidData` if the parcel itself cannot be written, which no other try
    /// mends.
    fn write_frames(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Its frames are written, and will not be written again: what only they needed may go.
    fn release(&mut self) {}

    /// The consumer has stored it, or never will.
    fn settle(self, outcome: Result<(), String>);
}

/// Maximum size of responses that wait to be read.
const MAX_ANSWERS: usize = 16 << 20;

/// Sends parts to one socket.
pub struct FramedSender<'s, P> {
    path: PathBuf,
    stream: Option<UnixStream>,
    /// Parts that are not acknowledged; the first `written` of them were sent.
    waiting: VecDeque<P>,
    written: usize,
    said: Vec<u8>,
    losses: u32,
    /// Whether no more parts follow.
    ending: bool,
    on_event: Box<dyn FnMut(Event<'_>) -> bool + Send + 's>,
}

impl<'s, P: FramedParcel> FramedSender<'s, P> {
    /// A sender over a connection whose consumer takes frames.
    pub fn new(
        path: &Path,
        opened: Opened,
        on_event: impl FnMut(Event<'_>) -> bool + Send + 's,
    ) -> Self {
        Self {
            path: path.to_owned(),
            stream: Some(opened.stream),
            waiting: VecDeque::new(),
            written: 0,
            said: Vec::new(),
            losses: 0,
            ending: false,
            on_event: Box::new(on_event),
        }
        .begun()
    }

    /// A connection begins with the magic; a failure shows with the first part.
    fn begun(mut self) -> Self {
        if self.begin().is_err() {
            self.stream = None;
        }
        self
    }

    fn begin(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.as_ref() else {
            return Err(ErrorKind::NotConnected.into());
        };
        write_patiently(&mut stream, MAGIC, &mut |tries, _| tries < 30)
    }

    /// Sends a part, and waits for the consumer as long as needed. The part is settled later.
    ///
    /// # Errors
    /// `Interrupted`: the caller gave up; parts that are not acknowledged may not be stored.
    pub fn send(&mut self, parcel: P) -> io::Result<()> {
        self.waiting.push_back(parcel);
        self.persist(|sender| {
            sender.write_waiting()?;
            sender.read_answers(false)?;
            Ok(())
        })
    }

    /// Reads the responses that have arrived, without waiting.
    ///
    /// # Errors
    /// The caller gave up waiting for a consumer that disconnected.
    pub fn listen(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.persist(|sender| {
            sender.write_waiting()?;
            sender.read_answers(false)
        })
    }

    /// Ends the stream when every part is acknowledged and the consumer has committed everything.
    /// Returns how often a consumer disconnected in the middle.
    ///
    /// # Errors
    /// The caller gave up; parts that were not acknowledged are settled as such.
    pub fn finish(mut self) -> io::Result<u32> {
        self.ending = true;
        let outcome = self.persist(|sender| {
            sender.write_waiting()?;
            sender.read_answers(false)?;
            if let Some(stream) = &sender.stream {
                stream.shutdown(Shutdown::Write)?;
            }
            sender.read_answers(true)
        });
        for parcel in self.waiting.drain(..) {
            parcel.settle(Err("the consumer did not acknowledge it".to_owned()));
        }
        outcome.map(|()| self.losses)
    }

    /// Does `step` until it succeeds or is given up.
    fn persist(&mut self, mut step: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let mut tries = 0u32;
        loop {
            let connected = match &self.stream {
                Some(_) => Ok(()),
                None => self.connect(),
            };
            let Err(error) = connected.and_then(|()| step(self)) else {
                return Ok(());
            };
            if error.kind() == ErrorKind::Interrupted {
                return Err(error);
            }
            if self.stream.take().is_some() {
                self.losses = self.losses.saturating_add(1);
            }
            if self.ending && self.waiting.is_empty() {
                // Everything is acknowledged, so it does not matter what the consumer does now.
                return Ok(());
            }
            self.written = 0;
            tries = tries.saturating_add(1);
            wait(&self.path, &mut *self.on_event, tries, error)?;
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let opened = Opened::connect(&self.path)?;
        if !opened.takes_frames() {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a consumer that does not know frames replaced one that did",
            ));
        }
        self.stream = Some(opened.stream);
        self.said.clear();
        self.begin()?;
        if !(self.on_event)(Event::Back(&self.path, self.waiting.len())) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    /// Writes the parts that are not on their way.
    fn write_waiting(&mut self) -> io::Result<()> {
        while let Some(parcel) = self.waiting.get(self.written) {
            let Some(stream) = self.stream.as_ref() else {
                return Err(ErrorKind::NotConnected.into());
            };
            let (path, on_event, said) = (&self.path, &mut self.on_event, &mut self.said);
            let outcome = parcel.write_frames(&mut |bytes| {
                write_and_listen(stream, bytes, said, &mut |tries, error| {
                    on_event(Event::Away(path, tries, error))
                })
            });
            match outcome {
                Ok(()) => self.written = self.written.saturating_add(1),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    if let Some(parcel) = self.waiting.remove(self.written) {
                        parcel.settle(Err(error.to_string()));
                    }
                    // The consumer has the beginning of a part, so the part starts over.
                    return Err(io::Error::other(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what the consumer said; if `to_the_end`, waits until it has acknowledged all and
    /// closed.
    fn read_answers(&mut self, to_the_end: bool) -> io::Result<()> {
        let mut waited = 0u32;
        loop {
            let Some(mut stream) = self.stream.as_ref() else {
                return Err(ErrorKind::NotConnected.into());
            };
            let mut polled = [PollFd::new(stream, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: i64::from(to_the_end),
                tv_nsec: 0,
            };
            match poll(&mut polled, Some(&patience)) {
                Ok(0) if to_the_end => {
                    waited = waited.saturating_add(1);
                    let slow =
                        io::Error::new(ErrorKind::TimedOut, "it has not committed everything yet");
                    if !(self.on_event)(Event::Away(&self.path, waited, slow)) {
                        return Err(ErrorKind::Interrupted.into());
                    }
                    continue;
                }
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0)
                    if to_the_end && self.waiting.is_empty() && self.said.ends_with(COMMITTED) =>
                {
                    return Ok(());
                }
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Ok(count) => self
                    .said
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.take_answers()?;
        }
    }

    fn take_answers(&mut self) -> io::Result<()> {
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            if line == COMMITTED {
                // The last one; it is looked for at the end.
                self.said = line;
                return Ok(());
            }
            let (did, rev, outcome) = match Answer::parse(&line) {
                Some(Answer::Stored { did, rev }) => (did, rev, Ok(())),
                Some(Answer::Refused { did, rev, error }) => (did, rev, Err(error)),
                None => continue,
            };
            let at = self
                .waiting
                .iter()
                .position(|parcel| parcel.id() == (&did, &rev));
            if let Some(at) = at.filter(|at| *at < self.written)
                && let Some(parcel) = self.waiting.remove(at)
            {
                self.written = self.written.saturating_sub(1);
                parcel.settle(outcome);
            }
        }
        Ok(())
    }
}

/// Writes all of `bytes`. Meanwhile what the consumer says is read into `said`: a consumer whose
/// answers are not taken stops reading, too.
fn write_and_listen(
    stream: &UnixStream,
    bytes: &[u8],
    said: &mut Vec<u8>,
    go_on: &mut dyn FnMut(u32, io::Error) -> bool,
) -> io::Result<()> {
    let (mut rest, mut waited) = (bytes, 0u32);
    while !rest.is_empty() {
        match rustix::net::send(stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                waited = 0;
                continue;
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut polled = [PollFd::new(stream, PollFlags::IN | PollFlags::OUT)];
        let patience = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        match poll(&mut polled, Some(&patience)) {
            Ok(0) => {
                waited = waited.saturating_add(1);
                if !go_on(
                    waited,
                    io::Error::new(ErrorKind::TimedOut, "it reads nothing"),
                ) {
                    return Err(ErrorKind::Interrupted.into());
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [polled] = polled;
        if polled.revents().contains(PollFlags::IN) {
            let mut buffer = [0; 4096];
            match (&*stream).read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Ok(count) => said.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if said.len() > MAX_ANSWERS {
                return Err(io::Error::new(
                    ErrorKind::InvalidInput,
                    "the consumer sends without end",
                ));
            }
        }
    }
    Ok(())
}
