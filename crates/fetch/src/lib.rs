//! Repos from PDSes, and the small things about accounts that are asked for over HTTP.
//!
//! [`Client::get_repo`] makes one attempt at `com.atproto.sync.getRepo`, [`Client::get_small`] at anything small, within limits of time,
//! size and address, and each ends in bytes or in a [`FetchError`]. What to do about an error is decided in [`retry`] alone; [`hosts`] keeps
//! back from hosts that asked for it. The scheduler that paces whole networks has its place here.

pub mod archive;
mod body;
mod error;
mod get_repo;
mod get_small;
pub mod guard;
pub mod hosts;
pub mod retry;
pub mod schedule;

pub use body::Body;
pub use error::{AccountState, FetchError};
pub use get_repo::{Client, Limits};
pub use get_small::Small;
