//! Counts the work of parsing and writing, for tests that bound it by the size of the input. A unit is about a byte
//! that was looked at, hashed or written. Without the feature `work`, which only those tests turn on, nothing is
//! counted and nothing of this is left in the program.

#[cfg(feature = "work")]
thread_local! {
    static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts `units`.
#[inline]
pub fn add(units: usize) {
    #[cfg(feature = "work")]
    DONE.set(
        DONE.get()
            .saturating_add(u64::try_from(units).unwrap_or(u64::MAX)),
    );
    #[cfg(not(feature = "work"))]
    let _ = units;
}

/// What this thread has counted since it began.
#[cfg(feature = "work")]
#[must_use]
pub fn done() -> u64 {
    DONE.get()
}
