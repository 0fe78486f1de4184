//! Which collections and notifications a run takes.

use crate::cli::WhatArgs;
use crate::told;
use ledger::runs::{Mode, Run};
use load::Notifications;
use process::Database;
use process::Failure;

/// What the arguments ask for; where they say nothing, it is as before.
pub(crate) struct Wanted {
    /// In order.
    collections: Option<Vec<String>>,
    notifications: Option<String>,
}

/// What a run takes: its collections (nothing means all) and notifications.
pub(crate) type Taken = (Option<Vec<String>>, String);

impl Wanted {
    pub(crate) fn of(what: &WhatArgs) -> Self {
        let collections: Vec<String> = what
            .collections
            .iter()
            .map(|c| c.nsid().to_owned())
            .collect();
        Self {
            collections: (!collections.is_empty()).then(|| in_order(&collections)),
            notifications: what.notifications.as_ref().map(Notifications::text),
        }
    }

    /// What a new run takes. A fresh one begins anew; a merge keeps to what is there.
    pub(crate) fn taken(&self, mode: Mode, last: Option<&Run>) -> Taken {
        let (before, notifications) = match mode {
            Mode::Fresh => everything(),
            Mode::Merge => last.map_or_else(everything, taken_by),
        };
        (
            self.collections.clone().or(before),
            self.notifications.clone().unwrap_or(notifications),
        )
    }

    /// Makes sure that the run that is under way takes that.
    pub(crate) fn require_of(&self, run: &Run) -> Result<(), Failure> {
        let taken = taken_by(run);
        if self.is_within(&taken) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "run {} is under way, and takes {}",
            run.id,
            described(&taken)
        ))
        .hint(format!(
            "end it first, without --collections and --notifications: {}",
            told::line_of("run")
        )))
    }

    /// Makes sure that a merge takes what was taken before: what is left out of a repo counts as
    /// gone from it, and a repo whose rev is loaded is not looked at again.
    pub(crate) fn require_same(
        &self,
        last: Option<&Run>,
        database: &Database,
    ) -> Result<(), Failure> {
        let before = last.map_or_else(everything, taken_by);
        if self.is_within(&before) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "schema {} of {} was loaded with {}; a merge cannot take others",
            database.schema,
            database.shown(),
            described(&before)
        ))
        .hint(format!(
            "leave --collections and --notifications away to take the same, or begin anew: {}",
            told::line_of("migrate --recreate-schema")
        )))
    }

    fn is_within(&self, (collections, notifications): &Taken) -> bool {
        let same_collections = self.collections.is_none() || self.collections == *collections;
        same_collections
            && self
                .notifications
                .as_ref()
                .is_none_or(|wanted| wanted == notifications)
    }
}

/// What a run takes.
pub(crate) fn taken_by(run: &Run) -> Taken {
    (
        run.collections.as_ref().map(|list| in_order(list)),
        run.notifications.clone(),
    )
}

fn everything() -> Taken {
    (None, Notifications::All.text())
}

/// A list of collections whose order says nothing.
fn in_order(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.dedup();
    list
}

fn described((collections, notifications): &Taken) -> String {
    let collections = collections
        .as_ref()
        .map_or("all".to_owned(), |list| list.join(","));
    format!("collections {collections} and notifications {notifications}")
}
