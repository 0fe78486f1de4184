//! What is waited for, by name, with the trouble that it makes: shown at the end of each line of
//! progress, so that a wait does not look like a hang.

use std::collections::BTreeMap;
use std::fmt::Write;
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

    /// It makes trouble, and is tried again.
    pub fn fails(&self, name: &str, why: &(impl ToString + ?Sized)) {
        if let Some(trouble) = self.lock().get_mut(name) {
            *trouble = Some(why.to_string());
        }
    }

    /// It is not waited for any more.
    pub fn end(&self, name: &str) {
        self.lock().remove(name);
    }

    /// `; waiting for 5: a.example (timed out), b.example, c.example, ...`; those that make trouble
    /// first.
    pub(crate) fn text(&self) -> String {
        let waiting = self.lock();
        if waiting.is_empty() {
            return String::new();
        }
        let mut text = format!("; waiting for {}: ", waiting.len());
        let troubled = waiting.iter().filter(|(_, trouble)| trouble.is_some());
        let fine = waiting.iter().filter(|(_, trouble)| trouble.is_none());
        for (at, (name, trouble)) in troubled.chain(fine).take(NAMED).enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            // A text takes all that is written to it.
            let _ = write!(text, "{separator}{name}");
            if let Some(why) = trouble {
                let _ = write!(text, " ({why})");
            }
        }
        if waiting.len() > NAMED {
            text.push_str(", ...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;

    #[test]
    fn those_that_make_trouble_are_named_first() {
        let waiting = Waiting::default();
        assert_eq!(waiting.text(), "");
        for name in ["a", "b", "c", "d"] {
            waiting.begin(name);
        }
        waiting.fails("d", "timed out");
        assert_eq!(waiting.text(), "; waiting for 4: d (timed out), a, b, ...");
        waiting.answers("d");
        waiting.end("a");
        assert_eq!(waiting.text(), "; waiting for 3: b, c, d");
    }
}
