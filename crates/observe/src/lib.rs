//! What people see while work goes on: a progress bar with an estimate on a terminal, plain rate
//! lines on a pipe, the state of each worker on request; and the one way to print. Nothing here
//! decides anything.

pub mod output;
mod printable;
mod progress;
mod waiting;
mod workers;

pub use printable::printable;
pub use progress::{Counter, Progress};
pub use waiting::Waiting;
pub use workers::{Worker, Workers};
