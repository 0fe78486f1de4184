//! One file per command: converts arguments to options, calls the engine, and converts its outcome
//! to output and an exit code.

pub(crate) mod audit;
pub(crate) mod catch_up;
pub(crate) mod compare;
pub(crate) mod consumer;
pub(crate) mod dashboard;
pub(crate) mod db;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod finalize;
pub(crate) mod identities;
pub(crate) mod indexes;
mod judged;
pub(crate) mod migrate;
pub(crate) mod packaged;
pub(crate) mod practice;
pub(crate) mod producer;
pub(crate) mod reference;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod unpack;
pub(crate) mod verify;
mod watch;

use crate::told;
use process::Ended;

/// Ends a command that was stopped, with the line that continues.
fn stopped() -> Ended {
    observe::log!("stopped; continue with: {}", told::line_to_go_on_with());
    Ended::Stopped
}
