//! Panics are reported like all other errors, so that they reach the log file and do not tear what
//! the terminal shows.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// Reports panics of all threads from now on.
pub(crate) fn report() {
    std::panic::set_hook(Box::new(hook));
}

fn hook(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = info
        .location()
        .map_or_else(String::new, ToString::to_string);
    let text = info.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    tracing::error!(thread, "a thread panicked at {place}: {text}{backtrace}");
}
