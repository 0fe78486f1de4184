//! The producer's end: sends whole repos to one socket, even if the consumer is slow or
//! disconnects.
//!
//! The line form has no acknowledgements. A repo counts as handed over when its last byte has left
//! the socket's send buffer. After a reconnect, the repos that may still have been in the buffer,
//! and the one that was being written, are sent again from the start. The end of the stream is
//! acknowledged: a consumer that has committed everything sends [`COMMITTED`] and closes its side.
//! A consumer that closes without it may have died, or may not know better: that is reported.

use crate::account::GREETING;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The consumer's last line, once everything is committed.
pub const COMMITTED: &[u8] = b"{\"type\":\"committed\"}\n";

/// Time that a write or read may block before the caller is asked whether to continue.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time to wait for the first consumer to announce that it knows lines about accounts.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// Memory up to which parcels that may still be in the send buffer are kept; older ones are
/// dropped.
const KEPT_BYTES: usize = 16 << 20;

/// A unit that is sent as a whole.
pub trait Parcel {
    /// Writes its lines in pieces of at most about a megabyte; stops at the first error of `out`.
    /// Lines about accounts only if the consumer takes them.
    ///
    /// # Errors
    /// What `out` answers; `InvalidData` if the parcel itself cannot be written, which no other try
    /// mends.
    fn write_lines(
        &self,
        accounts: bool,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()>;

    /// Bytes of memory that it holds.
    fn weight(&self) -> usize;
}

/// What happens while parcels are sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// The consumer is not connected, or reads nothing; the number of attempts.
    Away(&'a Path, u32, io::Error),
    /// The consumer is connected again; the number of parcels that are sent again.
    Back(&'a Path, usize),
}

/// How sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How often a consumer disconnected in the middle.
    pub losses: u32,
    /// Whether the consumer confirmed that everything is committed.
    pub acknowledged: bool,
    /// Whether a consumer announced too late that it knows lines about accounts, and so got none.
    pub greeted_late: bool,
}

/// A connection to a consumer, and its first line.
pub struct Opened {
    pub(crate) stream: UnixStream,
    said: Vec<u8>,
    greets: bool,
}

impl Opened {
    /// Connects, once, and waits a little for what the consumer says.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = Vec::new();
        let greets = greets(&stream, &mut said)?;
        Ok(Self {
            stream,
            said,
            greets,
        })
    }

    /// Connects, however long it takes.
    ///
    /// # Errors
    /// `Interrupted`: the caller gave up.
    pub fn wait_for(path: &Path, on_event: &mut dyn FnMut(Event<'_>) -> bool) -> io::Result<Self> {
        let mut tries = 0u32;
        loop {
            let error = match Self::connect(path) {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            tries = tries.saturating_add(1);
            wait(path, on_event, tries, error)?;
        }
    }

    /// Whether the consumer accepts frames, because it is skyfill's own.
    #[must_use]
    pub fn takes_frames(&self) -> bool {
        self.greets
    }
}

/// Asks whether to continue, and waits a little, longer each time.
pub(crate) fn wait(
    path: &Path,
    on_event: &mut dyn FnMut(Event<'_>) -> bool,
    tries: u32,
    error: io::Error,
) -> io::Result<()> {
    if !on_event(Event::Away(path, tries, error)) {
        return Err(ErrorKind::Interrupted.into());
    }
    std::thread::sleep(Duration::from_millis(
        50u64.checked_shl(tries.min(6)).unwrap_or(3200),
    ));
    Ok(())
}

/// Sends parcels to one socket.
pub struct Sender<'s, P> {
    path: PathBuf,
    stream: Option<UnixStream>,
    /// Parcels that may not have left the send buffer, with the offset at which each ended.
    recent: VecDeque<(u64, P)>,
    written: u64,
    buffer_bytes: u64,
    /// Whether the consumer knows lines about accounts; `None` before its first connection.
    accounts: Option<bool>,
    /// Unread bytes from the consumer.
    said: Vec<u8>,
    losses: u32,
    /// Called with each event; returns whether to continue.
    on_event: Box<dyn FnMut(Event<'_>) -> bool + Send + 's>,
}

impl<'s, P: Parcel> Sender<'s, P> {
    /// A sender to the socket at `path`.
    pub fn new(path: &Path, on_event: impl FnMut(Event<'_>) -> bool + Send + 's) -> Self {
        Self {
            path: path.to_owned(),
            stream: None,
            recent: VecDeque::new(),
            written: 0,
            buffer_bytes: 0,
            accounts: None,
            said: Vec::new(),
            losses: 0,
            on_event: Box::new(on_event),
        }
    }

    /// A sender over a connection that is open already.
    pub fn over(
        path: &Path,
        opened: Opened,
        on_event: impl FnMut(Event<'_>) -> bool + Send + 's,
    ) -> Self {
        let mut sender = Self::new(path, on_event);
        sender.adopt(opened);
        sender
    }

    /// Sends `parcel`, and waits for the consumer as long as needed.
    ///
    /// # Errors
    /// `Interrupted`: the caller gave up. `InvalidData`: this parcel cannot be sent, others can.
    pub fn send(&mut self, parcel: P) -> io::Result<()> {
        let before = self.written;
        self.recent.push_back((u64::MAX, parcel));
        let outcome = self.persist(Self::connect_and_write);
        if self.written == before || outcome.is_err() {
            self.recent.pop_back();
        }
        let safe = self.written.saturating_sub(self.buffer_bytes);
        let mut weight: usize = self
            .recent
            .iter()
            .map(|(_, parcel)| parcel.weight())
            .fold(0, usize::saturating_add);
        while self
            .recent
            .front()
            .is_some_and(|(end, _)| *end < safe || weight > KEPT_BYTES)
        {
            weight = weight.saturating_sub(
                self.recent
                    .pop_front()
                    .map_or(0, |(_, parcel)| parcel.weight()),
            );
        }
        outcome
    }

    /// Ends the stream and waits until the consumer has committed everything.
    ///
    /// # Errors
    /// The caller gave up.
    pub fn finish(mut self) -> io::Result<Finished> {
        if self.written == 0 {
            return Ok(Finished {
                losses: self.losses,
                acknowledged: true,
                greeted_late: false,
            });
        }
        let mut acknowledged = false;
        self.persist(|sender| {
            sender.connect_and_write()?;
            acknowledged = sender.end_of_stream()?;
            Ok(())
        })?;
        Ok(Finished {
            losses: self.losses,
            acknowledged,
            greeted_late: self.accounts == Some(false) && self.said.starts_with(GREETING),
        })
    }

    /// Repeats `step` until it succeeds, the caller gives up, or it cannot succeed.
    fn persist(&mut self, mut step: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let mut tries = 0u32;
        loop {
            let Err(error) = step(self) else {
                return Ok(());
            };
            if matches!(
                error.kind(),
                ErrorKind::Interrupted | ErrorKind::InvalidData
            ) {
                return Err(error);
            }
            if self.stream.take().is_some() {
                self.losses = self.losses.saturating_add(1);
            }
            for (end, _) in &mut self.recent {
                *end = u64::MAX;
            }
            tries = tries.saturating_add(1);
            wait(&self.path, &mut *self.on_event, tries, error)?;
        }
    }

    /// Writes every recent parcel that has no end yet.
    fn connect_and_write(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            self.connect()?;
        }
        let Some(mut stream) = self.stream.as_ref() else {
            return Err(ErrorKind::NotConnected.into());
        };
        let (path, on_event) = (&self.path, &mut self.on_event);
        let (mut written, accounts) = (self.written, self.accounts == Some(true));
        let outcome = self
            .recent
            .iter_mut()
            .filter(|(end, _)| *end == u64::MAX)
            .try_for_each(|(end, parcel)| {
                parcel.write_lines(accounts, &mut |bytes| {
                    write_patiently(&mut stream, bytes, &mut |tries, error| {
                        on_event(Event::Away(path, tries, error))
                    })?;
                    written =
                        written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    Ok(())
                })?;
                *end = written;
                Ok(())
            });
        self.written = written;
        outcome
    }

    fn connect(&mut self) -> io::Result<()> {
        let opened = if self.accounts == Some(false) {
            // A consumer that was silent the first time gets no second wait.
            let stream = UnixStream::connect(&self.path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Opened {
                stream,
                said: Vec::new(),
                greets: false,
            }
        } else {
            Opened::connect(&self.path)?
        };
        self.adopt(opened);
        if self.losses > 0 && !(self.on_event)(Event::Back(&self.path, self.recent.len())) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn adopt(&mut self, opened: Opened) {
        self.said = opened.said;
        self.accounts = Some(opened.greets);
        let size = socket2::SockRef::from(&opened.stream)
            .send_buffer_size()
            .unwrap_or(1 << 20);
        self.buffer_bytes = u64::try_from(size).unwrap_or(u64::MAX);
        self.stream = Some(opened.stream);
    }

    /// Whether the consumer acknowledged before it closed its side.
    fn end_of_stream(&mut self) -> io::Result<bool> {
        let Some(mut stream) = self.stream.as_ref() else {
            return Err(ErrorKind::NotConnected.into());
        };
        stream.shutdown(Shutdown::Write)?;
        let mut waited = 0u32;
        loop {
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(self.said.ends_with(COMMITTED)),
                Ok(count) => {
                    self.said
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    // A consumer that sends without end is cut off.
                    let most = GREETING.len().saturating_add(COMMITTED.len());
                    let over = self.said.len().saturating_sub(most);
                    self.said.drain(..over);
                }
                Err(error) if is_timeout(&error) => {
                    waited = waited.saturating_add(1);
                    let slow =
                        io::Error::new(ErrorKind::TimedOut, "it has not committed everything yet");
                    if !(self.on_event)(Event::Away(&self.path, waited, slow)) {
                        return Err(ErrorKind::Interrupted.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the consumer says soon that it takes lines about accounts. One that says nothing takes
/// records. What it said is added to `said`.
fn greets(mut stream: &UnixStream, said: &mut Vec<u8>) -> io::Result<bool> {
    let deadline = Instant::now().checked_add(GREETING_PATIENCE);
    while said.len() < GREETING.len() {
        let mut buffer = [0; 64];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
            Ok(count) => said.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
            break;
        }
    }
    Ok(said.starts_with(GREETING))
}

/// Writes all of `bytes`; asks `go_on` each time that the consumer takes nothing for a while.
pub(crate) fn write_patiently(
    stream: &mut &UnixStream,
    bytes: &[u8],
    go_on: &mut dyn FnMut(u32, io::Error) -> bool,
) -> io::Result<()> {
    let mut rest = bytes;
    let mut waited = 0u32;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                waited = 0;
            }
            Err(error) if is_timeout(&error) => {
                waited = waited.saturating_add(1);
                if !go_on(
                    waited,
                    io::Error::new(ErrorKind::TimedOut, "it reads nothing"),
                ) {
                    return Err(ErrorKind::Interrupted.into());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    struct Text(String);

    impl Parcel for Text {
        fn write_lines(
            &self,
            _accounts: bool,
            out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        ) -> io::Result<()> {
            out(self.0.as_bytes())
        }

        fn weight(&self) -> usize {
            self.0.len()
        }
    }

    #[test]
    fn what_was_in_flight_is_sent_again_from_its_start_and_the_end_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let consumer = std::thread::spawn(move || {
            // The first consumer reads a little and dies.
            let (mut first, _) = listener.accept().unwrap();
            first.read_exact(&mut [0; 10]).unwrap();
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            let mut all = String::new();
            second.read_to_string(&mut all).unwrap();
            second.write_all(COMMITTED).unwrap();
            all
        });
        let mut sender = Sender::new(&path, |_| true);
        let mut expected = String::new();
        for n in 0..50 {
            let text = format!("{n}:{}\n", "x".repeat(100_000));
            expected.push_str(&text);
            sender.send(Text(text)).unwrap();
        }
        assert_eq!(
            sender.finish().unwrap(),
            Finished {
                losses: 1,
                acknowledged: true,
                greeted_late: false,
            }
        );
        let got = consumer.join().unwrap();
        assert!(
            got.starts_with("0:x"),
            "the parcel that was cut off came again from its start"
        );
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    }

    #[test]
    fn a_consumer_that_closes_without_a_word_has_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let consumer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let mut sender = Sender::new(&path, |_| true);
        sender.send(Text("line\n".to_owned())).unwrap();
        assert_eq!(
            sender.finish().unwrap(),
            Finished {
                losses: 0,
                acknowledged: false,
                greeted_late: false,
            }
        );
        consumer.join().unwrap();
    }
}
