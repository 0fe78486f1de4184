//! Repos from PDSes, and the small things about accounts that are asked for over HTTP.
//!
//! [`Client::get_repo`] makes one attempt at `com.atproto.sync.getRepo`, [`Client::get_small`] at
//! anything small, within limits of time, size and address, and each ends in bytes or in a
//! [`FetchError`]. What to do about an error is decided in [`retry`] alone; [`schedule`] says who
//! is asked next and when, [`turns`] is where tasks wait for that; [`hosts`] keeps back from single
//! servers that asked for it.

pub mod archive;
mod body;
mod encoding;
mod error;
mod get_repo;
mod get_small;
pub mod guard;
pub mod hosts;
mod opt_out;
mod options;
pub mod retry;
pub mod schedule;
mod spool;
mod subscribe;
pub mod turns;

pub use body::{Body, Pages};
pub use encoding::MAX_RATIO;
pub use error::{AccountState, FetchError};
pub use get_repo::{Client, Latest, Limits, Redirects};
pub use get_small::Small;
pub use opt_out::OptOut;
pub use options::Options;
pub use spool::{Spool, SpoolError};
pub use subscribe::Events;
