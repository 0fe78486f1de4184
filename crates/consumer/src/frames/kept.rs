//! Keeps the entries of a part until the part is complete.
//!
//! A part is encoded only when its end has arrived, so nothing in the database ever waits for a
//! producer. If a producer falls silent, its entries stay here, and nobody else waits for it. All
//! parts share a spool, of which no producer can take the space of the others.

use atrepo::{Cid, RecordError};
use fetch::{Claim, Spool, SpoolFile};
use handoff::frames::{self, Frame, FrameError, Frames, MAGIC, Step};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Bytes of a part that are kept in memory; what is beyond them goes to a file of the spool.
const IN_MEMORY: usize = 1 << 20;
/// Largest part, in bytes: no repo is as large.
const MAX_BYTES: u64 = 16 << 30;

/// Entries, in the form in which they came.
pub(crate) struct KeptPart {
    spool: Spool,
    /// Whose part it is, for the spool.
    owner: Arc<str>,
    last: Vec<u8>,
    file: Option<SpoolFile>,
    in_file: u64,
}

impl KeptPart {
    /// Nothing yet, of a part of `owner`.
    pub(crate) fn new(spool: &Spool, owner: &Arc<str>) -> Self {
        Self {
            spool: spool.clone(),
            owner: Arc::clone(owner),
            last: Vec::new(),
            file: None,
            in_file: 0,
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The spool has no space left for its owner, or the part is larger than a part may be.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        cid: &Cid,
        block: &Result<&[u8], RecordError>,
    ) -> io::Result<()> {
        match block {
            Ok(block) => frames::append_entry(&mut self.last, key, cid, block),
            Err(error) => frames::append_unread(&mut self.last, key, cid, error),
        }
        if self.last.len() < IN_MEMORY {
            return Ok(());
        }
        self.write_out()
    }

    /// Adds a piece of a framed stream, wherever it was cut; into the file if it `waits` for more,
    /// so that many parts that wait take no memory.
    ///
    /// # Errors
    /// The spool has no space left for its owner, or the part is larger than a part may be.
    pub(crate) fn add_piece(&mut self, piece: &[u8], waits: bool) -> io::Result<()> {
        self.last.extend_from_slice(piece);
        if waits || self.last.len() >= IN_MEMORY {
            return self.write_out();
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.in_file > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {} GiB", MAX_BYTES >> 30),
            ));
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(self.spool.file(&self.owner)?),
        };
        file.push(&self.last)?;
        self.in_file += self.last.len() as u64;
        self.last.clear();
        Ok(())
    }

    /// What has come, to be read.
    pub(crate) fn end(self) -> WholePart {
        WholePart {
            file: self.file.map(SpoolFile::into_parts),
            last: self.last,
        }
    }
}

/// The entries of a part that is complete.
pub(crate) struct WholePart {
    /// Its claim on the spool ends with it.
    file: Option<(File, Claim)>,
    last: Vec<u8>,
}

impl WholePart {
    /// Hands over all entries, in the order in which they came.
    ///
    /// # Errors
    /// What `each` answers; or the file cannot be read.
    pub(crate) fn replay<E: From<FrameError>>(
        mut self,
        mut each: impl FnMut(&[u8], Cid, Result<&[u8], RecordError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_frame(|frame| match frame {
            Frame::Entry(key, cid, block) => each(key, cid, Ok(block)),
            Frame::Unread(key, cid, error) => each(key, cid, Err(error)),
            // The caller has them.
            Frame::Part(_) | Frame::End(_) | Frame::Status(..) => Ok(()),
        })
    }

    /// Hands over all frames, in the order in which they came.
    ///
    /// # Errors
    /// What `each` answers; the file cannot be read, or has something else.
    pub(crate) fn each_frame<E: From<FrameError>>(
        &mut self,
        mut each: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let front: Box<dyn Read + '_> = match &mut self.file {
            Some((file, _)) => {
                file.seek(SeekFrom::Start(0)).map_err(FrameError::Io)?;
                Box::new(file)
            }
            None => Box::new(io::empty()),
        };
        let mut frames = Frames::new(front.chain(self.last.as_slice()), MAGIC);
        while frames.step(&mut each)? != Step::End {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::Codec;

    #[test]
    fn entries_come_back_from_memory_and_from_the_file() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        for (entries, size) in [(0u32, 10), (3, 10), (50, 100_000)] {
            let mut part = KeptPart::new(&spool, &"a producer".into());
            for n in 0..entries {
                let block = vec![u8::try_from(n).unwrap(); size];
                part.add(
                    format!("a/{n:03}").as_bytes(),
                    &Cid::of(Codec::DagCbor, &block),
                    &Ok(block.as_slice()),
                )
                .unwrap();
            }
            assert_eq!(part.file.is_some(), size > 10);
            let mut next = 0;
            part.end()
                .replay(|key, cid, block| -> Result<(), FrameError> {
                    assert_eq!(key, format!("a/{next:03}").as_bytes());
                    assert!(block.is_ok_and(|block| cid.matches(block) && block.len() == size));
                    next += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(next, entries);
        }
    }
}
