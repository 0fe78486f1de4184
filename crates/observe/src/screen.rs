//! Stderr: lines for people, above whatever stays at its end.

use indicatif::ProgressBar;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints lines, each with its end. What cannot be written is lost.
pub(crate) fn print(lines: &str) {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let write = || drop(io::stderr().write_all(lines.as_bytes()));
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// What stays at the end from now on.
pub(crate) fn keep(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}
