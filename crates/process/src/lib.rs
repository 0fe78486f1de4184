//! What every command works with: its database, its DID file, the stop flag, guarded threads,
//! shared memory budgets, the clock, and how work fails. Nothing here knows arguments or exit
//! codes; those are the binary's.

mod budget;
pub mod checks;
pub mod clock;
pub mod connections;
pub mod database;
mod did_file;
pub mod failpoint;
mod failure;
mod machine;
mod room;
pub mod shell;
pub mod signals;
mod size;
pub mod stop;
pub mod threads;

pub use budget::{Budget, NotReserved, Reservation};
pub use database::{Database, Patient, Target};
pub use did_file::DidFile;
pub use failure::{Ended, Failure, Kind, NextStep};
pub use machine::{Machine, host_name};
pub use room::{Room, Unseen, free_at};
pub use size::{disk_size, server_size, size};
pub use stop::Stop;
