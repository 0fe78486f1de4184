//! A response body: in memory while it is small, otherwise in a file of the spool.

use crate::spool::{Claim, Spool, SpoolFile};
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Deref;

/// Size up to which a body stays in memory by default.
pub(crate) const MEMORY_BYTES: usize = 4 << 20;

/// A complete body.
pub struct Body(Kept);

enum Kept {
    Memory(Vec<u8>),
    /// With its place in the spool, if it has one.
    File(
        Mmap,
        #[allow(dead_code, reason = "it is there to be dropped")] Option<Claim>,
    ),
}

impl Body {
    /// A body that is in memory already.
    #[must_use]
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        Self(Kept::Memory(bytes))
    }

    /// Releases the pages of a body in a file. They are read again when needed, and until then do
    /// not count as memory of the process.
    #[allow(unsafe_code)]
    pub fn let_go(&self) {
        if let Kept::File(map, _) = &self.0 {
            // SAFETY: the map is of a file and read-only: what is dropped is read from the file
            // again. Failing changes nothing.
            drop(unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) });
        }
    }

    /// Whether it is in a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.0, Kept::File(..))
    }

    /// A body in `file`, which nobody else may change.
    ///
    /// # Errors
    /// It cannot be mapped.
    #[allow(unsafe_code)]
    pub fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: by the promise above; a file of the archive is only ever added to.
        Ok(Self(Kept::File(unsafe { Mmap::map(file)? }, None)))
    }

    /// Memory that it costs while it waits: its size, or, if it is in a file, a sixteenth of that,
    /// which stands for its block index and also bounds the number of files.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Kept::Memory(bytes) => bytes.capacity(),
            Kept::File(map, _) => map.len() / 16,
        }
    }
}

/// Bytes of sequential reading after which the pages of a mapped body are released,
const LET_GO_BYTES: usize = 2 << 20;
/// and entries in tree order: each may have touched another page, and the system maps 64 KiB around
/// it.
const LET_GO_ENTRIES: u32 = 64;

/// Tracks what was read of a body, to release its pages: mapped pages that were read count as
/// memory of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    at: usize,
    entries: u32,
}

impl Pages {
    /// Sequential reading has reached `at`; it may start over.
    pub fn read_to(&mut self, body: &Body, at: usize) {
        self.at = self.at.min(at);
        if at - self.at >= LET_GO_BYTES {
            self.at = at;
            body.let_go();
        }
    }

    /// Another entry of the tree was read.
    pub fn read_entry(&mut self, body: &Body) {
        self.entries = self.entries.wrapping_add(1);
        if self.entries.is_multiple_of(LET_GO_ENTRIES) {
            body.let_go();
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Memory(bytes) => bytes,
            Kept::File(map, _) => map,
        }
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A body that is being received.
pub struct Incoming<'s> {
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    spool: &'s Spool,
    /// Whose it is.
    host: &'s str,
    total: u64,
    /// Size up to which it stays in memory.
    most_memory: usize,
}

impl<'s> Incoming<'s> {
    /// An empty body of `host`. It goes to a file of the spool when it exceeds `most_memory`.
    #[must_use]
    pub fn new(most_memory: usize, spool: &'s Spool, host: &'s str) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            spool,
            host,
            total: 0,
            most_memory,
        }
    }

    /// Bytes received so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Appends to it.
    ///
    /// # Errors
    /// The spool has no space, or the disk refuses.
    pub fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.total = self.total.saturating_add(chunk.len() as u64);
        let wanted = self.memory.len() + chunk.len();
        if self.file.is_none() && wanted > self.most_memory {
            let mut file = self.spool.file(self.host)?;
            file.push(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            return file.push(chunk);
        }
        if self.memory.capacity() < wanted {
            let room = (self.memory.capacity() * 2).clamp(wanted, self.most_memory);
            self.memory.reserve_exact(room - self.memory.len());
        }
        self.memory.extend_from_slice(chunk);
        Ok(())
    }

    /// The complete body.
    ///
    /// # Errors
    /// Its file cannot be mapped.
    pub fn finish(self) -> io::Result<Body> {
        match self.file {
            None => Ok(Body(Kept::Memory(self.memory))),
            Some(file) => file.finish(),
        }
    }
}

impl SpoolFile {
    /// What was written, to be read.
    ///
    /// # Errors
    /// It cannot be mapped.
    #[allow(unsafe_code)]
    pub fn finish(self) -> io::Result<Body> {
        let (file, claim) = self.into_parts();
        // SAFETY: the file has no name and only this process ever had it open; nobody can change or
        // cut it.
        Ok(Body(Kept::File(unsafe { Mmap::map(&file)? }, Some(claim))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_leaves_the_memory_and_reads_the_same() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        let mut incoming = Incoming::new(MEMORY_BYTES, &spool, "host");
        let chunk: Vec<u8> = (0..=255).cycle().take(1_000_003).collect();
        for _ in 0..10 {
            incoming.push(&chunk).unwrap();
        }
        assert_eq!(incoming.total(), 10_000_030);
        let body = incoming.finish().unwrap();
        assert!(body.memory_bytes() < 1_000_000);
        assert!(body.chunks(chunk.len()).all(|part| part == chunk));
    }
}
