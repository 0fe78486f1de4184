//! What a repair did, for people and as JSON.

use ledger::identity::HandleState;
use ledger::states::Inactive;
use load::Rewritten;
use observe::printable;
use observe::units::{count, counted};
use serde_json::{Value, json};

/// What is stored of an account now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The rev.
    pub rev: String,
    /// Records.
    pub records: u64,
    /// Records of the repo that no AppView stores.
    pub skipped: u64,
    /// What became of the records that were stored before.
    pub before: Rewritten,
}

impl Stored {
    /// Records that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.records.saturating_sub(self.before.kept)
    }
}

/// What became of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its newest repo is stored.
    Loaded(Stored),
    /// It is not active; its rows stay, and its state is stored.
    Inactive(Inactive),
    /// It is gone, and so are its rows.
    Removed,
    /// The operator's opt-out list names it.
    OptedOut,
    /// Nothing was changed, for this reason.
    Failed(String),
}

impl Fate {
    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loaded(_) => "loaded",
            Self::Inactive(state) => state.word(),
            Self::Removed => "removed",
            Self::OptedOut => "opted out",
            Self::Failed(_) => "failed",
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Loaded(stored) => format!(
                "rev {} is stored: {}, {} of them written now; replaced or deleted: {}",
                stored.rev,
                counted(stored.records, "record"),
                count(stored.written()),
                count(stored.before.replaced)
            ),
            Self::Inactive(state) => format!("{}; its rows stay", state.word()),
            Self::Removed => "gone; its rows are removed".to_owned(),
            Self::OptedOut => "left alone: the opt-out list names it".to_owned(),
            Self::Failed(why) => format!("failed: {}", printable(why)),
        }
    }

    /// Whether it was not done.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether the account has a row of `actor`.
    pub(crate) fn keeps_actor(&self) -> bool {
        matches!(self, Self::Loaded(_) | Self::Inactive(_))
    }
}

/// An account that was named, and what became of it.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// As it was named.
    pub given: String,
    /// Its DID; nothing if a handle led nowhere.
    pub did: Option<String>,
    /// What became of it.
    pub fate: Fate,
    /// How often its repo was fetched: more than once if a newer commit came meanwhile.
    pub fetched: u32,
    /// The handle that its document claims, and whether it leads back.
    pub handle: Option<(String, HandleState)>,
}

impl Repaired {
    pub(crate) fn failed(given: &str, did: Option<String>, why: String) -> Self {
        Self {
            given: given.to_owned(),
            did,
            fate: Fate::Failed(why),
            fetched: 0,
            handle: None,
        }
    }

    fn json(&self) -> Value {
        let stored = match &self.fate {
            Fate::Loaded(stored) => Some(json!({
                "rev": stored.rev, "records": stored.records, "skipped": stored.skipped,
                "kept": stored.before.kept, "written": stored.written(), "replaced": stored.before.replaced,
            })),
            _ => None,
        };
        let error = match &self.fate {
            Fate::Failed(why) => Some(why),
            _ => None,
        };
        json!({
            "account": self.given, "did": self.did, "result": self.fate.word(), "stored": stored,
            "handle": self.handle.as_ref().map(|(handle, _)| handle),
            "handleState": self.handle.as_ref().map(|(_, state)| state.word()),
            "fetched": self.fetched, "error": error,
        })
    }
}

/// What was done about derived rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// Those that depend on what changed are as they should be.
    Computed,
    /// They are still to be computed, for this reason.
    Left(&'static str),
}

/// What a repair did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The accounts.
    pub accounts: Vec<Repaired>,
    /// What was done about derived rows.
    pub derived: Derived,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Summary {
    /// Whether all accounts are as their hosts have them, with their derived rows.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let failed = self.accounts.iter().any(|one| one.fate.is_failed());
        !failed && !self.is_stopped && !matches!(self.derived, Derived::Left(_))
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let (word, why) = match self.derived {
            Derived::Computed => ("computed", None),
            Derived::Left(why) => ("left", Some(why)),
        };
        json!({
            "accounts": self.accounts.iter().map(Repaired::json).collect::<Vec<_>>(),
            "derivedRows": word, "derivedRowsError": why,
            "stopped": self.is_stopped, "seconds": self.seconds,
        })
    }

    /// A table of the accounts.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let heads = [
            "account", "result", "rev", "records", "kept", "written", "replaced", "handle",
        ];
        let mut cells = vec![heads.map(str::to_owned)];
        for one in &self.accounts {
            let account = one.did.as_ref().unwrap_or(&one.given);
            let handle =
                one.handle
                    .as_ref()
                    .map_or_else(String::new, |(handle, state)| match state {
                        HandleState::Verified => printable(handle).to_string(),
                        state => format!("{} ({})", printable(handle), state.word()),
                    });
            let stored = match &one.fate {
                Fate::Loaded(stored) => [
                    stored.rev.clone(),
                    stored.records.to_string(),
                    stored.before.kept.to_string(),
                    stored.written().to_string(),
                    stored.before.replaced.to_string(),
                ],
                _ => std::array::from_fn(|_| String::new()),
            };
            let [rev, records, kept, written, replaced] = stored;
            cells.push([
                printable(account).to_string(),
                one.fate.word().to_owned(),
                rev,
                records,
                kept,
                written,
                replaced,
                handle,
            ]);
        }
        let widths: [usize; 8] = std::array::from_fn(|column| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        });
        let line = |row: &[String; 8]| {
            let padded = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        cells.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_per_account_and_escapes_what_others_named() {
        let summary = Summary {
            accounts: vec![
                Repaired {
                    given: "a.test".to_owned(),
                    did: Some("did:plc:a".to_owned()),
                    fate: Fate::Loaded(Stored {
                        rev: "3l".to_owned(),
                        records: 12,
                        skipped: 1,
                        before: Rewritten {
                            kept: 9,
                            replaced: 2,
                        },
                    }),
                    fetched: 1,
                    handle: Some(("a.test".to_owned(), HandleState::Verified)),
                },
                Repaired::failed("b\u{1b}.test", None, "no".to_owned()),
            ],
            derived: Derived::Computed,
            is_stopped: false,
            seconds: 0.5,
        };
        let lines = summary.lines();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("did:plc:a"), "{}", lines[1]);
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(cells[2..], ["3l", "12", "9", "3", "2", "a.test"]);
        assert!(!lines[2].contains('\u{1b}'), "{}", lines[2]);
        assert!(!summary.is_done());
        let json = summary.json();
        assert_eq!(json["accounts"][0]["stored"]["written"], 3);
        assert_eq!(json["accounts"][1]["error"], "no");
    }
}
