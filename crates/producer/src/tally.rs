//! The result for each line of the DID file: counts for the progress, the summary, and the file of
//! failures.

use crate::checked::CheckedRepo;
use discover::did_file::{BadLine, DidLine, failure_line};
use observe::Counter;
use observe::units::{counted, span};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that are not of a DID file, named one by one up to here.
const NAMED_BAD_LINES: u64 = 20;

/// The counts.
pub(crate) struct Tally {
    done: Counter,
    sent: Counter,
    records: Counter,
    bytes: Counter,
    skipped: Counter,
    failed: Counter,
    retried: Counter,
    by_reason: Mutex<Reasons>,
}

#[derive(Default)]
struct Reasons {
    skipped: BTreeMap<&'static str, u64>,
    failed: BTreeMap<&'static str, u64>,
    bad_lines: u64,
    unusable_records: u64,
    failures: FailureFile,
    /// The first line whose repo did not go out because it was stopped.
    first_stopped: Option<u64>,
}

#[derive(Default)]
struct FailureFile {
    path: PathBuf,
    file: Option<File>,
    error: Option<String>,
}

impl Tally {
    /// Failures are added to the file `failures`, so that producers side by side can share one.
    pub(crate) fn new(failures: &Path) -> Self {
        let failures = FailureFile {
            path: failures.to_owned(),
            ..FailureFile::default()
        };
        Self {
            done: Counter::rated("repos_done", "repos done"),
            sent: Counter::counted("repos_sent", "sent"),
            records: Counter::rated("records", "records"),
            bytes: Counter::bytes("bytes"),
            skipped: Counter::counted("repos_skipped", "skipped"),
            failed: Counter::counted("repos_failed", "failed"),
            retried: Counter::counted("retries", "retries"),
            by_reason: Mutex::new(Reasons {
                failures,
                ..Reasons::default()
            }),
        }
    }

    /// For the progress; the first one is measured against the number of lines.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        [
            &self.done,
            &self.records,
            &self.bytes,
            &self.sent,
            &self.skipped,
            &self.failed,
            &self.retried,
        ]
        .into_iter()
        .cloned()
        .collect()
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.by_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_failures(&self) -> bool {
        self.failed.get() > 0
    }

    pub(crate) fn retried(&self) {
        self.retried.add(1);
    }

    /// The account has no repo to give, or its host is left out.
    pub(crate) fn skipped(&self, reason: &'static str) {
        self.done.add(1);
        self.skipped.add(1);
        *self.reasons().skipped.entry(reason).or_default() += 1;
    }

    /// There is a repo, but it was stopped before it went out. The line that continues begins with
    /// it, so that it is no failure to be given to another producer.
    pub(crate) fn stopped(&self, line: &DidLine, reason: &'static str) {
        self.done.add(1);
        self.failed.add(1);
        let mut reasons = self.reasons();
        *reasons.failed.entry(reason).or_default() += 1;
        let first = reasons.first_stopped.unwrap_or(line.number);
        reasons.first_stopped = Some(first.min(line.number));
    }

    /// There is a repo, but it did not come.
    pub(crate) fn failed(&self, line: &DidLine, reason: &'static str, why: &str) {
        self.done.add(1);
        self.failed.add(1);
        let mut reasons = self.reasons();
        *reasons.failed.entry(reason).or_default() += 1;
        reasons
            .failures
            .add(&failure_line(&line.did, &line.pds, why));
    }

    /// The line names no repo.
    pub(crate) fn bad_line(&self, bad: &BadLine) {
        self.done.add(1);
        self.failed.add(1);
        let mut reasons = self.reasons();
        *reasons.failed.entry("bad line").or_default() += 1;
        reasons.bad_lines += 1;
        if reasons.bad_lines <= NAMED_BAD_LINES {
            observe::log!("{bad}");
        }
    }

    /// One of `sockets` sockets has the repo.
    pub(crate) fn written(&self, checked: &CheckedRepo, sockets: usize) {
        if checked.written.fetch_add(1, Ordering::AcqRel) + 1 < sockets
            || checked.failed.load(Ordering::Acquire)
        {
            return;
        }
        checked.release();
        self.done.add(1);
        self.sent.add(1);
        self.records.add(checked.records.load(Ordering::Relaxed));
        self.bytes.add(checked.bytes());
        self.reasons().unusable_records += checked.unusable.load(Ordering::Relaxed);
    }

    /// Some socket will not have the repo: the wait for its consumer was given up.
    pub(crate) fn not_sent(&self, checked: &CheckedRepo) {
        if !checked.failed.swap(true, Ordering::AcqRel) {
            self.stopped(&checked.line, "not sent");
        }
    }

    /// The consumer will never store the repo, or never said that it did.
    pub(crate) fn refused(&self, checked: &CheckedRepo, why: &str) {
        if !checked.failed.swap(true, Ordering::AcqRel) {
            checked.release();
            self.failed(&checked.line, "not stored", &format!("not stored: {why}"));
        }
    }

    /// All of it. `unread` is the first line that was not reached, if it was stopped before the
    /// end.
    pub(crate) fn summary(
        &self,
        elapsed: Duration,
        losses: u32,
        acknowledged: bool,
        unread: Option<u64>,
    ) -> Summary {
        let reasons = self.reasons();
        let next = unread.into_iter().chain(reasons.first_stopped).min();
        let failures = &reasons.failures;
        let path = failures.path.display();
        let failures = match &failures.error {
            Some(error) => Some(format!(
                "the failures could not be written to {path}: {error}"
            )),
            None if failures.file.is_some() => Some(format!(
                "failures were appended to {path} with their reasons; a producer takes it as its DID file"
            )),
            None => None,
        };
        Summary {
            sent: self.sent.get(),
            skipped: reasons.skipped.clone(),
            failed: reasons.failed.clone(),
            records: self.records.get(),
            unusable_records: reasons.unusable_records,
            bytes: self.bytes.get(),
            retries: self.retried.get(),
            losses,
            acknowledged,
            next,
            failures,
            stream: None,
            elapsed,
        }
    }
}

/// The result for the lines.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Repos that every socket has.
    pub sent: u64,
    /// Repos that are not there to be sent, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Repos that failed, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Records that were sent.
    pub records: u64,
    /// Entries of repos that are no records.
    pub unusable_records: u64,
    /// Bytes of the CARs.
    pub bytes: u64,
    /// Attempts that were repeated.
    pub retries: u64,
    /// How often a consumer went away that does not acknowledge.
    pub losses: u32,
    /// Whether every consumer reported that everything is committed.
    pub acknowledged: bool,
    /// The first line that was not reached or whose repo did not go out, if it was stopped before
    /// the end.
    pub next: Option<u64>,
    /// Where the failures are, or why they are not there, for people; nothing if there are none.
    pub failures: Option<String>,
    /// The stream that has the repos, for people, if they went to one.
    pub stream: Option<String>,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Summary {
    /// The summary in lines for people.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} sent, {} skipped{}, {} failed{}; {}, {} bytes, {}",
            counted(self.sent, "repo"),
            self.skipped.values().sum::<u64>(),
            listed(&self.skipped),
            self.failed.values().sum::<u64>(),
            listed(&self.failed),
            counted(self.records, "record"),
            self.bytes,
            span(self.elapsed.as_secs_f64()),
        )];
        if self.unusable_records > 0 {
            lines.push(format!(
                "{} entries of the repos are not records and were left out",
                self.unusable_records
            ));
        }
        if let Some(stream) = &self.stream {
            lines.push(format!(
                "{stream} has what was sent; consumers store it from there, and a consumer with \
                 --until-empty ends when all of it is stored"
            ));
        }
        lines.extend(self.failures.clone());
        if !self.acknowledged && self.sent > 0 {
            lines.push(
                "a consumer did not confirm that everything is committed, as skyfill's own does: check whether \
                 everything is stored, or run this again from the start, which changes nothing that is stored"
                    .to_owned(),
            );
        }
        if self.losses > 0 {
            lines.push(format!(
                "a consumer disconnected {}; what it had not committed is lost. The line form does not \
                 show which repos those are: run this again from the start, which changes nothing that is stored",
                counted(self.losses.into(), "time")
            ));
        }
        lines
    }

    /// The summary as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
        "sent": self.sent,
        "skipped": self.skipped,
        "failed": self.failed,
        "records": self.records,
        "unusableRecords": self.unusable_records,
        "bytes": self.bytes,
        "retries": self.retries,
        "consumerLosses": self.losses,
        "acknowledged": self.acknowledged,
        "nextLine": self.next,
        "seconds": self.elapsed.as_secs_f64(),
            })
    }
}

/// Counts by reason, in brackets.
fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

impl FailureFile {
    fn add(&mut self, line: &str) {
        if self.error.is_some() {
            return;
        }
        let outcome = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .and_then(|mut file| {
                    file.write_all(line.as_bytes())?;
                    self.file = Some(file);
                    Ok(())
                }),
        };
        self.error = outcome.err().map(|error| error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_continues_with_the_first_repo_that_did_not_go_out() {
        let tally = Tally::new(Path::new("not-written.jsonl"));
        let line = |number| DidLine {
            number,
            did: "did:plc:a".to_owned(),
            pds: "https://pds.example".to_owned(),
        };
        let next = |unread| tally.summary(Duration::ZERO, 0, true, unread).next;
        assert_eq!(next(Some(9)), Some(9));
        tally.stopped(&line(7), "stopped");
        tally.stopped(&line(5), "not sent");
        tally.stopped(&line(6), "stopped");
        assert_eq!((next(Some(9)), next(None)), (Some(5), Some(5)));
        // It is no failure to be given to another producer.
        assert_eq!(tally.summary(Duration::ZERO, 0, true, None).failures, None);
    }
}
