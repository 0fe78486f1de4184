//! A file for each command: arguments to options, the engine, its outcome to what is printed and to
//! an exit code.

pub(crate) mod catch_up;
pub(crate) mod consumer;
pub(crate) mod db;
pub(crate) mod discover;
pub(crate) mod finalize;
pub(crate) mod identities;
pub(crate) mod indexes;
mod judged;
pub(crate) mod migrate;
pub(crate) mod practice;
pub(crate) mod producer;
pub(crate) mod reference;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod unpack;
pub(crate) mod verify;
mod watch;

use crate::told;
use process::Ended;

/// Ends a command that was told to stop, with the line that goes on.
fn stopped() -> Ended {
    observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
    Ended::Stopped
}
