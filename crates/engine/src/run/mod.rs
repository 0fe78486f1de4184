//! Runs: the whole path in one process.
//!
//! The ledger in the database holds the pending work (`feeder`) and the phase that the run has
//! reached (`phases`). In between are stages that are connected by bounded channels (`stages`):
//! tasks fetch (`fetching`), threads check and encode (`encoding`), threads load (`load::loading`).
//! With a transport, threads check and send instead (`sending`). Everything that waits between them
//! counts against the memory of the run (`memory`).
//!
//! [`run()`] adds the named repos and loads them. `load_pending` loads pending repos; catching up
//! repeats it.

mod around;
mod beginning;
mod board;
mod choice;
mod encoding;
mod estimate;
mod feeder;
mod fetching;
mod held;
mod in_order;
mod leases;
mod left;
pub(crate) mod memory;
mod new_run;
mod options;
mod pending;
pub(crate) mod phases;
mod scale;
mod sending;
mod server_watch;
mod session;
pub(crate) mod stages;
mod stragglers;
mod walked;
mod wanted;
mod whole;
mod worker;

pub use choice::Requested;
pub(crate) use choice::{Selection, choice_of};
pub use estimate::handles;
pub(crate) use fetching::state_of;
pub use new_run::NewRun;
pub use options::{Around, LoadOptions, Options, Repos, Transport};
pub(crate) use pending::load_pending;
pub use pending::{Counts, Done};
pub use phases::RunOutcome;
pub(crate) use scale::LOOK_UPS_AT_ONCE;
pub(crate) use scale::free_connections;
pub use scale::{Scale, Wanted};
pub use session::Session;
pub(crate) use stages::indexed_columns;
pub use whole::{RunEnd, has_other_workers, run};
pub use worker::WorkerOptions;
