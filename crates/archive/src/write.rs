//! Adds CARs to an archive.
//!
//! A CAR counts as kept when [`ArchiveWriter::sync`] has returned after it was added. In a folder
//! that is a sync of file and index. In an object store a segment has to be completed for that:
//! one is completed at a time, and it takes with it all that was added until then, so that segments
//! grow while the store is slow. A segment ends in any case at [`SEGMENT_BYTES`], at
//! [`SEGMENT_CARS`], and at [`INDEX_LINES`] of its index.
//!
//! Costs, for an object store: a segment of S MiB takes one request to begin, one for each 8 MiB,
//! one to complete, and one for its index; one of less than 8 MiB takes two. Memory: the part that
//! is filled, and those that go up ([`ArchiveWriter::memory`]).

use crate::error::ArchiveError;
use crate::folder::{FolderWriter, Lock};
use crate::frame::{self, INDEX_LINES};
use crate::line::Line;
use crate::objects::{Created, Objects};
use crate::place::{Access, Place};
use crate::segment::{self, Ending, PART, Upload};
use crate::{ABOUT, INDEX, LEVEL, SEGMENT};
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Size at which a segment ends. Large enough that requests and names are few: ten terabytes are
/// 80,000 segments. Small enough that what is rewritten, or waits for a completion, is little.
pub(crate) const SEGMENT_BYTES: u64 = 128 << 20;
/// CARs at which it ends: their lines wait in memory, some 350 bytes each.
const SEGMENT_CARS: u64 = 20_000;
/// Parts that are in memory at once, at least and at most.
const PARTS: (u64, u64) = (2, 16);
/// Segments that are completed while the next one is filled.
const ENDING: usize = 2;
const ABOUT_TEXT: &str = "{\"form\":\"skyfill CAR archive\",\"version\":1}\n";

/// Adds CARs to an archive.
pub struct ArchiveWriter(Form);

enum Form {
    Folder(FolderWriter),
    Objects(Box<ObjectWriter>),
}

impl ArchiveWriter {
    /// Opens an archive, and creates it if it does not exist. New CARs go to new files. Of `memory`
    /// bytes it takes what [`Self::memory`] says.
    ///
    /// # Errors
    /// The folder cannot be created or read, or another process writes it. Or the object store
    /// cannot be reached, refuses the credentials, or lets objects be overwritten.
    pub fn open(place: &Place, access: &Access, memory: u64) -> Result<Self, ArchiveError> {
        let lock = match place {
            Place::Folder(folder) => Some(Lock::take(folder, false)?),
            Place::Bucket(_) => None,
        };
        Self::open_locked(place, access, memory, lock)
    }

    /// The same with a lock that is held.
    pub(crate) fn open_locked(
        place: &Place,
        access: &Access,
        memory: u64,
        lock: Option<Lock>,
    ) -> Result<Self, ArchiveError> {
        Ok(Self(match place {
            Place::Folder(folder) => Form::Folder(FolderWriter::open(folder, lock)?),
            Place::Bucket(bucket) => {
                let objects = Objects::open(bucket, access)?;
                Form::Objects(Box::new(ObjectWriter::open(objects, memory)?))
            }
        }))
    }

    /// Bytes of memory that a writer takes of so many.
    #[must_use]
    pub fn memory(place: &Place, total: u64) -> u64 {
        match place {
            Place::Folder(_) => 0,
            // One more is filled, and the last ones of segments that end are not counted.
            Place::Bucket(_) => (parts(total) + 2 + ENDING as u64) * PART as u64,
        }
    }

    /// Adds a CAR.
    ///
    /// # Errors
    /// The disk is full, for example; the archive is unchanged then. Or an upload has failed.
    pub fn add(&mut self, did: &str, pds: &str, rev: &str, car: &[u8]) -> Result<(), ArchiveError> {
        match &mut self.0 {
            Form::Folder(writer) => writer.add(did, pds, rev, car),
            Form::Objects(writer) => writer.add((did, pds, rev), car),
        }
    }

    /// Returns when everything that was added is durable. Others may add meanwhile.
    ///
    /// # Errors
    /// The disk or the object store refuses.
    pub fn sync(writer: &Mutex<Self>) -> Result<(), ArchiveError> {
        let (endings, number) = {
            let mut writer = locked(writer);
            match &mut writer.0 {
                Form::Folder(writer) => return writer.sync(),
                Form::Objects(writer) => (Arc::clone(&writer.endings), writer.number()),
            }
        };
        // Who waits here is done as soon as the one before has taken its CARs with it.
        let mut ended = locked(&endings);
        if let Some(error) = &ended.failed {
            return Err(error.clone());
        }
        if ended.until >= number {
            return Ok(());
        }
        let (waiting, until) = {
            let mut writer = locked(writer);
            match &mut writer.0 {
                Form::Folder(_) => return Ok(()),
                Form::Objects(writer) => (writer.end_all()?, writer.number()),
            }
        };
        for ending in waiting {
            if let Err(error) = ending.wait() {
                ended.failed = Some(error.clone());
                return Err(error);
            }
        }
        ended.until = until;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts that are in memory at once, of so many bytes of the process: a sixteenth of them.
fn parts(memory: u64) -> u64 {
    (memory / 16 / PART as u64).clamp(PARTS.0, PARTS.1)
}

/// How far segments were completed.
#[derive(Default)]
struct Completed {
    /// CARs that are durable: the first so many.
    until: u64,
    failed: Option<ArchiveError>,
}

/// Adds CARs to segments of an object store.
struct ObjectWriter {
    objects: Arc<Objects>,
    /// What the names of its segments begin with.
    prefix: String,
    segments: u64,
    open: Option<Filling>,
    /// Segments that are being completed, the oldest first.
    ending: Vec<Ending>,
    /// CARs that were added.
    cars: u64,
    memory: Arc<Semaphore>,
    endings: Arc<Mutex<Completed>>,
    failed: Option<ArchiveError>,
}

/// A segment that CARs are added to.
struct Filling {
    name: String,
    upload: Upload,
    part: Vec<u8>,
    /// Bytes of all parts.
    bytes: u64,
    cars: u64,
    index: Vec<u8>,
}

impl ObjectWriter {
    fn open(objects: Arc<Objects>, memory: u64) -> Result<Self, ArchiveError> {
        // Who may not write learns it here, before any work.
        let about = Bytes::from_static(ABOUT_TEXT.as_bytes());
        if objects.create(ABOUT, about)? == Created::Now {
            let other = Bytes::from_static(b"an object that must not take its place");
            if objects.create(ABOUT, other).is_ok() {
                return Err(ArchiveError::new(
                    objects.bucket(),
                    "this store overwrites an object although it was asked not to (If-None-Match)",
                )
                .with_hint("use a store that knows conditional writes"));
            }
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| ArchiveError::new(objects.bucket(), error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.unwrap_or_default().as_millis();
        Ok(Self {
            // In the order of time, as far as clocks agree.
            prefix: format!("{millis:013}-{}", crate::line::hexadecimal(&random)),
            objects,
            segments: 0,
            open: None,
            ending: Vec::new(),
            cars: 0,
            memory: Arc::new(Semaphore::new(
                usize::try_from(parts(memory)).unwrap_or(usize::MAX),
            )),
            endings: Arc::default(),
            failed: None,
        })
    }

    /// How many CARs were added.
    fn number(&self) -> u64 {
        self.cars
    }

    fn add(&mut self, of: (&str, &str, &str), car: &[u8]) -> Result<(), ArchiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (objects, memory) = (&self.objects, &self.memory);
        let filling = self.open.get_or_insert_with(|| {
            let name = format!("{}-{:06}", self.prefix, self.segments);
            self.segments = self.segments.saturating_add(1);
            Filling {
                upload: Upload::start(objects, name.clone()),
                name,
                part: Vec::new(),
                bytes: 0,
                cars: 0,
                index: Vec::new(),
            }
        });
        let offset = filling.bytes;
        let mut sink = Sink {
            filling,
            objects,
            memory,
        };
        if let Err(error) = frame::write(&mut sink, car) {
            // The segment has a torn end, and its upload has failed.
            let failed = self.open.take().map(|filling| filling.upload.failure());
            let error = failed.unwrap_or_else(|| ArchiveError::new(self.objects.bucket(), error));
            self.failed = Some(error.clone());
            return Err(error);
        }
        let file = format!("{}{SEGMENT}", filling.name);
        let line = Line::of(of, (&file, offset, filling.bytes - offset), car);
        filling.index.extend(line.text());
        filling.cars = filling.cars.saturating_add(1);
        self.cars = self.cars.saturating_add(1);
        if filling.bytes >= SEGMENT_BYTES
            || filling.cars >= SEGMENT_CARS
            || filling.index.len() >= INDEX_LINES
        {
            self.end()?;
            if self.ending.len() > ENDING {
                let oldest = self.ending.remove(0);
                self.note(oldest.wait())?;
            }
        }
        Ok(())
    }

    /// Notes that the upload of a segment failed: nothing is kept from then on.
    fn note(&mut self, ended: Result<(), ArchiveError>) -> Result<(), ArchiveError> {
        if let Err(error) = &ended {
            self.failed = Some(error.clone());
        }
        ended
    }

    /// Ends the segment that is being filled.
    fn end(&mut self) -> Result<(), ArchiveError> {
        if let Some(filling) = self.open.take() {
            let index = zstd::encode_all(filling.index.as_slice(), LEVEL).map_err(|error| {
                let index = format!("{}{INDEX}", filling.name);
                ArchiveError::new(self.objects.shown(&index), error)
            })?;
            self.ending.push(filling.upload.end(filling.part, index));
        }
        Ok(())
    }

    /// All segments that are not known to be complete.
    fn end_all(&mut self) -> Result<Vec<Ending>, ArchiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.end()?;
        Ok(std::mem::take(&mut self.ending))
    }
}

/// Takes the bytes of a segment, and hands over each part that is full.
struct Sink<'s> {
    filling: &'s mut Filling,
    objects: &'s Objects,
    memory: &'s Arc<Semaphore>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART
            .saturating_sub(self.filling.part.len())
            .min(bytes.len());
        let taken = bytes.get(..room).unwrap_or_default();
        self.filling.part.extend_from_slice(taken);
        self.filling.bytes = self.filling.bytes.saturating_add(room as u64);
        if self.filling.part.len() >= PART {
            let memory = segment::memory_of_part(self.objects, self.memory);
            let part = std::mem::take(&mut self.filling.part);
            let sent = memory.is_some_and(|memory| self.filling.upload.part(part, memory));
            if !sent {
                return Err(io::Error::other("the upload has failed"));
            }
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
