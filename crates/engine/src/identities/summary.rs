//! The counts of account look-ups.

use ledger::identity::{DocumentState, HandleState};
use observe::Counter;
use observe::units::{count, counted};
use serde_json::{Value, json};

/// What people are told when something could not be reached.
pub const RETRIED_LATER: &str =
    "a later run retries what could not be reached; --retry retries it now";

/// How a look-up of accounts ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Accounts that were looked up.
    pub looked_up: u64,
    /// Handles that lead to their accounts.
    pub verified: u64,
    /// Handles that are stored as their documents claim them.
    pub claimed: u64,
    /// Handles that lead elsewhere or nowhere, and accounts without one.
    pub mismatch: u64,
    /// Accounts without a usable document.
    pub without_document: u64,
    /// Accounts whose document or handle could not be reached.
    pub unreachable: u64,
    /// All accounts of the ledger: by the state of the document and that of the handle, how many.
    pub accounts: Vec<(DocumentState, HandleState, u64)>,
}

impl Summary {
    /// The summary as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let accounts = self.accounts.iter().map(|(document, handle, accounts)| {
            json!({"document": document.word(), "handle": handle.word(), "accounts": accounts})
        });
        json!({
            "lookedUp": self.looked_up,
            "verified": self.verified,
            "claimed": self.claimed,
            "mismatch": self.mismatch,
            "withoutDocument": self.without_document,
            "unreachable": self.unreachable,
            "accounts": accounts.collect::<Vec<_>>(),
        })
    }
}

/// Counts for the progress.
#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) done: Counter,
    verified: Counter,
    claimed: Counter,
    mismatch: Counter,
    useless: Counter,
    unreachable: Counter,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            done: Counter::rated("accounts_done", "accounts"),
            verified: Counter::counted("handles_verified", "verified"),
            claimed: Counter::counted("handles_claimed", "claimed"),
            mismatch: Counter::counted("handles_mismatched", "not confirmed"),
            useless: Counter::counted("accounts_without_document", "without a usable document"),
            unreachable: Counter::counted("accounts_unreachable", "not reached"),
        }
    }

    pub(crate) fn shown(&self) -> Vec<Counter> {
        let Self {
            done,
            verified,
            claimed,
            mismatch,
            useless,
            unreachable,
        } = self.clone();
        vec![done, verified, claimed, mismatch, useless, unreachable]
    }

    /// Counts an account by the state of its handle.
    pub(crate) fn add(&self, state: HandleState) {
        let counter = match state {
            HandleState::Verified => &self.verified,
            HandleState::Claimed => &self.claimed,
            HandleState::Mismatch => &self.mismatch,
            HandleState::Unreachable => &self.unreachable,
            HandleState::NoDocument | HandleState::Unknown => &self.useless,
        };
        counter.add(1);
    }

    /// The counts so far, beside all `accounts` of the ledger.
    pub(crate) fn summary(&self, accounts: Vec<(DocumentState, HandleState, u64)>) -> Summary {
        let summary = Summary {
            looked_up: self.done.get(),
            verified: self.verified.get(),
            claimed: self.claimed.get(),
            mismatch: self.mismatch.get(),
            without_document: self.useless.get(),
            unreachable: self.unreachable.get(),
            accounts,
        };
        observe::log!(
            "{} looked up: {} verified, {} stored as claimed, {} not confirmed, {} without a usable document, \
             {} not reached",
            counted(summary.looked_up, "account"),
            counted(summary.verified, "handle"),
            count(summary.claimed),
            count(summary.mismatch),
            counted(summary.without_document, "account"),
            count(summary.unreachable)
        );
        summary
    }
}
