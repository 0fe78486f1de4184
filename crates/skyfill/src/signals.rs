//! Signals, with the exit codes of this command.

use crate::command_line::command_line;
use crate::exit::{AT_ONCE, STOPPED};
use observe::Workers;
use process::signals::Codes;
use process::{Failure, Stop};

/// Listens for signals from now on.
pub(crate) fn listen(workers: Workers) -> Result<Stop, Failure> {
    let codes = Codes {
        stopped: STOPPED.into(),
        at_once: AT_ONCE,
        to_continue: || command_line().to_continue(),
    };
    process::signals::listen(workers, codes)
}
