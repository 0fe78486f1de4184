//! Reads the list of skipped records in the order of keys, with one piece of each part in memory at
//! a time.

use ledger::skipped::{self, Reason, Skipped};
use postgres::{Client, Error};
use std::collections::VecDeque;

/// The list of one repo.
pub(crate) struct List {
    did: String,
    parts: Vec<Part>,
}

/// The part of it that one socket brought.
struct Part {
    part: i16,
    /// Number of the next piece to read.
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
    pub(crate) fn open(client: &mut Client, schema: &str, did: &str) -> Result<Self, ListError> {
        let parts = skipped::parts(client, schema, did)?;
        Ok(Self {
            did: did.to_owned(),
            parts: parts
                .into_iter()
                .map(|part| Part {
                    part,
                    number: 0,
                    entries: VecDeque::new(),
                })
                .collect(),
        })
    }

    /// The next entry with a key up to `bound`; without a bound, the next entry.
    pub(crate) fn next(
        &mut self,
        client: &mut Client,
        schema: &str,
        bound: Option<&[u8]>,
    ) -> Result<Option<Skipped>, ListError> {
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
        let first = self
            .parts
            .iter_mut()
            .filter(|part| !part.entries.is_empty())
            .min_by(|a, b| {
                let key = |part: &Part| part.entries.front().map(|entry| entry.key.clone());
                key(a).cmp(&key(b))
            });
        let Some(part) = first else { return Ok(None) };
        let fits = part
            .entries
            .front()
            .is_some_and(|entry| bound.is_none_or(|bound| entry.key.as_slice() <= bound));
        Ok(if fits { part.entries.pop_front() } else { None })
    }
}

/// Whether the record of an entry is in `record` as well.
pub(crate) fn is_stored(entry: &Skipped) -> bool {
    entry.reason == Reason::Irreversible
}
