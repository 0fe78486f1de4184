//! Records of an archive of CARs, repo by repo, each proved by its own commit.
//!
//! A repo is read when its tree is complete, in order, and has the hashes that its commit names. A
//! repo that is damaged is left out as a whole, and named. Records are not checked against lexicons
//! before they are exported: those of any collection pass through as JSON.
//!
//! Memory: one repo at a time in each part. A CAR that is larger than its share is mapped from the
//! spool, and the index of its blocks has to fit in that share.

use crate::encode::Source;
use crate::part::Part;
use crate::plan::{Accounts, Damaged};
use archive::{Archive, ArchiveError};
use atrepo::{Entry, Repo, RepoError};
use fetch::{Body, Pages, Spool, whole};
use observe::Counter;
use process::{Failure, Stop};
use rows::datetime;
use std::fmt;

/// Bytes of a CAR per record, about: real repos have 300 to 500.
const BYTES_PER_RECORD: u64 = 300;

/// The records of an archive, about.
pub(crate) fn records(archive: &Archive) -> u64 {
    archive.bytes() / BYTES_PER_RECORD
}

/// The accounts at which an archive is cut into parts.
pub(crate) fn plan(
    archive: &Archive,
    part_records: u64,
    least_parts: u64,
) -> Result<Vec<String>, Failure> {
    let of_part =
        (records(archive) / least_parts.max(1)).clamp(1_000_000.min(part_records), part_records);
    let (mut cuts, mut sum) = (Vec::new(), 0u64);
    for account in archive.after("") {
        let account = account.map_err(Failure::new)?;
        sum += account.bytes / BYTES_PER_RECORD + 1;
        if sum >= of_part {
            cuts.push(account.did);
            sum = 0;
        }
    }
    // The last part is open at its end.
    if sum == 0 {
        cuts.pop();
    }
    Ok(cuts)
}

/// Why a repo is not read.
enum Why {
    Repo(RepoError),
    Archive(ArchiveError),
    /// The index of its blocks has so many bytes.
    TooLarge(usize),
    Failed(Failure),
    Stopped,
}

impl From<RepoError> for Why {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repo(error) => error.fmt(f),
            Self::Archive(error) => error.fmt(f),
            Self::TooLarge(bytes) => write!(
                f,
                "the index of its blocks needs {bytes} bytes of memory, more than --memory leaves to it"
            ),
            Self::Failed(failure) => f.write_str(failure.message()),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// How records of an archive are read.
pub(crate) struct Reader<'r> {
    pub(crate) archive: &'r Archive,
    pub(crate) spool: &'r Spool,
    /// Memory for one repo.
    pub(crate) memory: usize,
    /// Time of the export.
    pub(crate) now: i64,
    pub(crate) counter: &'r Counter,
    pub(crate) stop: &'r Stop,
}

impl Reader<'_> {
    /// Reads all repos of a part; false if it was stopped.
    pub(crate) fn read(&self, part: &mut Part<'_>, accounts: Accounts) -> Result<bool, Failure> {
        let Accounts { after, until } = accounts;
        for account in self.archive.after(&after) {
            let did = account.map_err(Failure::new)?.did;
            if until.as_deref().is_some_and(|until| did.as_str() > until) {
                break;
            }
            if self.stop.is_set() {
                return Ok(false);
            }
            let why = match self.repo(&did, part) {
                Ok(()) => {
                    part.count_repo();
                    continue;
                }
                Err(Why::Stopped) => return Ok(false),
                Err(Why::Failed(failure)) => return Err(failure),
                Err(why) => why.to_string(),
            };
            tracing::warn!("{did}: {why}; it is left out");
            part.note_damaged(Damaged { did, why });
        }
        Ok(true)
    }

    fn repo(&self, did: &str, part: &mut Part<'_>) -> Result<(), Why> {
        let body = match self.archive.read(did, self.memory, self.spool) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Why::Archive(error)),
        };
        let mut pages = Pages::default();
        let admit = |bytes: usize| match bytes <= self.memory {
            true => Ok(()),
            false => Err(Why::TooLarge(bytes)),
        };
        let (repo, _) = whole::open(body, did, &mut pages, admit)?;
        // The whole tree first: of a damaged repo nothing is exported.
        repo.measure(|body: &Body| -> Result<(), Why> {
            pages.read_entry(body);
            Ok(())
        })?;
        self.records(&repo, part, &mut pages)
    }

    fn records(
        &self,
        repo: &Repo<Body>,
        part: &mut Part<'_>,
        pages: &mut Pages,
    ) -> Result<(), Why> {
        let (did, rev) = (repo.did(), repo.commit().rev.as_str());
        let (mut uri, mut indexed_at, mut entries) = (String::new(), String::new(), 0u64);
        repo.entries(|entry| -> Result<(), Why> {
            entries += 1;
            pages.read_entry(repo.car());
            if entries.is_multiple_of(10_000) && self.stop.is_set() {
                return Err(Why::Stopped);
            }
            let (collection, rkey, cid, value) = match entry {
                Entry::Record {
                    collection,
                    rkey,
                    cid,
                    value,
                    ..
                } => (collection, rkey, cid, value.as_map()),
                Entry::BadRecord { key, .. } => {
                    let collection = key.split(|byte| *byte == b'/').next().unwrap_or_default();
                    if let Ok(collection) = std::str::from_utf8(collection)
                        && part.has(collection)
                    {
                        part.count_unreadable(collection);
                    }
                    return Ok(());
                }
                Entry::BadKey { .. } => {
                    part.count_unreadable(crate::partitions::OTHERS);
                    return Ok(());
                }
            };
            let Some(value) = value.filter(|_| part.has(collection)) else {
                return Ok(());
            };
            uri.clear();
            uri.extend(["at://", did, "/", collection, "/", rkey]);
            indexed_at.clear();
            let created_at = rows::created_at(&value);
            datetime::append(
                datetime::indexed_at(created_at, rkey, self.now),
                &mut indexed_at,
            );
            let source = Source {
                did,
                collection,
                rkey,
                uri: &uri,
                cid: &cid.to_string(),
                rev: Some(rev),
                indexed_at: &indexed_at,
            };
            part.add_archived(&source, value).map_err(Why::Failed)
        })?;
        self.counter.add(entries);
        Ok(())
    }
}
