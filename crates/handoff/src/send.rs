//! The producer's end: whole repos to one socket, across a consumer that is slow or away.
//!
//! The line form has no acknowledgements. A repo counts as handed over when its last byte has left the socket's send
//! buffer; after a reconnect the repos that may still have been in it, and the one being written, are sent again
//! from their start. The end of the stream is acknowledged: a consumer closes its side when all is committed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Something that is sent as a whole.
pub trait Parcel {
    /// Writes its lines in pieces of at most about a megabyte; stops at the first error.
    ///
    /// # Errors
    /// What `out` answers.
    fn write_lines(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// What happens on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// The consumer is not there; how often it was tried.
    Away(&'a Path, u32, io::Error),
    /// The consumer is there again; how many parcels are sent again.
    Back(&'a Path, usize),
}

/// Sends parcels to one socket.
pub struct Sender<'s, P> {
    path: PathBuf,
    stream: Option<UnixStream>,
    /// Parcels that may not have left the send buffer, with the offset at which each ended.
    recent: VecDeque<(u64, P)>,
    written: u64,
    buffer_bytes: u64,
    /// How often a consumer went away in the middle.
    pub losses: u32,
    /// Told what happens; answers whether to go on.
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
            losses: 0,
            on_event: Box::new(on_event),
        }
    }

    /// Sends `parcel`, waiting for the consumer as long as it takes.
    ///
    /// # Errors
    /// The wait was given up.
    pub fn send(&mut self, parcel: P) -> io::Result<()> {
        self.recent.push_back((u64::MAX, parcel));
        loop {
            match self.connect_and_write() {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(_) => self.lost(),
            }
        }
        let safe = self.written.saturating_sub(self.buffer_bytes);
        while self.recent.front().is_some_and(|(end, _)| *end < safe) {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Ends the stream and waits until the consumer has committed all of it, which it tells by closing its side.
    ///
    /// # Errors
    /// The wait was given up.
    pub fn finish(mut self) -> io::Result<u32> {
        if self.written == 0 && self.stream.is_none() {
            return Ok(self.losses);
        }
        loop {
            match self.connect_and_write().and_then(|()| self.end_of_stream()) {
                Ok(()) => return Ok(self.losses),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(_) => self.lost(),
            }
        }
    }

    fn lost(&mut self) {
        if self.stream.take().is_some() {
            self.losses = self.losses.saturating_add(1);
        }
        for (end, _) in &mut self.recent {
            *end = u64::MAX;
        }
    }

    /// Writes every recent parcel that has no end yet.
    fn connect_and_write(&mut self) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let mut written = self.written;
        let outcome = self
            .recent
            .iter_mut()
            .filter(|(end, _)| *end == u64::MAX)
            .try_for_each(|(end, parcel)| {
                parcel.write_lines(&mut |bytes| {
                    stream.write_all(bytes)?;
                    written = written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    Ok(())
                })?;
                *end = written;
                Ok(())
            });
        self.written = written;
        self.stream = Some(stream);
        // An interrupted write is the socket's matter, giving up is not.
        outcome.map_err(|error: io::Error| {
            if error.kind() == ErrorKind::Interrupted {
                ErrorKind::BrokenPipe.into()
            } else {
                error
            }
        })
    }

    fn connect(&mut self) -> io::Result<UnixStream> {
        let mut tries = 0u32;
        loop {
            match UnixStream::connect(&self.path) {
                Ok(stream) => {
                    let size = socket2::SockRef::from(&stream)
                        .send_buffer_size()
                        .unwrap_or(1 << 20);
                    self.buffer_bytes = u64::try_from(size).unwrap_or(u64::MAX);
                    if tries > 0 || self.losses > 0 {
                        (self.on_event)(Event::Back(&self.path, self.recent.len()));
                    }
                    return Ok(stream);
                }
                Err(error) => {
                    tries = tries.saturating_add(1);
                    if !(self.on_event)(Event::Away(&self.path, tries, error)) {
                        return Err(ErrorKind::Interrupted.into());
                    }
                    std::thread::sleep(Duration::from_millis(
                        50u64.checked_shl(tries.min(6)).unwrap_or(3200),
                    ));
                }
            }
        }
    }

    fn end_of_stream(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(ErrorKind::NotConnected.into());
        };
        stream.shutdown(Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut waited = 0u32;
        loop {
            match stream.read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    waited = waited.saturating_add(1);
                    let slow = io::Error::new(ErrorKind::TimedOut, "it has not committed everything yet");
                    if waited.is_multiple_of(10) && !(self.on_event)(Event::Away(&self.path, waited, slow)) {
                        return Err(ErrorKind::Interrupted.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    struct Text(String);

    impl Parcel for Text {
        fn write_lines(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            out(self.0.as_bytes())
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
            all
        });
        let mut sender = Sender::new(&path, |_| true);
        let mut expected = String::new();
        for n in 0..50 {
            let text = format!("{n}:{}\n", "x".repeat(100_000));
            expected.push_str(&text);
            sender.send(Text(text)).unwrap();
        }
        assert_eq!(sender.finish().unwrap(), 1);
        let got = consumer.join().unwrap();
        assert!(
            got.starts_with("0:x"),
            "the parcel that was cut off came again from its start"
        );
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    }
}
