//! What every command works with: its database, the stop flag, guarded threads, the clock, and how
//! work fails. Nothing here knows arguments or exit codes; those are the binary's.

mod budget;
pub mod checks;
pub mod clock;
pub mod database;
mod failure;
pub mod stop;
pub mod threads;

pub use budget::{Budget, NotReserved, Reservation};
pub use database::{Database, Patient, Target};
pub use failure::{Ended, Failure, Kind};
pub use stop::Stop;
