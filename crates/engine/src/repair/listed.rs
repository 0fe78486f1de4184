//! Accounts that a file lists.

use process::Failure;
use std::path::Path;

/// The accounts that a file names: one DID or handle per line, or the lines of a DID file; # begins
/// a comment.
///
/// # Errors
/// It cannot be read, or a line is neither.
pub fn accounts_of(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| match line.starts_with('[') {
            false => Ok(line.to_owned()),
            true => of_did_file(line).ok_or_else(|| {
                Failure::usage(format!(
                    "{}: {line} is not a line of a DID file",
                    path.display()
                ))
            }),
        })
        .collect()
}

/// The account of a line like ["did:plc:...","https://pds.example"].
fn of_did_file(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line.get(0)?.as_str()?.to_owned())
}
