//! Fetches repos from PDSes, and small documents about accounts, over HTTP.
//!
//! [`Client::get_repo`] makes one attempt at `com.atproto.sync.getRepo`, and [`Client::get_small`]
//! one at anything small, within limits of time, size and address. Each ends in bytes or in a
//! [`FetchError`]. [`retry`] alone decides what happens after an error. [`schedule`] decides which
//! host gets the next request and when, and tasks wait for that in [`turns`]. [`hosts`] keeps
//! requests back from single servers that asked for a pause.

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
pub mod whole;

pub use body::{Body, Pages};
pub use encoding::MAX_RATIO;
pub use error::{AccountState, FetchError};
pub use get_repo::{Client, Latest, Limits, Redirects};
pub use get_small::Small;
pub use opt_out::OptOut;
pub use options::Options;
pub use spool::{Spool, SpoolError};
pub use subscribe::Events;
