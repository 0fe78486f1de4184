//! Certificates: what a database holds and lacks, and its verdict, as JSON.
//! docs/reference/certificate.md explains the fields.

use crate::repo_tree::RepoTree;
use ledger::coverage::Coverage;
use ledger::handles::HandleCounts;
use ledger::proofs::Counts;
use ledger::states::State;
use ledger::verified::Which;
use process::Database;
use process::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use verify::Report;
use verify::verdict::Judgment;

/// Where a certificate is going to be: claimed before the work begins, so that it cannot fail for
/// the want of a folder when the work is done.
pub(crate) struct Place {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

/// Checks that a certificate can be written to `path`.
///
/// # Errors
/// It cannot.
pub fn require_place(path: &Path) -> Result<(), Failure> {
    Place::claim(path).map(drop)
}

impl Place {
    /// Checks that a file can be written to `path`. What is there stays until [`Place::write`].
    pub(crate) fn claim(path: &Path) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let refused = |why: &dyn std::fmt::Display| {
            Failure::new(format!(
                "the certificate cannot be written to {}: {why}",
                path.display()
            ))
            .hint("name a file in a writable folder with --certificate; nothing was done yet")
        };
        if path.is_dir() {
            return Err(refused(&"it is a folder"));
        }
        let file = tempfile::Builder::new()
            .prefix(".skyfill-certificate-")
            .tempfile_in(folder)
            .map_err(|error| {
                // The name of the temporary file says nothing to anybody.
                let text = error.to_string();
                refused(&text.split(" at path ").next().unwrap_or(&text))
            })?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        })
    }

    /// Puts the certificate there, as a whole or not at all.
    pub(crate) fn write(mut self, certificate: &Value) -> Result<(), Failure> {
        self.append(&format!("{certificate:#}\n"))?;
        self.keep()
    }

    /// Appends to what will be there.
    pub(crate) fn append(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| not_written(&self.path, &error))
    }

    /// Puts what was appended there, as a whole or not at all.
    pub(crate) fn keep(self) -> Result<(), Failure> {
        let Self { path, file } = self;
        let failed = |error: std::io::Error| not_written(&path, &error);
        let file = file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        // A temporary file is its owner's alone; a certificate is for others to read.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = std::fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(readable).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "the certificate cannot be written to {}: {error}",
        path.display()
    ))
    .hint_to_run("fix this, then write it with", "verify --certificate FILE")
}

/// The file with the list of repos beside a certificate.
pub(crate) fn repos_beside(certificate: &Path) -> PathBuf {
    let mut name = certificate.as_os_str().to_owned();
    name.push(".repos");
    name.into()
}

/// Counts of signatures that were checked.
#[derive(Clone, Copy, Debug)]
pub struct Signatures {
    /// Signatures that hold.
    pub good: u64,
    /// Signatures that an older key of the account made.
    pub older: u64,
    /// Signatures that could not be checked.
    pub unchecked: u64,
}

/// What the ledger says that is loaded and what is not.
///
/// # Errors
/// The database cannot be used, or a newer skyfill has worked on it.
pub fn coverage(database: &Database) -> Result<Coverage, Failure> {
    let mut client = database.connect()?;
    Coverage::read(&mut *client, &database.schema).map_err(|error| database.failure(error))
}

/// The certificate.
pub(crate) fn certificate(
    database: &Database,
    report: &Report,
    coverage: &Coverage,
    judgment: &Judgment,
    (signatures, which): (Option<Signatures>, &Which),
    only: &[String],
    tree: Option<&RepoTree>,
) -> Result<Value, Failure> {
    let mut client = database.connect()?;
    let verified = ledger::verified::count(&mut *client, &database.schema)
        .map_err(|error| database.failure(error))?;
    let compared: u64 = report.hosts.values().map(|host| host.verified).sum();
    let hosts: Vec<Value> = report
        .hosts
        .iter()
        .map(|(host, counts)| {
            json!({
                "host": host, "repos": words(&counts.states), "verified": counts.verified,
                "differing": counts.differing, "records": counts.records, "skipped": counts.skipped,
            })
        })
        .collect();
    Ok(json!({
        "verdict": judgment.verdict.word(),
        "meaning": judgment.verdict.meaning(),
        "missing": judgment.missing,
        "scope": judgment.scope,
        "outside": judgment.outside,
        "differences": report.differences,
        "onlyAccounts": (!only.is_empty()).then_some(only),
        "database": database.shown(),
        "schema": database.schema,
        "checkedAt": now(),
        "skyfill": env!("CARGO_PKG_VERSION"),
        "run": run(coverage),
        "discovery": discovery(coverage),
        "repos": words(&coverage.repos),
        "contested": coverage.contested,
        "unproved": unproved(coverage, signatures),
        "proof": proof(&coverage.proofs),
        "handles": handles(&coverage.handles),
        "signatures": signatures.map(|checked| json!({
            "good": checked.good, "olderKey": checked.older, "unchecked": checked.unchecked,
        })),
        "neverLoaded": {
            "accounts": report.never_loaded.len(), "rows": report.never_loaded.values().sum::<u64>(),
        },
        "comparison": {
            "extent": match which {
                Which::All(_) => "all",
                Which::Changed => "changes",
                Which::Named(_) => "accounts",
            },
            "compared": compared,
            "equal": verified.equal,
            "others": verified.others,
            "oldest": verified.oldest,
            "allComparedAt": verified.all_at,
        },
        "repoTree": tree.map(RepoTree::json),
        "hosts": hosts,
    }))
}

/// The last run, as JSON.
fn run(coverage: &Coverage) -> Option<Value> {
    let run = coverage.run.as_ref()?;
    Some(json!({
        "id": run.id, "now": run.now, "mode": run.mode.word(), "phase": run.phase.word(),
        "collections": run.collections, "notifications": run.notifications, "since": run.since,
    }))
}

/// The last pass over all hosts, as JSON.
fn discovery(coverage: &Coverage) -> Option<Value> {
    let discovery = coverage.discovery.as_ref()?;
    let not_listed: Vec<Value> = discovery
        .not_listed
        .iter()
        .map(|(host, reason)| json!({"host": host, "reason": reason}))
        .collect();
    Some(json!({
        "ended": discovery.is_ended, "hostsListed": discovery.listed, "hostsNotListed": not_listed,
        "hostsOptedOut": discovery.opted_out,
    }))
}

/// Accounts whose signature nobody has checked.
pub fn unproved(coverage: &Coverage, signatures: Option<Signatures>) -> u64 {
    signatures.map_or(coverage.proofs.unproved(), |checked| checked.unchecked)
}

/// Who vouches for what is stored, as JSON.
pub fn proof(counts: &Counts) -> Value {
    json!({
        "signed": counts.signed, "olderKey": counts.older_key, "unproved": counts.unchecked, "forged": counts.forged,
        "forks": counts.forks,
    })
}

/// Handles by state, as JSON.
pub fn handles(counts: &HandleCounts) -> Value {
    json!({
        "verified": counts.verified, "claimed": counts.claimed, "unconfirmed": counts.mismatch,
        "unreachable": counts.unreachable, "withoutDocument": counts.without_document,
    })
}

/// States by their words, as JSON has them.
pub fn words(states: &BTreeMap<State, u64>) -> BTreeMap<&'static str, u64> {
    states
        .iter()
        .map(|(state, repos)| (state.word(), *repos))
        .collect()
}

/// Logs a judgment: the word, then why, then of what.
pub fn log_judgment(judgment: &Judgment) {
    let Judgment {
        verdict,
        missing,
        scope,
        outside,
    } = judgment;
    observe::log!("verdict: {}", verdict.word());
    for phrase in missing {
        observe::log!("  {phrase}");
    }
    if !scope.is_empty() {
        observe::log!("  left out by choice: {}", scope.join("; "));
    }
    for phrase in outside {
        observe::log!("  not covered: {phrase}");
    }
}

fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    rows::datetime::print(millis)
}

#[cfg(test)]
mod tests {
    use super::Place;
    use serde_json::json;

    #[test]
    fn a_place_is_claimed_before_the_work_and_filled_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Place::claim(&dir.path().join("missing/c.json")).is_err());
        assert!(Place::claim(dir.path()).is_err());
        let path = dir.path().join("c.json");
        std::fs::write(&path, "an older one").unwrap();
        drop(Place::claim(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older one");
        Place::claim(&path)
            .unwrap()
            .write(&json!({"a": 1}))
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n  \"a\": 1\n}\n"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
