//! Fetches repos from PDSes, and small documents about accounts, over HTTP.
//!
//! [`Client::get_repo`] makes one attempt at `com.atproto.sync.getRepo`, and [`Client::get_small`]
//! one at anything small, within limits of time, size and address. Each ends in bytes or in a
//! [`FetchError`]. [`retry`] alone decides what happens after an error. [`schedule`] decides which
//! host gets the next request and when, and tasks wait for that in [`turns`]. [`OneServer`] is the
//! same pace for a single server, such as a directory. [`hosts`] keeps requests back from single
//! servers that asked for a pause. [`stream`] follows the event streams of relays and PDSes.

mod body;
mod client;
mod encoding;
mod error;
mod get_repo;
mod get_small;
pub mod guard;
mod headers;
pub mod hosts;
mod latest_commit;
mod one_server;
mod opt_out;
mod options;
pub mod packed;
pub mod retry;
pub mod schedule;
mod spool;
pub mod stream;
mod subscribe;
pub mod turns;
pub mod whole;

pub use body::{Body, Incoming, Pages};
pub use client::{Client, Limits, Redirects};
pub use error::{AccountState, FetchError, MAX_RATIO};
pub use get_small::SmallRequest;
pub use latest_commit::Latest;
pub use one_server::{OneServer, ServerTurn};
pub use opt_out::OptOut;
pub use options::Options;
pub use spool::{Claim, Spool, SpoolError, SpoolFile};
pub use subscribe::Events;
