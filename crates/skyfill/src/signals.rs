//! Signals, with the exit codes of this command.

use crate::exit::{AT_ONCE, STOPPED};
use observe::Workers;
use process::signals::Codes;
use process::{Failure, Stop};

/// Listens for signals from now on.
pub(crate) fn listen(workers: Workers) -> Result<Stop, Failure> {
    let codes = Codes {
        stopped: STOPPED.into(),
        at_once: AT_ONCE,
    };
    process::signals::listen(workers, codes)
}
