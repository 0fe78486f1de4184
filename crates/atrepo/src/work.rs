//! Counts the work of parsing and writing, for tests that bound it by the size of the input: a unit
//! is about a byte that was looked at, hashed or written. Only builds with debug assertions count,
//! which are those of tests and fuzzers; of a release nothing of this is left.

#[cfg(debug_assertions)]
thread_local! {
    static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// What the head of an item counts: reading one takes about as long as copying so many bytes of
/// text.
pub(crate) const HEAD: usize = 4;

/// Counts `units`.
#[inline]
pub fn add(units: usize) {
    #[cfg(debug_assertions)]
    DONE.set(
        DONE.get()
            .saturating_add(u64::try_from(units).unwrap_or(u64::MAX)),
    );
    #[cfg(not(debug_assertions))]
    let _ = units;
}

/// What this thread has counted since it began; nothing where nothing is counted.
#[must_use]
pub fn done() -> u64 {
    #[cfg(debug_assertions)]
    return DONE.get();
    #[cfg(not(debug_assertions))]
    return 0;
}
