//! Segments of an object store that are read from their start to their end: pieces of
//! [`PIECE`] bytes, each requested once for all repos in it, and the next one ahead of time.
//!
//! What is kept is bounded ([`Runs::memory`]). A piece that was dropped before all of its repos
//! were read is requested again: that costs a request, and nothing else.

use crate::error::ArchiveError;
use crate::explain::explain;
use crate::objects::Objects;
use crate::source::PIECE;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Pieces that are kept, at least and at most.
const PIECES: (u64, u64) = (3, 16);

/// The pieces of all segments that are being read.
pub(crate) struct Runs {
    objects: Arc<Objects>,
    most: usize,
    /// The one that was used last stands last.
    pieces: Mutex<Vec<(Key, Arc<Piece>)>>,
}

/// A segment, and the number of a piece in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(String, u64);

#[derive(Default)]
struct Piece {
    content: Mutex<Option<Result<Bytes, ArchiveError>>>,
    here: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pieces(memory: u64) -> u64 {
    (memory / 16 / PIECE).clamp(PIECES.0, PIECES.1)
}

impl Runs {
    /// Of so many bytes of memory it uses what [`Self::memory`] says.
    pub(crate) fn new(objects: Arc<Objects>, memory: u64) -> Self {
        Self {
            objects,
            most: usize::try_from(pieces(memory)).unwrap_or(usize::MAX),
            pieces: Mutex::default(),
        }
    }

    /// Bytes that it uses of so many: a sixteenth. Two more may be on their way.
    pub(crate) fn memory(memory: u64) -> u64 {
        (pieces(memory) + 2) * PIECE
    }

    /// Reads a part of a segment of `size` bytes.
    pub(crate) fn read(self: &Arc<Self>, name: &str, offset: u64, bytes: u64, size: u64) -> Run {
        Run {
            runs: Arc::clone(self),
            name: name.to_owned(),
            at: offset,
            end: offset.saturating_add(bytes),
            size,
        }
    }

    /// A piece, requested if it is not here; and whether it was.
    fn piece(&self, name: &str, number: u64, size: u64) -> (Arc<Piece>, bool) {
        let key = Key(name.to_owned(), number);
        let mut pieces = locked(&self.pieces);
        if let Some(at) = pieces.iter().position(|(known, _)| *known == key) {
            let known = pieces.remove(at);
            let piece = Arc::clone(&known.1);
            pieces.push(known);
            return (piece, true);
        }
        let piece = Arc::<Piece>::default();
        if pieces.len() >= self.most {
            pieces.remove(0);
        }
        pieces.push((key, Arc::clone(&piece)));
        drop(pieces);
        let start = number.saturating_mul(PIECE);
        let end = start.saturating_add(PIECE).min(size);
        let getting = self.objects.getting(name, start..end);
        let (to, bucket) = (Arc::clone(&piece), self.objects.bucket().clone());
        drop(self.objects.start(async move {
            let got = getting.await.map_err(|error| explain(&bucket, &error));
            *locked(&to.content) = Some(got);
            to.here.notify_all();
        }));
        (piece, false)
    }

    /// The content of a piece.
    fn get(&self, name: &str, number: u64, size: u64) -> Result<Bytes, ArchiveError> {
        let (piece, was_here) = self.piece(name, number, size);
        let next = number.saturating_add(1);
        if !was_here && next.saturating_mul(PIECE) < size {
            drop(self.piece(name, next, size));
        }
        let mut content = locked(&piece.content);
        loop {
            match &*content {
                Some(Ok(bytes)) => return Ok(bytes.clone()),
                Some(Err(error)) => {
                    let error = error.clone();
                    drop(content);
                    // Who comes later asks again.
                    locked(&self.pieces).retain(|(_, kept)| !Arc::ptr_eq(kept, &piece));
                    return Err(error);
                }
                None => {
                    content = piece
                        .here
                        .wait(content)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Reads a part of a segment.
pub(crate) struct Run {
    runs: Arc<Runs>,
    name: String,
    at: u64,
    end: u64,
    size: u64,
}

impl Read for Run {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.end || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.at / PIECE;
        let piece = self.runs.get(&self.name, number, self.size);
        let piece = piece.map_err(io::Error::other)?;
        let within = usize::try_from(self.at % PIECE).unwrap_or(usize::MAX);
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let there = piece.get(within..).unwrap_or_default();
        let length = there.len().min(left).min(buffer.len());
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (to, from) = (buffer.get_mut(..length), there.get(..length));
        if let (Some(to), Some(from)) = (to, from) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(length as u64);
        Ok(length)
    }
}
