//! What people see while work goes on: a progress bar with an estimate on a terminal, plain rate lines on a pipe, the
//! state of each worker on request. Nothing here decides anything.

mod progress;
mod workers;

pub use progress::{Counter, Progress};
pub use workers::{Worker, Workers};
