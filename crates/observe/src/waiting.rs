//! What is waited for, by name, with the trouble that it makes: shown with the progress, so that a
//! wait does not look like a hang.

use crate::snapshot::Awaited;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named one by one up to here.
const NAMED: usize = 3;

/// Names that are waited for.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is waited for.
    pub fn begin(&self, name: &str) {
        self.lock().insert(name.to_owned(), None);
    }

    /// It answers.
    pub fn answers(&self, name: &str) {
        if let Some(trouble) = self.lock().get_mut(name) {
            *trouble = None;
        }
    }

    /// It makes trouble, and is retried.
    pub fn fails(&self, name: &str, why: &(impl ToString + ?Sized)) {
        if let Some(trouble) = self.lock().get_mut(name) {
            *trouble = Some(why.to_string());
        }
    }

    /// It is not waited for any more.
    pub fn end(&self, name: &str) {
        self.lock().remove(name);
    }

    /// How much is waited for, and the first few of it; what makes trouble comes first.
    pub(crate) fn awaited(&self) -> (usize, Vec<Awaited>) {
        let waiting = self.lock();
        let troubled = waiting.iter().filter(|(_, trouble)| trouble.is_some());
        let fine = waiting.iter().filter(|(_, trouble)| trouble.is_none());
        let named = troubled.chain(fine).take(NAMED);
        let named = named.map(|(name, trouble)| Awaited {
            name: name.clone(),
            trouble: trouble.clone(),
        });
        (waiting.len(), named.collect())
    }
}

impl Awaited {
    /// `a.example (timed out)`.
    pub(crate) fn text(&self) -> String {
        match &self.trouble {
            Some(why) => format!("{} ({why})", self.name),
            None => self.name.clone(),
        }
    }
}

/// `5: a.example (timed out), b.example, c.example, ...`.
pub(crate) fn listed(count: usize, named: &[Awaited]) -> String {
    let texts: Vec<String> = named.iter().map(Awaited::text).collect();
    let more = if count > named.len() { ", ..." } else { "" };
    format!("{count}: {}{more}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_make_trouble_are_named_first() {
        let waiting = Waiting::default();
        let text = |waiting: &Waiting| {
            let (count, named) = waiting.awaited();
            listed(count, &named)
        };
        for name in ["a", "b", "c", "d"] {
            waiting.begin(name);
        }
        waiting.fails("d", "timed out");
        assert_eq!(text(&waiting), "4: d (timed out), a, b, ...");
        waiting.answers("d");
        waiting.end("a");
        assert_eq!(text(&waiting), "3: b, c, d");
    }
}
