//! The repos that are known, as a DID file.

use ledger::listing;
use process::{Database, Failure};
use std::io::{BufWriter, ErrorKind, Write};

/// Repos that are read from the ledger at once.
const PAGE: i64 = 10_000;

/// Writes all repos that are known to `out`, which `shown` names. If its reader goes, that is no
/// error: it has what it wanted.
///
/// # Errors
/// The database cannot be read, or `out` cannot be written to.
pub fn write_did_file(database: &Database, out: impl Write, shown: &str) -> Result<(), Failure> {
    let mut client = database.connect()?;
    let mut out = BufWriter::new(out);
    let mut after = String::new();
    let written = loop {
        let repos = listing::repos(&mut *client, &database.schema, &after, PAGE)
            .map_err(|error| database.failure(error))?;
        let Some((last, _)) = repos.last() else {
            break out.flush();
        };
        after.clone_from(last);
        let lines: String = repos
            .iter()
            .map(|(did, pds)| format!("{}\n", serde_json::json!([did, pds])))
            .collect();
        if let Err(error) = out.write_all(lines.as_bytes()) {
            break Err(error);
        }
    };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("write {shown}: {error}")))
        }
        _ => Ok(()),
    }
}
