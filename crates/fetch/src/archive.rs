//! An archive of CARs: fetched repos are kept, so that a second load needs no network.
//!
//! The archive is a folder with files `NNNNNN.cars.zst`, each with some thousand CARs end to end,
//! every one a zstd frame of its own, and `index.jsonl`, with one line per CAR: DID, PDS, rev,
//! file, offset and lengths. skyfill only appends to files and index. It writes a line of the index
//! once the CAR is in the file, so that a crash damages only the ends, which are left out when the
//! archive is opened. A folder of plain `.car` files is an archive as well.

use crate::body::{Body, Incoming};
use crate::spool::Spool;
use atrepo::{Blocks, Commit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// CARs per file.
const CARS_A_FILE: u64 = 4000;
/// Size at which a file is closed.
const FILE_BYTES: u64 = 2 << 30;
/// A fast level; a CAR consists mostly of hashes, which do not compress.
const LEVEL: i32 = 3;
const INDEX: &str = "index.jsonl";

/// What is wrong with an archive.
#[derive(Debug)]
pub struct ArchiveError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAR archive, {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for ArchiveError {}

fn failed(path: &Path, why: impl fmt::Display) -> ArchiveError {
    ArchiveError {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// A line of the index.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    did: String,
    pds: String,
    rev: String,
    file: String,
    offset: u64,
    /// Bytes of the frame.
    bytes: u64,
    /// Bytes of the CAR.
    car: u64,
}

/// Adds CARs to an archive.
pub struct ArchiveWriter {
    folder: PathBuf,
    index: File,
    open: Option<(String, File, u64, u64)>,
    next: u64,
    /// Whether something was written that may not be on the disk.
    unsynced: bool,
    /// Whether the last line of the index may be cut off.
    torn: bool,
}

impl ArchiveWriter {
    /// Opens the archive in `folder`, and creates it if it does not exist. New CARs go to new
    /// files.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let at = |error: io::Error| failed(folder, error);
        fs::create_dir_all(folder).map_err(at)?;
        let mut next = 0;
        for entry in fs::read_dir(folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".cars.zst"));
            if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
                next = next.max(number.saturating_add(1));
            }
        }
        let path = folder.join(INDEX);
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
            index,
            open: None,
            next,
            unsynced: false,
            torn: false,
        })
    }

    /// Adds a CAR.
    ///
    /// # Errors
    /// The disk is full, for example. The archive is unchanged.
    pub fn add(&mut self, did: &str, pds: &str, rev: &str, car: &[u8]) -> Result<(), ArchiveError> {
        if self.open.is_none() {
            let name = format!("{:06}.cars.zst", self.next);
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
            let mut encoder = zstd::Encoder::new(&mut *file, LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.write_all(car)?;
            encoder.finish()?;
            file.stream_position()
        };
        let end = write().map_err(|error| failed(&path, error))?;
        let line = Line {
            did: did.to_owned(),
            pds: pds.to_owned(),
            rev: rev.to_owned(),
            file: name.clone(),
            offset: *offset,
            bytes: end.saturating_sub(*offset),
            car: car.len() as u64,
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| failed(&path, error))?;
        text.push(b'\n');
        if self.torn {
            text.insert(0, b'\n');
        }
        // If the line is written in part only, the next one begins on a new line.
        self.torn = true;
        self.index
            .write_all(&text)
            .map_err(|error| failed(&self.folder.join(INDEX), error))?;
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
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&mut self) -> Result<(), ArchiveError> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        if let Some((name, file, ..)) = &self.open {
            file.sync_data()
                .map_err(|error| failed(&self.folder.join(name), error))?;
        }
        self.index
            .sync_data()
            .map_err(|error| failed(&self.folder.join(INDEX), error))
    }
}

/// The position of a CAR.
#[derive(Clone, Debug)]
struct Place {
    pds: String,
    rev: String,
    file: PathBuf,
    /// Offset and size of the frame, and size of the CAR; `None` for a file that is the CAR itself.
    frame: Option<(u64, u64, u64)>,
}

/// An archive to read from.
pub struct Archive {
    places: HashMap<String, Place>,
    notes: Vec<String>,
}

impl Archive {
    /// Opens an archive, or a folder of `.car` files. If a DID occurs more than once, the newest
    /// rev counts.
    ///
    /// # Errors
    /// The folder cannot be read, or is neither.
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let mut archive = Self {
            places: HashMap::new(),
            notes: Vec::new(),
        };
        let index = folder.join(INDEX);
        if index.exists() {
            archive.read_index(folder, &index)?;
        }
        let at = |error: io::Error| failed(folder, error);
        for entry in fs::read_dir(folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if path.extension().is_some_and(|extension| extension == "car") {
                match commit_of(&path) {
                    Ok(commit) => archive.keep(
                        commit.did,
                        Place {
                            pds: String::new(),
                            rev: commit.rev,
                            file: path,
                            frame: None,
                        },
                    ),
                    Err(why) => archive.notes.push(format!("{}: {why}", path.display())),
                }
            }
        }
        if archive.places.is_empty() && archive.notes.is_empty() {
            return Err(failed(
                folder,
                "contains neither index.jsonl nor .car files",
            ));
        }
        Ok(archive)
    }

    fn read_index(&mut self, folder: &Path, path: &Path) -> Result<(), ArchiveError> {
        let file = File::open(path).map_err(|error| failed(path, error))?;
        let mut sizes: HashMap<String, u64> = HashMap::new();
        for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.map_err(|error| failed(path, error))?;
            if line.is_empty() {
                continue;
            }
            let number = number.saturating_add(1);
            let Ok(line) = serde_json::from_slice::<Line>(&line) else {
                self.notes
                    .push(format!("{}, line {number}: torn, left out", path.display()));
                continue;
            };
            let name = Path::new(&line.file);
            if name.components().count() != 1 || name.file_name().is_none() {
                self.notes.push(format!(
                    "{}, line {number}: its file is not in the archive",
                    path.display()
                ));
                continue;
            }
            let file = folder.join(name);
            let size = *sizes
                .entry(line.file.clone())
                .or_insert_with(|| fs::metadata(&file).map_or(0, |m| m.len()));
            if line
                .offset
                .checked_add(line.bytes)
                .is_none_or(|end| end > size)
            {
                self.notes.push(format!(
                    "{} is torn: the CAR of {} at {} is incomplete, left out",
                    file.display(),
                    line.did,
                    line.offset
                ));
                continue;
            }
            let frame = Some((line.offset, line.bytes, line.car));
            self.keep(
                line.did,
                Place {
                    pds: line.pds,
                    rev: line.rev,
                    file,
                    frame,
                },
            );
        }
        Ok(())
    }

    fn keep(&mut self, did: String, place: Place) {
        let newer = self
            .places
            .get(&did)
            .is_none_or(|known| known.rev <= place.rev);
        if newer && atrepo::syntax::is_did(&did) {
            self.places.insert(did, place);
        }
    }

    /// What is torn or cannot be read, and was left out.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The accounts in it, with the PDS that each was fetched from, if known.
    pub fn dids(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places
            .iter()
            .map(|(did, place)| (did.as_str(), place.pds.as_str()))
    }

    /// The rev of an account's CAR.
    #[must_use]
    pub fn rev(&self, did: &str) -> Option<&str> {
        self.places.get(did).map(|place| place.rev.as_str())
    }

    /// The CAR of an account; `None` if it is not in the archive. A CAR larger than `most_memory`
    /// goes to `spool` and is mapped.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(
        &self,
        did: &str,
        most_memory: usize,
        spool: &Spool,
    ) -> Result<Option<Body>, ArchiveError> {
        let Some(place) = self.places.get(did) else {
            return Ok(None);
        };
        let at = |error: io::Error| failed(&place.file, format!("the CAR of {did}: {error}"));
        let mut file = File::open(&place.file).map_err(at)?;
        let Some((offset, bytes, car)) = place.frame else {
            return Body::of_file(&file).map(Some).map_err(at);
        };
        file.seek(SeekFrom::Start(offset)).map_err(at)?;
        let mut decoder = zstd::Decoder::new(file.take(bytes))
            .map_err(at)?
            .single_frame();
        let mut body = Incoming::new(most_memory, spool, "the archive");
        let mut chunk = vec![0; 256 << 10];
        loop {
            let length = decoder.read(&mut chunk).map_err(at)?;
            if length == 0 {
                break;
            }
            body.push(chunk.get(..length).unwrap_or_default())
                .map_err(at)?;
            if body.total() > car {
                return Err(failed(
                    &place.file,
                    format!("the CAR of {did} is longer than its index says"),
                ));
            }
        }
        if body.total() != car {
            return Err(failed(&place.file, format!("the CAR of {did} is cut off")));
        }
        body.finish().map(Some).map_err(at)
    }
}

/// The commit of a `.car` file, or why there is none.
fn commit_of(path: &Path) -> Result<Commit, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let body = Body::of_file(&file).map_err(|error| error.to_string())?;
    let (root, blocks) = Blocks::open(&body).map_err(|error| error.to_string())?;
    for block in blocks {
        let (cid, _, bytes) = block.map_err(|error| error.to_string())?;
        if cid == root {
            return Commit::parse(bytes).map_err(str::to_owned);
        }
    }
    Err("the commit is not in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_reads_back_and_what_is_torn_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let car: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut writer = ArchiveWriter::open(folder.path()).unwrap();
        writer
            .add("did:plc:a", "https://a", "3jzfcijpj2z2a", &car)
            .unwrap();
        writer
            .add("did:plc:b", "https://a", "3jzfcijpj2z2a", b"old")
            .unwrap();
        drop(writer);
        let mut writer = ArchiveWriter::open(folder.path()).unwrap();
        writer
            .add("did:plc:b", "https://b", "3jzfcijpj2z2b", b"new")
            .unwrap();
        writer.sync().unwrap();
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        let read = |archive: &Archive, did: &str| {
            archive
                .read(did, 1000, &spool)
                .unwrap()
                .map(|body| body.to_vec())
        };
        let archive = Archive::open(folder.path()).unwrap();
        assert_eq!(read(&archive, "did:plc:a").as_deref(), Some(&car[..]));
        assert_eq!(read(&archive, "did:plc:b").as_deref(), Some(&b"new"[..]));
        assert_eq!(read(&archive, "did:plc:c"), None);
        // Cut the last file and the last line, as a crash would.
        let last = folder.path().join("000001.cars.zst");
        let bytes = fs::read(&last).unwrap();
        fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
        let index = folder.path().join(INDEX);
        let mut text = fs::read(&index).unwrap();
        text.extend_from_slice(b"{\"did\":\"did:plc:c\"");
        fs::write(&index, &text).unwrap();
        let archive = Archive::open(folder.path()).unwrap();
        assert_eq!(archive.notes().len(), 2, "{:?}", archive.notes());
        assert_eq!(read(&archive, "did:plc:b").as_deref(), Some(&b"old"[..]));
        drop(ArchiveWriter::open(folder.path()).unwrap());
        assert!(fs::read(&index).unwrap().ends_with(b"\n"));
        // A byte that changed.
        let first = folder.path().join("000000.cars.zst");
        let mut bytes = fs::read(&first).unwrap();
        bytes[40] ^= 1;
        fs::write(&first, &bytes).unwrap();
        assert!(
            Archive::open(folder.path())
                .unwrap()
                .read(
                    "did:plc:a",
                    1000,
                    &Spool::open(&std::env::temp_dir(), None).unwrap()
                )
                .is_err()
        );
    }
}
