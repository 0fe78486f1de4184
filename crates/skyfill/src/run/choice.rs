//! Which collections and notifications a run takes.

use crate::cli::WhatArgs;
use crate::database::Database;
use crate::exit::Failure;
use ledger::runs::Run;
use load::Notifications;

/// What the arguments ask for.
pub(crate) struct Wanted {
    /// The collections; nothing means all.
    pub(crate) collections: Option<Vec<String>>,
    pub(crate) notifications: Notifications,
}

impl Wanted {
    pub(crate) fn of(what: &WhatArgs) -> Self {
        Self {
            collections: (!what.collections.is_empty())
                .then(|| what.collections.iter().map(|c| c.nsid().to_owned()).collect()),
            notifications: what.notifications.clone(),
        }
    }

    /// Whether a run that is under way takes that; what is not asked for goes with everything.
    pub(crate) fn goes_with(&self, run: &Run) -> bool {
        (self.collections.is_none() || self.collections == run.collections)
            && (self.notifications == Notifications::All || self.notifications.text() == run.notifications)
    }

    /// Makes sure that a merge takes what was taken before: what is left out of a repo counts as gone from it, and a repo whose rev is loaded is
    /// not looked at again.
    pub(crate) fn require_same(&self, last: Option<&Run>, database: &Database) -> Result<(), Failure> {
        let (before, notifications) = last.map_or((None, "all"), |run| {
            (run.collections.as_ref(), run.notifications.as_str())
        });
        if self.collections.as_ref() == before && self.notifications.text() == notifications {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "schema {} of {} was loaded with collections {} and notifications {notifications}; a merge cannot take others",
            database.schema,
            database.shown(),
            before.map_or("all".to_owned(), |list| list.join(","))
        ))
        .hint("give the same --collections and --notifications, or begin anew: skyfill migrate --recreate-schema"))
    }
}
