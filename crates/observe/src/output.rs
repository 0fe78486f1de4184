//! The one way to print: lines for people on stderr, lines of data on stdout.
//!
//! Output that fails never ends the work. What cannot be written to stderr is lost. The first error
//! of stdout is kept, so that the command can say at its end that its data are incomplete
//! ([`lost_data`]); a reader that closed its pipe had enough.
//!
//! Lines for people are reports of level INFO (see [`crate::logging`]). They may quote what hosts,
//! documents, files and databases say. Whatever that is, it does not act on the terminal.

use crate::screen;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

static LOST: OnceLock<io::Error> = OnceLock::new();

/// Reports a line for people, of level INFO.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::tracing::info!("{}", format_args!($($arg)*)) };
}

/// Reports a step of the work, of level INFO. A live view shows it by itself: then it is for the
/// log file alone.
#[macro_export]
macro_rules! step {
    ($($arg:tt)*) => {
        $crate::tracing::info!(target: $crate::view::LINES, "{}", format_args!($($arg)*))
    };
}

/// Prints a line of data on stdout.
#[macro_export]
macro_rules! data {
    ($($arg:tt)*) => { $crate::output::data(format_args!($($arg)*)) };
}

/// [`data!`](crate::data!), as a function.
pub fn data(line: fmt::Arguments<'_>) {
    if LOST.get().is_some() {
        return;
    }
    let printed = screen::beside(|| {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    });
    if let Err(error) = printed {
        // Somebody else's error is as good.
        drop(LOST.set(error));
    }
}

/// Whether nothing reaches stdout any more, for whatever reason.
#[must_use]
pub fn is_lost() -> bool {
    LOST.get().is_some()
}

/// Why data did not reach stdout, if any did not and somebody is there who misses them.
#[must_use]
pub fn lost_data() -> Option<&'static io::Error> {
    LOST.get()
        .filter(|error| error.kind() != ErrorKind::BrokenPipe)
}
