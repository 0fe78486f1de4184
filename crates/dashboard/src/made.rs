//! Answers that were made just now: many viewers get the same one.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An answer made within this time is given to others, too.
const FRESH: Duration = Duration::from_millis(900);
/// Answers that are kept.
const MOST_KEPT: usize = 200;

/// Answers that were made just now, by path and query.
#[derive(Default)]
pub(crate) struct Made(Mutex<HashMap<String, (Instant, Bytes)>>);

impl Made {
    /// The answer of a name: the one that was made just now, else a new one.
    pub(crate) fn get(&self, name: &str, make: impl FnOnce() -> String) -> Bytes {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, answer)) = made.get(name)
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        if made.len() >= MOST_KEPT {
            made.clear();
        }
        let answer = Bytes::from(make());
        made.insert(name.to_owned(), (Instant::now(), answer.clone()));
        answer
    }
}
