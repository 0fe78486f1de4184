//! Which DIDs are on which host.
//!
//! [`did_file`] reads the DID files that producers take, [`did_cache`] the DID caches that they are
//! made from, [`lists`] the pages of hosts and relays, [`events`] how far a relay's stream has
//! come. Nothing here asks anybody.

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
