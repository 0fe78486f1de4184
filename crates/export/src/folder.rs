//! The folder of an export: files that are there whole or not at all.
//!
//! A file is written under another name, which ends in `.tmp`, brought to the disk, and renamed. So
//! whatever has its own name is complete, whenever the process or the machine stops.

use process::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The end of names of files that are being written.
const UNFINISHED: &str = ".tmp";
/// Others may write into the folder, so links are not followed.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
/// A lock on it is held as long as an export works on the folder.
const LOCK: &str = ".lock";

/// A folder that one process exports to.
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

/// An error about a file.
pub(crate) fn failure(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
        .hint_to_go_on("complete files stay; free space or repair the folder, then")
}

impl Folder {
    /// Opens the folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// It cannot be written to, or another process exports to it.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let at = |error: io::Error| {
            Failure::new(format!("{}: {error}", root.display()))
                .hint("name a folder that can be written to")
        };
        fs::create_dir_all(root).map_err(at)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(NOFOLLOW)
            .open(root.join(LOCK))
            .map_err(at)?;
        if lock.try_lock().is_err() {
            return Err(
                Failure::new(format!("another skyfill exports to {}", root.display()))
                    .hint("wait until it is done, or name another folder"),
            );
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// The place of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes sure that nothing is in the folder but perhaps an unfinished `name`: what others have
    /// there is not mixed with an export.
    pub(crate) fn require_empty(&self, name: &str) -> Result<(), Failure> {
        let at = |error: io::Error| failure(&self.root, &error);
        for entry in fs::read_dir(&self.root).map_err(at)? {
            let found = entry.map_err(at)?.file_name();
            let is_ours = found == LOCK || found == *format!("{name}{UNFINISHED}");
            if !is_ours {
                return Err(Failure::usage(format!(
                    "{} is not empty, and holds no export",
                    self.root.display()
                ))
                .hint("name a new folder"));
            }
        }
        Ok(())
    }

    /// Begins a file, with the folders that it is in.
    pub(crate) fn create(&self, name: &str) -> Result<NewFile, Failure> {
        let path = self.path(name);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        let at = |error: io::Error| failure(&path, &error);
        let mut new_folders = Vec::new();
        for folder in path
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root)
        {
            if folder.exists() {
                break;
            }
            // What names a new folder is the one that it is in.
            new_folders.extend(folder.parent().map(Path::to_owned));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .custom_flags(NOFOLLOW)
            .open(&unfinished)
            .map_err(at)?;
        Ok(NewFile {
            out: Hashing {
                file: BufWriter::with_capacity(256 << 10, file),
                hash: Sha256::new(),
                bytes: 0,
            },
            unfinished,
            path,
            new_folders,
        })
    }

    /// Writes a value as a JSON file.
    pub(crate) fn write_json(
        &self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<Written, Failure> {
        let mut file = self.create(name)?;
        let text = serde_json::to_vec_pretty(value).map_err(Failure::new)?;
        file.write_all(&text)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| failure(&self.path(name), &error))?;
        file.finish()
    }

    /// Reads a value from a JSON file; nothing if there is none.
    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let path = self.path(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(&path, &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Failure::new(format!("{}: {error}", path.display()))
                .hint("skyfill did not write it so; name another folder")
        })
    }

    /// Removes the files below that `is_left_over` names by their own name, without its
    /// `.tmp`.
    pub(crate) fn remove(&self, is_left_over: &dyn Fn(&str, bool) -> bool) -> Result<u64, Failure> {
        let mut removed = 0;
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let at = |error: io::Error| failure(&folder, &error);
            for entry in fs::read_dir(&folder).map_err(at)? {
                let entry = entry.map_err(at)?;
                // Of a link this is the link's own type: what it leads to is not touched.
                let kind = entry.file_type().map_err(at)?;
                if kind.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let own = name.strip_suffix(UNFINISHED);
                if is_left_over(own.unwrap_or(name), own.is_some()) {
                    fs::remove_file(entry.path()).map_err(at)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// A file that is being written.
pub(crate) struct NewFile {
    out: Hashing,
    unfinished: PathBuf,
    path: PathBuf,
    /// Folders in which new ones were made for it.
    new_folders: Vec<PathBuf>,
}

/// A file that is on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.file.write(bytes)?;
        self.out.hash.update(&bytes[..written]);
        self.out.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.file.flush()
    }
}

impl NewFile {
    /// Gives the file its name, once it is on the disk.
    pub(crate) fn finish(mut self) -> Result<Written, Failure> {
        self.on_disk()
            .map_err(|error| failure(&self.path, &error))?;
        let hash = self.out.hash.finalize();
        Ok(Written {
            bytes: self.out.bytes,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn on_disk(&mut self) -> io::Result<()> {
        self.out.file.flush()?;
        self.out.file.get_ref().sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        for folder in &self.new_folders {
            File::open(folder)?.sync_all()?;
        }
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        let root = dir.path().join("export");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join(LOCK)).unwrap();
        assert!(Folder::open(&root).is_err());
        assert!(!elsewhere.exists());
    }
}
