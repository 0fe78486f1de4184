//! Counts of what producers sent, in lines and parts alike.

use crate::lines::rejects::Rejects;
use crate::lines::writer::WriterReport;
use load::LoadedRepo;
use observe::Counter;
use observe::units::{count, counted, span};
use std::time::Duration;

/// What happened so far. Clones count together.
#[derive(Clone)]
pub(crate) struct Counts {
    lines: Counter,
    committed: Counter,
    bytes: Counter,
    not_indexed: Counter,
    rejected: Counter,
    repeated: Counter,
    duplicates: Counter,
    new_rows: Counter,
    accounts: Counter,
    parts: Counter,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            lines: Counter::rated("lines", "lines"),
            committed: Counter::rated("records_committed", "records committed"),
            bytes: Counter::bytes("bytes"),
            not_indexed: Counter::counted("records_not_indexed", "of other collections"),
            rejected: Counter::counted("lines_rejected", "rejected"),
            repeated: Counter::counted("records_repeated", "repeated"),
            duplicates: Counter::counted("duplicates", "duplicates"),
            new_rows: Counter::counted("rows_new", "new"),
            accounts: Counter::counted("accounts", "accounts"),
            parts: Counter::counted("parts", "parts of repos"),
        }
    }

    /// For the progress.
    pub(crate) fn shown(&self) -> Vec<Counter> {
        vec![
            self.lines.clone(),
            self.committed.clone(),
            self.bytes.clone(),
            self.not_indexed.clone(),
            self.duplicates.clone(),
            self.accounts.clone(),
            self.parts.clone(),
            self.rejected.clone(),
        ]
    }

    /// A line came.
    pub(crate) fn line(&self) {
        self.lines.add(1);
    }

    /// A line had so many bytes.
    pub(crate) fn line_bytes(&self, bytes: u64) {
        self.bytes.add(bytes);
    }

    /// A record is of a collection that no AppView indexes.
    pub(crate) fn not_indexed(&self) {
        self.not_indexed.add(1);
    }

    /// A record came twice in one batch.
    pub(crate) fn repeated_record(&self) {
        self.repeated.add(1);
    }

    /// A line was about an account.
    pub(crate) fn account(&self) {
        self.accounts.add(1);
    }

    /// A line was refused, when it came or later.
    pub(crate) fn rejected(&self) {
        self.rejected.add(1);
    }

    /// An entry of a part came.
    pub(crate) fn entry(&self, bytes: u64) {
        self.lines.add(1);
        self.bytes.add(bytes);
    }

    /// A part was there already.
    pub(crate) fn repeated(&self, entries: u64) {
        self.repeated.add(entries);
        self.parts.add(1);
    }

    /// A part is durable.
    pub(crate) fn part_stored(&self, repo: &LoadedRepo) {
        self.committed.add(repo.records);
        self.duplicates.add(repo.duplicates);
        self.not_indexed.add(repo.skipped);
        self.parts.add(1);
    }

    /// A writer stored records.
    pub(crate) fn stored(&self, report: &WriterReport) {
        self.committed.add(report.committed);
        self.duplicates.add(report.duplicates);
        self.new_rows.add(report.new_rows);
    }

    /// All of it, after `elapsed`.
    pub(crate) fn summary(&self, elapsed: Duration, rejects: &Rejects) -> Summary {
        Summary {
            lines: self.lines.get(),
            committed: self.committed.get(),
            new_rows: self.new_rows.get(),
            duplicates: self.duplicates.get(),
            repeated: self.repeated.get(),
            not_indexed: self.not_indexed.get(),
            accounts: self.accounts.get(),
            parts: self.parts.get(),
            rejected: rejects.count(),
            rejects: rejects.whereabouts(),
            bytes: self.bytes.get(),
            elapsed,
        }
    }
}

/// What a consumer did until it ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Lines, and entries of parts.
    pub lines: u64,
    /// Records whose transaction is committed.
    pub committed: u64,
    /// Rows of the collections' own tables that were new, of records that came as lines.
    pub new_rows: u64,
    /// Records that are another one's duplicate.
    pub duplicates: u64,
    /// Records that came again: in one batch, or in a part that is stored already.
    pub repeated: u64,
    /// Records of other collections, and skipped ones.
    pub not_indexed: u64,
    /// Lines about accounts.
    pub accounts: u64,
    /// Parts of repos.
    pub parts: u64,
    /// Refused lines.
    pub rejected: u64,
    /// Where the refused lines are, for people.
    pub rejects: String,
    /// Bytes of lines and of entries.
    pub bytes: u64,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Summary {
    /// The summary in lines for people.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        // Parts of repos are counted as parts.
        let new = match (self.new_rows, self.parts) {
            (0, 1..) => String::new(),
            (rows, _) => format!(", of which {} in lines added a new row", count(rows)),
        };
        let mut lines = vec![format!(
            "{} lines or entries: {} committed{new}; {}, \
             {} repeated in a batch, {} not indexed or skipped, {} about accounts, {} of repos, {} rejected; {}",
            count(self.lines),
            counted(self.committed, "record"),
            counted(self.duplicates, "duplicate"),
            count(self.repeated),
            count(self.not_indexed),
            count(self.accounts),
            counted(self.parts, "part"),
            count(self.rejected),
            span(self.elapsed.as_secs_f64()),
        )];
        if self.rejected > 0 {
            lines.push(format!("rejected lines: {}", self.rejects));
        }
        lines
    }

    /// The summary as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
        "lines": self.lines,
        "committed": self.committed,
        "newRows": self.new_rows,
        "duplicates": self.duplicates,
        "repeated": self.repeated,
        "notIndexed": self.not_indexed,
        "accounts": self.accounts,
        "parts": self.parts,
        "rejected": self.rejected,
        "bytes": self.bytes,
        "seconds": self.elapsed.as_secs_f64(),
            })
    }
}
