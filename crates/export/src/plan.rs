//! What an export consists of, and what was done of it: the files beside the records.
//!
//! `export.json` is the plan, written first: the accounts are cut into parts. `parts/NNNNNN.json`
//! is the manifest of a part, written when all of its files are there. `manifest.json` is written
//! last. After a crash the plan is read again. Parts with a manifest are done; files of any other
//! part are removed, and the part is done from its start.

use crate::folder::Folder;
use crate::tally::{Tallies, add_all};
use process::Failure;
use serde::{Deserialize, Serialize};

const PLAN: &str = "export.json";
/// The name of the manifest of the whole export.
pub const MANIFEST: &str = "manifest.json";
/// What a folder is of that follows the stream of records (`tee`).
pub(crate) const TEE: &str = "tee.json";
/// The version of the folder's form.
pub(crate) const VERSION: u32 = 1;

/// The form of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Parquet.
    Parquet,
    /// JSON lines in the line form, compressed with zstd.
    Jsonl,
}

impl Format {
    /// The end of the names of files.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl.zst",
        }
    }
}

/// Where records come from, as the plan has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The table `record` of this schema.
    Database(String),
    /// An archive of CARs.
    Archive,
}

/// The plan of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    version: u32,
    pub(crate) format: Format,
    pub(crate) from: From,
    /// The chosen collections; none if all are.
    pub(crate) collections: Vec<String>,
    /// Time of the export, in milliseconds since 1970.
    pub(crate) now: i64,
    /// The last account of each part but the last one, in the order of DIDs.
    pub(crate) cuts: Vec<String>,
}

/// The accounts of a part: those after `after`, up to and with `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accounts {
    pub(crate) after: String,
    /// Without it, to the last account.
    pub(crate) until: Option<String>,
}

impl Plan {
    pub(crate) fn new(
        format: Format,
        from: From,
        collections: Vec<String>,
        now: i64,
        cuts: Vec<String>,
    ) -> Self {
        Self {
            version: VERSION,
            format,
            from,
            collections,
            now,
            cuts,
        }
    }

    /// The plan in the folder, if there is one. It has to be of the same export.
    pub(crate) fn read(
        folder: &Folder,
        format: Format,
        from: &From,
        collections: &[String],
    ) -> Result<Option<Self>, Failure> {
        let Some(plan) = folder.read_json::<Self>(PLAN)? else {
            return Ok(None);
        };
        let is_same = plan.version == VERSION
            && plan.format == format
            && plan.from == *from
            && plan.collections == collections;
        if is_same {
            return Ok(Some(plan));
        }
        Err(Failure::usage(format!(
            "{} is of another export: other format, source or collections",
            folder.path(PLAN).display()
        ))
        .hint("give the same arguments to continue it, or name another folder"))
    }

    /// Writes it to a folder that holds nothing else.
    pub(crate) fn write(&self, folder: &Folder) -> Result<(), Failure> {
        folder.require_empty(PLAN)?;
        folder.write_json(PLAN, self).map(drop)
    }

    /// How many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.cuts.len() + 1
    }

    /// The accounts of a part, by its number from 0.
    pub(crate) fn accounts(&self, part: usize) -> Accounts {
        let before = part.checked_sub(1).and_then(|before| self.cuts.get(before));
        Accounts {
            after: before.cloned().unwrap_or_default(),
            until: self.cuts.get(part).cloned(),
        }
    }
}

/// The name that files of a part have in their folders, without its end.
pub(crate) fn part_name(part: usize) -> String {
    format!("part-{part:06}")
}

/// The number of the part that a file belongs to.
pub(crate) fn part_of(name: &str) -> Option<usize> {
    name.strip_prefix("part-")?.split('.').next()?.parse().ok()
}

/// Whether a file that was not finished is one of an export's.
pub(crate) fn is_ours(name: &str) -> bool {
    let number = name.strip_suffix(".json").map(str::parse::<usize>);
    [PLAN, MANIFEST, TEE].contains(&name)
        || part_of(name).is_some()
        || matches!(number, Some(Ok(_)))
}

/// The name of a part's manifest.
pub(crate) fn manifest_of(part: usize) -> String {
    format!("parts/{part:06}.json")
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the folder.
    pub path: String,
    /// Records in it.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// The hash of its content.
    pub sha256: String,
}

/// An account of which the table `record` does not have what the ledger counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The account.
    pub did: String,
    /// Records that the ledger counted when it stored the repo.
    pub ledger: u64,
    /// Records in the table.
    pub found: u64,
    /// Collections in which `record` and the collection's own table differ, with both counts.
    pub collections: Vec<String>,
}

/// A repo of an archive that is not exported, because it is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The account.
    pub did: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was done of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartManifest {
    pub(crate) accounts: Accounts,
    pub(crate) repos: u64,
    pub(crate) collections: Tallies,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) mismatches: Vec<Mismatch>,
    pub(crate) damaged: Vec<Damaged>,
}

/// A part in the manifest of the whole export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartEntry {
    manifest: String,
    files: u64,
    bytes: u64,
}

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The form of its files.
    pub format: Format,
    /// Where the records come from.
    pub from: From,
    /// Repos whose records were read.
    pub repos: u64,
    /// Records in all files.
    pub records: u64,
    /// Size of all files.
    pub bytes: u64,
    /// Counts and hashes.
    pub collections: Tallies,
    /// Accounts with other counts than the ledger's.
    pub mismatches: Vec<Mismatch>,
    /// Repos that are damaged.
    pub damaged: Vec<Damaged>,
    parts: Vec<PartEntry>,
}

impl Manifest {
    /// The manifest in the folder, if the export is done.
    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>, Failure> {
        folder.read_json(MANIFEST)
    }

    /// Adds up the manifests of all parts, and writes the sum.
    pub(crate) fn write(folder: &Folder, plan: &Plan) -> Result<Self, Failure> {
        let mut sum = Self {
            version: VERSION,
            format: plan.format,
            from: plan.from.clone(),
            repos: 0,
            records: 0,
            bytes: 0,
            collections: Tallies::new(),
            mismatches: Vec::new(),
            damaged: Vec::new(),
            parts: Vec::new(),
        };
        for part in 0..plan.parts() {
            let name = manifest_of(part);
            let done: PartManifest = folder.read_json(&name)?.ok_or_else(|| {
                Failure::new(format!("{}: missing", folder.path(&name).display()))
                    .hint_to_go_on("to make the part again,")
            })?;
            sum.repos += done.repos;
            add_all(&mut sum.collections, &done.collections);
            let bytes = done.files.iter().map(|file| file.bytes).sum();
            sum.bytes += bytes;
            sum.mismatches.extend(done.mismatches);
            sum.damaged.extend(done.damaged);
            sum.parts.push(PartEntry {
                manifest: name,
                files: done.files.len() as u64,
                bytes,
            });
        }
        sum.records = sum.collections.values().map(|tally| tally.records).sum();
        folder.write_json(MANIFEST, &sum)?;
        Ok(sum)
    }

    /// Whether everything that was to be exported was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.mismatches.is_empty() && self.damaged.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_meet_and_files_name_theirs() {
        let cuts = vec!["did:plc:c".to_owned(), "did:plc:m".to_owned()];
        let plan = Plan::new(Format::Parquet, From::Archive, Vec::new(), 0, cuts);
        let all: Vec<Accounts> = (0..plan.parts()).map(|part| plan.accounts(part)).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].after, "");
        for pair in all.windows(2) {
            assert_eq!(pair[0].until.as_ref(), Some(&pair[1].after));
        }
        assert_eq!(all[2].until, None);
        assert_eq!(part_of("part-000012.jsonl.zst"), Some(12));
        assert_eq!(part_of(&format!("{}.parquet", part_name(7))), Some(7));
        assert_eq!(part_of("manifest.json"), None);
        for (name, ours) in [
            (PLAN, true),
            ("000012.json", true),
            ("part-000012.parquet", true),
            ("notes.json", false),
            ("part.parquet", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
