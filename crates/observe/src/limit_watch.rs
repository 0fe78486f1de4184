//! What limits the work of this process, for whoever asks every so often.

use crate::limits::{Judge, Limit};
use crate::registry::registry;
use std::time::Instant;

/// An asker: it compares with what was when it asked before.
#[derive(Debug, Default)]
pub struct LimitWatch(Judge);

impl LimitWatch {
    /// What limited since the last call; nothing where there is no pipeline, or at the first call.
    pub fn limit(&mut self) -> Option<Limit> {
        let (lanes, ends) = registry().lanes();
        self.0.limit(Instant::now(), &lanes, &ends)
    }
}
