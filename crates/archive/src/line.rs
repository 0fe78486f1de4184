//! A line of an index: where a CAR lies, and what it has to be.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A line of the index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) did: String,
    pub(crate) pds: String,
    pub(crate) rev: String,
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// Bytes of the frame.
    pub(crate) bytes: u64,
    /// Bytes of the CAR.
    pub(crate) car: u64,
    /// CID of its commit. Earlier versions did not write it,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) root: String,
    /// nor the SHA-256 of the CAR.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sha256: String,
}

impl Line {
    /// Reads a line; nothing if it is cut off, or names a file outside of the archive.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(line).ok()?;
        let name = Path::new(&line.file);
        let is_within = name.components().count() == 1 && name.file_name().is_some();
        is_within.then_some(line)
    }

    /// The line of a CAR that lies in `file` at `offset`, in a frame of `bytes`.
    pub(crate) fn of(
        (did, pds, rev): (&str, &str, &str),
        (file, offset, bytes): (&str, u64, u64),
        car: &[u8],
    ) -> Self {
        let root = atrepo::Blocks::open(car);
        Self {
            did: did.to_owned(),
            pds: pds.to_owned(),
            rev: rev.to_owned(),
            file: file.to_owned(),
            offset,
            bytes,
            car: car.len() as u64,
            root: root.map_or_else(|_| String::new(), |(root, _)| root.to_string()),
            sha256: hexadecimal(&Sha256::digest(car)),
        }
    }

    /// Where its frame ends; nothing if no file is so long.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }

    /// The line as it is written.
    pub(crate) fn text(&self) -> Vec<u8> {
        // A struct of texts and numbers can be written.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// Bytes as text.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
