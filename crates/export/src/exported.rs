//! An export that is done, as people and programs read it.

use crate::plan::{MANIFEST, Manifest};
use observe::printable;
use observe::units::counted;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Lines about what is wrong; the manifest has all.
const MOST_LINES: usize = 20;

/// An export that is done.
#[derive(Debug)]
pub struct Exported {
    /// Its folder.
    pub folder: PathBuf,
    /// What is in its files.
    pub manifest: Manifest,
    /// Whether it was done before, and nothing was changed.
    pub was_done: bool,
    /// Whether the archive that it was made from has files that cannot be read to their end.
    pub is_torn: bool,
}

impl Exported {
    /// Whether the files have all that they should have.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.manifest.is_whole() && !self.is_torn
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let manifest = &self.manifest;
        json!({
            "repos": manifest.repos,
            "records": manifest.records,
            "bytes": manifest.bytes,
            "collections": manifest.collections,
            "mismatches": manifest.mismatches,
            "damaged": manifest.damaged,
        })
    }

    /// For people, a line each: what is wrong, then what there is.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (manifest, folder) = (&self.manifest, self.folder.display());
        let mismatches = manifest.mismatches.iter().take(MOST_LINES);
        let mut lines: Vec<String> = mismatches
            .map(|wrong| {
                let collections = match wrong.collections.as_slice() {
                    [] => "no collection's own table shows which".to_owned(),
                    named => named.join("; "),
                };
                format!(
                    "{}: record has {} records, the ledger counted {} ({collections})",
                    printable(&wrong.did),
                    wrong.found,
                    wrong.ledger
                )
            })
            .collect();
        let damaged = manifest.damaged.iter().take(MOST_LINES);
        lines.extend(
            damaged.map(|repo| format!("{}: {}", printable(&repo.did), printable(&repo.why))),
        );
        if self.was_done {
            lines.push(format!(
                "the export to {folder} was done before; nothing was changed"
            ));
        }
        lines.push(format!(
            "{folder} has {} of {} and {}, {}; counts and hashes: {}",
            counted(manifest.records, "record"),
            counted(manifest.repos, "repo"),
            counted(manifest.collections.len() as u64, "collection"),
            observe::bytes(manifest.bytes),
            self.folder.join(MANIFEST).display()
        ));
        match (manifest.mismatches.len(), manifest.damaged.len()) {
            (0, 0) => {}
            (0, damaged) => lines.push(format!(
                "{} damaged, and not in the files",
                counted(damaged as u64, "repo")
            )),
            (wrong, _) => lines.push(format!(
                "{} without the records that the ledger counted; skyfill verify names what is missing",
                counted(wrong as u64, "account")
            )),
        }
        lines
    }
}
