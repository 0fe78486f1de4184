//! Failpoints: places at which tests kill the process as `kill -9` would, stop it as a signal
//! would, or make a thread panic, to check that the next start continues well.
//!
//! They exist only in builds with the feature `failpoints`, which tests, chaos and benchmarks use.
//! In any other build [`pass`] does nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static ARMED: OnceLock<(String, u64, fn())> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Whether this build has them.
pub const ARE_BUILT_IN: bool = cfg!(feature = "failpoints");

/// All places; `none` is nowhere.
pub const PLACES: &[&str] = &[
    "none",
    "begin",
    "begun",
    "claim",
    "claims",
    "commit",
    "committed",
    "compare",
    "encode",
    "event-batch",
    "file",
    "freeze",
    "look-up",
    "page",
    "part",
    "part-done",
    "phase",
    "published",
    "publishing",
    "rebuild",
    "remove",
    "sent",
    "slice",
];

/// Does `act` (ends the process, say) when it passes `name` for the `times`th time, counted from 1.
/// Once per process. False if there is no such place, or it is never passed for that time, or this
/// build has no failpoints.
pub fn arm(name: &str, times: u64, act: fn()) -> bool {
    if !ARE_BUILT_IN || !PLACES.contains(&name) || times == 0 {
        return false;
    }
    // A second call has no effect.
    drop(ARMED.set((name.to_owned(), times, act)));
    true
}

/// Passes a place.
#[inline]
pub fn pass(name: &str) {
    if ARE_BUILT_IN {
        pass_armed(name);
    }
}

fn pass_armed(name: &str) {
    debug_assert!(
        PLACES.contains(&name),
        "the failpoint {name} cannot be armed"
    );
    if let Some((armed, times, act)) = ARMED.get()
        && armed == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times
    {
        act();
    }
}
