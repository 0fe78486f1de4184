//! Adds CARs to an archive in a folder: files that only grow, and one index for all of them.
//!
//! Writers hold a shared lock of the folder, pruning an exclusive one ([`Lock`]): it removes files
//! that nothing refers to.

use crate::error::ArchiveError;
use crate::frame;
use crate::line::Line;
use crate::source::Lines;
use crate::{FOLDER_INDEX, INDEX, SEGMENT};
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// CARs per file.
const CARS_A_FILE: u64 = 4000;
/// Size at which a file is closed.
const FILE_BYTES: u64 = 2 << 30;

fn failed(path: &Path, why: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::new(path.display(), why)
}

/// A lock of an archive's folder, until it is dropped or the process ends.
pub(crate) struct Lock {
    _folder: File,
}

impl Lock {
    /// Among writers, or against them.
    pub(crate) fn take(folder: &Path, is_exclusive: bool) -> Result<Self, ArchiveError> {
        let at = |error: io::Error| failed(folder, error);
        fs::create_dir_all(folder).map_err(at)?;
        let file = File::open(folder).map_err(at)?;
        let operation = match is_exclusive {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Self { _folder: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(failed(
                folder,
                "another skyfill writes or prunes this archive",
            )
            .with_hint("wait until it has ended")),
            // Some file systems have no locks: nothing is known then of others.
            Err(_) => Ok(Self { _folder: file }),
        }
    }
}

/// Adds CARs to an archive in a folder.
pub(crate) struct FolderWriter {
    folder: PathBuf,
    _lock: Option<Lock>,
    index: File,
    open: Option<(String, File, u64, u64)>,
    next: u64,
    /// Whether something was written that may not be on the disk.
    unsynced: bool,
    /// Whether the last line of the index may be cut off.
    torn: bool,
}

impl FolderWriter {
    /// Opens the archive in `folder`, and creates it if it does not exist. New CARs go to new
    /// files.
    pub(crate) fn open(folder: &Path, lock: Option<Lock>) -> Result<Self, ArchiveError> {
        let at = |error: io::Error| failed(folder, error);
        fs::create_dir_all(folder).map_err(at)?;
        let mut next = 0;
        for entry in fs::read_dir(folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT));
            if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
                next = next.max(number.saturating_add(1));
            }
        }
        let path = folder.join(FOLDER_INDEX);
        let mut index = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            // Others may write into the folder, so links are not followed.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| failed(&path, error))?;
        // A line that a crash cut off is ended, so that the next one is separate.
        let length = index.metadata().map_err(at)?.len();
        if length > 0 {
            let mut last = [0];
            index.seek(SeekFrom::End(-1)).map_err(at)?;
            index.read_exact(&mut last).map_err(at)?;
            if last != *b"\n" {
                index.write_all(b"\n").map_err(at)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
            index,
            open: None,
            next,
            unsynced: false,
            torn: false,
        })
    }

    /// Adds a CAR.
    pub(crate) fn add(
        &mut self,
        did: &str,
        pds: &str,
        rev: &str,
        car: &[u8],
    ) -> Result<(), ArchiveError> {
        if self.open.is_none() {
            let name = format!("{:06}{SEGMENT}", self.next);
            let path = self.folder.join(&name);
            let file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(&path)
                .map_err(|error| failed(&path, error))?;
            self.next = self.next.saturating_add(1);
            self.open = Some((name, file, 0, 0));
        }
        let Some((name, file, offset, cars)) = &mut self.open else {
            return Ok(());
        };
        let path = self.folder.join(&*name);
        let mut write = || -> io::Result<u64> {
            file.seek(SeekFrom::Start(*offset))?;
            frame::write(&mut *file, car)
        };
        let bytes = write().map_err(|error| failed(&path, error))?;
        let end = offset.saturating_add(bytes);
        let mut text = Line::of((did, pds, rev), (name, *offset, bytes), car).text();
        if self.torn {
            text.insert(0, b'\n');
        }
        // If the line is written in part only, the next one begins on a new line.
        self.torn = true;
        self.index
            .write_all(&text)
            .map_err(|error| failed(&self.folder.join(FOLDER_INDEX), error))?;
        self.torn = false;
        self.unsynced = true;
        (*offset, *cars) = (end, cars.saturating_add(1));
        if *cars >= CARS_A_FILE || end >= FILE_BYTES {
            self.sync()?;
            self.open = None;
        }
        Ok(())
    }

    /// Returns when everything that was added is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), ArchiveError> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        if let Some((name, file, ..)) = &self.open {
            file.sync_data()
                .map_err(|error| failed(&self.folder.join(name), error))?;
        }
        self.index
            .sync_data()
            .map_err(|error| failed(&self.folder.join(FOLDER_INDEX), error))
    }
}

/// Rewrites the index of a folder without the lines of the files that go, and then removes these
/// files and all others of this form that no index names; how many. The caller holds the lock.
pub(crate) fn forget(folder: &Path, goes: &dyn Fn(&str) -> bool) -> Result<u64, ArchiveError> {
    let (index, new) = (folder.join(FOLDER_INDEX), folder.join("index.jsonl.tmp"));
    let mut named = HashSet::new();
    let mut rewrite = || -> io::Result<()> {
        let mut to = BufWriter::new(File::create(&new)?);
        let mut lines = Lines::new(File::open(&index)?);
        while let Some(line) = lines.next()? {
            if let Some(line) = Line::read(line)
                && !goes(&line.file)
            {
                to.write_all(&line.text())?;
                if !named.contains(&line.file) {
                    named.insert(line.file);
                }
            }
        }
        let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&new, &index)?;
        File::open(folder)?.sync_all()
    };
    rewrite().map_err(|error| failed(&index, error))?;
    let at = |error: io::Error| failed(folder, error);
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        let Some((name, number)) = name.to_str().and_then(|name| {
            let number = name.strip_suffix(SEGMENT)?;
            Some((name, number))
        }) else {
            continue;
        };
        let is_ours = number.bytes().all(|byte| byte.is_ascii_digit());
        if is_ours && !named.contains(name) && !folder.join(format!("{number}{INDEX}")).exists() {
            fs::remove_file(entry.path()).map_err(at)?;
            removed += 1;
        }
    }
    Ok(removed)
}
