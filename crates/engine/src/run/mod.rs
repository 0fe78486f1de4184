//! Runs: the whole way in one process.
//!
//! The ledger in the database says what is to be done ([`feeder`]) and how far the run has come
//! ([`phases`]). Between are stages over bounded channels ([`stages`]): tasks fetch ([`fetching`]),
//! threads check and encode ([`encoding`]), threads load (`load::loading`). What waits between them
//! counts against the memory of the run ([`memory`]).
//!
//! [`run()`] adds what is to be loaded and loads it; [`load_pending`] loads what is pending, and is
//! what catching up repeats.

mod beginning;
mod board;
mod choice;
mod encoding;
mod feeder;
mod fetching;
mod memory;
mod new_run;
mod options;
mod pending;
pub(crate) mod phases;
mod server_watch;
mod session;
mod stages;
mod stragglers;
mod wanted;
mod whole;

pub use choice::Requested;
pub use new_run::NewRun;
pub use options::{LoadOptions, Options, Repos};
pub(crate) use pending::load_pending;
pub use pending::{Counts, Done};
pub use phases::Outcome;
pub use session::Session;
pub use whole::{Ended, run};
