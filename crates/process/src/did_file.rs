//! A DID file that is opened to be read: its first lines are checked before work begins.

use crate::failure::Failure;
use discover::did_file;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Bytes of a DID file that are looked at before work begins: some hundred lines.
const HEAD: usize = 64 << 10;

/// A DID file that is open.
pub struct DidFile {
    /// Its path, for people.
    pub shown: String,
    /// Its lines, from the first one.
    pub reader: BufReader<File>,
}

impl DidFile {
    /// Opens it, and checks its first lines without consuming any: it may be a pipe.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let hint = r#"a DID file has one JSON array per line: ["did:plc:...","https://pds.example"]; skyfill unpack-as-did-file converts a DID cache to one"#;
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot read {shown}: {error}")).hint(hint)
        };
        let mut reader = BufReader::with_capacity(HEAD, File::open(path).map_err(failed)?);
        let head = reader.fill_buf().map_err(failed)?;
        if let Some(bad) = did_file::refused_head(head) {
            return Err(Failure::usage(format!("{shown} is not a DID file: {bad}")).hint(hint));
        }
        Ok(Self { shown, reader })
    }
}
