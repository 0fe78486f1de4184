//! The threads of a command: those on which it waits for the network, and those that must not be
//! lost without a word.

use crate::failure::Failure;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::runtime::{Builder, Runtime};

/// Starts those that wait for the network.
pub fn start() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("start threads: {error}")))
}

/// Does the work of a thread. If it panics, `broke_off` is told so, in words for people, and
/// nothing comes back.
///
/// What the thread held in memory is gone. Whoever calls this has to go by what is in the database,
/// not by what the thread left behind.
pub fn guarded<T>(
    what: &str,
    broke_off: impl FnOnce(String),
    work: impl FnOnce() -> T,
) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            broke_off(format!(
                "{what} failed, which is a defect of skyfill: {text}"
            ));
            None
        }
    }
}
