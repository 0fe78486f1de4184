//! A response body: in memory while it is small, in an unnamed temporary file when it is not.

use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;

/// Up to so many bytes a body stays in memory, unless the client was told otherwise.
pub(crate) const MEMORY_BYTES: usize = 4 << 20;

/// A complete body.
pub struct Body(Kept);

enum Kept {
    Memory(Vec<u8>),
    File(Mmap),
}

impl Body {
    /// A body that is in memory already.
    #[must_use]
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        Self(Kept::Memory(bytes))
    }

    /// Lets go of the pages of a body that lies in a file: they are read again when they are needed, and count for nobody's memory until then.
    #[allow(unsafe_code)]
    pub fn let_go(&self) {
        if let Kept::File(map) = &self.0 {
            // SAFETY: the map is of a file and read-only: what is dropped is read from the file again. Failing changes nothing.
            drop(unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) });
        }
    }

    /// Whether it lies in a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.0, Kept::File(_))
    }

    /// A body that lies in `file`, which nobody else may change.
    ///
    /// # Errors
    /// It cannot be mapped.
    #[allow(unsafe_code)]
    pub fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: by the promise above; a file of the archive is only ever added to.
        Ok(Self(Kept::File(unsafe { Mmap::map(file)? })))
    }

    /// What it costs in memory while it waits: itself, or, for what lies in a file, a sixteenth, which stands for an
    /// index of its blocks and bounds the files, too.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Kept::Memory(bytes) => bytes.len(),
            Kept::File(map) => map.len() / 16,
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Memory(bytes) => bytes,
            Kept::File(map) => map,
        }
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A body that is coming in.
pub(crate) struct Incoming {
    memory: Vec<u8>,
    file: Option<File>,
    total: u64,
    /// Up to so many bytes it stays in memory.
    most_memory: usize,
}

impl Incoming {
    pub(crate) fn new(most_memory: usize) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            total: 0,
            most_memory,
        }
    }

    /// Bytes so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.total = self.total.saturating_add(chunk.len() as u64);
        if self.file.is_none() && self.memory.len() + chunk.len() > self.most_memory {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(chunk),
            None => {
                self.memory.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn finish(self) -> io::Result<Body> {
        match self.file {
            None => Ok(Body(Kept::Memory(self.memory))),
            // SAFETY: the file has no name and only this process ever had it open; nobody can change or cut it.
            Some(file) => Ok(Body(Kept::File(unsafe { Mmap::map(&file)? }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_leaves_the_memory_and_reads_the_same() {
        let mut incoming = Incoming::new(MEMORY_BYTES);
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
