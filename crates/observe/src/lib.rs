//! What people and programs see while work goes on: reports ([`logging`]), a progress bar with an
//! estimate on a terminal, plain rate lines on a pipe, the state of each worker on request; and the
//! one way to print. Nothing here decides anything.

pub mod logging;
pub mod output;
mod panics;
mod printable;
mod progress;
mod screen;
mod waiting;
mod workers;

pub use printable::printable;
pub use progress::{Counter, Progress};
/// For [`log!`].
#[doc(hidden)]
pub use tracing;
pub use waiting::Waiting;
pub use workers::{Worker, Workers};
