//! How commands end: with an exit code, and for errors with a line that names the thing and a line
//! that names the next step.

use crate::command_line::command_line;
use process::{Ended, Failure, Kind, NextStep};
use std::process::ExitCode;

/// Exit codes, as the README lists them.
pub(crate) const WITH_FAILURES: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const ENVIRONMENT: u8 = 3;
pub(crate) const STOPPED: u8 = 4;
/// As shells have it for SIGINT.
pub(crate) const AT_ONCE: i32 = 130;

/// Prints a failure and picks the code.
pub(crate) fn report(outcome: Result<Ended, Failure>) -> ExitCode {
    observe::view::end();
    match outcome.and_then(all_was_printed) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailures) => ExitCode::from(WITH_FAILURES),
        Ok(Ended::Stopped) => ExitCode::from(STOPPED),
        Err(failure) if was_stopped(&failure) => {
            let (why, line) = (failure.message(), command_line().to_continue());
            observe::log!("stopped ({why}); continue with: {line}");
            ExitCode::from(STOPPED)
        }
        Err(failure) => {
            match failure.next_step().map(shown) {
                Some(hint) => tracing::error!(hint, "{}", failure.message()),
                None => tracing::error!("{}", failure.message()),
            }
            ExitCode::from(match failure.kind() {
                Kind::Usage => USAGE,
                Kind::Environment | Kind::Stopped => ENVIRONMENT,
            })
        }
    }
}

/// Whether a command failed only because it was told to stop: what was canceled to end in time has
/// not failed.
fn was_stopped(failure: &Failure) -> bool {
    match failure.kind() {
        Kind::Stopped => true,
        Kind::Environment => process::stop::is_hurried(),
        Kind::Usage => false,
    }
}

/// What to do next, with the line of the command that it names.
fn shown(next: &NextStep) -> String {
    match next {
        NextStep::Text(text) => text.clone(),
        NextStep::GoOn(text) => format!("{text} continue with: {}", command_line().to_continue()),
        NextStep::Run { text, command } => {
            format!("{text}: {}", command_line().of_command(command))
        }
    }
}

/// A command whose data did not reach stdout has not done what it was asked for, but for what it
/// stored.
fn all_was_printed(ended: Ended) -> Result<Ended, Failure> {
    match observe::output::lost_data() {
        Some(error) => Err(
            Failure::new(format!("stdout: {error}; the output is incomplete")).hint(
                "what was stored in the database stays; run it again with a place for its output",
            ),
        ),
        None => Ok(ended),
    }
}
