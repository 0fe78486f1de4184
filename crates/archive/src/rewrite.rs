//! Merges archives into one, and prunes one to the newest CAR of each account.
//!
//! Both copy: each CAR is read, proved to be a whole repo of its DID and rev, and added to new
//! segments. Only when these are durable does pruning remove what it copied from, first from the
//! index, then the segment itself. A repo is therefore in at least one segment at any moment,
//! whatever ends the process; if it is in two, the next pruning removes one. A CAR that cannot be
//! proved is named, and its segment stays.
//!
//! Pruning rewrites segments that hold CARs which are not the newest of their accounts, and joins
//! small ones. It leaves plain `.car` files alone. In a folder it needs as much free space as the
//! CARs that it copies, since all old segments go at its end.

use crate::catalog::Entry;
use crate::check::{Wrong, prove};
use crate::error::ArchiveError;
use crate::folder::{self, Lock};
use crate::in_order::InOrder;
use crate::line::Line;
use crate::place::{Access, Place};
use crate::read::{Archive, OpenOptions, open_indexes};
use crate::source::{Lines, Source};
use crate::write::{ArchiveWriter, SEGMENT_BYTES};
use crate::{FOLDER_INDEX, INDEX, SEGMENT};
use crate::{Fault, Finding};
use atrepo::Repo;
use fetch::{Body, Spool};
use observe::units::counted;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Segments of an object store that are copied before they are removed: so many more are there
/// meanwhile.
const AT_ONCE: usize = 16;
/// A smaller segment is joined with others.
const SMALL: u64 = SEGMENT_BYTES / 8;
/// An object of a segment without an index is of a writer at work, or, after so long, of one that
/// was killed.
const LEFT_OVER: Duration = Duration::from_secs(24 * 3600);
/// Accounts that are read from an index at once.
const PAGE: usize = 500;

/// How archives are merged or pruned.
pub struct Rewrite<'r> {
    /// How object stores are reached.
    pub access: &'r Access,
    /// Where larger CARs go.
    pub spool: &'r Spool,
    /// Memory of the process.
    pub memory: u64,
    /// Receives each CAR that cannot be copied.
    pub found: &'r dyn Fn(&Finding),
    /// Receives the number of CARs that were dealt with.
    pub progress: &'r dyn Fn(u64),
    /// Is called before segments are removed.
    pub removing: &'r dyn Fn(),
    /// Whether to stop.
    pub stop: &'r dyn Fn() -> bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// CARs that were copied.
    pub copied: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// CARs that were left where they are, since what is there is as new.
    pub left: u64,
    /// CARs that cannot be copied: see the findings.
    pub bad: u64,
    /// Segments that were removed.
    pub removed: u64,
}

impl Rewritten {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            copied,
            bytes,
            left,
            bad,
            removed,
        } = self;
        json!({"copied": copied, "bytes": bytes, "left": left, "bad": bad, "removed": removed})
    }

    /// For people, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            copied,
            bytes,
            left,
            bad,
            removed,
        } = self;
        format!(
            "{} copied, {}; {left} were there as new, {bad} cannot be copied; {} removed",
            counted(*copied, "CAR"),
            observe::bytes(*bytes),
            counted(*removed, "segment")
        )
    }
}

impl Rewrite<'_> {
    fn open(&self, place: &Place) -> Result<Archive, ArchiveError> {
        Archive::open(
            place,
            &OpenOptions {
                access: self.access.clone(),
                spool: self.spool.clone(),
                memory: self.memory,
            },
        )
    }

    /// Adds to the archive at `into` the newest CAR of each account in `from`, unless what it has
    /// is as new. Nothing is removed anywhere. What was noted of each archive goes to `note`.
    ///
    /// # Errors
    /// An archive cannot be read or written.
    pub fn merge(
        &self,
        from: &[Place],
        into: &Place,
        note: &dyn Fn(&str),
    ) -> Result<Rewritten, ArchiveError> {
        let writer = Mutex::new(ArchiveWriter::open(into, self.access, self.memory)?);
        let target = self.open(into)?;
        let sources = from.iter().map(|place| self.open(place));
        let sources: Vec<Archive> = sources.collect::<Result<_, _>>()?;
        for archive in sources.iter().chain([&target]) {
            archive.notes().for_each(|text| note(&text));
        }
        let mut done = Rewritten::default();
        for (number, source) in sources.iter().enumerate() {
            let is_wanted = |entry: &Entry| -> Result<bool, ArchiveError> {
                if target.rev(&entry.did)?.is_some_and(|rev| rev >= entry.rev) {
                    return Ok(false);
                }
                // Of equal ones the first counts.
                for (other, source) in sources.iter().enumerate() {
                    if let Some(rev) = source.rev(&entry.did)?
                        && (rev > entry.rev || rev == entry.rev && other < number)
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            self.copy_all(source, &writer, &is_wanted, &mut done)?;
        }
        ArchiveWriter::sync(&writer)?;
        Ok(done)
    }

    /// Copies the entries of an archive that are wanted, in the order in which they lie there.
    fn copy_all(
        &self,
        source: &Archive,
        writer: &Mutex<ArchiveWriter>,
        is_wanted: &dyn Fn(&Entry) -> Result<bool, ArchiveError>,
        done: &mut Rewritten,
    ) -> Result<(), ArchiveError> {
        let mut at = InOrder::default();
        source.expect_order(true);
        loop {
            let dids = source.in_order(&mut at, PAGE)?;
            if dids.is_empty() {
                break;
            }
            for did in dids {
                if (self.stop)() {
                    return Ok(());
                }
                if let Some(entry) = source.entry(&did)? {
                    self.copy(source, &entry, writer, is_wanted(&entry)?, done)?;
                }
            }
        }
        source.expect_order(false);
        for entry in source.plain() {
            if (self.stop)() {
                return Ok(());
            }
            let entry = entry?;
            self.copy(source, &entry, writer, is_wanted(&entry)?, done)?;
        }
        Ok(())
    }

    /// Copies a CAR if it is wanted; whether it is nothing that has to stay.
    fn copy(
        &self,
        source: &Archive,
        entry: &Entry,
        writer: &Mutex<ArchiveWriter>,
        is_wanted: bool,
        done: &mut Rewritten,
    ) -> Result<bool, ArchiveError> {
        (self.progress)(1);
        if !is_wanted {
            done.left += 1;
            return Ok(true);
        }
        let Some(repo) = self.proved(source, entry, done) else {
            return Ok(false);
        };
        let car: &[u8] = repo.car();
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.add(&entry.did, &entry.pds, &entry.rev, car)?;
        done.copied += 1;
        done.bytes += car.len() as u64;
        Ok(true)
    }

    /// The repo of an entry, if it is what the index says.
    fn proved(&self, source: &Archive, entry: &Entry, done: &mut Rewritten) -> Option<Repo<Body>> {
        let share = usize::try_from(self.memory / 4).unwrap_or(usize::MAX);
        let proved = || -> Result<Repo<Body>, Wrong> {
            let body = source.read(&entry.did, share, self.spool);
            let body = body.map_err(|error| Wrong(Fault::Altered, error.to_string()))?;
            let gone = || Wrong(Fault::Missing, "it is not there any more".to_owned());
            let repo = prove(body.ok_or_else(gone)?, &entry.did, share)?;
            let rev = &repo.commit().rev;
            match *rev == entry.rev {
                true => Ok(repo),
                false => Err(Wrong(
                    Fault::Altered,
                    format!("its rev is {rev}, the index has {}", entry.rev),
                )),
            }
        };
        proved()
            .map_err(|Wrong(fault, why)| {
                done.bad += 1;
                (self.found)(&Finding {
                    file: entry.file.clone(),
                    at: entry.offset,
                    did: entry.did.clone(),
                    fault,
                    why,
                });
            })
            .ok()
    }

    /// Removes from an archive the CARs that are not the newest of their accounts.
    ///
    /// # Errors
    /// It cannot be read or written, or another process writes it in a folder.
    pub fn prune(&self, place: &Place, note: &dyn Fn(&str)) -> Result<Rewritten, ArchiveError> {
        let lock = match place {
            Place::Folder(folder) => Some(Lock::take(folder, true)?),
            Place::Bucket(_) => None,
        };
        let archive = self.open(place)?;
        archive.notes().for_each(|text| note(&text));
        let writer = ArchiveWriter::open_locked(place, self.access, self.memory, lock)?;
        let writer = Mutex::new(writer);
        let segments = Segments::of(&archive)?;
        let mut done = Rewritten::default();
        archive.expect_order(true);
        let mut copied = Vec::new();
        for index in archive.indexes() {
            let is_of_all = index.0 == FOLDER_INDEX;
            // An object that holds the index of all cannot be rewritten without a moment at which
            // others read the old one.
            if is_of_all && place.folder().is_none() {
                continue;
            }
            let kept = self.copy_segments(&archive, index, &segments, &writer, &mut done)?;
            if (self.stop)() {
                ArchiveWriter::sync(&writer)?;
                return Ok(done);
            }
            if !is_of_all {
                if let Some(kept) = kept {
                    copied.push((index.0.clone(), kept));
                }
                if copied.len() >= AT_ONCE {
                    self.remove(&archive, &mut copied, &writer, &mut done)?;
                }
                continue;
            }
            let kept = kept.unwrap_or_default();
            // Those of the index of all go at once.
            ArchiveWriter::sync(&writer)?;
            (self.removing)();
            if let Place::Folder(folder) = place {
                let goes = |file: &str| segments.is_rewritten(file) && !kept.contains(file);
                done.removed += folder::forget(folder, &goes)?;
            }
        }
        self.remove(&archive, &mut copied, &writer, &mut done)?;
        if let Source::Objects(objects) = archive.source() {
            let mut left_over = Vec::new();
            let mut indexes = HashSet::new();
            objects.list(|found| {
                if let Some(name) = found.name.strip_suffix(INDEX) {
                    indexes.insert(name.to_owned());
                } else if let Some(name) = found.name.strip_suffix(SEGMENT)
                    && found.modified.elapsed().is_ok_and(|age| age > LEFT_OVER)
                {
                    left_over.push(name.to_owned());
                }
                Ok(())
            })?;
            left_over.retain(|name| !indexes.contains(name) && !segments.0.contains_key(name));
            for name in left_over {
                objects.delete(&format!("{name}{SEGMENT}"))?;
                done.removed += 1;
            }
        }
        Ok(done)
    }

    /// Copies what is the newest of the segments of an index that are rewritten; nothing if none
    /// is. The segments that have to stay all the same.
    fn copy_segments(
        &self,
        archive: &Archive,
        index: &(String, u64),
        segments: &Segments,
        writer: &Mutex<ArchiveWriter>,
        done: &mut Rewritten,
    ) -> Result<Option<HashSet<String>>, ArchiveError> {
        let (mut kept, mut any) = (HashSet::new(), false);
        for line in lines(archive, index).flatten() {
            if !segments.is_rewritten(&line.file) {
                continue;
            }
            any = true;
            if (self.stop)() {
                return Ok(None);
            }
            let stays = match archive.entry(&line.did)? {
                // It is torn, or no line that the archive can keep.
                None => false,
                Some(entry) if is_of(&entry, &line) => {
                    !self.copy(archive, &entry, writer, true, done)?
                }
                // What takes its place has to be good.
                Some(entry) => self.proved(archive, &entry, done).is_none(),
            };
            if stays {
                kept.insert(line.file);
            }
        }
        Ok(any.then_some(kept))
    }

    /// Removes segments with their indexes, once what was copied from them is durable.
    fn remove(
        &self,
        archive: &Archive,
        copied: &mut Vec<(String, HashSet<String>)>,
        writer: &Mutex<ArchiveWriter>,
        done: &mut Rewritten,
    ) -> Result<(), ArchiveError> {
        if copied.is_empty() {
            return Ok(());
        }
        ArchiveWriter::sync(writer)?;
        (self.removing)();
        for (index, kept) in copied.drain(..) {
            let name = index.strip_suffix(INDEX).unwrap_or(&index);
            let segment = format!("{name}{SEGMENT}");
            if kept.is_empty() {
                archive.source().remove(&index)?;
                archive.source().remove(&segment)?;
                done.removed += 1;
            }
        }
        Ok(())
    }
}

fn is_of(entry: &Entry, line: &Line) -> bool {
    !entry.is_plain && entry.file == line.file && entry.offset == line.offset
}

/// A line of an index, or the rest of it, that cannot be read. Those who open the archive learn of
/// it.
struct Unreadable;

/// The lines of an index.
fn lines(
    archive: &Archive,
    index: &(String, u64),
) -> impl Iterator<Item = Result<Line, Unreadable>> {
    let opened = open_indexes(archive.source(), std::slice::from_ref(index));
    let mut lines = opened
        .into_iter()
        .next()
        .and_then(Result::ok)
        .map(Lines::new);
    std::iter::from_fn(move || {
        let read = lines.as_mut()?.next();
        let Ok(line) = read else {
            lines = None;
            return Some(Err(Unreadable));
        };
        line.map(|line| Line::read(line).ok_or(Unreadable))
    })
}

/// The segments of an archive by what is to be done with them.
struct Segments(HashMap<String, Counts>);

#[derive(Default)]
struct Counts {
    lines: u64,
    newest: u64,
    bytes: u64,
}

impl Segments {
    fn of(archive: &Archive) -> Result<Self, ArchiveError> {
        let mut segments = HashMap::<String, Counts>::new();
        for index in archive.indexes() {
            let own = index
                .0
                .strip_suffix(INDEX)
                .map(|name| format!("{name}{SEGMENT}"));
            let mut is_whole = true;
            for line in lines(archive, index) {
                let Ok(line) = line else {
                    is_whole = false;
                    continue;
                };
                // The index of one segment speaks for no other.
                if own.as_ref().is_some_and(|own| *own != line.file) {
                    continue;
                }
                let is_newest = archive.is_newest(&line)?;
                let size = archive.sizes().get(&line.file).copied();
                let counts = segments.entry(line.file).or_default();
                counts.lines += 1;
                counts.newest += u64::from(is_newest);
                counts.bytes = size.unwrap_or(0);
            }
            // What its lost lines named would be lost for good.
            if let Some(own) = own.filter(|_| !is_whole) {
                segments.remove(&own);
            }
        }
        // One alone is not joined.
        let is_small = |counts: &&Counts| counts.bytes < SMALL && counts.newest == counts.lines;
        let small = segments.values().filter(is_small).count();
        segments
            .retain(|_, counts| counts.newest < counts.lines || small > 1 && is_small(&&*counts));
        Ok(Self(segments))
    }

    /// Whether a segment is rewritten.
    fn is_rewritten(&self, file: &str) -> bool {
        self.0.contains_key(file)
    }
}
