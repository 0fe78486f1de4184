//! How commands end: an exit code that means something, and for errors a line that names the thing and one that
//! names the next step.

use crate::signals;
use std::fmt;
use std::process::ExitCode;

/// How a command ended that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All of it.
    Well,
    /// To the end, but some of its input was refused or failed; it said what.
    WithFailures,
    /// It was told to stop before the end.
    Stopped,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// Something in the surroundings: database, files, sockets.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: SURROUNDINGS,
        }
    }

    /// Something in the arguments or the environment.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: USAGE,
        }
    }

    /// It was told to stop while it waited for something.
    pub(crate) fn stopped(mut self) -> Self {
        self.code = STOPPED;
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Exit codes, as the README lists them.
pub(crate) const WITH_FAILURES: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const SURROUNDINGS: u8 = 3;
pub(crate) const STOPPED: u8 = 4;
/// As shells have it for SIGINT.
pub(crate) const AT_ONCE: i32 = 130;

/// Prints a failure and picks the code.
pub(crate) fn report(outcome: Result<Ended, Failure>) -> ExitCode {
    match outcome.and_then(all_was_printed) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailures) => ExitCode::from(WITH_FAILURES),
        Ok(Ended::Stopped) => ExitCode::from(STOPPED),
        // What was canceled to end in time has not failed.
        Err(failure) if failure.code != USAGE && signals::is_hurried() => {
            observe::log!("stopped: {}", failure.message);
            ExitCode::from(STOPPED)
        }
        Err(failure) => {
            observe::log!("error: {}", failure.message);
            if let Some(hint) = failure.hint {
                observe::log!("hint: {hint}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// A command whose data did not reach stdout has not done what it was asked for, but for what it stored.
fn all_was_printed(ended: Ended) -> Result<Ended, Failure> {
    match observe::output::lost_data() {
        Some(error) => Err(Failure::new(format!(
            "stdout: {error}; what was to be printed there is incomplete"
        ))
        .hint("what was stored in the database stays; run it again with room for its output")),
        None => Ok(ended),
    }
}
