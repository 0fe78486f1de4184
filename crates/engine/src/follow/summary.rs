//! What following a stream came to.

use ledger::follow::Counted;
use observe::units::{self, count};
use serde_json::{Value, json};

/// What it came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The relay that was followed last.
    pub relay: String,
    /// The sequence number up to which everything is stored.
    pub cursor: i64,
    /// What was counted.
    pub counted: Counted,
    /// Repos that are behind.
    pub behind: u64,
    /// Whether it was stopped before it came to the present.
    pub is_stopped: bool,
}

impl Summary {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let counted = self.counted;
        json!({
            "relay": self.relay,
            "cursor": self.cursor,
            "events": counted.events,
            "commits": counted.commits,
            "repeated": counted.repeated,
            "refused": counted.refused,
            "fetched": counted.fetched,
            "fallbacks": counted.fallbacks,
            "behind": self.behind,
        })
    }

    /// For people, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let (relay, cursor, counted) = (&self.relay, self.cursor, self.counted);
        format!(
            "{}: {} stored, {} stored before, {} refused, {} fetched; all of {relay} up to {cursor} is stored, \
             but for {} still to be fetched",
            units::counted(counted.events, "event"),
            units::counted(counted.commits, "commit"),
            count(counted.repeated),
            units::counted(counted.refused, "event"),
            units::counted(counted.fetched, "repo"),
            units::counted(self.behind, "repo")
        )
    }
}
