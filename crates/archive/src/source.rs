//! The files of an archive, wherever they lie: their names, and readers of parts of them.

use crate::error::ArchiveError;
use crate::objects::Objects;
use crate::place::{Access, Place};
use bytes::{Buf, Bytes};
use fetch::{Body, Incoming, Spool};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of one request for a part of an object.
pub(crate) const PIECE: u64 = 8 << 20;
/// Longest line of an index that is read.
const LINE: usize = 16 << 10;

/// Where the files of an archive lie.
#[derive(Clone)]
pub(crate) enum Source {
    Folder(PathBuf),
    Objects(Arc<Objects>),
}

impl Source {
    pub(crate) fn open(place: &Place, access: &Access) -> Result<Self, ArchiveError> {
        Ok(match place {
            Place::Folder(folder) => Self::Folder(folder.clone()),
            Place::Bucket(bucket) => Self::Objects(Objects::open(bucket, access)?),
        })
    }

    /// Its place, with the name of a file.
    pub(crate) fn shown(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Objects(objects) => objects.shown(name),
        }
    }

    /// Its place.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Objects(objects) => objects.bucket().to_string(),
        }
    }

    /// Calls `each` with the name and the size of every file.
    pub(crate) fn list(
        &self,
        mut each: impl FnMut(String, u64) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let folder = match self {
            Self::Objects(objects) => return objects.list(|found| each(found.name, found.size)),
            Self::Folder(folder) => folder,
        };
        let at = |error: io::Error| ArchiveError::new(folder.display(), error);
        for entry in fs::read_dir(folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            // Names that are no text are not of an archive. A link counts as what it leads to.
            if let Some(name) = entry.file_name().to_str()
                && let Ok(about) = fs::metadata(entry.path())
                && about.is_file()
            {
                each(name.to_owned(), about.len())?;
            }
        }
        Ok(())
    }

    /// A part of a file, read piece by piece.
    pub(crate) fn read(
        &self,
        name: &str,
        offset: u64,
        bytes: u64,
    ) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Folder(folder) => {
                let mut file = File::open(folder.join(name))?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file.take(bytes)))
            }
            Self::Objects(objects) => Ok(Box::new(Pieces {
                objects: Arc::clone(objects),
                name: name.to_owned(),
                at: offset,
                end: offset.saturating_add(bytes),
                piece: Bytes::new(),
            })),
        }
    }

    /// Removes a file; one that is not there is as good as removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        let path = match self {
            Self::Objects(objects) => return objects.delete(name),
            Self::Folder(folder) => folder.join(name),
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ArchiveError::new(path.display(), error))
            }
            _ => Ok(()),
        }
    }

    /// A file that is a CAR as a whole.
    pub(crate) fn car(
        &self,
        (name, size): (&str, u64),
        most_memory: usize,
        spool: &Spool,
    ) -> io::Result<Body> {
        if let Self::Folder(folder) = self {
            return Body::of_file(&File::open(folder.join(name))?);
        }
        let mut body = Incoming::new(most_memory, spool, "the archive");
        let mut reader = self.read(name, 0, size)?;
        let mut chunk = vec![0; 256 << 10];
        loop {
            let length = reader.read(&mut chunk)?;
            if length == 0 {
                return body.finish();
            }
            body.push(chunk.get(..length).unwrap_or_default())?;
        }
    }
}

/// Reads a part of an object, a request for each piece.
struct Pieces {
    objects: Arc<Objects>,
    name: String,
    at: u64,
    end: u64,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.at < self.end {
            let end = self.end.min(self.at.saturating_add(PIECE));
            let got = self.objects.get(&self.name, self.at..end);
            self.piece = got.map_err(io::Error::other)?;
            self.at = self.at.saturating_add(self.piece.len() as u64);
            if self.piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece
            .copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

/// The lines of an index, each at most so long that memory is bounded; a longer one is cut.
pub(crate) struct Lines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from: BufReader::with_capacity(256 << 10, from),
            line: Vec::new(),
        }
    }

    /// The next line; nothing at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut any = false;
        loop {
            let found = self.from.fill_buf()?;
            if found.is_empty() {
                return Ok(any.then_some(self.line.as_slice()));
            }
            any = true;
            let end = found.iter().position(|byte| *byte == b'\n');
            let of_line = found.get(..end.unwrap_or(found.len())).unwrap_or_default();
            let room = LINE.saturating_sub(self.line.len()).min(of_line.len());
            self.line
                .extend_from_slice(of_line.get(..room).unwrap_or_default());
            let read = of_line.len() + usize::from(end.is_some());
            self.from.consume(read);
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let text = [b"a\n\n".as_slice(), &[b'x'; 100_000], b"\nlast"].concat();
        let mut lines = Lines::new(text.as_slice());
        let mut lengths = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [1, 0, LINE, 4]);
    }
}
