//! Counts the work of parsing and writing, for tests that bound it by the size of the input. A unit
//! is about one byte that was read, hashed or written. Only builds with debug assertions count, as
//! those of tests and fuzzers do; in a release build this module does nothing.

#[cfg(debug_assertions)]
thread_local! {
    static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Units of the head of an item: reading one takes about as long as copying that many bytes of
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

/// The units that this thread has counted since it started; 0 in a release build.
#[must_use]
pub fn done() -> u64 {
    #[cfg(debug_assertions)]
    return DONE.get();
    #[cfg(not(debug_assertions))]
    return 0;
}
