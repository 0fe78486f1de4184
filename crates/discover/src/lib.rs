//! Finds out which DIDs are on which host.
//!
//! [`did_file`] reads the DID files that producers accept, [`did_cache`] the DID caches that they
//! are made from, [`lists`] the pages of hosts and relays, and [`events`] the position of a relay's
//! stream. Nothing here sends a request.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod did_cache;
pub mod did_file;
pub mod events;
pub mod lists;
mod page;
pub mod walk;
