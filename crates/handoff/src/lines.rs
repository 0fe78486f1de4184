//! Splits a stream of bytes into lines of bounded length.

use crate::line::MAX_LINE_BYTES;
use std::io::{self, ErrorKind, Read};

/// Bytes per read.
const CHUNK: usize = 256 << 10;

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Some bytes; the complete lines among them were passed on.
    Read,
    /// Nothing arrived before the stream's time limit.
    Idle,
    /// The stream has ended. An incomplete last line was passed on as a line.
    End,
}

/// A part of a stream.
pub enum Line<'a> {
    /// A line without its line feed.
    Complete(&'a [u8]),
    /// The beginning of a line that was too long; the rest is skipped.
    TooLong(&'a [u8]),
}

/// Splits a stream into lines.
pub struct Lines<R> {
    stream: R,
    buffer: Vec<u8>,
    filled: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl<R: Read> Lines<R> {
    /// Lines of `stream`, of which `read` was read already: less than a line.
    pub fn new(stream: R, read: &[u8]) -> Self {
        let mut buffer = read.to_vec();
        buffer.resize(CHUNK.max(read.len().saturating_add(1)), 0);
        Self {
            stream,
            buffer,
            filled: read.len(),
            skipping: false,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &R {
        &self.stream
    }

    /// Reads once and hands every line that is complete now to `each`.
    ///
    /// # Errors
    /// The stream failed.
    pub fn step(&mut self, mut each: impl FnMut(Line<'_>)) -> io::Result<Step> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len().saturating_mul(2), 0);
        }
        let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let count = match self.stream.read(space) {
            Ok(0) => {
                let rest = self.buffer.get(..self.filled).unwrap_or_default();
                if !rest.is_empty() && !self.skipping {
                    each(Line::Complete(rest));
                }
                self.filled = 0;
                return Ok(Step::End);
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Step::Read),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Step::Idle);
            }
            Err(error) => return Err(error),
        };
        // Only the new bytes can hold the first line feed.
        let old = self.filled;
        self.filled = self.filled.saturating_add(count);
        let all = self.buffer.get(..self.filled).unwrap_or_default();
        let mut from = 0usize;
        for at in memchr::memchr_iter(b'\n', all.get(old..).unwrap_or_default()) {
            let end = old.saturating_add(at);
            let line = all.get(from..end).unwrap_or_default();
            if !std::mem::take(&mut self.skipping) && !line.is_empty() {
                each(if line.len() > MAX_LINE_BYTES {
                    Line::TooLong(line)
                } else {
                    Line::Complete(line)
                });
            }
            from = end.saturating_add(1);
        }
        let rest = self.filled.saturating_sub(from);
        if self.skipping || rest > MAX_LINE_BYTES {
            if !self.skipping {
                each(Line::TooLong(all.get(from..).unwrap_or_default()));
            }
            self.skipping = true;
            self.filled = 0;
            self.buffer.truncate(CHUNK);
        } else {
            if from > 0 {
                // A long line that comes in many small reads is not moved at each of them.
                self.buffer.copy_within(from..self.filled, 0);
            }
            self.filled = rest;
        }
        Ok(Step::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes a few at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(count);
            out[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn lines_of(bytes: &[u8], at_once: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::new(Drip(bytes, at_once), &[]);
        while lines
            .step(|line| match line {
                Line::Complete(line) => found.push(String::from_utf8_lossy(line).into_owned()),
                Line::TooLong(start) => found.push(format!("too long: {}", char::from(start[0]))),
            })
            .unwrap()
            != Step::End
        {}
        found
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        for at_once in [1, 2, 3, 100] {
            assert_eq!(
                lines_of(b"a\n\nbc\nlast", at_once),
                ["a", "bc", "last"],
                "{at_once} bytes at once"
            );
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 100_000];
        bytes.extend(b"\nnext\n");
        for at_once in [1 << 16, 1 << 20] {
            assert!(
                lines_of(&bytes, at_once) == ["too long: x", "next"],
                "{at_once} bytes at once"
            );
        }
    }
}
