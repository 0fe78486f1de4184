//! Looks up accounts: DID documents and handles.
//!
//! [`document`] parses DID documents as the official AppView does. [`resolve`] fetches them:
//! did:plc from a PLC directory, did:web from its host. [`export`] reads them in bulk from the
//! PLC's list of operations. [`handle`] resolves handles. Nothing here writes to the database.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod document;
mod domains;
pub mod export;
pub mod handle;
mod lenient;
pub mod resolve;
pub mod signature;
