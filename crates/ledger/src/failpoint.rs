//! Places at which tests end the process as `kill -9` would, to see that the next start goes on well.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static ARMED: OnceLock<(String, u64)> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Ends the process when it passes `name` for the `times`th time, counted from 1. Once a process.
pub fn arm(name: &str, times: u64) {
    // A second call has no effect.
    drop(ARMED.set((name.to_owned(), times)));
}

/// Passes a place.
pub fn pass(name: &str) {
    if let Some((armed, times)) = ARMED.get()
        && armed == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times
    {
        std::process::abort();
    }
}
