//! The part of each repo that a run loads: collections, notifications, the time from which on.

use ledger::runs::{Mode, Run};
use load::{Choice, Notifications};
use process::{Database, Failure};
use rows::Collection;

/// What is asked for; where nothing is said, it is as before.
#[derive(Clone, Debug)]
pub struct Requested {
    /// In order.
    collections: Option<Vec<String>>,
    notifications: Option<String>,
    since: Option<String>,
}

/// The collections (nothing means all) and notifications of a run, and the time from which on it
/// takes posts, gates, likes and reposts (nothing means the beginning).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) collections: Option<Vec<String>>,
    pub(crate) notifications: String,
    pub(crate) since: Option<String>,
}

impl Selection {
    /// What a run has.
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            collections: run.collections.as_ref().map(|list| in_order(list)),
            notifications: run.notifications.clone(),
            since: run.since.clone(),
        }
    }

    pub(crate) fn everything() -> Self {
        Self {
            collections: None,
            notifications: Notifications::All.text(),
            since: None,
        }
    }

    fn described(&self) -> String {
        let collections = self
            .collections
            .as_ref()
            .map_or("all".to_owned(), |list| list.join(","));
        let since = self.since.as_deref().unwrap_or("the beginning");
        let notifications = &self.notifications;
        format!("collections {collections}, notifications {notifications}, records since {since}")
    }
}

/// The part of each repo that a run loads.
pub(crate) fn choice_of(run: &Run) -> Choice {
    Choice {
        collections: run.collections.as_ref().map(|list| {
            list.iter()
                .filter_map(|nsid| Collection::parse(nsid))
                .collect()
        }),
        notifications: Notifications::parse(&run.notifications).unwrap_or_default(),
        since: run.since.clone(),
    }
}

impl Requested {
    /// What is asked for; no collections mean those of the last run.
    #[must_use]
    pub fn new(
        collections: &[Collection],
        notifications: Option<&Notifications>,
        since: Option<&str>,
    ) -> Self {
        let collections: Vec<String> = collections.iter().map(|c| c.nsid().to_owned()).collect();
        Self {
            collections: (!collections.is_empty()).then(|| in_order(&collections)),
            notifications: notifications.map(Notifications::text),
            since: since.map(str::to_owned),
        }
    }

    /// Whether only a part of each repo is asked for.
    pub(crate) fn narrows(&self) -> bool {
        self.collections.is_some() || self.notifications.is_some() || self.since.is_some()
    }

    /// Whether notifications are stored, as far as is asked for.
    pub(crate) fn notifies(&self) -> bool {
        let none = Notifications::None.text();
        self.notifications.as_ref() != Some(&none)
    }

    /// What a new run has. A fresh one starts over; a merge keeps to what is there.
    pub(crate) fn selection(&self, mode: Mode, last: Option<&Run>) -> Selection {
        let before = match (mode, last) {
            (Mode::Merge, Some(last)) => Selection::of(last),
            (Mode::Fresh, _) | (Mode::Merge, None) => Selection::everything(),
        };
        Selection {
            collections: self.collections.clone().or(before.collections),
            notifications: self.notifications.clone().unwrap_or(before.notifications),
            since: self.since.clone().or(before.since),
        }
    }

    /// Makes sure that the run that is under way has that.
    pub(crate) fn require_of(&self, run: &Run) -> Result<(), Failure> {
        let selection = Selection::of(run);
        if self.is_within(&selection) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "run {} is not done, and loads {}",
            run.id,
            selection.described()
        ))
        .hint_to_run(
            "finish it first, without --collections, --notifications and --since",
            "run",
        ))
    }

    /// Makes sure that a merge has what was loaded before: what is left out of a repo counts as
    /// gone from it, and a repo whose rev is loaded is not looked at again.
    pub(crate) fn require_same(
        &self,
        last: Option<&Run>,
        database: &Database,
    ) -> Result<(), Failure> {
        let before = last.map_or_else(Selection::everything, Selection::of);
        if self.is_within(&before) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "schema {} of {} was loaded with {}; a merge cannot use others",
            database.schema,
            database.shown(),
            before.described()
        ))
        .hint_to_run(
            "leave out --collections, --notifications and --since to use the same, or start over",
            "migrate --recreate-schema",
        ))
    }

    fn is_within(&self, selection: &Selection) -> bool {
        let has_same = |wanted: &Vec<String>| selection.collections.as_ref() == Some(wanted);
        self.collections.as_ref().is_none_or(has_same)
            && self
                .notifications
                .as_ref()
                .is_none_or(|wanted| *wanted == selection.notifications)
            && (self.since.is_none() || self.since == selection.since)
    }
}

/// A list of collections whose order says nothing.
fn in_order(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.dedup();
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::runs::Phase;

    fn run_of(collections: Option<&[&str]>, notifications: &str) -> Run {
        Run {
            id: 1,
            now: "2025-01-01T00:00:00.000Z".to_owned(),
            mode: Mode::Merge,
            phase: Phase::Load,
            collections: collections.map(|list| list.iter().map(|&c| c.to_owned()).collect()),
            notifications: notifications.to_owned(),
            since: None,
        }
    }

    #[test]
    fn a_merge_keeps_to_what_was_loaded_and_a_fresh_load_begins_anew() {
        let last = run_of(Some(&["app.bsky.feed.post", "app.bsky.feed.like"]), "none");
        let nothing = Requested::new(&[], None, None);
        let of_last = Selection {
            collections: Some(vec![
                "app.bsky.feed.like".to_owned(),
                "app.bsky.feed.post".to_owned(),
            ]),
            notifications: "none".to_owned(),
            since: None,
        };
        assert_eq!(nothing.selection(Mode::Merge, Some(&last)), of_last);
        for (mode, last) in [(Mode::Merge, None), (Mode::Fresh, Some(&last))] {
            assert_eq!(nothing.selection(mode, last), Selection::everything());
        }
        let post = Collection::parse("app.bsky.feed.post").unwrap();
        let like = Collection::parse("app.bsky.feed.like").unwrap();
        // The order says nothing, what is missing does.
        assert!(
            Requested::new(&[post, like], None, None)
                .require_of(&last)
                .is_ok()
        );
        assert!(
            Requested::new(&[post], None, None)
                .require_of(&last)
                .is_err()
        );
        let all = Notifications::All;
        assert!(
            Requested::new(&[], Some(&all), None)
                .require_of(&last)
                .is_err()
        );
        assert!(
            Requested::new(&[post], None, None)
                .require_of(&run_of(None, "all"))
                .is_err()
        );
        let since = Requested::new(&[], None, Some("2025-01-01T00:00:00.000Z"));
        assert!(since.require_of(&last).is_err());
        let begun = Run {
            since: Some("2025-01-01T00:00:00.000Z".to_owned()),
            ..last
        };
        assert!(since.require_of(&begun).is_ok() && nothing.require_of(&begun).is_ok());
        assert_eq!(
            nothing.selection(Mode::Merge, Some(&begun)).since,
            begun.since
        );
    }
}
