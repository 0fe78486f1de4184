//! Reads the list of skipped records in the order of keys, with one piece of each part in memory at
//! a time, and a page of what changed since the repo was stored as a whole.

use ledger::skipped::{self, Beginning, BrokenList, Change, Reason, Skipped};
use postgres::{Error, GenericClient};
use std::collections::VecDeque;

/// Changes that are read together.
const CHANGES: i64 = 10_000;

/// The list of one repo.
#[derive(Default)]
pub(crate) struct List {
    did: String,
    parts: Vec<Part>,
    changes: Changes,
}

/// What changed since the list was written.
#[derive(Default)]
struct Changes {
    next: VecDeque<Change>,
    /// The last key that was read.
    after: Vec<u8>,
    is_read: bool,
}

/// The part of it that one socket brought.
struct Part {
    part: i16,
    /// Number of the next piece to read; negative, if there is none.
    number: i32,
    entries: VecDeque<Skipped>,
}

/// Why reading a list ended early.
pub(crate) enum ListError {
    Database(Error),
    Broken,
}

impl From<Error> for ListError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl List {
    /// A list that begins with these pieces, each of a part. Whether something changed since.
    pub(crate) fn of(
        did: &str,
        beginnings: &[Beginning],
        has_changes: bool,
    ) -> Result<Self, BrokenList> {
        let part = |beginning: &Beginning| {
            Ok(Part {
                part: beginning.part,
                number: if beginning.is_whole { -1 } else { 1 },
                entries: skipped::read_piece(&beginning.piece)?.into(),
            })
        };
        Ok(Self {
            did: did.to_owned(),
            parts: beginnings.iter().map(part).collect::<Result<_, _>>()?,
            changes: Changes {
                is_read: !has_changes,
                ..Changes::default()
            },
        })
    }

    /// The next entry with a key up to `bound`; without a bound, the next entry.
    pub(crate) fn next(
        &mut self,
        client: &mut impl GenericClient,
        schema: &str,
        bound: Option<&[u8]>,
    ) -> Result<Option<Skipped>, ListError> {
        loop {
            self.read(client, schema)?;
            let listed = self.first();
            let listed_key = listed.and_then(|at| self.parts[at].entries.front());
            let changed_key = self.changes.next.front().map(|change| &change.key);
            let is_change = match (listed_key, changed_key) {
                (Some(entry), Some(key)) => *key <= entry.key,
                (_, key) => key.is_some(),
            };
            let key = match is_change {
                true => changed_key,
                false => listed_key.map(|entry| &entry.key),
            };
            let Some(key) = key else { return Ok(None) };
            if bound.is_some_and(|bound| key.as_slice() > bound) {
                return Ok(None);
            }
            let is_same = listed_key.is_some_and(|entry| entry.key == *key);
            // A change stands in the place of what the list says.
            let entry = match listed {
                Some(at) if !is_change || is_same => self.parts[at].entries.pop_front(),
                _ => None,
            };
            let entry = match is_change {
                true => self
                    .changes
                    .next
                    .pop_front()
                    .and_then(|change| change.entry),
                false => entry,
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }

    /// The part that has the first key of the list.
    fn first(&self) -> Option<usize> {
        let parts = self.parts.iter().enumerate();
        parts
            .filter_map(|(at, part)| Some((&part.entries.front()?.key, at)))
            .min()
            .map(|(_, at)| at)
    }

    /// Reads on where nothing is left in memory.
    fn read(&mut self, client: &mut impl GenericClient, schema: &str) -> Result<(), ListError> {
        for part in &mut self.parts {
            while part.entries.is_empty() && part.number >= 0 {
                match skipped::piece(client, schema, &self.did, (part.part, part.number))? {
                    Some(piece) => {
                        let entries = skipped::read_piece(&piece).map_err(|_| ListError::Broken)?;
                        part.entries.extend(entries);
                        part.number = part.number.saturating_add(1);
                    }
                    None => part.number = -1,
                }
            }
        }
        let changes = &mut self.changes;
        if changes.next.is_empty() && !changes.is_read {
            let page = skipped::changes_after(client, schema, &self.did, &changes.after, CHANGES)?;
            match page.last() {
                Some(last) => changes.after.clone_from(&last.key),
                None => changes.is_read = true,
            }
            changes.next.extend(page);
        }
        Ok(())
    }
}

/// Whether the record of an entry is in `record` as well.
pub(crate) fn is_stored(entry: &Skipped) -> bool {
    entry.reason == Reason::Irreversible
}
