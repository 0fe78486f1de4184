//! Proves an archive by itself: every CAR that its index names, not only the newest of an account.
//!
//! For each line of the index: the file is there and long enough, the frame decompresses to the
//! length and the hash that the line names, the CAR's root is the line's, its commit is of the DID
//! and rev of the line, and the whole tree below it is there with the right hashes. Lines that
//! older versions wrote have neither root nor hash; their CARs prove themselves by the tree. `.car`
//! files are proved in the same way.
//!
//! One CAR per thread is in memory, or mapped from the spool if it is larger than its share. An
//! archive is read and hashed once. Every thread also reads the whole index of a folder, some 15 GB
//! for 45 million repos at 350 bytes per line; the indexes of an object store are divided among
//! them.

use crate::FOLDER_INDEX;
use crate::error::ArchiveError;
use crate::frame::unpack;
use crate::line::{Line, hexadecimal};
use crate::place::{Access, Place};
use crate::read::{Files, commit_of, open_indexes};
use crate::source::{Lines, Source};
use atrepo::{Repo, RepoError};
use fetch::{Body, Pages, Spool, whole};
use observe::units::counted;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with a CAR of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Its line in the index cannot be read, or names no file of the archive.
    Line,
    /// Its file is not there.
    Missing,
    /// Its file ends before it does.
    Torn,
    /// It is not what was written: it does not decompress, or has another length, hash, root, DID
    /// or rev than its line.
    Altered,
    /// It is what was written, and not a whole repo.
    NotARepo,
    /// It is too large for the memory or the spool; nothing is known of it.
    NotChecked,
}

impl Fault {
    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Line => "bad line",
            Self::Missing => "missing",
            Self::Torn => "torn",
            Self::Altered => "altered",
            Self::NotARepo => "not a repo",
            Self::NotChecked => "not checked",
        }
    }
}

/// Something that is wrong in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its file.
    pub file: String,
    /// Where in the file it begins; of a bad line, the line's number.
    pub at: u64,
    /// The account, if the index names it.
    pub did: String,
    /// What is wrong.
    pub fault: Fault,
    /// More about it.
    pub why: String,
}

impl Finding {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            file,
            at,
            did,
            fault,
            why,
        } = self;
        json!({"file": file, "at": at, "did": did, "fault": fault.word(), "why": why})
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// CARs that are whole and as they were written.
    pub good: u64,
    /// Of these, CARs of which the index has no hash.
    pub without_hash: u64,
    /// CARs and lines with which something is wrong.
    pub bad: u64,
    /// Bytes of all CARs that were read.
    pub bytes: u64,
}

impl Checked {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            good,
            without_hash,
            bad,
            bytes,
        } = self;
        json!({"good": good, "without_hash": without_hash, "bad": bad, "bytes": bytes})
    }

    /// For people, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "whole and as written: {}, {}; {} have no hash in the index; with {} something is wrong",
            counted(self.good, "CAR"),
            observe::bytes(self.bytes),
            self.without_hash,
            self.bad
        )
    }
}

/// How an archive is checked.
pub struct Check<'c> {
    /// Where it lies.
    pub place: &'c Place,
    /// How object stores are reached.
    pub access: &'c Access,
    /// Threads.
    pub threads: usize,
    /// Memory of all threads, in bytes.
    pub memory: usize,
    /// Where larger CARs go.
    pub spool: &'c Spool,
    /// Receives each finding.
    pub found: &'c (dyn Fn(&Finding) + Sync),
    /// Receives the number of CARs that were checked.
    pub progress: &'c (dyn Fn(u64) + Sync),
    /// Whether to stop.
    pub stop: &'c (dyn Fn() -> bool + Sync),
}

/// Counts of all threads.
#[derive(Default)]
struct Counts {
    good: AtomicU64,
    without_hash: AtomicU64,
    bad: AtomicU64,
    bytes: AtomicU64,
}

/// Why a CAR is not good.
pub(crate) struct Wrong(pub(crate) Fault, pub(crate) String);

impl From<RepoError> for Wrong {
    fn from(error: RepoError) -> Self {
        Self(Fault::NotARepo, error.to_string())
    }
}

fn altered(why: impl fmt::Display) -> Wrong {
    Wrong(Fault::Altered, why.to_string())
}

impl Check<'_> {
    /// Checks it.
    ///
    /// # Errors
    /// The archive or its index cannot be read, or it is no archive.
    pub fn run(&self) -> Result<Checked, ArchiveError> {
        let source = Source::open(self.place, self.access)?;
        let mut cars = Vec::new();
        let files = Files::list(&source, |name, size| {
            cars.push((name, size));
            Ok(())
        })?;
        cars.sort();
        let (counts, threads) = (Counts::default(), self.threads.max(1));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|number| {
                    let (counts, cars, files, source) = (&counts, &cars, &files, &source);
                    scope.spawn(move || {
                        for car in cars.iter().skip(number).step_by(threads) {
                            self.car(source, car, counts);
                        }
                        self.indexes(source, files, (number, threads), counts)
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        Ok(Checked {
            good: counts.good.into_inner(),
            without_hash: counts.without_hash.into_inner(),
            bad: counts.bad.into_inner(),
            bytes: counts.bytes.into_inner(),
        })
    }

    /// Checks the lines of the indexes that fall to thread `number`: of a folder's index each
    /// `threads`th line, of the indexes of segments each `threads`th index.
    fn indexes(
        &self,
        source: &Source,
        files: &Files,
        (number, threads): (usize, usize),
        counts: &Counts,
    ) -> Result<(), ArchiveError> {
        for (at, index) in files.indexes.iter().enumerate() {
            let name = index.0.as_str();
            let is_of_all = name == FOLDER_INDEX;
            if !is_of_all && at % threads != number {
                continue;
            }
            let opened = open_indexes(source, std::slice::from_ref(index));
            let read = match opened.into_iter().next() {
                Some(Ok(content)) => {
                    let of_thread = |line: usize| !is_of_all || line % threads == number;
                    let mut lines = Lines::new(content);
                    self.lines((source, name), &mut lines, &of_thread, files, counts)
                }
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            let Err(error) = read else { continue };
            if is_of_all {
                return Err(ArchiveError::new(source.shown(name), error));
            }
            let wrong = Wrong(Fault::Line, format!("the index cannot be read: {error}"));
            self.wrong(counts, (name, 0, ""), wrong);
        }
        Ok(())
    }

    fn lines(
        &self,
        (source, name): (&Source, &str),
        lines: &mut Lines<impl io::Read>,
        is_ours: &dyn Fn(usize) -> bool,
        files: &Files,
        counts: &Counts,
    ) -> Result<(), String> {
        let mut at = 0usize;
        while let Some(line) = lines.next().map_err(|error| error.to_string())? {
            let number = at;
            at += 1;
            if !is_ours(number) || line.is_empty() {
                continue;
            }
            if (self.stop)() {
                return Ok(());
            }
            let Some(line) = Line::read(line) else {
                let wrong = Wrong(Fault::Line, "cut off, or not a line of an index".to_owned());
                self.wrong(counts, (name, number as u64 + 1, ""), wrong);
                continue;
            };
            match self.line(source, &line, files, counts) {
                Ok(()) => {
                    counts.good.fetch_add(1, Ordering::Relaxed);
                    let unhashed = u64::from(line.sha256.is_empty());
                    counts.without_hash.fetch_add(unhashed, Ordering::Relaxed);
                }
                Err(wrong) => self.wrong(counts, (&line.file, line.offset, &line.did), wrong),
            }
            (self.progress)(1);
        }
        Ok(())
    }

    fn wrong(&self, counts: &Counts, (file, at, did): (&str, u64, &str), wrong: Wrong) {
        counts.bad.fetch_add(1, Ordering::Relaxed);
        let Wrong(fault, why) = wrong;
        (self.found)(&Finding {
            file: file.to_owned(),
            at,
            did: did.to_owned(),
            fault,
            why,
        });
    }

    fn line(
        &self,
        source: &Source,
        line: &Line,
        files: &Files,
        counts: &Counts,
    ) -> Result<(), Wrong> {
        let Some(size) = files.sizes.get(&line.file).copied() else {
            return Err(Wrong(Fault::Missing, "its file is not there".to_owned()));
        };
        if line.end().is_none_or(|end| end > size) {
            return Err(Wrong(
                Fault::Torn,
                format!("its file ends at {size}, before it does"),
            ));
        }
        let (body, hash) = self.body(source, line)?;
        counts.bytes.fetch_add(line.car, Ordering::Relaxed);
        if !line.sha256.is_empty() && line.sha256 != hash {
            return Err(altered(format!(
                "its SHA-256 is {hash}, the index has {}",
                line.sha256
            )));
        }
        let repo = prove(body, &line.did, self.share())?;
        let root = repo.commit_cid().to_string();
        if !line.root.is_empty() && line.root != root {
            return Err(altered(format!(
                "its root is {root}, the index has {}",
                line.root
            )));
        }
        let rev = &repo.commit().rev;
        if *rev != line.rev {
            return Err(altered(format!(
                "its rev is {rev}, the index has {}",
                line.rev
            )));
        }
        Ok(())
    }

    /// The CAR of a line, and its hash.
    fn body(&self, source: &Source, line: &Line) -> Result<(Body, String), Wrong> {
        let frame = source.read(&line.file, line.offset, line.bytes);
        let mut hash = Sha256::new();
        let (sizes, memory) = ((line.bytes, line.car), (self.share(), self.spool));
        let body = frame.and_then(|frame| unpack(frame, sizes, memory, |read| hash.update(read)));
        match body {
            Ok(body) => Ok((body, hexadecimal(&hash.finalize()))),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Err(Wrong(Fault::NotChecked, error.to_string()))
            }
            // The store could not be asked: nothing is known of the CAR.
            Err(error)
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ArchiveError>) =>
            {
                Err(Wrong(Fault::NotChecked, error.to_string()))
            }
            Err(error) => Err(altered(error)),
        }
    }

    /// The share of one thread; the index of blocks has as much.
    fn share(&self) -> usize {
        self.memory / self.threads.max(1) / 3
    }

    /// Checks a `.car` file.
    fn car(&self, source: &Source, (name, size): &(String, u64), counts: &Counts) {
        if (self.stop)() {
            return;
        }
        let checked = || -> Result<u64, Wrong> {
            let body = source.car((name, *size), self.share(), self.spool);
            let body = body.map_err(altered)?;
            let commit = commit_of(&body).map_err(|why| Wrong(Fault::NotARepo, why))?;
            let bytes = body.len() as u64;
            prove(body, &commit.did, self.share())?;
            Ok(bytes)
        };
        match checked() {
            Ok(bytes) => {
                counts.good.fetch_add(1, Ordering::Relaxed);
                counts.without_hash.fetch_add(1, Ordering::Relaxed);
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(wrong) => self.wrong(counts, (name, 0, ""), wrong),
        }
        (self.progress)(1);
    }
}

/// The whole repo that a CAR is. The index of its blocks takes at most so many bytes of memory.
pub(crate) fn prove(body: Body, did: &str, most_memory: usize) -> Result<Repo<Body>, Wrong> {
    let mut pages = Pages::default();
    let admit = |bytes: usize| match bytes <= most_memory {
        true => Ok(()),
        false => Err(Wrong(
            Fault::NotChecked,
            format!("the index of its blocks needs {bytes} bytes of memory"),
        )),
    };
    let (repo, _) = whole::open(body, did, &mut pages, admit)?;
    repo.measure(|body: &Body| -> Result<(), Wrong> {
        pages.read_entry(body);
        Ok(())
    })?;
    Ok(repo)
}
