//! The spool: what is too large for memory, in unnamed files in one folder, with a bound on their
//! size.
//!
//! Each file has an owner: the host whose body it is, or the producer whose part it is. An owner
//! may use at most as much of the spool as it leaves to others. So one alone gets half of it, and a
//! later one always finds half of the rest: an owner that fills the spool fails alone. A body for
//! which there is no space is fetched again later.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Disk space that is left to others, whatever the size of the spool.
const LEFT_FREE: u64 = 256 << 20;
/// Bytes after which the free disk space is checked again.
const ASK_EVERY: u64 = 16 << 20;
/// The type that `statfs` returns for a file system in memory (`linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// A folder for files. Clones share its bounds.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    most: u64,
    used: Mutex<Used>,
    /// Bytes written since the free space was last checked.
    unasked: AtomicU64,
}

/// Sizes of the files in the spool.
#[derive(Debug, Default)]
struct Used {
    all: u64,
    by_owner: HashMap<String, u64>,
}

/// Why a folder cannot be a spool.
#[derive(Debug)]
pub struct SpoolError {
    folder: PathBuf,
    error: io::Error,
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spool in {}: {}", self.folder.display(), self.error)
    }
}

impl std::error::Error for SpoolError {}

impl Spool {
    /// A spool of at most `most` bytes in `folder`; by default half of the free space there.
    ///
    /// # Errors
    /// No file can be created there.
    pub fn open(folder: &Path, most: Option<u64>) -> Result<Self, SpoolError> {
        let opened = tempfile::tempfile_in(folder).and_then(|_| free_bytes(folder));
        let free = opened.map_err(|error| SpoolError {
            folder: folder.to_owned(),
            error,
        })?;
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            most: most.unwrap_or(free / 2),
            used: Mutex::default(),
            unasked: AtomicU64::new(0),
        })))
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Maximum bytes of one owner, while nobody else has any.
    #[must_use]
    pub fn most_of_one(&self) -> u64 {
        self.0.most / 2
    }

    /// Whether its files are in memory: they then use memory beyond `--memory`.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        rustix::fs::statfs(&self.0.folder)
            .is_ok_and(|fs| matches!(fs.f_type.cast_unsigned(), TMPFS_MAGIC | RAMFS_MAGIC))
    }

    /// A new file of `owner`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn file(&self, owner: &str) -> io::Result<SpoolFile> {
        Ok(SpoolFile {
            file: tempfile::tempfile_in(&self.0.folder)?,
            claim: Claim {
                spool: self.clone(),
                owner: owner.to_owned(),
                bytes: 0,
            },
        })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks now and then whether the disk has space left.
    fn ask_disk(&self, bytes: u64) -> io::Result<()> {
        if self
            .0
            .unasked
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
            < ASK_EVERY
        {
            return Ok(());
        }
        self.0.unasked.store(0, Ordering::Relaxed);
        if free_bytes(&self.0.folder)? >= LEFT_FREE {
            return Ok(());
        }
        Err(full(format!(
            "{} has less than {} MiB free, the reserve that skyfill leaves; name another folder with --spool-dir",
            self.0.folder.display(),
            LEFT_FREE >> 20
        )))
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn full(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, why)
}

/// The space of one file in the spool, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    spool: Spool,
    owner: String,
    bytes: u64,
}

impl Claim {
    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.spool.ask_disk(bytes)?;
        let mut used = self.spool.used();
        let of_owner = used
            .by_owner
            .get(&self.owner)
            .copied()
            .unwrap_or(0)
            .saturating_add(bytes);
        let all = used.all.saturating_add(bytes);
        if of_owner > self.spool.0.most.saturating_sub(all) {
            return Err(full(format!(
                "{} would use {of_owner} of the {} bytes of the spool, of which others use {}; enlarge it with --spool-size",
                self.owner,
                self.spool.0.most,
                all.saturating_sub(of_owner)
            )));
        }
        used.all = all;
        used.by_owner.insert(self.owner.clone(), of_owner);
        drop(used);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut used = self.spool.used();
        used.all = used.all.saturating_sub(self.bytes);
        if let Some(of_owner) = used.by_owner.get_mut(&self.owner) {
            *of_owner = of_owner.saturating_sub(self.bytes);
            if *of_owner == 0 {
                used.by_owner.remove(&self.owner);
            }
        }
    }
}

/// A file of the spool that is being written.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    claim: Claim,
}

impl SpoolFile {
    /// Appends to the file.
    ///
    /// # Errors
    /// The spool has no space left for its owner, or the disk refuses.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.claim.grow(bytes.len() as u64)?;
        self.file.write_all(bytes)
    }

    /// The file, and the claim that reserves its space.
    #[must_use]
    pub fn into_parts(self) -> (File, Claim) {
        (self.file, self.claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_as_much_as_it_leaves_and_gives_it_back() {
        let spool = Spool::open(&std::env::temp_dir(), Some(1000)).unwrap();
        let fill = |owner: &str| {
            let mut file = spool.file(owner).unwrap();
            let mut pushed = 0;
            while file.push(&[0; 10]).is_ok() {
                pushed += 10;
            }
            (file, pushed)
        };
        let (first, of_first) = fill("a");
        assert_eq!(of_first, 500);
        // Another file of the same owner gets nothing, another owner half of the rest.
        assert_eq!(fill("a").1, 0);
        let (_second, of_second) = fill("b");
        assert_eq!(of_second, 250);
        drop(first);
        let error = {
            let (mut file, of_third) = fill("c");
            assert_eq!(of_third, 370);
            file.push(&[0; 10]).unwrap_err().to_string()
        };
        assert!(
            error.contains("c would use") && error.contains("--spool-size"),
            "{error}"
        );
        assert_eq!(spool.used().by_owner.len(), 1);
    }
}
