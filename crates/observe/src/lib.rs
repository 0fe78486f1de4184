//! What people and programs see while work is running: reports (`logging`), a registry of what is
//! counted and of how far it has come (`registry`), views of it (`view`), the state of each
//! worker on request; and the one way to print. Nothing here decides anything.

mod limit_watch;
mod limits;
pub mod logging;
mod meters;
pub mod output;
mod panics;
mod printable;
mod progress;
pub mod registry;
mod screen;
mod snapshot;
pub mod units;
pub mod view;
mod waiting;
mod work;
mod workers;

pub use limit_watch::LimitWatch;
pub use limits::Limit;
pub use meters::{Counter, Lane, Unit};
pub use printable::printable;
pub use progress::{Parts, Progress};
pub use registry::registry;
/// For [`log!`].
#[doc(hidden)]
pub use tracing;
pub use units::bytes;
pub use waiting::Waiting;
pub use workers::{Worker, Workers};
