//! A network to practise on: repos made from a seed, with the mix and the sizes of real ones, and a PDS on loopback that
//! serves them, well or badly.
//!
//! Commits carry 64 zero bytes for a signature: nothing verifies signatures yet. PLC, relay and handles have their
//! place here.

mod lines;
mod random;
mod records;
mod repo;
mod server;

pub use lines::append_lines;
pub use random::Random;
pub use records::{Mix, Population};
pub use repo::{build_car, build_commit, build_repo};
pub use server::{Answer, Server};
