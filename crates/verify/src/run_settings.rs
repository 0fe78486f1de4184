//! Settings of the runs that filled the tables: what follows from them, and not from records.

use ledger::runs::{self, Mode};
use load::Notifications;
use postgres::{Client, Error};
use rows::datetime;
use std::collections::HashMap;

/// Settings of the runs that filled the tables.
pub(crate) struct Runs {
    /// Whether the first of them found the tables empty: then all times are skyfill's.
    pub(crate) alone: bool,
    nows: Vec<String>,
    /// The time of the first event that was followed.
    followed_since: Option<String>,
    notifications: HashMap<i64, Notifications>,
    /// Those of a run that is not known.
    all: Notifications,
}

impl Runs {
    pub(crate) fn read(client: &mut Client, schema: &str) -> Result<Self, Error> {
        let all = runs::all(client, schema)?;
        Ok(Self {
            alone: all.first().is_some_and(|run| run.mode == Mode::Fresh),
            nows: all.iter().map(|run| run.now.clone()).collect(),
            followed_since: ledger::follow::first_event(client, schema)?,
            notifications: all
                .iter()
                .map(|run| {
                    let parsed = Notifications::parse(&run.notifications);
                    (run.id, parsed.unwrap_or_default())
                })
                .collect(),
            all: Notifications::All,
        })
    }

    /// Whether `indexedAt` follows from the record, or is the time of a run or of an event.
    pub(crate) fn is_time(&self, created_at: Option<&str>, rkey: &str, stored: &str) -> bool {
        if !self.alone {
            return true;
        }
        let of_record = datetime::indexed_at(created_at, rkey, i64::MAX);
        if of_record != i64::MAX && datetime::print(of_record) == stored {
            return true;
        }
        if self.nows.iter().any(|now| now == stored) {
            return true;
        }
        let since = self.followed_since.as_deref();
        let is_printed = || datetime::normalize(stored).is_some_and(|text| text == stored);
        since.is_some_and(|since| since <= stored && is_printed())
    }

    pub(crate) fn notifications_of(&self, run: Option<i64>) -> &Notifications {
        run.and_then(|run| self.notifications.get(&run))
            .unwrap_or(&self.all)
    }
}
