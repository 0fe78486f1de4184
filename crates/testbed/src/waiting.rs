//! Waiting for what sends no event.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. What has not happened after minutes never will,
/// however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How often a test looks at what has no event to wait for, at first.
pub(crate) const LOOK: Duration = Duration::from_millis(5);
/// How often it does after a second: to look may take a connection or a process.
const LOOK_AT_LEAST: Duration = Duration::from_millis(100);

/// Waits until something has happened that sends no event: a file that appears, rows in a table.
pub fn wait_until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_happened() {
        let waited = since.elapsed();
        assert!(waited < PATIENCE, "{what} never happened");
        std::thread::sleep((waited / 10).clamp(LOOK, LOOK_AT_LEAST));
    }
}
