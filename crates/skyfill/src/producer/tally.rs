//! What became of each line of the DID file: counts for the progress, the summary, and the file of
//! failures.

use crate::cli::ProducerArgs;
use crate::producer::parcel::Checked;
use crate::told;
use discover::did_file::{BadLine, DidLine, failure_line};
use observe::Counter;
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
            done: Counter::with_rate("repos done"),
            sent: Counter::plain("sent"),
            records: Counter::with_rate("records"),
            bytes: Counter::with_rate("bytes"),
            skipped: Counter::plain("skipped"),
            failed: Counter::plain("failed"),
            retried: Counter::plain("retries"),
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
    pub(crate) fn written(&self, checked: &Checked, sockets: usize) {
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
    pub(crate) fn not_sent(&self, checked: &Checked) {
        if !checked.failed.swap(true, Ordering::AcqRel) {
            self.failed(
                &checked.line,
                "not handed over",
                "not handed over: the consumer was away",
            );
        }
    }

    /// The consumer will never store the repo, or never said that it did.
    pub(crate) fn refused(&self, checked: &Checked, why: &str) {
        if !checked.failed.swap(true, Ordering::AcqRel) {
            checked.release();
            self.failed(&checked.line, "not stored", &format!("not stored: {why}"));
        }
    }

    /// Prints it all. `next` is the first line that was not taken, if it was stopped before the
    /// end.
    pub(crate) fn summary(
        &self,
        args: &ProducerArgs,
        elapsed: Duration,
        losses: u32,
        acknowledged: bool,
        next: Option<u64>,
    ) {
        let reasons = self.reasons();
        if args.output.json {
            let summary = serde_json::json!({
                "sent": self.sent.get(),
                "skipped": reasons.skipped,
                "failed": reasons.failed,
                "records": self.records.get(),
                "unusableRecords": reasons.unusable_records,
                "bytes": self.bytes.get(),
                "retries": self.retried.get(),
                "consumerLosses": losses,
                "acknowledged": acknowledged,
                "nextLine": next,
                "seconds": elapsed.as_secs_f64(),
            });
            observe::data!("{summary}");
        }
        let listed = |counts: &BTreeMap<&'static str, u64>| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            if parts.is_empty() {
                String::new()
            } else {
                format!(" ({})", parts.join(", "))
            }
        };
        observe::log!(
            "{} repos sent, {} skipped{}, {} failed{}; {} records, {} bytes, {:.1} s",
            self.sent.get(),
            self.skipped.get(),
            listed(&reasons.skipped),
            self.failed.get(),
            listed(&reasons.failed),
            self.records.get(),
            self.bytes.get(),
            elapsed.as_secs_f64()
        );
        if reasons.unusable_records > 0 {
            observe::log!(
                "{} entries of the repos are no records and were left out",
                reasons.unusable_records
            );
        }
        if let Some(error) = &reasons.failures.error {
            observe::log!(
                "the failures could not be listed in {}: {error}",
                reasons.failures.path.display()
            );
        } else if reasons.failures.file.is_some() {
            observe::log!(
                "failures were added to {}, which is a DID file",
                reasons.failures.path.display()
            );
        }
        if !acknowledged {
            observe::log!(
                "a consumer closed its side without saying that everything is committed (skyfill's own do): look whether \
                 it is all there, or run this again from the start, it changes nothing that is there"
            );
        }
        if losses > 0 {
            observe::log!(
                "a consumer went away {losses} times; what it had not committed is lost with it. The line form does not \
                 tell which repos those are: run this again from the start, it changes nothing that is there"
            );
        }
        if let Some(next) = next {
            told::done(&["starting_line"]);
            observe::log!(
                "stopped; go on with: {} --starting-line {next}",
                told::line_to_go_on_with()
            );
        }
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
