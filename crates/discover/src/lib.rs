//! Which DIDs are on which host.
//!
//! [`did_file`] reads the DID files that producers take, [`did_cache`] the DID caches that they are made from. Relays,
//! `listRepos` and the PLC's export have their place here.

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
